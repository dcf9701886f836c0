use super::{MIB, Sample, Trend};

/// Samples every two seconds for so many minutes, of so many MiB.
fn memory(minutes: u32, mib: impl Fn(f64) -> f64) -> Vec<Sample> {
    let at = (1..minutes * 30).map(|number| f64::from(number) * 2.0);
    let sample = |at| Sample { at, resident_bytes: mib(at) * MIB, ..Sample::default() };
    at.map(sample).collect()
}

/// What comes and goes with the load: up to 2 MiB, slowly and quickly.
fn noise(at: f64) -> f64 {
    1.2 * (at / 17.0).sin() + 0.8 * (at * 1.7).cos()
}

#[test]
fn a_slope_is_what_it_is() {
    let trend = Trend::of(&memory(30, |at| 20.0 + at / 3600.0 * 7.0)).unwrap();
    assert!((trend.slope - 7.0).abs() < 0.05 && trend.error < 0.05, "{trend:?}");
    assert!((trend.seconds - 1498.0).abs() < 1.0, "all but the first five minutes: {trend:?}");
}

#[test]
fn noise_is_no_leak() {
    for minutes in [1, 2, 5, 10, 60] {
        let trend = Trend::of(&memory(minutes, |at| 20.0 + noise(at))).unwrap();
        assert!(!trend.is_leak(), "{minutes}: {trend:?}");
    }
}

#[test]
fn warming_up_is_no_leak_and_neither_is_the_allocators_last_step() {
    let warming = memory(10, |at| 30.0 - 20.0 * (-at / 40.0).exp());
    assert!(!Trend::of(&warming).unwrap().is_leak());
    let step = memory(10, |at| if at < 450.0 { 20.0 } else { 20.5 });
    let trend = Trend::of(&step).unwrap();
    assert!(!trend.is_leak() && trend.resolution() > 10.0, "{trend:?}");
}

#[test]
fn a_leak_is_seen_through_the_noise() {
    // In MiB per hour: what such a run can tell.
    for (minutes, leak) in [(2, 1_000.0), (10, 100.0), (60, 5.0), (180, 2.0)] {
        let leaking = memory(minutes, |at| 20.0 + noise(at) + at / 3600.0 * leak);
        let trend = Trend::of(&leaking).unwrap();
        assert!(trend.is_leak() && trend.resolution() < leak * 1.5, "{minutes}: {trend:?}");
    }
}

#[test]
fn a_long_run_resolves_what_is_allowed() {
    let trend = Trend::of(&memory(180, |at| 20.0 + noise(at))).unwrap();
    assert!(trend.resolution() < 1.5, "{trend:?}");
}

#[test]
fn few_samples_tell_nothing() {
    assert!(Trend::of(&[]).is_none());
    assert!(Trend::of(&memory(1, |_| 1.0)[..2]).is_none());
}
