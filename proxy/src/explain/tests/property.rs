//! Random routes and requests: each request is explained and then sent, and what was said of it must be
//! what came of it: the rule, the backend, the request that its endpoint gets, or the answer.

use std::net::SocketAddr;

use http::{Request, Response};
use hyper::body::Incoming;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use weft_gamma::session::STICKY_SPLIT;

use super::explain;
use crate::explain::Explanation;
use crate::explain::answer::{Answer, Forwarded, Verdict};
use crate::explain::filters;
use crate::testing::{Body, Mesh, Message, Server, route, run, text};

#[derive(Clone, Debug)]
struct Case {
    /// Rules of each route, without what tells them apart, and its annotation for a sticky split.
    routes: Vec<(Vec<Value>, Option<&'static str>)>,
    requests: Vec<Sent>,
}

#[derive(Clone, Debug)]
struct Sent {
    method: &'static str,
    target: &'static str,
    headers: Vec<(&'static str, &'static str)>,
}

fn matches() -> impl Strategy<Value = Value> {
    let criterion = |(kind, value): (&str, &str)| json!({"type": kind, "value": value});
    let path = prop_oneof![
        14 => select(vec![
            ("Exact", "/a"),
            ("Exact", "/a/b"),
            ("PathPrefix", "/"),
            ("PathPrefix", "/a"),
            ("PathPrefix", "/a/b/"),
            ("RegularExpression", "/a.*|/c"),
        ]),
        1 => Just(("Glob", "/a*")),
    ]
    .prop_map(criterion);
    let value = || {
        select(vec![("Exact", "1"), ("Exact", "2"), ("RegularExpression", "1|2")])
            .prop_map(criterion)
    };
    let named = |names: Vec<&'static str>| {
        (select(names), value()).prop_map(|(name, mut it)| {
            it["name"] = json!(name);
            it
        })
    };
    (
        option::of(path),
        option::of(select(vec!["GET", "POST"])),
        vec(named(vec!["h", "g"]), 0..2),
        vec(named(vec!["q", "r"]), 0..2),
    )
        .prop_map(|(path, method, headers, query)| {
            json!({"path": path, "method": method, "headers": headers, "queryParams": query})
        })
}

