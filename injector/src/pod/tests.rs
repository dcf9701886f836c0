use serde_json::json;

use super::*;
use crate::container::Variable;
use crate::testing;

fn cidrs() -> CidrList {
    "10.96.0.0/12,fd00:10:96::/112".parse().unwrap()
}

/// What is known of a namespace whose standard permits everything.
fn context<'a>(namespace: &'a str, service_cidrs: Option<&'a CidrList>) -> Context<'a> {
    Context { namespace, service_cidrs, standard: Standard::Permits }
}

fn decide(pod: &Value) -> Injection {
    decide_with(pod, &testing::settings())
}

fn decide_with(pod: &Value, settings: &Settings) -> Injection {
    let cidrs = cidrs();
    inject(pod, &context("demo", Some(&cidrs)), settings)
}

/// The pod as the API server makes it of the patch.
fn patched(pod: &Value, injection: &Injection) -> Value {
    let operations = serde_json::to_value(&injection.patch).unwrap();
    let patch: json_patch::Patch = serde_json::from_value(operations).unwrap();
    let mut pod = pod.clone();
    json_patch::patch(&mut pod, &patch).unwrap();
    pod
}

fn injected(pod: &Value) -> Value {
    let injection = decide(pod);
    assert_eq!(injection.outcome, Outcome::Injected);
    patched(pod, &injection)
}

fn pod() -> Value {
    json!({
        "metadata": {"generateName": "web-7d9f-", "labels": {"app": "web"}},
        "spec": {
            "containers": [{
                "name": "web",
                "image": "web:1",
                "ports": [{"containerPort": 8080}],
                "readinessProbe": {"httpGet": {"path": "/", "port": 8080}},
            }],
        },
    })
}

fn with(path: &str, value: Value) -> Value {
    let mut pod = pod();
    let (parent, name) = path.rsplit_once('/').unwrap();
    pod.pointer_mut(parent).unwrap()[name] = value;
    pod
}

fn annotated(annotations: Value) -> Value {
    with("/metadata/annotations", annotations)
}

fn variable<'a>(container: &'a Value, name: &str) -> Option<&'a str> {
    let variables = container["env"].as_array().unwrap();
    variables.iter().find(|variable| variable["name"] == name)?["value"].as_str()
}

/// The whole of it, once.
#[test]
fn a_plain_pod_gets_this() {
    let expected: Value = serde_json::from_str(include_str!("tests/injected.json")).unwrap();
    let injection = decide(&pod());
    assert_eq!(injection.warnings, Vec::<String>::new());
    assert_eq!(patched(&pod(), &injection), expected);
}

#[test]
fn what_the_api_server_takes_is_a_pod() {
    use k8s_openapi_kube::api::core::v1::Pod;
    let pod: Pod = serde_json::from_value(injected(&pod())).unwrap();
    // Whatever the types do not know, they drop: what comes back must be what went in.
    let spec = serde_json::to_value(&pod).unwrap()["spec"].clone();
    assert_eq!(spec, injected(&self::pod())["spec"]);
}

/// A plain pod's containers get no more than they need (`injected.json`), and nothing that a pod says of
/// itself gives them more.
#[test]
fn no_pod_changes_what_weft_s_containers_may() {
    let contexts = |pod: &Value| -> Vec<Value> {
        let containers = pod["spec"]["initContainers"].as_array().unwrap();
        containers[..2].iter().map(|container| container["securityContext"].clone()).collect()
    };
    let mut pod = annotated(json!({
        "weft.mesh/include-outbound-cidrs": "*",
        "weft.mesh/proxy-image": "other:1",
        "weft.mesh/proxy-memory-limit": "1Gi",
    }));
    let everything = json!({
        "allowPrivilegeEscalation": true,
        "capabilities": {"add": ["SYS_ADMIN"]},
        "privileged": true,
        "readOnlyRootFilesystem": false,
        "runAsGroup": 0,
        "runAsNonRoot": false,
        "runAsUser": 0,
        "seccompProfile": {"type": "Unconfined"},
    });
    pod["spec"]["securityContext"] = everything.clone();
    pod["spec"]["containers"][0]["securityContext"] = everything.clone();
    pod["spec"]["automountServiceAccountToken"] = json!(true);
    let meshed = injected(&pod);
    assert_eq!(contexts(&meshed), contexts(&injected(&self::pod())));
    // A field that a container does not set is the pod's: each that could give more is set.
    for (context, field) in contexts(&meshed)
        .iter()
        .flat_map(|context| everything.as_object().unwrap().keys().map(move |it| (context, it)))
    {
        assert!(context.get(field).is_some_and(|value| !value.is_null()), "{field}: {context}");
    }
    let init = &meshed["spec"]["initContainers"][0];
    assert_eq!(init.get("volumeMounts"), None, "weft-init needs no token");

    // Nor does the pod get more than it had.
    let mut without = meshed.clone();
    let spec = without["spec"].as_object_mut().unwrap();
    spec.remove("initContainers");
    spec.remove("volumes");
    assert_eq!(without["spec"], pod["spec"]);
}

