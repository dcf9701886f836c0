//! Filters: what they parse to, and what is refused.

use http::{HeaderName, HeaderValue, StatusCode};

use super::{http_route, problems, route, rule};
use crate::route::{
    Cors, Filter, HeaderModifier, PathModifier, Redirect, RefusalReason, Rewrite, Scheme,
};

/// The only filter of a rule, as the filter of the rule and of its backend: one parser for both.
fn filter(text: &str) -> Filter {
    let decoded = http_route(&format!("- filters: [{text}]"));
    assert_eq!(problems(&decoded), [""; 0], "{text}");
    let of_rule = rule(&decoded).filters[0].clone();
    let decoded = http_route(&format!("- backendRefs: [{{name: a, port: 80, filters: [{text}]}}]"));
    assert_eq!(problems(&decoded), [""; 0], "{text}");
    let of_backend = rule(&decoded).backends[0].filters[0].clone();
    if !matches!(of_rule, Filter::Mirror(_)) {
        assert_eq!(of_rule, of_backend);
    }
    of_rule
}

fn headers(pairs: &[(&'static str, &'static str)]) -> Vec<(HeaderName, HeaderValue)> {
    let pair = |(name, value): &(&'static str, &'static str)| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    pairs.iter().map(pair).collect()
}

#[test]
fn header_modifiers() {
    let modifier = "{set: [{name: X-A, value: one}, {name: x-a, value: two}], add: [{name: x-b, value: 'b c'}], remove: [x-c, X-D]}";
    let expected = HeaderModifier {
        // Of equivalent names the first counts.
        set: headers(&[("x-a", "one")]),
        add: headers(&[("x-b", "b c")]),
        remove: vec![HeaderName::from_static("x-c"), HeaderName::from_static("x-d")],
    };
    let request = format!("{{type: RequestHeaderModifier, requestHeaderModifier: {modifier}}}");
    assert_eq!(filter(&request), Filter::RequestHeaders(expected.clone()));
    let response = format!("{{type: ResponseHeaderModifier, responseHeaderModifier: {modifier}}}");
    assert_eq!(filter(&response), Filter::ResponseHeaders(expected));
}

#[test]
fn redirects() {
    let empty = Redirect {
        scheme: None,
        hostname: None,
        port: None,
        path: None,
        status: StatusCode::FOUND,
    };
    let text = "{type: RequestRedirect, requestRedirect: {}}";
    assert_eq!(filter(text), Filter::Redirect(empty.clone()), "302 by default");
    for code in [301, 302, 303, 307, 308] {
        let text = format!("{{type: RequestRedirect, requestRedirect: {{statusCode: {code}}}}}");
        let status = StatusCode::from_u16(code).unwrap();
        assert_eq!(filter(&text), Filter::Redirect(Redirect { status, ..empty.clone() }));
    }
    let text = "{type: RequestRedirect, requestRedirect: {scheme: https, hostname: a.example, port: 8443, path: {type: ReplaceFullPath, replaceFullPath: /x}}}";
    let full = Redirect {
        scheme: Some(Scheme::Https),
        hostname: Some("a.example".to_owned()),
        port: Some(8443),
        path: Some(PathModifier::ReplaceFullPath("/x".to_owned())),
        ..empty
    };
    assert_eq!(filter(text), Filter::Redirect(full));
}

#[test]
fn rewrites() {
    let text = "{type: URLRewrite, urlRewrite: {hostname: a.example, path: {type: ReplacePrefixMatch, replacePrefixMatch: ''}}}";
    let rewrite = Rewrite {
        hostname: Some(HeaderValue::from_static("a.example")),
        path: Some(PathModifier::ReplacePrefixMatch(String::new())),
    };
    assert_eq!(filter(text), Filter::Rewrite(rewrite));
}

#[test]
fn mirrors() {
    let table = [
        ("", (1, 1)),
        (", percent: 0", (0, 100)),
        (", percent: 42", (42, 100)),
        (", fraction: {numerator: 5}", (5, 100)),
        (", fraction: {numerator: 5, denominator: 1000}", (5, 1000)),
    ];
    for (share, expected) in table {
        let text = format!(
            "{{type: RequestMirror, requestMirror: {{backendRef: {{name: m, port: 80}}{share}}}}}"
        );
        let Filter::Mirror(mirror) = filter(&text) else { panic!("{text}") };
        assert_eq!((mirror.numerator, mirror.denominator), expected, "{text}");
        assert_eq!(mirror.backend.field, "spec.rules[0].filters[0].requestMirror.backendRef");
        assert_eq!((mirror.backend.name.as_str(), mirror.backend.port), ("m", Some(80)));
    }
}

