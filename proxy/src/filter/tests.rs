//! Each row of the API's tables for redirects and rewrites, and the header modifiers.

mod cors;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri};
use weft_gamma::route::{HeaderModifier, PathMatch, PathModifier, Redirect, Rewrite, Scheme};

use super::{Chain, Filter, location, redirect};

const NOTHING: Redirect =
    Redirect { scheme: None, hostname: None, port: None, path: None, status: StatusCode::FOUND };

/// A request for `svc:80`.
fn parts(uri: Uri) -> Parts {
    Request::get(uri).header("host", "svc:80").body(()).unwrap().into_parts().0
}

fn on_request(rule: &[Filter], backend: &[Filter], parts: &mut Parts, matched: Option<&PathMatch>) {
    Chain::new(rule, backend, &parts.headers).on_request(parts, matched);
}

fn on_response(rule: &[Filter], headers: &mut HeaderMap) {
    Chain::new(rule, &[], &HeaderMap::new()).on_response(headers);
}

/// The Location of a redirect of `http://host/a/b?q=1` that matched the prefix `/a`.
fn redirected(to: &Redirect, host: &str, service_port: u16) -> String {
    let uri = Uri::from_static("/a/b?q=1");
    let matched = PathMatch::Prefix("/a".into());
    let location = location(to, host, &uri, service_port, Some(&matched)).unwrap();
    location.to_str().unwrap().to_owned()
}

#[test]
fn the_port_of_a_redirect() {
    let http = Some(Scheme::Http);
    let https = Some(Scheme::Https);
    for (scheme, port, service_port, expected) in [
        // "If redirect scheme is not-empty, the redirect port MUST be the well-known port".
        (http, None, 9080, "http://svc"),
        (https, None, 9080, "https://svc"),
        // "If redirect scheme is empty, the redirect port MUST be the Gateway Listener port."
        (None, None, 9080, "http://svc:9080"),
        (None, None, 80, "http://svc"),
        (None, None, 443, "http://svc:443"),
        // "SHOULD NOT add the port number […] HTTP […] port 80 […] HTTPS […] port 443".
        (http, Some(80), 9080, "http://svc"),
        (https, Some(443), 9080, "https://svc"),
        (None, Some(80), 9080, "http://svc"),
        (http, Some(443), 9080, "http://svc:443"),
        (https, Some(80), 9080, "https://svc:80"),
        (None, Some(8080), 80, "http://svc:8080"),
        (https, Some(8443), 80, "https://svc:8443"),
    ] {
        let to = Redirect { scheme, port, ..NOTHING };
        let expected = format!("{expected}/a/b?q=1");
        assert_eq!(redirected(&to, "svc", service_port), expected, "{scheme:?} {port:?}");
    }
}

#[test]
fn the_host_of_a_redirect() {
    for (hostname, host, expected) in [
        (None, "svc", "svc"),
        (None, "svc:9080", "svc"),
        (None, "svc.ns.svc.cluster.local:80", "svc.ns.svc.cluster.local"),
        (None, "[::1]:80", "[::1]"),
        (None, "[fe80::12]", "[fe80::12]"),
        (Some("other.example"), "svc:9080", "other.example"),
    ] {
        let to = Redirect { hostname: hostname.map(Into::into), ..NOTHING };
        assert_eq!(redirected(&to, host, 80), format!("http://{expected}/a/b?q=1"), "{host}");
    }
}

/// HTTPPathModifier.replacePrefixMatch: the table of its documentation.
const REPLACED_PREFIXES: [(&str, &str, &str, &str); 13] = [
    ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
    ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
    ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
    ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
    ("/foo", "/foo", "/xyz", "/xyz"),
    ("/foo/", "/foo", "/xyz", "/xyz/"),
    ("/foo/bar", "/foo", "", "/bar"),
    ("/foo/", "/foo", "", "/"),
    ("/foo", "/foo", "", "/"),
    ("/foo/", "/foo", "/", "/"),
    ("/foo", "/foo", "/", "/"),
    ("/foo", "/", "/xyz", "/xyz/foo"),
    ("/", "/", "/xyz", "/xyz/"),
];

/// As the route's decoding stores it: without the trailing `/`.
fn prefix(value: &str) -> PathMatch {
    PathMatch::Prefix(value.strip_suffix('/').unwrap_or(value).into())
}

#[test]
fn a_prefix_is_replaced_alike_in_redirects_and_rewrites() {
    for (path, matched, replacement, expected) in REPLACED_PREFIXES {
        let modifier = Some(PathModifier::ReplacePrefixMatch(replacement.into()));
        let what = format!("{path}: {matched} by {replacement:?}");
        let matched = prefix(matched);
        for query in ["", "?", "?a=%2F&b"] {
            let uri: Uri = format!("{path}{query}").parse().unwrap();
            let to = Redirect { path: modifier.clone(), ..NOTHING };
            let location = location(&to, "svc", &uri, 80, Some(&matched)).unwrap();
            assert_eq!(location, format!("http://svc{expected}{query}"), "{what}");

            let rewrite = Rewrite { hostname: None, path: modifier.clone() };
            let mut parts = parts(uri);
            on_request(&[Filter::Rewrite(rewrite)], &[], &mut parts, Some(&matched));
            assert_eq!(parts.uri.to_string(), format!("{expected}{query}"), "{what}");
        }
    }
}

#[test]
fn a_full_path_is_replaced_and_the_query_kept() {
    let modifier = || Some(PathModifier::ReplaceFullPath("/full".into()));
    let to = Redirect { path: modifier(), ..NOTHING };
    assert_eq!(redirected(&to, "svc", 80), "http://svc/full?q=1");

    let rewrite =
        Rewrite { hostname: Some(HeaderValue::from_static("new.example")), path: modifier() };
    let mut parts = parts(Uri::from_static("/a/b?q=1"));
    on_request(&[Filter::Rewrite(rewrite)], &[], &mut parts, Some(&PathMatch::Unreadable));
    assert_eq!(parts.uri, "/full?q=1");
    assert_eq!(parts.headers["host"], "new.example");
}

