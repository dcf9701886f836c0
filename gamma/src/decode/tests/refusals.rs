//! What refuses a rule: each row is a rule, the fields that are told, and a word of the message.

use super::{http_route, only_route, problems, route, rule};
use crate::object::Decoded;
use crate::route::{GrpcMatch, HttpMatch, Match, PathMatch, RefusalReason, ValueMatch};

/// The fields of the refusals of the only rule, without the leading `spec.rules[0]`.
pub(super) fn refused(decoded: &Decoded) -> Vec<String> {
    let refusals = &rule(decoded).refusals;
    let told: Vec<&str> = decoded.problems.iter().map(|it| it.field.as_str()).collect();
    let fields: Vec<&str> = refusals.iter().map(|it| it.field.as_str()).collect();
    assert_eq!(told, fields, "every refusal is a problem of the file too");
    fields.iter().map(|it| it.trim_start_matches("spec.rules[0]").to_owned()).collect()
}

pub(super) fn check(kind: &str, table: &[(&str, &str, &str)]) {
    for (text, field, word) in table {
        let decoded = route(kind, &format!("- {text}"));
        assert_eq!(refused(&decoded), [*field], "{text}: {:?}", rule(&decoded).refusals);
        let refusal = &rule(&decoded).refusals[0];
        assert!(refusal.message.contains(word), "{text}: {}", refusal.message);
        assert_eq!(refusal.reason, RefusalReason::UnsupportedValue, "{text}");
    }
}

#[test]
fn path_values() {
    let long = format!("/{}", "a".repeat(1024));
    let long = format!("{{matches: [{{path: {{value: {long}}}}}]}}");
    let path = ".matches[0].path.value";
    check(
        "HTTPRoute",
        &[
            ("{matches: [{path: {type: Exact, value: abc}}]}", path, "start with '/'"),
            ("{matches: [{path: {value: ''}}]}", path, "start with '/'"),
            ("{matches: [{path: {value: /a//b}}]}", path, "'//'"),
            ("{matches: [{path: {value: /a/./b}}]}", path, "'/./'"),
            ("{matches: [{path: {value: /a/../b}}]}", path, "'/../'"),
            ("{matches: [{path: {type: Exact, value: /a%2fb}}]}", path, "'%2f'"),
            ("{matches: [{path: {type: Exact, value: /a%2Fb}}]}", path, "'%2F'"),
            ("{matches: [{path: {value: '/a#b'}}]}", path, "'#'"),
            ("{matches: [{path: {value: /a/..}}]}", path, "end with '/..'"),
            ("{matches: [{path: {value: /a/.}}]}", path, "end with '/.'"),
            ("{matches: [{path: {value: /a b}}]}", path, "percent-encode"),
            ("{matches: [{path: {value: /a%2}}]}", path, "percent-encode"),
            ("{matches: [{path: {value: '/a?b'}}]}", path, "percent-encode"),
            ("{matches: [{path: {value: /é}}]}", path, "percent-encode"),
            (&long, path, "1024"),
        ],
    );
    for good in ["/", "/a/", "/a.b/..c/.d", "/a%20b", "/a~b!$&'()*+,;=:@"] {
        let rule = format!("- {{matches: [{{path: {{value: \"{good}\"}}}}]}}");
        assert_eq!(refused(&http_route(&rule)), [""; 0], "{good}");
    }
}

