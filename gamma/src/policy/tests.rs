use std::time::Duration;

use super::{RetryConstraint, resolve};
use crate::object::{NamespacedName, Objects};
use crate::testing::decoded;

const SERVICES: &str = "
{apiVersion: v1, kind: Service, metadata: {name: one}, spec: {ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: two}, spec: {ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: one, namespace: other}, spec: {ports: [{port: 80}]}}
---
";

/// A policy in `default`; `created` is a day of January.
fn policy(name: &str, created: u8, spec: &str) -> String {
    format!(
        "apiVersion: gateway.networking.x-k8s.io/v1alpha1\nkind: XBackendTrafficPolicy\n\
         metadata: {{name: {name}, creationTimestamp: \"2026-01-{created:02}T00:00:00Z\"}}\n\
         spec: {spec}\n---\n"
    )
}

fn world(policies: &[String]) -> Objects {
    let mut objects = Objects::default();
    for object in decoded(&format!("{SERVICES}{}", policies.concat())).objects {
        objects.insert(object);
    }
    objects
}

fn service(name: &str) -> NamespacedName {
    NamespacedName { namespace: "default".to_owned(), name: name.to_owned() }
}

/// The verdicts on a policy: target, reason, message.
fn verdicts(objects: &Objects, policy: &str) -> Vec<(String, &'static str, String)> {
    let resolved = resolve(objects);
    let (_, verdicts) = resolved.verdicts.iter().find(|(key, _)| key.name == policy).unwrap();
    let told = verdicts.iter().map(|verdict| {
        let condition = &verdict.condition;
        assert_eq!(condition.kind.as_str(), "Accepted");
        assert_eq!(condition.status, condition.reason.as_str() == "Accepted");
        (verdict.target.name.clone(), condition.reason.as_str(), condition.message.clone())
    });
    told.collect()
}

const ONE: &str = "targetRefs: [{group: '', kind: Service, name: one}]";

#[test]
fn a_constraint_is_read_with_the_apis_defaults() {
    let seconds = Duration::from_secs;
    let default = RetryConstraint::default();
    for (constraint, expected) in [
        ("{}", default),
        ("{budget: {}, minRetryRate: {}}", default),
        ("{budget: {percent: 0}}", RetryConstraint { percent: 0, ..default }),
        ("{budget: {interval: 1h}}", RetryConstraint { interval: seconds(3600), ..default }),
        (
            "{budget: {percent: 100, interval: 1s}, minRetryRate: {count: 3, interval: 1m}}",
            RetryConstraint {
                percent: 100,
                interval: seconds(1),
                rate_count: 3,
                rate_interval: seconds(60),
            },
        ),
    ] {
        let spec = format!("{{{ONE}, retryConstraint: {constraint}}}");
        let objects = world(&[policy("p", 1, &spec)]);
        let resolved = resolve(&objects);
        assert_eq!(resolved.retries[&service("one")], expected, "{constraint}");
        assert_eq!(resolved.retries.len(), 1, "the Service of its namespace only");
    }
    // Nothing said is the same as the default said.
    let objects = world(&[policy("p", 1, &format!("{{{ONE}}}"))]);
    assert_eq!(resolve(&objects).retries[&service("one")], default);
}

#[test]
fn what_cannot_be_honoured_does_not_hold_and_says_why() {
    for (spec, field, message) in [
        ("sessionPersistence: {}", "spec.sessionPersistence", "not implemented"),
        ("circuitBreaker: {}", "spec.circuitBreaker", "unknown field"),
        ("retryConstraint: {budget: {percent: 101}}", ".budget.percent", "0 to 100"),
        ("retryConstraint: {budget: {percent: -1}}", ".budget.percent", "0 to 100"),
        ("retryConstraint: {budget: {interval: 500ms}}", ".budget.interval", "1s to 3600s"),
        ("retryConstraint: {budget: {interval: 61m}}", ".budget.interval", "1s to 3600s"),
        ("retryConstraint: {budget: {interval: soon}}", ".budget.interval", "such as 1m30s"),
        ("retryConstraint: {minRetryRate: {count: 0}}", ".minRetryRate.count", "1 to 1000000"),
        ("retryConstraint: {minRetryRate: {interval: 0s}}", ".minRetryRate.interval", "1ms to"),
        ("retryConstraint: {budget: {share: 1}}", ".budget.share", "unknown field"),
    ] {
        let spec = format!("{{{ONE}, {spec}}}");
        let objects = world(&[
            policy("bad", 1, &spec),
            policy("good", 2, &format!("{{{ONE}, retryConstraint: {{budget: {{percent: 5}}}}}}")),
        ]);
        let [(target, reason, told)] = &verdicts(&objects, "bad")[..] else { panic!("{spec}") };
        assert_eq!((target.as_str(), *reason), ("one", "Invalid"));
        assert!(told.contains(field) && told.contains(message), "{told}");
        // It takes nothing from another, though it is older.
        assert_eq!(verdicts(&objects, "good")[0].1, "Accepted");
        assert_eq!(resolve(&objects).retries[&service("one")].percent, 5);
    }
}

#[test]
fn only_services_that_exist_can_be_targets() {
    let spec = "{targetRefs: [\
         {group: '', kind: Service, name: one}, {group: '', kind: Service, name: missing},\
         {group: example.com, kind: Service, name: two}, {group: '', kind: Pod, name: two},\
         {group: '', kind: Service, name: one}]}";
    let objects = world(&[policy("p", 1, spec)]);
    let verdicts = verdicts(&objects, "p");
    let reasons: Vec<_> = verdicts.iter().map(|(_, reason, _)| *reason).collect();
    assert_eq!(reasons, ["Accepted", "TargetNotFound", "Invalid", "Invalid"]);
    assert!(verdicts[1].2.contains("Service default/missing"), "{}", verdicts[1].2);
    assert!(verdicts[3].2.contains("Pod") && verdicts[3].2.contains("only a Service"));
    assert_eq!(resolve(&objects).retries.keys().collect::<Vec<_>>(), [&service("one")]);
}

#[test]
fn a_policy_without_targets_is_told_in_the_log_at_least() {
    let text = policy("p", 1, "{targetRefs: []}");
    let decoded = decoded(&text);
    assert!(decoded.problems[0].to_string().contains("spec.targetRefs"), "{:?}", decoded.problems);
    assert_eq!(verdicts(&world(&[text]), "p"), []);
}

#[test]
fn of_several_policies_the_oldest_holds() {
    let percent =
        |percent: u8| format!("{{{ONE}, retryConstraint: {{budget: {{percent: {percent}}}}}}}");
    let both = "{targetRefs: [{group: '', kind: Service, name: one}, \
                {group: '', kind: Service, name: two}]}";
    let objects = world(&[
        policy("a-young", 3, both),
        policy("b-old", 2, &percent(7)),
        policy("a-old", 2, &percent(6)),
    ]);
    assert_eq!(resolve(&objects).retries[&service("one")].percent, 6, "of one age, by name");
    assert_eq!(verdicts(&objects, "a-old")[0].1, "Accepted");
    let [(_, reason, message)] = &verdicts(&objects, "b-old")[..] else { panic!() };
    assert_eq!(
        (*reason, message.as_str()),
        ("Conflicted", "default/a-old, which comes first, holds for default/one")
    );
    // Each target on its own.
    let reasons: Vec<_> = verdicts(&objects, "a-young").into_iter().map(|it| it.1).collect();
    assert_eq!(reasons, ["Conflicted", "Accepted"]);
}
