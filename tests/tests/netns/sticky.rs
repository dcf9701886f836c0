//! Who gets the next request: sticky splits and sessions with curl's own cookies, and what a Service
//! says of affinity and of its node.

use std::collections::BTreeSet;

use weft_tests::answer::Answer;
use weft_tests::lab::{Client, ClientOptions};

use crate::support::{World, http_route};

/// A route of `echo`, with an annotation, that splits between the versions.
fn split(annotation: &str, v1: u32, v2: u32) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: split
  namespace: default
  annotations:
    weft.mesh/sticky-split: {annotation}
spec:
  parentRefs:
  - group: \"\"
    kind: Service
    name: echo
  rules:
  - backendRefs:
    - name: echo-v1
      port: 80
      weight: {v1}
    - name: echo-v2
      port: 80
      weight: {v2}
"
    )
}

/// A Service of both versions, with more in its spec.
fn service(number: u8, more: &str) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata:
  name: more-{number}
  namespace: default
spec:
  clusterIP: 10.96.1.{number}
  clusterIPs:
  - 10.96.1.{number}
  ports:
  - name: http
    port: 80
    targetPort: http
  - name: mysql
    port: 3306
    targetPort: tcp-banner
  selector:
    app: echo
{more}"
    )
}

fn ask(client: &Client, arguments: &[&str]) -> Answer {
    let body = client.curl(arguments).expect("curl").success().expect("an answer");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error} in {body:?}"))
}

/// The version that a user gets, whose cookies are in that file.
fn visit(client: &Client, user: usize) -> String {
    let jar = format!("/tmp/user-{user}");
    ask(client, &["--cookie", &jar, "--cookie-jar", &jar, "http://echo/"]).identity.version
}

#[test]
fn a_user_keeps_the_version_through_a_rollout() {
    let world = World::routed(&split("session", 50, 50));
    // Cookies are files of the lab, and so the same for all of its pods: a user that comes by another
    // pod, whose sidecar has never seen it.
    let other = world.lab.client("default").expect("a client");
    let mut first = Vec::new();
    while first.len() < 12 || first.iter().collect::<BTreeSet<_>>().len() < 2 {
        assert!(first.len() < 100, "nobody is given one of the versions: {first:?}");
        first.push(visit(&world.client, first.len()));
    }
    let users = first.len();
    for weights in [(50, 50), (1, 99), (99, 1)] {
        let route = split("session", weights.0, weights.1);
        world.lab.settled(|lab| lab.apply(&route)).expect("a change");
        for client in [&world.client, &other] {
            let now: Vec<String> = (0..users).map(|user| visit(client, user)).collect();
            assert_eq!(now, first, "{weights:?}");
        }
    }
    // The canary is withdrawn: its users move, nobody is refused.
    world.lab.settled(|lab| lab.apply(&split("session", 1, 0))).expect("a change");
    let now: BTreeSet<String> = (0..users).map(|user| visit(&world.client, user)).collect();
    assert_eq!(now, ["v1".to_owned()].into());
}

#[test]
fn every_sidecar_gives_a_user_the_same_version() {
    let world = World::routed(&split("header=end-user", 50, 50));
    let other = world.lab.client("default").expect("a client");
    let of = |client: &Client, user: usize| {
        ask(client, &["-H", &format!("end-user: {user}"), "http://echo/"]).identity.version
    };
    let before: Vec<String> = (0..20).map(|user| of(&world.client, user)).collect();
    assert_eq!(before.iter().collect::<BTreeSet<_>>().len(), 2, "{before:?}");
    for _ in 0..2 {
        assert_eq!((0..20).map(|user| of(&other, user)).collect::<Vec<_>>(), before);
    }
    // As the canary grows, its users stay with it.
    let route = split("header=end-user", 20, 80);
    world.lab.settled(|lab| lab.apply(&route)).expect("a change");
    let after: Vec<String> = (0..20).map(|user| of(&other, user)).collect();
    let left =
        before.iter().zip(&after).filter(|(before, after)| *before == "v2" && *after == "v1");
    assert_eq!(left.count(), 0, "{before:?} {after:?}");
}

#[test]
fn a_session_reaches_one_endpoint() {
    let rule = "  - backendRefs:
    - name: echo
      port: 80
    sessionPersistence:
      type: Header
      header:
        name: x-session";
    let world = World::routed(&http_route("session", rule));
    let head = world.head(&["http://echo/"]);
    let line = head.lines().find(|line| line.starts_with("x-session: ")).expect("a session");
    let pod = || world.ask(&["-H", line, "http://echo/"]).identity.pod;
    let first = pod();
    for _ in 0..20 {
        assert_eq!(pod(), first);
    }
}

#[test]
fn a_pod_stays_with_an_endpoint_in_every_protocol() {
    let kept = service(50, "  sessionAffinity: ClientIP\n");
    let world = World::with_manifests(&ClientOptions::proxy(&["--workers", "2"]), &kept);
    let mut pods = BTreeSet::new();
    for _ in 0..20 {
        // Each on a connection of its own, and so on either of the workers.
        pods.insert(world.ask(&["http://10.96.1.50/"]).identity.pod);
        let banner = world.raw("10.96.1.50:3306", "", &["--until", "\n"]);
        pods.insert(banner.split_whitespace().nth(2).expect("hello from POD").to_owned());
    }
    assert_eq!(pods.len(), 1, "{pods:?}");
    // Its pod goes: the next one is kept to.
    let gone = if pods.contains(&world.v1.name) { &world.v1 } else { &world.v2 };
    world.lab.settled(|lab| lab.remove_endpoint(&gone.name)).expect("a change");
    let next = world.ask(&["http://10.96.1.50/"]).identity.pod;
    assert!(!pods.contains(&next), "{next}");
}

#[test]
fn local_traffic_is_refused_where_nothing_is_local() {
    let local = service(51, "  internalTrafficPolicy: Local\n");
    // All pods of the lab are on the node `lab`.
    let world = World::with_manifests(&ClientOptions::proxy(&["--node-name", "lab"]), &local);
    assert_eq!(world.status(&["http://10.96.1.51/"]), "200");
    let options = ClientOptions::proxy(&["--node-name", "elsewhere"]);
    let elsewhere = world.lab.client_with("default", &options).expect("a client");
    let answer = elsewhere.curl(&["--include", "http://10.96.1.51/"]).expect("curl").stdout;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("x-weft-reason: no_local_endpoint"), "{answer}");
    assert!(answer.contains("no ready endpoint on the node elsewhere"), "{answer}");
    // Other Services are not concerned.
    assert_eq!(elsewhere.curl(&["http://echo/"]).expect("curl").code, 0);
}
