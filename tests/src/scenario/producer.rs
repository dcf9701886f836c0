//! Scenario 6: routes of a Service's owner and of its users, after Kong Mesh's walk-through.

use anyhow::Result;

use super::{Scenario, Stage, WELL};
use crate::lab::{Request, Workload};

const LONG_NAMESPACE: &str = "a-namespace-whose-name-is-as-long-as-the-api-permits-xxxxxxxxxx";
const LONG_SERVICE: &str = "a-service-whose-name-is-as-long-as-the-api-permits-xxxxxxxxxxxx";

const LONG_ROUTE: &str = "a-route-whose-name-is-long-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

pub(super) fn scenario() -> Scenario {
    Scenario {
        number: 6,
        title: "Producer and consumer routes",
        story: "Kong Mesh's walk-through: a route in the Service's namespace holds for all \
                clients, one in another namespace for that namespace's only. A parent without a \
                group and names of 63 characters work.",
        set,
        play,
    }
}

fn set(stage: &mut Stage<'_>) -> Result<()> {
    stage.scenery("6-producer-and-consumer/services.yaml")?;
    let workload = |app, version, namespace| Workload::new(app, version, namespace).on_port(5000);
    stage.workloads(
        "demo-app",
        &[
            workload("demo-app", "v1", "kuma-demo"),
            workload("demo-app", "v2", "kuma-demo"),
            workload("long-v1", "v1", LONG_NAMESPACE),
            workload("long-v2", "v2", LONG_NAMESPACE),
        ],
    )?;
    stage.clients(&["kuma-demo", "frontend", LONG_NAMESPACE])
}

fn play(stage: &mut Stage<'_>) -> Result<()> {
    let request = Request::get("http://demo-app.kuma-demo:5000/");
    let producer = [("v1", 0.9), ("v2", 0.1)];
    stage.say("The owner's route. Its author left out the parent's group.");
    stage.apply("6-producer-and-consumer/producer.yaml")?;
    stage.expect("kuma-demo", &request, 300, &producer)?;
    stage.expect("frontend", &request, 300, &producer)?;
    stage.expect_status("kuma-demo", "canary-demo-app", WELL)?;

    stage.say("A route of the namespace frontend on the same Service.");
    stage.apply("6-producer-and-consumer/consumer.yaml")?;
    stage.expect("frontend", &request, 200, &[("v2", 1.0)])?;
    stage.expect_status("frontend", "frontend-wants-v2", WELL)?;
    stage.expect("kuma-demo", &request, 300, &producer)?;
    stage.delete("HTTPRoute", "frontend", "frontend-wants-v2")?;
    stage.expect("frontend", &request, 300, &producer)?;

    stage.say("A backend that does not exist costs its own share.");
    stage.apply("6-producer-and-consumer/missing-backend.yaml")?;
    stage.expect("kuma-demo", &request, 200, &[("v1", 0.75), ("500", 0.25)])?;
    stage.expect_refusal("kuma-demo", "canary-demo-app", "demo-app-v3")?;
    let not_found = "Accepted=True Accepted, ResolvedRefs=False BackendNotFound";
    stage.expect_status("kuma-demo", "canary-demo-app", not_found)?;
    stage.apply("6-producer-and-consumer/producer.yaml")?;

    stage.say("Names of 63 characters.");
    stage.apply("6-producer-and-consumer/long-names.yaml")?;
    let long = Request::get(&format!("http://{LONG_SERVICE}.{LONG_NAMESPACE}.svc:5000/"));
    stage.expect(LONG_NAMESPACE, &long, 100, &[("v2", 1.0)])?;
    stage.expect("frontend", &long, 100, &[("v2", 1.0)])?;
    stage.expect_status(LONG_NAMESPACE, LONG_ROUTE, WELL)
}
