//! gRPC's interoperability cases, by Go's client and server: each once directly, between pods, and
//! once through the sidecar. The outcome must be the same.

use std::fmt::Write as _;
use std::fs;

use anyhow::Result;
use weft_tests::lab::{Lab, Output, Workload, tail};

use crate::Setting;
use crate::table::Row;
use crate::world::service;

/// The cases of the client that need no cloud, no TLS and none of the load reports (ORCA) that its server
/// does not send. `pick_first_unary` needs a server that tells its name, which this one does not: it fails
/// directly, and must fail through the sidecar as well.
const CASES: [&str; 17] = [
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "status_code_and_message",
    "special_status_message",
    "custom_metadata",
    "unimplemented_method",
    "unimplemented_service",
    "pick_first_unary",
    "rpc_soak",
    "channel_soak",
];

/// How many of them pass directly: else the comparison would be one of nothing with nothing.
const PASS_DIRECTLY: usize = 16;

const PORT: u16 = 10_000;

pub(crate) fn run(setting: &Setting) -> Result<Vec<Row>> {
    let lab = Lab::new()?;
    let client_program = lab.bring(&setting.programs.join("grpc-client"))?;
    let server_program = lab.bring(&setting.programs.join("grpc-server"))?;
    lab.apply(&service("interop", 1, "grpc", PORT))?;
    let workload = Workload::new("interop", "v1", "default").on_port(PORT);
    let server = lab.foreign_backend(&workload, &[&server_program, "--port", &PORT.to_string()])?;
    let client = lab.client("default")?;
    let call = |host: &str, port: u16, case: &str| -> Result<Output> {
        let (host, port) = (format!("--server_host={host}"), format!("--server_port={port}"));
        client.exec(&[&client_program, &host, &port, &format!("--test_case={case}")])
    };
    let (mut log, mut notes) = (String::new(), Vec::new());
    let (mut direct_passed, mut proxied_passed) = (0, 0);
    for case in CASES {
        let direct = call(&server.addresses[0], PORT, case)?;
        let proxied = call("interop", 80, case)?;
        for (way, output) in [("direct", &direct), ("proxied", &proxied)] {
            let said = format!("{}{}", output.stdout, output.stderr);
            writeln!(log, "=== {case}, {way}: exit status {}\n{said}", output.code)?;
        }
        direct_passed += usize::from(direct.code == 0);
        proxied_passed += usize::from(proxied.code == 0);
        if (direct.code == 0) != (proxied.code == 0) {
            let (way, output) = match proxied.code {
                0 => ("direct only", &direct),
                _ => ("through the sidecar only", &proxied),
            };
            notes.push(format!("{case} fails {way}: {}", tail(&output.stderr, 2)));
        } else if direct.code != 0 {
            notes.push(format!("{case} fails both ways: {}", tail(&direct.stderr, 1)));
        }
    }
    // What went through the sidecar, and not past it: it counts calls.
    let counted = client.metrics()?.lines().any(|line| {
        line.starts_with("weft_route_requests_total{") && line.contains("grpc_status=\"12\"")
    });
    fs::write(setting.out.join("grpc.txt"), log)?;
    Ok(vec![Row {
        what: "gRPC interop cases (Go), as without the sidecar".to_owned(),
        expected: format!("{PASS_DIRECTLY} of {}", CASES.len()),
        seen: format!("{proxied_passed} of {}, {direct_passed} directly", CASES.len()),
        passed: counted
            && direct_passed >= PASS_DIRECTLY
            && !notes.iter().any(|note| !note.contains("fails both ways")),
        notes,
    }])
}
