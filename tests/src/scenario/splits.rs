//! Scenario 3: even and weighted splits over several backends, after Kong's walk-through.

use anyhow::Result;

use super::{Scenario, Stage, WELL};
use crate::lab::{Request, Workload};

pub(super) fn scenario() -> Scenario {
    Scenario {
        number: 3,
        title: "Even and weighted splits",
        story: "Kong's walk-through: one rule with two backends, 200 requests each time. A \
                backend's share is its weight over the sum of the rule's weights.",
        set,
        play,
    }
}

fn set(stage: &mut Stage<'_>) -> Result<()> {
    stage.scenery("3-weighted-splits/services.yaml")?;
    let workload = |app: &str| Workload::new(app, app, "splits").on_port(1027);
    stage.workloads("splits", &[workload("echo"), workload("echo2")])?;
    stage.clients(&["splits"])
}

fn play(stage: &mut Stage<'_>) -> Result<()> {
    let request = Request::get("http://echo:1027/");
    stage.apply("3-weighted-splits/even.yaml")?;
    stage.expect("splits", &request, 200, &[("echo", 0.5), ("echo2", 0.5)])?;
    stage.apply("3-weighted-splits/weighted.yaml")?;
    stage.expect("splits", &request, 200, &[("echo", 2.0 / 3.0), ("echo2", 1.0 / 3.0)])?;
    stage.apply("3-weighted-splits/zero.yaml")?;
    stage.expect("splits", &request, 200, &[("echo", 1.0), ("echo2", 0.0)])?;
    stage.expect_status("splits", "echo-split", WELL)?;
    stage.apply("3-weighted-splits/weighted.yaml")
}