#[test]
fn stands_ahead_of_the_pods_own_init_containers_and_behind_its_volumes() {
    let mut pod = with("/spec/initContainers", json!([{"name": "migrate"}, {"name": "fetch"}]));
    pod["spec"]["volumes"] = json!([{"name": "data", "emptyDir": {}}]);
    let pod = injected(&pod);
    let names = |list: &str| -> Vec<String> {
        let list = pod["spec"][list].as_array().unwrap();
        list.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("initContainers"), ["weft-init", "weft-proxy", "migrate", "fetch"]);
    assert_eq!(names("volumes"), ["data", "weft-api-access"]);
    assert_eq!(pod["spec"]["initContainers"][2], json!({"name": "migrate"}));
}

#[test]
fn absent_null_and_empty_are_the_same() {
    for (path, value) in [
        ("/spec/initContainers", Value::Null),
        ("/spec/initContainers", json!([])),
        ("/spec/volumes", Value::Null),
        ("/spec/volumes", json!([])),
        ("/metadata/annotations", Value::Null),
        ("/metadata/annotations", json!({})),
        ("/metadata/labels", Value::Null),
    ] {
        let result = injected(&with(path, value));
        assert_eq!(result["spec"], injected(&pod())["spec"], "{path}");
        let annotations = &result["metadata"]["annotations"];
        assert_eq!(*annotations, injected(&pod())["metadata"]["annotations"], "{path}");
    }
}

#[test]
fn an_injected_pod_gets_nothing_more() {
    for pod in [pod(), with("/spec/initContainers", json!([{"name": "migrate"}]))] {
        let again = decide(&injected(&pod));
        assert_eq!(again.outcome, Outcome::LeftAlone(Reason::AlreadyInjected));
        assert!(again.patch.is_empty());
        assert_eq!(again.warnings, Vec::<String>::new());
    }
}

#[test]
fn each_reason_to_leave_a_pod_alone() {
    for (pod, reason, warning) in [
        (with("/metadata/labels", json!({"weft.mesh/inject": "disabled"})), Reason::Disabled, ""),
        (with("/spec/hostNetwork", json!(true)), Reason::HostNetwork, "hostNetwork"),
        (with("/spec/os", json!({"name": "windows"})), Reason::Windows, "Windows"),
        (
            with("/spec/nodeSelector", json!({"kubernetes.io/os": "windows"})),
            Reason::Windows,
            "Windows",
        ),
        (
            with("/spec/initContainers", json!([{"name": "weft-proxy"}])),
            Reason::HalfInjected,
            "one of the containers",
        ),
        (
            with("/spec/containers", json!([{"name": "weft-init"}, {"name": "weft-proxy"}])),
            Reason::HalfInjected,
            "one of the containers",
        ),
    ] {
        let injection = decide(&pod);
        assert_eq!(injection.outcome, Outcome::LeftAlone(reason));
        assert!(injection.patch.is_empty());
        if warning.is_empty() {
            assert_eq!(injection.warnings, Vec::<String>::new());
        } else {
            assert!(injection.warnings[0].contains(warning), "{:?}", injection.warnings);
        }
    }
}

#[test]
fn pods_of_ignored_namespaces_are_left_alone() {
    let cidrs = cidrs();
    let context = context("kube-system", Some(&cidrs));
    let injection = inject(&pod(), &context, &testing::settings());
    assert_eq!(injection.outcome, Outcome::LeftAlone(Reason::IgnoredNamespace));
}

