use weft_gamma::condition::{ConditionType, Reason};
use weft_gamma::reference::ParentRef;

use super::*;

const NOW: &str = "2026-11-21T10:00:00Z";
const EARLIER: &str = "2026-11-20T08:00:00Z";

fn service(name: &str) -> ParentRef {
    ParentRef {
        index: 0,
        group: Some(String::new()),
        kind: Some("Service".to_owned()),
        namespace: None,
        name: name.to_owned(),
        port: None,
        section_name: None,
    }
}

fn raw(name: &str) -> Value {
    json!({ "group": "", "kind": "Service", "name": name })
}

fn verdict(parent: ParentRef) -> Verdict {
    let condition =
        |kind, reason| Condition { kind, status: true, reason, message: "m".to_owned() };
    let accepted = condition(ConditionType::Accepted, Reason::Accepted);
    let resolved = condition(ConditionType::ResolvedRefs, Reason::ResolvedRefs);
    Verdict { parent, conditions: vec![accepted, resolved] }
}

fn of(verdicts: &[Verdict]) -> Report {
    Report::Route(verdicts.to_vec())
}

fn condition_json(kind: &str, status: &str, generation: i64, since: &str) -> Value {
    json!({
        "type": kind,
        "status": status,
        "reason": kind,
        "message": "m",
        "observedGeneration": generation,
        "lastTransitionTime": since,
    })
}

fn own_entry(parent: Value, conditions: Value) -> Value {
    json!({ "parentRef": parent, "controllerName": CONTROLLER_NAME, "conditions": conditions })
}

fn written(generation: i64, since: &str) -> Value {
    json!([
        condition_json("Accepted", "True", generation, since),
        condition_json("ResolvedRefs", "True", generation, since),
    ])
}

fn route(parents: Value, status: Value) -> Value {
    json!({
        "metadata": { "generation": 3 },
        "spec": { "parentRefs": parents },
        "status": { "parents": status },
    })
}

#[test]
fn the_first_write_has_everything() {
    let route = json!({
        "metadata": { "generation": 3 },
        "spec": { "parentRefs": [raw("reviews")] },
    });
    let parents = merge(&route, &of(&[verdict(service("reviews"))]), NOW).expect("a difference");
    assert_eq!(parents, json!([own_entry(raw("reviews"), written(3, NOW))]));
}

#[test]
fn what_is_written_already_is_no_difference() {
    let entry = own_entry(raw("reviews"), written(3, EARLIER));
    let route = route(json!([raw("reviews")]), json!([entry]));
    assert_eq!(merge(&route, &of(&[verdict(service("reviews"))]), NOW), None);
}

#[test]
fn a_new_generation_keeps_the_time_of_the_last_transition() {
    let entry = own_entry(raw("reviews"), written(2, EARLIER));
    let route = route(json!([raw("reviews")]), json!([entry]));
    let parents = merge(&route, &of(&[verdict(service("reviews"))]), NOW).expect("a difference");
    assert_eq!(parents, json!([own_entry(raw("reviews"), written(3, EARLIER))]));
}

#[test]
fn a_changed_status_has_a_new_time_and_the_other_condition_keeps_its_own() {
    let entry = own_entry(
        raw("reviews"),
        json!([
            condition_json("Accepted", "True", 3, EARLIER),
            condition_json("ResolvedRefs", "False", 3, EARLIER),
        ]),
    );
    let route = route(json!([raw("reviews")]), json!([entry]));
    let parents = merge(&route, &of(&[verdict(service("reviews"))]), NOW).expect("a difference");
    assert_eq!(parents[0]["conditions"][0]["lastTransitionTime"], EARLIER);
    assert_eq!(parents[0]["conditions"][1]["lastTransitionTime"], NOW);
}

#[test]
fn entries_of_other_controllers_stay_as_and_where_they_are() {
    let foreign = json!({
        "parentRef": { "name": "gateway" },
        "controllerName": "example.com/gateway",
        "conditions": [{ "type": "Accepted", "status": "Unknown", "odd": { "field": 1 } }],
    });
    // Even one about the same Service.
    let same_parent = json!({
        "parentRef": raw("reviews"), "controllerName": "example.com/mesh", "conditions": [],
    });
    let old = json!([foreign, own_entry(raw("gone"), written(2, EARLIER)), same_parent]);
    let route = route(json!([{ "name": "gateway" }, raw("reviews")]), old);
    let parents = merge(&route, &of(&[verdict(ParentRef { index: 1, ..service("reviews") })]), NOW)
        .expect("a difference");
    assert_eq!(parents, json!([foreign, same_parent, own_entry(raw("reviews"), written(3, NOW))]));
}

#[test]
fn own_entries_without_a_parent_in_the_spec_go_and_nothing_else() {
    let old = json!([own_entry(raw("reviews"), written(2, EARLIER))]);
    let route = route(json!([{ "name": "gateway" }]), old);
    assert_eq!(merge(&route, &of(&[]), NOW), Some(json!([])));
}

#[test]
fn a_route_that_is_not_ours_is_not_written() {
    assert_eq!(merge(&route(json!([{ "name": "gateway" }]), Value::Null), &of(&[]), NOW), None);
    assert_eq!(merge(&json!({ "spec": {} }), &of(&[]), NOW), None);
}

#[test]
fn foreign_condition_types_in_own_entries_stay_and_own_ones_that_are_over_go() {
    let foreign = json!({ "type": "example.com/Checked", "status": "True" });
    let entry = own_entry(
        raw("reviews"),
        json!([
            condition_json("PartiallyInvalid", "True", 2, EARLIER),
            foreign,
            condition_json("Accepted", "True", 2, EARLIER),
        ]),
    );
    let route = route(json!([raw("reviews")]), json!([entry]));
    let parents = merge(&route, &of(&[verdict(service("reviews"))]), NOW).expect("a difference");
    let conditions = json!([
        foreign,
        condition_json("Accepted", "True", 3, EARLIER),
        condition_json("ResolvedRefs", "True", 3, NOW),
    ]);
    assert_eq!(parents, json!([own_entry(raw("reviews"), conditions)]));
}

