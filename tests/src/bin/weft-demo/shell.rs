//! `make demo-shell`: a shell in a client pod, with a few lines on what can be tried.

use anyhow::{Context, Result};
use weft_tests::lab::{FOLDER, Lab};

use crate::paint::Painter;

/// Opens a shell in the client pod of a namespace and comes back when it is left.
pub(crate) fn open(lab: &Lab, painter: &Painter, namespace: &str) -> Result<()> {
    let clients = lab.clients();
    let client =
        clients.iter().find(|client| client.namespace == namespace).with_context(|| {
            let all: Vec<&str> = clients.iter().map(|client| client.namespace.as_str()).collect();
            format!("no client pod in {namespace}; there is one in: {}", all.join(", "))
        })?;
    println!("\n{}", painter.bold(&format!("A shell in a client pod of namespace {namespace}")));
    for (command, meaning) in [
        ("curl -H 'end-user: jason' http://reviews:9080/", "through the sidecar, to v2"),
        ("cat /etc/hosts", "the names that resolve here"),
        ("ls manifests; nano manifests/…", "the cluster's objects: edit, save, send again"),
        ("weft-proxy explain http://reviews:9080/", "why a request goes where it goes"),
        ("curl localhost:15000/config", "the routing table in force"),
        ("curl localhost:15020/metrics", "the metrics"),
        ("iptables -t nat -S", "what weft-init has written"),
        ("tail logs/client-1.err", "the sidecar's log"),
        ("exit", "ends everything"),
    ] {
        println!("   {command:<48} {}", painter.dim(meaning));
    }
    println!();
    let startup = format!("cd {FOLDER}\nPS1='weft:{namespace}# '\n");
    client.shell(&startup)
}