#[test]
fn a_standard_that_forbids_weft_init_is_told_to_those_who_would_get_it() {
    let cidrs = cidrs();
    let context = Context { standard: Standard::Forbids, ..context("demo", Some(&cidrs)) };
    let injection = inject(&pod(), &context, &testing::settings());
    let Outcome::Denied(denial) = &injection.outcome else { panic!("{injection:?}") };
    assert_eq!(denial.as_str(), "pod_security");
    for words in [
        "namespace demo",
        "pod-security.kubernetes.io/enforce=privileged",
        "weft.mesh/inject=disabled",
    ] {
        assert!(denial.to_string().contains(words), "{denial}");
    }
    assert!(injection.patch.is_empty());
    // Pods that get no weft-init are none of the standard's victims.
    let out = with("/metadata/labels", json!({ INJECT_LABEL: "disabled" }));
    let injection = inject(&out, &context, &testing::settings());
    assert_eq!(injection.outcome, Outcome::LeftAlone(Reason::Disabled));
    let on_node = with("/spec/hostNetwork", json!(true));
    let injection = inject(&on_node, &context, &testing::settings());
    assert_eq!(injection.outcome, Outcome::LeftAlone(Reason::HostNetwork));
}

#[test]
fn the_label_is_enabled_or_disabled() {
    let label = |value: Value| with("/metadata/labels", json!({ INJECT_LABEL: value }));
    assert_eq!(decide(&label(json!("enabled"))).warnings, Vec::<String>::new());
    for odd in [json!("yes"), json!(""), json!(true)] {
        let injection = decide(&label(odd));
        assert_eq!(injection.outcome, Outcome::Injected);
        assert!(injection.warnings[0].contains("it can be enabled or disabled"));
    }
}

#[test]
fn annotations_reach_the_init_container() {
    let pod = injected(&annotated(json!({
        "weft.mesh/exclude-outbound-ports": "3306, 443",
        "weft.mesh/exclude-outbound-cidrs": "10.96.0.1",
        "weft.mesh/include-outbound-cidrs": "*",
    })));
    let init = &pod["spec"]["initContainers"][0];
    assert_eq!(variable(init, "WEFT_EXCLUDE_OUTBOUND_PORTS"), Some("443,3306"));
    assert_eq!(variable(init, "WEFT_EXCLUDE_OUTBOUND_CIDRS"), Some("10.96.0.1/32"));
    assert_eq!(variable(init, "WEFT_INCLUDE_OUTBOUND_CIDRS"), Some("*"));
    assert_eq!(variable(init, "WEFT_SERVICE_CIDRS"), Some("10.96.0.0/12,fd00:10:96::/112"));
}

#[test]
fn annotations_reach_the_sidecar() {
    let pod = injected(&annotated(json!({
        "weft.mesh/proxy-cpu-request": "100m",
        "weft.mesh/proxy-cpu-limit": "2",
        "weft.mesh/proxy-memory-request": "64Mi",
        "weft.mesh/proxy-memory-limit": "1Gi",
        "weft.mesh/log-level": "debug",
        "weft.mesh/proxy-image": "weft-proxy:2",
        "weft.mesh/drain-seconds": "7",
    })));
    let proxy = &pod["spec"]["initContainers"][1];
    assert_eq!(
        proxy["resources"],
        json!({
            "requests": {"cpu": "100m", "memory": "64Mi"},
            "limits": {"cpu": "2", "memory": "1Gi"},
        })
    );
    assert_eq!(proxy["image"], "weft-proxy:2");
    assert_eq!(variable(proxy, "WEFT_LOG_LEVEL"), Some("debug"));
    assert_eq!(variable(proxy, "WEFT_DRAIN_SECONDS"), Some("7"));
    assert_eq!(pod["spec"]["initContainers"][0]["image"], "weft-init:1");
}

/// The options that are passed on are ones that `weft-init` takes.
#[test]
fn the_init_container_takes_what_it_is_given() {
    use clap::Parser;
    let pod = injected(&annotated(json!({
        "weft.mesh/exclude-outbound-ports": "3306,8000-8010",
        "weft.mesh/include-outbound-cidrs": "192.0.2.0/24,*",
    })));
    let environment = pod["spec"]["initContainers"][0]["env"].as_array().unwrap().clone();
    let options = environment.iter().map(|variable| {
        let name = variable["name"].as_str().unwrap().strip_prefix("WEFT_").unwrap();
        let option = name.to_lowercase().replace('_', "-");
        format!("--{option}={}", variable["value"].as_str().unwrap())
    });
    let options = std::iter::once("weft-init".to_owned()).chain(options);
    let job = weft_init::config::Args::parse_from(options).job().unwrap();
    assert!(matches!(job, weft_init::config::Job::Redirect(_)));
}

