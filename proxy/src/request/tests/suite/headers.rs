//! HTTPRouteRequestHeaderModifier, of rules and of backends, HTTPRouteBackendRequestHeaderModifier's
//! weights, and HTTPRouteResponseHeaderModifier.

use super::rewrite::MODIFY;
use super::{Case, Infra};
use crate::testing::run;

const V1: &str = "infra-backend-v1";

/// Paths, and what happens to headers there.
const MODIFIERS: [(&str, &str); 5] = [
    ("/set", "{set: [{name: X-Header-Set, value: set-overwrites-values}]}"),
    ("/add", "{add: [{name: X-Header-Add, value: add-appends-values}]}"),
    ("/remove", "{remove: [X-Header-Remove]}"),
    (
        "/multiple",
        "{set: [{name: X-Header-Set-1, value: header-set-1}, {name: X-Header-Set-2, value: header-set-2}], \
         add: [{name: X-Header-Add-1, value: header-add-1}, {name: X-Header-Add-2, value: header-add-2}, \
               {name: X-Header-Add-3, value: header-add-3}], \
         remove: [X-Header-Remove-1, X-Header-Remove-2]}",
    ),
    (
        "/case-insensitivity",
        "{set: [{name: X-Header-Set, value: header-set}], \
         add: [{name: X-Header-Add, value: header-add}, {name: x-lowercase-add, value: lowercase-add}, \
               {name: x-Mixedcase-ADD-1, value: mixedcase-add-1}, \
               {name: X-mixeDcase-add-2, value: mixedcase-add-2}, \
               {name: X-UPPERCASE-ADD, value: uppercase-add}], \
         remove: [X-Header-Remove]}",
    ),
];

/// A path, the headers before, those after, and those that are gone.
type Row = (
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static [(&'static str, &'static str)],
    &'static [&'static str],
);

const ROWS: [Row; 7] = [
    (
        "/set",
        &[("Some-Other-Header", "val")],
        &[("Some-Other-Header", "val"), ("X-Header-Set", "set-overwrites-values")],
        &[],
    ),
    (
        "/set",
        &[("Some-Other-Header", "val"), ("X-Header-Set", "some-other-value")],
        &[("Some-Other-Header", "val"), ("X-Header-Set", "set-overwrites-values")],
        &[],
    ),
    (
        "/add",
        &[("Some-Other-Header", "val")],
        &[("Some-Other-Header", "val"), ("X-Header-Add", "add-appends-values")],
        &[],
    ),
    (
        "/add",
        &[("Some-Other-Header", "val"), ("X-Header-Add", "some-other-value")],
        &[("Some-Other-Header", "val"), ("X-Header-Add", "some-other-value,add-appends-values")],
        &[],
    ),
    ("/remove", &[("X-Header-Remove", "val")], &[], &["X-Header-Remove"]),
    (
        "/multiple",
        &[
            ("X-Header-Set-2", "set-val-2"),
            ("X-Header-Add-2", "add-val-2"),
            ("X-Header-Remove-2", "remove-val-2"),
            ("Another-Header", "another-header-val"),
            ("X-Header-Remove-1", "val"),
        ],
        &[
            ("X-Header-Set-1", "header-set-1"),
            ("X-Header-Set-2", "header-set-2"),
            ("X-Header-Add-1", "header-add-1"),
            ("X-Header-Add-2", "add-val-2,header-add-2"),
            ("X-Header-Add-3", "header-add-3"),
            ("Another-Header", "another-header-val"),
        ],
        &["X-Header-Remove-1", "X-Header-Remove-2"],
    ),
    (
        "/case-insensitivity",
        &[
            ("x-header-set", "original-val-set"),
            ("x-header-add", "original-val-add"),
            ("x-header-remove", "original-val-remove"),
            ("Another-Header", "another-header-val"),
        ],
        &[
            ("X-Header-Set", "header-set"),
            ("X-Header-Add", "original-val-add,header-add"),
            ("X-Lowercase-Add", "lowercase-add"),
            ("X-Mixedcase-Add-1", "mixedcase-add-1"),
            ("X-Mixedcase-Add-2", "mixedcase-add-2"),
            ("X-Uppercase-Add", "uppercase-add"),
            ("Another-Header", "another-header-val"),
        ],
        &["x-header-remove", "X-Header-Remove"],
    ),
];

