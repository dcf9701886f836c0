//! On whatever a route says, status and table agree: a rule that is answered with a refusal, or a
//! backend whose share is, shows in the route's conditions, and the other way round. And nothing that
//! can be written down brings the proxy down.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestCaseResult;
use serde_json::{Value, json};
use weft_gamma::condition::ConditionType;
use weft_gamma::matching::RequestView;
use weft_gamma::resolve::{self, Settings};

use super::super::{Action, Rule, StreamRouting};
use super::{Cluster, Routing, Table, destination};

/// A route of every kind whose parent is `svc`, with parts of all sorts: as they should be, as they
/// should not, and with single values replaced by anything.
#[derive(Clone, Debug)]
struct Given {
    kind: &'static str,
    rules: Vec<Value>,
    spoiled: Vec<(Index, Spoil)>,
}

#[derive(Clone, Debug)]
enum Spoil {
    Replace(Value),
    Remove,
}

fn values(of: Value) -> impl Strategy<Value = Value> {
    let Value::Array(all) = of else { unreachable!("a list") };
    select(all)
}

fn http_match() -> impl Strategy<Value = Value> {
    values(json!([
        {},
        { "path": { "type": "Exact", "value": "/a" } },
        { "path": { "type": "PathPrefix", "value": "/a/b" } },
        { "path": { "type": "RegularExpression", "value": "/a.*" } },
        { "path": { "type": "RegularExpression", "value": "(" } },
        { "path": { "type": "Glob", "value": "/a" } },
        { "path": { "value": "no-slash" } },
        { "headers": [{ "name": "x", "value": "1" }, { "name": "X", "value": "2" }] },
        { "headers": [{ "type": "RegularExpression", "name": "x", "value": "[" }] },
        { "headers": [{ "name": "not a name", "value": "1" }] },
        { "queryParams": [{ "name": "q", "value": "1" }] },
        { "method": "POST" },
        { "method": "BREW" },
    ]))
}

fn grpc_match() -> impl Strategy<Value = Value> {
    values(json!([
        {},
        { "method": { "service": "a.B", "method": "C" } },
        { "method": { "service": "a.B" } },
        { "method": { "type": "RegularExpression", "service": "a\\..*" } },
        { "method": { "type": "RegularExpression", "service": "(" } },
        { "method": {} },
        { "headers": [{ "name": "x", "value": "1" }] },
    ]))
}

fn filter() -> impl Strategy<Value = Value> {
    values(json!([
        { "type": "RequestHeaderModifier", "requestHeaderModifier": { "set": [{ "name": "x", "value": "1" }] } },
        { "type": "RequestHeaderModifier", "requestHeaderModifier": { "set": [{ "name": "a b", "value": "1" }] } },
        { "type": "RequestHeaderModifier" },
        { "type": "ResponseHeaderModifier", "responseHeaderModifier": { "remove": ["x"] } },
        { "type": "RequestRedirect", "requestRedirect": { "scheme": "https" } },
        { "type": "RequestRedirect", "requestRedirect": { "statusCode": 299 } },
        { "type": "URLRewrite", "urlRewrite": { "path": { "type": "ReplacePrefixMatch", "replacePrefixMatch": "/z" } } },
        { "type": "URLRewrite", "urlRewrite": { "hostname": "h.example" } },
        { "type": "RequestMirror", "requestMirror": { "backendRef": { "name": "two", "port": 80 } } },
        { "type": "RequestMirror", "requestMirror": { "backendRef": { "name": "nobody", "port": 80 } } },
        { "type": "CORS", "cors": { "allowOrigins": ["https://a.example"] } },
        { "type": "ExtensionRef", "extensionRef": { "group": "g", "kind": "K", "name": "n" } },
        { "type": "FromTheFuture" },
    ]))
}