#[test]
fn each_denial() {
    let deny = |pod: &Value| match decide(pod) {
        Injection { outcome: Outcome::Denied(denial), patch, .. } if patch.is_empty() => denial,
        other => panic!("{other:?}"),
    };
    let denial = deny(&annotated(json!({
        "weft.mesh/exclude-outbound-ports": "http",
        "weft.mesh/include-outbound-cidrs": "10.0.0.1/8",
    })));
    assert_eq!(denial.as_str(), "annotations");
    let message = denial.to_string();
    assert!(message.contains("`http` is not a port"), "{message}");
    assert!(message.contains("; annotation weft.mesh/include-outbound-cidrs: "), "{message}");
    let denial = deny(&with("/spec/volumes", json!([{"name": "weft-api-access"}])));
    assert_eq!(denial, Denial::VolumeName);
    for (path, value, message) in [
        ("/spec/initContainers", json!({}), "this is no pod: spec.initContainers is not a list"),
        ("/spec/containers", json!("x"), "this is no pod: spec.containers is not a list"),
        ("/spec/volumes", json!(1), "this is no pod: spec.volumes is not a list"),
        ("/metadata/labels", json!([]), "this is no pod: metadata.labels is not an object"),
        (
            "/metadata/annotations",
            json!(""),
            "this is no pod: metadata.annotations is not an object",
        ),
        ("/spec", Value::Null, "this is no pod: spec is not there"),
        ("/metadata", Value::Null, "this is no pod: metadata is not there"),
    ] {
        let mut pod = json!({"pod": pod()});
        let path = format!("/pod{path}");
        *match pod.pointer_mut(&path) {
            Some(value) => value,
            None => {
                let (parent, name) = path.rsplit_once('/').unwrap();
                &mut pod.pointer_mut(parent).unwrap()[name]
            }
        } = value;
        assert_eq!(deny(&pod["pod"]).to_string(), message);
    }
    let injection = inject(&pod(), &context("demo", None), &testing::settings());
    assert_eq!(injection.outcome, Outcome::Denied(Denial::NoServiceCidrs));
}

#[test]
fn the_sidecars_user_is_the_sidecars() {
    let user = json!({"runAsUser": 65101});
    let of_pod = decide(&with("/spec/securityContext", user.clone()));
    let of_container =
        decide(&with("/spec/containers", json!([{"name": "web", "securityContext": user}])));
    for injection in [of_pod, of_container] {
        assert_eq!(injection.outcome, Outcome::Injected);
        assert!(
            injection.warnings[0].starts_with("container web runs as user 65101, the sidecar's"),
            "{:?}",
            injection.warnings
        );
    }
    let mut overridden = with("/spec/securityContext", json!({"runAsUser": 65101}));
    overridden["spec"]["containers"][0]["securityContext"] = json!({"runAsUser": 1000});
    assert_eq!(decide(&overridden).warnings, Vec::<String>::new());
}

#[test]
fn ports_of_the_sidecar_are_warned_of() {
    let ports = json!([{"containerPort": 80}, {"containerPort": 15020}, {"containerPort": "x"}]);
    let injection = decide(&with("/spec/containers", json!([{"name": "web", "ports": ports}])));
    assert_eq!(injection.outcome, Outcome::Injected);
    assert_eq!(injection.warnings.len(), 1);
    assert!(injection.warnings[0].starts_with("container web has port 15020"));
}

#[test]
fn the_drain_fits_into_the_pods_last_seconds() {
    let drain = |pod: &Value| {
        let pod = injected(pod);
        let proxy = &pod["spec"]["initContainers"][1];
        variable(proxy, "WEFT_DRAIN_SECONDS").map(str::to_owned)
    };
    for (grace, expected) in [(0, "0"), (10, "10"), (30, "30"), (300, "30")] {
        let pod = with("/spec/terminationGracePeriodSeconds", json!(grace));
        assert_eq!(drain(&pod).as_deref(), Some(expected));
    }
    let mut pod = annotated(json!({"weft.mesh/drain-seconds": "60"}));
    assert!(decide(&pod).warnings[0].contains("terminationGracePeriodSeconds (30)"));
    pod["spec"]["terminationGracePeriodSeconds"] = json!(90);
    assert_eq!(decide(&pod).warnings, Vec::<String>::new());
    assert_eq!(drain(&pod).as_deref(), Some("60"));
}

