//! What changes while requests are under way: pods, routes, Services, clients.
//!
//! The pods of `steady` leave as those of a rolling update do, so that
//! none of their requests may fail. The pods of `fragile` are killed.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use serde::Serialize;
use weft_tests::lab::{Client, Lab, Request};

use crate::world::{Place, Pods, service};

/// Between two changes of a kind.
const PAUSE: Duration = Duration::from_millis(700);
/// How long slices lag behind pods, what is under way may take, and clients stay.
const LAG: Duration = Duration::from_secs(1);
/// So many names are used in turn: series of metrics are kept for a while after their route has gone,
/// and ever new names would look like a leak.
const NAMES: u64 = 4;

/// What has been done so far, and when it is enough.
#[derive(Default)]
pub(crate) struct Churn {
    done: Mutex<Done>,
    over: Mutex<bool>,
    told: Condvar,
}

/// What has been done.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Done {
    /// How often each change was made.
    pub(crate) changes: BTreeMap<&'static str, u64>,
    /// When pods were killed, in seconds since 1970.
    pub(crate) kills: Vec<f64>,
    /// Requests to Services that had come a moment ago, and what went wrong with them.
    pub(crate) guests: u64,
    pub(crate) guest_failures: Vec<String>,
}

impl Churn {
    pub(crate) fn stop(&self) {
        *self.over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.told.notify_all();
    }

    /// What has been done so far.
    pub(crate) fn done(&self) -> Done {
        self.state().clone()
    }

