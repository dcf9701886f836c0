//! The pod, and one attack in it.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use weft_tests::attack::{Attack, Witness};
use weft_tests::lab::metrics::{Sample, samples};
use weft_tests::lab::{Backend, Client, ClientOptions, Lab, Output, Workload, poll};

use crate::plan::Plan;
use crate::report::Row;

/// The Service that is attacked.
pub(crate) const ADDRESS: &str = "echo:80";

/// The Service that the other client asks. Its backend is its own: what the attacker's requests do to theirs
/// is not the sidecar's doing.
const QUIET: &str = "quiet:80";

/// Descriptors and gauges are back within this time.
const RETURN_LIMIT: Duration = Duration::from_secs(5);

/// Memory that a second and third round may add to what the first has left: arenas of the allocator.
const SLACK: u64 = 4 << 20;

pub(crate) struct World {
    client: Arc<Client>,
    /// Below the client, with the lab last: what stands in it goes first.
    _backends: Vec<Backend>,
    pub(crate) lab: Lab,
}

/// What the sidecar holds.
#[derive(Clone, Debug)]
struct Held {
    descriptors: usize,
    bytes: u64,
    /// Those that tell of what is open.
    gauges: Vec<Sample>,
}

/// What a window cost the sidecar.
struct Cost {
    cpu_seconds: f64,
    peak_bytes: u64,
}

impl World {
    pub(crate) fn lay() -> Result<World> {
        let lab = Lab::new()?;
        for (name, ip) in [("echo", "10.96.1.1"), ("quiet", "10.96.1.2")] {
            lab.apply(&format!(
                "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  namespace: default\nspec:\n  \
                 clusterIP: {ip}\n  clusterIPs:\n  - {ip}\n  ports:\n  - name: web\n    \
                 port: 80\n    protocol: TCP\n    targetPort: http\n    appProtocol: http\n  selector:\n    \
                 app: {name}\n  type: ClusterIP\n---\n",
            ))?;
        }
        let backends =
            lab.backends(&["echo", "quiet"].map(|app| Workload::new(app, "v1", "default")))?;
        // Like the attacker, its backend takes what the others leave of the CPUs.
        let attacked = backends.first().context("its backend")?.pid()?.to_string();
        let mut chrt = Command::new("chrt");
        chrt.args(["--all-tasks", "--other", "--pid", "0", &attacked]);
        Output::of(chrt)?.success().context("the priority of the attacked backend")?;
        let client = lab.client_with("default", &ClientOptions::proxy(&["--workers", "1"]))?;
        Ok(World { client, _backends: backends, lab })
    }

    /// Requests of both kinds, so that what is made once is not taken for a leak.
    pub(crate) fn warm_up(&self) -> Result<()> {
        self.witness(1.0)?;
        let words = ["--seconds", "0.2", "--closed", "3"];
        attack(self.attack_command("rapid-reset", &words))?;
        Ok(())
    }

    /// Windows without and with the attack, in turn.
    pub(crate) fn attack(&self, plan: &Plan) -> Result<Row> {
        let before = self.held()?;
        let mut row = Row::new(plan);
        let mut after_first = None;
        for _ in 0..plan.rounds {
            let seconds = plan.seconds.min(3.0);
            let (calm, calm_cost) = self.measured(|| self.witness(seconds))?;
            let command = self.attack_command(
                plan.kind,
                &[
                    "--seconds",
                    &plan.seconds.to_string(),
                    "--connections",
                    &plan.connections.to_string(),
                ],
            );
            let (under, cost) = self.measured(|| {
                let attacker = std::thread::spawn(move || attack(command));
                let witness = self.witness(seconds);
                let attack = attacker.join().map_err(|_| anyhow::anyhow!("a thread"))??;
                Ok((witness?, attack))
            })?;
            let (witness, attack) = under;
            // The witness asks as long in both windows.
            let own = (cost.cpu_seconds - calm_cost.cpu_seconds).max(0.0);
            row.add(&calm, &witness, &attack, own, cost.peak_bytes.saturating_sub(before.bytes));
            if after_first.is_none() {
                self.returned(&before)?;
                after_first = Some(self.held()?.bytes);
            }
        }
        row.left_behind = self.returned(&before)?;
        let (bytes, first) = (self.held()?.bytes, after_first.context("one round at least")?);
        if bytes > first.max(before.bytes) + SLACK && plan.rounds > 1 {
            row.left_behind
                .push(format!("{} KiB more than after one round", (bytes - first) / 1024));
        }
        row.conclude(plan);
        Ok(row)
    }

