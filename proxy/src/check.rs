//! `weft-proxy check`: what status would say of a folder of manifests, before it is in a cluster.
//!
//! The verdicts are those of the pass that the controller writes into status and that the sidecar
//! takes its rules from.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use serde::Serialize;
use weft_gamma::object::ObjectKey;
use weft_gamma::policy::{self, PolicyTarget};
use weft_gamma::resolve::{self, Settings};

use crate::source::SourceProblem;
use crate::source::manifest::{self, Folder, FolderError};

/// Says what the status of a folder's routes and policies would say.
///
/// All files below it that end in .yaml, .yml or .json are read, as `kubectl get -o yaml` prints them
/// or as they stand in Git. For every route and each of its parents that is a Service, and for every
/// XBackendTrafficPolicy and each of its targets, the conditions are told that Weft's controller would
/// write, and what cannot be read, with the file, the object and the field. The Services that routes
/// name must be there too.
///
/// Exits with 0 where all is well, with 1 where something is wrong, with 2 where the folder cannot be
/// read or the command line cannot be understood.
#[derive(Clone, Debug, Parser)]
#[command(name = "check")]
pub struct CheckOptions {
    /// The folder.
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,

    /// JSON for programs.
    #[arg(long)]
    json: bool,
}

/// What status would say.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Nothing is wrong.
    pub ok: bool,
    pub routes: Vec<Route>,
    pub policies: Vec<Policy>,
    /// What could not be read or is not used, but for what conditions say.
    pub problems: Vec<SourceProblem>,
    /// Routes of which no parent is a Service: they are not Weft's.
    pub not_for_weft: Vec<String>,
    pub services: usize,
}

/// A route with a Service among its parents.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// As in `HTTPRoute default/reviews`.
    pub route: String,
    /// As in `routes.yaml:12`.
    pub place: String,
    pub parents: Vec<Parent>,
}

/// What is said of a route for one parent.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Parent {
    /// As in `Service reviews port 9080`.
    pub parent: String,
    pub conditions: Vec<Condition>,
}

/// A policy with its targets.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// As in `XBackendTrafficPolicy default/careful`.
    pub policy: String,
    /// As in `policies.yaml:12`.
    pub place: String,
    pub targets: Vec<Target>,
}

/// What is said of a policy for one target.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// As in `Service reviews`.
    pub target: String,
    pub conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    pub r#type: &'static str,
    pub status: &'static str,
    pub reason: &'static str,
    pub message: String,
    /// It is not as it should be.
    pub wrong: bool,
}

impl CheckOptions {
    pub fn run(self) -> ExitCode {
        let report = match Report::of(&self.folder) {
            Ok(report) => report,
            Err(error) => {
                eprintln!("weft-proxy check: {error}");
                return ExitCode::from(2);
            }
        };
        let text = match self.json {
            true => serde_json::to_string_pretty(&report).unwrap_or_default() + "\n",
            false => report.to_string(),
        };
        // A reader that goes away early, as head does, has what it wants.
        let _ = std::io::stdout().write_all(text.as_bytes());
        if report.ok { ExitCode::SUCCESS } else { ExitCode::from(1) }
    }
}

impl Report {
    /// What is to be said of a folder.
    pub fn of(folder: &Path) -> Result<Self, FolderError> {
        let Folder { snapshot, places } = manifest::read(folder)?;
        let objects = &snapshot.objects;
        let resolved = resolve::resolve(objects, &Settings::default());
        let place = |key: &ObjectKey| match places.get(key) {
            Some((file, line)) => format!("{}:{line}", file.display()),
            None => String::new(),
        };
        let mut report = Self {
            ok: true,
            routes: Vec::new(),
            policies: Vec::new(),
            problems: Vec::new(),
            not_for_weft: Vec::new(),
            services: objects.services.len(),
        };
        for key in objects.routes.keys() {
            let Some(verdicts) = resolved.verdicts.get(key) else {
                report.not_for_weft.push(key.to_string());
                continue;
            };
            let parents = verdicts.iter().map(|verdict| Parent {
                parent: verdict.parent.to_string(),
                conditions: verdict.conditions.iter().map(Condition::of).collect(),
            });
            report.routes.push(Route {
                route: key.to_string(),
                place: place(key),
                parents: parents.collect(),
            });
        }
        report.policies = policy::resolve(objects)
            .verdicts
            .iter()
            .map(|(key, verdicts)| Policy {
                policy: key.to_string(),
                place: place(key),
                targets: verdicts.iter().map(Target::of).collect(),
            })
            .collect();
        let told = |it: &&SourceProblem| !it.is_refusal(objects);
        report.problems = snapshot.problems.iter().filter(told).cloned().collect();
        report.problems.sort_unstable();
        report.ok = report.wrong() == (0, 0) && report.problems.is_empty();
        Ok(report)
    }
}