fn backend() -> impl Strategy<Value = Value> {
    let plain = values(json!([
        { "name": "one", "port": 80 },
        { "name": "two", "port": 80, "weight": 3 },
        { "name": "two", "port": 80, "weight": 0 },
        { "name": "one", "port": 81 },
        { "name": "one" },
        { "name": "one", "port": 53 },
        { "name": "nobody", "port": 80 },
        { "name": "one", "namespace": "elsewhere", "port": 80 },
        { "name": "one", "port": 80, "kind": "Bucket", "group": "storage.example" },
        { "name": "one", "port": 80, "weight": -1 },
    ]));
    (plain, vec(filter(), 0..2)).prop_map(|(mut backend, filters)| {
        if !filters.is_empty() {
            backend["filters"] = filters.into();
        }
        backend
    })
}

fn more() -> impl Strategy<Value = Value> {
    values(json!([
        {}, {}, {},
        { "name": "named" },
        { "timeouts": { "request": "1s", "backendRequest": "500ms" } },
        { "timeouts": { "request": "1s", "backendRequest": "2s" } },
        { "timeouts": { "request": "soon" } },
        { "retry": { "codes": [500], "attempts": 2, "backoff": "10ms" } },
        { "retry": { "codes": [200] } },
        { "sessionPersistence": { "type": "Cookie" } },
        { "sessionPersistence": { "type": "Spoon" } },
        { "fromTheFuture": true },
    ]))
}

fn rule(kind: &'static str) -> impl Strategy<Value = Value> {
    let matches = match kind {
        "HTTPRoute" => http_match().boxed(),
        "GRPCRoute" => grpc_match().boxed(),
        _ => Just(Value::Null).boxed(),
    };
    (vec(matches, 0..3), vec(filter(), 0..3), vec(backend(), 0..4), more()).prop_map(
        move |(matches, filters, backends, mut rule)| {
            if kind.starts_with('T') {
                return json!({ "backendRefs": backends });
            }
            for (name, list) in
                [("matches", matches), ("filters", filters), ("backendRefs", backends)]
            {
                if !list.is_empty() {
                    rule[name] = list.into();
                }
            }
            rule
        },
    )
}

fn given() -> impl Strategy<Value = Given> {
    let spoil = prop_oneof![
        values(json!([null, "", "x", "Exact", -1, 0, 65_536, 1e300, true, [], {}, [{}], "/%"]))
            .prop_map(Spoil::Replace),
        Just(Spoil::Remove),
    ];
    let spoiled = prop_oneof![2 => Just(0..1_usize), 1 => Just(1..3)]
        .prop_flat_map(move |count| vec((any::<Index>(), spoil.clone()), count));
    select(vec![
        "HTTPRoute",
        "HTTPRoute",
        "HTTPRoute",
        "GRPCRoute",
        "GRPCRoute",
        "TLSRoute",
        "TCPRoute",
    ])
    .prop_flat_map(move |kind| (Just(kind), vec(rule(kind), 1..4), spoiled.clone()))
    .prop_map(|(kind, rules, spoiled)| Given { kind, rules, spoiled })
}

/// The JSON pointers to all values in `value`.
fn pointers(value: &Value, at: &str, all: &mut Vec<String>) {
    all.push(at.to_owned());
    match value {
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                pointers(value, &format!("{at}/{index}"), all);
            }
        }
        Value::Object(map) => {
            for (name, value) in map {
                pointers(value, &format!("{at}/{name}"), all);
            }
        }
        _ => {}
    }
}

fn spoil(value: &mut Value, which: &Index, how: &Spoil) {
    let mut all = Vec::new();
    pointers(value, "", &mut all);
    let at = which.get(&all);
    let parent = at.rsplit_once('/').map(|(parent, last)| (parent.to_owned(), last));
    match (how, parent) {
        (Spoil::Remove, Some((parent, last))) => match value.pointer_mut(&parent) {
            Some(Value::Array(list)) => drop(list.remove(last.parse().unwrap())),
            Some(Value::Object(map)) => drop(map.remove(last)),
            _ => unreachable!("it has members"),
        },
        (Spoil::Remove, None) => *value = Value::Null,
        (Spoil::Replace(by), _) => *value.pointer_mut(at).unwrap() = by.clone(),
    }
}

