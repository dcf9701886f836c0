//! A small cluster without Kubernetes, made of network namespaces.
//!
//! ```text
//!   the lab's namespace                            a client pod's namespace
//!   br0  10.244.0.1/16  fd00:10:244::1/64  ──veth── eth0 10.244.2.N  fd00:10:244::2:N
//!     ├ backend pod 10.244.1.N (weft-echo)           weft-init: Service CIDRs → :15001
//!     └ backend pod …                                weft-proxy (uid 65101), curl (uid 1000)
//! ```
//!
//! The bridge has no uplink. Service addresses (10.96.0.0/16, fd00:10:96::/112) have a route but
//! nobody answers there: there is no kube-proxy, so what arrives has gone through the sidecar.
//! Everything ends with the [`Lab`], however it ends: see [`namespace`].

mod backend;
mod manifest;
pub mod metrics;
mod namespace;
mod pod;
mod process;
mod tools;
mod traffic;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};

pub use backend::{Backend, Workload};
use manifest::{Manifests, PodRecord};
use namespace::Namespace;
pub use namespace::{FOLDER, User};
pub use pod::{Client, ClientOptions};
pub use process::{Output, Process, poll, tail};
pub use traffic::{Request, Seen, Traffic, counts};

/// The ranges of Service addresses, as the cluster's ServiceCIDR objects would tell them.
pub const SERVICE_CIDRS: &str = "10.96.0.0/16,fd00:10:96::/112";

/// How long a process may take to start on a busy machine.
pub const START_LIMIT: Duration = Duration::from_secs(20);

/// How long a change of manifests may take to be in effect on a busy machine.
pub const SETTLE_LIMIT: Duration = Duration::from_secs(10);

/// The cluster. Dropping it ends everything in it.
pub struct Lab {
    state: Mutex<State>,
    /// Below the state: pods go before the world that they stand in.
    world: Namespace,
}

struct State {
    manifests: Manifests,
    pods: Vec<PodRecord>,
    clients: Vec<Arc<Client>>,
    /// Changes that were waited for.
    changes: u16,
}

impl State {
    /// What a cluster's controllers and DNS do after a change.
    fn refresh(&self) -> Result<()> {
        self.manifests.write_slices(&self.pods)?;
        for client in &self.clients {
            client.write_hosts(&self.manifests.hosts(&client.namespace))?;
        }
        Ok(())
    }
}

impl Lab {
    /// An empty cluster.
    pub fn new() -> Result<Lab> {
        let programs = tools::mount_script(&tools::folder()?)?;
        let world = Namespace::isolated(&format!(
            "mount -t tmpfs -o mode=0755 weft /run\n\
             mkdir -m 0755 {FOLDER}\n\
             cd {FOLDER}\n\
             mkdir -m 0755 manifests staging logs bin brought\n\
             {programs}\n\
             mount -t tmpfs -o mode=1777 weft /tmp\n\
             echo 0 > /proc/sys/net/ipv6/conf/all/disable_ipv6 2>/dev/null || true\n\
             ip link set lo up\n\
             ip link add br0 type bridge mcast_snooping 0\n\
             ip addr add 10.244.0.1/16 dev br0\n\
             ip -6 addr add fd00:10:244::1/64 dev br0 nodad\n\
             ip link set br0 up\n\
             # Service addresses are refused at once instead of after a time-out.\n\
             echo 1 > /proc/sys/net/ipv4/ip_forward 2>/dev/null || true\n\
             echo 1 > /proc/sys/net/ipv6/conf/all/forwarding 2>/dev/null || true\n\
             ip route add unreachable 10.96.0.0/16\n\
             ip -6 route add unreachable fd00:10:96::/112"
        ))?;
        let manifests = Manifests::new(&world.folder());
        let state = State { manifests, pods: Vec::new(), clients: Vec::new(), changes: 0 };
        Ok(Lab { state: Mutex::new(state), world })
    }

    /// Writes objects to the manifests and brings EndpointSlices and names up to date.
    /// Returns `Kind namespace/name` of each object.
    pub fn apply(&self, yaml: &str) -> Result<Vec<String>> {
        let mut state = self.state();
        let applied = state.manifests.apply(yaml)?;
        state.refresh()?;
        Ok(applied)
    }

    /// Removes an object from the manifests.
    pub fn delete(&self, kind: &str, namespace: &str, name: &str) -> Result<()> {
        let mut state = self.state();
        state.manifests.delete(kind, namespace, name)?;
        state.refresh()
    }

