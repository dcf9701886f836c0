//! A small world that most tests start from: one Service with every kind of port, two versions.

use std::sync::Arc;

use serde_json::Value;
use weft_tests::answer::Answer;
use weft_tests::lab::{Backend, Client, ClientOptions, Lab, Output, Workload};

/// Ports of every Service in the world: name, number, target port, further fields.
const PORTS: [(&str, u16, &str, &str); 12] = [
    ("http", 80, "http", "\n    appProtocol: http"),
    ("http-raw", 81, "raw", ""),
    ("h2c", 8000, "http", "\n    appProtocol: kubernetes.io/h2c"),
    ("grpc", 7070, "http", ""),
    ("https", 443, "tls", ""),
    ("mysql", 3306, "tcp-banner", ""),
    ("tcp-echo", 7, "tcp-echo", ""),
    // Nothing says what these speak: the first bytes decide.
    ("guess", 9000, "http", ""),
    ("guess-raw", 9001, "raw", ""),
    ("guess-tls", 9443, "tls", ""),
    ("guess-banner", 9090, "tcp-banner", ""),
    ("guess-echo", 9091, "tcp-echo", ""),
];

/// The lab with `echo` (both versions), `echo-v1` and `echo-v2` in namespace default, and a client.
pub(crate) struct World {
    pub(crate) client: Arc<Client>,
    pub(crate) v1: Backend,
    pub(crate) v2: Backend,
    pub(crate) lab: Lab,
}

impl World {
    pub(crate) fn new() -> World {
        World::with(&ClientOptions::default())
    }

    pub(crate) fn with(options: &ClientOptions) -> World {
        World::with_manifests(options, "")
    }

    /// The world with these objects in it before the client starts.
    pub(crate) fn with_manifests(options: &ClientOptions, yaml: &str) -> World {
        let lab = Lab::new().expect("a lab");
        lab.apply(&services()).expect("the Services");
        let workloads = ["v1", "v2"].map(|version| Workload::new("echo", version, "default"));
        let mut backends = lab.backends(&workloads).expect("the backends");
        let v2 = backends.pop().expect("v2");
        let v1 = backends.pop().expect("v1");
        lab.apply(yaml).expect("the manifests");
        let client = lab.client_with("default", options).expect("a client");
        World { client, v1, v2, lab }
    }

    /// A world with these routes.
    pub(crate) fn routed(yaml: &str) -> World {
        World::with_manifests(&ClientOptions::default(), yaml)
    }

    /// What the backend tells about a request of curl's.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Answer {
        let body = self.client.curl(arguments).expect("curl").success().expect("an answer");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error} in {body:?}"))
    }

    /// The status that curl gets.
    pub(crate) fn status(&self, arguments: &[&str]) -> String {
        let mut words = vec!["-o", "/dev/null", "-w", "%{http_code}"];
        words.extend(arguments);
        self.client.curl(&words).expect("curl").stdout
    }

    /// The head of the answer that curl gets: the status line and the headers.
    pub(crate) fn head(&self, arguments: &[&str]) -> String {
        let mut words = vec!["-o", "/dev/null", "--dump-header", "-"];
        words.extend(arguments);
        self.client.curl(&words).expect("curl").success().expect("an answer")
    }

    /// What `weft-client` prints, as JSON.
    pub(crate) fn tally(&self, arguments: &[&str]) -> Value {
        let text = self.weft_client(arguments).success().expect("weft-client");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text:?}"))
    }

    /// Runs `weft-client`.
    pub(crate) fn weft_client(&self, arguments: &[&str]) -> Output {
        let mut words = vec!["weft-client"];
        words.extend(arguments);
        self.client.exec(&words).expect("weft-client")
    }

    /// What comes back for bytes on a connection, until it is closed or `until` has come.
    pub(crate) fn raw(&self, address: &str, text: &str, options: &[&str]) -> String {
        let mut words = vec!["raw", address, text];
        words.extend(options);
        self.weft_client(&words).success().expect("an answer")
    }
}

/// An HTTPRoute in default, attached to `echo`; `rules` is indented by two spaces.
pub(crate) fn http_route(name: &str, rules: &str) -> String {
    route("HTTPRoute", name, "", rules)
}

/// A route in default, attached to `echo`, with more lines for its parentRef.
pub(crate) fn route(kind: &str, name: &str, parent: &str, rules: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata:\n  name: {name}\n  \
         namespace: default\n  creationTimestamp: \"2026-01-01T00:00:00Z\"\nspec:\n  parentRefs:\n  \
         - group: \"\"\n    kind: Service\n    name: echo\n{parent}  rules:\n{rules}\n---\n"
    )
}

/// `count` of a key in a tally's map.
pub(crate) fn count(tally: &Value, map: &str, key: &str) -> u64 {
    tally[map][key].as_u64().unwrap_or(0)
}

fn services() -> String {
    [("echo", ""), ("echo-v1", "\n    version: v1"), ("echo-v2", "\n    version: v2")]
        .into_iter()
        .zip(1..)
        .map(|((name, selector), number)| service(name, number, selector))
        .collect()
}

/// A dual-stack Service with all the ports.
fn service(name: &str, number: u8, selector: &str) -> String {
    let ports: String = PORTS
        .iter()
        .map(|(name, port, target, more)| {
            format!(
                "  - name: {name}\n    port: {port}\n    protocol: TCP\n    \
                 targetPort: {target}{more}\n"
            )
        })
        .collect();
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  namespace: default\nspec:\n  \
         clusterIP: 10.96.1.{number}\n  clusterIPs:\n  - 10.96.1.{number}\n  \
         - fd00:10:96::10{number}\n  ipFamilies:\n  - IPv4\n  - IPv6\n  \
         ipFamilyPolicy: RequireDualStack\n  ports:\n{ports}  selector:\n    app: echo{selector}\n  \
         type: ClusterIP\n---\n"
    )
}
