//! The six walk-throughs: manifests (in `scenarios/`) and the checks that go with them.
//!
//! A scenario runs on a [`Stage`], which stands in a [`World`]: the lab, or a real cluster. It tells
//! an [`Audience`] what it does. The demo's audience prints, the tests' collects; all see the same
//! requests.

mod bookinfo;
mod grants;
mod prefix;
mod producer;
mod splits;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::lab::{Request, Seen, Workload, counts};
pub use world::{LabWorld, Sender, Traffic, World};

/// One walk-through.
pub struct Scenario {
    /// Its number in the table of scenarios.
    pub number: usize,
    /// A few words.
    pub title: &'static str,
    /// What it is about, in a sentence or two.
    pub story: &'static str,
    /// Starts what it needs on a stage that may have it already.
    pub set: fn(&mut Stage<'_>) -> Result<()>,
    /// Does it.
    pub play: fn(&mut Stage<'_>) -> Result<()>,
}

/// All scenarios in their order.
pub fn all() -> [Scenario; 6] {
    [
        bookinfo::header_canary(),
        bookinfo::merged_routes(),
        splits::scenario(),
        grants::scenario(),
        prefix::scenario(),
        producer::scenario(),
    ]
}

/// What happens on a stage.
#[derive(Clone, Debug)]
pub enum Event {
    /// A sentence for the reader.
    Say(String),
    /// An object was written.
    Applied(String),
    /// An object was removed.
    Deleted(String),
    /// Requests were sent and counted.
    Counted(Counted),
    /// Something else was compared.
    Compared(Compared),
}

/// Requests of one kind and who answered them.
#[derive(Clone, Debug)]
pub struct Counted {
    /// The command as a person would type it.
    pub sent: String,
    /// The namespace of the pod that sent.
    pub from: String,
    /// Label and share of each answer that was expected.
    pub expected: Vec<(String, f64)>,
    /// How often each answer came.
    pub came: BTreeMap<String, u32>,
    /// Whether what came is what was expected.
    pub passed: bool,
}

impl Counted {
    /// All requests.
    pub fn total(&self) -> u32 {
        self.came.values().sum()
    }
}

/// A value and the one that was expected.
#[derive(Clone, Debug)]
pub struct Compared {
    /// Of what.
    pub what: String,
    /// The expected value, in words.
    pub expected: String,
    /// The value that came.
    pub came: String,
    /// Whether they agree.
    pub passed: bool,
}

/// Who is told.
pub trait Audience {
    /// Takes one event.
    fn tell(&mut self, event: Event);
}

impl<F: FnMut(Event)> Audience for F {
    fn tell(&mut self, event: Event) {
        self(event);
    }
}

/// A world with an audience, and what the scenarios have put there.
pub struct Stage<'a> {
    world: &'a dyn World,
    audience: &'a mut dyn Audience,
    backends: usize,
    clients: BTreeMap<String, Arc<dyn Sender>>,
    set: BTreeSet<String>,
    failures: Vec<String>,
    failed_in: BTreeSet<String>,
}

/// Between two looks at something that takes its time.
const PAUSE: Duration = Duration::from_millis(100);

/// The conditions of a route with which all is well, as [`World::status`] tells them.
const WELL: &str = "Accepted=True Accepted, ResolvedRefs=True ResolvedRefs";

impl<'a> Stage<'a> {
    /// An empty stage.
    pub fn new(world: &'a dyn World, audience: &'a mut dyn Audience) -> Stage<'a> {
        let (set, failures, failed_in) = (BTreeSet::new(), Vec::new(), BTreeSet::new());
        let clients = BTreeMap::new();
        Stage { world, audience, backends: 0, clients, set, failures, failed_in }
    }

    /// The checks that did not pass.
    pub fn failures(&self) -> &[String] {
        &self.failures
    }

    /// The namespaces whose clients saw something else than expected.
    pub fn failed_in(&self) -> &BTreeSet<String> {
        &self.failed_in
    }

    /// How many backend pods and client pods there are.
    pub fn pods(&self) -> (usize, usize) {
        (self.backends, self.clients.len())
    }

    /// The client pod of a namespace.
    pub fn client(&self, namespace: &str) -> Result<Arc<dyn Sender>> {
        self.clients.get(namespace).cloned().with_context(|| format!("no client in {namespace}"))
    }

    /// Starts workloads, once.
    fn workloads(&mut self, name: &str, workloads: &[Workload]) -> Result<()> {
        if self.set.insert(name.to_owned()) {
            self.world.start(workloads)?;
            self.backends += workloads.len();
        }
        Ok(())
    }

    /// Lays client pods in these namespaces, where there is none yet.
    fn clients(&mut self, namespaces: &[&str]) -> Result<()> {
        for namespace in namespaces {
            if !self.clients.contains_key(*namespace) {
                self.clients.insert((*namespace).to_owned(), self.world.client(namespace)?);
            }
        }
        Ok(())
    }

    /// Writes a scenario's Services, quietly and once: they are the scenery.
    fn scenery(&mut self, file: &str) -> Result<()> {
        if self.set.insert(file.to_owned()) {
            self.world.set(&manifest(file)?)?;
        }
        Ok(())
    }

    /// Writes what an earlier scenario has left behind, when this one is played alone.
    fn apply_if_missing(&mut self, file: &str) -> Result<()> {
        if self.set.contains(file) { Ok(()) } else { self.apply(file) }
    }

    /// Writes a scenario's objects.
    fn apply(&mut self, file: &str) -> Result<()> {
        self.set.insert(file.to_owned());
        for object in self.world.apply(&manifest(file)?)? {
            self.audience.tell(Event::Applied(object));
        }
        Ok(())
    }

