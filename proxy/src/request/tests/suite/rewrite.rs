//! HTTPRouteRewriteHost, HTTPRouteRewritePath and HTTPRouteBackendURLRewrite.

use super::{Case, Infra};
use crate::testing::run;

const V1: &str = "infra-backend-v1";
const V2: &str = "infra-backend-v2";

/// What the suite's rules do to headers beside, sends and expects.
pub(super) const MODIFY: &str = r#"
  - type: RequestHeaderModifier
    requestHeaderModifier:
      set: [{name: X-Header-Set, value: set-overwrites-values}]
      add:
      - {name: X-Header-Add, value: header-val-1}
      - {name: X-Header-Add-Append, value: header-val-2}
      remove: [X-Header-Remove]"#;
pub(super) const MODIFIED: Case<'static> = Case {
    method: "",
    path: "",
    host: "",
    headers: &[
        ("X-Header-Remove", "remove-val"),
        ("X-Header-Add-Append", "append-val-1"),
        ("X-Header-Set", "set-val"),
    ],
    body: "",
    backend: V1,
    seen_path: "",
    seen_host: "",
    seen: &[
        ("X-Header-Add", "header-val-1"),
        ("X-Header-Add-Append", "append-val-1,header-val-2"),
        ("X-Header-Set", "set-overwrites-values"),
    ],
    unseen: &["X-Header-Remove"],
    mirrored: &[],
    answers: &[],
    status: 0,
    got: &[],
    missing: &[],
};

#[test]
fn host() {
    let rules = format!(
        r#"
- matches: [{{path: {{type: PathPrefix, value: /one}}}}]
  filters: [{{type: URLRewrite, urlRewrite: {{hostname: one.example.org}}}}]
  backendRefs: [{{name: infra-backend-v1, port: 80}}]
- filters: [{{type: URLRewrite, urlRewrite: {{hostname: example.org}}}}]
  backendRefs: [{{name: infra-backend-v2, port: 80}}]
- matches: [{{path: {{type: PathPrefix, value: /rewrite-host-and-modify-headers}}}}]
  filters:
  - {{type: URLRewrite, urlRewrite: {{hostname: test.example.org}}}}{MODIFY}
  backendRefs: [{{name: infra-backend-v2, port: 80}}]
"#
    );
    run(async move {
        let infra = Infra::new(&[("rewrite-host", &rules)]).await;
        let case = Case { host: "rewrite.example", ..Case::default() };
        for case in [
            Case { path: "/one", seen_host: "one.example.org", backend: V1, ..case },
            Case { path: "/two", seen_host: "example.org", backend: V2, ..case },
            Case {
                path: "/rewrite-host-and-modify-headers",
                host: "rewrite.example",
                seen_host: "test.example.org",
                backend: V2,
                ..MODIFIED
            },
        ] {
            infra.check(&case).await;
        }
    });
}

#[test]
fn path() {
    let rules = format!(
        r#"
- matches: [{{path: {{type: PathPrefix, value: /prefix/one}}}}]
  filters:
  - {{type: URLRewrite, urlRewrite: {{path: {{type: ReplacePrefixMatch, replacePrefixMatch: /one}}}}}}
  backendRefs: [{{name: infra-backend-v1, port: 80}}]
- matches: [{{path: {{type: PathPrefix, value: /strip-prefix}}}}]
  filters:
  - {{type: URLRewrite, urlRewrite: {{path: {{type: ReplacePrefixMatch, replacePrefixMatch: /}}}}}}
  backendRefs: [{{name: infra-backend-v1, port: 80}}]
- matches: [{{path: {{type: PathPrefix, value: /full/one}}}}]
  filters:
  - {{type: URLRewrite, urlRewrite: {{path: {{type: ReplaceFullPath, replaceFullPath: /one}}}}}}
  backendRefs: [{{name: infra-backend-v1, port: 80}}]
- matches: [{{path: {{type: PathPrefix, value: /full/rewrite-path-and-modify-headers}}}}]
  filters:
  - {{type: URLRewrite, urlRewrite: {{path: {{type: ReplaceFullPath, replaceFullPath: /test}}}}}}{MODIFY}
  backendRefs: [{{name: infra-backend-v1, port: 80}}]
- matches: [{{path: {{type: PathPrefix, value: /prefix/rewrite-path-and-modify-headers}}}}]
  filters:
  - {{type: URLRewrite, urlRewrite: {{path: {{type: ReplacePrefixMatch, replacePrefixMatch: /prefix}}}}}}{MODIFY}
  backendRefs: [{{name: infra-backend-v1, port: 80}}]
"#
    );
    run(async move {
        let infra = Infra::new(&[("rewrite-path", &rules)]).await;
        let case = Case { backend: V1, ..Case::default() };
        for case in [
            Case { path: "/prefix/one/two", seen_path: "/one/two", ..case },
            Case { path: "/strip-prefix/three", seen_path: "/three", ..case },
            Case { path: "/strip-prefix", seen_path: "/", ..case },
            Case { path: "/full/one/two", seen_path: "/one", ..case },
            Case {
                path: "/full/rewrite-path-and-modify-headers/test",
                seen_path: "/test",
                ..MODIFIED
            },
            Case {
                path: "/prefix/rewrite-path-and-modify-headers/one",
                seen_path: "/prefix/one",
                ..MODIFIED
            },
        ] {
            infra.check(&case).await;
        }
    });
}

#[test]
fn of_a_backend() {
    let rules = r#"
- matches: [{path: {type: PathPrefix, value: /full}}]
  backendRefs:
  - name: infra-backend-v1
    port: 80
    filters:
    - {type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /rewritten-full}}}
- matches: [{path: {type: PathPrefix, value: /prefix}}]
  backendRefs:
  - name: infra-backend-v1
    port: 80
    filters:
    - {type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /rewritten-prefix}}}
"#;
    run(async move {
        let infra = Infra::new(&[("backend-url-rewrite", rules)]).await;
        let case = Case { backend: V1, ..Case::default() };
        for case in [
            Case { path: "/full/original", seen_path: "/rewritten-full", ..case },
            Case { path: "/prefix/original", seen_path: "/rewritten-prefix/original", ..case },
        ] {
            infra.check(&case).await;
        }
    });
}
