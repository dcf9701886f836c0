//! What the conditions say of rules that cannot be used.

use super::*;
use crate::support::{IMPLEMENTED, Implemented};
use crate::testing::ALL;

const DEMO: &str = "[{group: '', kind: Service, namespace: default, name: demo}]";
const GOOD: &str = "{name: good, matches: [{path: {value: /good}}]}";
const UNKNOWN: &str = "{name: bad, matches: [{path: {value: /bad}}], filters: [{type: Magic}]}";
const REDIRECT_AND_REWRITE: &str =
    "{filters: [{type: RequestRedirect, requestRedirect: {}}, {type: URLRewrite, urlRewrite: {}}]}";

fn world(rules: &str) -> Objects {
    broken_objects(&documents(&[
        service("default/demo", "clusterIP: 10.0.0.1, ports: [{port: 80}]"),
        http_route("default/r", DEMO, rules),
    ]))
}

#[test]
fn all_rules_work() {
    let resolved = resolved(&world(&format!("[{GOOD}]")));
    let verdict = verdict(&resolved, "HTTPRoute default/r");
    assert_eq!(conditions(verdict), [ACCEPTED, RESOLVED], "PartiallyInvalid is only ever True");
    let attached = "attached to port 80 of Service default/demo";
    assert_eq!(message(verdict, ConditionType::Accepted), attached);
}

/// "Accepted=True if at least one rule works"; "message starting "Dropped Rule"".
#[test]
fn some_rules_are_refused() {
    let resolved = resolved(&world(&format!("[{UNKNOWN}, {GOOD}]")));
    let verdict = verdict(&resolved, "HTTPRoute default/r");
    assert_eq!(
        conditions(verdict),
        [ACCEPTED, RESOLVED, (ConditionType::PartiallyInvalid, true, Reason::UnsupportedValue),]
    );
    let message = message(verdict, ConditionType::PartiallyInvalid);
    let expected =
        "Dropped Rule spec.rules[0] (bad): spec.rules[0].filters[0].type: unknown variant `Magic`";
    assert!(message.starts_with(expected), "{message}");
    // The refused rule is not gone: what it matches is answered 500.
    let attached = &port(&resolved, "default/demo", 80).producer;
    assert_eq!(select(attached, "GET /bad"), "default/r[0]");
    assert_eq!(attached.rules[0].refusals.len(), 1);
    assert!(attached.rules[1].refusals.is_empty());
}

#[test]
fn all_rules_are_refused() {
    let table = [
        (format!("[{UNKNOWN}]"), Reason::UnsupportedValue),
        (format!("[{REDIRECT_AND_REWRITE}]"), Reason::IncompatibleFilters),
        (format!("[{REDIRECT_AND_REWRITE}, {UNKNOWN}]"), Reason::UnsupportedValue),
        ("7".to_owned(), Reason::UnsupportedValue),
    ];
    for (rules, reason) in table {
        let resolved = resolved(&world(&rules));
        let verdict = verdict(&resolved, "HTTPRoute default/r");
        assert_eq!(
            conditions(verdict),
            [(ConditionType::Accepted, false, reason), RESOLVED],
            "{rules}: PartiallyInvalid MUST NOT be set if a route is fully invalid"
        );
        let message = message(verdict, ConditionType::Accepted);
        assert!(message.starts_with("no rule can be used: spec.rules"), "{message}");
        // It stays attached: its requests are answered 500 and go nowhere else in silence.
        let attached = &port(&resolved, "default/demo", 80).producer;
        assert!(attached.rules.iter().all(|rule| !rule.refusals.is_empty()), "{rules}");
        assert!(!attached.rules.is_empty(), "{rules}");
    }
}

#[test]
fn incompatible_filters_in_some_rules() {
    let resolved = resolved(&world(&format!("[{GOOD}, {REDIRECT_AND_REWRITE}]")));
    assert_eq!(
        conditions(verdict(&resolved, "HTTPRoute default/r"))[2],
        (ConditionType::PartiallyInvalid, true, Reason::IncompatibleFilters)
    );
}

#[test]
fn an_invalid_pattern_is_an_unsupported_value() {
    let rules = "[{matches: [{path: {type: RegularExpression, value: '/('}}]}]";
    let resolved = resolved(&world(rules));
    assert_eq!(
        conditions(verdict(&resolved, "HTTPRoute default/r"))[0],
        (ConditionType::Accepted, false, Reason::UnsupportedValue)
    );
}

