//! The API server is away for a minute.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use weft_e2e::rate::Load;
use weft_e2e::{PATIENCE, Server, eventually, figure, node, run, web};
use weft_tests::lab::metrics::{samples, sum};

use crate::away::{self, Outage};
use crate::clock::now;
use crate::route::{marked_route, saw_edit};

const MINUTE: Duration = Duration::from_secs(60);
/// From the API server's return until everything is up to date. The longest pause of a watch is 5 s;
/// the rest is for a busy machine.
const CATCHING_UP: Duration = Duration::from_secs(15);

#[test]
fn the_api_server_is_away_for_a_minute() {
    run("outage", async |cluster| {
        if !node::is_own() {
            println!(
                "outage: skipped, as the API server of KUBECONFIG's cluster is not ours to stop"
            );
            return Ok(());
        }
        let shop = cluster.namespace("shop").await?;
        let grpc = Server::new("ratings", "v1").speaking("grpc");
        shop.servers(&[Server::new("reviews", "v1").replicas(2), grpc, Server::new("late", "v1")])
            .await?;
        shop.apply(&marked_route("reviews", 1)).await?;

        shop.create(late().pod()).await?;
        let known = [
            // Kept connections and new ones, to a Service with a route.
            shop.load(&reviews("http1").with(&["--reuse", "100"])).await?,
            shop.load(&reviews("http2").with(&["--protocol", "http2"])).await?,
            // Without a route.
            shop.load(&Load::new("grpc", 200, &["http://ratings"]).with(&["--protocol", "grpc"]))
                .await?,
        ];
        let late = shop.traffic_of("late-caller");
        late.pod.ready().await?;
        for one in &known[..2] {
            saw_edit(one, 1).await?;
        }
        let mut sidecars = Vec::new();
        for pod in known.iter().chain([&late]).map(|traffic| &traffic.pod) {
            sidecars.push((pod.name.clone(), pod.addresses().await?.swap_remove(0)));
        }

        let kubernetes = away::service(cluster).await?;

        let stopped = now();
        let (outage, began) = (Outage::begin()?, Instant::now());
        while began.elapsed() < MINUTE {
            for (name, address) in &sidecars {
                let (status, text) = web::get(&format!("http://{address}:15020/readyz")).await?;
                ensure!(status == 200, "readiness of {name} has flipped: {status} {text}");
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        for (name, address) in &sidecars {
            let view = View::of(address).await?;
            println!("outage: after {:.0?}, {name} has {view:?}", began.elapsed());
            ensure!(view.connected == 0.0, "{name} does not notice that the API server is away");
            // The last bookmark may have come just before.
            ensure!(view.age > MINUTE.as_secs_f64() - 5.0, "{name} is only {} s old", view.age);
        }
        let (_, late_sidecar) = &sidecars[known.len()];
        ensure!(requests_to_late(late_sidecar).await? == 0.0, "who has told of the late Service?");
        drop(outage);
        away::reachable(&kubernetes).await?;

        let back = now();
        // As soon as the API server answers somebody edits the route.
        eventually(PATIENCE, "the API server to be back", async || {
            shop.apply(&marked_route("reviews", 2)).await
        })
        .await?;
        let mut effects = Vec::new();
        for one in &known[..2] {
            effects.push(saw_edit(one, 2).await? - back);
        }
        for (name, address) in &sidecars {
            eventually(CATCHING_UP, &format!("{name} to be up to date"), async || {
                let view = View::of(address).await?;
                ensure!(view.connected == 1.0 && view.age < 30.0, "{view:?}");
                Ok(())
            })
            .await?;
        }
        // What was unknown then is a Service like any other now.
        eventually(CATCHING_UP, "the late Service to be known", async || {
            ensure!(requests_to_late(late_sidecar).await? > 0.0, "it is not");
            Ok(())
        })
        .await?;
        let caught_up = now() - back;
        let effect = effects.into_iter().fold(0.0, f64::max);
        let what = "from the API server's return after a minute to";
        figure(&format!("{what} a new edit's effect"), &format!("{effect:.1} s"), "seconds")?;
        figure(
            &format!("{what} all sidecars up to date"),
            &format!("{caught_up:.1} s"),
            "seconds",
        )?;
        ensure!(effect < CATCHING_UP.as_secs_f64(), "the edit took effect after {effect:.1} s");

        let began = late.seen().await?.began;
        ensure!(stopped < began && began < back, "the late pod has not begun during the outage");
        for one in known.iter().chain([&late]) {
            let report = one.goes_on(100).await?;
            println!(
                "outage: {}: {} requests, {} failed, longest {:.0} ms",
                one.pod.name, report.done, report.failed, report.latency.max
            );
            ensure!(report.failed == 0, "{}: {:#?}", one.pod.name, report.failures);
        }
        Ok(())
    });
}

fn reviews(name: &str) -> Load {
    Load::new(name, 200, &["http://reviews"]).with(&["--watch-header", "x-edit"])
}

/// Sends nothing before the API server is away, when its sidecar cannot find out anything any more: as
/// long as it ends it may still answer, and a slow answer is not yet an outage.
fn late() -> Load {
    let asks = "curl --silent --insecure --max-time 2 --output /dev/null";
    let script = format!(
        "misses=0; while [ $misses -lt 20 ]; do \
         if {asks} https://$KUBERNETES_SERVICE_HOST/livez; then misses=0; \
         else misses=$((misses + 1)); fi; sleep 0.2; done"
    );
    Load::new("late-caller", 50, &["http://late"]).with(&["--reuse", "10"]).once(&script)
}

/// How many requests to the late Service a sidecar knows as such.
async fn requests_to_late(address: &str) -> Result<f64> {
    let metrics = samples(&web::get(&format!("http://{address}:15020/metrics")).await?.1);
    Ok(sum(&metrics, "weft_route_requests_total", &[("parent_name", "late")]))
}

/// What a sidecar says about its source.
#[derive(Debug)]
struct View {
    connected: f64,
    /// Seconds since what it knows was last known to be current.
    age: f64,
}

impl View {
    async fn of(address: &str) -> Result<View> {
        let (status, text) = web::get(&format!("http://{address}:15020/metrics")).await?;
        ensure!(status == 200, "{status} {text}");
        let metrics = samples(&text);
        let value = |name: &str| sum(&metrics, name, &[]);
        let synced = value("weft_source_last_sync_timestamp_seconds");
        Ok(View { connected: value("weft_source_connected"), age: now() - synced })
    }
}
