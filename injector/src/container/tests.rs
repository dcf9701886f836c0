use super::*;

fn resources(amounts: [&str; 4]) -> Resources {
    let [cpu_request, cpu_limit, memory_request, memory_limit] =
        amounts.map(|text| (!text.is_empty()).then(|| text.parse().unwrap()));
    Resources { cpu_request, cpu_limit, memory_request, memory_limit }
}

#[test]
fn defaults_give_way_to_what_is_asked_for() {
    let default = resources(["10m", "", "32Mi", "128Mi"]);
    for (asked, expected) in [
        (["", "", "", ""], ["10m", "", "32Mi", "128Mi"]),
        (["50m", "1", "", ""], ["50m", "1", "32Mi", "128Mi"]),
        (["", "5m", "", ""], ["5m", "5m", "32Mi", "128Mi"]),
        (["", "", "256Mi", ""], ["10m", "", "256Mi", "256Mi"]),
        (["", "", "", "16Mi"], ["10m", "", "16Mi", "16Mi"]),
    ] {
        assert_eq!(resources(asked).or(&default), resources(expected), "{asked:?}");
    }
}

#[test]
fn guaranteed_needs_all_four() {
    assert!(resources(["100m", "0.1", "64Mi", "64Mi"]).guaranteed());
    assert!(!resources(["100m", "", "64Mi", "64Mi"]).guaranteed());
    assert!(!resources(["", "", "", ""]).guaranteed());
    assert!(!resources(["100m", "200m", "64Mi", "64Mi"]).guaranteed());
}

#[test]
fn absent_amounts_are_absent() {
    assert_eq!(resources(["", "", "", ""]).to_json(), json!({}));
    assert_eq!(
        resources(["10m", "", "", "1Gi"]).to_json(),
        json!({"requests": {"cpu": "10m"}, "limits": {"memory": "1Gi"}})
    );
}

#[test]
fn names_of_images() {
    for image in ["weft-proxy", "registry.example:5000/a/b:1.0@sha256:00", "localhost/x"] {
        assert!(is_image(image), "{image}");
    }
    for image in ["", " ", "a b", "-a", "/a", "a\n", "$(X)", &"a".repeat(513)] {
        assert!(!is_image(image), "{image}");
    }
}

#[test]
fn the_sidecar_is_told_where_its_pod_is() {
    let proxy = proxy(&crate::testing::settings(), &Annotations::default(), 30);
    let fields: Vec<(&str, &str)> = proxy["env"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|it| {
            let path = it.pointer("/valueFrom/fieldRef/fieldPath")?;
            Some((it["name"].as_str()?, path.as_str()?))
        })
        .collect();
    for expected in [
        ("WEFT_NAMESPACE", "metadata.namespace"),
        ("WEFT_POD_IP", "status.podIP"),
        ("WEFT_NODE_NAME", "spec.nodeName"),
        ("WEFT_ZONE", "metadata.labels['topology.kubernetes.io/zone']"),
    ] {
        assert!(fields.contains(&expected), "{expected:?} in {fields:?}");
        assert!(is_reserved(expected.0), "{}", expected.0);
    }
}

#[test]
fn variables_are_not_expanded() {
    assert_eq!(variable("X", "$(Y)$Z"), json!({"name": "X", "value": "$$(Y)$$Z"}));
}
