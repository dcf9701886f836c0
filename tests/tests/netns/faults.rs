//! What goes wrong behind the sidecar: nodes that die, pods that are killed, addresses that change
//! hands, connections that close at the wrong moment.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::Signal;
use weft_tests::answer::Answer;
use weft_tests::lab::metrics::{samples, sum};
use weft_tests::lab::{Backend, Output, Request, Workload, counts, poll};
use weft_tests::load::Line;

use crate::support::{World, count};

/// Longer than anything here takes on a busy machine, and shorter than what would never end.
const PATIENCE: Duration = Duration::from_secs(100);

fn metric(world: &World, name: &str, labels: &[(&str, &str)]) -> f64 {
    sum(&samples(&world.client.metrics().expect("metrics")), name, labels)
}

/// Runs a program of the application beside the test, however long it takes.
fn beside(world: &World, program: &str, words: &[&str]) -> std::thread::JoinHandle<Output> {
    let mut command = world.client.command(program);
    command.args(words);
    std::thread::spawn(move || Output::of(command).expect("a program"))
}

/// Waits until a backend has accepted so many connections on a port.
fn wait_accepted(backend: &Backend, port: u16, number: usize) {
    let end = format!("to port {port}");
    let accepted = || backend.log().lines().filter(|line| line.ends_with(&end)).count();
    poll(PATIENCE, || (accepted() >= number).then_some(())).expect("a connection has arrived");
}

#[test]
fn a_node_that_dies_in_silence_is_noticed_and_others_are_served() {
    let world = World::new();
    // All of this waits at v1, in every protocol, on connections on which nothing moves …
    let status = ["-s", "-o", "/dev/null", "-w", "%{http_code} %{time_total}", "--max-time", "90"];
    let curl = |more: &[&str]| beside(&world, "curl", &[&status[..], more].concat());
    let http1 = curl(&["http://echo-v1/delay?ms=600000"]);
    let http2 = curl(&["--http2-prior-knowledge", "http://echo-v1:8000/delay?ms=600000"]);
    wait_accepted(&world.v1, 8080, 2);
    let tcp = ["raw", "echo-v1:7", "ping", "--until", "pong", "--limit-ms", "90000"];
    let tcp = beside(&world, "weft-client", &tcp);
    wait_accepted(&world.v1, 9091, 1);
    // … and on one on which the sidecar goes on sending.
    let script = "head -c 10000000000 /dev/zero | curl -s -o /dev/null -w '%{http_code} %{time_total}' \
                  --max-time 90 -T - http://echo-v1/discard";
    let upload = beside(&world, "sh", &["-c", script]);
    wait_accepted(&world.v1, 8080, 3);
    let start = Instant::now();
    world.lab.cut_off(&world.v1).expect("iptables");

    // Meanwhile: connections that cannot be made are given up after 1.5 s and made elsewhere, and who
    // asks somebody else does not notice.
    let seen = world.client.send(&Request::get("http://echo-v2/"), 200).expect("curl");
    assert_eq!(counts(&seen).get("v2"), Some(&200), "{:?}", counts(&seen));
    let seen = world.client.send(&Request::get("http://echo/").parallel(4), 200).expect("curl");
    assert_eq!(counts(&seen).get("v2"), Some(&200), "{:?}", counts(&seen));

    // TCP_USER_TIMEOUT and keep-alive end all four after 30 s at most, and what can be sent again is
    // given up after the attempts to connect.
    for (name, waiting) in [("HTTP/1.1", http1), ("HTTP/2", http2)] {
        let output = waiting.join().expect("a thread");
        assert!(output.stdout.starts_with("503 "), "{name}: {output:?}");
    }
    let output = tcp.join().expect("a thread");
    assert!(output.stderr.contains("reset"), "{output:?}");
    // An upload that broke off gets an answer, or the connection's end.
    let output = upload.join().expect("a thread");
    assert!(["503 ", "000 "].iter().any(|it| output.stdout.starts_with(it)), "{output:?}");
    assert_ne!(output.code, 28, "curl has given it up: {output:?}");
    assert!(start.elapsed() > Duration::from_secs(15), "nobody was told: {:?}", start.elapsed());
    let idle = || (metric(&world, "weft_outbound_open_connections", &[]) == 0.0).then_some(());
    poll(PATIENCE, idle).expect("nothing is left of it");
}