    fn witness(&self, seconds: f64) -> Result<Witness> {
        let mut command = self.client.command("weft-client");
        command.args(["witness", QUIET, "--seconds", &seconds.to_string()]);
        let output = Output::of(command)?.success().context("weft-client witness")?;
        serde_json::from_str(&output).context("what the witness tells")
    }

    fn attack_command(&self, kind: &str, words: &[&str]) -> Command {
        attack_command(&self.client, kind, words)
    }

    /// Does `work`, and tells what the sidecar spent meanwhile.
    fn measured<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(T, Cost)> {
        let is_over = AtomicBool::new(false);
        let before = self.cpu_seconds()?;
        let (result, peak_bytes) = std::thread::scope(|scope| {
            let peak = scope.spawn(|| {
                let mut peak = 0;
                while !is_over.load(Ordering::Relaxed) {
                    peak = peak.max(self.resident_bytes().unwrap_or(0));
                    std::thread::sleep(Duration::from_millis(10));
                }
                peak
            });
            let result = work();
            is_over.store(true, Ordering::Relaxed);
            (result, peak.join().unwrap_or(0))
        });
        // What is still on its way belongs to the window.
        std::thread::sleep(Duration::from_millis(50));
        let cpu_seconds = self.cpu_seconds()? - before;
        Ok((result?, Cost { cpu_seconds, peak_bytes }))
    }

    fn cpu_seconds(&self) -> Result<f64> {
        self.client.with_proxy(|proxy| proxy.cpu_seconds())
    }

    fn resident_bytes(&self) -> Result<u64> {
        self.client.with_proxy(|proxy| proxy.resident_bytes())
    }

    fn held(&self) -> Result<Held> {
        let gauges = samples(&self.client.metrics()?);
        let of_open = |sample: &Sample| sample.name.contains("_open_");
        let gauges = gauges.into_iter().filter(|it| it.name.starts_with("weft_") && of_open(it));
        let gauges = gauges.filter(|it| it.name != "weft_process_open_fds").collect();
        let descriptors = self.client.with_proxy(|proxy| proxy.open_descriptors())?;
        Ok(Held { descriptors, bytes: self.resident_bytes()?, gauges })
    }

    /// Waits until what was open is closed; tells what is not.
    fn returned(&self, before: &Held) -> Result<Vec<String>> {
        let mut left = Vec::new();
        let back = poll(RETURN_LIMIT, || {
            let now = self.held().ok()?;
            left.clear();
            // The witness' connection to the backend stays in the pool.
            if now.descriptors > before.descriptors + 4 {
                left.push(format!("{} descriptors", now.descriptors - before.descriptors));
            }
            for gauge in &now.gauges {
                let was = before
                    .gauges
                    .iter()
                    .find(|it| (&it.name, &it.labels) == (&gauge.name, &gauge.labels));
                let was = was.map_or(0.0, |was| was.value);
                if gauge.value > was {
                    left.push(format!("{} {}", gauge.name, gauge.value - was));
                }
            }
            left.is_empty().then_some(())
        });
        Ok(if back.is_some() { Vec::new() } else { left })
    }
}

/// An attack, not started yet. It takes what the others leave of the CPUs, whatever their scheduling is: what
/// they then feel is what the sidecar does for it, and not the kernel.
pub(crate) fn attack_command(client: &Client, kind: &str, words: &[&str]) -> Command {
    let mut command = client.command("chrt");
    command.args(["--other", "0", "nice", "-n", "19", "weft-client", "attack", kind, ADDRESS]);
    command.args(words);
    command
}

/// Runs an attack to its end.
pub(crate) fn attack(command: Command) -> Result<Attack> {
    let output = Output::of(command)?.success().context("weft-client attack")?;
    serde_json::from_str(&output).context("what the attack tells")
}
