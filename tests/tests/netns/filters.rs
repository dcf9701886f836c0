//! Filters, checked by what the backend saw and by what the client got.

use crate::support::{World, http_route};

/// A rule for a path prefix with filters, to echo-v1.
fn rule(path: &str, filters: &str) -> String {
    format!(
        "  - matches:\n    - path:\n        type: PathPrefix\n        value: {path}\n    filters:\n\
         {filters}    backendRefs:\n    - name: echo-v1\n      port: 80\n"
    )
}

#[test]
fn request_headers() {
    let rules = rule(
        "/all",
        "    - type: RequestHeaderModifier
      requestHeaderModifier:
        set:
        - name: X-Set
          value: new
        - name: x-set-fresh
          value: fresh
        add:
        - name: X-Add
          value: two
        remove:
        - X-Remove
        - x-absent
",
    ) + &rule(
        "/host",
        "    - type: RequestHeaderModifier
      requestHeaderModifier:
        add:
        - name: x-several
          value: a,b
",
    );
    let world = World::routed(&http_route("headers", &rules));
    let answer = world.ask(&[
        "-H",
        "x-set: old",
        "-H",
        "X-SET: older",
        "-H",
        "x-add: one",
        "-H",
        "x-remove: gone",
        "-H",
        "x-remove: gone too",
        "-H",
        "x-other: stays",
        "http://echo/all",
    ]);
    assert_eq!(answer.header("x-set"), ["new"]);
    assert_eq!(answer.header("x-set-fresh"), ["fresh"]);
    // Separate lines or `a,b`; the API's tests do not take `a, b`.
    assert_eq!(answer.header("x-add").join(","), "one,two");
    assert!(answer.header("x-remove").is_empty(), "{answer:?}");
    assert_eq!(answer.header("x-other"), ["stays"]);
    let answer = world.ask(&["http://echo/host"]);
    assert_eq!(answer.header("x-several").join(","), "a,b");
    assert!(answer.header("x-set").is_empty(), "another rule's filter: {answer:?}");
}

#[test]
fn response_headers() {
    let rules = rule(
        "/headers",
        "    - type: ResponseHeaderModifier
      responseHeaderModifier:
        set:
        - name: X-Set
          value: new
        add:
        - name: x-add
          value: two
        remove:
        - X-Remove
",
    );
    let world = World::routed(&http_route("headers", &rules));
    let head = world
        .head(&["http://echo/headers?x-set=old&x-add=one&x-remove=gone&x-other=stays"])
        .to_lowercase();
    let values = |name: &str| -> Vec<&str> {
        head.lines().filter_map(|line| line.strip_prefix(&format!("{name}: "))).collect()
    };
    assert_eq!(values("x-set"), ["new"]);
    assert_eq!(values("x-add").join(","), "one,two");
    assert!(values("x-remove").is_empty(), "{head}");
    assert_eq!(values("x-other"), ["stays"]);
    assert_eq!(values("x-version"), ["v1"]);
}