fn filter() -> impl Strategy<Value = Value> {
    select(vec![
        json!({"type": "RequestHeaderModifier",
               "requestHeaderModifier": {"set": [{"name": "g", "value": "set"}]}}),
        json!({"type": "RequestHeaderModifier",
               "requestHeaderModifier": {"add": [{"name": "h", "value": "added"}], "remove": ["g"]}}),
        json!({"type": "URLRewrite",
               "urlRewrite": {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/full"}}}),
        json!({"type": "URLRewrite",
               "urlRewrite": {"hostname": "other.example",
                              "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/x"}}}),
        json!({"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "two", "port": 80}}}),
        json!({"type": "CORS", "cors": {"allowOrigins": ["http://page.example"],
                                        "allowMethods": ["*"], "maxAge": 7}}),
    ])
}

fn backend() -> impl Strategy<Value = Value> {
    let name = select(vec!["one", "one", "one", "two", "two", "missing", "empty"]);
    (name, select(vec![0, 1, 1, 3]), option::weighted(0.4, filter())).prop_map(
        |(name, weight, filter)| {
            let filters: Vec<Value> = filter.into_iter().collect();
            json!({"name": name, "port": 80, "weight": weight, "filters": filters})
        },
    )
}

fn rule() -> impl Strategy<Value = Value> {
    let redirect = json!({"type": "RequestRedirect", "requestRedirect": {
        "hostname": "there.example", "path": {"type": "ReplaceFullPath", "replaceFullPath": "/r"}}});
    prop_oneof![
        8 => (vec(matches(), 0..3), vec(filter(), 0..2), vec(backend(), 1..3)).prop_map(
            |(matches, filters, backends)| {
                json!({"matches": matches, "filters": filters, "backendRefs": backends})
            }
        ),
        1 => vec(matches(), 0..3)
            .prop_map(move |matches| json!({"matches": matches, "filters": [redirect]})),
    ]
}

fn sent() -> impl Strategy<Value = Sent> {
    let preflight = (select(vec!["/", "/a", "/a/b"]), select(vec!["GET", "POST"]), select(ORIGINS));
    let preflight = preflight.prop_map(|(target, method, origin)| Sent {
        method: "OPTIONS",
        target,
        headers: vec![("origin", origin), ("access-control-request-method", method)],
    });
    prop_oneof![4 => plain(), 1 => preflight]
}

const ORIGINS: &[&str] = &["http://page.example", "http://other.example"];

fn plain() -> impl Strategy<Value = Sent> {
    (
        select(vec!["GET", "POST", "PUT"]),
        select(vec!["/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/c?q=1", "/a?q=2&r=1", "/a/b?r=2"]),
        vec((select(vec!["h", "g", "x"]), select(vec!["1", "2", "3"])), 0..3),
    )
        .prop_map(|(method, target, headers)| Sent { method, target, headers })
}

fn case() -> impl Strategy<Value = Case> {
    let sticky = option::weighted(0.4, select(vec!["header=h", "session"]));
    (vec((vec(rule(), 1..4), sticky), 0..4), vec(sent(), 1..8))
        .prop_map(|(routes, requests)| Case { routes, requests })
}

/// Every answer of a rule says which it is, those that the proxy makes by itself among them.
fn signed(mut rule: Value, name: &str) -> Value {
    let signature = json!({"type": "ResponseHeaderModifier",
                           "responseHeaderModifier": {"set": [{"name": "rule", "value": name}]}});
    match rule["filters"].as_array_mut() {
        Some(filters) => filters.push(signature),
        None => rule["filters"] = json!([signature]),
    }
    rule
}

/// With the headers in the order of their names; between those, order means nothing.
fn in_order(mut forwarded: Forwarded) -> Forwarded {
    forwarded.headers.sort_by(|one, other| one.name.cmp(&other.name));
    forwarded
}

/// Says what it got.
fn echo(name: &'static str, request: &Request<Incoming>) -> Response<Body> {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let mut parts = Request::builder().method(method).uri(uri).body(()).unwrap().into_parts().0;
    parts.headers.clone_from(request.headers());
    // Of this connection, whatever was asked.
    parts.headers.remove("content-length");
    let got = in_order(filters::forwarded(&parts));
    let mut response = Response::new(text(serde_json::to_string(&got).unwrap()));
    response.headers_mut().insert("backend", http::HeaderValue::from_static(name));
    response
}

async fn play(case: Case) {
    let mesh = Mesh::new();
    for name in ["one", "two"] {
        let server = Server::start(false, move |it| std::future::ready(echo(name, &it))).await;
        mesh.service(&format!("default/{name}"), "http", &[server.addr]);
    }
    mesh.service("default/empty", "http", &[]);
    let own = Server::start(false, |it| std::future::ready(echo("svc", &it))).await;
    let service = mesh.service("default/svc", "http", &[own.addr]);
    for (number, (rules, sticky)) in case.routes.into_iter().enumerate() {
        let rules = rules.into_iter().enumerate();
        let rules: Vec<Value> = rules
            .map(|(index, rule)| signed(rule, &format!("default/r{number}[{index}]")))
            .collect();
        let mut route = route("HTTPRoute", &format!("default/r{number}"), "default/svc", "[]");
        route["spec"]["rules"] = json!(rules);
        if let Some(sticky) = sticky {
            route["metadata"]["annotations"] = json!({ (STICKY_SPLIT): sticky });
        }
        mesh.apply(route);
    }
    for sent in case.requests {
        let mut headers: Vec<String> =
            sent.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let (_, came) = send(&mesh, service, &sent, &headers).await;
        // Whose session begins comes again, as a browser does.
        if let Some(cookie) = came.header("set-cookie") {
            let pair = cookie.split(';').next().unwrap_or_default();
            headers.push(format!("cookie: {pair}"));
            let (said, again) = send(&mesh, service, &sent, &headers).await;
            let stickiness = said.rule.and_then(|it| it.stickiness);
            assert!(stickiness.is_some_and(|it| it.keeps_backend), "{headers:?}");
            assert_eq!(again.header("backend"), came.header("backend"), "{headers:?}");
        }
    }
}

/// Has a request explained, sends it, and compares.
async fn send(
    mesh: &Mesh,
    service: SocketAddr,
    sent: &Sent,
    headers: &[String],
) -> (Explanation, Message) {
    let url = format!("http://svc{}", sent.target);
    let said = explain(mesh, &[sent.method, &url], headers).unwrap();
    let mut client = mesh.connect(service).await;
    let lines: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let head = format!("{} {} HTTP/1.1\r\nhost: svc\r\n{lines}", sent.method, sent.target);
    client.send(format!("{head}content-length: 0\r\n\r\n")).await;
    let came = client.message().await;
    compare(&said, &came);
    (said, came)
}

/// What was said against what came.
fn compare(said: &Explanation, came: &Message) {
    let context = || format!("said: {said}\ncame: {came:?} {}", came.text());
    // The rule: the winner among the matches, and the one whose answer came.
    let wins: Vec<_> = said.matches.iter().filter(|it| it.verdict == Verdict::Wins).collect();
    let rule = said.rule.as_ref().map(|it| {
        let route = it.name.route.strip_prefix("HTTPRoute ").unwrap();
        format!("{route}[{}]", it.name.rule)
    });
    // The filters of a refused rule do not run, so that its answer is not signed; the body names it.
    let is_refused = said.answer.as_ref().is_some_and(|it| it.reason == Some("rule_refused"));
    let signed = rule.as_deref().filter(|_| !is_refused);
    assert_eq!(signed, came.header("rule"), "{}", context());
    let names: Vec<_> = wins.iter().map(|it| &it.rule).collect();
    let named: Vec<_> = said.rule.iter().map(|it| &it.name).collect();
    assert_eq!(names, named, "{}", context());
    // Those of higher rank lack something, and of those of lower rank whatever holds is outranked.
    let winner = said.matches.iter().position(|it| it.verdict == Verdict::Wins);
    for (place, other) in said.matches.iter().enumerate() {
        let outranked = matches!(other.verdict, Verdict::Outranked { .. });
        assert!(!outranked || winner.is_some_and(|winner| winner < place), "{}", context());
        let lacks = matches!(&other.verdict, Verdict::Lacks { unmet } if !unmet.is_empty());
        assert!(lacks || outranked || Some(place) == winner, "{}", context());
    }
    if let Some(answer) = &said.answer {
        assert!(is_answer(answer, came), "{}", context());
        return;
    }
    let possible = said.backends.iter().filter(|it| it.percent > 0.0);
    let became = possible.filter(|it| match (&it.answer, came.header("backend")) {
        (Some(answer), None) => is_answer(answer, came),
        (None, Some(name)) => {
            let rewritten = it.forwarded.as_ref();
            let by_rule = said.rule.as_ref().and_then(|rule| rule.forwarded.as_ref());
            let forwarded = rewritten.or(by_rule).cloned().map(in_order);
            let forwarded = forwarded.map(|it| serde_json::to_string(&it).unwrap());
            it.service == format!("default/{name}") && forwarded.is_none_or(|it| it == came.text())
        }
        _ => false,
    });
    assert!(became.count() > 0, "{}", context());
}

fn is_answer(answer: &Answer, came: &Message) -> bool {
    answer.status == Some(came.status())
        && answer.reason == came.header("x-weft-reason")
        && answer.location.as_deref() == came.header("location")
        && answer.headers.iter().all(|it| came.header(&it.name) == Some(it.value.as_str()))
        && answer.message.as_ref().is_none_or(|it| came.text() == format!("weft: {it}\n"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_explained_is_what_happens(case in case()) {
        run(play(case));
    }
}
