//! What the status of a route or a policy becomes: pure, so that every rule of it is a test of a few
//! lines.
//!
//! [`crate::write`](mod@crate::write) calls it with the object as the API server has it. The list of
//! parents, or ancestors, is shared with other controllers and atomic: whoever writes, writes all of it.
//! "Implementations MUST update only entries that have a matching value of `controllerName` for that
//! implementation": the others are carried over as they are.

use serde_json::{Map, Value, json};
use weft_gamma::condition::{Condition, Verdict};
use weft_gamma::policy::{PolicyTarget, PolicyVerdict};

use crate::CONTROLLER_NAME;

/// The condition types that this controller writes; others in its entries are left alone.
const OWN_CONDITIONS: [&str; 3] = ["Accepted", "ResolvedRefs", "PartiallyInvalid"];

/// What the API server fills in where a parentRef says nothing.
const DEFAULT_GROUP: &str = "gateway.networking.k8s.io";
const DEFAULT_KIND: &str = "Gateway";

/// "A maximum of 16 ancestors will be represented in this list."
const MAX_ANCESTORS: usize = 16;

/// What an object's status is to say.
#[derive(Clone, Debug)]
pub enum Report {
    /// Of a route: `status.parents`.
    Route(Vec<Verdict>),
    /// Of a policy: `status.ancestors`. The Services that it targets stand for its ancestors: of
    /// several, each may deserve something else.
    Policy(Vec<PolicyVerdict>),
}

impl Report {
    /// The list in the status, and the field that tells its entries apart.
    pub fn list(&self) -> (&'static str, &'static str) {
        match self {
            Report::Route(_) => ("parents", "parentRef"),
            Report::Policy(_) => ("ancestors", "ancestorRef"),
        }
    }

    /// What the list's own entries are about, with their conditions.
    fn entries(&self, object: &Value) -> Vec<(Value, Vec<Wanted<'_>>)> {
        match self {
            Report::Route(verdicts) => {
                let spec = items(&object["spec"]["parentRefs"]);
                let with_reference = verdicts.iter().filter_map(|verdict| {
                    // As the spec has it, to the letter: people and controllers find an entry by
                    // its parentRef.
                    let raw = spec.get(verdict.parent.index)?;
                    Some((raw.clone(), verdict.conditions.iter().map(Wanted::from).collect()))
                });
                with_reference.collect()
            }
            Report::Policy(verdicts) => {
                let namespace = &object["metadata"]["namespace"];
                let with_reference = verdicts.iter().map(|verdict| {
                    let PolicyTarget { group, kind, name } = &verdict.target;
                    let reference = json!({
                        "group": group,
                        "kind": kind,
                        "namespace": namespace,
                        "name": name,
                    });
                    (reference, vec![Wanted::from(&verdict.condition)])
                });
                with_reference.collect()
            }
        }
    }

    fn has_room(&self, entries: usize) -> bool {
        matches!(self, Report::Route(_)) || entries < MAX_ANCESTORS
    }
}

/// The new list of `report` in the status of `object`, the whole object; None if it is as it should
/// be.
///
/// `now` is what `lastTransitionTime` becomes where a condition's status changes.
pub fn merge(object: &Value, report: &Report, now: &str) -> Option<Value> {
    let generation = object["metadata"]["generation"].as_i64().unwrap_or_default();
    let (list, reference) = report.list();
    let old = items(&object["status"][list]);
    let stamp = Stamp { generation, now };

    let mut wanted = report.entries(object);
    let mut new: Vec<Value> = Vec::new();
    for entry in old {
        if entry["controllerName"] != CONTROLLER_NAME {
            new.push(entry.clone());
            continue;
        }
        let position = wanted.iter().position(|(raw, _)| same(raw, &entry[reference]));
        match position {
            Some(position) => {
                let (_, wanted) = wanted.remove(position);
                let about = (reference, &entry[reference]);
                new.push(self::entry(about, &wanted, &entry["conditions"], stamp));
            }
            // Only who has seen the newest spec can tell that it lacks the reference.
            None if is_newer(entry, generation) => new.push(entry.clone()),
            None => {}
        }
    }
    for (about, wanted) in wanted {
        if report.has_room(new.len()) {
            new.push(entry((reference, &about), &wanted, &Value::Null, stamp));
        }
    }
    (new != old).then_some(Value::Array(new))
}