    /// Removes an object.
    fn delete(&mut self, kind: &str, namespace: &str, name: &str) -> Result<()> {
        self.world.delete(kind, namespace, name)?;
        self.audience.tell(Event::Deleted(format!("{kind} {namespace}/{name}")));
        Ok(())
    }

    fn say(&mut self, sentence: &str) {
        self.audience.tell(Event::Say(sentence.to_owned()));
    }

    /// Sends requests from a namespace's client and compares who answered.
    fn expect(
        &mut self,
        from: &str,
        request: &Request,
        count: u32,
        expected: &[(&str, f64)],
    ) -> Result<()> {
        let client = self.client(from)?;
        let start = Instant::now();
        loop {
            let counted = counted(from, request, &client.send(request, count)?, expected);
            let passed = counted.passed && counted.total() == count;
            if passed || start.elapsed() >= self.world.patience() {
                self.tell(Counted { passed, ..counted });
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Compares the answers of continuous requests, however many there were.
    fn expect_traffic(
        &mut self,
        from: &str,
        request: &Request,
        traffic: Box<dyn Traffic>,
        expected: &[(&str, f64)],
    ) -> Result<()> {
        let seen = traffic.stop()?;
        self.tell(counted(from, request, &seen, expected));
        Ok(())
    }

    fn tell(&mut self, counted: Counted) {
        if !counted.passed {
            self.failed_in.insert(counted.from.clone());
            self.failures.push(format!(
                "from {}: {}: expected {:?}, came {:?}",
                counted.from, counted.sent, counted.expected, counted.came
            ));
        }
        self.audience.tell(Event::Counted(counted));
    }

    /// Checks the conditions of an HTTPRoute, where somebody writes them.
    fn expect_status(&mut self, namespace: &str, name: &str, expected: &str) -> Result<()> {
        let start = Instant::now();
        loop {
            let Some(status) = self.world.status("HTTPRoute", namespace, name)? else {
                return Ok(());
            };
            if status == expected || start.elapsed() >= self.world.patience() {
                self.compare(namespace, &format!("status of {name}"), expected, &status);
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Compares two values; both sides are shown.
    fn compare(&mut self, from: &str, what: &str, expected: &str, came: &str) {
        self.compared(from, what, expected, came, expected == came);
    }

    /// Tells a comparison that was made elsewhere.
    fn compared(&mut self, from: &str, what: &str, expected: &str, came: &str, passed: bool) {
        let (what, expected, came) = (what.to_owned(), expected.to_owned(), came.to_owned());
        if !passed {
            self.failed_in.insert(from.to_owned());
            self.failures.push(format!("from {from}: {what}: expected {expected}, came {came}"));
        }
        self.audience.tell(Event::Compared(Compared { what, expected, came, passed }));
    }

    /// Checks that the sidecar of the client in the route's namespace says why one of its backends
    /// is refused.
    fn expect_refusal(&mut self, namespace: &str, route: &str, word: &str) -> Result<()> {
        let client = self.client(namespace)?;
        let route = format!("{}/{route}", self.world.namespace(namespace)?);
        let start = Instant::now();
        loop {
            let config: serde_json::Value = serde_json::from_str(&client.admin("/config")?)?;
            let reason = refusal(&config, &route).unwrap_or_else(|| "nothing".to_owned());
            let passed = reason.contains(word);
            if passed || start.elapsed() >= self.world.patience() {
                let (what, expected) = ("the sidecar's :15000/config says", format!("… {word} …"));
                self.compared(namespace, what, &expected, &reason, passed);
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// Why a backend of this route is refused, by what a sidecar tells of itself.
fn refusal(config: &serde_json::Value, route: &str) -> Option<String> {
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    let rules = list(&config["destinations"]).into_iter().flat_map(|one| list(&one["rules"]));
    let backends = rules
        .filter(|rule| rule["route"].as_str().is_some_and(|name| name.ends_with(route)))
        .flat_map(|rule| list(&rule["backends"]));
    backends.filter_map(|one| one["why"].as_str().map(str::to_owned)).next()
}

fn counted(from: &str, request: &Request, seen: &[Seen], expected: &[(&str, f64)]) -> Counted {
    let came = counts(seen);
    Counted {
        sent: request.words(),
        from: from.to_owned(),
        expected: expected.iter().map(|(label, share)| ((*label).to_owned(), *share)).collect(),
        passed: !seen.is_empty() && shares_agree(&came, expected),
        came,
    }
}

/// Whether counts agree with shares: nothing that was not expected, and each share within what
/// chance allows (4.5 standard deviations: once in 150,000 checks), or two requests.
pub fn shares_agree(came: &BTreeMap<String, u32>, expected: &[(&str, f64)]) -> bool {
    let total: u32 = came.values().sum();
    let known = came.keys().all(|label| expected.iter().any(|(name, _)| name == label));
    let close = expected.iter().all(|(label, share)| {
        let seen = f64::from(came.get(*label).copied().unwrap_or(0));
        let wanted = f64::from(total) * share;
        let deviation = (wanted * (1.0 - share)).sqrt();
        let allowed = if *share == 0.0 || *share == 1.0 { 0.0 } else { (4.5 * deviation).max(2.0) };
        (seen - wanted).abs() <= allowed
    });
    known && close
}

/// The text of a scenario's file, `1-header-canary/route.yaml` say.
pub fn manifest(file: &str) -> Result<String> {
    let path = crate::checkout()?.join("tests/scenarios").join(file);
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    ensure!(!text.is_empty(), "{} is empty", path.display());
    Ok(text)
}
