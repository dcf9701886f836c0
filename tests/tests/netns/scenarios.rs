//! The six scenarios of the demo, each alone in a lab of its own.

use weft_tests::lab::Lab;
use weft_tests::scenario::{Event, LabWorld, Stage, all};

/// Plays one scenario; every check that fails is named.
fn play(number: usize) {
    let lab = Lab::new().expect("a lab");
    let mut checks = 0;
    let mut audience = |event: Event| {
        checks += usize::from(matches!(event, Event::Counted(_) | Event::Compared(_)));
        println!("{event:?}");
    };
    let world = LabWorld::new(&lab);
    let mut stage = Stage::new(&world, &mut audience);
    let scenario = all().into_iter().find(|one| one.number == number).expect("a scenario");
    (scenario.set)(&mut stage).expect("the stage");
    (scenario.play)(&mut stage).expect("the play");
    assert!(stage.failures().is_empty(), "{:#?}", stage.failures());
    drop(stage);
    assert!(checks > 2, "only {checks} checks");
}

#[test]
fn header_canary() {
    play(1);
}

#[test]
fn a_second_route_merges() {
    play(2);
}

#[test]
fn weighted_splits() {
    play(3);
}

#[test]
fn backends_in_other_namespaces_need_a_grant() {
    play(4);
}

#[test]
fn path_prefix_and_header() {
    play(5);
}

#[test]
fn producer_and_consumer_routes() {
    play(6);
}
