//! A pod's address changes hands: what was one Service's endpoint is the next moment another's.

use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use weft_e2e::rate::Load;
use weft_e2e::{Namespace, PATIENCE, Server, eventually, figure, run, times, web};
use weft_tests::answer::Answer;
use weft_tests::lab::metrics::{samples, sum};

/// How often the address changes hands.
const SWAPS: (&str, u64) = ("WEFT_E2E_SWAPS", 100);
/// The Services.
const NAMES: [&str; 2] = ["red", "blue"];
/// The header that tells when a request was sent.
const MARK: &str = "x-mark";
/// Requests per second, of each kind.
const RATE: u32 = 100;
/// More than come to the address between two looks at it.
const LAST: u32 = 400;

/// Both Services have an endpoint that stays and lend each other a third: requests need not stop, and
/// kept connections to the third are there at every swap. Nothing ends in between, so a request over a
/// connection of the former owner's would be answered, and is found: it names its Service.
#[test]
fn an_address_that_changes_hands_gets_no_request_of_its_former_owner() {
    run("reuse", async |cluster| {
        let shop = cluster.namespace("shop").await?;
        let pods = ["one", "two", "third"];
        for name in pods {
            shop.apply_value(Server::new(name, "v1").workload()).await?;
        }
        let mut addresses = Vec::new();
        for name in pods {
            shop.available(&format!("{name}-v1")).await?;
            let pod = shop.pods(&format!("app={name}")).await?.remove(0).metadata.name;
            addresses.push(shop.pod(&pod.context("a name")?).addresses().await?.swap_remove(0));
        }
        let third = addresses.swap_remove(2);
        let world = World { shop, stay: addresses, third };
        for name in NAMES {
            world.shop.apply_value(service(name)).await?;
        }
        world.lend(0, true).await?;
        world.lend(1, false).await?;

        let loads = [
            Load::new("http1", RATE, &["http://red", "http://blue"]),
            Load::new("http2", RATE, &["http://red:81", "http://blue:81"])
                .with(&["--protocol", "http2"]),
        ];
        let mut traffic = Vec::new();
        for load in loads {
            traffic.push(world.shop.load(&load.with(&["--mark", MARK])).await?);
        }
        let mut sidecars = Vec::new();
        for one in &traffic {
            sidecars.push(one.pod.addresses().await?.swap_remove(0));
        }

        let swaps = times(SWAPS.0, SWAPS.1)?;
        world.arrives(0, 0, 2).await?;
        let mut wrong = Vec::new();
        // Since when a Service has not had the address.
        let mut without = [None, Some(now())];
        for swap in 0..swaps {
            let (from, to) = if swap % 2 == 0 { (0, 1) } else { (1, 0) };
            let before = published(&sidecars).await?;
            world.lend(from, false).await?;
            eventually(PATIENCE, "the sidecars to know that it is gone", async || {
                let after = published(&sidecars).await?;
                let all = after.iter().zip(&before).all(|(after, before)| after > before);
                ensure!(all, "published {after:?} times");
                Ok(())
            })
            .await?;
            without[from] = Some(now());
            wrong.extend(world.strangers(&without).await?);
            without[to] = None;
            let lent = now();
            world.lend(to, true).await?;
            // Of both kinds of traffic: the address is in use when it changes hands again.
            world.arrives(to, lent, 2).await?;
            wrong.extend(world.strangers(&without).await?);
        }
        let mut done = 0;
        for one in &traffic {
            let report = one.end().await?.report;
            ensure!(report.failed == 0, "{}: {:#?}", one.pod.name, report.failures);
            done += report.done;
        }
        figure(
            &format!("while an address changes hands {swaps} times"),
            &format!("{done} requests, {} to the former owner's", wrong.len()),
            "0 to the former owner's",
        )?;
        ensure!(wrong.is_empty(), "{:#?}", &wrong[..wrong.len().min(20)]);
        Ok(())
    });
}

