//! TLSRoutes and TCPRoutes: connections that pass unread, sent where the routes say.

use std::collections::BTreeMap;
use std::time::Duration;

use weft_tests::answer::Answer;
use weft_tests::lab::metrics::{samples, sum};
use weft_tests::lab::{ClientOptions, poll};

use crate::support::{World, route};

const ADDRESSES: [&str; 2] = ["10.96.1.1", "[fd00:10:96::101]"];

/// A TLSRoute on port 443 of `echo`, to port 443 of one of its versions.
fn tls_route(name: &str, hostname: &str, backend: &str) -> String {
    let rules = format!("  - backendRefs:\n    - name: {backend}\n      port: 443");
    route("TLSRoute", name, "    port: 443\n", &rules)
        .replace("  rules:", &format!("  hostnames:\n  - \"{hostname}\"\n  rules:"))
}

fn tcp_route(name: &str, port: u16, backends: &[(&str, u16)]) -> String {
    let backends: String = backends
        .iter()
        .map(|(name, weight)| {
            format!("    - name: {name}\n      port: {port}\n      weight: {weight}\n")
        })
        .collect();
    let rules = format!("  - name: split\n    backendRefs:\n{}", backends.trim_end());
    route("TCPRoute", name, &format!("    port: {port}\n"), &rules)
}

/// Writes the certificate of a version's pod to `/tmp/VERSION.pem`: each pod has made its own.
fn trust(world: &World, version: &str) -> String {
    let pem = format!("/tmp/{version}.pem");
    let url = format!("http://echo-{version}/certificate");
    world.client.curl(&["-o", &pem, &url]).expect("curl").success().expect("the certificate");
    pem
}

/// What is asked of `echo` for a server of that name, with only this certificate trusted.
fn ask(world: &World, address: &str, name: &str, pem: &str, more: &[&str]) -> Answer {
    let resolve = format!("{name}:443:{address}");
    let url = format!("https://{name}/private");
    let mut words = vec!["--cacert", pem, "--resolve", &resolve, &url];
    words.extend(more);
    world.ask(&words)
}

#[test]
fn tls_goes_by_its_server_name_and_nobody_reads_it() {
    let routes = tls_route("exact", "blue.secure.example", "echo-v1")
        + &tls_route("wild", "*.secure.example", "echo-v2");
    let world = World::routed(&routes);
    let (v1, v2) = (trust(&world, "v1"), trust(&world, "v2"));
    for address in ADDRESSES {
        // The handshake is with the pod itself: its certificate is the only one that is trusted.
        for more in [&["--http1.1"][..], &["--http2"], &["--tls-max", "1.2"]] {
            let answer = ask(&world, address, "blue.secure.example", &v1, more);
            assert_eq!(
                (answer.identity.version.as_str(), answer.path.as_str()),
                ("v1", "/private")
            );
            let answer = ask(&world, address, "red.secure.example", &v2, more);
            assert_eq!(answer.identity.version, "v2");
        }
    }
    // As any other client of TLS, one that has nothing to do with HTTP.
    let s_client = format!(
        "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | openssl s_client -quiet -verify_return_error \
         -CAfile {v2} -connect {}:443 -servername red.secure.example 2>&1",
        ADDRESSES[0]
    );
    let said = world.client.sh(&s_client).expect("openssl").stdout;
    assert!(said.contains("\"version\":\"v2\""), "{said}");
}

#[test]
fn tls_that_no_route_takes_is_refused_and_counted() {
    let world = World::routed(&tls_route("exact", "blue.secure.example", "echo-v1"));
    let exit = |url: &str, more: &[&str]| {
        let mut words = vec!["-k", "--resolve", "secure.example:443:10.96.1.1", url];
        words.extend(more);
        world.client.curl(&words).expect("curl")
    };
    // 35: the handshake failed. No name is sent to an address.
    for url in ["https://secure.example/", "https://10.96.1.1/", "https://[fd00:10:96::101]/"] {
        let output = exit(url, &[]);
        assert_eq!(output.code, 35, "{url}: {output:?}");
    }
    // HTTP on a port whose routes say TLS.
    let output = exit("http://10.96.1.1:443/", &[]);
    assert_eq!(output.code, 56, "reset while it waits for an answer: {output:?}");
    let counted = |reason: &str| {
        let read = samples(&world.client.metrics().expect("metrics"));
        let labels = [("parent_name", "echo"), ("parent_port", "443"), ("reason", reason)];
        sum(&read, "weft_tcp_connections_total", &labels)
    };
    let all = || (counted("no_rule_matched") == 3.0 && counted("not_tls") == 1.0).then_some(());
    poll(Duration::from_secs(5), all).expect("each is counted");
    // The other ports, and the Service's HTTP, are as they were.
    assert_eq!(world.status(&["http://echo/"]), "200");
    assert_eq!(world.status(&["-k", "https://echo:9443/"]), "200");
}

