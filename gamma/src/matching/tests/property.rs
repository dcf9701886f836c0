//! `Matcher::select` equals a scan over all matches that is written straight from the API's text, on
//! a model of its own: it shares neither parsed types nor ordering with the code.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use regex::Regex;
use serde_json::{Value, json};

use super::super::{Matcher, Selected};
use crate::object::{Objects, decode};
use crate::precedence::{Decision, decision};
use crate::resolve::ResolvedRule;
use crate::route::RouteKind;
use crate::testing::{Request, add_service, port, resolved};

/// A criterion: its `type` and `value`.
type Criterion = (&'static str, &'static str);

#[derive(Clone, Debug)]
struct ModelMatch {
    path: Option<Criterion>,
    method: Option<&'static str>,
    headers: Vec<(&'static str, Criterion)>,
    query: Vec<(&'static str, Criterion)>,
    /// `type`, `service` and `method` of a GRPCRoute.
    grpc: Option<(&'static str, Option<&'static str>, Option<&'static str>)>,
}

#[derive(Clone, Debug)]
struct ModelRoute {
    name: String,
    /// Seconds, of one minute.
    created: u8,
    rules: Vec<Vec<ModelMatch>>,
}

#[derive(Clone, Debug)]
struct ModelRequest {
    method: &'static str,
    path: &'static str,
    query: Vec<(&'static str, &'static str)>,
    headers: Vec<(&'static str, &'static str)>,
}

const EXACT: &str = "Exact";
const PREFIX: &str = "PathPrefix";
const REGEX: &str = "RegularExpression";
/// Not a type of the API.
const UNKNOWN: &str = "Glob";

fn value_criterion() -> impl Strategy<Value = Criterion> {
    select(vec![
        (EXACT, "1"),
        (EXACT, "1"),
        (EXACT, "2"),
        (EXACT, "1,2"),
        (EXACT, "a b"),
        (REGEX, "1|2"),
        (REGEX, ".*"),
        (UNKNOWN, "1"),
    ])
}

fn path_criterion() -> impl Strategy<Value = Criterion> {
    select(vec![
        (EXACT, "/"),
        (EXACT, "/a"),
        (EXACT, "/a/"),
        (EXACT, "/a/b"),
        (PREFIX, "/"),
        (PREFIX, "/a"),
        (PREFIX, "/a/"),
        (PREFIX, "/a/b"),
        (PREFIX, "/ab"),
        (PREFIX, "/A"),
        (PREFIX, "/a/b/c"),
        (REGEX, "/a.*"),
        (REGEX, "/.*b|/c"),
        (UNKNOWN, "/a"),
    ])
}

fn http_match() -> impl Strategy<Value = ModelMatch> {
    let headers = vec((select(vec!["h", "H", "g"]), value_criterion()), 0..4);
    let query = vec((select(vec!["q", "Q", "r"]), value_criterion()), 0..3);
    let method = option::of(select(vec!["GET", "POST"]));
    (option::of(path_criterion()), method, headers, query).prop_map(
        |(path, method, headers, query)| ModelMatch { path, method, headers, query, grpc: None },
    )
}

fn grpc_match() -> impl Strategy<Value = ModelMatch> {
    let headers = vec((select(vec!["h", "H", "g"]), value_criterion()), 0..4);
    let exact =
        (Just(EXACT), option::of(select(vec!["s.A", "s.B"])), option::of(select(vec!["M", "N"])));
    let regex = (
        select(vec![REGEX, REGEX, UNKNOWN]),
        option::of(select(vec!["s.*", ".*B"])),
        option::of(select(vec!["M|N", "N"])),
    );
    let grpc = prop_oneof![exact, regex]
        .prop_filter("one of the two", |it| it.1.is_some() || it.2.is_some());
    (headers, option::of(grpc)).prop_map(|(headers, grpc)| ModelMatch {
        path: None,
        method: None,
        headers,
        query: Vec::new(),
        grpc,
    })
}

fn routes(matches: impl Strategy<Value = ModelMatch>) -> impl Strategy<Value = Vec<ModelRoute>> {
    let route = (0..3_u8, vec(vec(matches, 0..4), 1..4));
    vec(route, 1..6).prop_map(|routes| {
        let name = |index| format!("r{}", (index * 7 + 3) % 11);
        let routes = routes.into_iter().enumerate();
        routes
            .map(|(index, (created, rules))| ModelRoute { name: name(index), created, rules })
            .collect()
    })
}

fn request(paths: &'static [&'static str]) -> impl Strategy<Value = ModelRequest> {
    let values = select(vec!["1", "2", "1,2", "3"]);
    let encoded = select(vec!["1", "%31", "2", "1%2C2", "a+b", "a%20b", "3"]);
    (
        select(vec!["GET", "POST", "PUT"]),
        select(paths),
        vec((select(vec!["q", "Q", "r", "%71"]), encoded), 0..4),
        vec((select(vec!["h", "g", "x"]), values), 0..4),
    )
        .prop_map(|(method, path, query, headers)| ModelRequest {
            method,
            path,
            query,
            headers,
        })
}

impl ModelMatch {
    fn json(&self) -> Value {
        let criterion = |(kind, value): &Criterion| json!({"type": kind, "value": value});
        let named = |(name, (kind, value)): &(&str, Criterion)| json!({"name": name, "type": kind, "value": value});
        let headers: Vec<Value> = self.headers.iter().map(named).collect();
        match self.grpc {
            Some((kind, service, method)) => json!({
                "method": {"type": kind, "service": service, "method": method},
                "headers": headers,
            }),
            None => json!({
                "path": self.path.as_ref().map(criterion),
                "method": self.method,
                "headers": headers,
                "queryParams": self.query.iter().map(named).collect::<Vec<_>>(),
            }),
        }
    }

    /// Only the first entry with an equivalent name is considered.
    fn first_headers(&self) -> Vec<&(&'static str, Criterion)> {
        let mut first: Vec<&(&str, Criterion)> = Vec::new();
        for header in &self.headers {
            if first.iter().all(|other| !other.0.eq_ignore_ascii_case(header.0)) {
                first.push(header);
            }
        }
        first
    }

    fn first_query(&self) -> Vec<&(&'static str, Criterion)> {
        let mut first: Vec<&(&str, Criterion)> = Vec::new();
        for param in &self.query {
            if first.iter().all(|other| other.0 != param.0) {
                first.push(param);
            }
        }
        first
    }

    fn satisfied_by(&self, request: &ModelRequest) -> bool {
        let path = match self.path {
            None => true,
            Some((EXACT, value)) => request.path == value,
            Some((PREFIX, value)) => {
                let want: Vec<&str> = value.split('/').filter(|it| !it.is_empty()).collect();
                let have: Vec<&str> = request.path.split('/').skip(1).collect();
                have.len() >= want.len() && have[..want.len()] == want[..]
            }
            Some((REGEX, value)) => whole(value, request.path),
            Some(_) => true,
        };
        let method = self.method.is_none_or(|method| method == request.method);
        let headers = self.first_headers().into_iter().all(|(name, criterion)| {
            let values: Vec<&str> = request
                .headers
                .iter()
                .filter(|(other, _)| other.eq_ignore_ascii_case(name))
                .map(|(_, value)| *value)
                .collect();
            !values.is_empty() && holds(*criterion, &values.join(","))
        });
        let query = self.first_query().into_iter().all(|(name, criterion)| {
            let first = request.query.iter().find(|(other, _)| unescaped(other) == *name);
            first.is_some_and(|(_, value)| holds(*criterion, &unescaped(value)))
        });
        let grpc = self.grpc.is_none_or(|(kind, service, method)| {
            if kind == UNKNOWN {
                // Any gRPC request: what the criterion means is not known.
                return request.path.matches('/').count() == 2;
            }
            let parts: Vec<&str> = request.path.split('/').collect();
            let part = |index: usize| parts.get(index).copied().filter(|_| parts.len() == 3);
            let holds = |want: Option<&'static str>, have: Option<&str>| {
                want.is_none_or(|want| have.is_some_and(|have| holds((kind, want), have)))
            };
            holds(service, part(1)) && holds(method, part(2))
        });
        path && method && headers && query && grpc
    }
}

fn whole(pattern: &'static str, value: &str) -> bool {
    // Compiling them anew for every request would be most of the test's time.
    static PATTERNS: LazyLock<Mutex<HashMap<&'static str, Regex>>> = LazyLock::new(Mutex::default);
    let mut patterns = PATTERNS.lock().unwrap();
    let compile = || Regex::new(&format!("^({pattern})$")).unwrap();
    patterns.entry(pattern).or_insert_with(compile).is_match(value)
}

fn holds((kind, want): Criterion, have: &str) -> bool {
    match kind {
        EXACT => want == have,
        REGEX => whole(want, have),
        _ => true,
    }
}

fn unescaped(text: &str) -> String {
    let mut text = text.replace('+', " ");
    for (escape, plain) in [("%31", "1"), ("%2C", ","), ("%20", " "), ("%71", "q")] {
        text = text.replace(escape, plain);
    }
    text
}

/// Less is the one that takes precedence.
fn compare_http(one: &ModelMatch, other: &ModelMatch) -> Ordering {
    let path = |it: &ModelMatch| match it.path.unwrap_or((PREFIX, "/")) {
        // "Exact" path match; then, by this project's decision, patterns; then the prefix with the
        // largest number of characters, of which a trailing slash is none; unreadable ones last.
        (EXACT, _) => (0, 0),
        (REGEX, _) => (1, 0),
        (PREFIX, value) => (2, 100 - value.trim_end_matches('/').len()),
        _ => (3, 0),
    };
    path(one)
        .cmp(&path(other))
        .then(other.method.is_some().cmp(&one.method.is_some()))
        .then(other.first_headers().len().cmp(&one.first_headers().len()))
        .then(other.first_query().len().cmp(&one.first_query().len()))
}

/// Less is the one that takes precedence.
fn compare_grpc(one: &ModelMatch, other: &ModelMatch) -> Ordering {
    let rank = |kind: Option<&str>, value: Option<&str>| match (kind, value) {
        (Some(EXACT), Some(value)) => (0, 100 - value.len()),
        (Some(REGEX), Some(_)) => (1, 0),
        _ => (2, 0),
    };
    let service = |it: &ModelMatch| match it.grpc {
        Some((UNKNOWN, ..)) => (3, 0),
        it => rank(it.map(|it| it.0), it.and_then(|it| it.1)),
    };
    let method = |it: &ModelMatch| match it.grpc {
        Some((UNKNOWN, ..)) => (2, 0),
        it => rank(it.map(|it| it.0), it.and_then(|it| it.2)),
    };
    service(one)
        .cmp(&service(other))
        .then(method(one).cmp(&method(other)))
        .then(other.first_headers().len().cmp(&one.first_headers().len()))
}

/// Route, rule and match, by a scan over all of them.
fn scan(
    kind: &str,
    routes: &[ModelRoute],
    request: &ModelRequest,
) -> Option<(String, usize, usize)> {
    let compare = if kind == "HTTPRoute" { compare_http } else { compare_grpc };
    let default =
        ModelMatch { path: None, method: None, headers: Vec::new(), query: Vec::new(), grpc: None };
    let mut best: Option<(&ModelMatch, (u8, &str), usize, usize)> = None;
    for route in routes {
        for (rule, matches) in route.rules.iter().enumerate() {
            let defaulted = std::slice::from_ref(&default);
            let matches = if matches.is_empty() { defaulted } else { matches };
            for (matched, criteria) in matches.iter().enumerate() {
                if !criteria.satisfied_by(request) {
                    continue;
                }
                let age = (route.created, route.name.as_str());
                let better = best.is_none_or(|(other, other_age, other_rule, other_matched)| {
                    compare(criteria, other)
                        .then(age.cmp(&other_age))
                        .then((rule, matched).cmp(&(other_rule, other_matched)))
                        .is_lt()
                });
                if better {
                    best = Some((criteria, age, rule, matched));
                }
            }
        }
    }
    best.map(|(_, (_, name), rule, matched)| (name.to_owned(), rule, matched))
}

/// The rules of a port, and the objects that they come from.
struct Attached {
    rules: Vec<ResolvedRule>,
    routes: Objects,
}

/// The rules of `routes` as the crate reads and attaches them.
fn attached(kind: &str, routes: &[ModelRoute]) -> Attached {
    let mut objects = Objects::default();
    add_service(&mut objects, "default/demo", &[80]);
    for route in routes {
        let rules: Vec<Value> = route
            .rules
            .iter()
            .map(|it| json!({"matches": it.iter().map(ModelMatch::json).collect::<Vec<_>>()}))
            .collect();
        let value = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": kind,
            "metadata": {
                "name": route.name,
                "creationTimestamp": format!("2024-01-01T00:00:0{}Z", route.created),
            },
            "spec": {
                "parentRefs": [{"group": "", "kind": "Service", "name": "demo"}],
                "rules": rules,
            },
        });
        for object in decode(value).objects {
            objects.insert(object);
        }
    }
    let resolved = resolved(&objects);
    let rules = port(&resolved, "default/demo", 80).producer.rules.clone();
    Attached { rules, routes: objects }
}

