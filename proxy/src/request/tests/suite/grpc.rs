//! GRPCExactMethodMatching, GRPCRouteHeaderMatching, GRPCRouteNamedRule,
//! GRPCRouteRequestHeaderModifier and GRPCRouteWeight.

use http::{Request, Version};

use super::super::http2::{connect, whole};
use super::Echo;
use crate::testing::{Mesh, run, text};

const SERVICE: &str = "gateway_api_conformance.echo_basic.grpcecho.GrpcEcho";
const V1: &str = "grpc-infra-backend-v1";
const V2: &str = "grpc-infra-backend-v2";

/// The suite's gRPC backends behind a Service with a route of these rules.
struct Infra {
    mesh: Mesh,
    parent: std::net::SocketAddr,
    backends: [(&'static str, Echo); 2],
}

impl Infra {
    async fn new(rules: &str) -> Self {
        let mesh = Mesh::new();
        let backends = [(V1, Echo::start(true).await), (V2, Echo::start(true).await)];
        for (name, echo) in &backends {
            mesh.service(&format!("default/{name}"), "grpc", &[echo.addr()]);
        }
        let parent = mesh.service("default/same-namespace", "grpc", &[]);
        mesh.grpc_route("default/route", "default/same-namespace", rules);
        Self { mesh, parent, backends }
    }

    /// Calls a method; returns who got the call with what, or the status of a refusal.
    async fn call(
        &self,
        method: &str,
        metadata: &[(&str, &str)],
    ) -> Result<(&'static str, Request<bytes::Bytes>), String> {
        let mut client = connect(&self.mesh, self.parent).await;
        let mut call = Request::post(format!("http://svc/{SERVICE}/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("x-answer", "grpc-status: 0");
        for (name, value) in metadata {
            call = call.header(*name, *value);
        }
        let answer = client.send_request(call.body(text("message")).unwrap()).await.unwrap();
        let (answer, _) = whole(answer).await;
        assert_eq!(answer.status(), 200);
        let status = answer.headers()["grpc-status"].to_str().unwrap();
        if status != "0" {
            return Err(status.to_owned());
        }
        let mut seen = self
            .backends
            .iter()
            .flat_map(|(name, echo)| echo.take().into_iter().map(move |request| (*name, request)));
        let first = seen.next().unwrap();
        assert!(seen.next().is_none());
        assert_eq!((first.1.version(), &first.1.body()[..]), (Version::HTTP_2, &b"message"[..]));
        Ok(first)
    }

    /// Who gets the call, or the status of a refusal.
    async fn backend(&self, method: &str, metadata: &[(&str, &str)]) -> String {
        self.call(method, metadata).await.map_or_else(|status| status, |(name, _)| name.to_owned())
    }
}

/// A rule for a method.
fn method(name: &str, more: &str, backend: &str) -> String {
    format!(
        "- {{matches: [{{method: {{service: {SERVICE}, method: {name}}}}}], {more} \
         backendRefs: [{{name: {backend}, port: 80}}]}}\n"
    )
}

#[test]
fn exact_methods_and_named_rules() {
    for name in ["", "name: named-rule,"] {
        let rules = method("Echo", name, V1) + &method("EchoTwo", "", V2);
        run(async move {
            let infra = Infra::new(&rules).await;
            for (method, expected) in [("Echo", V1), ("EchoTwo", V2), ("EchoThree", "12")] {
                assert_eq!(infra.backend(method, &[]).await, expected, "{method}");
            }
        });
    }
}

#[test]
fn headers() {
    let rules = r#"
- {matches: [{headers: [{name: version, value: one}]}], backendRefs: [{name: grpc-infra-backend-v1, port: 80}]}
- {matches: [{headers: [{name: version, value: two}]}], backendRefs: [{name: grpc-infra-backend-v2, port: 80}]}
- {matches: [{headers: [{name: version, value: two}, {name: color, value: orange}]}], backendRefs: [{name: grpc-infra-backend-v1, port: 80}]}
- {matches: [{headers: [{name: color, value: blue}]}, {headers: [{name: color, value: green}]}], backendRefs: [{name: grpc-infra-backend-v1, port: 80}]}
- {matches: [{headers: [{name: color, value: red}]}, {headers: [{name: color, value: yellow}]}], backendRefs: [{name: grpc-infra-backend-v2, port: 80}]}
"#;
    let rows: [(&[(&str, &str)], &str); 11] = [
        (&[("version", "one")], V1),
        (&[("version", "two")], V2),
        (&[("version", "two"), ("color", "orange")], V1),
        (&[("version", "two"), ("color", "blue")], V2),
        (&[("color", "orange")], "12"),
        (&[("some-other-header", "one")], "12"),
        (&[("color", "blue")], V1),
        (&[("color", "green")], V1),
        (&[("color", "red")], V2),
        (&[("color", "yellow")], V2),
        (&[("color", "purple")], "12"),
    ];
    run(async move {
        let infra = Infra::new(rules).await;
        for (metadata, expected) in rows {
            assert_eq!(infra.backend("Echo", metadata).await, expected, "{metadata:?}");
        }
    });
}

type Pairs = &'static [(&'static str, &'static str)];

/// A method, the rule that it shall get, metadata, what of it arrives, what does not, and where.
type Row = (&'static str, &'static str, Pairs, Pairs, &'static [&'static str], &'static str);

const ROWS: [Row; 7] = [
    (
        "Echo",
        "set",
        &[("some-other-header", "stays")],
        &[("some-other-header", "stays"), ("x-header-set", "set-overwrites-values")],
        &[],
        V1,
    ),
    (
        "Echo",
        "set",
        &[("x-header-set", "overwritten")],
        &[("x-header-set", "set-overwrites-values")],
        &[],
        V1,
    ),
    ("Echo", "add", &[], &[("x-header-add", "add-appends-values")], &[], V1),
    (
        "Echo",
        "add",
        &[("x-header-add", "there-before")],
        &[("x-header-add", "there-before,add-appends-values")],
        &[],
        V1,
    ),
    ("Echo", "remove", &[("x-header-remove", "gone")], &[], &["x-header-remove"], V1),
    (
        "EchoTwo",
        "multi",
        &[
            ("x-header-set-2", "set-header-2"),
            ("x-header-add-2", "add-header-2"),
            ("x-header-remove-2", "gone"),
            ("some-other-header", "another-header-val"),
        ],
        &[
            ("x-header-set-1", "header-set-1"),
            ("x-header-set-2", "header-set-2"),
            ("x-header-add-1", "header-add-1"),
            ("x-header-add-2", "add-header-2,header-add-2"),
            ("some-other-header", "another-header-val"),
        ],
        &["x-header-remove-1", "x-header-remove-2"],
        V2,
    ),
    (
        "EchoTwo",
        "multi",
        &[
            ("x-header-set-1", "original-set-1"),
            ("x-header-add-1", "existing-add-1"),
            ("x-header-remove-1", "gone"),
        ],
        &[
            ("x-header-set-1", "header-set-1"),
            ("x-header-set-2", "header-set-2"),
            ("x-header-add-1", "existing-add-1,header-add-1"),
            ("x-header-add-2", "header-add-2"),
        ],
        &["x-header-remove-1"],
        V2,
    ),
];

/// The suite gives one method three rules of one rank, of which only the first can apply, and looks
/// at no header; here each has a header of its own to be told by.
#[test]
fn request_headers() {
    let rule = |name: &str, case: &str, modifier: &str, backend: &str| {
        format!(
            "- {{matches: [{{method: {{service: {SERVICE}, method: {name}}}, \
             headers: [{{name: x-test-case, value: {case}}}]}}], \
             filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {modifier}}}], \
             backendRefs: [{{name: {backend}, port: 80}}]}}\n"
        )
    };
    let rules = rule(
        "Echo",
        "set",
        "{set: [{name: X-Header-Set, value: set-overwrites-values}]}",
        V1,
    ) + &rule(
        "Echo",
        "add",
        "{add: [{name: X-Header-Add, value: add-appends-values}]}",
        V1,
    ) + &rule("Echo", "remove", "{remove: [X-Header-Remove]}", V1)
        + &rule(
            "EchoTwo",
            "multi",
            "{set: [{name: X-Header-Set-1, value: header-set-1}, {name: X-Header-Set-2, value: header-set-2}], \
             add: [{name: X-Header-Add-1, value: header-add-1}, {name: X-Header-Add-2, value: header-add-2}], \
             remove: [X-Header-Remove-1, X-Header-Remove-2]}",
            V2,
        );
    run(async move {
        let infra = Infra::new(&rules).await;
        for (method, case, metadata, seen, unseen, backend) in ROWS {
            let metadata = [metadata, &[("x-test-case", case)]].concat();
            let (name, request) = infra.call(method, &metadata).await.unwrap();
            assert_eq!(name, backend);
            for (name, value) in seen {
                let values = request.headers().get_all(*name).iter();
                let values: Vec<_> = values.map(|value| value.to_str().unwrap()).collect();
                assert_eq!(values.join(","), *value, "{method} {metadata:?}: {name}");
            }
            for name in unseen {
                assert!(!request.headers().contains_key(*name), "{method} {metadata:?}: {name}");
            }
        }
    });
}

/// 70 and 30 of 500, "±5 points"; the third backend does not exist and has the weight 0.
#[test]
fn weights() {
    let rules = "[{backendRefs: [{name: grpc-infra-backend-v1, port: 80, weight: 70}, \
                 {name: grpc-infra-backend-v2, port: 80, weight: 30}, \
                 {name: grpc-infra-backend-v3, port: 80, weight: 0}]}]";
    run(async move {
        let infra = Infra::new(rules).await;
        let mut first = 0;
        for _ in 0..500 {
            first += u32::from(infra.backend("Echo", &[]).await == V1);
        }
        assert!((325..=375).contains(&first), "{first} of 500");
    });
}
