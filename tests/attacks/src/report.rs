//! What was seen, beside what is asked.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use weft_tests::attack::{Attack, Witness};

use crate::plan::{AMPLIFICATION, Plan, SLOWDOWN};

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The machine's load (1 minute) before the run; its cores.
    load: f64,
    cores: usize,
    /// Whether all but the attackers and what they ask ran before everything else on the machine (SCHED_FIFO).
    real_time: bool,
    pub(crate) rows: Vec<Row>,
}

/// One attack.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Row {
    pub(crate) kind: String,
    /// CPU time in seconds, of all its windows.
    proxy_cpu: f64,
    attacker_cpu: f64,
    /// Memory in bytes: what the sidecar's grew by at its peak, and the attacker's peak.
    proxy_bytes: u64,
    attacker_bytes: u64,
    /// Of the other client, in milliseconds: one for each window.
    calm_p99: Vec<f64>,
    attack_p99: Vec<f64>,
    errors: u64,
    first_error: String,
    pub(crate) connections: u64,
    closed: u64,
    told: u64,
    code: u32,
    frames: u64,
    most_frames: u64,
    pub(crate) left_behind: Vec<String>,
    pub(crate) notes: String,
    pub(crate) missed: Vec<String>,
}

impl Row {
    pub(crate) fn new(plan: &Plan) -> Row {
        Row { kind: plan.kind.to_owned(), ..Row::default() }
    }

    pub(crate) fn add(
        &mut self,
        calm: &Witness,
        witness: &Witness,
        attack: &Attack,
        proxy_cpu: f64,
        proxy_bytes: u64,
    ) {
        self.calm_p99.push(calm.p99);
        self.attack_p99.push(witness.p99);
        self.errors += witness.errors;
        if self.first_error.is_empty() {
            self.first_error.clone_from(&witness.first_error);
        }
        self.proxy_cpu += proxy_cpu;
        self.attacker_cpu += attack.cpu_seconds;
        self.proxy_bytes = self.proxy_bytes.max(proxy_bytes);
        self.attacker_bytes = self.attacker_bytes.max(attack.peak_bytes);
        self.connections += attack.connections;
        self.closed += attack.closed;
        self.told += attack.told;
        self.code = self.code.max(attack.code);
        self.frames += attack.frames;
        self.most_frames = self.most_frames.max(attack.most_frames);
    }

    fn cpu(&self) -> f64 {
        self.proxy_cpu / self.attacker_cpu.max(0.001)
    }

    fn memory(&self) -> f64 {
        self.proxy_bytes as f64 / self.attacker_bytes.max(1) as f64
    }

    /// Without and with the attack.
    fn p99(&self) -> (f64, f64) {
        (median(&self.calm_p99), median(&self.attack_p99))
    }

    /// Compares what was seen with what is asked.
    pub(crate) fn conclude(&mut self, plan: &Plan) {
        let (calm, attacked) = self.p99();
        for (is_met, what) in [
            (self.cpu() <= AMPLIFICATION, "CPU"),
            (self.memory() <= AMPLIFICATION, "memory"),
            (attacked <= SLOWDOWN * calm, "p99 of the others"),
            (self.errors == 0, "errors of the others"),
            (!plan.is_ended || self.closed > 0, "the attacking connections go on"),
            (self.left_behind.is_empty(), "something is left behind"),
        ] {
            if !is_met {
                self.missed.push(what.to_owned());
            }
        }
    }

    /// For people who wait.
    pub(crate) fn line(&self) -> String {
        let (calm, attacked) = self.p99();
        let verdict = if self.missed.is_empty() { "ok".into() } else { self.missed.join(", ") };
        if self.attack_p99.is_empty() {
            return format!("{:20} {}  {verdict}", self.kind, self.notes);
        }
        format!(
            "{:20} cpu {:5.1}×  memory {:4.1}×  p99 {calm:.2} → {attacked:.2} ms  {} of {} ended, \
             {} frames at most  {verdict}",
            self.kind,
            self.cpu(),
            self.memory(),
            self.closed,
            self.connections,
            self.most_frames,
        )
    }

    fn markdown(&self) -> String {
        let (calm, attacked) = self.p99();
        let missed = if self.missed.is_empty() { "–".into() } else { self.missed.join(", ") };
        if self.attack_p99.is_empty() {
            return format!("| {} | {} | | | | | {missed} |\n", self.kind, self.notes);
        }
        let left =
            if self.left_behind.is_empty() { "–".into() } else { self.left_behind.join(", ") };
        format!(
            "| {} | {:.1} × ({:.2} s / {:.2} s) | {:.1} × ({} KiB / {} KiB) | {calm:.2} → {attacked:.2} | \
             {} of {}, {} told, {} frames at most | {left} | {missed} |\n",
            self.kind,
            self.cpu(),
            self.proxy_cpu,
            self.attacker_cpu,
            self.memory(),
            self.proxy_bytes / 1024,
            self.attacker_bytes / 1024,
            self.closed,
            self.connections,
            self.told,
            self.most_frames,
        )
    }
}

impl Report {
    pub(crate) fn begin() -> Report {
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        // Behind the name in parentheses: the 38th of what follows (proc_pid_stat(5)).
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let real_time = fields.split_whitespace().nth(37).is_some_and(|priority| priority != "0");
        Report { load, cores, real_time, rows: Vec::new() }
    }

    /// Writes both files; whether all that is asked was met.
    pub(crate) fn write(&self, out: &Path) -> Result<bool> {
        fs::create_dir_all(out).with_context(|| out.display().to_string())?;
        fs::write(out.join("report.json"), serde_json::to_string_pretty(self)?)?;
        let mut text = format!(
            "# The sidecar under attack\n\nAsked: CPU time and memory at most {AMPLIFICATION} × the \
             attacker's (CPU: user and system, without what the other client costs; memory: what the \
             sidecar's grows by, beside the attacker's whole), p99 of another client at most \
             {SLOWDOWN} × (median of windows without and with the attack, in turn), nothing left \
             behind. One worker; the attacker and the backend that it asks have a low priority, so that \
             what others feel is what the sidecar does for it. The other client asks a Service of its own, \
             whose backend is not under attack.\n\nThe machine: {} cores, load {:.1} before the run{}; \
             the sidecar, the other client and its backend ran {}.\n\n\
             | attack | CPU | memory | p99 of others, ms | connections ended | left behind | missed |\n\
             |---|---|---|---|---|---|---|\n",
            self.cores,
            self.load,
            if self.load > 0.5 { ", others use it too" } else { "" },
            if self.real_time {
                "before everything else on it (SCHED_FIFO)"
            } else {
                "as everything else does, so that times say less where it is not idle"
            },
        );
        text.extend(self.rows.iter().map(Row::markdown));
        fs::write(out.join("report.md"), text)?;
        let missed = self.rows.iter().filter(|row| !row.missed.is_empty()).count();
        println!(
            "attacks: {} of {} as asked; {}",
            self.rows.len() - missed,
            self.rows.len(),
            out.join("report.md").display()
        );
        Ok(missed == 0)
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
