//! The six scenarios of the demo, with pods, Services and the API server instead of the lab: the same
//! manifests, requests and expectations, and the status of every route besides.

mod world;

use anyhow::{Result, ensure};
use weft_e2e::run;
use weft_tests::scenario::{Event, Stage, all};

use crate::world::ClusterWorld;

/// Plays scenarios one after the other on one stage; every check that fails is named.
fn play(name: &str, numbers: &[usize]) {
    run(name, async |cluster| {
        let world = ClusterWorld::new(cluster);
        // The scenarios are not async: they block this thread, and the runtime makes another.
        tokio::task::block_in_place(|| play_on(&world, numbers))
    });
}

fn play_on(world: &ClusterWorld<'_>, numbers: &[usize]) -> Result<()> {
    let mut checks = 0;
    let mut audience = |event: Event| {
        checks += usize::from(matches!(event, Event::Counted(_) | Event::Compared(_)));
        println!("{event:?}");
    };
    let mut stage = Stage::new(world, &mut audience);
    let scenarios = all().into_iter().filter(|one| numbers.contains(&one.number));
    for scenario in scenarios {
        (scenario.set)(&mut stage)?;
        (scenario.play)(&mut stage)?;
    }
    ensure!(stage.failures().is_empty(), "{:#?}", stage.failures());
    drop(stage);
    ensure!(checks > 2, "only {checks} checks");
    Ok(())
}

// The first two share their pods.
#[test]
fn header_canary_and_a_second_route_that_merges() {
    play("bookinfo", &[1, 2]);
}

#[test]
fn weighted_splits() {
    play("splits", &[3]);
}

#[test]
fn backends_in_other_namespaces_need_a_grant() {
    play("grants", &[4]);
}

#[test]
fn path_prefix_and_header() {
    play("prefix", &[5]);
}

#[test]
fn producer_and_consumer_routes() {
    play("producer", &[6]);
}
