//! Which origins are allowed, and what headers say so.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use weft_gamma::route;

use crate::filter::{Chain, Cors, Filter};

fn cors(allow_origins: &[&str], allow_credentials: bool) -> route::Cors {
    route::Cors {
        allow_origins: allow_origins.iter().map(|&origin| origin.into()).collect(),
        allow_credentials,
        allow_methods: Vec::new(),
        allow_headers: Vec::new(),
        expose_headers: Vec::new(),
        max_age: 5,
    }
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
    };
    pairs.iter().map(pair).collect()
}

/// The headers, each as `name: value`, sorted by name.
fn sorted(headers: &HeaderMap) -> Vec<String> {
    let line =
        |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", value.to_str().unwrap());
    let mut lines: Vec<_> = headers.iter().map(line).collect();
    lines.sort();
    lines
}

/// The headers of a response to a request with these headers.
fn answered(
    cors: &route::Cors,
    request: &HeaderMap,
    response: &[(&'static str, &str)],
) -> Vec<String> {
    let filters = [Filter::Cors(Cors::from(cors))];
    let mut response = headers(response);
    Chain::new(&filters, &[], request).on_response(&mut response);
    sorted(&response)
}

/// The headers of the answer to a preflight from `https://a.example`, or why there are none.
fn preflight(cors: &route::Cors, asked: &[(&'static str, &str)]) -> Option<Vec<String>> {
    let filters = [Filter::Cors(Cors::from(cors))];
    let mut request = Request::new(());
    *request.method_mut() = Method::OPTIONS;
    *request.headers_mut() = headers(&[("origin", "https://a.example")]);
    request.headers_mut().extend(headers(asked));
    let parts = request.into_parts().0;
    let mut chain = Chain::new(&filters, &[], &parts.headers);
    let mut answer = chain.preflight(&parts)?.unwrap();
    // What runs on every response leaves the filter's own alone.
    chain.on_response(&mut answer);
    Some(sorted(&answer))
}

/// The sentences of HTTPCORSFilter.allowOrigins.
#[test]
fn origins() {
    let wildcards = &["https://*.bar.com", "http://*", "https://*:8443"];
    for (allowed, origin, expected) in [
        (&["https://www.foo.com"][..], "https://www.foo.com", true),
        (&["https://www.foo.com"], "http://www.foo.com", false),
        (&["https://www.foo.com"], "https://foo.com", false),
        (&["https://www.foo.com"], "https://www.foo.com.evil.example", false),
        (&["https://WWW.foo.com"], "https://www.FOO.com", true),
        // "if not included, port `80` is assumed for `http` scheme origins, and port `443` […]"
        (&["https://www.foo.com"], "https://www.foo.com:443", true),
        (&["https://www.foo.com:443"], "https://www.foo.com", true),
        (&["https://www.foo.com"], "https://www.foo.com:80", false),
        (&["http://www.foo.com:80"], "http://www.foo.com", true),
        (&["http://www.foo.com"], "http://www.foo.com:8080", false),
        (&["http://www.foo.com:8080"], "http://www.foo.com:8080", true),
        // "`*` is a greedy match to the _left_, including any number of DNS labels".
        (wildcards, "https://www.bar.com", true),
        (wildcards, "https://a.b.c.bar.com", true),
        (wildcards, "https://bar.com", false),
        (wildcards, "https://.bar.com", false),
        (wildcards, "https://www.foobar.com", false),
        (wildcards, "https://evil.example/.bar.com", false),
        (wildcards, "https://evil.example?.bar.com", false),
        (wildcards, "https://user@x.bar.com", false),
        // "A wildcard by itself matches all hosts."
        (wildcards, "http://anything", true),
        (wildcards, "http://[::1]", true),
        (wildcards, "http://anything:81", false),
        (wildcards, "https://anything:8443", true),
        (wildcards, "https://[::1]:8443", true),
        (wildcards, "https://anything", false),
        (wildcards, "null", false),
        (wildcards, "chrome-extension://abc", false),
        (wildcards, "https://www.bar.com:+443", false),
        (wildcards, "https://www.bar.com:65979", false),
        (wildcards, "", false),
        // "An origin value that includes _only_ the `*` character indicates requests from all".
        (&["*"], "null", true),
        (&["*"], "chrome-extension://abc", true),
        (&[], "https://www.foo.com", false),
    ] {
        let allowing = cors(allowed, true);
        let answer = answered(&allowing, &headers(&[("origin", origin)]), &[]);
        let expected = match expected {
            // "sets value of the header `Access-Control-Allow-Origin` same as the `Origin` header".
            true => vec![
                "access-control-allow-credentials: true".to_owned(),
                format!("access-control-allow-origin: {origin}"),
                "vary: Origin".to_owned(),
            ],
            false => vec!["vary: Origin".to_owned()],
        };
        assert_eq!(answer, expected, "{origin:?} of {allowed:?}");
    }
}

#[test]
fn a_request_has_one_origin_or_none() {
    let allowing = cors(&["https://a.example"], false);
    let mut two = headers(&[("origin", "https://a.example")]);
    two.append("origin", HeaderValue::from_static("https://b.example"));
    assert_eq!(answered(&allowing, &two, &[]), ["vary: Origin"]);
    assert_eq!(answered(&allowing, &HeaderMap::new(), &[]), ["vary: Origin"]);
}

#[test]
fn all_origins_without_credentials_are_one_answer_for_all() {
    let allowing = cors(&["*"], false);
    let origin = headers(&[("origin", "https://a.example")]);
    assert_eq!(answered(&allowing, &origin, &[]), ["access-control-allow-origin: *"]);
    assert_eq!(answered(&allowing, &HeaderMap::new(), &[]), [""; 0]);
}

#[test]
fn what_a_backend_says_of_cors_is_replaced_and_the_rest_is_kept() {
    let own = &[
        ("access-control-allow-origin", "*"),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-methods", "DELETE"),
        ("access-control-allow-headers", "x"),
        ("access-control-expose-headers", "x-secret"),
        ("access-control-max-age", "1"),
        ("vary", "Accept"),
        ("x-kept", "1"),
    ];
    let mut allowing = cors(&["https://a.example"], false);
    allowing.expose_headers = vec!["x-one".into(), "x-two".into()];
    let allowed = headers(&[("origin", "https://a.example")]);
    assert_eq!(
        answered(&allowing, &allowed, own),
        [
            "access-control-allow-origin: https://a.example",
            "access-control-expose-headers: x-one,x-two",
            "vary: Accept,Origin",
            "x-kept: 1",
        ]
    );
    let other = headers(&[("origin", "https://b.example")]);
    assert_eq!(answered(&allowing, &other, own), ["vary: Accept,Origin", "x-kept: 1"]);
}

#[test]
fn vary_is_said_once() {
    let allowing = cors(&["https://a.example"], false);
    for said in ["origin", "Accept, ORIGIN", "*"] {
        let answer = answered(&allowing, &HeaderMap::new(), &[("vary", said)]);
        assert_eq!(answer, [format!("vary: {said}")]);
    }
    let answer = answered(&allowing, &HeaderMap::new(), &[("vary", "x-origin")]);
    assert_eq!(answer, ["vary: x-origin,Origin"]);
}

/// "the gateway cannot use the `*`" where credentials are allowed.
#[test]
fn all_headers_are_exposed_by_name_where_credentials_are_allowed() {
    let origin = headers(&[("origin", "https://a.example")]);
    let response = &[("x-one", "1"), ("set-cookie", "a=1")];
    for (credentials, expected) in [(false, "*"), (true, "x-one")] {
        let mut allowing = cors(&["https://a.example"], credentials);
        allowing.expose_headers = vec!["*".into()];
        let answer = answered(&allowing, &origin, response);
        let exposed = format!("access-control-expose-headers: {expected}");
        assert!(answer.contains(&exposed), "{answer:?}");
        // Of nothing nothing is exposed.
        let asked = preflight(&allowing, &[("access-control-request-method", "PUT")]).unwrap();
        assert_eq!(asked.contains(&exposed), !credentials, "{asked:?}");
    }
}

#[test]
fn preflights() {
    let asked = &[
        ("access-control-request-method", "PUT"),
        ("access-control-request-headers", "authorization, x-one"),
    ];
    let method_only = &asked[..1];
    let plain = cors(&["https://a.example"], true);
    let lists = route::Cors {
        allow_methods: vec!["GET".into(), "DELETE".into()],
        allow_headers: vec!["x-one".into(), "X-Two".into()],
        expose_headers: vec!["x-three".into()],
        max_age: 3600,
        ..plain.clone()
    };
    let any = route::Cors {
        allow_methods: vec!["*".into()],
        allow_headers: vec!["*".into()],
        ..plain.clone()
    };
    let open =
        route::Cors { allow_origins: vec!["*".into()], allow_credentials: false, ..any.clone() };
    let origin = "access-control-allow-origin: https://a.example";
    let credentials = "access-control-allow-credentials: true";
    for (cors, asked, expected) in [
        // "When the `MaxAge` field is unspecified, the gateway sets […] 5 by default."
        (
            &plain,
            &asked[..],
            vec![credentials, origin, "access-control-max-age: 5", "vary: Origin"],
        ),
        (
            &lists,
            asked,
            vec![
                credentials,
                "access-control-allow-headers: x-one,X-Two",
                "access-control-allow-methods: GET,DELETE",
                origin,
                "access-control-expose-headers: x-three",
                "access-control-max-age: 3600",
                "vary: Origin",
            ],
        ),
        (
            &any,
            asked,
            vec![
                credentials,
                "access-control-allow-headers: authorization, x-one",
                "access-control-allow-methods: PUT",
                origin,
                "access-control-max-age: 5",
                "vary: Origin,access-control-request-method,access-control-request-headers",
            ],
        ),
        // "If the `Access-Control-Request-Headers` header is not present […] omit".
        (
            &any,
            method_only,
            vec![
                credentials,
                "access-control-allow-methods: PUT",
                origin,
                "access-control-max-age: 5",
                "vary: Origin,access-control-request-method,access-control-request-headers",
            ],
        ),
        (
            &open,
            method_only,
            vec![
                "access-control-allow-methods: PUT",
                "access-control-allow-origin: *",
                "access-control-max-age: 5",
                "vary: access-control-request-method,access-control-request-headers",
            ],
        ),
    ] {
        assert_eq!(preflight(cors, asked).unwrap(), expected, "{cors:?}");
    }
    assert_eq!(preflight(&plain, &[]), None, "an OPTIONS that announces nothing");
}
