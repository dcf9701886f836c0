//! An AdmissionReview, with any bytes in it, or a pod that is put into one.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Parser;
use serde_json::{Map, Value, json};
use weft_injector::config::Config;
use weft_injector::container::{API_ACCESS, INIT, PROXY, Settings};
use weft_injector::pod::Standard;
use weft_injector::review::answer;
use weft_injector::service_cidr::ServiceCidrs;

static SETTINGS: LazyLock<Settings> = LazyLock::new(|| {
    let options = ["weft-injector", "--proxy-image", "weft-proxy:1", "--init-image", "weft-init:1"];
    let namespace = ["--namespace", "weft-system"];
    let config = Config::parse_from(options.into_iter().chain(namespace));
    config.settings().expect("the options are right")
});

static CIDRS: LazyLock<ServiceCidrs> =
    LazyLock::new(|| ServiceCidrs::fixed("10.96.0.0/12,fd00::/108".parse().expect("ranges")));

/// A JSON object that is no review is taken for a pod.
pub fn run(data: &[u8]) {
    let value: Option<Value> = serde_json::from_slice(data).ok();
    let pod = value.as_ref().filter(|it| it.is_object() && it.get("request").is_none());
    let review = match pod {
        Some(pod) => review_of(pod).to_string().into_bytes(),
        None => data.to_vec(),
    };
    for standard in [Standard::Permits, Standard::Forbids] {
        let response = ask(&review, standard);
        let Some(patch) = patch(&response) else { continue };
        assert_eq!(standard, Standard::Permits, "patched where weft-init is forbidden: {response}");
        // A part that is not read need not be what a value can hold.
        let Ok(mut request) = serde_json::from_slice::<Value>(&review) else { continue };
        let pod = request["request"]["object"].take();
        let injected = apply(&pod, &patch);
        adds_only(&pod, &injected);
        request["request"]["object"] = injected;
        let again = ask(request.to_string().as_bytes(), standard);
        assert_eq!(self::patch(&again), None, "injected twice: {again}");
        assert_eq!(again["allowed"], true, "{again}");
    }
}

fn review_of(pod: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "0",
            "kind": { "group": "", "version": "v1", "kind": "Pod" },
            "namespace": "default",
            "operation": "CREATE",
            "object": pod,
        },
    })
}

/// The `response` to a review: always one that an API server takes.
fn ask(review: &[u8], standard: Standard) -> Value {
    let answer = answer(review, &SETTINGS, &CIDRS, standard);
    let mut body: Value = serde_json::from_slice(&answer.body).expect("an answer is JSON");
    assert_eq!(body["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(body["kind"], "AdmissionReview");
    let response = body["response"].take();
    assert!(response["allowed"].is_boolean(), "{response}");
    assert_eq!(response["allowed"] == true, response.get("status").is_none(), "{response}");
    assert!(["injected", "left_alone", "denied", "error"].contains(&answer.summary.result));
    assert_eq!(answer.summary.result == "injected", response.get("patch").is_some(), "{response}");
    if answer.summary.result != "error"
        && let Ok(review) = serde_json::from_slice::<Value>(review)
    {
        assert_eq!(response["uid"], review["request"]["uid"]);
    }
    // What is not fit for a header, the API server drops.
    for warning in response["warnings"].as_array().into_iter().flatten() {
        let text = warning.as_str().expect("a text");
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
    response
}

fn patch(response: &Value) -> Option<Value> {
    let text = response.get("patch")?.as_str().expect("base64");
    assert_eq!(response["patchType"], "JSONPatch");
    assert_eq!(response["allowed"], true);
    let bytes = STANDARD.decode(text).expect("base64");
    let patch: Value = serde_json::from_slice(&bytes).expect("JSON");
    for operation in patch.as_array().expect("a list of operations") {
        assert_eq!(operation["op"], "add", "{patch}");
    }
    Some(patch)
}

fn apply(pod: &Value, patch: &Value) -> Value {
    let operations: json_patch::Patch = serde_json::from_value(patch.clone()).expect("RFC 6902");
    let mut injected = pod.clone();
    if let Err(error) = json_patch::patch(&mut injected, &operations) {
        panic!("{error}\n{patch}\n{pod}");
    }
    injected
}

/// The injected pod is the pod, with `weft-init` and `weft-proxy` ahead of its own init containers, a
/// volume behind its own and annotations for whoever scrapes.
fn adds_only(pod: &Value, injected: &Value) {
    let mut without = injected.clone();
    let init = without["spec"]["initContainers"].as_array_mut().expect("init containers");
    let added: Vec<Value> = init.drain(..2).collect();
    assert_eq!([&added[0]["name"], &added[1]["name"]], [INIT, PROXY]);
    let volumes = without["spec"]["volumes"].as_array_mut().expect("volumes");
    let volume = volumes.pop().expect("a volume");
    assert_eq!(volume["name"], API_ACCESS);
    if let Some(annotations) = without["metadata"]["annotations"].as_object_mut() {
        let before = pod.pointer("/metadata/annotations");
        annotations.retain(|name, _| {
            let is_own = before.is_some_and(|it| it.get(name).is_some());
            is_own || !name.starts_with("prometheus.io/")
        });
    }
    let mut pod = pod.clone();
    for part in [&mut pod, &mut without] {
        for pointer in ["/spec/initContainers", "/spec/volumes", "/metadata/annotations"] {
            drop_if_empty(part, pointer);
        }
    }
    assert_eq!(without, pod);
}

/// To be missing, to be null and to be empty is all the same.
fn drop_if_empty(value: &mut Value, pointer: &str) {
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer has a slash");
    let Some(Value::Object(parent)) = value.pointer_mut(parent) else { return };
    let is_empty = match parent.get(name) {
        Some(Value::Null) => true,
        Some(Value::Array(list)) => list.is_empty(),
        Some(Value::Object(map)) => Map::is_empty(map),
        _ => false,
    };
    if is_empty {
        parent.remove(name);
    }
}
