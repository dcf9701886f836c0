//! Scenario 4: backends in other namespaces need a ReferenceGrant, after Kong's walk-through.

use anyhow::Result;

use super::{Scenario, Stage, WELL};
use crate::lab::{Request, Workload};

/// The route works, but for a backend that nobody lent.
const FORBIDDEN: &str = "Accepted=True Accepted, ResolvedRefs=False RefNotPermitted";

pub(super) fn scenario() -> Scenario {
    Scenario {
        number: 4,
        title: "Backends in other namespaces need a grant",
        story: "Kong's walk-through: a route of infra sends 30 % to bananas and 70 % to apples. \
                Without the other namespace's ReferenceGrant a backend's share answers 500.",
        set,
        play,
    }
}

fn set(stage: &mut Stage<'_>) -> Result<()> {
    stage.scenery("4-reference-grants/services.yaml")?;
    let bananas = Workload::new("bananas-echo", "bananas", "bananas").on_port(1027);
    let apples = Workload::new("apples-echo", "apples", "apples").on_port(1027);
    stage.workloads("fruits", &[bananas, apples])?;
    stage.clients(&["infra"])
}

fn play(stage: &mut Stage<'_>) -> Result<()> {
    let request = Request::get("http://echo:1027/fruits/fresh");
    stage.apply("4-reference-grants/route.yaml")?;
    stage.expect("infra", &request, 100, &[("500", 1.0)])?;
    stage.expect_refusal("infra", "echo-route", "ReferenceGrant")?;
    stage.expect_status("infra", "echo-route", FORBIDDEN)?;

    stage.apply("4-reference-grants/grant-bananas.yaml")?;
    stage.expect("infra", &request, 200, &[("bananas", 0.3), ("500", 0.7)])?;
    stage.expect_status("infra", "echo-route", FORBIDDEN)?;
    stage.apply("4-reference-grants/grant-apples.yaml")?;
    stage.expect("infra", &request, 200, &[("bananas", 0.3), ("apples", 0.7)])?;
    stage.expect_status("infra", "echo-route", WELL)?;
    stage.say("A grant that goes takes effect at once, without a restart.");
    stage.delete("ReferenceGrant", "bananas", "grant-bananas")?;
    stage.expect("infra", &request, 200, &[("500", 0.3), ("apples", 0.7)])?;
    stage.expect_status("infra", "echo-route", FORBIDDEN)?;
    stage.apply("4-reference-grants/grant-bananas.yaml")?;
    stage.say("Another path has no rule.");
    stage.expect("infra", &Request::get("http://echo:1027/fruitsalad"), 20, &[("404", 1.0)])
}
