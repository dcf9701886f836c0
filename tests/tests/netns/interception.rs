//! What is redirected, what is not, and loops.

use weft_tests::lab::{ClientOptions, Lab};

use crate::support::{World, http_route};

const TO_V1: &str = "  - backendRefs:\n    - name: echo-v1\n      port: 80";

#[test]
fn without_a_sidecar_service_addresses_lead_nowhere() {
    // What all the other tests rest on: an answer has come through the sidecar.
    let world = World::new();
    let options = ClientOptions { plain: true, ..ClientOptions::default() };
    let plain = world.lab.client_with("default", &options).expect("a pod outside the mesh");
    let output = plain.curl(&["--max-time", "5", "http://echo/"]).expect("curl");
    assert_ne!(output.code, 0, "{output:?}");
    let direct = format!("http://{}:8080/", world.v1.addresses[0]);
    assert_eq!(plain.curl(&[&direct]).expect("curl").code, 0);
}

#[test]
fn pod_addresses_are_left_alone() {
    let world = World::routed(&http_route("all", TO_V1));
    let [v4, v6] = &world.v2.addresses;
    for url in [format!("http://{v4}:8080/"), format!("http://[{v6}]:8080/")] {
        assert_eq!(world.ask(&["-g", &url]).identity.version, "v2");
    }
    let metrics = world.client.metrics().expect("metrics");
    assert!(!metrics.contains("requests_total{"), "nothing went through the sidecar: {metrics}");
}

#[test]
fn unknown_destinations_go_where_they_were_going() {
    // Everything is redirected here, so that pod addresses reach the sidecar.
    let cidrs = "10.244.0.0/16,fd00:10:244::/64";
    let world = World::with(&ClientOptions::init(&["--include-outbound-cidrs", cidrs]));
    for address in [&world.v2.addresses[0], &format!("[{}]", world.v2.addresses[1])] {
        let url = format!("http://{address}:8080/direct");
        let answer = world.ask(&["-g", &url]);
        assert_eq!((answer.identity.version.as_str(), answer.path.as_str()), ("v2", "/direct"));
        let answer = world.ask(&["-g", "--http2-prior-knowledge", &url]);
        assert_eq!(answer.http, "HTTP/2.0", "byte for byte");
        let options = ["--first", "hello from echo-v2", "--until", "ping"];
        world.raw(&format!("{address}:9090"), r"ping\n", &options);
    }
    // A port where nobody listens is refused, not answered by the sidecar.
    let url = format!("http://{}:4444/", world.v2.addresses[0]);
    let output = world.client.curl(&["--max-time", "10", &url]).expect("curl");
    assert!(output.code == 7 || output.code == 52 || output.code == 56, "{output:?}");
}

#[test]
fn excluded_ports_and_addresses_are_left_alone() {
    for words in [["--exclude-outbound-ports", "80"], ["--exclude-outbound-cidrs", "10.96.1.1/32"]]
    {
        let world = World::with(&ClientOptions::init(&words));
        let output = world.client.curl(&["-4", "--max-time", "5", "http://echo/"]).expect("curl");
        assert_ne!(output.code, 0, "{words:?}: nobody answers there: {output:?}");
        assert_eq!(world.status(&["http://echo-v1:9000/"]), "200");
    }
}

#[test]
fn a_second_run_of_weft_init_changes_nothing() {
    let world = World::new();
    let rules = || {
        let script = "iptables -t nat -S; ip6tables -t nat -S; iptables -S; ip6tables -S";
        let mut command = world.client.root_command("sh");
        command.args(["-c", script]);
        String::from_utf8(command.output().expect("iptables").stdout).expect("text")
    };
    let before = rules();
    assert!(before.contains("65101") && before.contains("15001"), "{before}");
    world.client.run_init(&[]).expect("weft-init").success().expect("a second run");
    assert_eq!(rules(), before);
    let dry = world.client.run_init(&["--dry-run"]).expect("weft-init").success().expect("rules");
    assert!(dry.contains("15001"), "{dry}");
    world.client.run_init(&["--cleanup"]).expect("weft-init").success().expect("a clean-up");
    let after = rules();
    assert!(!after.contains("15001"), "{after}");
}

#[test]
fn dialling_the_sidecar_itself_makes_no_loop() {
    let world = World::new();
    for address in ["127.0.0.1:15001", "[::1]:15001"] {
        let request = r"GET / HTTP/1.1\r\nHost: echo\r\n\r\n";
        world.weft_client(&["raw", address, request, "--limit-ms", "3000"]);
    }
    let before = world.client.with_proxy(|proxy| proxy.cpu_seconds()).expect("CPU time");
    assert_eq!(world.status(&["http://echo/"]), "200");
    let spent = world.client.with_proxy(|proxy| proxy.cpu_seconds()).expect("CPU time") - before;
    assert!(spent < 0.5, "it does not talk to itself: {spent} s");
}

#[test]
fn the_sidecar_has_no_privileges() {
    let world = World::new();
    let credentials = world.client.with_proxy(|proxy| proxy.credentials()).expect("/proc");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(credentials.contains(&format!("{set}:\t0000000000000000")), "{credentials}");
    }
    assert!(!credentials.contains("Uid:\t0"), "{credentials}");
}

#[test]
fn a_service_without_slices_is_left_to_whoever_serves_its_address() {
    let lab = Lab::new().expect("a lab");
    lab.apply(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: unread\n  namespace: default\nspec:\n  \
         clusterIP: 10.96.3.3\n  clusterIPs:\n  - 10.96.3.3\n  ports:\n  - name: http\n    port: 80\n",
    )
    .expect("a Service");
    let client = lab.client("default").expect("a client");
    // No selector, no slices: no endpoint is ready.
    let output =
        client.curl(&["-o", "/dev/null", "-w", "%{http_code}", "http://unread/"]).expect("curl");
    assert_eq!(output.stdout, "503", "{output:?}");
}