/// Route, rule and match, as the matcher finds them; checks that looking at every match in turn, as
/// is done for people who ask, comes to the same.
fn selected(
    attached: &Attached,
    matcher: &Matcher,
    request: &ModelRequest,
) -> Option<(String, usize, usize)> {
    let query: Vec<String> = request.query.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let mut text = format!("{} {}?{}", request.method, request.path, query.join("&"));
    for (name, value) in &request.headers {
        text.push_str(&format!("\n{name}: {value}"));
    }
    let request = Request::parse(&text);
    let selected = matcher.select(&request.view());
    let holding = matcher.consider(request.view()).filter(|it| it.unmet.is_empty());
    let holding: Vec<Selected> = holding.map(|it| it.selected).collect();
    assert_eq!(holding.first().copied(), selected, "{text}");
    for other in holding.iter().skip(1) {
        let decision = decision(&attached.rules, &attached.routes, holding[0], *other);
        assert!(speaks_for_the_winner(decision), "{decision:?} in {text}");
    }
    let selected = selected?;
    let rule = &attached.rules[selected.rule];
    Some((rule.route.name.clone(), rule.index, selected.matched))
}

/// Whether what the winner has is more than what the other has, where numbers decide.
fn speaks_for_the_winner(decision: Decision) -> bool {
    match decision {
        Decision::LongerPrefix(one, other)
        | Decision::MoreHeaders(one, other)
        | Decision::MoreQueryParams(one, other) => one > other,
        // A pattern has no characters to count, and ranks before nothing at all.
        Decision::Service(one, other) | Decision::GrpcMethod(one, other) => {
            one > other || (one, other) == (0, 0)
        }
        _ => true,
    }
}

