//! What a change of routes costs the control thread: everything is resolved and compiled anew.

use divan::Bencher;
use serde_json::json;
use weft_gamma::object::{self, Objects};
use weft_gamma::resolve::Settings;
use weft_proxy::metrics::{Metrics, MetricsSettings};
use weft_proxy::pod::Pod;
use weft_proxy::table::Compiler;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

/// Ten Services, and routes spread over them: a header match and a split each.
#[divan::bench(args = [10, 100, 1_000, 10_000], sample_count = 10)]
fn compile(bencher: Bencher, routes: usize) {
    let objects = objects(routes);
    let metrics = Metrics::new(&MetricsSettings::default());
    let pod = Pod { namespace: "default".to_owned(), ..Pod::default() };
    let mut compiler = Compiler::new(pod, Settings::default(), metrics);
    assert_eq!(compiler.compile(&objects, None).table.len(), 10);
    bencher.bench_local(|| compiler.compile(&objects, None));
}

fn objects(routes: usize) -> Objects {
    let service = |number: usize| {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": format!("service-{number}"), "namespace": "default"},
            "spec": {
                "clusterIP": format!("10.96.0.{}", number + 1),
                "ports": [{"name": "http", "port": 9080}],
            },
        })
    };
    let route = |number: usize| {
        let parent = format!("service-{}", number % 10);
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": format!("route-{number}"), "namespace": "default"},
            "spec": {
                "parentRefs": [{"group": "", "kind": "Service", "name": parent, "port": 9080}],
                "rules": [{
                    "matches": [{"headers": [
                        {"name": "end-user", "value": format!("user-{number}")},
                    ]}],
                    "backendRefs": [
                        {"name": "service-0", "port": 9080, "weight": 90},
                        {"name": "service-1", "port": 9080, "weight": 10},
                    ],
                }],
            },
        })
    };
    let mut objects = Objects::default();
    for document in (0..10).map(service).chain((0..routes).map(route)) {
        for object in object::decode(document).objects {
            objects.insert(object);
        }
    }
    objects
}
