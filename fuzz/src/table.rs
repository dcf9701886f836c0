//! What holds of any objects, on the way from decode to a compiled table:
//!
//! - every route with a Service as its parent has a verdict for it;
//! - what a table refuses, the route's conditions tell;
//! - the index finds the match that a scan in the order of precedence finds first, for the proxy as for
//!   `gamma`;
//! - routes and Services change nothing of those beside them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::LazyLock;

use http::{HeaderMap, HeaderValue, Method};
use serde_json::Value;
use weft_gamma::condition::ConditionType;
use weft_gamma::matching::{Matcher, RequestView, Selected, SniMatcher, consider_server_name};
use weft_gamma::object::{NamespacedName, Objects, decode};
use weft_gamma::reference::ParentRef;
use weft_gamma::resolve::{Attached, Resolved, Settings, resolve};
use weft_gamma::route::{GrpcMatch, HttpMatch, Match, PathMatch, RouteKind, SniMatch, ValueMatch};
use weft_proxy::fuzz;
use weft_proxy::metrics::{Metrics, MetricsSettings};
use weft_proxy::pod::Pod;
use weft_proxy::table::{Compiler, Table, dump};

/// The pod's namespace.
const NAMESPACE: &str = "default";
/// The namespace whose Service has a route that must stay as it is, and that Service's address.
const APART: &str = "apart";
const APART_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 9));

/// Of one destination, so many matches are made requests of.
const MOST_REQUESTS: usize = 24;

static WORLD: LazyLock<Objects> = LazyLock::new(|| {
    let document: Value =
        serde_saphyr::from_str(include_str!("world.yaml")).expect("world.yaml is YAML");
    let decoded = decode(document);
    assert!(decoded.problems.is_empty(), "{:?}", decoded.problems);
    let mut objects = Objects::default();
    for object in decoded.objects {
        objects.insert(object);
    }
    objects
});

/// What the world's own destination is where nobody else is there.
static UNTOUCHED: LazyLock<Value> = LazyLock::new(|| apart(&compile(&WORLD)));

/// Puts `objects` into a world, resolves and compiles them, and checks what came of it.
pub fn check(objects: Objects) {
    let concerns_apart = concerns_apart(&objects);
    let objects = in_world(objects);
    let resolved = resolve(&objects, &Settings::default());
    let table = compile(&objects);
    has_verdicts(&objects, &resolved);
    tells_refusals(&table, &resolved);
    for parent in resolved.parents.values() {
        let service = &objects.services[&parent.service];
        for port in &parent.ports {
            let attached = port.for_client(NAMESPACE);
            let addresses: Vec<SocketAddr> = service
                .cluster_ips
                .iter()
                .map(|ip| SocketAddr::new(*ip, port.port.port))
                // Of two Services with one address, one has it.
                .filter(|it| {
                    let found = table.destination(it.ip(), it.port());
                    found.is_some_and(|it| it.service == parent.service && it.port == port.port)
                })
                .collect();
            selects(attached, &table, &addresses);
        }
    }
    if !concerns_apart {
        assert_eq!(apart(&table), *UNTOUCHED, "a route that nobody spoke of has changed");
    }
}

/// The world's own objects stay as they are.
fn in_world(mut objects: Objects) -> Objects {
    let world = WORLD.clone();
    objects.services.extend(world.services);
    objects.slices.extend(world.slices);
    objects.routes.extend(world.routes);
    objects
}

/// Whether any of the objects may change what applies to the Service in `apart`.
fn concerns_apart(objects: &Objects) -> bool {
    let is_apart = |name: &NamespacedName| name.namespace == APART;
    objects.services.keys().any(is_apart)
        || objects.services.values().any(|it| it.cluster_ips.contains(&APART_ADDRESS))
        || objects.slices.keys().any(is_apart)
        || objects.grants.keys().any(is_apart)
        || objects.policies.keys().any(is_apart)
        || objects.routes.values().any(|route| {
            let mut parents = route.parents.iter();
            route.key.namespace == APART
                || parents.any(|it| it.service(&route.key.namespace).as_ref().is_some_and(is_apart))
        })
}

