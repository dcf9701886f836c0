//! Section by section what the API says of matching, and that the index changes none of it.

mod consider;
mod property;

use http::{HeaderMap, HeaderValue, Method};
use serde_json::{Value, json};

use super::{HttpIndex, Index, Matcher, RequestView, Selected};
use crate::object::Objects;
use crate::route::RouteKind;
use crate::testing::{add, add_service, port, resolved, route, winner};

const CREATED: &str = "2024-01-01T00:00:00Z";

/// Whether a request satisfies the only rule of an HTTPRoute.
fn http(rule: &str, request: &str) -> bool {
    let routes = vec![route("HTTPRoute", "default/r", CREATED, &format!("[{rule}]"))];
    winner(routes, request) == "default/r[0]"
}

fn grpc(rule: &str, request: &str) -> bool {
    let routes = vec![route("GRPCRoute", "default/r", CREATED, &format!("[{rule}]"))];
    winner(routes, request) == "default/r[0]"
}

#[test]
fn paths() {
    let exact = "{matches: [{path: {type: Exact, value: /abc}}]}";
    let prefix = "{matches: [{path: {type: PathPrefix, value: /v2}}]}";
    let slash = "{matches: [{path: {type: PathPrefix, value: /v2/}}]}";
    let regex = "{matches: [{path: {type: RegularExpression, value: '/a+|/b'}}]}";
    let encoded = "{matches: [{path: {type: Exact, value: /a%20b}}]}";
    let table = [
        ("Exact is byte-equal", exact, "/abc", true),
        ("Exact: NOT /abc/", exact, "/abc/", false),
        ("Exact: NOT /Abc", exact, "/Abc", false),
        ("Exact: NOT /abcd", exact, "/abcd", false),
        ("Exact: the query is excluded", exact, "/abc?x=/", true),
        ("prefix: itself", prefix, "/v2", true),
        ("prefix: with a slash", prefix, "/v2/", true),
        ("prefix: a segment below", prefix, "/v2/x/y", true),
        ("prefix: not within a segment", prefix, "/v2example", false),
        ("prefix: case-sensitive", prefix, "/V2", false),
        ("prefix: not above", prefix, "/", false),
        ("prefix: the query is excluded", prefix, "/v2?x", true),
        ("prefix: trailing slash in the value is ignored", slash, "/v2", true),
        ("prefix: trailing slash in the value, below", slash, "/v2/x", true),
        ("prefix: trailing slash in the value, not within", slash, "/v2example", false),
        ("regular expression on the whole path", regex, "/aa", true),
        ("regular expression: not on a part in front", regex, "/aa/x", false),
        ("regular expression: not on a part at the end", regex, "/x/b", false),
        ("regular expression: each alternative is anchored", regex, "/b/x", false),
        ("no normalisation: taken as it is", encoded, "/a%20b", true),
        ("no normalisation: not decoded", encoded, "/a b", false),
        ("missing matches: prefix /", "{}", "/anything", true),
        ("missing path: prefix /", "{matches: [{method: GET}]}", "/anything", true),
        ("missing type: PathPrefix", "{matches: [{path: {value: /a}}]}", "/a/b", true),
        ("missing value: /", "{matches: [{path: {type: PathPrefix}}]}", "/a/b", true),
    ];
    for (sentence, rule, target, expected) in table {
        assert_eq!(http(rule, &format!("GET {target}")), expected, "{sentence}: {target}");
    }
}

