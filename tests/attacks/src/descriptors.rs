//! A flood of connections while there are few descriptors: the sidecar waits for better times, and does
//! not spin.

use std::time::{Duration, Instant};

use anyhow::Result;
use weft_tests::lab::metrics::{samples, sum};
use weft_tests::lab::{ClientOptions, Output};

use crate::plan::{IDLE, Plan, RECOVERY};
use crate::report::Row;
use crate::run::{ADDRESS, World, attack, attack_command};

pub(crate) const NAME: &str = "out-of-descriptors";

const SECONDS: f64 = 4.0;

pub(crate) fn run(world: &World) -> Result<Row> {
    let plan = Plan { kind: NAME, seconds: SECONDS, rounds: 1, connections: 200, is_ended: false };
    let mut row = Row::new(&plan);
    // By itself it would not accept what it has no descriptors for.
    let options = ClientOptions {
        files: Some(64),
        ..ClientOptions::proxy(&["--workers", "1", "--max-connections", "1000"])
    };
    let client = world.lab.client_with("default", &options)?;
    let cpu_seconds = || client.with_proxy(|proxy| proxy.cpu_seconds());
    let words = ["--seconds", &SECONDS.to_string(), "--connections", "200"];
    let command = attack_command(&client, "idle-connections", &words);
    let attacker = std::thread::spawn(move || attack(command));
    // All that can be taken is taken by then.
    std::thread::sleep(Duration::from_secs(1));
    let (before, start) = (cpu_seconds()?, Instant::now());
    std::thread::sleep(Duration::from_secs(2));
    let share = (cpu_seconds()? - before) / start.elapsed().as_secs_f64();
    let seen = attacker.join().map_err(|_| anyhow::anyhow!("a thread"))??;
    // Its connections have ended with it: the next one is to be served within a second.
    let start = Instant::now();
    let mut command = client.command("curl");
    command.args(["-sS", "--max-time", "5", "-o", "/dev/null", &format!("http://{ADDRESS}/")]);
    let served = Output::of(command)?.code == 0;
    let recovered = start.elapsed().as_secs_f64();
    let errors = sum(&samples(&client.metrics()?), "weft_outbound_accept_errors_total", &[]);
    row.connections = seen.connections;
    row.notes = format!(
        "{:.1} % of a core while full, {errors} pauses, served again after {recovered:.2} s",
        share * 100.0
    );
    for (is_met, what) in [
        (errors > 0.0, "accept never failed: nothing was shown"),
        (share <= IDLE, "it is busy while there are no descriptors"),
        (served && recovered <= RECOVERY, "it does not serve again in time"),
    ] {
        if !is_met {
            row.missed.push(what.to_owned());
        }
    }
    Ok(row)
}