#[test]
fn cors() {
    let text = "{type: CORS, cors: {allowOrigins: ['https://*.example.com:8080', 'http://a'], allowCredentials: true, allowMethods: [GET], allowHeaders: ['*'], exposeHeaders: [x]}}";
    let expected = Cors {
        allow_origins: vec!["https://*.example.com:8080".to_owned(), "http://a".to_owned()],
        allow_credentials: true,
        allow_methods: vec!["GET".to_owned()],
        allow_headers: vec!["*".to_owned()],
        expose_headers: vec!["x".to_owned()],
        max_age: 5,
    };
    assert_eq!(filter(text), Filter::Cors(expected));
}

#[test]
fn refused_types_and_members() {
    let header = ".requestHeaderModifier";
    let table = [
        ("{type: Unheard}", ".type", "unknown variant `Unheard`"),
        ("{}", "", "missing field `type`"),
        ("7", "", "invalid type"),
        ("{type: URLRewrite, urlRewrite: {}, extra: 1}", ".extra", "unknown field"),
        ("{type: RequestHeaderModifier}", header, "must be set, as `type` says"),
        ("{type: URLRewrite, urlRewrite: {}, cors: {}}", ".cors", "the filter is of another type"),
        (
            "{type: ExtensionRef, extensionRef: {group: a, kind: B, name: c}}",
            ".type",
            "no custom filters",
        ),
        (
            "{type: ExternalAuth, externalAuth: {protocol: HTTP, backendRef: {name: a, port: 80}, http: {}}}",
            ".type",
            "not implemented",
        ),
    ];
    check_refused(&table);
}

#[test]
fn refused_header_modifiers() {
    let header = ".requestHeaderModifier";
    let table = [
        (
            "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: 'a b', value: c}]}}",
            ".requestHeaderModifier.set[0].name",
            "not a header name",
        ),
        (
            "{type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: a, value: \"b\\n\"}]}}",
            ".requestHeaderModifier.add[0].value",
            "not a header value",
        ),
        (
            "{type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: a, value: ' b'}]}}",
            ".requestHeaderModifier.add[0].value",
            "not a header value",
        ),
        (
            "{type: RequestHeaderModifier, requestHeaderModifier: {remove: ['']}}",
            ".requestHeaderModifier.remove[0]",
            "not a header name",
        ),
        (
            "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}], remove: [A]}}",
            header,
            "header a is in more than one",
        ),
        (
            "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}], add: [{name: A, value: c}]}}",
            header,
            "header a is in more than one",
        ),
        (
            "{type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: a, value: b}], remove: [a]}}",
            header,
            "header a is in more than one",
        ),
        (
            "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: Content-Length, value: '5'}]}}",
            ".requestHeaderModifier.set",
            "content-length frames messages",
        ),
        (
            "{type: RequestHeaderModifier, requestHeaderModifier: {remove: [Transfer-Encoding]}}",
            ".requestHeaderModifier.remove",
            "transfer-encoding frames messages",
        ),
        (
            "{type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: connection, value: close}]}}",
            ".responseHeaderModifier.add",
            "connection frames messages",
        ),
        (
            "{type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: host, value: a}]}}",
            ".requestHeaderModifier.add",
            "a request has one Host",
        ),
        (
            "{type: RequestHeaderModifier, requestHeaderModifier: {remove: [Host]}}",
            ".requestHeaderModifier.remove",
            "a request has one Host",
        ),
        (
            "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: Host, value: 'a b'}]}}",
            ".requestHeaderModifier.set",
            "not a host",
        ),
    ];
    check_refused(&table);
}

#[test]
fn a_request_header_modifier_may_set_the_host() {
    let text = "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: Host, value: 'a.example:8080'}]}}";
    let expected =
        HeaderModifier { set: headers(&[("host", "a.example:8080")]), ..HeaderModifier::default() };
    assert_eq!(filter(text), Filter::RequestHeaders(expected));
}