#[test]
fn unknown_and_wrong_values_in_matches() {
    let huge = format!("(\\w{{100}}){{{}}}", 100);
    let huge = format!("{{matches: [{{path: {{type: RegularExpression, value: '{huge}'}}}}]}}");
    check(
        "HTTPRoute",
        &[
            (
                "{matches: [{path: {type: Glob, value: /a}}]}",
                ".matches[0].path.type",
                "unknown variant `Glob`",
            ),
            (
                "{matches: [{headers: [{name: a, type: Glob, value: b}]}]}",
                ".matches[0].headers[0].type",
                "unknown variant `Glob`",
            ),
            (
                "{matches: [{queryParams: [{name: a, type: Glob, value: b}]}]}",
                ".matches[0].queryParams[0].type",
                "unknown variant `Glob`",
            ),
            ("{matches: [{method: PURGE}]}", ".matches[0].method", "unknown variant `PURGE`"),
            ("{matches: [{path: /a}]}", ".matches[0].path", "invalid type"),
            ("{matches: [{path: {value: 7}}]}", ".matches[0].path.value", "invalid type"),
            ("{matches: [{headers: {a: b}}]}", ".matches[0].headers", "must be a list"),
            ("{matches: [{queryParams: a}]}", ".matches[0].queryParams", "must be a list"),
            ("{matches: [/a]}", ".matches[0]", "must be an object, not a string"),
            ("{matches: {path: {}}}", ".matches", "must be a list, not an object"),
            ("{matches: [{cookies: []}]}", ".matches[0].cookies", "unknown field"),
            (
                "{matches: [{path: {valeu: /a}}]}",
                ".matches[0].path.valeu",
                "unknown field; remove it or correct its spelling",
            ),
            (
                "{matches: [{headers: [{name: a, value: b, invert: true}]}]}",
                ".matches[0].headers[0].invert",
                "unknown field",
            ),
            (
                "{matches: [{headers: [{name: a}]}]}",
                ".matches[0].headers[0]",
                "missing field `value`",
            ),
            (
                "{matches: [{headers: [{value: a}]}]}",
                ".matches[0].headers[0]",
                "missing field `name`",
            ),
            (
                "{matches: [{headers: [{name: 'a b', value: c}]}]}",
                ".matches[0].headers[0].name",
                "not a header name",
            ),
            (
                "{matches: [{headers: [{name: ':path', value: c}]}]}",
                ".matches[0].headers[0].name",
                "not a header name",
            ),
            (
                "{matches: [{headers: [{name: a, value: ''}]}]}",
                ".matches[0].headers[0].value",
                "could never match",
            ),
            (
                "{matches: [{queryParams: [{name: '', value: b}]}]}",
                ".matches[0].queryParams[0].name",
                "not the name",
            ),
            (
                "{matches: [{queryParams: [{name: a, value: ''}]}]}",
                ".matches[0].queryParams[0].value",
                "1 to 1024",
            ),
            (
                "{matches: [{path: {type: RegularExpression, value: '/('}}]}",
                ".matches[0].path.value",
                "\"/(\" is not a valid regular expression: unclosed group",
            ),
            (
                "{matches: [{path: {type: RegularExpression, value: '/a)|(/b'}}]}",
                ".matches[0].path.value",
                "not a valid regular expression",
            ),
            (
                "{matches: [{headers: [{name: a, type: RegularExpression, value: '*'}]}]}",
                ".matches[0].headers[0].value",
                "not a valid regular expression",
            ),
            (&huge, ".matches[0].path.value", "size limit"),
        ],
    );
}

#[test]
fn patterns_of_an_ordinary_size_compile() {
    for pattern in ["/users/[0-9]+", "[\\w.-]+@[\\w-]+\\.[a-z]{2,24}", "(?i)a.*b", "(a|b|c){1,64}"]
    {
        let rule = format!(
            "- {{matches: [{{headers: [{{name: a, type: RegularExpression, value: '{pattern}'}}]}}]}}"
        );
        let decoded = http_route(&rule);
        assert_eq!(refused(&decoded), [""; 0], "{pattern}: {:?}", problems(&decoded));
    }
}