/// "A field that is parsed but not implemented: never silently ignored".
#[test]
fn what_is_not_implemented_refuses_its_rule() {
    let mirror = "{type: RequestMirror, requestMirror: {backendRef: {name: demo, port: 80}}}";
    let none = Implemented { mirror: false, cors: false, timeouts: false, retry: false };
    let table = [
        (
            format!("filters: [{mirror}]"),
            Implemented { mirror: false, ..ALL },
            "spec.rules[0].filters[0]: RequestMirror is not implemented; remove it",
        ),
        (
            format!("backendRefs: [{{name: demo, port: 80, filters: [{mirror}]}}]"),
            Implemented { mirror: false, ..ALL },
            "spec.rules[0].backendRefs[0].filters[0]: RequestMirror is not implemented; remove it",
        ),
        (
            "filters: [{type: CORS, cors: {}}]".to_owned(),
            Implemented { cors: false, ..ALL },
            "spec.rules[0].filters[0]: CORS is not implemented; remove it",
        ),
        (
            "timeouts: {request: 1s}".to_owned(),
            Implemented { timeouts: false, ..ALL },
            "spec.rules[0].timeouts: timeouts is not implemented; remove it",
        ),
        (
            "retry: {}".to_owned(),
            Implemented { retry: false, ..ALL },
            "spec.rules[0].retry: retry is not implemented; remove it",
        ),
    ];
    for (fields, implemented, expected) in table {
        let objects = world(&format!("[{{{fields}}}]"));
        let route = objects.routes.values().next().unwrap();
        assert!(route.rules[0].refusals.is_empty(), "{fields}: parsed all the same");
        for missing in [implemented, none] {
            let settings = Settings { implemented: missing, ..Settings::default() };
            let resolved = resolve(&objects, &settings);
            let verdict = verdict(&resolved, "HTTPRoute default/r");
            assert_eq!(
                conditions(verdict)[0],
                (ConditionType::Accepted, false, Reason::UnsupportedValue),
                "{fields}"
            );
            let expected = format!("no rule can be used: {expected}");
            assert_eq!(message(verdict, ConditionType::Accepted), expected);
        }
        let all = resolve(&objects, &Settings { implemented: ALL, ..Settings::default() });
        assert_eq!(conditions(verdict(&all, "HTTPRoute default/r")), [ACCEPTED, RESOLVED]);
    }
    assert_eq!(Settings::default().implemented, IMPLEMENTED);
}

/// "where both Kubernetes service session affinity and Gateway API session persistence are both
/// enabled, the route MUST be rejected" (GEP-1619).
#[test]
fn two_affinities_exclude_each_other() {
    let backend = "sessionAffinity: ClientIP, clusterIP: 10.0.0.2, ports: [{port: 80}]";
    let world = |session: &str, backends: &str| {
        let rules = format!("[{{backendRefs: [{backends}]{session}}}, {GOOD}]");
        broken_objects(&documents(&[
            // What the parent's own endpoints are chosen by has nothing to do with the backends.
            service("default/demo", &backend.replace("10.0.0.2", "10.0.0.1")),
            service("default/other", "clusterIP: 10.0.0.3, ports: [{port: 80}]"),
            service("default/kept", backend),
            http_route("default/r", DEMO, &rules),
        ]))
    };
    let both = "{name: other, port: 80}, {name: kept, port: 80, weight: 0}";
    let resolved_both = resolved(&world(", sessionPersistence: {}", both));
    let told = verdict(&resolved_both, "HTTPRoute default/r");
    let message = message(told, ConditionType::PartiallyInvalid);
    let expected =
        "spec.rules[0].sessionPersistence: Service default/kept has sessionAffinity: ClientIP";
    assert!(message.contains(expected), "{message}");
    for (session, backends) in [
        ("", both),
        (", sessionPersistence: {}", "{name: other, port: 80}"),
        // Not the Service, and not one that this route may speak of.
        (", sessionPersistence: {}", "{name: kept, port: 80, kind: Fake}"),
        (", sessionPersistence: {}", "{name: kept, port: 81}"),
    ] {
        let resolved = resolved(&world(session, backends));
        let verdict = verdict(&resolved, "HTTPRoute default/r");
        assert!(verdict.conditions[0].status, "{session} {backends}");
        assert_eq!(verdict.conditions.len(), 2, "{session} {backends}");
    }
}

#[test]
fn messages_fit_into_a_condition() {
    let backends = "{name: ghost, port: 80}, ".repeat(16);
    let rules = format!("{{backendRefs: [{backends}]}}, ").repeat(64);
    let resolved = resolved(&world(&format!("[{rules}]")));
    let verdict = verdict(&resolved, "HTTPRoute default/r");
    let message = message(verdict, ConditionType::ResolvedRefs);
    assert!(message.len() <= 32_768 && message.len() > 32_000, "{}", message.len());
    assert!(message.ends_with('…'));
}

#[test]
fn the_words_of_the_api() {
    let table = [
        (Reason::Accepted, "Accepted"),
        (Reason::ResolvedRefs, "ResolvedRefs"),
        (Reason::NoMatchingParent, "NoMatchingParent"),
        (Reason::Conflicted, "RouteReasonConflicted"),
        (Reason::UnsupportedValue, "UnsupportedValue"),
        (Reason::IncompatibleFilters, "IncompatibleFilters"),
        (Reason::InvalidKind, "InvalidKind"),
        (Reason::BackendNotFound, "BackendNotFound"),
        (Reason::RefNotPermitted, "RefNotPermitted"),
        (Reason::UnsupportedProtocol, "UnsupportedProtocol"),
    ];
    for (reason, expected) in table {
        assert_eq!(reason.to_string(), expected);
    }
    let kinds = [
        (ConditionType::Accepted, "Accepted"),
        (ConditionType::ResolvedRefs, "ResolvedRefs"),
        (ConditionType::PartiallyInvalid, "PartiallyInvalid"),
    ];
    for (kind, expected) in kinds {
        assert_eq!(kind.to_string(), expected);
    }
}