#[test]
fn refused_redirects_and_rewrites() {
    let table = [
        (
            "{type: RequestRedirect, requestRedirect: {statusCode: 304}}",
            ".requestRedirect.statusCode",
            "use 301, 302, 303, 307 or 308",
        ),
        (
            "{type: RequestRedirect, requestRedirect: {scheme: ftp}}",
            ".requestRedirect.scheme",
            "unknown variant `ftp`",
        ),
        (
            "{type: RequestRedirect, requestRedirect: {port: 0}}",
            ".requestRedirect.port",
            "use 1 to 65535",
        ),
        (
            "{type: RequestRedirect, requestRedirect: {hostname: '*.example'}}",
            ".requestRedirect.hostname",
            "without a wildcard",
        ),
        (
            "{type: URLRewrite, urlRewrite: {hostname: A.example}}",
            ".urlRewrite.hostname",
            "lower case",
        ),
        (
            "{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath}}}",
            ".urlRewrite.path.replaceFullPath",
            "must be set, as `type` says",
        ),
        (
            "{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /a, replacePrefixMatch: /b}}}",
            ".urlRewrite.path.replacePrefixMatch",
            "must not be set",
        ),
        (
            "{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: \"/a\\r\\n\"}}}",
            ".urlRewrite.path.replaceFullPath",
            "not a path",
        ),
        (
            "{type: URLRewrite, urlRewrite: {path: {type: Regex}}}",
            ".urlRewrite.path.type",
            "unknown variant `Regex`",
        ),
    ];
    check_refused(&table);
}

#[test]
fn refused_mirrors_and_cors() {
    let table = [
        (
            "{type: RequestMirror, requestMirror: {backendRef: {name: a}}}",
            ".requestMirror.backendRef.port",
            "must be set for a Service",
        ),
        (
            "{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 80}, percent: 101}}",
            ".requestMirror",
            "not a share",
        ),
        (
            "{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 80}, fraction: {numerator: 1, denominator: 0}}}",
            ".requestMirror",
            "not a share",
        ),
        (
            "{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 80}, percent: 1, fraction: {numerator: 1}}}",
            ".requestMirror",
            "only one of",
        ),
        (
            "{type: CORS, cors: {allowOrigins: ['ftp://a']}}",
            ".cors.allowOrigins[0]",
            "is not valid",
        ),
        (
            "{type: CORS, cors: {allowOrigins: ['http://a', 'http://b:65536']}}",
            ".cors.allowOrigins[1]",
            "is not valid",
        ),
        (
            "{type: CORS, cors: {allowOrigins: ['http://b:0']}}",
            ".cors.allowOrigins[0]",
            "is not valid",
        ),
        (
            "{type: CORS, cors: {allowOrigins: ['*', 'http://a']}}",
            ".cors.allowOrigins",
            "alongside others",
        ),
        ("{type: CORS, cors: {allowMethods: [get]}}", ".cors.allowMethods[0]", "is not valid"),
        ("{type: CORS, cors: {maxAge: 0}}", ".cors.maxAge", "at least 1"),
    ];
    check_refused(&table);
}

/// Rows of a filter, the field that is told and a word of the message: as a filter of a rule and of a
/// backend.
fn check_refused(table: &[(&str, &str, &str)]) {
    for (text, field, word) in table {
        for (prefix, rules) in [
            ("spec.rules[0].filters[0]", format!("- filters: [{text}]")),
            (
                "spec.rules[0].backendRefs[0].filters[0]",
                format!("- backendRefs: [{{name: a, port: 80, filters: [{text}]}}]"),
            ),
        ] {
            let decoded = http_route(&rules);
            let [refusal] = rule(&decoded).refusals.as_slice() else {
                panic!("{text}: {:?}", rule(&decoded).refusals)
            };
            assert_eq!(refusal.field, format!("{prefix}{field}"), "{text}");
            assert!(refusal.message.contains(word), "{text}: {}", refusal.message);
            assert_eq!(refusal.reason, RefusalReason::UnsupportedValue, "{text}");
        }
    }
}

/// Half a redirect would send clients to a wrong place.
#[test]
fn a_redirect_or_rewrite_that_cannot_be_read_in_full_is_left_out() {
    for text in [
        "{type: RequestRedirect, requestRedirect: {hostname: '*.example', scheme: https}}",
        "{type: RequestRedirect, requestRedirect: {port: 0, scheme: https}}",
        "{type: URLRewrite, urlRewrite: {hostname: A, path: {type: ReplaceFullPath, replaceFullPath: /a}}}",
    ] {
        let decoded = http_route(&format!("- filters: [{text}]"));
        assert_eq!(rule(&decoded).filters, [], "{text}");
        assert_eq!(rule(&decoded).refusals.len(), 1, "{text}");
    }
}

