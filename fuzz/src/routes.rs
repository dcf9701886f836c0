//! Routes, grants and policies as an author could have written them, rightly or wrongly: the bytes are
//! decisions among parts of all sorts, with any text here and there.

use arbitrary::{Result, Unstructured};
use serde_json::{Value, json};
use weft_gamma::object::{Objects, decode};

use crate::table;

const MOST_OBJECTS: usize = 6;

pub fn run(data: &[u8]) {
    let mut decisions = Unstructured::new(data);
    let mut objects = Objects::default();
    for _ in 0..MOST_OBJECTS {
        if decisions.is_empty() {
            break;
        }
        let Ok(document) = document(&mut decisions) else { break };
        for object in decode(document).objects {
            objects.insert(object);
        }
    }
    table::check(objects);
}

fn document(u: &mut Unstructured<'_>) -> Result<Value> {
    Ok(match u.int_in_range(0..=9)? {
        0 => grant(u)?,
        1 => policy(u)?,
        2..=3 => route(u, "GRPCRoute")?,
        4 => route(u, "TLSRoute")?,
        5 => route(u, "TCPRoute")?,
        _ => route(u, "HTTPRoute")?,
    })
}

fn route(u: &mut Unstructured<'_>, kind: &str) -> Result<Value> {
    let rules = list(u, 4, |u| match kind {
        "TLSRoute" | "TCPRoute" => Ok(json!({ "backendRefs": list(u, 3, backend)? })),
        _ => rule(u, kind),
    })?;
    let mut metadata = metadata(u)?;
    metadata["creationTimestamp"] =
        one(u, &json!([null, "2025-01-01T00:00:00Z", "2025-01-02T00:00:00Z", "yesterday"]))?;
    metadata["annotations"] = one(
        u,
        &json!([null, null, { "weft.mesh/sticky-split": "header: end-user" }, { "weft.mesh/x": "1" }]),
    )?;
    let hostnames = match kind {
        "TLSRoute" => Value::from(list(u, 3, hostname)?),
        _ => Value::Null,
    };
    Ok(json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": kind,
        "metadata": metadata,
        "spec": { "hostnames": hostnames, "parentRefs": list(u, 3, parent)?, "rules": rules },
    }))
}

fn metadata(u: &mut Unstructured<'_>) -> Result<Value> {
    let namespace = *u.choose(&["default", "default", "elsewhere"])?;
    Ok(json!({ "namespace": namespace, "name": u.choose(&["a", "b", "c"])? }))
}

fn parent(u: &mut Unstructured<'_>) -> Result<Value> {
    let mut parent =
        json!({ "group": "", "kind": "Service", "name": "svc", "namespace": "default" });
    change(u, &mut parent, "name", &json!(["two", "other", "nobody"]))?;
    change(u, &mut parent, "namespace", &json!(["elsewhere", null, "apart"]))?;
    change(u, &mut parent, "kind", &json!(["Gateway", "ServiceImport", null]))?;
    change(u, &mut parent, "group", &json!(["core", null, "x"]))?;
    change(u, &mut parent, "port", &json!([80, 80, 7070, 443, 53, 8080, 0]))?;
    change(u, &mut parent, "sectionName", &json!(["http", "tls", "none"]))?;
    Ok(parent)
}

fn rule(u: &mut Unstructured<'_>, kind: &str) -> Result<Value> {
    let matches = list(u, 4, |u| if kind == "GRPCRoute" { grpc_match(u) } else { http_match(u) })?;
    let mut rule = json!({
        "matches": matches,
        "filters": list(u, 3, filter)?,
        "backendRefs": list(u, 3, backend)?,
    });
    change(u, &mut rule, "name", &json!(["named", "named", "Not A Name"]))?;
    change(
        u,
        &mut rule,
        "timeouts",
        &json!([{ "request": "1s" }, { "request": "1s", "backendRequest": "2s" }, { "request": "soon" }]),
    )?;
    change(
        u,
        &mut rule,
        "retry",
        &json!([{ "codes": [500], "attempts": 2, "backoff": "10ms" }, { "codes": [200] }, {}]),
    )?;
    change(
        u,
        &mut rule,
        "sessionPersistence",
        &json!([{ "type": "Cookie" }, { "type": "Header", "sessionName": "s" }, { "type": "Spoon" }]),
    )?;
    change(u, &mut rule, "fromTheFuture", &json!([true]))?;
    Ok(rule)
}

