//! What takes the place of a request's path, in URLRewrite and RequestRedirect.
//!
//! The bytes are lines: the request's target, the prefix that the route matches, the modifier's type
//! (`full` or `prefix`) and value, and a hostname, which may be missing.
//!
//! ```text
//! /foo/bar?q=1
//! /foo
//! prefix /xyz
//! example.com
//! ```

use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Uri};
use serde_json::{Value, json};
use weft_gamma::object::{Object, decode};
use weft_gamma::path::has_prefix;
use weft_gamma::route::{Filter, HttpMatch, Match, PathMatch, Route};
use weft_proxy::fuzz;

/// The Hosts that clients send, with the name that a redirect takes of them.
const HOSTS: [(&str, &str); 4] = [
    ("svc", "svc"),
    ("svc.default:8080", "svc.default"),
    ("[::1]:80", "[::1]"),
    ("[::1]", "[::1]"),
];
/// The Service's port.
const PORT: u16 = 9080;

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some(case) = Case::read(text) else { return };
    let Some(route) = case.route() else { return };
    let [rewrite, redirect] = &route.rules[..] else { panic!("{} rules", route.rules.len()) };
    // What cannot be a path is refused in both alike.
    let refused = [rewrite, redirect].map(|it| !it.refusals.is_empty());
    assert_eq!(refused[0], refused[1], "{:?}\n{:?}", rewrite.refusals, redirect.refusals);
    if refused[0] {
        return;
    }
    let [Match::Http(HttpMatch { path: matched, .. })] = &rewrite.matches[..] else {
        panic!("{:?}", rewrite.matches)
    };
    let PathMatch::Prefix(prefix) = matched else { panic!("{matched:?}") };
    let path = case.target.path();
    let is_matched = segments_under(path, case.prefix).is_some();
    assert_eq!(has_prefix(path, prefix), is_matched, "{path} under {prefix}");
    if !is_matched {
        return;
    }
    for filter in rewrite.filters.iter().chain(&redirect.filters) {
        match filter {
            Filter::Rewrite(it) => case.rewritten(it, matched),
            Filter::Redirect(it) => case.redirected(it, matched),
            other => panic!("{other:?}"),
        }
    }
}

struct Case<'a> {
    target: Uri,
    prefix: &'a str,
    /// `full` or `prefix`.
    kind: &'a str,
    value: &'a str,
    hostname: Option<&'a str>,
    host: (&'static str, &'static str),
}