#[test]
fn rules_and_their_other_fields() {
    check(
        "HTTPRoute",
        &[
            ("just text", "", "must be an object, not a string"),
            ("{backendRef: []}", ".backendRef", "unknown field"),
            ("{name: 7}", ".name", "must be a string, not a number"),
            ("{timeouts: {request: 5}}", ".timeouts.request", "invalid type"),
            ("{timeouts: {request: 1.5s}}", ".timeouts.request", "such as 1m30s"),
            ("{timeouts: {request: 1000000s}}", ".timeouts.request", "such as 1m30s"),
            ("{timeouts: {backendRequest: -1s}}", ".timeouts.backendRequest", "such as 1m30s"),
            ("{timeouts: {idle: 1s}}", ".timeouts.idle", "unknown field"),
            (
                "{timeouts: {request: 1s, backendRequest: 1001ms}}",
                ".timeouts.backendRequest",
                "longer than the request timeout",
            ),
            ("{retry: {codes: [500, 200]}}", ".retry.codes[1]", "use 400 to 599"),
            ("{retry: {attempts: -1}}", ".retry.attempts", "0 or more"),
            ("{retry: {backoff: soon}}", ".retry.backoff", "such as 1m30s"),
            ("{backendRefs: {name: a}}", ".backendRefs", "must be a list"),
            ("{backendRefs: [a]}", ".backendRefs[0]", "must be an object"),
            ("{backendRefs: [{port: 80}]}", ".backendRefs[0]", "missing field `name`"),
            ("{backendRefs: [{name: a}]}", ".backendRefs[0].port", "must be set for a Service"),
            ("{backendRefs: [{name: a, port: 0}]}", ".backendRefs[0].port", "use 1 to 65535"),
            ("{backendRefs: [{name: a, port: 65536}]}", ".backendRefs[0].port", "use 1 to 65535"),
            ("{backendRefs: [{name: a, port: http}]}", ".backendRefs[0].port", "invalid type"),
            (
                "{backendRefs: [{name: a, port: 80, weight: -1}]}",
                ".backendRefs[0].weight",
                "0 to 1000000",
            ),
            (
                "{backendRefs: [{name: a, port: 80, weight: 1000001}]}",
                ".backendRefs[0].weight",
                "0 to 1000000",
            ),
            (
                "{backendRefs: [{name: a, port: 80, wieght: 1}]}",
                ".backendRefs[0].wieght",
                "unknown field",
            ),
        ],
    );
    let decoded = http_route("- {backendRefs: [{name: a, port: 80, weight: 1000000}]}");
    assert_eq!(refused(&decoded), [""; 0]);
}

#[test]
fn grpc_rules() {
    check(
        "GRPCRoute",
        &[
            ("{timeouts: {request: 1s}}", ".timeouts", "unknown field"),
            ("{retry: {}}", ".retry", "unknown field"),
            ("{matches: [{path: {}}]}", ".matches[0].path", "unknown field"),
            ("{matches: [{method: {}}]}", ".matches[0].method", "must be specified"),
            (
                "{matches: [{method: {type: Glob, service: a}}]}",
                ".matches[0].method.type",
                "unknown variant `Glob`",
            ),
            (
                "{matches: [{method: {service: a/b}}]}",
                ".matches[0].method.service",
                "not the name of a gRPC service",
            ),
            (
                "{matches: [{method: {method: 1a}}]}",
                ".matches[0].method.method",
                "not the name of a gRPC method",
            ),
            (
                "{matches: [{method: {type: RegularExpression, service: '('}}]}",
                ".matches[0].method.service",
                "not a valid regular expression",
            ),
            (
                "{filters: [{type: URLRewrite, urlRewrite: {hostname: a}}]}",
                ".filters[0].type",
                "GRPCRoute has no filter of this type",
            ),
            (
                "{backendRefs: [{name: a, port: 80, filters: [{type: CORS, cors: {}}]}]}",
                ".backendRefs[0].filters[0].type",
                "GRPCRoute has no filter of this type",
            ),
        ],
    );
    for good in ["a.b_C.D1", ".a", "_x"] {
        let decoded =
            route("GRPCRoute", &format!("- {{matches: [{{method: {{service: {good}}}}}]}}"));
        assert_eq!(refused(&decoded), [""; 0], "{good}");
    }
}