#[test]
fn a_killed_pod_costs_no_get_and_a_post_is_told() {
    let world = World::new();
    let status = ["-s", "-o", "/dev/null", "-D", "-", "-w", "pod %header{x-pod}\n"];
    let mut waiting = Vec::new();
    let accepted = || [world.v1.log().lines().count(), world.v2.log().lines().count()];
    for method in ["GET", "POST"] {
        for http in ["--http1.1", "--http2-prior-knowledge"] {
            // Each has a connection of its own to its pod. Until one of them waits at v1:
            let [at_v1, _] = accepted();
            while accepted()[0] == at_v1 {
                let before = accepted();
                let url = "http://echo/delay?ms=20000";
                let words = [&status[..], &[http, "-X", method, url]].concat();
                waiting.push((method, http, beside(&world, "curl", &words)));
                let arrived = || (accepted() != before).then_some(());
                poll(PATIENCE, arrived).expect("it has arrived");
            }
        }
    }
    world.v1.crash().expect("a crash");
    let mut told = BTreeMap::new();
    for (method, http, waiting) in waiting {
        let output = waiting.join().expect("a thread");
        assert_eq!(output.code, 0, "{method} {http}: {output:?}");
        let is_503 = output.stdout.contains("x-weft-reason: backend_closed");
        let is_v2 = output.stdout.contains("pod echo-v2");
        assert!(is_503 || is_v2, "{method} {http}: {output:?}");
        assert!(method == "POST" || is_v2, "{method} {http}: {output:?}");
        *told.entry((method, http, is_503)).or_insert(0) += 1;
    }
    for http in ["--http1.1", "--http2-prior-knowledge"] {
        assert_eq!(told.get(&("POST", http, true)), Some(&1), "{told:?}");
    }
}

#[test]
fn an_answer_that_has_begun_never_ends_well_when_its_pod_is_killed() {
    let world = World::new();
    // curl's words: 18 is a part of the answer, 92 a stream that was not closed cleanly.
    let url = "http://echo-v1/stream?chunks=100000&ms=20";
    let get = |http, file| beside(&world, "curl", &["-sSN", http, "-o", file, url]);
    let http1 = get("--http1.1", "/tmp/http1");
    let http2 = get("--http2-prior-knowledge", "/tmp/http2");
    let begun = || {
        let output = world.client.sh("test -s /tmp/http1 && test -s /tmp/http2").ok()?;
        (output.code == 0).then_some(())
    };
    poll(PATIENCE, begun).expect("both answers have begun");
    world.v1.crash().expect("a crash");
    for (waiting, code) in [(http1, 18), (http2, 92)] {
        let output = waiting.join().expect("a thread");
        assert_eq!(output.code, code, "{output:?}");
    }
    assert_eq!(metric(&world, "weft_route_requests_total", &[("reason", "backend_reset")]), 2.0);
}

