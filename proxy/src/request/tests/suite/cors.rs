//! HTTPRouteCORS.

use super::{Case, Infra};
use crate::testing::{Message, run};

const RULES: &str = r#"
- matches: [{path: {type: PathPrefix, value: /cors-1}}]
  filters:
  - type: CORS
    cors:
      allowOrigins: ["https://www.foo.com", "https://*.bar.com"]
      allowMethods: [GET, OPTIONS]
      allowHeaders: [x-header-1, x-header-2]
      exposeHeaders: [x-header-3, x-header-4]
      allowCredentials: true
      maxAge: 3600
  backendRefs: [{name: infra-backend-v1, port: 80}]
- matches: [{path: {type: PathPrefix, value: /cors-2}}]
  filters:
  - {type: CORS, cors: {allowOrigins: ["https://www.foo.com"], allowMethods: ["*"]}}
  backendRefs: [{name: infra-backend-v1, port: 80}]
- matches: [{path: {type: PathPrefix, value: /cors-wildcard-origin}}]
  filters:
  - {type: CORS, cors: {allowOrigins: ["*"], allowMethods: [PUT], allowCredentials: false}}
  backendRefs: [{name: infra-backend-v1, port: 80}]
- matches: [{path: {type: PathPrefix, value: /cors-wildcard-methods-headers}}]
  filters:
  - type: CORS
    cors: {allowOrigins: ["*"], allowMethods: ["*"], allowHeaders: ["*"], allowCredentials: true}
  backendRefs: [{name: infra-backend-v1, port: 80}]
- matches: [{path: {type: PathPrefix, value: /cors-wildcard-methods-headers-unauth}}]
  filters:
  - type: CORS
    cors: {allowOrigins: ["*"], allowMethods: ["*"], allowHeaders: ["*"], allowCredentials: false}
  backendRefs: [{name: infra-backend-v1, port: 80}]
"#;

/// Headers with the values that each may have.
type Valid = &'static [(&'static str, &'static [&'static str])];

/// A path, the Origin, the method and the headers that a preflight asks for, what the answer's status
/// may be, what its headers may be without their spaces, and those that it must not have.
type Preflight = (
    &'static str,
    &'static str,
    &'static str,
    Option<&'static str>,
    &'static [u16],
    Valid,
    &'static [&'static str],
);

const HEADERS: Option<&str> = Some("x-header-1, x-header-2");
const CREDENTIALS: &str = "access-control-allow-credentials";
const ORIGIN: &str = "access-control-allow-origin";
const METHODS: &str = "access-control-allow-methods";
const OK: &[u16] = &[200, 204];

const PREFLIGHTS: [Preflight; 10] = [
    ("/cors-1", "https://www.foo.com", "GET", HEADERS, OK, &OF_FOO, &[]),
    ("/cors-1", "https://www.bar.com", "GET", HEADERS, OK, &OF_BAR, &[]),
    ("/cors-1", "https://xpto.www.bar.com", "GET", HEADERS, OK, &OF_XPTO, &[]),
    ("/cors-1", "https://foobar.com", "GET", None, &[200, 204, 403], &[], &[ORIGIN]),
    (
        "/cors-2",
        "https://www.foo.com",
        "POST",
        None,
        OK,
        &[(METHODS, &["POST", "*"]), (ORIGIN, &["https://www.foo.com"])],
        &[CREDENTIALS],
    ),
    ("/cors-2", "https://www.foo.com", "POST", None, OK, &[], &[CREDENTIALS]),
    (
        "/cors-wildcard-origin",
        "https://foobar.com",
        "PUT",
        None,
        OK,
        &[(ORIGIN, &["https://foobar.com", "*"]), (METHODS, &["PUT"])],
        &[CREDENTIALS],
    ),
    (
        "/cors-wildcard-origin",
        "https://foobar.com:12345",
        "PUT",
        None,
        OK,
        &[(ORIGIN, &["https://foobar.com:12345", "*"]), (METHODS, &["PUT"])],
        &[CREDENTIALS],
    ),
    (
        "/cors-wildcard-methods-headers",
        "https://other.foo.com",
        "PUT",
        HEADERS,
        OK,
        &[
            (ORIGIN, &["https://other.foo.com"]),
            (METHODS, &["PUT"]),
            ALLOW_HEADERS,
            (CREDENTIALS, &["true"]),
        ],
        &[],
    ),
    (
        "/cors-wildcard-methods-headers-unauth",
        "https://other.foo.com",
        "PUT",
        HEADERS,
        OK,
        &[
            (ORIGIN, &["https://other.foo.com", "*"]),
            (METHODS, &["PUT", "*"]),
            (
                "access-control-allow-headers",
                &["x-header-1,x-header-2", "x-header-2,x-header-1", "*"],
            ),
        ],
        &[CREDENTIALS],
    ),
];

