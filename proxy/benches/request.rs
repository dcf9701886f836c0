//! The parts of a request that are Weft's own: the endpoint, and what is recorded.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use divan::{Bencher, black_box};
use weft_gamma::endpoints::Endpoint;
use weft_proxy::bench::Balancer;
use weft_proxy::metrics::{Metrics, MetricsSettings, Outcome, RouteLabels};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

#[divan::bench(args = [2, 100, 10_000])]
fn pick(bencher: Bencher, endpoints: u16) {
    let endpoint = |number: u16| {
        let [high, low] = number.to_be_bytes();
        Endpoint { addr: SocketAddr::from(([10, 244, high, low], 9080)), target: None }
    };
    let balancer = Balancer::new((0..endpoints).map(endpoint).collect());
    let now = Instant::now();
    assert!(balancer.pick(now));
    bencher.bench_local(|| balancer.pick(black_box(now)));
}

#[divan::bench]
fn record(bencher: Bencher) {
    let metrics = Metrics::new(&MetricsSettings::default());
    let series = metrics.route(RouteLabels::default());
    let outcome = Outcome { status: 200, grpc_status: None, reason: "" };
    bencher.bench(|| series.record(black_box(outcome), black_box(Duration::from_micros(700))));
}
