use std::process::ExitStatus;

use weft_tests::load::{Failure, Report};

use super::Run;
use crate::churn::Done;
use crate::lanes::{LANES, Outcome};
use crate::sample::Sample;

/// A run of a minute in which all is well, with a pod killed at 100.
fn run() -> Run {
    let sample = |at| Sample { at, resident_bytes: 2e7, descriptors: 20.0, ..Sample::default() };
    let outcome = |lane: &'static crate::lanes::Lane| Outcome {
        lane,
        report: Report { done: (lane.rate * 60.0) as u64, ..Report::default() },
    };
    Run {
        idle: sample(0.0),
        samples: (1..=30).map(|number| sample(f64::from(number) * 2.0)).collect(),
        calm: sample(70.0),
        lanes: LANES.iter().map(outcome).collect(),
        churn: Done { changes: [("kill", 1)].into(), kills: vec![100.0], ..Done::default() },
        log: String::new(),
        status: None,
        ended: Some(ExitStatus::default()),
    }
}

fn missed(run: &Run) -> Vec<&'static str> {
    run.judge().into_iter().filter(|it| !it.met).map(|it| it.name).collect()
}

/// Adds a failure to the first lane that may break, or that may not.
fn fail(run: &mut Run, breaks: bool, at: f64, what: &str) {
    let outcome = run.lanes.iter_mut().find(|it| it.lane.breaks == breaks).unwrap();
    let (url, what) = (String::new(), what.to_owned());
    outcome.report.failures.push(Failure { at, url, earlier: 0, what });
    outcome.report.failed += 1;
}

#[test]
fn a_good_run_misses_nothing() {
    assert!(missed(&run()).is_empty(), "{:?}", run().judge());
}

#[test]
fn what_a_dying_pod_breaks_is_provoked_and_nothing_else() {
    const UNPROVOKED: &str = "failed requests that nothing provoked";
    for (breaks, at, what, provoked) in [
        (true, 100.1, "503 backend_closed the endpoint", true),
        (true, 100.1, "14  the endpoint", true),
        (true, 102.0, "in the body: end of file", true),
        // Another request, another time, another reason.
        (false, 100.1, "503 backend_closed the endpoint", false),
        (true, 99.9, "503 backend_closed the endpoint", false),
        (true, 103.5, "503 backend_closed the endpoint", false),
        (true, 100.1, "503 connect_failed no endpoint", false),
        (true, 100.1, "no answer in 30000 ms", false),
        (true, 100.1, "13  h2 protocol error", false),
    ] {
        let mut run = run();
        fail(&mut run, breaks, at, what);
        let expected: &[&str] = if provoked { &[] } else { &[UNPROVOKED] };
        assert_eq!(missed(&run), expected, "{breaks} {at} {what}");
    }
    let mut run = run();
    run.lanes[0].report.failed = 1;
    assert_eq!(missed(&run), [UNPROVOKED], "one that was not told");
}

#[test]
fn a_pods_death_breaks_no_more_than_is_under_way() {
    let mut run = run();
    for _ in 0..100 {
        fail(&mut run, true, 100.1, "503 backend_closed the endpoint");
    }
    assert_eq!(missed(&run), ["requests that one pod's death broke"]);
}

#[test]
fn each_criterion_can_be_missed() {
    type Spoil = fn(&mut Run);
    let cases: [(&str, Spoil); 8] = [
        ("every lane keeps its pace", |run| run.lanes[3].report.done /= 3),
        ("growth of resident memory", |run| {
            for sample in &mut run.samples {
                sample.resident_bytes += sample.at * 1e6;
            }
        }),
        ("descriptors when idle again", |run| run.calm.descriptors += 1.0),
        ("connections and streams when idle again", |run| run.calm.streams = 1.0),
        ("threads when idle again", |run| run.calm.threads = 1.0),
        ("panics in the log", |run| run.log = "thread 'worker-0' panicked at".to_owned()),
        ("its end, once told to", |run| run.ended = None),
        ("restarts", |run| run.samples[29].started = 1.0),
    ];
    for (name, spoil) in cases {
        let mut run = run();
        spoil(&mut run);
        assert_eq!(missed(&run), [name]);
    }
}