#[test]
fn of_requests() {
    let of_rule = |(path, modifier): &(&str, &str)| {
        format!(
            "- {{matches: [{{path: {{type: PathPrefix, value: {path}}}}}], \
             filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {modifier}}}], \
             backendRefs: [{{name: infra-backend-v1, port: 80}}]}}\n"
        )
    };
    let of_backend = |(path, modifier): &(&str, &str)| {
        format!(
            "- {{matches: [{{path: {{type: PathPrefix, value: {path}}}}}], \
             backendRefs: [{{name: infra-backend-v1, port: 80, filters: \
             [{{type: RequestHeaderModifier, requestHeaderModifier: {modifier}}}]}}]}}\n"
        )
    };
    let rules: [String; 2] =
        [MODIFIERS.iter().map(of_rule).collect(), MODIFIERS.iter().map(of_backend).collect()];
    run(async move {
        for rules in rules {
            let infra = Infra::new(&[("request-header-modifier", &rules)]).await;
            for (path, headers, seen, unseen) in ROWS {
                let case = Case { path, headers, seen, unseen, backend: V1, ..Case::default() };
                infra.check(&case).await;
            }
        }
    });
}

#[test]
fn of_responses() {
    let rule = |(path, modifier): &(&str, &str)| {
        format!(
            "- {{matches: [{{path: {{type: PathPrefix, value: {path}}}}}], \
             filters: [{{type: ResponseHeaderModifier, responseHeaderModifier: {modifier}}}], \
             backendRefs: [{{name: infra-backend-v1, port: 80}}]}}\n"
        )
    };
    let mut rules: String = MODIFIERS.iter().map(rule).collect();
    rules.push_str(&format!(
        r#"
- matches: [{{path: {{type: PathPrefix, value: /response-and-request-header-modifiers}}}}]
  filters:
  - type: ResponseHeaderModifier
    responseHeaderModifier:
      set:
      - {{name: X-Header-Set-1, value: header-set-1}}
      - {{name: X-Header-Set-2, value: header-set-2}}
      add:
      - {{name: X-Header-Add-1, value: header-add-1}}
      - {{name: X-Header-Add-2, value: header-add-2}}
      remove: [X-Header-Remove-1, X-Header-Remove-2]{MODIFY}
  backendRefs: [{{name: infra-backend-v1, port: 80}}]
"#
    ));
    run(async move {
        let infra = Infra::new(&[("response-header-modifier", &rules)]).await;
        for (path, answers, got, missing) in ROWS {
            let case = Case { path, answers, got, missing, backend: V1, ..Case::default() };
            infra.check(&case).await;
        }
        let case = Case {
            path: "/response-and-request-header-modifiers",
            headers: &[
                ("X-Header-Remove", "remove-val"),
                ("X-Header-Add-Append", "append-val-1"),
                ("X-Header-Echo", "echo"),
            ],
            answers: &[
                ("X-Header-Set-2", "set-val-2"),
                ("X-Header-Add-2", "add-val-2"),
                ("X-Header-Remove-2", "remove-val-2"),
                ("Another-Header", "another-header-val"),
                ("X-Header-Remove-1", "remove-val-1"),
                ("X-Header-Echo", "echo"),
            ],
            backend: V1,
            seen: &[
                ("X-Header-Add", "header-val-1"),
                ("X-Header-Set", "set-overwrites-values"),
                ("X-Header-Add-Append", "append-val-1,header-val-2"),
                ("X-Header-Echo", "echo"),
            ],
            unseen: &["X-Header-Remove"],
            got: &[
                ("X-Header-Set-1", "header-set-1"),
                ("X-Header-Set-2", "header-set-2"),
                ("X-Header-Add-1", "header-add-1"),
                ("X-Header-Add-2", "add-val-2,header-add-2"),
                ("Another-Header", "another-header-val"),
                ("X-Header-Echo", "echo"),
            ],
            missing: &["X-Header-Remove-1", "X-Header-Remove-2"],
            ..Case::default()
        };
        infra.check(&case).await;
    });
}

#[test]
fn of_backends_by_weight() {
    let rules = r#"
- backendRefs:
  - name: infra-backend-v1
    port: 80
    weight: 10
    filters:
    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: Backend, value: infra-backend-v1}]}}
  - name: infra-backend-v2
    port: 80
    weight: 10
    filters:
    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: Backend, value: infra-backend-v2}]}}
"#;
    run(async move {
        let infra = Infra::new(&[("request-header-modifier-backend-weights", rules)]).await;
        for _ in 0..100 {
            let answer = infra.send(&Case { path: "/", ..Case::default() }).await;
            assert_eq!(answer.status(), 200);
        }
        let mut all = 0;
        for name in [V1, "infra-backend-v2"] {
            let seen = infra.backend(name).take();
            for request in &seen {
                assert_eq!(request.headers()["backend"], name);
            }
            assert!((40..=60).contains(&seen.len()), "{} of 100 went to {name}", seen.len());
            all += seen.len();
        }
        assert_eq!(all, 100);
    });
}