fn http_match(u: &mut Unstructured<'_>) -> Result<Value> {
    let mut matched = json!({
        "headers": list(u, 3, |u| named_value(u, &["x", "X", "end-user", "a b", ""]))?,
        "queryParams": list(u, 2, |u| named_value(u, &["q", "Q", "q[]"]))?,
    });
    if u.ratio(3, 4)? {
        let mut path =
            criterion(u, &["PathPrefix", "PathPrefix", "Exact", "RegularExpression", "Glob"])?;
        path["value"] =
            text(u, &["/", "/a", "/a/", "/a/b", "/a/b/c", "/A", "/a.*", "(", "/a//b", "a"])?;
        matched["path"] = path;
    }
    change(u, &mut matched, "method", &json!(["GET", "POST", "BREW"]))?;
    Ok(matched)
}

fn grpc_match(u: &mut Unstructured<'_>) -> Result<Value> {
    let headers = list(u, 3, |u| named_value(u, &["x", "end-user", ":path"]))?;
    let mut matched = json!({ "headers": headers });
    if u.ratio(3, 4)? {
        let mut method = criterion(u, &["Exact", "RegularExpression", "Glob"])?;
        for part in ["service", "method"] {
            if u.ratio(3, 4)? {
                method[part] = text(u, &["a.B", "a.C", "Get", "Put", ".*", "Get|Put", "("])?;
            }
        }
        matched["method"] = method;
    }
    Ok(matched)
}

fn named_value(u: &mut Unstructured<'_>, names: &[&str]) -> Result<Value> {
    let mut named = criterion(u, &["Exact", "RegularExpression", "Glob"])?;
    named["name"] = text(u, names)?;
    named["value"] = text(u, &["1", "2", "1,2", "a b", "1|2", ".*", "[", ""])?;
    Ok(named)
}

/// A criterion with its type, which mostly is the API's default.
fn criterion(u: &mut Unstructured<'_>, types: &[&str]) -> Result<Value> {
    let mut criterion = json!({});
    if u.ratio(1, 2)? {
        criterion["type"] = text(u, types)?;
    }
    Ok(criterion)
}

fn filter(u: &mut Unstructured<'_>) -> Result<Value> {
    let (kind, field, content) = match u.int_in_range(0..=8)? {
        0 => ("RequestHeaderModifier", "requestHeaderModifier", headers(u)?),
        1 => ("ResponseHeaderModifier", "responseHeaderModifier", headers(u)?),
        2..=3 => ("RequestRedirect", "requestRedirect", redirect(u)?),
        4..=5 => ("URLRewrite", "urlRewrite", target(u)?),
        6 => ("RequestMirror", "requestMirror", mirror(u)?),
        7 => ("CORS", "cors", cors(u)?),
        _ => ("ExtensionRef", "extensionRef", json!({ "group": "g", "kind": "K", "name": "n" })),
    };
    let mut filter = json!({ "type": kind, field: content });
    change(u, &mut filter, "type", &json!(["URLRewrite", "FromTheFuture", null]))?;
    Ok(filter)
}

fn headers(u: &mut Unstructured<'_>) -> Result<Value> {
    let names = ["x", "X", "host", "content-length", "a b"];
    let pair = |u: &mut Unstructured<'_>| {
        Ok(json!({ "name": text(u, &names)?, "value": text(u, &["1", "svc:80", "a\n"])? }))
    };
    let remove = list(u, 2, |u| text(u, &names))?;
    Ok(json!({ "set": list(u, 2, pair)?, "add": list(u, 2, pair)?, "remove": remove }))
}

fn target(u: &mut Unstructured<'_>) -> Result<Value> {
    let mut target = json!({});
    if u.ratio(1, 2)? {
        target["hostname"] = hostname(u)?;
    }
    if u.ratio(3, 4)? {
        let value = text(u, &["/z", "/", "", "z/", "/%2f", "/%", "/ä"])?;
        target["path"] = match u.ratio(1, 2)? {
            true => json!({ "type": "ReplacePrefixMatch", "replacePrefixMatch": value }),
            false => json!({ "type": "ReplaceFullPath", "replaceFullPath": value }),
        };
    }
    Ok(target)
}

fn redirect(u: &mut Unstructured<'_>) -> Result<Value> {
    let mut redirect = target(u)?;
    change(u, &mut redirect, "scheme", &json!(["https", "http", "gopher"]))?;
    change(u, &mut redirect, "port", &json!([80, 443, 8080, 0, 65536, -1]))?;
    change(u, &mut redirect, "statusCode", &json!([301, 303, 308, 299, -1]))?;
    Ok(redirect)
}

fn mirror(u: &mut Unstructured<'_>) -> Result<Value> {
    let mut mirror = json!({ "backendRef": backend_ref(u)? });
    change(u, &mut mirror, "percent", &json!([0, 50, 100, 101, -1]))?;
    let fractions = json!([{ "numerator": 1 }, { "numerator": 1, "denominator": 0 }, { "numerator": 2, "denominator": 1 }]);
    change(u, &mut mirror, "fraction", &fractions)?;
    Ok(mirror)
}

