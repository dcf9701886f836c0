//! What is kept of an object's text, and what is passed over.

use serde_json::json;

use super::*;

#[test]
fn what_means_nothing_to_traffic_is_passed_over() {
    let object: LeanObject = serde_json::from_value(json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {
            "name": "reviews",
            "namespace": "default",
            "labels": {"team": "a"},
            "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": "{}",
                "weft.mesh/sticky-split": "session",
            },
            "creationTimestamp": "2026-01-02T03:04:05Z",
            "generation": 7,
            "uid": "u",
            "resourceVersion": "42",
            "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {"f:rules": {}}}}],
            "finalizers": ["someone/else"],
            "ownerReferences": [],
        },
        "spec": {"rules": [{"name": "r"}]},
        "status": {"parents": [{"controllerName": "other"}]},
    }))
    .unwrap();
    let metadata = &object.metadata;
    assert_eq!(metadata.name.as_deref(), Some("reviews"));
    assert_eq!(metadata.namespace.as_deref(), Some("default"));
    assert_eq!(metadata.labels.as_ref().unwrap()["team"], "a");
    let annotations = metadata.annotations.as_ref().unwrap();
    assert_eq!(annotations.len(), 1);
    assert_eq!(annotations["weft.mesh/sticky-split"], "session");
    assert_eq!(serde_json::to_value(&metadata.creation_timestamp).unwrap(), "2026-01-02T03:04:05Z");
    assert_eq!((metadata.generation, metadata.uid.as_deref()), (Some(7), Some("u")));
    assert_eq!(metadata.resource_version.as_deref(), Some("42"));
    assert!(metadata.managed_fields.is_none() && metadata.finalizers.is_none());
    let fields: Vec<&str> = object.fields.keys().map(String::as_str).collect();
    assert_eq!(fields, ["spec"]);
    assert_eq!(*object.field("spec"), json!({"rules": [{"name": "r"}]}));
}

#[test]
fn what_is_not_there_is_none_and_unknown_fields_are_kept() {
    let object: LeanObject = serde_json::from_value(json!({
        "metadata": {"name": "a", "annotations": {"other": "x"}, "creationTimestamp": null},
        "endpoints": [], "addressType": "IPv4", "metadataExtra": 1,
    }))
    .unwrap();
    assert!(object.metadata.annotations.is_none() && object.metadata.namespace.is_none());
    assert_eq!(object.fields.len(), 3);
    assert_eq!((object.field("endpoints"), object.field("none")), (&json!([]), &Value::Null));
    assert!(serde_json::from_value::<LeanObject>(json!({"metadata": "no object"})).is_err());
    assert!(serde_json::from_value::<LeanObject>(json!("no object")).is_err());
}
