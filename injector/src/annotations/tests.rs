use serde_json::json;

use super::*;

fn parse(annotations: Value) -> Result<Annotations, Vec<AnnotationError>> {
    Annotations::parse(annotations.as_object().unwrap())
}

#[test]
fn each_annotation_is_read() {
    let parsed = parse(json!({
        "weft.mesh/exclude-outbound-ports": "3306, 8000-8010",
        "weft.mesh/exclude-outbound-cidrs": "10.96.0.1,fd00::/64",
        "weft.mesh/include-outbound-cidrs": "192.0.2.0/24,*",
        "weft.mesh/proxy-cpu-request": "50m",
        "weft.mesh/proxy-cpu-limit": "1",
        "weft.mesh/proxy-memory-request": "32Mi",
        "weft.mesh/proxy-memory-limit": "64Mi",
        "weft.mesh/log-level": "info,weft_proxy=debug",
        "weft.mesh/proxy-image": "registry.example:5000/weft-proxy@sha256:0123",
        "weft.mesh/drain-seconds": "5",
        "example.com/other": "whatever",
    }))
    .unwrap();
    assert_eq!(parsed.exclude_outbound_ports.to_string(), "3306,8000-8010");
    assert_eq!(parsed.exclude_outbound_cidrs.to_string(), "10.96.0.1/32,fd00::/64");
    assert!(parsed.include_outbound_cidrs.everything);
    assert_eq!(parsed.include_outbound_cidrs.cidrs.to_string(), "192.0.2.0/24");
    assert_eq!(parsed.resources.cpu_request, Some("50m".parse().unwrap()));
    assert_eq!(parsed.resources.cpu_limit, Some("1".parse().unwrap()));
    assert_eq!(parsed.resources.memory_request, Some("32Mi".parse().unwrap()));
    assert_eq!(parsed.resources.memory_limit, Some("64Mi".parse().unwrap()));
    assert_eq!(parsed.log_level.as_deref(), Some("info,weft_proxy=debug"));
    assert_eq!(parsed.proxy_image.as_deref(), Some("registry.example:5000/weft-proxy@sha256:0123"));
    assert_eq!(parsed.drain_seconds, Some(5));
    assert_eq!(parsed.warnings, Vec::<String>::new());
}

#[test]
fn none_is_the_default() {
    assert_eq!(parse(json!({"other": "x"})).unwrap(), Annotations::default());
}

#[test]
fn what_would_run_as_something_else_is_an_error() {
    for (name, value, part) in [
        (EXCLUDE_OUTBOUND_PORTS, "http", "`http` is not a port"),
        (EXCLUDE_OUTBOUND_PORTS, "0", "`0` is not a port"),
        (EXCLUDE_OUTBOUND_PORTS, "90-80", "ends before it begins"),
        (EXCLUDE_OUTBOUND_CIDRS, "10.96.7.0/12", "has bits set behind its prefix"),
        (EXCLUDE_OUTBOUND_CIDRS, "*", "`*` stands for every address"),
        (INCLUDE_OUTBOUND_CIDRS, "everything", "`everything` is not an address range"),
        (PROXY_IMAGE, "", "is not the name of an image"),
        (PROXY_IMAGE, "weft proxy", "is not the name of an image"),
    ] {
        let errors = parse(json!({ name: value })).unwrap_err();
        assert_eq!(errors.len(), 1);
        let message = errors[0].to_string();
        assert!(message.starts_with(&format!("annotation {name}: ")), "{message}");
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn all_errors_are_found() {
    let errors = parse(json!({
        EXCLUDE_OUTBOUND_PORTS: "x",
        INCLUDE_OUTBOUND_CIDRS: 7,
        PROXY_MEMORY_REQUEST: "2Gi",
        PROXY_MEMORY_LIMIT: "1Gi",
    }))
    .unwrap_err();
    let messages: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(messages.len(), 3, "{messages:?}");
    assert!(messages[1].contains("is not a text"), "{messages:?}");
    assert_eq!(
        messages[2],
        "annotation weft.mesh/proxy-memory-request (2Gi) is more than \
         weft.mesh/proxy-memory-limit (1Gi)"
    );
}

#[test]
fn other_wrong_values_are_set_aside_with_a_warning() {
    for (name, value, part) in [
        (PROXY_CPU_REQUEST, "lots", "`lots` is not an amount"),
        (PROXY_CPU_LIMIT, "-1", "is not an amount"),
        (PROXY_MEMORY_REQUEST, "64MB", "is not an amount"),
        (PROXY_MEMORY_LIMIT, "", "is not an amount"),
        (LOG_LEVEL, "loud", "`loud` is no log level"),
        (DRAIN_SECONDS, "1m", "`1m` is not a number of seconds"),
        (DRAIN_SECONDS, "86401", "is not a number of seconds"),
    ] {
        let parsed = parse(json!({ name: value })).unwrap();
        assert_eq!(parsed.warnings.len(), 1, "{name}");
        let warning = parsed.warnings[0].clone();
        assert!(warning.starts_with(&format!("annotation {name} is set aside: ")), "{warning}");
        assert!(warning.contains(part), "{warning}");
        assert_eq!(Annotations { warnings: Vec::new(), ..parsed }, Annotations::default());
    }
}

#[test]
fn unknown_annotations_are_named() {
    let parsed = parse(json!({
        "weft.mesh/exclude-outbound-port": "80",
        "weft.mesh/inject": "disabled",
        "weft.mesh.example/x": "",
    }))
    .unwrap();
    assert_eq!(
        parsed.warnings,
        [
            "annotation weft.mesh/exclude-outbound-port is unknown to Weft and does nothing",
            "weft.mesh/inject is a label, not an annotation: as an annotation it does nothing",
        ]
    );
}