#[test]
fn headers() {
    let exact = "{matches: [{headers: [{name: X-Version, value: One}]}]}";
    let both = "{matches: [{headers: [{name: a, value: '1'}, {name: b, value: '2'}]}]}";
    let twice = "{matches: [{headers: [{name: a, value: '1'}, {name: A, value: '2'}]}]}";
    let regex = "{matches: [{headers: [{name: a, type: RegularExpression, value: '1|2+'}]}]}";
    let joined = "{matches: [{headers: [{name: a, value: '1,2'}]}]}";
    let host = "{matches: [{headers: [{name: Host, value: shop.example}]}]}";
    let table = [
        ("name case-insensitive", exact, "x-vErSiOn: One", true),
        ("value exact", exact, "x-version: one", false),
        ("value whole", exact, "x-version: One2", false),
        ("a missing header never matches", exact, "x-other: One", false),
        ("ANDed: both", both, "a: 1\nb: 2", true),
        ("ANDed: one is not enough", both, "a: 1", false),
        ("of equivalent names only the first entry counts", twice, "a: 1", true),
        ("subsequent entries MUST be ignored", twice, "a: 2", false),
        ("regular expression on the whole value", regex, "a: 22", true),
        ("regular expression: each alternative is anchored", regex, "a: 12", false),
        ("regular expression: a missing header never matches", regex, "b: 1", false),
        ("repeated: values joined with a comma", joined, "a: 1\na: 2", true),
        ("repeated: as one line", joined, "a: 1,2", true),
        ("repeated: no single value", joined, "a: 1\na: 3", false),
        ("repeated: not with a space", joined, "a: 1, 2", false),
        ("the Host is a header", host, "host: shop.example", true),
        ("the Host is a header: another", host, "host: www.shop.example", false),
    ];
    for (sentence, rule, headers, expected) in table {
        assert_eq!(http(rule, &format!("GET /\n{headers}")), expected, "{sentence}: {headers}");
        let request = format!("POST /s/m\n{headers}");
        assert_eq!(grpc(rule, &request), expected, "gRPC: {sentence}: {headers}");
    }
}

#[test]
fn a_header_value_that_is_no_text_matches_no_pattern_and_breaks_nothing() {
    let any = "[{matches: [{headers: [{name: a, type: RegularExpression, value: '.*'}]}]}]";
    let mut objects = Objects::default();
    add_service(&mut objects, "default/demo", &[80]);
    add(&mut objects, route("HTTPRoute", "default/r", CREATED, any));
    let resolved = resolved(&objects);
    let attached = &port(&resolved, "default/demo", 80).producer;
    let matcher = Matcher::new(RouteKind::Http, &attached.rules);
    let mut headers = HeaderMap::new();
    fn request(headers: &HeaderMap) -> RequestView<'_> {
        RequestView { method: &Method::GET, path: "/", query: None, headers }
    }
    headers.insert("a", HeaderValue::from_bytes(b"\xff").unwrap());
    assert_eq!(matcher.select(&request(&headers)), None);
    headers.insert("a", HeaderValue::from_static("x"));
    assert_eq!(matcher.select(&request(&headers)), Some(Selected { rule: 0, matched: 0 }));
}

#[test]
fn query_params() {
    let exact = "{matches: [{queryParams: [{name: animal, value: sea lion}]}]}";
    let both = "{matches: [{queryParams: [{name: a, value: '1'}, {name: b, value: '2'}]}]}";
    let regex = "{matches: [{queryParams: [{name: a, type: RegularExpression, value: '\\d+'}]}]}";
    let accent = "{matches: [{queryParams: [{name: a, value: é%}]}]}";
    let table = [
        ("value exact, percent-decoded", exact, "animal=sea%20lion", true),
        ("+ is a space", exact, "animal=sea+lion", true),
        ("name case-sensitive", exact, "Animal=sea+lion", false),
        ("value case-sensitive", exact, "animal=Sea+lion", false),
        ("name percent-decoded", exact, "%61nimal=sea+lion", true),
        ("of a repeated parameter the first value", exact, "animal=sea+lion&animal=x", true),
        ("of a repeated parameter not the second", exact, "animal=x&animal=sea+lion", false),
        ("a missing parameter never matches", exact, "other=sea+lion", false),
        ("no query at all", exact, "", false),
        ("ANDed: both", both, "x=y&b=2&a=1", true),
        ("ANDed: one is not enough", both, "a=1", false),
        ("regular expression on the whole value", regex, "a=12", true),
        ("regular expression: not on a part", regex, "a=12x", false),
        ("a value without =", regex, "a", false),
        ("UTF-8 is decoded", accent, "a=%C3%a9%25", true),
        ("a broken escape stands for itself", accent, "a=%C3%A9%", true),
        ("bytes that are no text match nothing", regex, "a=%ff", false),
    ];
    for (sentence, rule, query, expected) in table {
        assert_eq!(http(rule, &format!("GET /p?{query}")), expected, "{sentence}: {query}");
    }
}