fn compile(objects: &Objects) -> Table {
    let pod = Pod { namespace: NAMESPACE.to_owned(), ..Pod::default() };
    let metrics = Metrics::new(&MetricsSettings::default());
    Compiler::new(pod, Settings::default(), metrics).compile(objects, None).table
}

/// What the table has of the Service in `apart`.
fn apart(table: &Table) -> Value {
    let dump = dump(table, &[]);
    let destinations = dump["destinations"].as_array().into_iter().flatten();
    let found = destinations.filter(|it| it["parent"] == "apart/good").cloned();
    Value::Array(found.collect())
}

fn has_verdicts(objects: &Objects, resolved: &Resolved) {
    for route in objects.routes.values() {
        let verdicts = resolved.verdicts.get(&route.key).map_or(&[][..], Vec::as_slice);
        for parent in &route.parents {
            if parent.service(&route.key.namespace).is_none() {
                continue;
            }
            let verdict = verdicts.iter().find(|it| say_the_same(parent, &it.parent));
            let verdict = verdict.unwrap_or_else(|| panic!("{}: none for {parent}", route.key));
            for kind in [ConditionType::Accepted, ConditionType::ResolvedRefs] {
                let count = verdict.conditions.iter().filter(|it| it.kind == kind).count();
                assert_eq!(count, 1, "{}: {kind} for {parent}", route.key);
            }
        }
    }
}

fn tells_refusals(table: &Table, resolved: &Resolved) {
    let dump = dump(table, &[]);
    let destinations = dump["destinations"].as_array().into_iter().flatten();
    let rules = destinations.flat_map(|it| it["rules"].as_array().into_iter().flatten());
    for rule in rules {
        let Some(route) = rule["route"].as_str() else { continue };
        let verdicts = resolved.verdicts.iter().filter(|(key, _)| key.to_string() == route);
        let conditions: Vec<_> =
            verdicts.flat_map(|(_, it)| it).flat_map(|it| &it.conditions).collect();
        let told = |kinds: &[ConditionType]| {
            conditions.iter().any(|it| it.is_complaint() && kinds.contains(&it.kind))
        };
        let is_refused = |it: &Value| it.get("why").is_some();
        if is_refused(&rule["action"]) {
            let kinds = [ConditionType::Accepted, ConditionType::PartiallyInvalid];
            assert!(told(&kinds), "refused in silence: {rule}\n{conditions:?}");
        }
        if rule["backends"].as_array().into_iter().flatten().any(is_refused) {
            let kinds = [ConditionType::ResolvedRefs];
            assert!(
                told(&kinds),
                "a backend's share is refused in silence: {rule}\n{conditions:?}"
            );
        }
    }
}

/// Holds requests that its own matches are made of against the rules of a port.
fn selects(attached: &Attached, table: &Table, addresses: &[SocketAddr]) {
    let matches = attached.rules.iter().flat_map(|it| it.matches.iter()).take(MOST_REQUESTS);
    match attached.kind {
        Some(kind @ (RouteKind::Http | RouteKind::Grpc)) => {
            let matcher = Matcher::new(kind, &attached.rules);
            let mut requests: Vec<Request> = matches.flat_map(Request::of).collect();
            requests.push(Request::default());
            for request in &requests {
                let view = request.view();
                let scanned = matcher.consider(view).find(|it| it.unmet.is_empty());
                let scanned = scanned.map(|it| it.selected);
                assert_eq!(matcher.select(&view), scanned, "{request:?}");
                for address in addresses {
                    let selected = fuzz::select(table, *address, &view);
                    assert_eq!(selected, Some(scanned), "{request:?} to {address}");
                }
            }
        }
        Some(RouteKind::Tls) => {
            let matcher = SniMatcher::new(&attached.rules);
            for name in matches.flat_map(server_names).chain([None, Some("a.example".to_owned())]) {
                let considered = consider_server_name(&attached.rules, name.as_deref());
                let scanned: Option<Selected> =
                    considered.iter().find(|it| it.unmet.is_empty()).map(|it| it.selected);
                assert_eq!(matcher.select(name.as_deref()), scanned, "{name:?}");
            }
        }
        Some(RouteKind::Tcp) | None => {}
    }
}

