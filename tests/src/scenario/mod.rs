//! The six walk-throughs: manifests (in `scenarios/`) and the checks that go with them.
//!
//! A scenario runs on a [`Stage`] and tells an [`Audience`] what it does. The demo's audience
//! prints, the tests' collects; both see the same requests.

mod bookinfo;
mod grants;
mod prefix;
mod producer;
mod splits;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use crate::lab::{Backend, Client, Lab, Request, Seen, Traffic, Workload, counts};

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

/// A lab with an audience, and what the scenarios have put there.
pub struct Stage<'a> {
    /// The cluster.
    pub lab: &'a Lab,
    audience: &'a mut dyn Audience,
    backends: Vec<Backend>,
    clients: BTreeMap<String, Arc<Client>>,
    set: BTreeSet<String>,
    failures: Vec<String>,
    failed_in: BTreeSet<String>,
}

impl<'a> Stage<'a> {
    /// An empty stage.
    pub fn new(lab: &'a Lab, audience: &'a mut dyn Audience) -> Stage<'a> {
        let (backends, clients) = (Vec::new(), BTreeMap::new());
        let (set, failures, failed_in) = (BTreeSet::new(), Vec::new(), BTreeSet::new());
        Stage { lab, audience, backends, clients, set, failures, failed_in }
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
        (self.backends.len(), self.clients.len())
    }

    /// The client pod of a namespace.
    pub fn client(&self, namespace: &str) -> Result<Arc<Client>> {
        self.clients.get(namespace).cloned().with_context(|| format!("no client in {namespace}"))
    }

    /// Starts workloads, once.
    fn workloads(&mut self, name: &str, workloads: &[Workload]) -> Result<()> {
        if self.set.insert(name.to_owned()) {
            self.backends.extend(self.lab.backends(workloads)?);
        }
        Ok(())
    }

    /// Lays client pods in these namespaces, where there is none yet.
    fn clients(&mut self, namespaces: &[&str]) -> Result<()> {
        for namespace in namespaces {
            if !self.clients.contains_key(*namespace) {
                self.clients.insert((*namespace).to_owned(), self.lab.client(namespace)?);
            }
        }
        Ok(())
    }

    /// Writes a scenario's Services, quietly and once: they are the scenery.
    fn scenery(&mut self, file: &str) -> Result<()> {
        if self.set.insert(file.to_owned()) {
            self.lab.apply(&manifest(file)?)?;
        }
        Ok(())
    }

    /// Writes what an earlier scenario has left behind, when this one is played alone.
    fn apply_if_missing(&mut self, file: &str) -> Result<()> {
        if self.set.contains(file) { Ok(()) } else { self.apply(file) }
    }

    /// Writes a scenario's objects and waits until every proxy serves by them.
    fn apply(&mut self, file: &str) -> Result<()> {
        self.set.insert(file.to_owned());
        let yaml = manifest(file)?;
        let applied = self.lab.settled(|lab| lab.apply(&yaml))?;
        for object in applied {
            self.audience.tell(Event::Applied(object));
        }
        Ok(())
    }

    /// Removes an object and waits until every proxy serves without it.
    fn delete(&mut self, kind: &str, namespace: &str, name: &str) -> Result<()> {
        self.lab.settled(|lab| lab.delete(kind, namespace, name))?;
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
        let seen = self.client(from)?.send(request, count)?;
        self.count(from, request, &seen, expected, Some(count));
        Ok(())
    }

    /// Compares the answers of continuous requests, however many there were.
    fn expect_traffic(
        &mut self,
        from: &str,
        request: &Request,
        traffic: Traffic,
        expected: &[(&str, f64)],
    ) -> Result<()> {
        let seen = traffic.stop()?;
        self.count(from, request, &seen, expected, None);
        Ok(())
    }

    fn count(
        &mut self,
        from: &str,
        request: &Request,
        seen: &[Seen],
        expected: &[(&str, f64)],
        count: Option<u32>,
    ) {
        let came = counts(seen);
        let complete = count.is_none_or(|count| count as usize == seen.len()) && !seen.is_empty();
        let counted = Counted {
            sent: request.words(),
            from: from.to_owned(),
            expected: expected.iter().map(|(label, share)| ((*label).to_owned(), *share)).collect(),
            passed: complete && shares_agree(&came, expected),
            came,
        };
        if !counted.passed {
            self.failed_in.insert(from.to_owned());
            self.failures.push(format!(
                "from {}: {}: expected {:?}, came {:?}",
                counted.from, counted.sent, counted.expected, counted.came
            ));
        }
        self.audience.tell(Event::Counted(counted));
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

    /// Checks that the sidecar of a namespace's client says why a route's backend is refused.
    fn expect_refusal(&mut self, from: &str, route: &str, word: &str) -> Result<()> {
        let client = self.client(from)?;
        let config: serde_json::Value = serde_json::from_str(&client.admin("/config")?)?;
        let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
        let rules = list(&config["destinations"]).into_iter().flat_map(|one| list(&one["rules"]));
        let backends = rules
            .filter(|rule| rule["route"].as_str().is_some_and(|name| name.ends_with(route)))
            .flat_map(|rule| list(&rule["backends"]));
        let mut reasons = backends.filter_map(|one| one["why"].as_str().map(str::to_owned));
        let reason = reasons.next().unwrap_or_else(|| "nothing".to_owned());
        let passed = reason.contains(word);
        self.compared(
            from,
            "the sidecar's :15000/config says",
            &format!("… {word} …"),
            &reason,
            passed,
        );
        Ok(())
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
