//! What the tests of the data path share: a mesh of one worker on the test's own thread, routes
//! from YAML, peers that send and read exact bytes, and HTTP servers.
//!
//! A connection of a test goes the way of a redirected one, from `outbound::serve_redirected` on;
//! only the redirect itself is missing. Nothing here sleeps to wait for something: what happens on
//! the other side is awaited through a socket, or polled with a deadline ([`eventually`]).

mod peer;
mod server;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::TcpListener;
use weft_gamma::object::{
    self, EndpointSlice, Hints, InternalTraffic, NamespacedName, Object, Objects, Service,
    ServicePort, SliceEndpoint, SlicePort, Transport,
};
use weft_gamma::resolve::Settings;

pub(crate) use self::peer::{End, Head, Message, Peer, RawBackend};
pub(crate) use self::server::{Body, LocalExecutor, Server, by_hand, empty, text, with_trailers};

use crate::drain::Drain;
use crate::log::AccessLog;
use crate::metrics::{Metrics, MetricsSettings};
use crate::outbound::{self, Accepted};
use crate::pod::Pod;
use crate::socket;
use crate::table::Compiler;
use crate::worker::{Limits, Shared, Worker};

/// Far more than any scenario takes: one that is not done by then hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a scenario on a runtime like a worker's; fails if it hangs.
pub(crate) fn run(scenario: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .unwrap();
    let ended = runtime.block_on(async { tokio::time::timeout(PATIENCE, scenario).await });
    assert!(ended.is_ok(), "the scenario hangs");
}

/// Waits until `holds`, which something else on this thread will bring about.
pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(5), wait).await;
    assert!(waited.is_ok(), "not within 5 s: {what}");
}

/// An address at which connections are refused.
pub(crate) fn refusing() -> SocketAddr {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    // Bound for as long as the tests run, and listening never: nobody else gets the port.
    std::mem::forget(socket);
    addr
}

/// One worker, with the objects that its table is compiled from.
pub(crate) struct Mesh {
    pub(crate) shared: Arc<Shared>,
    pub(crate) worker: Rc<Worker>,
    objects: RefCell<Objects>,
    compiler: RefCell<Compiler>,
    services: Cell<u8>,
}

impl Mesh {
    /// The mesh as a pod in the namespace `default` sees it.
    pub(crate) fn new() -> Self {
        Self::with("default", |_limits| {})
    }

    /// The mesh as a pod in `namespace` sees it, with other limits.
    pub(crate) fn with(namespace: &str, change: impl FnOnce(&mut Limits)) -> Self {
        Self::of(namespace.into(), change)
    }

    /// The mesh as a pod sees it, with other limits.
    pub(crate) fn of(pod: Pod, change: impl FnOnce(&mut Limits)) -> Self {
        let mut limits = Self::limits();
        change(&mut limits);
        let metrics = Metrics::new(&MetricsSettings::default());
        let compiler = Compiler::new(pod, Settings::default(), metrics.clone());
        let shared = Shared::new(metrics, AccessLog::off(), Drain::default(), limits, None);
        Self {
            worker: Worker::start(shared.clone()),
            shared,
            objects: RefCell::default(),
            compiler: RefCell::new(compiler),
            services: Cell::new(0),
        }
    }

    /// Those of a test that does not say otherwise.
    pub(crate) fn limits() -> Limits {
        Limits {
            detect_timeout: Duration::from_millis(100),
            header_timeout: Duration::from_secs(10),
            max_header_bytes: 64 * 1024,
            max_headers: 100,
            client_idle_timeout: Duration::from_secs(300),
            max_connections: 1024,
            http2_max_streams: 256,
            http2_max_resets: 256,
            http2_max_empty_frames: 1000,
            connect_timeout: Duration::from_secs(1),
            pool_idle_timeout: Duration::from_secs(60),
            pool_max_idle: 16,
            max_requests: 1024,
            lookup_timeout: Duration::from_secs(1),
        }
    }