    /// Does `change` and waits until every proxy serves by it.
    ///
    /// What a table was made from is told by a mark that is written after the change: a number that
    /// only counts up could be that of a reading which began before it.
    pub fn settled<T>(&self, change: impl FnOnce(&Lab) -> Result<T>) -> Result<T> {
        let result = change(self)?;
        let mark = {
            let mut state = self.state();
            state.changes += 1;
            state.manifests.write_mark(state.changes)?;
            state.changes
        };
        for client in self.clients() {
            let marked = || client.serves_mark(mark).unwrap_or(false).then_some(());
            if poll(SETTLE_LIMIT, marked).is_none() {
                bail!(
                    "the proxy in {} does not serve change {mark} after {SETTLE_LIMIT:?}:\n{}",
                    client.namespace,
                    tail(&client.proxy_log(), 20)
                );
            }
        }
        Ok(result)
    }

    /// Writes a file to the manifests as it is, at once; `name` ends in `.yaml` to be read.
    pub fn write_file(&self, name: &str, content: &[u8]) -> Result<()> {
        self.state().manifests.write(name, content)
    }

    /// The folder of manifests as this process reaches it, for what is done wrong on purpose.
    pub fn manifest_folder(&self) -> PathBuf {
        self.world.folder().join("manifests")
    }

    /// Starts one backend pod and waits until it listens.
    pub fn backend(&self, workload: &Workload) -> Result<Backend> {
        let mut started = self.backends(std::slice::from_ref(workload))?;
        started.pop().context("one backend")
    }

    /// Starts backend pods side by side and waits until all of them listen.
    pub fn backends(&self, workloads: &[Workload]) -> Result<Vec<Backend>> {
        let records = self.place(workloads)?;
        let pairs = workloads.iter().zip(&records);
        let start = |(workload, record)| Backend::start(self, workload, record);
        let backends = pairs.map(start).collect::<Result<Vec<Backend>>>()?;
        for backend in &backends {
            backend.wait_ready()?;
        }
        self.state().refresh()?;
        Ok(backends)
    }

    /// Starts a pod of any program and waits until it listens on the workload's HTTP port, which no
    /// other pod of the lab may have: such programs seldom keep to the pod's own address.
    pub fn foreign_backend(&self, workload: &Workload, words: &[&str]) -> Result<Backend> {
        let record = self.place(std::slice::from_ref(workload))?.pop().context("one pod")?;
        let mut command = self.command(User::Application, words[0]);
        command.args(&words[1..]);
        let backend = Backend::run(self, &record, command)?;
        backend.wait_listening(self, workload.http_port)?;
        self.state().refresh()?;
        Ok(backend)
    }

    /// Copies a file or a folder's files into the lab, for programs that it does not have by itself;
    /// returns the path in there.
    pub fn bring(&self, source: &Path) -> Result<String> {
        let name = source.file_name().and_then(|name| name.to_str()).context("no file's name")?;
        let target = self.folder().join("brought").join(name);
        if source.is_dir() {
            std::fs::create_dir_all(&target)?;
            for file in std::fs::read_dir(source)? {
                let file = file?;
                std::fs::copy(file.path(), target.join(file.file_name()))?;
            }
        } else {
            std::fs::copy(source, &target).with_context(|| source.display().to_string())?;
        }
        Ok(format!("{FOLDER}/brought/{name}"))
    }

    /// Gives pods their addresses and their names.
    fn place(&self, workloads: &[Workload]) -> Result<Vec<PodRecord>> {
        let mut records = Vec::new();
        let first = self.state().pods.len() + 1;
        for (number, workload) in (first..).zip(workloads) {
            records.push(record(workload, u8::try_from(number).context("255 backends at most")?));
        }
        let addresses = records.iter().map(|record| {
            let [v4, v6] = &record.addresses;
            format!("ip addr add {v4}/32 dev br0\nip -6 addr add {v6}/128 dev br0 nodad\n")
        });
        self.world.script(&addresses.collect::<String>())?;
        self.state().pods.extend(records.iter().cloned());
        Ok(records)
    }

    /// Sets what the EndpointSlices say about a backend pod.
    pub fn set_conditions(&self, pod: &str, ready: bool, terminating: bool) -> Result<()> {
        let mut state = self.state();
        let record = state.pods.iter_mut().find(|record| record.name == pod);
        let record = record.with_context(|| format!("no pod {pod}"))?;
        (record.ready, record.terminating) = (ready, terminating);
        state.refresh()
    }