/// Lays conditions into those that are there: each keeps its place; a type that is not this
/// controller's stays as it is, an own one that is not wanted any more goes.
///
/// `own` names the types that the caller answers for.
pub fn conditions(old: &Value, own: &[&str], wanted: &[Wanted<'_>], stamp: Stamp<'_>) -> Value {
    let mut left: Vec<&Wanted<'_>> = wanted.iter().collect();
    let mut new: Vec<Value> = Vec::new();
    for condition in items(old) {
        let kind = condition["type"].as_str().unwrap_or_default();
        let wanted = left.iter().position(|wanted| wanted.kind == kind).map(|at| left.remove(at));
        // "If the `observedGeneration` of a Condition is _greater than_ the value the implementation
        // knows about, then it MUST NOT perform the update on that Condition".
        let newer = condition["observedGeneration"].as_i64() > Some(stamp.generation);
        if newer || (wanted.is_none() && !own.contains(&kind)) {
            new.push(condition.clone());
        } else if let Some(wanted) = wanted {
            new.push(self::condition(wanted, condition, stamp));
        }
    }
    new.extend(left.into_iter().map(|wanted| condition(wanted, &Value::Null, stamp)));
    Value::Array(new)
}

/// A condition as it should be.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    pub kind: &'a str,
    pub status: bool,
    pub reason: &'a str,
    pub message: &'a str,
}

/// What is written beside a condition.
#[derive(Clone, Copy, Debug)]
pub struct Stamp<'a> {
    /// Becomes `observedGeneration`; a condition that has observed a newer one is left alone.
    pub generation: i64,
    /// Becomes `lastTransitionTime` where the status changes.
    pub now: &'a str,
}

fn entry(
    (reference, about): (&str, &Value),
    wanted: &[Wanted<'_>],
    old: &Value,
    stamp: Stamp<'_>,
) -> Value {
    json!({
        reference: about,
        "controllerName": CONTROLLER_NAME,
        "conditions": conditions(old, &OWN_CONDITIONS, wanted, stamp),
    })
}

fn condition(wanted: &Wanted<'_>, old: &Value, stamp: Stamp<'_>) -> Value {
    let status = if wanted.status { "True" } else { "False" };
    let unchanged = old["status"] == status;
    let since = old["lastTransitionTime"].as_str().filter(|_| unchanged).unwrap_or(stamp.now);
    json!({
        "type": wanted.kind,
        "status": status,
        "reason": wanted.reason,
        "message": wanted.message,
        "observedGeneration": stamp.generation,
        "lastTransitionTime": since,
    })
}

fn is_newer(entry: &Value, generation: i64) -> bool {
    let mut observed =
        items(&entry["conditions"]).iter().map(|it| it["observedGeneration"].as_i64());
    observed.any(|observed| observed > Some(generation))
}

/// Whether two references are the same once the API server has filled in its defaults.
fn same(one: &Value, other: &Value) -> bool {
    let fields = |value: &Value| -> Option<Map<String, Value>> {
        let mut fields = value.as_object()?.clone();
        fields.retain(|_, value| !value.is_null());
        fields.entry("group").or_insert_with(|| DEFAULT_GROUP.into());
        fields.entry("kind").or_insert_with(|| DEFAULT_KIND.into());
        Some(fields)
    };
    fields(one).is_some_and(|one| fields(other).is_some_and(|other| one == other))
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

impl<'a> From<&'a Condition> for Wanted<'a> {
    fn from(condition: &'a Condition) -> Self {
        Self {
            kind: condition.kind.as_str(),
            status: condition.status,
            reason: condition.reason.as_str(),
            message: &condition.message,
        }
    }
}

#[cfg(test)]
mod tests;