#[test]
fn a_removed_endpoint_gets_no_request_after_100_ms() {
    let world = World::new();
    let load =
        ["load", "--rate", "400", "--connections", "4", "--watch-header", "x-pod", "http://echo/"];
    let load = world.client.start_program("weft-client", &load).expect("weft-client");
    let pods = || -> Vec<(f64, String)> {
        let text = load.stdout();
        let whole = &text[..text.rfind('\n').unwrap_or(0)];
        let lines = whole.lines().filter_map(|line| serde_json::from_str(line).ok());
        let changes = lines.filter_map(|line| match line {
            Line::Change(change) => Some((change.at, change.value)),
            Line::Report(_) => None,
        });
        changes.collect()
    };
    let wait_for = |pod: &str, since: f64| {
        let seen = || pods().iter().any(|(at, value)| *at > since && value == pod).then_some(());
        poll(PATIENCE, seen).unwrap_or_else(|| panic!("answers of {pod}"));
    };
    let mut took = Vec::new();
    for _ in 0..5 {
        wait_for(&world.v1.name, now());
        let removed = now();
        world.lab.settled(|lab| lab.remove_endpoint(&world.v1.name)).expect("a change");
        let seen = world.client.send(&Request::get("http://echo/"), 200).expect("curl");
        assert_eq!(counts(&seen).get("v2"), Some(&200), "{:?}", counts(&seen));
        // With the last change to v2 the last answer of v1 had come.
        let last = pods().into_iter().map(|(at, _)| at).fold(removed, f64::max);
        took.push(last - removed);
        let name = world.v1.name.clone();
        world.lab.settled(|lab| lab.add_endpoint(&name)).expect("a change");
    }
    // A busy machine may be late now and then; a design that waits is late each time.
    let best = took.iter().copied().fold(f64::MAX, f64::min);
    assert!(best <= 0.1, "{took:?} seconds");
    load.signal(Signal::SIGTERM).expect("SIGTERM");
}

#[test]
fn a_pod_that_gets_anothers_address_gets_none_of_its_requests() {
    let world = World::new();
    let service = "apiVersion: v1\nkind: Service\nmetadata:\n  name: other\n  namespace: default\nspec:\n  \
                   clusterIP: 10.96.5.1\n  clusterIPs:\n  - 10.96.5.1\n  ports:\n  - name: http\n    port: \
                   80\n    targetPort: http\n  selector:\n    app: other\n";
    world.lab.apply(service).expect("a Service");
    let traffic = world.client.start_traffic(&Request::get("http://echo/")).expect("traffic");
    traffic.wait_for(50).expect("traffic");
    assert!(world.lab.connections_to(&world.v1).expect("ss") > 0, "there is what could be reused");
    // v1 leaves, and its address comes back under a pod of another Service: then the other way round.
    world.lab.settled(|lab| lab.remove_endpoint(&world.v1.name)).expect("a change");
    world.v1.crash().expect("its end");
    let workload = Workload::new("other", "v3", "default");
    let other = world.lab.settled(|lab| lab.backend_in_place(&world.v1, &workload, "other-v3-1"));
    let other = other.expect("a backend");
    assert_eq!(other.addresses, world.v1.addresses);
    traffic.wait_for(50).expect("traffic");
    let seen = world.client.send(&Request::get("http://other/"), 50).expect("curl");
    assert_eq!(counts(&seen).get("v3"), Some(&50), "{:?}", counts(&seen));
    // A pod's address is not redirected: nobody stands in between.
    let url = format!("http://{}:8080/seen", other.addresses[0]);
    let received =
        || world.client.curl(&[&url]).expect("curl").success().expect("what it has seen");
    let is_only = |host: &str, at_least: usize| {
        let text = received();
        let answers = text.lines().map(|line| serde_json::from_str(line).expect(line));
        let hosts: Vec<String> = answers.map(|answer: Answer| answer.host).collect();
        assert!(hosts.len() >= at_least, "{} requests", hosts.len());
        assert!(hosts.iter().all(|it| it == host), "{hosts:?}");
    };
    is_only("other", 50);

    world.lab.settled(|lab| lab.remove_endpoint(&other.name)).expect("a change");
    other.crash().expect("its end");
    let workload = Workload::new("echo", "v1", "default");
    let again = world.lab.settled(|lab| lab.backend_in_place(&other, &workload, "echo-v1-9"));
    let again = again.expect("a backend");
    assert!(
        counts(&world.client.send(&Request::get("http://other/"), 20).expect("curl"))
            .contains_key("503")
    );
    traffic.wait_for(50).expect("traffic");
    let seen = world.client.send(&Request::get("http://echo/"), 100).expect("curl");
    assert!(counts(&seen).get("v1").is_some_and(|count| *count > 10), "{:?}", counts(&seen));
    is_only("echo", 10);
    drop(again);
    let seen = traffic.stop().expect("answers");
    assert!(seen.iter().all(|one| one.status == 200), "{:?}", counts(&seen));
}