    /// Takes a backend pod out of the EndpointSlices. Its process goes on.
    pub fn remove_endpoint(&self, pod: &str) -> Result<()> {
        self.list(pod, false)
    }

    /// Puts a backend pod into the EndpointSlices again.
    pub fn add_endpoint(&self, pod: &str) -> Result<()> {
        self.list(pod, true)
    }

    fn list(&self, pod: &str, listed: bool) -> Result<()> {
        let mut state = self.state();
        // The number of records gives the next address, so the record stays.
        let record = state.pods.iter_mut().find(|record| record.name == pod);
        record.with_context(|| format!("no pod {pod}"))?.listed = listed;
        state.refresh()
    }

    /// Starts a pod at the address of one whose process has ended: another pod, or, under the same
    /// name, the same one with its container started anew. It is listed once it listens.
    pub fn backend_in_place(
        &self,
        ended: &Backend,
        workload: &Workload,
        name: &str,
    ) -> Result<Backend> {
        let listed = PodRecord {
            name: name.to_owned(),
            addresses: ended.addresses.clone(),
            ..record(workload, 0)
        };
        let write = |record: PodRecord| {
            let mut state = self.state();
            let mut records = state.pods.iter_mut();
            let place = records.find(|old| old.addresses == record.addresses);
            *place.context("the pod is not of this lab")? = record;
            state.refresh()
        };
        write(PodRecord { listed: false, ..listed.clone() })?;
        let backend = Backend::start(self, workload, &listed)?;
        backend.wait_ready()?;
        write(listed)?;
        Ok(backend)
    }

    /// Lets no packet to or from a backend pod through any more, as when its node has lost its power:
    /// nobody is told.
    pub fn cut_off(&self, backend: &Backend) -> Result<()> {
        let [v4, v6] = &backend.addresses;
        self.world.script(&format!(
            "for rule in 'INPUT -d' 'OUTPUT -s'; do\n\
             iptables -w -I $rule {v4} -j DROP\n\
             ip6tables -w -I $rule {v6} -j DROP\n\
             done"
        ))?;
        Ok(())
    }

    /// How many TCP connections are established to a backend pod.
    pub fn connections_to(&self, backend: &Backend) -> Result<usize> {
        let [v4, v6] = &backend.addresses;
        let filter = format!("( src {v4} or src [{v6}] )");
        let script = format!("ss --no-header --tcp --numeric state established '{filter}'");
        Ok(self.world.script(&script)?.lines().count())
    }

    /// A client pod in a Kubernetes namespace, ready to send.
    pub fn client(&self, namespace: &str) -> Result<Arc<Client>> {
        self.client_with(namespace, &ClientOptions::default())
    }

    /// A client pod with options.
    pub fn client_with(&self, namespace: &str, options: &ClientOptions) -> Result<Arc<Client>> {
        let client = self.bare_client(namespace, options)?;
        if !options.plain {
            client.run_init(&[])?.success().context("weft-init")?;
            client.start_proxy()?;
            client.wait_ready()?;
        }
        Ok(client)
    }

    /// A client pod in which neither `weft-init` nor `weft-proxy` has been started yet.
    pub fn bare_client(&self, namespace: &str, options: &ClientOptions) -> Result<Arc<Client>> {
        let mut state = self.state();
        let number = u8::try_from(state.clients.len() + 1).context("255 clients at most")?;
        let client = Arc::new(Client::start(&self.world, namespace, number, options)?);
        client.write_hosts(&state.manifests.hosts(namespace))?;
        state.clients.push(Arc::clone(&client));
        Ok(client)
    }

    /// The client pods that have a sidecar.
    pub fn clients(&self) -> Vec<Arc<Client>> {
        let mut clients = self.state().clients.clone();
        clients.retain(|client| client.has_proxy());
        clients
    }

    /// The lab's folder as this process reaches it.
    fn folder(&self) -> PathBuf {
        self.world.folder()
    }

    fn command(&self, user: User, program: &str) -> Command {
        self.world.command(user, program)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pod that a Deployment would make of a workload.
fn record(workload: &Workload, number: u8) -> PodRecord {
    let labels = [("app", &workload.app), ("version", &workload.version)];
    PodRecord {
        name: format!("{}-{}-{number}", workload.app, workload.version),
        namespace: workload.namespace.clone(),
        labels: labels.into_iter().map(|(k, v)| (k.to_owned(), v.clone())).collect(),
        addresses: [format!("10.244.1.{number}"), format!("fd00:10:244::1:{number:x}")],
        ports: workload.ports(),
        ready: true,
        terminating: false,
        listed: true,
    }
}
