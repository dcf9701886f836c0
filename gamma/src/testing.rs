//! What the tests share: objects from YAML, and requests from text.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Value, json};

use crate::matching::{Matcher, RequestView};
use crate::object::{Decoded, NamespacedName, Object, Objects, decode};
use crate::resolve::{Attached, Resolved, ResolvedPort, Settings, resolve};
use crate::route::Route;
use crate::support::Implemented;

/// Everything implemented, so that a test of one field does not depend on the others.
pub(crate) const ALL: Implemented =
    Implemented { mirror: true, cors: true, timeouts: true, retry: true };

/// Parses one YAML document.
pub(crate) fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Decodes YAML documents that `---` separates.
pub(crate) fn decoded(text: &str) -> Decoded {
    let mut all = Decoded::default();
    for document in text.split("\n---\n").filter(|it| !it.trim().is_empty()) {
        let decoded = decode(yaml(document));
        all.objects.extend(decoded.objects);
        all.problems.extend(decoded.problems);
    }
    all
}

/// The objects of YAML documents in which nothing may be wrong.
pub(crate) fn objects(text: &str) -> Objects {
    let decoded = decoded(text);
    assert_eq!(decoded.problems, [], "in {text}");
    collect(decoded)
}

/// The objects of YAML documents in which anything may be wrong.
pub(crate) fn broken_objects(text: &str) -> Objects {
    collect(decoded(text))
}

fn collect(decoded: Decoded) -> Objects {
    let mut objects = Objects::default();
    for object in decoded.objects {
        assert!(!objects.insert(object), "two objects of one name");
    }
    objects
}

/// Adds a Service with TCP ports, of which the first is named `http`.
pub(crate) fn add_service(objects: &mut Objects, name: &str, ports: &[u16]) {
    let (namespace, name) = name.split_once('/').unwrap();
    let ports: Vec<Value> = ports
        .iter()
        .enumerate()
        .map(|(index, port)| {
            let name = if index == 0 { "http".to_owned() } else { format!("p{port}") };
            json!({"name": name, "port": port})
        })
        .collect();
    add(
        objects,
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"namespace": namespace, "name": name},
            "spec": {"clusterIP": "10.96.0.1", "ports": ports},
        }),
    );
}

/// Decodes and adds an object in which nothing may be wrong.
pub(crate) fn add(objects: &mut Objects, value: Value) {
    let decoded = decode(value);
    assert_eq!(decoded.problems, []);
    for object in decoded.objects {
        objects.insert(object);
    }
}

/// A route of `kind` whose parent is Service `default/demo`; `rules` is YAML.
pub(crate) fn route(kind: &str, name: &str, created: &str, rules: &str) -> Value {
    let (namespace, name) = name.split_once('/').unwrap();
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": kind,
        "metadata": {"namespace": namespace, "name": name, "creationTimestamp": created},
        "spec": {
            "parentRefs": [{
                "group": "", "kind": "Service", "namespace": "default", "name": "demo",
            }],
            "rules": yaml(rules),
        },
    })
}

/// The only route among decoded objects.
pub(crate) fn only_route(decoded: &Decoded) -> &Route {
    match decoded.objects.as_slice() {
        [Object::Route(route)] => route,
        other => panic!("not one route: {other:?}"),
    }
}

pub(crate) fn name(text: &str) -> NamespacedName {
    let (namespace, name) = text.split_once('/').unwrap();
    NamespacedName { namespace: namespace.to_owned(), name: name.to_owned() }
}

/// What [`resolve`] says where everything is implemented.
pub(crate) fn resolved(objects: &Objects) -> Resolved {
    resolve(objects, &Settings { implemented: ALL, ..Settings::default() })
}

/// A port of a resolved Service.
pub(crate) fn port<'a>(resolved: &'a Resolved, service: &str, port: u16) -> &'a ResolvedPort {
    let parent = &resolved.parents[&name(service)];
    parent.ports.iter().find(|it| it.port.port == port).unwrap()
}

/// A request: method and target in the first line, headers in the others.
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) headers: HeaderMap,
}

impl Request {
    pub(crate) fn parse(text: &str) -> Self {
        let mut lines = text.lines();
        let (method, target) = lines.next().unwrap().split_once(' ').unwrap();
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.trim().split_once(": ").unwrap();
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        Self { method: method.parse().unwrap(), path: path.to_owned(), query, headers }
    }

    pub(crate) fn view(&self) -> RequestView<'_> {
        RequestView {
            method: &self.method,
            path: &self.path,
            query: self.query.as_deref(),
            headers: &self.headers,
        }
    }
}

/// The winner among attached routes, as `namespace/name[rule]`, or `none`.
pub(crate) fn select(attached: &Attached, request: &str) -> String {
    let matcher = Matcher::new(attached.kind.unwrap(), &attached.rules);
    match matcher.select(&Request::parse(request).view()) {
        None => "none".to_owned(),
        Some(selected) => {
            let rule = &attached.rules[selected.rule];
            format!("{}/{}[{}]", rule.route.namespace, rule.route.name, rule.index)
        }
    }
}

/// The winner among `routes`, attached to Service `default/demo`, for a client of that namespace.
pub(crate) fn winner(routes: Vec<Value>, request: &str) -> String {
    let mut objects = Objects::default();
    add_service(&mut objects, "default/demo", &[80]);
    for route in routes {
        for object in decode(route).objects {
            objects.insert(object);
        }
    }
    let resolved = resolved(&objects);
    select(port(&resolved, "default/demo", 80).for_client("default"), request)
}