#[test]
fn a_backends_rewrite_takes_the_place_of_its_rules() {
    let path = |modifier| Filter::Rewrite(Rewrite { hostname: None, path: Some(modifier) });
    let host = Filter::Rewrite(Rewrite {
        hostname: Some(HeaderValue::from_static("backend.example")),
        path: None,
    });
    let prefix = |to: &str| path(PathModifier::ReplacePrefixMatch(to.into()));
    let full = |to: &str| path(PathModifier::ReplaceFullPath(to.into()));
    for (rule, backend, expected) in [
        // Both replace what was matched.
        (prefix("/rule"), prefix("/backend"), "/backend/b?q=1"),
        (full("/rule"), prefix("/backend"), "/backend/b?q=1"),
        (prefix("/rule"), full("/backend"), "/backend?q=1"),
        // One that says nothing of the path leaves the rule's.
        (prefix("/rule"), host, "/rule/b?q=1"),
    ] {
        let mut parts = parts(Uri::from_static("/a/b?q=1"));
        let matched = PathMatch::Prefix("/a".into());
        on_request(&[rule], &[backend], &mut parts, Some(&matched));
        assert_eq!(parts.uri, expected);
    }
}

#[test]
fn what_has_no_path_keeps_none() {
    let full = || Some(PathModifier::ReplaceFullPath("/full".into()));
    for uri in [Uri::from_static("*"), Uri::from_static("db.example:5432")] {
        let mut parts = parts(uri.clone());
        let rewrite = Rewrite { hostname: None, path: full() };
        on_request(&[Filter::Rewrite(rewrite)], &[], &mut parts, None);
        assert_eq!(parts.uri, uri);
        assert_eq!(location(&NOTHING, "svc", &uri, 80, None).unwrap(), "http://svc/");
        let to = Redirect { path: full(), ..NOTHING };
        assert_eq!(location(&to, "svc", &uri, 80, None).unwrap(), "http://svc/full");
    }
}

fn modifier(set: &[(&str, &str)], add: &[(&str, &str)], remove: &[&str]) -> HeaderModifier {
    let name = |name: &str| HeaderName::try_from(name).unwrap();
    let pairs = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(key, value)| (name(key), value.parse().unwrap())).collect()
    };
    HeaderModifier {
        set: pairs(set),
        add: pairs(add),
        remove: remove.iter().map(|header| name(header)).collect(),
    }
}

/// The headers after the modifier, each as `name: value`, sorted by name.
fn modified(before: &[(&str, &str)], modifier: HeaderModifier) -> Vec<String> {
    let mut headers = HeaderMap::new();
    for (name, value) in before {
        let name = HeaderName::try_from(*name).unwrap();
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    on_response(&[Filter::ResponseHeaders(modifier)], &mut headers);
    let text = |value: &HeaderValue| String::from_utf8(value.as_bytes().to_vec()).unwrap();
    let mut lines: Vec<_> =
        headers.iter().map(|(name, value)| format!("{name}: {}", text(value))).collect();
    lines.sort();
    lines
}

#[test]
fn headers_are_set_added_and_removed() {
    for (before, change, expected) in [
        (&[][..], modifier(&[("a", "1")], &[], &[]), vec!["a: 1"]),
        (&[("A", "0"), ("a", "00")], modifier(&[("a", "1")], &[], &[]), vec!["a: 1"]),
        (&[], modifier(&[], &[("a", "1")], &[]), vec!["a: 1"]),
        // `a,b`, not `a, b`, which the API's conformance suite does not accept.
        (&[("a", "0")], modifier(&[], &[("A", "1")], &[]), vec!["a: 0,1"]),
        (&[("a", "0"), ("a", "1, 2")], modifier(&[], &[("a", "3")], &[]), vec!["a: 0,1, 2,3"]),
        (&[("a", "ö")], modifier(&[], &[("a", "3")], &[]), vec!["a: ö,3"]),
        (&[("a", "0"), ("a", "1"), ("b", "2")], modifier(&[], &[], &["A", "c"]), vec!["b: 2"]),
        (
            &[("a", "0"), ("b", "0"), ("c", "0"), ("d", "0")],
            modifier(&[("a", "1")], &[("b", "1")], &["c"]),
            vec!["a: 1", "b: 0,1", "d: 0"],
        ),
    ] {
        let what = format!("{change:?}");
        assert_eq!(modified(before, change), expected, "{what}");
    }
}

#[test]
fn filters_run_in_their_order_and_each_on_its_side() {
    let filters = [
        Filter::RequestHeaders(modifier(&[("side", "request")], &[], &[])),
        Filter::ResponseHeaders(modifier(&[("side", "response")], &[], &[])),
        Filter::RequestHeaders(modifier(&[], &[("side", "again")], &[])),
    ];
    let mut parts = parts(Uri::from_static("/"));
    on_request(&filters, &[], &mut parts, None);
    assert_eq!(parts.headers["side"], "request,again");
    let mut headers = HeaderMap::new();
    on_response(&filters, &mut headers);
    assert_eq!(headers["side"], "response");
}

#[test]
fn the_redirect_is_found_among_the_filters() {
    let headers = Filter::RequestHeaders(HeaderModifier::default());
    assert_eq!(redirect(std::slice::from_ref(&headers)), None);
    assert_eq!(redirect(&[headers, Filter::Redirect(NOTHING)]), Some(&NOTHING));
}