    /// Adds a Service (`namespace/name`) with a port 80 of that name and the endpoints; returns the
    /// address that clients dial.
    pub(crate) fn service(&self, name: &str, port: &str, endpoints: &[SocketAddr]) -> SocketAddr {
        self.services.set(self.services.get() + 1);
        let address = SocketAddr::from(([10, 0, 0, self.services.get()], 80));
        let service = Service {
            name: namespaced(name),
            cluster_ips: vec![address.ip()],
            ports: vec![ServicePort {
                name: port.into(),
                port: 80,
                transport: Transport::Tcp,
                app_protocol: None,
            }],
            external_name: false,
            headless: false,
            uid: Some(format!("uid-of-{name}")),
            client_affinity: None,
            internal_traffic: InternalTraffic::Cluster,
        };
        self.objects.borrow_mut().insert(Object::Service(service));
        self.endpoints(name, endpoints);
        address
    }

    /// Replaces a Service's endpoints; behind each address stands one and the same pod.
    pub(crate) fn endpoints(&self, service: &str, endpoints: &[SocketAddr]) {
        let pods: Vec<_> = endpoints.iter().map(|addr| (*addr, format!("pod-at-{addr}"))).collect();
        let pods: Vec<_> = pods.iter().map(|(addr, pod)| (*addr, pod.as_str())).collect();
        self.pods(service, &pods);
    }

    /// Replaces a Service's endpoints, with the pods behind them.
    pub(crate) fn pods(&self, service: &str, pods: &[(SocketAddr, &str)]) {
        let name = namespaced(service);
        {
            let mut objects = self.objects.borrow_mut();
            let port = objects.services[&name].ports[0].name.clone();
            let own = |slice: &EndpointSlice| {
                slice.name.namespace == name.namespace && slice.service.as_ref() == Some(&name.name)
            };
            objects.slices.retain(|_, slice| !own(slice));
            // Each address has a port of its own, and a slice has its ports for all addresses.
            for (index, (addr, pod)) in pods.iter().enumerate() {
                let slice = EndpointSlice {
                    name: namespaced(&format!("{service}-{index}")),
                    service: Some(name.name.clone()),
                    ports: vec![SlicePort {
                        name: port.clone(),
                        port: addr.port(),
                        transport: Transport::Tcp,
                        app_protocol: None,
                    }],
                    endpoints: vec![SliceEndpoint {
                        address: addr.ip(),
                        ready: true,
                        serving: true,
                        terminating: false,
                        target: Some((*pod).into()),
                        node: None,
                        zone: None,
                        hints: Hints::default(),
                    }],
                };
                objects.insert(Object::EndpointSlice(slice));
            }
        }
        self.publish();
    }

    /// Attaches an HTTPRoute (`namespace/name`) to a Service; `rules` is the YAML of `spec.rules`.
    pub(crate) fn http_route(&self, name: &str, parent: &str, rules: &str) {
        self.route("HTTPRoute", name, parent, rules);
    }

    /// Attaches a GRPCRoute, as [`Mesh::http_route`].
    pub(crate) fn grpc_route(&self, name: &str, parent: &str, rules: &str) {
        self.route("GRPCRoute", name, parent, rules);
    }

    /// Attaches a TCPRoute, as [`Mesh::http_route`].
    pub(crate) fn tcp_route(&self, name: &str, parent: &str, rules: &str) {
        self.route("TCPRoute", name, parent, rules);
    }

    /// Attaches a TLSRoute, as [`Mesh::http_route`].
    pub(crate) fn tls_route(&self, name: &str, parent: &str, hostnames: &[&str], rules: &str) {
        let mut route = self::route("TLSRoute", name, parent, rules);
        route["spec"]["hostnames"] = json!(hostnames);
        self.apply(route);
    }

    fn route(&self, kind: &str, name: &str, parent: &str, rules: &str) {
        self.apply(self::route(kind, name, parent, rules));
    }

    /// Adds or replaces the objects of a document.
    pub(crate) fn apply(&self, document: Value) {
        let decoded = object::decode(document);
        assert!(!decoded.objects.is_empty(), "nothing in it: {:?}", decoded.problems);
        for object in decoded.objects {
            self.objects.borrow_mut().insert(object);
        }
        self.publish();
    }

