//! Sidecars that cannot reach the API server while things change, and find that it has forgotten where
//! they were: 410, and everything is listed anew.

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::json;
use weft_e2e::rate::{Load, Traffic};
use weft_e2e::{Cluster, Namespace, PATIENCE, Server, eventually, figure, node, run, web};
use weft_tests::lab::metrics::{samples, sum};

use crate::away::{self, Outage};
use crate::clock::now;
use crate::route::{marked_route, saw, saw_edit};

/// Where etcd takes JSON.
const COMPACTION: &str = "http://127.0.0.1:2379/v3/kv/compaction";

#[test]
fn what_changed_before_a_relist_is_taken_up_without_one_failed_request() {
    run("relist", async |cluster| {
        if !node::is_own() {
            println!("relist: skipped, as the node of KUBECONFIG's cluster is not ours");
            return Ok(());
        }
        let shop = cluster.namespace("shop").await?;
        shop.server(&Server::new("echo", "v1").replicas(2)).await?;
        let mut pods = Vec::new();
        for pod in shop.pods("app=echo").await? {
            let name = pod.metadata.name.context("a name")?;
            pods.push((shop.pod(&name).addresses().await?.swap_remove(0), name));
        }
        let [(here, _), (there, other)] = <[_; 2]>::try_from(pods).ok().context("two pods")?;
        for service in ["edited", "deleted", "moved"] {
            shop.apply_value(json!({
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": { "name": service },
                "spec": { "ports": [{ "name": "http", "port": 80, "targetPort": 8080 }] },
            }))
            .await?;
            endpoint(&shop, service, &here).await?;
        }
        for route in ["edited", "deleted"] {
            shop.apply(&marked_route(route, 1)).await?;
        }
        // A pod's own name is its own address.
        let load = |service: &str, header: &str| {
            let load = Load::new(&format!("to-{service}"), 50, &[&format!("http://{service}")]);
            load.with(&["--watch-header", header])
        };
        let edited = shop.load(&load("edited", "x-edit")).await?;
        let deleted = shop.load(&load("deleted", "x-edit").with(&["--protocol", "http2"])).await?;
        let moved = shop.load(&load("moved", "x-pod")).await?;
        let all = [&edited, &deleted, &moved];
        for one in &all[..2] {
            saw_edit(one, 1).await?;
        }
        let before = relists(&all).await?;
        let kubernetes = away::service(cluster).await?;

        let cut = Cut::off(&all).await?;
        // Ends the watches that there are; none can be begun.
        drop(Outage::begin()?);
        eventually(PATIENCE, "the API server to serve routes", async || {
            shop.apply(&marked_route("edited", 2)).await
        })
        .await?;
        shop.delete("HTTPRoute", "deleted").await?;
        endpoint(&shop, "moved", &there).await?;
        compact(cluster).await?;
        // What the API server remembers begins now.
        drop(Outage::begin()?);
        for (one, relists) in all.iter().zip(relists(&all).await?.iter().zip(&before)) {
            ensure!(relists.0 == relists.1, "{} was not cut off", one.pod.name);
            one.goes_on(50).await?;
        }
        away::reachable(&kubernetes).await?;
        let back = now();
        drop(cut);

        let seen =
            [saw_edit(&edited, 2).await?, saw(&deleted, "").await?, saw(&moved, &other).await?];
        let took = seen.into_iter().fold(0.0, f64::max) - back;
        figure(
            "from a sidecar's return to what it missed in effect, by 410",
            &format!("{took:.1} s"),
            "seconds",
        )?;
        for (one, (after, before)) in all.iter().zip(relists(&all).await?.iter().zip(&before)) {
            let report = one.goes_on(50).await?;
            println!(
                "relist: {}: {} requests, {} failed, {} lists before, {} now",
                one.pod.name, report.done, report.failed, before, after
            );
            ensure!(after > before, "{} has listed nothing anew", one.pod.name);
            ensure!(report.failed == 0, "{}: {:#?}", one.pod.name, report.failures);
            // Each change once: nothing was forgotten on the way and known again later.
            let changes = one.seen().await?.changes;
            ensure!(changes.len() == 2, "{}: {changes:?}", one.pod.name);
        }
        ensure!(took < 60.0, "{took:.1} s");
        Ok(())
    });
}

/// A Service's one endpoint.
async fn endpoint(shop: &Namespace, service: &str, address: &str) -> Result<()> {
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": { "name": service, "labels": { "kubernetes.io/service-name": service } },
        "addressType": "IPv4",
        "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
        "endpoints": [{ "addresses": [address], "conditions": { "ready": true } }],
    });
    shop.apply_value(slice).await?;
    Ok(())
}

/// How often each load's sidecar has listed something.
async fn relists(all: &[&Traffic]) -> Result<Vec<f64>> {
    try_join_all(all.iter().map(|one| async move {
        let address = one.pod.addresses().await?.swap_remove(0);
        let (_, text) = web::get(&format!("http://{address}:15020/metrics")).await?;
        Ok(sum(&samples(&text), "weft_source_relists_total", &[]))
    }))
    .await
}

/// Has etcd forget everything but what is now.
async fn compact(cluster: &Cluster) -> Result<()> {
    let list = cluster.client.request_text(http::Request::get("/api/v1/namespaces").body(vec![])?);
    let list: serde_json::Value = serde_json::from_str(&list.await?)?;
    let revision = list["metadata"]["resourceVersion"].as_str().context("no revision")?;
    let body = json!({ "revision": revision }).to_string();
    let answer = node::run(&["curl", "--silent", "--fail-with-body", COMPACTION, "-d", &body])?;
    println!("relist: compacted at {revision}: {answer}");
    Ok(())
}

/// Pods that cannot reach the API server, until this is dropped.
struct Cut {
    rules: Vec<Vec<String>>,
}

impl Cut {
    async fn off(all: &[&Traffic]) -> Result<Cut> {
        let mut cut = Cut { rules: Vec::new() };
        for one in all {
            let address = one.pod.addresses().await?.swap_remove(0);
            let rule =
                format!("INPUT -s {address} -p tcp --dport 6443 -j REJECT --reject-with tcp-reset");
            let rule: Vec<String> = rule.split(' ').map(str::to_owned).collect();
            iptables("--insert", &rule)?;
            cut.rules.push(rule);
        }
        Ok(cut)
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        for rule in &self.rules {
            if let Err(error) = iptables("--delete", rule) {
                eprintln!("{error:#}");
            }
        }
    }
}

fn iptables(action: &str, rule: &[String]) -> Result<()> {
    let mut words = vec!["iptables", "--wait", action];
    words.extend(rule.iter().map(String::as_str));
    node::run(&words)?;
    Ok(())
}
