//! The part that is counted: a worker of the proxy, and nothing else.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use weft_gamma::object::{self, Objects};
use weft_proxy::bench::Proxy;
use weft_proxy::socket;

use crate::Work;
use crate::work::Version;

/// What the clients would have dialled.
const SERVICE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)), 8001);

/// Serves the peer's connections until it has had its answers.
pub(super) fn serve(work: Work, requests: u32) -> Result<()> {
    // The peer says where its backends are, and is told where to connect to.
    let mut peer = Command::new(std::env::current_exe()?)
        .args(["--peer", &work.name(), &requests.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut to_peer = peer.stdin.take().context("a pipe")?;
    let mut line = String::new();
    BufReader::new(peer.stdout.take().context("a pipe")?).read_line(&mut line)?;
    let backends: Vec<u16> =
        line.split_whitespace().map(str::parse).collect::<Result<_, _>>().context(line.clone())?;

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())?;
    runtime.block_on(async {
        let proxy = Rc::new(Proxy::new(&objects(work, &backends)));
        // As the sidecar listens: what it accepts has the options of that.
        let listener = socket::listen((Ipv4Addr::LOCALHOST, 0).into())?;
        let listener = TcpListener::from_std(listener)?;
        writeln!(to_peer, "{}", listener.local_addr()?.port())?;
        // One connection, which ends with the peer; a task as in a worker, for what the runtime does
        // around one is counted too.
        let (stream, client) = listener.accept().await?;
        tokio::task::spawn_local(async move { proxy.serve(stream, client, SERVICE).await })
            .await??;
        anyhow::Ok(())
    })?;
    ensure!(peer.wait()?.success(), "the peer has failed");
    Ok(())
}

/// The Service, its versions and the route.
fn objects(work: Work, backends: &[u16]) -> Objects {
    let mut documents = vec![service("reviews", 10, work), route(work)];
    for (version, port) in Version::ALL.into_iter().zip(backends) {
        let name = format!("reviews-{}", version.name());
        documents.push(service(&name, 11 + version as u8, work));
        documents.push(slice(&name, *port));
    }
    let mut objects = Objects::default();
    for document in documents {
        for object in object::decode(document).objects {
            objects.insert(object);
        }
    }
    objects
}

fn service(name: &str, number: u8, work: Work) -> Value {
    let declared = work.backend_http2().then_some("kubernetes.io/h2c");
    let address = format!("10.96.0.{number}");
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "clusterIP": address,
            "clusterIPs": [address],
            "ports": [{"name": "web", "port": SERVICE.port(), "appProtocol": declared}],
        },
    })
}

fn slice(service: &str, port: u16) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": service,
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": true}}],
        "ports": [{"name": "web", "port": port, "protocol": "TCP"}],
    })
}

fn route(work: Work) -> Value {
    let backend = |version: &str, weight: u32| json!({"name": format!("reviews-{version}"), "port": SERVICE.port(), "weight": weight});
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": if work == Work::Grpc { "GRPCRoute" } else { "HTTPRoute" },
        "metadata": {"name": "reviews", "namespace": "default"},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": "reviews"}],
            "rules": [
                {
                    "matches": [{"headers": [{"name": "end-user", "value": "jason"}]}],
                    "backendRefs": [backend("v2", 90), backend("v3", 10)],
                },
                {"backendRefs": [backend("v1", 1)]},
            ],
        },
    })
}