#[test]
fn one_broken_part_leaves_the_rest_of_the_route_alone() {
    let decoded = http_route(
        "
- matches: [{path: {type: Glob, value: /a}}]
  backendRefs: [{name: a, port: 80}, {port: 80}]
- backendRefs: [{name: b, port: 80}]
",
    );
    let rules = &only_route(&decoded).rules;
    let fields: Vec<_> = rules[0].refusals.iter().map(|it| it.field.as_str()).collect();
    assert_eq!(fields, ["spec.rules[0].matches[0].path.type", "spec.rules[0].backendRefs[1]"]);
    assert_eq!(rules[0].backends.len(), 1);
    assert_eq!((rules[1].refusals.len(), rules[1].backends.len()), (0, 1));
    assert_eq!(
        problems(&decoded)[0],
        "HTTPRoute default/r: spec.rules[0].matches[0].path.type: unknown variant `Glob`, expected \
         one of `Exact`, `PathPrefix`, `RegularExpression`"
    );
}

#[test]
fn rules_that_are_no_list_are_one_refused_rule_for_everything() {
    let decoded = http_route("  name: a");
    let [rule] = only_route(&decoded).rules.as_slice() else { panic!() };
    assert_eq!(rule.refusals[0].field, "spec.rules");
    let [Match::Http(HttpMatch { path: PathMatch::Unreadable, .. })] = rule.matches.as_slice()
    else {
        panic!("{:?}", rule.matches)
    };
}

/// What a match that cannot be read in full still catches.
#[test]
fn unreadable_matches() {
    let matched = |text: &str| {
        let decoded = http_route(&format!("- {{matches: [{text}]}}"));
        match &rule(&decoded).matches[0] {
            Match::Http(criteria) => criteria.clone(),
            _ => panic!(),
        }
    };
    let path = |criteria: &HttpMatch| matches!(criteria.path, PathMatch::Unreadable);
    let whole = matched("7");
    assert!(path(&whole) && whole.headers.is_empty());
    let bad_name =
        matched("{path: {value: /a}, headers: [{name: b, value: c}, {name: 'a b', value: c}]}");
    assert!(path(&bad_name));
    assert_eq!(bad_name.headers.len(), 1, "the readable ones stay");
    let bad_value = matched("{path: {value: /a}, headers: [{name: b, type: Glob, value: c}]}");
    assert!(!path(&bad_value));
    assert!(matches!(bad_value.headers[0].value, ValueMatch::Unreadable));
    let bad_path = matched("{path: {type: Glob}, headers: [{name: b, value: c}]}");
    assert!(path(&bad_path) && bad_path.headers.len() == 1);
    assert!(path(&matched("{headers: 7}")));
    assert!(path(&matched("{queryParams: [{value: c}]}")));
    assert!(path(&matched("{method: [GET]}")));
}

#[test]
fn unreadable_grpc_matches() {
    let matched = |text: &str| {
        let decoded = route("GRPCRoute", &format!("- {{matches: [{text}]}}"));
        match &rule(&decoded).matches[0] {
            Match::Grpc(criteria) => criteria.clone(),
            _ => panic!(),
        }
    };
    let service = |it: &GrpcMatch| matches!(it.service, Some(ValueMatch::Unreadable));
    assert!(service(&matched("7")));
    assert!(service(&matched("{method: {type: Glob, service: a}}")));
    assert!(service(&matched("{method: {service: a/b}}")));
    let bad_name =
        matched("{method: {service: a}, headers: [{name: 'a b', value: c}, {name: b, value: c}]}");
    assert!(service(&bad_name) && bad_name.headers.len() == 1);
    let bad_value = matched("{method: {service: a}, headers: [{name: b, type: Glob, value: c}]}");
    assert!(!service(&bad_value));
    assert!(matches!(bad_value.headers[0].value, ValueMatch::Unreadable));
    let bad_method = matched("{method: {service: a, method: '1'}}");
    assert!(!service(&bad_method));
    assert!(matches!(bad_method.method, Some(ValueMatch::Unreadable)));
}