    /// Changes objects in any way.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Objects)) {
        change(&mut self.objects.borrow_mut());
        self.publish();
    }

    /// What the table in force was compiled from.
    pub(crate) fn objects(&self) -> Objects {
        self.objects.borrow().clone()
    }

    fn publish(&self) {
        let table = self.compiler.borrow_mut().compile(&self.objects.borrow(), None).table;
        self.shared.publish(table);
    }

    /// Opens a connection that was meant for `original`.
    pub(crate) async fn connect(&self, original: SocketAddr) -> Peer {
        self.connect_watched(original).await.0
    }

    /// The same, with the socket that is served.
    pub(crate) async fn connect_watched(&self, original: SocketAddr) -> (Peer, Socket) {
        let (client, stream) = connected().await;
        let socket = SockRef::from(&stream).try_clone().unwrap();
        let accepted = Accepted { client: stream.peer_addr().unwrap(), original, stream };
        tokio::task::spawn_local(outbound::serve_redirected(self.worker.clone(), accepted));
        (Peer::new(client), socket)
    }

    /// One request on a connection of its own.
    pub(crate) async fn get(&self, original: SocketAddr, path: &str) -> Message {
        self.get_with(original, path, "").await
    }

    /// One request with more headers, each ended by CRLF, on a connection of its own.
    pub(crate) async fn get_with(
        &self,
        original: SocketAddr,
        path: &str,
        headers: &str,
    ) -> Message {
        let mut client = self.connect(original).await;
        client.send(format!("GET {path} HTTP/1.1\r\nhost: svc\r\n{headers}\r\n")).await;
        client.message().await
    }

    /// How many requests were counted with all of these labels, each as in `status="200"`.
    pub(crate) fn requests(&self, labels: &[&str]) -> u64 {
        self.count("weft_route_requests_total", labels)
    }

    /// The sum of a metric's samples with all of these labels.
    pub(crate) fn count(&self, metric: &str, labels: &[&str]) -> u64 {
        let text = self.shared.metrics.encode();
        text.lines()
            .filter_map(|line| line.strip_prefix(metric))
            .filter(|sample| sample.starts_with('{') || sample.starts_with(' '))
            .filter(|sample| labels.iter().all(|label| sample.contains(label)))
            .filter_map(|sample| sample.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum::<f64>() as u64
    }
}

pub(crate) fn route(kind: &str, name: &str, parent: &str, rules: &str) -> Value {
    let (name, parent) = (namespaced(name), namespaced(parent));
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": kind,
        "metadata": { "namespace": name.namespace, "name": name.name },
        "spec": {
            "parentRefs": [{
                "group": "",
                "kind": "Service",
                "namespace": parent.namespace,
                "name": parent.name,
            }],
            "rules": yaml(rules),
        },
    })
}

/// Both ends of a connection, the second as the sidecar accepts it.
pub(crate) async fn connected() -> (tokio::net::TcpStream, tokio::net::TcpStream) {
    let listener = socket::listen(([127, 0, 0, 1], 0).into()).unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    let connect = tokio::net::TcpStream::connect(listener.local_addr().unwrap());
    let (client, accepted) = tokio::join!(connect, listener.accept());
    (client.unwrap(), accepted.unwrap().0)
}

/// Whether a peer that has gone without a word is noticed within 30 s, whatever is under way.
pub(crate) fn notices_silence(socket: &Socket) -> bool {
    let seconds = Duration::from_secs;
    socket.keepalive().unwrap()
        && socket.tcp_keepalive_time().unwrap() == seconds(15)
        && socket.tcp_keepalive_interval().unwrap() == seconds(5)
        && socket.tcp_keepalive_retries().unwrap() == 3
        && socket.tcp_user_timeout().unwrap() == Some(seconds(30))
}

/// A pod of which no more is known.
impl From<&str> for Pod {
    fn from(namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), ..Self::default() }
    }
}

/// Parses YAML.
pub(crate) fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Splits `namespace/name`.
pub(crate) fn namespaced(name: &str) -> NamespacedName {
    let (namespace, name) = name.split_once('/').unwrap();
    NamespacedName { namespace: namespace.into(), name: name.into() }
}