#[test]
fn tcp_is_split_by_weight_over_connections() {
    let backends = [("echo-v1", 3), ("echo-v2", 1), ("nowhere", 4)];
    let world = World::routed(&tcp_route("split", 3306, &backends));
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    for _ in 0..64 {
        // The server speaks first: nothing of the client's is waited for. By address: of a name's two a
        // client that is refused at the one tries the other.
        let output = world.weft_client(&["raw", "10.96.1.1:3306", "", "--until", "\n"]);
        let version =
            ["v1", "v2"].into_iter().find(|it| output.stdout.contains(&format!(" {it}\n")));
        *seen.entry(version.unwrap_or("refused")).or_default() += 1;
    }
    // 64 draws visit every 64th of the range once. These may be the end of one block and the beginning of
    // another, each off by less than three.
    let near = |version: &str, expected: u32| seen[version].abs_diff(expected) <= 6;
    assert!(near("v1", 24) && near("v2", 8) && near("refused", 32), "{seen:?}");
    let read = samples(&world.client.metrics().expect("metrics"));
    let labels = [
        ("route_kind", "TCPRoute"),
        ("route_name", "split"),
        ("rule_name", "split"),
        ("backend_name", "nowhere"),
        ("reason", "backend_invalid"),
    ];
    assert_eq!(sum(&read, "weft_tcp_connections_total", &labels), f64::from(seen["refused"]));
    let ratio = sum(&read, "weft_route_backend_weight_ratio", &[("backend_name", "echo-v1")]);
    assert_eq!(ratio, 0.375);
}

#[test]
fn a_tcp_route_that_comes_and_goes_takes_the_connections_of_its_time() {
    let world = World::new();
    let version = || {
        let answer = world.raw("echo:9090", "", &["--until", "\n"]);
        answer.contains(" v2\n")
    };
    let yaml = tcp_route("all", 9090, &[("echo-v2", 1)]);
    world.lab.settled(|lab| lab.apply(&yaml)).expect("a change");
    assert!((0..12).all(|_| version()));
    world.lab.settled(|lab| lab.delete("TCPRoute", "default", "all")).expect("a change");
    assert!((0..24).any(|_| !version()), "both versions again");
}

#[test]
fn every_connection_has_its_line_in_the_access_log() {
    let options = ClientOptions::proxy(&["--access-log", "json"]);
    let routes = tls_route("by-name", "blue.secure.example", "echo-v1");
    let world = World::with_manifests(&options, &routes);
    let v1 = trust(&world, "v1");
    ask(&world, ADDRESSES[0], "blue.secure.example", &v1, &[]);
    world.client.curl(&["-k", "https://10.96.1.1/"]).expect("curl");
    let lines = || {
        let log = world.client.access_log();
        let lines: Vec<serde_json::Value> = log
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(|line: &serde_json::Value| line["protocol"] == "TLS")
            .collect();
        (lines.len() == 2).then_some(lines)
    };
    let lines = poll(Duration::from_secs(5), lines).expect("two lines");
    let (joined, refused) = (&lines[0], &lines[1]);
    assert_eq!(joined["server_name"], "blue.secure.example");
    assert_eq!(joined["route_name"], "by-name");
    assert_eq!(joined["backend_name"], "echo-v1");
    let endpoint = joined["endpoint"].as_str().expect("an endpoint");
    let pod = world.v1.addresses.iter().any(|address| endpoint.contains(address));
    assert!(pod && endpoint.ends_with(":8443"), "{endpoint}");
    assert_eq!(joined["destination"], "10.96.1.1:443");
    assert!(joined["received_bytes"].as_u64() > Some(500), "{joined}");
    assert_eq!(refused["reason"], "no_rule_matched");
    assert_eq!((&refused["parent_name"], &refused["route_kind"]), (&"echo".into(), &"none".into()));
}