#[test]
fn prometheus_annotations_are_the_pods_where_it_has_one() {
    let own = json!({"prometheus.io/port": "9090", "x": "y"});
    let pod = injected(&annotated(own.clone()));
    assert_eq!(pod["metadata"]["annotations"], own);
    let pod = injected(&annotated(json!({"x": "y"})));
    assert_eq!(pod["metadata"]["annotations"]["prometheus.io/port"], "15020");
    assert_eq!(pod["metadata"]["annotations"]["x"], "y");
    let settings = Settings { scrape_annotations: false, ..testing::settings() };
    let pod = patched(&self::pod(), &decide_with(&self::pod(), &settings));
    assert_eq!(pod["metadata"].get("annotations"), None);
}

#[test]
fn a_change_of_the_quality_of_service_is_warned_of() {
    let limits = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
    let mut pod = with("/spec/containers", json!([{"name": "web", "resources": limits}]));
    let warnings = decide(&pod).warnings;
    assert!(warnings[0].contains("becomes Burstable"), "{warnings:?}");
    pod["metadata"]["annotations"] = json!({
        "weft.mesh/proxy-cpu-request": "500m",
        "weft.mesh/proxy-cpu-limit": "0.5",
        "weft.mesh/proxy-memory-request": "64Mi",
        "weft.mesh/proxy-memory-limit": "64Mi",
    });
    assert_eq!(decide(&pod).warnings, Vec::<String>::new());
}

#[test]
fn more_variables_come_last() {
    let variables = vec![Variable { name: "WEFT_WORKERS".into(), value: "2".into() }];
    let settings = Settings { proxy_environment: variables, ..testing::settings() };
    let pod = patched(&pod(), &decide_with(&pod(), &settings));
    assert_eq!(variable(&pod["spec"]["initContainers"][1], "WEFT_WORKERS"), Some("2"));
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    /// Any JSON, with the names of a pod's fields more often than others.
    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            text().prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 64, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(text(), inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn text() -> impl Strategy<Value = String> {
        let known = prop::sample::select(vec![
            "metadata",
            "spec",
            "labels",
            "annotations",
            "containers",
            "initContainers",
            "volumes",
            "name",
            "weft-proxy",
            "securityContext",
            "runAsUser",
            "weft.mesh/inject",
            "weft.mesh/exclude-outbound-ports",
            "weft.mesh/include-outbound-cidrs",
            "weft.mesh/proxy-memory-limit",
            "weft.mesh/log-level",
            "10.0.0.0/8",
            "80-90",
            "64Mi",
        ]);
        prop_oneof![3 => known.prop_map(str::to_owned), 1 => ".{0,12}"]
    }

    /// A pod whose parts are anything.
    fn pod_like() -> impl Strategy<Value = Value> {
        let metadata = (json_value(), json_value()).prop_map(
            |(labels, annotations)| json!({"labels": labels, "annotations": annotations}),
        );
        let list = || prop::collection::vec(json_value(), 0..3).prop_map(Value::from);
        let spec = (list(), list(), list(), json_value()).prop_map(
            |(containers, init, volumes, context)| {
                json!({
                    "containers": containers,
                    "initContainers": init,
                    "volumes": volumes,
                    "securityContext": context,
                })
            },
        );
        (metadata, spec).prop_map(|(metadata, spec)| json!({"metadata": metadata, "spec": spec}))
    }

    proptest! {
        /// Nothing panics; a patch applies; the result is left alone; nothing of the pod is lost.
        #[test]
        fn holds_for_anything(pod in prop_oneof![json_value(), pod_like()]) {
            let injection = decide(&pod);
            prop_assert_eq!(injection.outcome == Outcome::Injected, !injection.patch.is_empty());
            if injection.outcome == Outcome::Injected {
                let result = patched(&pod, &injection);
                let again = decide(&result);
                prop_assert_eq!(again.outcome, Outcome::LeftAlone(Reason::AlreadyInjected));
                prop_assert!(again.patch.is_empty());
                prop_assert_eq!(&result["spec"]["containers"], &pod["spec"]["containers"]);
            }
        }

        /// So does a review of any bytes.
        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let cidrs = crate::service_cidr::ServiceCidrs::fixed(cidrs());
            let answer = crate::review::answer(&bytes, &testing::settings(), &cidrs, Standard::Permits);
            prop_assert!(serde_json::from_slice::<Value>(&answer.body).is_ok());
        }
    }
}
