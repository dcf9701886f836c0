//! Where scenarios are played, and what the lab is to them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;

use crate::lab::{self, Backend, Client, Lab, Output, Request, Seen, Workload};

/// A cluster, real or not.
pub trait World {
    /// What the scenarios' namespace is called here; it exists afterwards.
    fn namespace(&self, name: &str) -> Result<String>;

    /// Starts workloads and waits until they listen. They run as long as the world stands.
    fn start(&self, workloads: &[Workload]) -> Result<()>;

    /// A client pod in a namespace, ready to send.
    fn client(&self, namespace: &str) -> Result<Arc<dyn Sender>>;

    /// Applies what stands there before anything happens: Services.
    fn set(&self, yaml: &str) -> Result<()>;

    /// Applies objects. It is in effect within [`World::patience`]; `Kind namespace/name` of each.
    fn apply(&self, yaml: &str) -> Result<Vec<String>>;

    /// Removes an object, in effect within [`World::patience`].
    fn delete(&self, kind: &str, namespace: &str, name: &str) -> Result<()>;

    /// How long a change may take to be seen after the call that made it.
    fn patience(&self) -> Duration;

    /// A route's conditions, of its newest generation, as `Accepted=True Accepted, …`; none where
    /// nobody writes them.
    fn status(&self, kind: &str, namespace: &str, name: &str) -> Result<Option<String>>;
}

/// A client pod.
pub trait Sender {
    /// Sends a request `count` times and tells every answer.
    fn send(&self, request: &Request, count: u32) -> Result<Vec<Seen>>;

    /// Sends a request again and again until the traffic is stopped.
    fn start_traffic(&self, request: &Request) -> Result<Box<dyn Traffic>>;

    /// Runs curl, quietly, as the application.
    fn curl(&self, arguments: &[&str]) -> Result<Output>;

    /// An answer of the sidecar's admin port.
    fn admin(&self, path: &str) -> Result<String>;
}

/// Requests that go on until they are stopped.
pub trait Traffic {
    /// Waits until so many more answers have come than now.
    fn wait_for(&self, more: usize) -> Result<()>;

    /// Stops and tells every answer.
    fn stop(self: Box<Self>) -> Result<Vec<Seen>>;
}

/// The lab: a change is in effect when the call returns, and nobody writes status.
pub struct LabWorld<'a> {
    lab: &'a Lab,
    backends: Mutex<Vec<Backend>>,
}

impl<'a> LabWorld<'a> {
    /// With nothing in it but what the lab has.
    pub fn new(lab: &'a Lab) -> LabWorld<'a> {
        LabWorld { lab, backends: Mutex::default() }
    }
}

impl World for LabWorld<'_> {
    fn namespace(&self, name: &str) -> Result<String> {
        Ok(name.to_owned())
    }

    fn start(&self, workloads: &[Workload]) -> Result<()> {
        let started = self.lab.backends(workloads)?;
        self.backends.lock().unwrap_or_else(PoisonError::into_inner).extend(started);
        Ok(())
    }

    fn client(&self, namespace: &str) -> Result<Arc<dyn Sender>> {
        Ok(self.lab.client(namespace)?)
    }

    fn set(&self, yaml: &str) -> Result<()> {
        self.lab.apply(yaml).map(|_| ())
    }

    fn apply(&self, yaml: &str) -> Result<Vec<String>> {
        self.lab.settled(|lab| lab.apply(yaml))
    }

    fn delete(&self, kind: &str, namespace: &str, name: &str) -> Result<()> {
        self.lab.settled(|lab| lab.delete(kind, namespace, name))
    }

    fn patience(&self) -> Duration {
        Duration::ZERO
    }

    fn status(&self, _: &str, _: &str, _: &str) -> Result<Option<String>> {
        Ok(None)
    }
}

impl Sender for Client {
    fn send(&self, request: &Request, count: u32) -> Result<Vec<Seen>> {
        Client::send(self, request, count)
    }

    fn start_traffic(&self, request: &Request) -> Result<Box<dyn Traffic>> {
        Ok(Box::new(Client::start_traffic(self, request)?))
    }

    fn curl(&self, arguments: &[&str]) -> Result<Output> {
        Client::curl(self, arguments)
    }

    fn admin(&self, path: &str) -> Result<String> {
        Client::admin(self, path)
    }
}

impl Traffic for lab::Traffic {
    fn wait_for(&self, more: usize) -> Result<()> {
        lab::Traffic::wait_for(self, more)
    }

    fn stop(self: Box<Self>) -> Result<Vec<Seen>> {
        lab::Traffic::stop(*self)
    }
}