#[test]
fn methods_and_several_matches() {
    let get = "{matches: [{method: GET}]}";
    let or = "{matches: [{path: {value: /foo}, headers: [{name: version, value: v2}]}, {path: {value: /v2/foo}}]}";
    let table = [
        ("method: exact", get, "GET /", true),
        ("method: another", get, "POST /", false),
        ("method: case-sensitive", get, "get /", false),
        ("within a match AND", or, "GET /foo\nversion: v2", true),
        ("within a match AND: one is not enough", or, "GET /foo", false),
        ("matches OR", or, "GET /v2/foo", true),
        ("neither", or, "GET /bar\nversion: v2", false),
    ];
    for (sentence, rule, request, expected) in table {
        assert_eq!(http(rule, request), expected, "{sentence}");
    }
}

#[test]
fn grpc_methods() {
    let both = "{matches: [{method: {service: foo.Bar, method: Login}}]}";
    let service = "{matches: [{method: {service: foo.Bar}}]}";
    let method = "{matches: [{method: {method: Login}}]}";
    let regex = "{matches: [{method: {type: RegularExpression, service: 'foo\\.(Bar|Baz)'}}]}";
    let empty = "{matches: [{method: {service: '', method: Login}}]}";
    let table = [
        ("exact service and method", both, "/foo.Bar/Login", true),
        ("exact service and method: another method", both, "/foo.Bar/Logout", false),
        ("exact service and method: another service", both, "/foo.Baz/Login", false),
        ("case-sensitive", both, "/foo.bar/Login", false),
        ("service only: any method", service, "/foo.Bar/Anything", true),
        ("service only: another service", service, "/foo.Bar2/Anything", false),
        ("method only: any service", method, "/any.Service/Login", true),
        ("method only: another method", method, "/any.Service/Log", false),
        ("regular expression on the whole service", regex, "/foo.Baz/M", true),
        ("regular expression: not on a part", regex, "/foo.Bazar/M", false),
        ("left empty, will match any service", empty, "/any.Service/Login", true),
        ("no matches: every request", "{}", "/any.Service/M", true),
        ("no matches: also what is no gRPC path", "{}", "/", true),
        ("what is no gRPC path has no service", service, "/foo.Bar", false),
    ];
    for (sentence, rule, path, expected) in table {
        assert_eq!(grpc(rule, &format!("POST {path}")), expected, "{sentence}: {path}");
    }
}

/// "For a request to match against this rule, it MUST satisfy EITHER of the two conditions".
#[test]
fn several_matches_of_a_grpc_rule() {
    let or = "{matches: [{method: {service: foo.bar}, headers: [{name: version, value: '2'}]}, {method: {service: foo.bar.v2}}]}";
    let table = [
        ("within a match AND", "POST /foo.bar/M\nversion: 2", true),
        ("within a match AND: one is not enough", "POST /foo.bar/M", false),
        ("matches OR", "POST /foo.bar.v2/M", true),
        ("neither", "POST /foo.baz/M\nversion: 2", false),
    ];
    for (sentence, request, expected) in table {
        assert_eq!(grpc(or, request), expected, "{sentence}");
    }
}

/// The criterion says whose requests the broken rule was meant for: they are answered 500 and do not
/// slip to another rule.
#[test]
fn unreadable_criteria() {
    let good = "{matches: [{path: {value: /}}]}";
    let table = [
        (
            "a header with a bad pattern: any value",
            "{matches: [{headers: [{name: a, type: RegularExpression, value: '('}]}]}",
            "GET /\na: anything",
            "default/r[0]",
        ),
        (
            "a header with a bad pattern: not without the header",
            "{matches: [{headers: [{name: a, type: RegularExpression, value: '('}]}]}",
            "GET /",
            "default/r[1]",
        ),
        (
            "a header of an unknown type: any value",
            "{matches: [{headers: [{name: a, type: Glob, value: x*}]}]}",
            "GET /\na: anything",
            "default/r[0]",
        ),
        (
            "a parameter of an unknown type: any value",
            "{matches: [{queryParams: [{name: a, type: Glob, value: x*}]}]}",
            "GET /?a",
            "default/r[0]",
        ),
        (
            "a parameter of an unknown type: not without the parameter",
            "{matches: [{queryParams: [{name: a, type: Glob, value: x*}]}]}",
            "GET /?b",
            "default/r[1]",
        ),
        (
            "a broken path takes nothing from a good rule",
            "{matches: [{path: {type: Exact, value: relative}}]}",
            "GET /relative",
            "default/r[1]",
        ),
        (
            "a broken header name takes nothing from a good rule",
            "{matches: [{path: {value: /deep}, headers: [{name: 'a b', value: x}]}]}",
            "GET /deep",
            "default/r[1]",
        ),
        (
            "a broken method takes nothing from a good rule",
            "{matches: [{path: {value: /deep}, method: 7}]}",
            "GET /deep",
            "default/r[1]",
        ),
        (
            "an unknown method keeps the match to requests of that method",
            "{matches: [{method: PURGE}]}",
            "PURGE /",
            "default/r[0]",
        ),
    ];
    for (sentence, broken, request, expected) in table {
        let rules = format!("[{broken}, {good}]");
        let routes = vec![route("HTTPRoute", "default/r", CREATED, &rules)];
        assert_eq!(winner(routes, request), expected, "{sentence}");
    }
    let alone = "[{matches: [{path: {type: Exact, value: relative}}]}]";
    let routes = vec![route("HTTPRoute", "default/r", CREATED, alone)];
    let message = "where nothing else matches, the broken rule answers, with 500";
    assert_eq!(winner(routes, "GET /other"), "default/r[0]", "{message}");
}

