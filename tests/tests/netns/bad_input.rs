//! Wrong manifests: a clear message each, and the rest works.

use std::fs;
use std::io::Write;
use std::time::Duration;

use serde_json::Value;
use weft_tests::lab::{ClientOptions, FOLDER, Lab, SETTLE_LIMIT, poll};

use crate::support::{World, http_route};

const TO_V1: &str = "  - backendRefs:\n    - name: echo-v1\n      port: 80";
const TO_V2: &str = "  - backendRefs:\n    - name: echo-v2\n      port: 80";

/// Writes a file that is wrong beside a good route; the log names it and says these words.
fn refused(name: &str, content: &str, words: &[&str]) -> World {
    let world = World::routed(&http_route("good", TO_V1));
    world.lab.write_file(name, content.as_bytes()).expect("a file");
    // Every word on one line.
    let told = || {
        let log = world.client.proxy_log();
        let line = log
            .lines()
            .find(|line| line.contains(name) && words.iter().all(|word| line.contains(word)));
        line.map(str::to_owned)
    };
    if poll(SETTLE_LIMIT, told).is_none() {
        panic!("no line with {name} and {words:?} in:\n{}", world.client.proxy_log());
    }
    assert_eq!(world.ask(&["http://echo/"]).identity.version, "v1", "the rest works");
    world
}

#[test]
fn wrong_types() {
    let yaml = http_route("wrong", TO_V2).replace("port: 80", "port: eighty").replace("---\n", "");
    refused("wrong.yaml", &yaml, &["wrong", "backendRefs"]);
    refused("list.yaml", "- not\n- an object\n", &[]);
    let yaml =
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: odd\n  namespace: default\nspec: 7\n";
    refused("service.yaml", yaml, &["odd", "spec"]);
}

#[test]
fn no_yaml() {
    refused("broken.yaml", "kind: [HTTPRoute\nmetadata: }{", &[]);
    refused("binary.yaml", "\u{0}\u{1}\u{2}", &[]);
}

#[test]
fn one_wrong_document_of_a_file_costs_only_itself() {
    let wrong = http_route("wrong", "  - matches: 7");
    let right = http_route(
        "by-header",
        "  - matches:\n    - headers:\n      - name: x\n        \
         value: y\n    backendRefs:\n    - name: echo-v2\n      port: 80",
    );
    let world = refused("two.yaml", &(wrong + &right), &["wrong", "matches"]);
    assert_eq!(world.ask(&["-H", "x: y", "http://echo/"]).identity.version, "v2");
}

#[test]
fn an_unknown_filter_costs_its_own_rule() {
    let rules = "  \
  - matches:
    - path:
        type: PathPrefix
        value: /future
    filters:
    - type: TimeTravel
      timeTravel:
        years: 7
    backendRefs:
    - name: echo-v1
      port: 80
  - backendRefs:
    - name: echo-v2
      port: 80";
    let world = World::routed(&http_route("future", rules));
    assert_eq!(world.status(&["http://echo/future"]), "500");
    assert_eq!(world.ask(&["http://echo/now"]).identity.version, "v2");
    let config = world.client.admin("/config").expect("/config");
    assert!(config.contains("TimeTravel"), "the reason is told: {config}");
}

#[test]
fn a_bad_regular_expression_costs_its_own_rule() {
    let rules = "  \
  - matches:
    - path:
        type: RegularExpression
        value: '/a(b'
    backendRefs:
    - name: echo-v1
      port: 80
  - matches:
    - path:
        type: RegularExpression
        value: '/item/[0-9]+'
    backendRefs:
    - name: echo-v2
      port: 80";
    let world = World::routed(&http_route("regex", rules));
    assert_eq!(world.ask(&["http://echo/item/12"]).identity.version, "v2");
    // The pattern is held against the whole value. What then matches nothing may have been meant
    // for the rule that cannot be read: the error shows, not a 404.
    assert_eq!(world.status(&["http://echo/item/12/x"]), "500");
    let config = world.client.admin("/config").expect("/config");
    assert!(config.contains("/a(b"), "the reason is told: {config}");
}

#[test]
fn duplicate_objects() {
    let duplicate = http_route("good", TO_V2);
    let world = World::routed(&http_route("good", TO_V1));
    world.lab.write_file("again.yaml", duplicate.as_bytes()).expect("a file");
    world.client.wait_log("again.yaml").expect("the second file is named");
    let log = world.client.proxy_log();
    let line = log.lines().find(|line| line.contains("again.yaml")).expect("a line");
    assert!(line.contains("good"), "{line}");
    let first = world.ask(&["http://echo/"]).identity.version;
    for _ in 0..20 {
        assert_eq!(world.ask(&["http://echo/"]).identity.version, first, "one of them, always");
    }
}