fn cors(u: &mut Unstructured<'_>) -> Result<Value> {
    let origins = list(u, 2, |u| {
        text(u, &["*", "https://a.example", "http://*.example:8080", "a", "https://*:0"])
    })?;
    let mut cors = json!({ "allowOrigins": origins });
    change(u, &mut cors, "allowMethods", &json!([["*"], ["GET", "PUT"], ["*", "GET"], ["brew"]]))?;
    change(u, &mut cors, "allowHeaders", &json!([["*"], ["x"], ["a b"]]))?;
    change(u, &mut cors, "allowCredentials", &json!([true, false]))?;
    change(u, &mut cors, "maxAge", &json!([1, 0, -1, 2_147_483_647]))?;
    Ok(cors)
}

fn backend(u: &mut Unstructured<'_>) -> Result<Value> {
    let mut backend = backend_ref(u)?;
    change(u, &mut backend, "weight", &json!([0, 1, 90, 1_000_000, 1_000_001, -1]))?;
    if u.ratio(1, 4)? {
        backend["filters"] = list(u, 2, filter)?.into();
    }
    Ok(backend)
}

fn backend_ref(u: &mut Unstructured<'_>) -> Result<Value> {
    let mut backend = json!({ "name": u.choose(&["svc", "two", "other", "nobody"])?, "port": 80 });
    change(u, &mut backend, "namespace", &json!(["default", "elsewhere", "apart", ""]))?;
    change(u, &mut backend, "port", &json!([7070, 443, 53, 0, 65536, null]))?;
    change(u, &mut backend, "kind", &json!(["Service", "Bucket", "ServiceImport"]))?;
    change(u, &mut backend, "group", &json!(["", "storage.example"]))?;
    Ok(backend)
}

fn grant(u: &mut Unstructured<'_>) -> Result<Value> {
    let from = list(u, 2, |u| {
        Ok(json!({
            "group": "gateway.networking.k8s.io",
            "kind": u.choose(&["HTTPRoute", "GRPCRoute", "TCPRoute", "Secret"])?,
            "namespace": u.choose(&["default", "elsewhere"])?,
        }))
    })?;
    let to = list(u, 2, |u| {
        Ok(json!({
            "group": "",
            "kind": u.choose(&["Service", "Secret"])?,
            "name": u.choose(&[Some("other"), Some(""), None])?,
        }))
    })?;
    Ok(json!({
        "apiVersion": "gateway.networking.k8s.io/v1beta1",
        "kind": "ReferenceGrant",
        "metadata": metadata(u)?,
        "spec": { "from": from, "to": to },
    }))
}

fn policy(u: &mut Unstructured<'_>) -> Result<Value> {
    let targets = list(u, 2, |u| {
        Ok(json!({ "group": "", "kind": "Service", "name": u.choose(&["svc", "two", "nobody"])? }))
    })?;
    let mut spec = json!({ "targetRefs": targets });
    let constraints = json!([
        { "budget": { "percent": 20, "interval": "10s" }, "minRetryRate": { "count": 10, "interval": "1s" } },
        { "budget": { "percent": 101 } },
        { "minRetryRate": { "count": 0, "interval": "0s" } },
    ]);
    change(u, &mut spec, "retryConstraint", &constraints)?;
    Ok(json!({
        "apiVersion": "gateway.networking.x-k8s.io/v1alpha1",
        "kind": "XBackendTrafficPolicy",
        "metadata": metadata(u)?,
        "spec": spec,
    }))
}

fn hostname(u: &mut Unstructured<'_>) -> Result<Value> {
    text(u, &["a.example", "*.a.example", "*.example", "A.example", "*", "10.0.0.1", "a_b"])
}

fn list(
    u: &mut Unstructured<'_>,
    most: usize,
    mut item: impl FnMut(&mut Unstructured<'_>) -> Result<Value>,
) -> Result<Vec<Value>> {
    let length = u.int_in_range(0..=most)?;
    (0..length).map(|_| item(u)).collect()
}

/// One of the texts; sometimes any text.
fn text(u: &mut Unstructured<'_>, texts: &[&str]) -> Result<Value> {
    Ok(match u.ratio(1, 8)? {
        true => u.arbitrary::<&str>()?.into(),
        false => (*u.choose(texts)?).into(),
    })
}

fn one(u: &mut Unstructured<'_>, values: &Value) -> Result<Value> {
    Ok(u.choose(values.as_array().map_or(&[][..], Vec::as_slice))?.clone())
}

/// Sometimes sets a field to one of the values.
fn change(u: &mut Unstructured<'_>, value: &mut Value, field: &str, to: &Value) -> Result<()> {
    if u.ratio(1, 4)? {
        value[field] = one(u, to)?;
    }
    Ok(())
}
