use serde_json::json;

use super::*;

#[test]
fn is_what_the_rfc_says() {
    let mut patch = Patch::default();
    assert!(patch.is_empty());
    patch.add(&["metadata", "annotations", "prometheus.io/scrape"], json!("true"));
    patch.add(&["spec", "volumes", "-"], json!({"name": "v"}));
    patch.add(&["a~/b"], json!(1));
    assert_eq!(
        serde_json::to_value(&patch).unwrap(),
        json!([
            {"op": "add", "path": "/metadata/annotations/prometheus.io~1scrape", "value": "true"},
            {"op": "add", "path": "/spec/volumes/-", "value": {"name": "v"}},
            {"op": "add", "path": "/a~0~1b", "value": 1},
        ])
    );
}