struct World {
    shop: Namespace,
    /// The address that each Service keeps.
    stay: Vec<String>,
    /// The one that they lend each other.
    third: String,
}

impl World {
    /// Writes a Service's endpoints, with the address that is lent or without it.
    async fn lend(&self, service: usize, with: bool) -> Result<()> {
        let mut addresses = vec![&self.stay[service]];
        addresses.extend(with.then_some(&self.third));
        let endpoint =
            |address: &&String| json!({ "addresses": [address], "conditions": { "ready": true } });
        let name = NAMES[service];
        let port = |name: &str| json!({ "name": name, "port": 8080, "protocol": "TCP" });
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": { "name": name, "labels": { "kubernetes.io/service-name": name } },
            "addressType": "IPv4",
            "ports": [port("http"), port("http2")],
            "endpoints": addresses.iter().map(endpoint).collect::<Vec<_>>(),
        });
        self.shop.apply_value(slice).await?;
        Ok(())
    }

    /// The last requests to the address that is lent.
    async fn requests(&self) -> Result<Vec<Request>> {
        let (_, text) = web::get(&format!("http://{}:8080/seen?last={LAST}", self.third)).await?;
        text.lines().map(Request::parse).collect()
    }

    /// Waits for requests to a Service there that were sent after `since`, of so many kinds.
    async fn arrives(&self, service: usize, since: u64, kinds: usize) -> Result<()> {
        let name = NAMES[service];
        eventually(PATIENCE, &format!("requests to {name} at the address"), async || {
            let requests = self.requests().await?;
            let mine = requests.iter().filter(|it| it.service == name && it.sent > since);
            let mut ports: Vec<&str> = mine.map(|it| it.port.as_str()).collect();
            ports.sort_unstable();
            ports.dedup();
            ensure!(ports.len() == kinds, "only of {ports:?}");
            Ok(())
        })
        .await
    }

    /// Requests that were sent to a Service when every sidecar knew that it does not have the address,
    /// and came there all the same.
    async fn strangers(&self, without: &[Option<u64>; 2]) -> Result<Vec<String>> {
        let mut strangers = Vec::new();
        for request in self.requests().await? {
            let owner = NAMES.iter().position(|name| *name == request.service);
            let since = without[owner.context("of neither Service")?];
            if let Some(since) = since.filter(|since| request.sent >= *since) {
                strangers.push(format!("{request:?}, {} µs after", request.sent - since));
            }
        }
        Ok(strangers)
    }
}

/// A request as it came to the address.
#[derive(Debug)]
struct Request {
    /// The Service that it was sent to.
    service: String,
    /// Empty where it is HTTP's own.
    port: String,
    /// In microseconds since 1970.
    sent: u64,
}

impl Request {
    fn parse(line: &str) -> Result<Request> {
        let answer: Answer = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let (service, port) = answer.host.split_once(':').unwrap_or((&answer.host, ""));
        let mark = answer.header(MARK).first().and_then(|mark| mark.split_once('-'));
        let sent = mark.context("a request without a mark")?.0.parse()?;
        Ok(Request { service: service.to_owned(), port: port.to_owned(), sent })
    }
}

fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name },
        // Without a selector: the endpoints are the test's.
        "spec": {
            "ports": [
                { "name": "http", "port": 80, "targetPort": 8080 },
                {
                    "name": "http2",
                    "port": 81,
                    "targetPort": 8080,
                    "appProtocol": "kubernetes.io/h2c",
                },
            ],
        },
    })
}

/// How often each sidecar has taken up changes; what it has published holds for every request that
/// begins afterwards.
async fn published(sidecars: &[String]) -> Result<Vec<f64>> {
    try_join_all(sidecars.iter().map(|address| async move {
        let (_, text) = web::get(&format!("http://{address}:15020/metrics")).await?;
        Ok(sum(&samples(&text), "weft_table_publishes_total", &[]))
    }))
    .await
}

/// Microseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