impl Given {
    fn route(&self) -> Value {
        let mut rules = Value::from(self.rules.clone());
        for (index, how) in &self.spoiled {
            spoil(&mut rules, index, how);
        }
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": self.kind,
            "metadata": { "namespace": "default", "name": "route" },
            "spec": {
                "hostnames": if self.kind == "TLSRoute" { json!(["a.example"]) } else { Value::Null },
                "parentRefs": [{ "group": "", "kind": "Service", "name": "svc" }],
                "rules": rules,
            },
        })
    }
}

/// What a table has of a route.
#[derive(Debug, Default)]
struct InTable {
    rules: usize,
    refused: usize,
    /// Backends that are answered with an error.
    broken: usize,
}

impl InTable {
    fn of<S>(rules: &[Rule<S>]) -> Self {
        let mut seen = Self { rules: rules.len(), ..Self::default() };
        for rule in rules {
            match &rule.action {
                Action::Refuse(_) => seen.refused += 1,
                Action::Answer => {}
                Action::Forward(split) => {
                    seen.broken += split.backends().iter().filter(|it| it.target.is_err()).count();
                }
            }
        }
        seen
    }

    fn new(table: &Table) -> Self {
        let destination = destination(table, 0);
        match (&destination.routing, &destination.streams) {
            (Routing::Routed { rules, .. }, _) => Self::of(rules),
            (_, StreamRouting::Tls { rules, .. } | StreamRouting::Tcp { rules }) => Self::of(rules),
            (Routing::Unrouted, StreamRouting::Unrouted) => Self::default(),
        }
    }
}

fn agree(given: &Given) -> TestCaseResult {
    let route = given.route();
    let mut cluster = Cluster::new();
    cluster.insert(route.clone());
    let table = cluster.compile();
    let seen = InTable::new(&table);
    let resolved = resolve::resolve(&cluster.objects, &Settings::default());
    let verdicts: Vec<_> = resolved.verdicts.values().flatten().collect();
    if verdicts.is_empty() {
        // What cannot be read as a route at all is told where it was read, and applies nowhere.
        prop_assert_eq!(seen.rules, 0, "{}", route);
        return Ok(());
    }
    prop_assert_eq!(verdicts.len(), 1);
    let is =
        |kind: ConditionType| verdicts[0].conditions.iter().any(|it| it.kind == kind && it.status);
    let (accepted, refs) = (is(ConditionType::Accepted), is(ConditionType::ResolvedRefs));
    let partially = is(ConditionType::PartiallyInvalid);
    let told = format!("{route}\n{seen:?}\n{:?}", verdicts[0].conditions);
    // A refusal is said, and what is said is refused.
    prop_assert_eq!(accepted && !partially, seen.refused == 0 && (seen.rules > 0), "{}", told);
    prop_assert_eq!(partially, accepted && seen.refused > 0, "{}", told);
    prop_assert!(accepted || seen.refused == seen.rules, "{}", told);
    // A backend that cannot be reached is said.
    prop_assert!(seen.broken == 0 || !refs, "{}", told);
    // And the other way round, but for what gets no request: mirrors, which are left out, the backends
    // of a refused rule or of a redirect, and those of weight 0.
    let text = route.to_string();
    let quiet =
        ["RequestMirror", "RequestRedirect", "\"weight\":0"].iter().any(|it| text.contains(it));
    prop_assert!(refs || seen.broken > 0 || seen.refused > 0 || quiet, "{}", told);
    choose(&table);
    Ok(())
}

/// Whatever was compiled can be chosen from.
fn choose(table: &Table) {
    let Routing::Routed { matcher, rules, .. } = &destination(table, 0).routing else { return };
    for (method, path, query) in [
        ("GET", "/a", Some("q=1")),
        ("POST", "/a/b/c", None),
        ("POST", "/a.B/C", None),
        ("GET", "/", None),
    ] {
        let mut headers = http::HeaderMap::new();
        headers.insert("x", http::HeaderValue::from_static("1"));
        let method = &method.parse().unwrap();
        let view = RequestView { method, path, query, headers: &headers };
        if let Some(selected) = matcher.select(&view)
            && let Action::Forward(split) = &rules[selected.rule].action
        {
            split.choose();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn status_and_table_agree(given in given()) {
        agree(&given)?;
    }
}
