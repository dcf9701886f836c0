use super::*;

const REQUIRED: [&str; 4] =
    ["weft-injector", "--proxy-image=weft-proxy:1", "--init-image=weft-init:1", "--namespace=mesh"];

fn parse(more: &[&str]) -> Result<Config, clap::Error> {
    Config::try_parse_from(REQUIRED.iter().chain(more))
}

#[test]
fn the_command_line_is_consistent() {
    use clap::CommandFactory;
    Config::command().debug_assert();
}

#[test]
fn the_defaults() {
    let config = parse(&[]).unwrap();
    assert_eq!(config.certificate_validity, Duration::from_secs(90 * 86400));
    assert_eq!((config.webhook_port, config.metrics_port), (8443, 8080));
    assert!(config.service_cidrs.is_empty());
    assert_eq!(config.names().host(), "weft-injector.mesh.svc");
    let settings = config.settings().unwrap();
    assert_eq!(settings.image_pull_policy, "IfNotPresent");
    assert!(settings.scrape_annotations);
    assert_eq!(
        settings.ignored_namespaces,
        ["kube-system", "kube-public", "kube-node-lease", "mesh"]
    );
    assert_eq!(settings.resources.cpu_limit, None);
}

#[test]
fn variables_of_the_sidecar() {
    let config = parse(&["--proxy-env", "A=1\n\nWEFT_DURATION_BUCKETS=0.1,1\n", "--proxy-env=B="]);
    let variables = config.unwrap().settings().unwrap().proxy_environment;
    let pairs: Vec<(&str, &str)> =
        variables.iter().map(|variable| (&*variable.name, &*variable.value)).collect();
    assert_eq!(pairs, [("A", "1"), ("WEFT_DURATION_BUCKETS", "0.1,1"), ("B", "")]);
    for wrong in ["A", "=1", "1A=1", "A B=1", "WEFT_NAMESPACE=x", "WEFT_METRICS_PORT=1"] {
        assert!(parse(&["--proxy-env", wrong]).is_err(), "{wrong}");
    }
}

#[test]
fn validities() {
    for (text, seconds) in [("90d", 7_776_000), ("12h", 43_200), ("30m", 1800), ("10s", 10)] {
        assert_eq!(validity(text), Ok(Duration::from_secs(seconds)));
    }
    for text in ["", "d", "9s", "1", "1w", "-1d", "1.5h", "3651d", "99999999999999999999d", "1ü"] {
        assert!(validity(text).is_err(), "{text}");
    }
}

#[test]
fn wrong_values_are_refused() {
    for wrong in [
        "--proxy-image= ",
        "--image-pull-policy=sometimes",
        "--proxy-cpu-request=lots",
        "--service-cidrs=10.0.0.1/8",
        "--proxy-log-level=loud",
        "--drain-seconds=100000",
        "--scrape-annotations=perhaps",
        "--webhook-port=0",
    ] {
        assert!(parse(&[wrong]).is_err(), "{wrong}");
    }
    let config = parse(&["--proxy-memory-request=1Gi", "--proxy-memory-limit=1Mi"]).unwrap();
    let error = config.settings().unwrap_err().to_string();
    assert_eq!(error, "--proxy-memory-request (1Gi) is more than --proxy-memory-limit (1Mi)");
}

#[test]
fn pull_policies_are_spelt_as_kubernetes_does() {
    for policy in ["Always", "IfNotPresent", "Never"] {
        let config = parse(&["--image-pull-policy", policy]).unwrap();
        assert_eq!(config.settings().unwrap().image_pull_policy, policy);
    }
}
