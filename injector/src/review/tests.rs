use serde_json::json;

use super::*;
use crate::testing;

fn review(change: impl FnOnce(&mut Value)) -> Value {
    let mut review = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "demo",
            "operation": "CREATE",
            "dryRun": false,
            "object": {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"generateName": "web-7d9f-"},
                "spec": {"containers": [{"name": "web", "image": "web:1"}]},
            },
            "oldObject": null,
        },
    });
    change(&mut review);
    review
}

fn ask(review: &Value) -> (Answer, Value) {
    ask_bytes(&serde_json::to_vec(review).unwrap())
}

fn ask_bytes(body: &[u8]) -> (Answer, Value) {
    let cidrs = ServiceCidrs::fixed("10.96.0.0/12".parse().unwrap());
    let answer = answer(body, &testing::settings(), &cidrs, Standard::Permits);
    let review = serde_json::from_slice(&answer.body).unwrap();
    (answer, review)
}

#[test]
fn a_pod_is_injected() {
    let (answer, review) = ask(&review(|_| {}));
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(review["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(review["kind"], "AdmissionReview");
    let response = &review["response"];
    assert_eq!(response["uid"], "705ab4f5-6393-11e8-b7cc-42010a800002");
    assert_eq!(response["allowed"], true);
    assert_eq!(response["patchType"], "JSONPatch");
    assert_eq!(response.get("warnings"), None);
    assert_eq!(response.get("status"), None);
    let ByteString(patch) = serde_json::from_value(response["patch"].clone()).unwrap();
    let patch: Value = serde_json::from_slice(&patch).unwrap();
    assert_eq!(patch[1]["path"], "/spec/initContainers");
    let expected = Summary {
        result: "injected",
        namespace: "demo".to_owned(),
        pod: "web-7d9f-…".to_owned(),
        ..Summary::default()
    };
    assert_eq!(answer.summary, expected);
}

#[test]
fn a_dry_run_gets_the_same_answer() {
    let (_, wet) = ask(&review(|_| {}));
    let (answer, dry) = ask(&review(|review| review["request"]["dryRun"] = json!(true)));
    assert_eq!(wet, dry);
    assert!(answer.summary.dry_run);
}

#[test]
fn what_is_left_alone_has_no_patch() {
    let (answer, review) =
        ask(&review(|review| review["request"]["object"]["spec"]["hostNetwork"] = json!(true)));
    let response = &review["response"];
    assert_eq!(response["allowed"], true);
    assert_eq!(response.get("patch"), None);
    assert_eq!(response.get("patchType"), None);
    let warning = response["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("weft-injector: no sidecar is injected: "), "{warning}");
    assert_eq!((answer.summary.result, answer.summary.reason), ("left_alone", "host_network"));
}

#[test]
fn a_denial_says_why() {
    let (answer, review) = ask(&review(|review| {
        review["request"]["object"]["metadata"]["annotations"] =
            json!({"weft.mesh/exclude-outbound-ports": "http"});
    }));
    assert_eq!(answer.status, StatusCode::OK);
    let response = &review["response"];
    assert_eq!(response["allowed"], false);
    assert_eq!(response.get("patch"), None);
    assert_eq!(response["status"]["code"], 403);
    assert_eq!(
        response["status"]["message"],
        "weft-injector: annotation weft.mesh/exclude-outbound-ports: `http` is not a port: write \
         a number from 1 to 65535, or a range like 8000-8010"
    );
    assert_eq!((answer.summary.result, answer.summary.reason), ("denied", "annotations"));
}

#[test]
fn names_of_pods() {
    for (name, metadata, expected) in [
        ("web", json!({"name": "web"}), "web"),
        ("", json!({"name": "web"}), "web"),
        ("", json!({"name": "", "generateName": "web-"}), "web-…"),
        ("", json!({}), ""),
    ] {
        let (answer, _) = ask(&review(|review| {
            review["request"]["name"] = json!(name);
            review["request"]["object"]["metadata"] = metadata;
        }));
        assert_eq!(answer.summary.pod, expected);
    }
}

#[test]
fn anything_but_the_creation_of_a_pod_passes() {
    for (path, value) in [
        ("/request/operation", json!("UPDATE")),
        ("/request/kind/kind", json!("Deployment")),
        ("/request/kind/group", json!("example.com")),
    ] {
        let (answer, response) = ask(&review(|review| *review.pointer_mut(path).unwrap() = value));
        assert_eq!(response["response"]["allowed"], true, "{path}");
        assert_eq!(response["response"].get("patch"), None);
        assert_eq!(answer.summary.reason, "not_a_pod");
    }
    let (answer, _) =
        ask(&review(|review| review["request"]["subResource"] = json!("ephemeralcontainers")));
    assert_eq!(answer.summary.reason, "not_a_pod");
}

#[test]
fn what_is_no_review_is_refused_as_one() {
    let cases = [
        (b"{".to_vec(), "not_json", "the body is no AdmissionReview"),
        (b"[]".to_vec(), "version", "this is kind `` of version ``"),
        (b"{}".to_vec(), "version", "this is kind `` of version ``"),
        ("[".repeat(10_000).into_bytes(), "not_json", "the body is no AdmissionReview"),
        (
            br#"{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}"#.to_vec(),
            "no_request",
            "has no request",
        ),
    ];
    for (body, reason, message) in cases {
        let (answer, review) = ask_bytes(&body);
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert_eq!(answer.summary.reason, reason);
        assert_eq!(answer.summary.result, "error");
        assert_eq!(review["kind"], "AdmissionReview");
        assert_eq!(review["response"]["allowed"], false);
        let shown = review["response"]["status"]["message"].as_str().unwrap();
        assert!(shown.contains(message), "{shown}");
    }
}

#[test]
fn another_version_is_named_with_the_remedy() {
    let beta = review(|review| review["apiVersion"] = json!("admission.k8s.io/v1beta1"));
    let (answer, review) = ask(&beta);
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(review["response"]["uid"], beta["request"]["uid"]);
    let message = review["response"]["status"]["message"].as_str().unwrap();
    assert!(
        message.contains("`AdmissionReview` of version `admission.k8s.io/v1beta1`"),
        "{message}"
    );
    assert!(message.contains("admissionReviewVersions: [v1]"), "{message}");
}

#[test]
fn warnings_fit_into_a_header() {
    let long = format!("a\nb{}", "ü".repeat(400));
    let shown = presentable(&long);
    assert!(shown.starts_with("weft-injector: a bü"));
    assert!(shown.ends_with("ü…"));
    assert!(shown.chars().count() <= 256);
}