impl Target {
    fn of(verdict: &policy::PolicyVerdict) -> Self {
        let PolicyTarget { kind, name, .. } = &verdict.target;
        let conditions = vec![Condition::of(&verdict.condition)];
        Self { target: format!("{kind} {name}"), conditions }
    }
}

impl Condition {
    fn of(condition: &weft_gamma::condition::Condition) -> Self {
        Self {
            r#type: condition.kind.as_str(),
            status: condition.status_str(),
            reason: condition.reason.as_str(),
            message: condition.message.clone(),
            wrong: condition.is_complaint(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Route { route, place, parents } in &self.routes {
            writeln!(f, "{route}  ({place})")?;
            for Parent { parent, conditions } in parents {
                told(f, parent, conditions)?;
            }
            writeln!(f)?;
        }
        for Policy { policy, place, targets } in &self.policies {
            writeln!(f, "{policy}  ({place})")?;
            for Target { target, conditions } in targets {
                told(f, target, conditions)?;
            }
            writeln!(f)?;
        }
        if !self.problems.is_empty() {
            writeln!(f, "Not readable, or not used")?;
            for problem in &self.problems {
                writeln!(f, "! {problem}")?;
            }
            writeln!(f)?;
        }
        if !self.not_for_weft.is_empty() {
            let kind =
                "no parentRef is a Service (kind: Service, group: \"\"), so they are not Weft's";
            writeln!(f, "Not looked at: {kind}")?;
            for route in &self.not_for_weft {
                writeln!(f, "  {route}")?;
            }
            writeln!(f)?;
        }
        self.summary(f)
    }
}

/// What is said of a route or policy for one object.
fn told(f: &mut fmt::Formatter<'_>, object: &str, conditions: &[Condition]) -> fmt::Result {
    writeln!(f, "  {object}")?;
    for Condition { r#type, status, reason, message, wrong } in conditions {
        let mark = if *wrong { "!" } else { " " };
        writeln!(f, "  {mark} {:<16} {:<5}  {reason}", r#type, status)?;
        writeln!(f, "      {message}")?;
    }
    Ok(())
}

impl Report {
    /// How many routes and policies have a condition that is not as it should be.
    fn wrong(&self) -> (usize, usize) {
        let is_wrong = |conditions: &[Condition]| conditions.iter().any(|it| it.wrong);
        let routes = self.routes.iter();
        let policies = self.policies.iter();
        (
            routes.filter(|it| it.parents.iter().any(|it| is_wrong(&it.conditions))).count(),
            policies.filter(|it| it.targets.iter().any(|it| is_wrong(&it.conditions))).count(),
        )
    }

    fn summary(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let services = count(self.services, "Service", "Services");
        let routes = count(self.routes.len(), "route", "routes");
        match self.policies.len() {
            0 => write!(f, "{services} and {routes}: ")?,
            policies => {
                write!(f, "{services}, {routes} and {}: ", count(policies, "policy", "policies"))?;
            }
        }
        let (routes, policies) = self.wrong();
        let mut wrong = Vec::new();
        if routes > 0 {
            wrong.push(format!("something is wrong with {}", count(routes, "route", "routes")));
        }
        if policies > 0 {
            let policies = count(policies, "policy", "policies");
            wrong.push(format!("something is wrong with {policies}"));
        }
        if !self.problems.is_empty() {
            wrong.push(count(self.problems.len(), "problem", "problems"));
        }
        match wrong.as_slice() {
            [] => writeln!(f, "all is well"),
            [only] => writeln!(f, "{only}"),
            [first @ .., last] => writeln!(f, "{}, and {last}", first.join(", ")),
        }
    }
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests;
