//! What is wrong and what is not. How it is printed is in `tests/transcripts`.

use std::fs;

use super::*;

/// The report on one file.
fn report(manifests: &str) -> Report {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("manifests.yaml"), manifests).unwrap();
    Report::of(folder.path()).unwrap()
}

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{name: http, port: 80}]}
---
";

fn route(parents: &str, rules: &str) -> String {
    format!(
        "{SERVICE}
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: web, namespace: shop}}
spec: {{parentRefs: [{parents}], rules: [{rules}]}}
"
    )
}

const TO_WEB: &str = "{group: '', kind: Service, name: web}";

#[test]
fn what_is_wrong_is_wrong_and_nothing_else() {
    for (parents, rules, ok) in [
        (TO_WEB, "{backendRefs: [{name: web, port: 80}]}", true),
        (TO_WEB, "{backendRefs: [{name: web, port: 81}]}", false),
        (TO_WEB, "{filters: [{type: New}], backendRefs: [{name: web, port: 80}]}", false),
        (
            "{group: '', kind: Service, name: other}",
            "{backendRefs: [{name: web, port: 80}]}",
            false,
        ),
        // A Gateway may well have filters that the mesh has not.
        ("{name: gateway}", "{filters: [{type: New}], backendRefs: [{name: web, port: 80}]}", true),
        // Nobody knows whose this is.
        ("{name: 7}", "{backendRefs: [{name: web, port: 80}]}", false),
    ] {
        let report = report(&route(parents, rules));
        assert_eq!(report.ok, ok, "{parents} {rules}: {report}");
    }
    assert!(!report(&format!("{SERVICE}kind: [")).ok);
    assert!(report(SERVICE).ok);
}

/// Each thing once: a refused rule is told by its route's conditions.
#[test]
fn a_refusal_is_told_once() {
    let text = report(&route(TO_WEB, "{filters: [{type: New}]}")).to_string();
    assert_eq!(text.matches("spec.rules[0].filters[0].type").count(), 1, "{text}");
}