const HTTP_PATHS: &[&str] =
    &["/", "/a", "/a/", "/a/b", "/a/b/", "/a/b/c", "/ab", "/A", "/a/bc", "/c", "/d", "/a//b"];

const GRPC_PATHS: &[&str] = &["/s.A/M", "/s.A/N", "/s.B/M", "/s.C/O", "/s.A", "/"];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn http_select_equals_a_scan(
        routes in routes(http_match()),
        requests in vec(request(HTTP_PATHS), 1..16),
    ) {
        let attached = attached("HTTPRoute", &routes);
        let matcher = Matcher::new(RouteKind::Http, &attached.rules);
        for request in &requests {
            let expected = scan("HTTPRoute", &routes, request);
            prop_assert_eq!(selected(&attached, &matcher, request), expected, "{:?}", request);
        }
    }

    #[test]
    fn grpc_select_equals_a_scan(
        routes in routes(grpc_match()),
        requests in vec(request(GRPC_PATHS), 1..16),
    ) {
        let attached = attached("GRPCRoute", &routes);
        let matcher = Matcher::new(RouteKind::Grpc, &attached.rules);
        for request in &requests {
            let expected = scan("GRPCRoute", &routes, request);
            prop_assert_eq!(selected(&attached, &matcher, request), expected, "{:?}", request);
        }
    }
}
