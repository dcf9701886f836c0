use clap::CommandFactory;
use clap::error::ErrorKind;

use super::*;

fn parse(arguments: &[&str]) -> Result<Config, clap::Error> {
    let program = ["weft-proxy", "--namespace", "default", "--manifests", "/m"];
    Config::try_parse_from(program.iter().chain(arguments))
}

fn refused(arguments: &[&str]) -> String {
    parse(arguments).unwrap_err().to_string()
}

#[test]
fn the_options_are_well_formed() {
    Config::command().debug_assert();
}

#[test]
fn defaults() {
    let config = parse(&[]).unwrap();
    assert_eq!(config.namespace, "default");
    assert_eq!(config.manifests, Some(PathBuf::from("/m")));
    let ports = (config.outbound_port, config.admin_port, config.metrics_port);
    assert_eq!(ports, (15001, 15000, 15020));
    assert!(config.worker_count().get() >= 1);
    assert_eq!(config.pool_max_idle_per_endpoint, 128);
    assert_eq!(config.pool_idle, Duration::from_secs(60));
    assert_eq!((config.max_header_bytes, config.max_headers.get()), (65536, 100));
    let limits = config.limits(1024);
    assert_eq!((limits.max_connections, limits.http2_max_streams), (480, 256));
    assert_eq!((limits.http2_max_resets, limits.http2_max_empty_frames), (256, 1000));
    assert_eq!(limits.client_idle_timeout, Duration::from_secs(3600));
    assert_eq!(config.detect_timeout, Duration::from_millis(200));
    assert_eq!(config.connect_timeout, Duration::from_millis(1500));
    assert_eq!(config.header_timeout, Duration::from_secs(10));
    assert_eq!(config.drain, Duration::from_secs(30));
    assert_eq!(config.log_level, "info");
    assert_eq!((config.log_format, config.access_log), (LogFormat::Text, AccessLogFormat::Off));
    assert_eq!(config.metrics_settings(), MetricsSettings::default());
    assert_eq!(config.admin_address().to_string(), "127.0.0.1:15000");
}

#[test]
fn values_are_typed() {
    let config = parse(&[
        "--workers=3",
        "--drain-seconds=0",
        "--detect-timeout-ms=50",
        "--header-timeout-seconds=2.5",
        "--log-level=info,weft_proxy::source=debug",
        "--log-format=json",
        "--access-log=text",
        "--duration-buckets=0.1, 1,10",
        "--max-series=5",
        "--pool-max-idle-per-endpoint=0",
    ])
    .unwrap();
    assert_eq!(config.worker_count().get(), 3);
    assert_eq!(config.drain, Duration::ZERO);
    assert_eq!(config.detect_timeout, Duration::from_millis(50));
    assert_eq!(config.header_timeout, Duration::from_millis(2500));
    assert_eq!((config.log_format, config.access_log), (LogFormat::Json, AccessLogFormat::Text));
    let metrics = config.metrics_settings();
    assert_eq!((metrics.buckets, metrics.max_series), (vec![0.1, 1.0, 10.0], 5));
}

#[test]
fn the_pod_as_the_downward_api_tells_it() {
    let pod = parse(&["--node-name=n1", "--zone=z1", "--pod-ip=fd00::7"]).unwrap().pod();
    assert_eq!((&*pod.namespace, pod.address), ("default", "fd00::7".parse().ok()));
    assert_eq!((pod.place.node.as_deref(), pod.place.zone.as_deref()), (Some("n1"), Some("z1")));
    // What the downward API makes of a label that the pod does not have.
    let pod = parse(&["--zone="]).unwrap().pod();
    assert_eq!((pod.place, pod.address), (Place::default(), None));
}

#[test]
fn wrong_values_are_refused_with_a_reason() {
    for (argument, reason) in [
        ("--workers=0", "zero"),
        ("--admin-port=0", "0 is not in 1..=65535"),
        ("--admin-port=65536", "65536 is not in 1..=65535"),
        ("--header-timeout-seconds=0", "must be more than 0"),
        ("--header-timeout-seconds=-1", "not a number of seconds"),
        ("--header-timeout-seconds=inf", "not a number of seconds"),
        ("--header-timeout-seconds=1e9", "a day at most"),
        ("--connect-timeout-ms=1.5", "not a number of whole milliseconds"),
        ("--max-header-bytes=100", "from 8192"),
        ("--max-headers=0", "zero"),
        ("--log-level=inof", "\"inof\" is no log level"),
        ("--log-format=xml", "possible values: text, json"),
        ("--duration-buckets=", "\"\" is not a number of seconds"),
        ("--duration-buckets=1,1", "1 is out of order"),
        ("--duration-buckets=0,1", "0 is not a bound"),
        ("--namespace=Default", "at most 63 of a-z"),
        ("--node-name=", "a value is required"),
        ("--pod-ip=here", "invalid IP address"),
    ] {
        // The last of two values of an option would be an error of its own.
        let arguments = ["weft-proxy", "--manifests=/m", argument];
        let error = match argument.starts_with("--namespace") {
            true => Config::try_parse_from(arguments).unwrap_err().to_string(),
            false => refused(&[argument]),
        };
        assert!(error.contains(reason), "{argument}: {error}");
    }
    assert!(namespace(&"n".repeat(63)).is_ok());
    assert!(namespace(&"n".repeat(64)).is_err());
    let too_many: Vec<String> = (1..=65).map(|bound| bound.to_string()).collect();
    assert!(buckets(&too_many.join(",")).is_err());
}

#[test]
fn without_manifests_the_api_server_is_asked() {
    let config = Config::try_parse_from(["weft-proxy", "--namespace", "default"]).unwrap();
    assert_eq!(config.manifests, None);
}

#[test]
fn what_is_required_is_named() {
    let error = Config::try_parse_from(["weft-proxy"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MissingRequiredArgument);
    let text = error.to_string();
    assert!(text.contains("--namespace"), "{text}");
}

#[test]
fn every_option_is_a_variable_with_help_under_a_heading() {
    let command = Config::command();
    for option in command.get_arguments() {
        let name = option.get_long().unwrap();
        let expected = format!("WEFT_{}", name.replace('-', "_").to_uppercase());
        assert_eq!(option.get_env().and_then(|name| name.to_str()), Some(expected.as_str()));
        assert!(option.get_help().is_some(), "{name} has no help");
        assert!(option.get_help_heading().is_some(), "{name} has no heading");
        let value = option.get_value_names().map(|names| names[0].to_string());
        let unit = ["SECONDS", "MILLISECONDS", "BYTES"].iter().find(|unit| {
            name.ends_with(&unit.to_lowercase())
                || (name.ends_with("-ms") && unit.starts_with("MILLI"))
        });
        if let Some(unit) = unit {
            assert_eq!(value.as_deref(), Some(*unit), "{name}");
        }
    }
}
