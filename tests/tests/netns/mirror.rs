//! Mirrors, checked by what the mirror saw and by what the client did not notice.

use std::time::Duration;

use weft_tests::answer::Answer;
use weft_tests::lab::metrics::{samples, sum};
use weft_tests::lab::{Request, poll};

use crate::support::{World, count, http_route, route};

/// A rule for a path prefix to echo-v1 with these mirrors: a Service's name and port, and more fields.
fn mirrored(path: &str, mirrors: &[(&str, u16, &str)]) -> String {
    let mirrors: String = mirrors
        .iter()
        .map(|(name, port, more)| {
            format!(
                "    - type: RequestMirror\n      requestMirror: {{backendRef: {{name: {name}, \
                 port: {port}}}{more}}}\n"
            )
        })
        .collect();
    format!(
        "  - matches:\n    - path:\n        type: PathPrefix\n        value: {path}\n    filters:\n\
         {mirrors}    backendRefs:\n    - name: echo-v1\n      port: 80\n"
    )
}

/// What echo-v2 has received at a path, asked of the pod itself.
fn seen(world: &World, path: &str) -> Vec<Answer> {
    let url = format!("http://{}:8080/seen", world.v2.addresses[0]);
    let lines = world.client.curl(&["-s", &url]).expect("curl").success().expect("an answer");
    let answers = lines.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    answers.filter(|answer: &Answer| answer.path.starts_with(path)).collect()
}

/// How many copies have ended so.
fn ended(world: &World, outcome: &str) -> u64 {
    let read = samples(&world.client.metrics().expect("metrics"));
    sum(&read, "weft_route_mirrors_total", &[("outcome", outcome)]) as u64
}

#[test]
fn a_mirror_sees_the_requests_and_the_client_sees_nothing_of_it() {
    let rules = mirrored("/some", &[("echo-v2", 80, ", percent: 20")])
        + &mirrored("/", &[("echo-v2", 80, "")]);
    let world = World::routed(&http_route("mirrored", &rules));
    let make = world.client.sh("head -c 2000000 /dev/urandom > /tmp/body").expect("a shell");
    make.success().expect("a file");
    for (http, path) in [("--http1.1", "/one?q=1"), ("--http2-prior-knowledge", "/two?q=2")] {
        let url = format!("http://echo{path}");
        let data = ["--data-binary", "@/tmp/body", "-H", "x-who: me", "-H", "expect:"];
        let answer = world.ask(&[&[http][..], &data, &[&url]].concat());
        assert_eq!(answer.identity.version, "v1");
        let copy = poll(Duration::from_secs(10), || seen(&world, path).pop()).expect("a copy");
        assert_eq!(
            (copy.identity.version.as_str(), &copy.method, &copy.path, &copy.host),
            ("v2", &answer.method, &answer.path, &answer.host)
        );
        assert_eq!(copy.header("x-who"), ["me"]);
        assert_eq!(copy.body_bytes, 2_000_000);
        assert_eq!(copy.body_sha256, answer.body_sha256);
    }

    let answers = world.client.send(&Request::get("http://echo/some").parallel(4), 400);
    assert!(answers.expect("curl").iter().all(|answer| answer.version == "v1"));
    let all =
        || (ended(&world, "completed") == 2 + seen(&world, "/some").len() as u64).then_some(());
    poll(Duration::from_secs(10), all).expect("every copy is counted");
    let copies = seen(&world, "/some").len();
    // Four standard deviations of a binomial.
    assert!((48..=112).contains(&copies), "{copies} of 400 at 20 %");
}

#[test]
fn a_mirror_that_is_broken_or_gone_changes_nothing() {
    // The port of a database, one on which nobody listens, and a Service that does not exist.
    let mirrors = [("echo-v2", 3306, ""), ("echo-v2", 80, ""), ("nowhere", 80, "")];
    let world = World::routed(&http_route("mirrored", &mirrored("/", &mirrors)));
    world.v2.crash().expect("echo-v2 ends");
    let answers = world.client.send(&Request::get("http://echo/"), 50).expect("curl");
    assert!(answers.iter().all(|answer| answer.version == "v1"), "{answers:?}");
    let all = || (ended(&world, "connect_failed") == 100).then_some(());
    poll(Duration::from_secs(10), all).expect("every copy is counted");
}

#[test]
fn grpc_calls_are_mirrored() {
    let rules = "  \
  - filters:
    - type: RequestMirror
      requestMirror:
        backendRef:
          name: echo-v2
          port: 7070
    backendRefs:
    - name: echo-v1
      port: 7070";
    let world = World::routed(&route("GRPCRoute", "mirrored", "    port: 7070\n", rules));
    for method in ["unary", "bidi"] {
        let tally = world.tally(&["grpc", "http://echo:7070", "--method", method, "--count", "20"]);
        assert_eq!(count(&tally, "versions", "v1"), 20, "{method}: {tally}");
    }
    let all = || (ended(&world, "completed") == 40).then_some(());
    poll(Duration::from_secs(10), all).expect("every call has reached the mirror");
    assert!(world.v2.log().contains("to port 8080"), "{}", world.v2.log());
}
