//! HTTPRouteRedirectHostAndStatus, -Path, -Port, -Scheme, -PortAndScheme, HTTPRoute303Redirect, 307
//! and 308. The suite redirects what it sends to a Gateway's port 80; here it is a Service's.

use serde_json::json;

use super::{Case, Infra};
use crate::testing::run;

/// A rule that redirects a path.
fn rule(path: &str, redirect: &str) -> String {
    format!(
        "- {{matches: [{{path: {{type: PathPrefix, value: {path}}}}}], \
         filters: [{{type: RequestRedirect, requestRedirect: {redirect}}}]}}\n"
    )
}

/// Rows of a path, a `requestRedirect`, what is asked for, the status and the Location.
async fn check(rows: &[(&str, &str, &str, u16, &str)]) {
    let rules: String = rows.iter().map(|(path, redirect, ..)| rule(path, redirect)).collect();
    let infra = Infra::new(&[("redirect", &rules)]).await;
    for (_, _, path, status, location) in rows {
        let got = &[("location", *location), ("content-length", "0")];
        infra.check(&Case { path, status: *status, got, ..Case::default() }).await;
    }
}

#[test]
fn host_and_status() {
    run(check(&[
        (
            "/hostname-redirect",
            "{hostname: example.org}",
            "/hostname-redirect",
            302,
            "http://example.org/hostname-redirect",
        ),
        (
            "/host-and-status",
            "{statusCode: 301, hostname: example.org}",
            "/host-and-status",
            301,
            "http://example.org/host-and-status",
        ),
    ]));
}

#[test]
fn path() {
    const PREFIX: &str =
        "path: {type: ReplacePrefixMatch, replacePrefixMatch: /replacement-prefix}";
    const FULL: &str = "path: {type: ReplaceFullPath, replaceFullPath: /replacement-full}";
    let rows = [
        (
            "/original-prefix",
            format!("{{{PREFIX}}}"),
            "/original-prefix/lemon",
            302,
            "http://svc/replacement-prefix/lemon",
        ),
        (
            "/full",
            "{path: {type: ReplaceFullPath, replaceFullPath: /full-path-replacement}}".into(),
            "/full/path/original",
            302,
            "http://svc/full-path-replacement",
        ),
        (
            "/path-and-host",
            format!("{{hostname: example.org, {PREFIX}}}"),
            "/path-and-host",
            302,
            "http://example.org/replacement-prefix",
        ),
        (
            "/path-and-status",
            format!("{{{PREFIX}, statusCode: 301}}"),
            "/path-and-status",
            301,
            "http://svc/replacement-prefix",
        ),
        (
            "/full-path-and-host",
            format!("{{hostname: example.org, {FULL}}}"),
            "/full-path-and-host",
            302,
            "http://example.org/replacement-full",
        ),
        (
            "/full-path-and-status",
            format!("{{{FULL}, statusCode: 301}}"),
            "/full-path-and-status",
            301,
            "http://svc/replacement-full",
        ),
    ];
    let rows: Vec<_> = rows.iter().map(|(a, b, c, d, e)| (*a, b.as_str(), *c, *d, *e)).collect();
    run(async move { check(&rows).await });
}

#[test]
fn port() {
    run(check(&[
        ("/port", "{port: 8083}", "/port", 302, "http://svc:8083/port"),
        (
            "/port-and-host",
            "{hostname: example.org, port: 8083}",
            "/port-and-host",
            302,
            "http://example.org:8083/port-and-host",
        ),
        (
            "/port-and-status",
            "{port: 8083, statusCode: 301}",
            "/port-and-status",
            301,
            "http://svc:8083/port-and-status",
        ),
        (
            "/port-and-host-and-status",
            "{port: 8083, hostname: example.org, statusCode: 302}",
            "/port-and-host-and-status",
            302,
            "http://example.org:8083/port-and-host-and-status",
        ),
    ]));
}

#[test]
fn scheme() {
    run(check(&[
        ("/scheme", "{scheme: https}", "/scheme", 302, "https://svc/scheme"),
        (
            "/scheme-and-host",
            "{hostname: example.org, scheme: https}",
            "/scheme-and-host",
            302,
            "https://example.org/scheme-and-host",
        ),
        (
            "/scheme-and-status",
            "{scheme: https, statusCode: 301}",
            "/scheme-and-status",
            301,
            "https://svc/scheme-and-status",
        ),
        (
            "/scheme-and-host-and-status",
            "{scheme: https, statusCode: 302, hostname: example.org}",
            "/scheme-and-host-and-status",
            302,
            "https://example.org/scheme-and-host-and-status",
        ),
    ]));
}

#[test]
fn the_other_statuses() {
    for (status, path, method) in
        [(303, "/see-other", "POST"), (307, "/temporary", "GET"), (308, "/permanent", "GET")]
    {
        run(async move {
            let rules = rule(path, &format!("{{statusCode: {status}}}"));
            let infra = Infra::new(&[("redirect", &rules)]).await;
            let location = format!("http://svc{path}");
            let got = &[("location", location.as_str())];
            infra.check(&Case { method, path, status, got, ..Case::default() }).await;
        });
    }
}

/// The scheme and the port that the suite asks of listeners on the ports 80, 8080 and 443. That on
/// 443 has TLS, which a sidecar does not end: what of it depends on the listener's scheme is http here.
#[test]
fn port_and_scheme() {
    let rows = [
        (80, "{hostname: example.org}", "http://example.org"),
        (80, "{port: 80, hostname: example.org}", "http://example.org"),
        (80, "{port: 8080, hostname: example.org}", "http://example.org:8080"),
        (80, "{scheme: https, hostname: example.org}", "https://example.org"),
        (80, "{scheme: https, port: 443, hostname: example.org}", "https://example.org"),
        (80, "{scheme: https, port: 8443, hostname: example.org}", "https://example.org:8443"),
        (8080, "{hostname: example.org}", "http://example.org:8080"),
        (8080, "{port: 80, hostname: example.org}", "http://example.org"),
        (8080, "{scheme: https, hostname: example.org}", "https://example.org"),
        (443, "{hostname: example.org}", "http://example.org:443"),
        (443, "{port: 443, hostname: example.org}", "http://example.org:443"),
        (443, "{port: 8443, hostname: example.org}", "http://example.org:8443"),
        (443, "{scheme: http, hostname: example.org}", "http://example.org"),
        (443, "{scheme: http, port: 80, hostname: example.org}", "http://example.org"),
        (443, "{scheme: http, port: 8080, hostname: example.org}", "http://example.org:8080"),
    ];
    run(async move {
        for (port, redirect, location) in rows {
            let mut infra = Infra::new(&[("redirect", &rule("/r", redirect))]).await;
            infra.mesh.apply(json!({
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": { "namespace": "default", "name": "same-namespace" },
                "spec": {
                    "clusterIP": "10.0.0.99",
                    "ports": [{ "name": "http", "port": port, "appProtocol": "http" }],
                },
            }));
            infra.parent = ([10, 0, 0, 99], port).into();
            let location = format!("{location}/r/s?q=1");
            let got = &[("location", location.as_str())];
            // The port of the Host is not asked for.
            for host in ["", "svc:1234"] {
                let case = Case { path: "/r/s?q=1", host, status: 302, got, ..Case::default() };
                infra.check(&case).await;
            }
        }
    });
}