/// "When no rules matching a request have been successfully attached to the parent a request is coming
/// from, a HTTP 404 status code MUST be returned.": the caller learns that there is none.
#[test]
fn no_rule_matches() {
    let rule = "[{matches: [{path: {value: /only}}]}]";
    let routes = vec![route("HTTPRoute", "default/r", CREATED, rule)];
    assert_eq!(winner(routes, "GET /other"), "none");
}

fn canaries(count: usize, criteria: impl Fn(usize) -> Value) -> Matcher {
    let mut objects = Objects::default();
    add_service(&mut objects, "default/demo", &[80]);
    for user in 0..count {
        let mut canary = route("HTTPRoute", &format!("default/r{user:05}"), CREATED, "[{}]");
        canary["spec"]["rules"][0]["matches"] = json!([criteria(user)]);
        add(&mut objects, canary);
    }
    add(&mut objects, route("HTTPRoute", "default/z", CREATED, "[{}]"));
    let resolved = resolved(&objects);
    let attached = &port(&resolved, "default/demo", 80).producer;
    Matcher::new(RouteKind::Http, &attached.rules)
}

/// However many canaries there are, a request is held against a handful.
#[test]
fn the_cost_of_a_request_does_not_grow_with_the_routes() {
    const COUNT: usize = 10_000;
    let matchers = [
        (
            "one header",
            canaries(
                COUNT,
                |user| json!({"headers": [{"name": "user", "value": user.to_string()}]}),
            ),
        ),
        (
            "a common header first",
            canaries(COUNT, |user| {
                json!({"headers": [
                    {"name": "env", "value": "prod"}, {"name": "user", "value": user.to_string()},
                ]})
            }),
        ),
        (
            "a parameter",
            canaries(
                COUNT,
                |user| json!({"queryParams": [{"name": "user", "value": user.to_string()}]}),
            ),
        ),
        ("equal matches", canaries(COUNT, |_| json!({"method": "GET"}))),
    ];
    for (what, matcher) in matchers {
        let Index::Http(HttpIndex { prefix, root, .. }) = &matcher.index else { panic!("{what}") };
        assert!(prefix.is_empty(), "{what}");
        assert!(root.longest_list() <= 2, "{what}: {}", root.longest_list());
        let mut headers = HeaderMap::new();
        headers.insert("env", HeaderValue::from_static("prod"));
        headers.insert("user", HeaderValue::from_static("7777"));
        let selected = matcher.select(&RequestView {
            method: &Method::GET,
            path: "/x",
            query: Some("user=7777"),
            headers: &headers,
        });
        let expected = if what == "equal matches" { 0 } else { 7777 };
        assert_eq!(selected, Some(Selected { rule: expected, matched: 0 }), "{what}");
    }
}

/// More header names in routes than in the request: the request's names lead.
#[test]
fn many_header_names() {
    let matcher =
        canaries(50, |user| json!({"headers": [{"name": format!("h{user}"), "value": "1"}]}));
    let mut headers = HeaderMap::new();
    headers.insert("h31", HeaderValue::from_static("1"));
    headers.insert("h17", HeaderValue::from_static("1"));
    headers.insert("h5", HeaderValue::from_static("2"));
    let request = RequestView { method: &Method::GET, path: "/", query: None, headers: &headers };
    assert_eq!(matcher.select(&request), Some(Selected { rule: 17, matched: 0 }));
}