impl<'a> Case<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let mut lines = text.split('\n');
        // As hyper reads the target of a request line: without a path it is none, or an authority, which is
        // refused.
        let target = Uri::try_from(lines.next()?).ok().filter(|it| it.authority().is_none())?;
        let prefix = lines.next()?;
        let (kind, value) = lines.next()?.split_once(' ')?;
        let hostname = lines.next().filter(|it| !it.is_empty());
        let host = HOSTS[text.len() % HOSTS.len()];
        Some(Self { target, prefix, kind, value, hostname, host })
    }

    /// The route with a rule that rewrites and one that redirects; None where it is not even read.
    fn route(&self) -> Option<Route> {
        let path = match self.kind {
            "full" => json!({ "type": "ReplaceFullPath", "replaceFullPath": self.value }),
            "prefix" => json!({ "type": "ReplacePrefixMatch", "replacePrefixMatch": self.value }),
            _ => return None,
        };
        let matches = json!([{ "path": { "type": "PathPrefix", "value": self.prefix } }]);
        let mut target = json!({ "path": path });
        if let Some(hostname) = self.hostname {
            target["hostname"] = hostname.into();
        }
        let decoded = decode(json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": { "namespace": "default", "name": "route" },
            "spec": {
                "parentRefs": [{ "group": "", "kind": "Service", "name": "svc" }],
                "rules": [
                    {
                        "matches": matches,
                        "filters": [{ "type": "URLRewrite", "urlRewrite": target }],
                        "backendRefs": [{ "name": "svc", "port": PORT }],
                    },
                    {
                        "matches": matches,
                        "filters": [{ "type": "RequestRedirect", "requestRedirect": target }],
                    },
                ],
            },
        }));
        decoded.objects.into_iter().find_map(|it| match it {
            Object::Route(route) => Some(route),
            _ => None,
        })
    }

    fn rewritten(&self, rewrite: &weft_gamma::route::Rewrite, matched: &PathMatch) {
        let request = Request::builder().uri(self.target.clone()).header("host", self.host.0);
        let (mut parts, ()) = request.body(()).expect("a request").into_parts();
        fuzz::rewrite(&mut parts, rewrite, matched);
        let expected = match self.target.path().starts_with('/') {
            true => self.replaced(),
            // `OPTIONS *` has no path.
            false => self.target.path().to_owned(),
        };
        assert_eq!(parts.uri.path(), expected, "{}", self.told());
        assert_eq!(parts.uri.query(), self.target.query(), "{}", self.told());
        assert!(is_target(&parts.uri), "{}: {}", parts.uri, self.told());
        let hosts: Vec<&HeaderValue> = parts.headers.get_all("host").iter().collect();
        assert_eq!(hosts, [self.hostname.unwrap_or(self.host.0)], "{}", self.told());
    }

    fn redirected(&self, redirect: &weft_gamma::route::Redirect, matched: &PathMatch) {
        let location = fuzz::location(redirect, self.host.0, &self.target, PORT, matched);
        let location = location.unwrap_or_else(|| panic!("no Location: {}", self.told()));
        // Of `OPTIONS *` there is nothing that a prefix could be replaced of.
        let expected = match self.target.path().starts_with('/') || self.kind == "full" {
            true => self.replaced(),
            false => "/".to_owned(),
        };
        let query = self.target.query().map(|it| format!("?{it}")).unwrap_or_default();
        let name = self.hostname.unwrap_or(self.host.1);
        let expected = format!("http://{name}:{PORT}{expected}{query}");
        assert_eq!(location.as_bytes(), expected.as_bytes(), "{}", self.told());
        let uri = Uri::try_from(location.as_bytes());
        assert!(uri.is_ok(), "{location:?}: {}", self.told());
    }

    /// What the API says that the path becomes, segment by segment.
    fn replaced(&self) -> String {
        let value = match self.value.starts_with('/') {
            true => self.value.to_owned(),
            false => format!("/{}", self.value),
        };
        if self.kind == "full" {
            return value;
        }
        let rest = segments_under(self.target.path(), self.prefix).unwrap_or_default();
        let mut segments: Vec<&str> =
            value.strip_suffix('/').unwrap_or(&value).split('/').collect();
        segments.extend(rest);
        match &segments[..] {
            [""] => "/".to_owned(),
            segments => segments.join("/"),
        }
    }

    fn told(&self) -> Value {
        json!({
            "target": self.target.to_string(),
            "prefix": self.prefix,
            "modifier": [self.kind, self.value],
            "hostname": self.hostname,
        })
    }
}

/// The segments of a path behind those of a prefix, whose last `/` says nothing; None where it has not
/// that prefix. Everything is under `/`.
fn segments_under<'p>(path: &'p str, prefix: &str) -> Option<Vec<&'p str>> {
    let prefix: Vec<&str> = prefix.strip_suffix('/').unwrap_or(prefix).split('/').collect();
    let path: Vec<&str> = path.split('/').collect();
    if prefix == [""] {
        return Some(path[1.min(path.len())..].to_vec());
    }
    path.starts_with(&prefix).then(|| path[prefix.len()..].to_vec())
}

/// Whether it can stand in a request line and is read there as what it is.
fn is_target(uri: &Uri) -> bool {
    let written = uri.to_string();
    let is_plain = written.bytes().all(|byte| byte > b' ' && byte != 0x7f);
    is_plain
        && PathAndQuery::try_from(written.as_str())
            .is_ok_and(|it| Some(&it) == uri.path_and_query())
}