#[test]
fn filters_of_a_backend_are_for_that_backend() {
    let rules = "  \
  - filters:
    - type: RequestHeaderModifier
      requestHeaderModifier:
        set:
        - name: x-rule
          value: both
    backendRefs:
    - name: echo-v1
      port: 80
      filters:
      - type: RequestHeaderModifier
        requestHeaderModifier:
          set:
          - name: x-backend
            value: first
      - type: ResponseHeaderModifier
        responseHeaderModifier:
          set:
          - name: x-answered
            value: by-first
    - name: echo-v2
      port: 80";
    let world = World::routed(&http_route("backend-filters", rules));
    let mut versions = std::collections::BTreeSet::new();
    for _ in 0..40 {
        let output = world.client.curl(&["-i", "http://echo/"]).expect("curl").success();
        let output = output.expect("an answer");
        let first = output.contains(r#""version":"v1""#);
        versions.insert(first);
        assert!(output.contains(r#"["x-rule","both"]"#), "{output}");
        assert_eq!(output.contains(r#"["x-backend","first"]"#), first, "{output}");
        assert_eq!(output.contains("x-answered: by-first"), first, "{output}");
    }
    assert_eq!(versions.len(), 2, "both backends were chosen");
}

/// A rule that redirects; `fields` as a flow mapping.
fn redirect(path: &str, fields: &str) -> String {
    format!(
        "  - matches:\n    - path:\n        type: PathPrefix\n        value: {path}\n    filters:\n    \
         - type: RequestRedirect\n      requestRedirect: {fields}\n"
    )
}

#[test]
fn redirects() {
    let full = "path: {type: ReplaceFullPath, replaceFullPath: /new}";
    let prefix = "path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}";
    let cases: [(&str, String, &str, &str); 14] = [
        ("/host", "{hostname: example.org}".into(), "302", "http://example.org/host/x?q=1"),
        // The scheme's own port when only the scheme is given.
        ("/scheme", "{scheme: https}".into(), "302", "https://echo/scheme/x?q=1"),
        ("/port", "{port: 8443}".into(), "302", "http://echo:8443/port/x?q=1"),
        ("/both", "{scheme: https, port: 8443}".into(), "302", "https://echo:8443/both/x?q=1"),
        ("/p80", "{scheme: http, port: 80}".into(), "302", "http://echo/p80/x?q=1"),
        ("/p443", "{scheme: https, port: 443}".into(), "302", "https://echo/p443/x?q=1"),
        ("/odd", "{scheme: https, port: 80}".into(), "302", "https://echo:80/odd/x?q=1"),
        ("/full", format!("{{{full}}}"), "302", "http://echo/new?q=1"),
        ("/prefix", format!("{{{prefix}}}"), "302", "http://echo/new/x?q=1"),
        ("/s301", "{hostname: a.b, statusCode: 301}".into(), "301", "http://a.b/s301/x?q=1"),
        ("/s303", "{hostname: a.b, statusCode: 303}".into(), "303", "http://a.b/s303/x?q=1"),
        ("/s307", "{hostname: a.b, statusCode: 307}".into(), "307", "http://a.b/s307/x?q=1"),
        ("/s308", "{hostname: a.b, statusCode: 308}".into(), "308", "http://a.b/s308/x?q=1"),
        (
            "/every",
            format!(
                "{{scheme: https, hostname: example.org, port: 444, {prefix}, statusCode: 301}}"
            ),
            "301",
            "https://example.org:444/new/x?q=1",
        ),
    ];
    let rules: String = cases.iter().map(|(path, fields, ..)| redirect(path, fields)).collect();
    let world = World::routed(&http_route("redirects", &rules));
    let format = "%{http_code} %header{location}";
    for (path, fields, status, location) in &cases {
        let url = format!("http://echo{path}/x?q=1");
        for http in ["--http1.1", "--http2-prior-knowledge"] {
            let arguments = [http, "-o", "/dev/null", "-w", format, &url];
            let came = world.client.curl(&arguments).expect("curl").stdout;
            assert_eq!(came, format!("{status} {location}"), "{fields} {http}");
        }
    }
    // The Service's port is the one that is kept when neither scheme nor port is given.
    let url = "http://echo:9000/host/x";
    let came = world.client.curl(&["-o", "/dev/null", "-w", format, url]).expect("curl").stdout;
    assert_eq!(came, "302 http://example.org:9000/host/x");
    let url = "http://echo:9000/scheme/x";
    let came = world.client.curl(&["-o", "/dev/null", "-w", format, url]).expect("curl").stdout;
    assert_eq!(came, "302 https://echo/scheme/x");
}

/// A rule that rewrites; `fields` as a flow mapping.
fn rewrite(path: &str, fields: &str) -> String {
    rule(path, &format!("    - type: URLRewrite\n      urlRewrite: {fields}\n"))
}

#[test]
fn rewrites() {
    let prefix =
        |to: &str| format!("{{path: {{type: ReplacePrefixMatch, replacePrefixMatch: {to:?}}}}}");
    let full = "{path: {type: ReplaceFullPath, replaceFullPath: /one}}";
    let rules = [
        rewrite("/host", "{hostname: other.example}"),
        rewrite("/full", full),
        rewrite("/a", &prefix("/xyz")),
        rewrite("/b", &prefix("/xyz/")),
        rewrite("/c", &prefix("")),
        rewrite("/d", &prefix("/")),
        rewrite("/e/", &prefix("/xyz")),
        rewrite("/f", "{hostname: x.example, path: {type: ReplaceFullPath, replaceFullPath: /}}"),
    ];
    let world = World::routed(&http_route("rewrites", &rules.concat()));
    for (sent, path, host) in [
        ("/host/x?q=1", "/host/x?q=1", "other.example"),
        ("/full/x?q=1", "/one?q=1", "echo"),
        ("/a/bar?q=/a", "/xyz/bar?q=/a", "echo"),
        ("/a", "/xyz", "echo"),
        ("/a/", "/xyz/", "echo"),
        ("/a?q", "/xyz?q", "echo"),
        ("/b/bar", "/xyz/bar", "echo"),
        ("/b", "/xyz", "echo"),
        ("/c/bar", "/bar", "echo"),
        ("/c", "/", "echo"),
        ("/c/", "/", "echo"),
        ("/d/bar", "/bar", "echo"),
        ("/d", "/", "echo"),
        ("/e/bar", "/xyz/bar", "echo"),
        ("/e", "/xyz", "echo"),
        ("/f/anything", "/", "x.example"),
    ] {
        let url = format!("http://echo{sent}");
        for http in ["--http1.1", "--http2-prior-knowledge"] {
            let answer = world.ask(&[http, &url]);
            assert_eq!((answer.path.as_str(), answer.host.as_str()), (path, host), "{sent} {http}");
        }
    }
    assert_eq!(world.status(&["http://echo/abc"]), "404", "a prefix ends at a segment");
}

#[test]
fn cors() {
    let rules = rule(
        "/",
        "    - type: CORS
      cors:
        allowOrigins: [\"https://*.example.com\"]
        allowMethods: [PUT]
        allowHeaders: [\"*\"]
        allowCredentials: true
        maxAge: 60
",
    );
    let world = World::routed(&http_route("shared", &rules));
    let origin = "origin: https://shop.example.com";
    let method = "access-control-request-method: PUT";
    let headers = "access-control-request-headers: authorization,x-one";
    let url = "http://echo/shared";
    for http in ["--http1.1", "--http2-prior-knowledge"] {
        let preflight = ["-X", "OPTIONS", "-H", method, "-H", headers, http, url, "-H"];
        let head = world.head(&[&preflight[..], &[origin]].concat()).to_lowercase();
        assert!(head.contains(" 204"), "{head}");
        for expected in [
            "access-control-allow-origin: https://shop.example.com\r\n",
            "access-control-allow-credentials: true\r\n",
            "access-control-allow-methods: put\r\n",
            "access-control-allow-headers: authorization,x-one\r\n",
            "access-control-max-age: 60\r\n",
        ] {
            assert!(head.contains(expected), "{expected} in {head}");
        }
        assert!(!head.contains("x-version"), "the backend was asked: {head}");
        let head = world.head(&[&preflight[..], &["origin: https://example.org"]].concat());
        assert!(head.contains(" 403") && head.contains("origin_not_allowed"), "{head}");

        // What the backend says of CORS by itself is not what counts.
        let own = "http://echo/headers?access-control-allow-origin=*&access-control-max-age=1";
        let head = world.head(&[http, "-H", origin, "-X", "PUT", own]);
        assert!(head.contains("access-control-allow-origin: https://shop.example.com"), "{head}");
        assert!(head.contains("x-version: v1") && !head.contains("max-age"), "{head}");
    }
}