fn server_names(criteria: &Match) -> Vec<Option<String>> {
    match criteria {
        Match::Tls(SniMatch::Exact(name)) => vec![Some(name.clone()), Some(format!("a.{name}"))],
        Match::Tls(SniMatch::Wildcard(suffix)) => {
            vec![
                Some(format!("a{suffix}")),
                Some(format!("a.b{suffix}")),
                Some(suffix[1..].to_owned()),
            ]
        }
        _ => Vec::new(),
    }
}

#[derive(Clone, Debug)]
struct Request {
    method: Method,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
}

impl Default for Request {
    fn default() -> Self {
        let path = "/a/b".to_owned();
        Self { method: Method::GET, path, query: None, headers: HeaderMap::new() }
    }
}

impl Request {
    fn view(&self) -> RequestView<'_> {
        let Self { method, path, query, headers } = self;
        RequestView { method, path, query: query.as_deref(), headers }
    }

    /// Requests that satisfy the match, as far as that can be told, and some that nearly do.
    fn of(criteria: &Match) -> Vec<Request> {
        match criteria {
            Match::Http(it) => Self::of_http(it),
            Match::Grpc(it) => Self::of_grpc(it),
            Match::Tls(_) | Match::Tcp => Vec::new(),
        }
    }

    fn of_http(criteria: &HttpMatch) -> Vec<Request> {
        let mut request = Request::default();
        if let Some(method) = &criteria.method {
            request.method = method.clone();
        }
        for header in &criteria.headers {
            if let Ok(value) = HeaderValue::from_str(&value(&header.value)) {
                request.headers.append(&header.name, value);
            }
        }
        let query: Vec<String> =
            criteria.query.iter().map(|it| format!("{}={}", it.name, value(&it.value))).collect();
        if !query.is_empty() {
            request.query = Some(query.join("&"));
        }
        let paths = match &criteria.path {
            PathMatch::Exact(path) => vec![path.clone(), format!("{path}/")],
            PathMatch::Prefix(path) => {
                vec![path.clone(), format!("{path}/"), format!("{path}/x"), format!("{path}x")]
            }
            PathMatch::Regex(regex) => vec![plain(regex.as_str())],
            PathMatch::Unreadable => vec!["/".to_owned()],
        };
        let mut requests: Vec<Request> =
            paths.into_iter().map(|path| Request { path, ..request.clone() }).collect();
        requests.push(Request { path: requests[0].path.clone(), ..Request::default() });
        requests
    }

    fn of_grpc(criteria: &GrpcMatch) -> Vec<Request> {
        let mut request = Request { method: Method::POST, ..Request::default() };
        for header in &criteria.headers {
            if let Ok(value) = HeaderValue::from_str(&value(&header.value)) {
                request.headers.append(&header.name, value);
            }
        }
        let part = |it: &Option<ValueMatch>| it.as_ref().map_or_else(|| "any".to_owned(), value);
        request.path = format!("/{}/{}", part(&criteria.service), part(&criteria.method));
        vec![request.clone(), Request { path: request.path, ..Request::default() }]
    }
}

fn value(criterion: &ValueMatch) -> String {
    match criterion {
        ValueMatch::Exact(exact) => exact.clone(),
        ValueMatch::Regex(regex) => plain(regex.as_str()),
        ValueMatch::Unreadable => "any".to_owned(),
    }
}

/// A text that simple patterns match.
fn plain(pattern: &str) -> String {
    let pattern = pattern.trim_start_matches("^(?:").trim_end_matches(")$");
    pattern.split('|').next().unwrap_or_default().replace(['.', '*', '+', '\\', '(', ')'], "")
}

/// Whether the two parentRefs say the same, wherever they stand.
fn say_the_same(one: &ParentRef, other: &ParentRef) -> bool {
    ParentRef { index: other.index, ..one.clone() } == *other
}
