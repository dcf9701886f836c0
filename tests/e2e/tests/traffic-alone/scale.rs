//! What a sidecar costs in a large cluster of which it uses next to nothing.

use std::fmt;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_e2e::objects::service_with_route;
use weft_e2e::rate::Load;
use weft_e2e::{Cluster, Namespace, PATIENCE, Server, eventually, figure, run, web};
use weft_tests::lab::metrics::{samples, sum};

use crate::route::marked_route;

/// The Services that every caller uses, each with a route.
const USED: [&str; 5] = ["reviews", "ratings", "details", "products", "orders"];
/// What else there is: in the small cluster, and in the large one.
const SMALL: usize = 5;
const LARGE: usize = 995;
const NAMESPACES: usize = 10;

/// Replicas of a caller: their spread is the noise.
const CALLERS: u32 = 3;
/// Requests of each before it is measured.
const WARM: u64 = 500;
/// What a sidecar may have more beyond the noise, in MiB; a thousand routes that it kept would be more.
const MARGIN: f64 = 1.0;

#[test]
fn a_large_cluster_costs_a_sidecar_nothing() {
    run("scale", async |cluster| {
        let shop = cluster.namespace("shop").await?;
        shop.server(&Server::new("echo", "v1").replicas(2)).await?;
        for name in USED {
            shop.apply_value(service(name)).await?;
            shop.apply(&marked_route(name, 1)).await?;
        }
        let mut others = Vec::new();
        for number in 0..NAMESPACES {
            others.push(cluster.namespace_with(&format!("other-{number}"), &[]).await?);
        }
        crowd(&others, 0..SMALL).await?;

        let idle = watches(cluster).await?;
        start(&shop, "early").await?;
        let small = Measure::of(cluster, &shop, "early", idle).await?;
        let began = std::time::Instant::now();
        crowd(&others, SMALL..LARGE).await?;
        settled(&others).await?;
        println!("scale: a thousand Services and routes after {:.0?}", began.elapsed());

        let early = Measure::of(cluster, &shop, "early", idle).await?;
        let idle = watches(cluster).await?;
        start(&shop, "fresh").await?;
        let fresh = Measure::of(cluster, &shop, "fresh", idle).await?;
        let of = format!("{CALLERS} sidecars of {} Services", USED.len());
        figure(&format!("{of} in a cluster of 10"), &small.to_string(), "")?;
        figure(&format!("{of}, the cluster grown to 1,000"), &early.to_string(), "no growth")?;
        figure(&format!("{of}, begun in one of 1,000"), &fresh.to_string(), "no growth")?;

        ensure!(early.watches == small.watches, "watches have grown");
        ensure!(fresh.watches == small.watches, "a sidecar has more watches in a large cluster");
        let bound = small.highest() + (small.highest() - small.lowest()) + MARGIN;
        ensure!(early.highest() <= bound, "more than {bound:.1} MiB");
        ensure!(fresh.highest() <= bound, "more than {bound:.1} MiB");
        Ok(())
    });
}

/// The memory of some sidecars, and their watches.
struct Measure {
    /// In MiB, of each.
    resident: Vec<f64>,
    /// As the API server counts them, of all together.
    watches: i64,
}

impl Measure {
    /// `idle`: the watches that there are without them.
    async fn of(cluster: &Cluster, shop: &Namespace, callers: &str, idle: i64) -> Result<Measure> {
        let mut resident = Vec::new();
        for pod in shop.pods(&format!("app={callers}")).await? {
            let name = pod.metadata.name.context("a pod without a name")?;
            let report = shop.traffic_of(&name).goes_on(WARM).await?;
            ensure!(report.failed == 0, "{name}: {:#?}", report.failures);
            let address = shop.pod(&name).addresses().await?.swap_remove(0);
            let (_, text) = web::get(&format!("http://{address}:15020/metrics")).await?;
            let metrics = samples(&text);
            let value = |name: &str| sum(&metrics, name, &[]);
            let used = value("weft_table_routes");
            ensure!(used == USED.len() as f64, "the sidecar of {name} knows {used} routes");
            resident.push(value("weft_process_resident_memory_bytes") / f64::from(1 << 20));
        }
        ensure!(resident.len() == CALLERS as usize, "{} callers", resident.len());
        let watches = watches(cluster).await? - idle;
        Ok(Measure { resident, watches })
    }

    fn highest(&self) -> f64 {
        self.resident.iter().copied().fold(0.0, f64::max)
    }

    fn lowest(&self) -> f64 {
        self.resident.iter().copied().fold(f64::MAX, f64::min)
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each: Vec<String> = self.resident.iter().map(|mib| format!("{mib:.2}")).collect();
        write!(f, "{} MiB, {} watches", each.join(", "), self.watches)
    }
}

/// The watches of what sidecars watch, whoever has them.
async fn watches(cluster: &Cluster) -> Result<i64> {
    let request = http::Request::get("/metrics").body(Vec::new())?;
    let metrics = samples(&cluster.client.request_text(request).await?);
    let routes = ["httproutes", "grpcroutes", "tlsroutes", "tcproutes"];
    let watched = ["services", "endpointslices", "referencegrants"].into_iter().chain(routes);
    let of = |resource| {
        let labels = [("verb", "WATCH"), ("resource", resource)];
        sum(&metrics, "apiserver_longrunning_requests", &labels)
    };
    Ok(watched.map(of).sum::<f64>() as i64)
}

async fn start(shop: &Namespace, name: &str) -> Result<()> {
    let urls = USED.map(|name| format!("http://{name}"));
    let load =
        Load::new(name, 100, &urls.each_ref().map(String::as_str)).with(&["--connections", "1"]);
    shop.apply_value(load.deployment(CALLERS)).await?;
    shop.available(name).await
}

fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name },
        "spec": {
            "selector": { "app": "echo" },
            "ports": [{ "name": "http", "port": 80, "targetPort": 8080 }],
        },
    })
}

/// These of the objects, spread over the namespaces.
async fn crowd(others: &[Namespace], numbers: std::ops::Range<usize>) -> Result<()> {
    for (index, namespace) in others.iter().enumerate() {
        let mine = numbers.clone().filter(|number| number % others.len() == index);
        namespace.apply_all(mine.flat_map(service_with_route)).await?;
    }
    Ok(())
}

/// Waits until the controller has written the status of the last routes: it is at rest then.
async fn settled(others: &[Namespace]) -> Result<()> {
    for (index, namespace) in others.iter().enumerate() {
        let name = format!("crowd-{}", LARGE - others.len() + index);
        let last = (LARGE - others.len()..LARGE).find(|number| number % others.len() == index);
        let name = last.map_or(name, |number| format!("crowd-{number}"));
        eventually(PATIENCE, &format!("the status of {name}"), async || {
            let route = namespace.get("HTTPRoute", &name).await?;
            ensure!(route.data["status"]["parents"][0].is_object(), "it has none");
            Ok(())
        })
        .await?;
    }
    Ok(())
}