    fn state(&self) -> MutexGuard<'_, Done> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, change: &'static str) {
        *self.state().changes.entry(change).or_default() += 1;
    }

    /// Waits; true when it is over. What has been begun is finished all the same.
    fn pause(&self, length: Duration) -> bool {
        let over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.told.wait_timeout_while(over, length, |over| !*over);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Pods come and go until it is over.
pub(crate) fn endpoints(lab: &Lab, pods: &mut Pods, churn: &Churn) -> Result<()> {
    for round in 0_usize.. {
        let steady = round % pods.steady.len();
        replace(lab, &mut pods.steady[steady], round, churn)?;
        if churn.pause(PAUSE) {
            break;
        }
        let fragile = round % pods.fragile.len();
        kill(lab, &mut pods.fragile[fragile], churn)?;
        if churn.pause(PAUSE) {
            break;
        }
        let unready = (round + 1) % pods.steady.len();
        lose_readiness(lab, &pods.steady[unready], churn)?;
        if churn.pause(PAUSE) {
            break;
        }
    }
    Ok(())
}

/// A pod leaves, and another one comes that gets its address.
fn replace(lab: &Lab, place: &mut Place, round: usize, churn: &Churn) -> Result<()> {
    // Not before the sidecar knows, and what was under way then has its time: however busy the machine
    // is, nothing here may fail.
    lab.settled(|lab| lab.remove_endpoint(&place.backend.name))?;
    churn.pause(LAG);
    place.backend.terminate()?;
    let name = format!("{}-{}-next-{round}", place.workload.app, place.workload.version);
    place.backend = lab.backend_in_place(&place.backend, &place.workload, &name)?;
    churn.count("pod replaced by another one at its address");
    Ok(())
}

/// A pod's process dies; its endpoint is still listed for a while. Then the kubelet starts it anew.
fn kill(lab: &Lab, place: &mut Place, churn: &Churn) -> Result<()> {
    churn.state().kills.push(now());
    place.backend.crash()?;
    churn.pause(LAG);
    let name = place.backend.name.clone();
    place.backend = lab.backend_in_place(&place.backend, &place.workload, &name)?;
    churn.count("pod killed and started anew");
    Ok(())
}

fn lose_readiness(lab: &Lab, place: &Place, churn: &Churn) -> Result<()> {
    lab.set_conditions(&place.backend.name, false, false)?;
    churn.pause(LAG);
    lab.set_conditions(&place.backend.name, true, false)?;
    churn.count("pod not ready for a while");
    Ok(())
}

/// Routes, Services and clients come and go until it is over.
pub(crate) fn routes(lab: &Lab, client: &Client, churn: &Churn) -> Result<()> {
    for round in 0.. {
        lab.apply(&split("HTTPRoute", 80, round))?;
        lab.apply(&split("GRPCRoute", 7070, round + 1))?;
        lab.apply(&split("TCPRoute", 7, round + 2))?;
        churn.count("weights of three routes edited");
        if churn.pause(PAUSE) {
            break;
        }
        let name = format!("extra-{}", round % NAMES);
        lab.apply(&extra(&name, round))?;
        churn.count("route added");
        if churn.pause(PAUSE) {
            break;
        }
        guest(lab, client, round, churn)?;
        lab.delete("HTTPRoute", "default", &name)?;
        churn.count("route deleted");
        if churn.pause(PAUSE) {
            break;
        }
        visitor(client, round, churn)?;
        if round % 2 == 1 {
            for kind in ["HTTPRoute", "GRPCRoute", "TCPRoute"] {
                lab.delete(kind, "default", &kind.to_lowercase())?;
            }
            churn.count("a Service's last routes deleted");
        }
        if churn.pause(PAUSE) {
            break;
        }
    }
    Ok(())
}

/// A Service comes, is asked, and goes.
fn guest(lab: &Lab, client: &Client, round: u64, churn: &Churn) -> Result<()> {
    let number = round % NAMES;
    let name = format!("guest-{number}");
    let yaml = service(&name, &format!("10.96.2.{number}"), "app: steady");
    lab.settled(|lab| lab.apply(&yaml))?;
    let seen = client.send(&Request::get(&format!("http://{name}/")).parallel(4), 20)?;
    let mut done = churn.state();
    done.guests += seen.len() as u64;
    let failed = seen.iter().filter(|one| one.status != 200);
    done.guest_failures.extend(failed.map(|one| format!("{name}: {}", one.label())));
    drop(done);
    lab.delete("Service", "default", &name)?;
    churn.count("Service added, asked and deleted");
    Ok(())
}

/// A client that opens connections and dies in the middle of its requests.
fn visitor(client: &Client, round: u64, churn: &Churn) -> Result<()> {
    let load = |protocol: &str, url: &str| {
        let words = ["load", "--protocol", protocol, "--rate", "50", "--connections", "8", url];
        client.start_program("weft-client", &words)
    };
    let visitor = match round % 4 {
        0 => load("http1", "http://steady/stream?chunks=1000&ms=10")?,
        1 => load("http2", "http://steady:8000/stream?chunks=1000&ms=10")?,
        2 => load("http2", "http://steady/delay?ms=60000")?,
        _ => {
            let url = "http://steady/bytes?n=1000000000";
            let words = ["-s", "--limit-rate", "1M", "-o", "/dev/null", url];
            client.start_program("curl", &words)?
        }
    };
    churn.pause(LAG);
    drop(visitor);
    churn.count("client killed within its requests");
    Ok(())
}

/// The route of a port of `steady`, by weight over both versions.
fn split(kind: &str, port: u16, round: u64) -> String {
    let (name, weight) = (kind.to_lowercase(), 10 + round % 9 * 10);
    let version = if kind == "TCPRoute" { "v1alpha2" } else { "v1" };
    format!(
        "apiVersion: gateway.networking.k8s.io/{version}\nkind: {kind}\nmetadata:\n  name: {name}\n  \
         namespace: default\nspec:\n  parentRefs:\n  - group: \"\"\n    kind: Service\n    name: steady\n    \
         port: {port}\n  rules:\n  - backendRefs:\n    - name: steady-v1\n      port: {port}\n      weight: \
         {weight}\n    - name: steady-v2\n      port: {port}\n      weight: {}\n",
        100 - weight
    )
}

/// A route for some requests of the first lane, with a filter of each sort; by turns a limit in time,
/// retries, a session. One of its rules is broken, as that of an editor's slip.
fn extra(name: &str, round: u64) -> String {
    let more = [
        "timeouts:\n      request: 20s\n      backendRequest: 10s",
        "retry:\n      codes: [503]\n      attempts: 2",
        "sessionPersistence:\n      sessionName: soak",
    ][(round % 3) as usize];
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata:\n  name: {name}\n  \
         namespace: default\nspec:\n  parentRefs:\n  - group: \"\"\n    kind: Service\n    name: steady\n    \
         port: 80\n  rules:\n  - matches:\n    - headers:\n      - name: x-extra\n        value: \"1\"\n    \
         filters:\n    - type: RequestHeaderModifier\n      requestHeaderModifier:\n        set:\n        \
         - name: x-round\n          value: \"{round}\"\n    - type: RequestMirror\n      requestMirror:\n        \
         backendRef:\n          name: steady-v2\n          port: 80\n    - type: ResponseHeaderModifier\n      \
         responseHeaderModifier:\n        add:\n        - name: x-by\n          value: {name}\n    {more}\n    \
         backendRefs:\n    - name: steady-v1\n      port: 80\n  - matches:\n    - path:\n        type: \
         RegularExpression\n        value: \"/broken(\"\n    backendRefs:\n    - name: steady-v1\n      port: 80\n"
    )
}

fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