const ALLOW_HEADERS: (&str, &[&str]) =
    ("access-control-allow-headers", &["x-header-1,x-header-2", "x-header-2,x-header-1"]);
const OF_FOO: [(&str, &[&str]); 6] = of_cors_1(&["https://www.foo.com"]);
const OF_BAR: [(&str, &[&str]); 6] = of_cors_1(&["https://www.bar.com"]);
const OF_XPTO: [(&str, &[&str]); 6] = of_cors_1(&["https://xpto.www.bar.com"]);

const fn of_cors_1(
    origin: &'static [&'static str],
) -> [(&'static str, &'static [&'static str]); 6] {
    [
        (ORIGIN, origin),
        (METHODS, &["GET,OPTIONS", "OPTIONS,GET"]),
        ALLOW_HEADERS,
        ("access-control-expose-headers", &["x-header-3,x-header-4", "x-header-4,x-header-3"]),
        ("access-control-max-age", &["3600"]),
        (CREDENTIALS, &["true"]),
    ]
}

/// The values of the answer's headers are each one of those given.
fn check(answer: &Message, what: &str, got: Valid, missing: &[&str]) {
    for (name, valid) in got {
        let value = answer.head.all(name).join(",").replace(' ', "");
        assert!(valid.contains(&value.as_str()), "{what}: {name}: {value} is none of {valid:?}");
    }
    for name in missing {
        assert!(answer.head.all(name).is_empty(), "{what}: {name}: {answer:?}");
    }
}

#[test]
fn preflights() {
    run(async move {
        let infra = Infra::new(&[("cors", RULES)]).await;
        for (path, origin, method, headers, statuses, got, missing) in PREFLIGHTS {
            let what = format!("{path} from {origin}");
            let mut asked = vec![("Origin", origin), ("access-control-request-method", method)];
            asked.extend(headers.map(|headers| ("access-control-request-headers", headers)));
            let case = Case { method: "OPTIONS", path, headers: &asked, ..Case::default() };
            let answer = infra.send(&case).await;
            assert!(statuses.contains(&answer.status()), "{what}: {answer:?}");
            check(&answer, &what, got, missing);
        }
        assert_eq!(infra.backend("infra-backend-v1").count(), 0, "a preflight was forwarded");
    });
}

#[test]
fn requests() {
    type Row = (&'static str, &'static str, &'static str, Valid, &'static [&'static str]);
    let rows: [Row; 7] = [
        ("GET", "/cors-1", "https://www.foo.com", &[(ORIGIN, &["https://www.foo.com"])], &[]),
        ("GET", "/cors-1", "https://www.bar.com", &[(ORIGIN, &["https://www.bar.com"])], &[]),
        ("GET", "/cors-1", "https://foobar.com", &[], &[ORIGIN, CREDENTIALS]),
        (
            "PUT",
            "/cors-wildcard-origin",
            "https://foobar.com:12345",
            &[(ORIGIN, &["https://foobar.com:12345", "*"])],
            &[],
        ),
        (
            "PUT",
            "/cors-wildcard-origin",
            "https://foobar.com",
            &[(ORIGIN, &["https://foobar.com", "*"])],
            &[CREDENTIALS],
        ),
        (
            "GET",
            "/cors-wildcard-methods-headers",
            "https://other.foo.com",
            &[(ORIGIN, &["https://other.foo.com"]), (CREDENTIALS, &["true"])],
            &[],
        ),
        (
            "GET",
            "/cors-wildcard-methods-headers-unauth",
            "https://other.foo.com",
            &[(ORIGIN, &["https://other.foo.com", "*"])],
            &[CREDENTIALS],
        ),
    ];
    run(async move {
        let infra = Infra::new(&[("cors", RULES)]).await;
        for (method, path, origin, got, missing) in rows {
            let what = format!("{method} {path} from {origin}");
            // The suite sends these with simple requests too.
            let headers = &[
                ("Origin", origin),
                ("access-control-request-method", "GET"),
                ("access-control-request-headers", "x-header-1, x-header-2"),
            ];
            let answer = infra.send(&Case { method, path, headers, ..Case::default() }).await;
            assert_eq!(answer.status(), 200, "{what}");
            check(&answer, &what, got, missing);
            let seen = infra.backend("infra-backend-v1").take();
            assert_eq!((seen.len(), seen[0].headers()["origin"].to_str().unwrap()), (1, origin));
        }
    });
}