#[test]
fn idle_connections_that_close_at_any_moment_cost_no_request() {
    const REQUESTS: u64 = 100_000;
    let world = World::new();
    let count_of = REQUESTS.to_string();
    let words = ["http", "--count", &count_of, "--connections", "4", "http://echo:81/impatient"];
    let output = beside(&world, "weft-client", &words).join().expect("a thread");
    let text = output.success().expect("weft-client");
    let tally: serde_json::Value = serde_json::from_str(&text).expect(&text);
    assert_eq!(count(&tally, "statuses", "200"), REQUESTS, "{tally}");
    let retried = metric(&world, "weft_route_retries_total", &[("outcome", "success")]);
    assert!(retried > 1000.0, "the race was run: {retried} of {REQUESTS}");
}

#[test]
fn a_post_is_never_sent_twice_however_connections_close() {
    const REQUESTS: u32 = 20_000;
    let world = World::new();
    let request = Request::get("http://echo:81/impatient").parallel(4);
    let mut command = world.client.command("curl");
    command.args(["-X", "POST", "-d", "pay"]).args(request.arguments(REQUESTS));
    let output = Output::of(command).expect("curl");
    let statuses: Vec<&str> = output.stdout.lines().filter_map(|line| line.get(..3)).collect();
    let of = |status: &str| statuses.iter().filter(|it| **it == status).count();
    let (served, refused) = (of("200"), of("503"));
    assert_eq!(served + refused, REQUESTS as usize, "an answer each, and no other");
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for log in [world.v1.log(), world.v2.log()] {
        for line in log.lines().filter_map(|line| line.strip_prefix("served POST ")) {
            *seen.entry(line.to_owned()).or_default() += 1;
        }
    }
    let twice: Vec<_> = seen.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "{} were sent twice, {:?} first", twice.len(), twice.first());
    assert!(seen.len() >= served, "{} were answered, {} arrived", served, seen.len());
    assert!(refused > 50, "the race was run: {refused} of {REQUESTS} met a closed connection");
}

#[test]
fn a_gigabyte_passes_each_way_in_little_memory() {
    const GIB: u64 = 1 << 30;
    const MIB: u64 = 1 << 20;
    let world = World::new();
    let resident = || world.client.with_proxy(|proxy| proxy.resident_bytes()).expect("memory");
    world.client.curl(&["-o", "/dev/null", "http://echo/bytes?n=10000000"]).expect("curl");
    let before = resident();
    let down = format!("bytes?n={GIB}");
    for (what, script, expected) in [
        ("HTTP/1.1, answer", format!("curl -s http://echo/{down} | wc -c"), GIB),
        (
            "HTTP/2, answer",
            format!("curl -s --http2-prior-knowledge http://echo:8000/{down} | wc -c"),
            GIB,
        ),
        (
            "HTTP/1.1, request",
            format!("head -c {GIB} /dev/zero | curl -s -T - http://echo/discard"),
            GIB,
        ),
        (
            "HTTP/2, request",
            format!(
                "head -c {GIB} /dev/zero | curl -s --http2-prior-knowledge -T - http://echo:8000/discard"
            ),
            GIB,
        ),
    ] {
        let waiting = beside(&world, "sh", &["-c", &script]);
        let mut most = 0;
        let finished = || {
            most = most.max(resident());
            waiting.is_finished().then_some(())
        };
        poll(PATIENCE * 5, finished).expect("it ends by itself");
        let output = waiting.join().expect("a thread");
        let came = match serde_json::from_str::<Answer>(&output.stdout) {
            Ok(answer) => answer.body_bytes,
            Err(_) => output.stdout.trim().parse().expect("a number"),
        };
        assert_eq!(came, expected, "{what}: {output:?}");
        let grown = most.saturating_sub(before) / MIB;
        println!("{what}: {grown} MiB more");
        assert!(grown < 16, "{what}: {grown} MiB more");
    }
}

/// Seconds since 1970, as `weft-client load` tells them.
fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_secs_f64()
}