#[test]
fn filters_in_company() {
    const REDIRECT: &str = "{type: RequestRedirect, requestRedirect: {}}";
    const REWRITE: &str = "{type: URLRewrite, urlRewrite: {hostname: a}}";
    const PREFIX: &str = "{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}}";
    const MIRROR: &str = "{type: RequestMirror, requestMirror: {backendRef: {name: m, port: 80}}}";
    const SET: &str =
        "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}]}}";
    use RefusalReason::{IncompatibleFilters, UnsupportedValue};
    let table = [
        (
            "RequestRedirect with backendRefs",
            format!("{{filters: [{REDIRECT}], backendRefs: [{{name: a, port: 80}}]}}"),
            Some((IncompatibleFilters, "spec.rules[0].filters")),
        ),
        (
            "RequestRedirect with URLRewrite",
            format!("{{filters: [{REDIRECT}, {REWRITE}]}}"),
            Some((IncompatibleFilters, "spec.rules[0].filters")),
        ),
        (
            "one of each kind",
            format!("{{filters: [{SET}, {REWRITE}, {SET}]}}"),
            Some((IncompatibleFilters, "spec.rules[0].filters[2]")),
        ),
        (
            "one of each kind, in a backend",
            format!("{{backendRefs: [{{name: a, port: 80, filters: [{SET}, {SET}]}}]}}"),
            Some((IncompatibleFilters, "spec.rules[0].backendRefs[0].filters[1]")),
        ),
        (
            "the same kind in a rule and its backend",
            format!("{{filters: [{SET}], backendRefs: [{{name: a, port: 80, filters: [{SET}]}}]}}"),
            None,
        ),
        ("mirrors may be repeated", format!("{{filters: [{MIRROR}, {MIRROR}]}}"), None),
        (
            "ReplacePrefixMatch with one PathPrefix",
            format!("{{matches: [{{path: {{value: /a}}}}], filters: [{PREFIX}]}}"),
            None,
        ),
        ("ReplacePrefixMatch with the default match", format!("{{filters: [{PREFIX}]}}"), None),
        (
            "ReplacePrefixMatch with two matches",
            format!(
                "{{matches: [{{path: {{value: /a}}}}, {{path: {{value: /b}}}}], filters: [{PREFIX}]}}"
            ),
            Some((UnsupportedValue, "spec.rules[0].filters")),
        ),
        (
            "ReplacePrefixMatch with Exact",
            format!("{{matches: [{{path: {{type: Exact, value: /a}}}}], filters: [{PREFIX}]}}"),
            Some((UnsupportedValue, "spec.rules[0].filters")),
        ),
        (
            "ReplacePrefixMatch with Exact, in a backend",
            format!(
                "{{matches: [{{path: {{type: Exact, value: /a}}}}], backendRefs: [{{name: a, port: 80, filters: [{PREFIX}]}}]}}"
            ),
            Some((UnsupportedValue, "spec.rules[0].backendRefs[0].filters")),
        ),
    ];
    for (what, text, expected) in table {
        let decoded = http_route(&format!("- {text}"));
        let refusals = &rule(&decoded).refusals;
        let found: Vec<_> = refusals.iter().map(|it| (it.reason, it.field.as_str())).collect();
        assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{what}");
    }
}

/// "If a reference to a custom filter type cannot be resolved, the filter MUST NOT be skipped."
#[test]
fn a_custom_filter_refuses_its_rule_whatever_the_kind() {
    const CUSTOM: &str = "{type: ExtensionRef, extensionRef: {group: a, kind: B, name: c}}";
    for kind in ["HTTPRoute", "GRPCRoute"] {
        for (rules, field) in [
            (format!("- filters: [{CUSTOM}]"), "spec.rules[0].filters[0].type"),
            (
                format!("- backendRefs: [{{name: a, port: 80, filters: [{CUSTOM}]}}]"),
                "spec.rules[0].backendRefs[0].filters[0].type",
            ),
        ] {
            let decoded = route(kind, &rules);
            let [refusal] = rule(&decoded).refusals.as_slice() else { panic!("{kind} {rules}") };
            assert_eq!(refusal.field, field, "{kind}");
            assert!(refusal.message.contains("no custom filters"), "{}", refusal.message);
        }
    }
}

#[test]
fn grpc_filters_are_those_of_http() {
    let decoded = route(
        "GRPCRoute",
        "- filters:
  - {type: RequestHeaderModifier, requestHeaderModifier: {remove: [a]}}
  - {type: ResponseHeaderModifier, responseHeaderModifier: {remove: [a]}}
  - {type: RequestMirror, requestMirror: {backendRef: {name: m, port: 80}}}",
    );
    assert_eq!(problems(&decoded), [""; 0]);
    assert_eq!(rule(&decoded).filters.len(), 3);
}