#[test]
fn a_condition_that_has_observed_a_newer_generation_is_left_alone() {
    let entry = own_entry(
        raw("reviews"),
        json!([
            condition_json("Accepted", "False", 4, EARLIER),
            condition_json("ResolvedRefs", "True", 4, EARLIER),
        ]),
    );
    let stale = own_entry(raw("added-since"), written(4, EARLIER));
    let route = route(json!([raw("reviews")]), json!([entry, stale]));
    assert_eq!(merge(&route, &of(&[verdict(service("reviews"))]), NOW), None);
}

#[test]
fn a_parent_ref_is_copied_to_the_letter() {
    let parent = json!({
        "group": "", "kind": "Service", "namespace": "shop", "name": "reviews", "port": 9080,
        "sectionName": "http",
    });
    let decoded = ParentRef {
        namespace: Some("shop".to_owned()),
        port: Some(9080),
        section_name: Some("http".to_owned()),
        ..service("reviews")
    };
    let route = route(json!([parent]), Value::Null);
    let parents = merge(&route, &of(&[verdict(decoded)]), NOW).expect("a difference");
    assert_eq!(parents[0]["parentRef"], parent);
}

#[test]
fn parents_of_one_service_are_told_apart_by_their_place() {
    let with_port =
        |port: u16| json!({ "group": "", "kind": "Service", "name": "a", "port": port });
    let decoded = |index: usize, port: Option<u16>| ParentRef { index, port, ..service("a") };
    // What cannot be read has no verdict, and keeps its place.
    let spec = json!([with_port(1), { "kind": "Service" }, with_port(2), raw("a")]);
    let route = route(spec, Value::Null);
    let verdicts =
        [verdict(decoded(0, Some(1))), verdict(decoded(2, Some(2))), verdict(decoded(3, None))];
    let parents = merge(&route, &of(&verdicts), NOW).expect("a difference");
    let refs: Vec<&Value> = items(&parents).iter().map(|it| &it["parentRef"]).collect();
    assert_eq!(refs, [&with_port(1), &with_port(2), &raw("a")]);
}

#[test]
fn defaults_that_the_api_server_fills_in_are_no_difference() {
    // Without a group, which the API server fills in.
    let spec = json!({ "kind": "Service", "name": "reviews" });
    let filled = json!({ "group": DEFAULT_GROUP, "kind": "Service", "name": "reviews" });
    let decoded = ParentRef { group: None, ..service("reviews") };
    let entry = own_entry(filled, written(3, EARLIER));
    let route = route(json!([spec]), json!([entry]));
    let parents = merge(&route, &of(&[verdict(decoded)]), NOW);
    assert_eq!(parents, None);
}

fn policy_verdict(name: &str, reason: Reason) -> PolicyVerdict {
    let target = PolicyTarget { group: String::new(), kind: "Service".into(), name: name.into() };
    let status = reason == Reason::Accepted;
    let condition =
        Condition { kind: ConditionType::Accepted, status, reason, message: "m".to_owned() };
    PolicyVerdict { target, condition }
}

fn ancestor(controller: &str, name: &str, conditions: Value) -> Value {
    json!({
        "ancestorRef": { "group": "", "kind": "Service", "namespace": "shop", "name": name },
        "controllerName": controller,
        "conditions": conditions,
    })
}

#[test]
fn a_policy_has_an_entry_for_each_of_its_targets() {
    let foreign = ancestor("example.com/other", "reviews", json!([]));
    let policy = |ancestors: Value| {
        json!({
            "metadata": { "namespace": "shop", "generation": 3 },
            "status": { "ancestors": ancestors },
        })
    };
    let gone = ancestor(CONTROLLER_NAME, "gone", written(2, EARLIER));
    let report = Report::Policy(vec![
        policy_verdict("reviews", Reason::Accepted),
        policy_verdict("ratings", Reason::PolicyConflicted),
    ]);
    let ancestors = merge(&policy(json!([foreign, gone])), &report, NOW).expect("a difference");
    let mut conflicted = condition_json("Accepted", "False", 3, NOW);
    conflicted["reason"] = json!("Conflicted");
    let accepted = condition_json("Accepted", "True", 3, NOW);
    let expected = json!([
        foreign,
        ancestor(CONTROLLER_NAME, "reviews", json!([accepted])),
        ancestor(CONTROLLER_NAME, "ratings", json!([conflicted])),
    ]);
    assert_eq!(ancestors, expected);
    assert_eq!(merge(&policy(expected), &report, NOW), None);
}

/// "A maximum of 16 ancestors will be represented in this list. […] If this slice is full,
/// implementations MUST NOT add further entries."
#[test]
fn a_full_list_of_ancestors_gets_no_more() {
    let others: Vec<Value> =
        (0..15).map(|n| ancestor(&format!("example.com/{n}"), "reviews", json!([]))).collect();
    let policy = json!({
        "metadata": { "namespace": "shop", "generation": 3 },
        "status": { "ancestors": others },
    });
    let targets = ["one", "two"].map(|name| policy_verdict(name, Reason::Accepted));
    let ancestors = merge(&policy, &Report::Policy(targets.to_vec()), NOW).expect("a difference");
    assert_eq!(ancestors.as_array().expect("a list").len(), 16);
    assert_eq!(ancestors[15]["ancestorRef"]["name"], "one");
}