#[test]
fn a_list_as_kubectl_prints_it() {
    let world = World::new();
    let item = |name: &str, rules: &str| {
        let yaml = http_route(name, rules).replace("---\n", "");
        let indented: String = yaml.lines().map(|line| format!("  {line}\n")).collect();
        indented.replacen("  ", "- ", 1)
    };
    let rules = "  - matches:\n    - headers:\n      - name: x\n        value: y\n    \
         backendRefs:\n    - name: echo-v2\n      port: 80";
    let list = format!(
        "apiVersion: v1\nitems:\n{}{}kind: List\nmetadata:\n  resourceVersion: \"\"\n",
        item("one", TO_V1),
        item("two", rules)
    );
    world.lab.settled(|lab| lab.write_file("list.yaml", list.as_bytes())).expect("a change");
    assert_eq!(world.ask(&["http://echo/"]).identity.version, "v1");
    assert_eq!(world.ask(&["-H", "x: y", "http://echo/"]).identity.version, "v2");
}

#[test]
fn other_kinds_are_left_alone() {
    let world = World::routed(&http_route("good", TO_V1));
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings\ndata: {}\n";
    world.lab.write_file("config-map.yaml", yaml.as_bytes()).expect("a file");
    fs::write(world.lab.manifest_folder().join("notes.txt"), "no manifest").expect("a file");
    world.lab.apply(&http_route("good", TO_V2)).expect("a change");
    // The table that is published next may be the one without the change: the traffic tells.
    let changed = || (world.ask(&["http://echo/"]).identity.version == "v2").then_some(());
    poll(SETTLE_LIMIT, changed).expect("the route's change is in effect");
}

#[test]
fn a_half_written_file_keeps_the_others_and_is_retried() {
    let world = World::routed(&http_route("good", TO_V1));
    let route = http_route(
        "slowly",
        "  - matches:\n    - headers:\n      - name: x\n        \
         value: y\n    backendRefs:\n    - name: echo-v2\n      port: 80",
    );
    // In the middle of a word, so that what is there does not decode.
    let middle = route.find("parentRefs").expect("the middle") + 5;
    let path = world.lab.manifest_folder().join("slowly.yaml");
    let mut file = fs::File::create(&path).expect("a file");
    file.write_all(&route.as_bytes()[..middle]).expect("the first half");
    file.flush().expect("the first half");
    world.client.wait_log("slowly.yaml").expect("the half file is named");
    assert_eq!(world.ask(&["-H", "x: y", "http://echo/"]).identity.version, "v1");
    file.write_all(&route.as_bytes()[middle..]).expect("the second half");
    drop(file);
    let routed = || {
        let answer = world.ask(&["-H", "x: y", "http://echo/"]);
        (answer.identity.version == "v2").then_some(())
    };
    poll(SETTLE_LIMIT, routed).expect("the whole file is in effect");
    assert_eq!(world.ask(&["http://echo/"]).identity.version, "v1");
}

#[test]
fn an_object_that_becomes_broken_leaves_the_others() {
    let world = World::routed(&http_route("good", TO_V1));
    let broken = http_route("good", "  - backendRefs: 7");
    world.lab.write_file("httproute_default_good.yaml", broken.as_bytes()).expect("a file");
    world.client.wait_log("backendRefs").expect("a message");
    assert_eq!(world.status(&["http://echo-v1/"]), "200", "other Services work");
}

#[test]
fn an_empty_folder() {
    let lab = Lab::new().expect("a lab");
    let client = lab.client("default").expect("an empty folder is no error");
    let config = client.admin("/config").expect("/config");
    let config: Value = serde_json::from_str(&config).expect("JSON");
    assert_eq!(config["destinations"], Value::Array(Vec::new()));
    // Nobody is there: refused or closed, but not left waiting.
    let output = client.curl(&["--max-time", "10", "http://10.96.7.7/"]).expect("curl");
    assert!(output.code != 0 && output.code != 28, "{output:?}");
}

#[test]
fn a_missing_folder() {
    let lab = Lab::new().expect("a lab");
    fs::remove_dir(lab.manifest_folder()).expect("no folder");
    let client = lab.bare_client("default", &ClientOptions::default()).expect("a pod");
    client.start_proxy().expect("a process");
    let status = client
        .with_proxy(|proxy| proxy.wait(Duration::from_secs(10)))
        .expect("it does not wait for a folder");
    assert!(!status.success(), "{status}");
    let log = client.proxy_log();
    assert!(log.contains(&format!("{FOLDER}/manifests")), "{log}");
    assert!(log.contains("--manifests"), "it says what to do: {log}");
}
