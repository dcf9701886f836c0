//! What a route deserves for one of its parents. [`crate::resolve`] calls it.

use std::collections::BTreeMap;

use super::rules::RouteRules;
use super::{BackendProblem, ResolvedRule};
use crate::attach::Attachment;
use crate::condition::{Condition, ConditionType, Reason, Verdict};
use crate::object::{NamespacedName, Service};
use crate::reference::ParentRef;
use crate::route::{Refusal, RefusalReason, RouteKind};

/// The longest message that the API server takes, in bytes.
const MAX_MESSAGE: usize = 32_768;

/// The verdict for a parentRef to a Service that exists.
pub(super) fn of(attachment: &Attachment<'_>, rules: &RouteRules, service: &Service) -> Verdict {
    let accepted = match &attachment.ports {
        Err(message) => vec![not_accepted(Reason::NoMatchingParent, message.clone())],
        Ok(ports) if attachment.lost.len() == ports.len() => {
            let held = held_by_others(&attachment.lost, service);
            vec![not_accepted(Reason::Conflicted, format!("{held}; this route is not used"))]
        }
        Ok(_) => by_rules(attachment, rules, service),
    };
    verdict(attachment.parent(), accepted, rules)
}

/// The verdict for a parentRef to a Service that does not exist. The API lets the entry be omitted;
/// whoever wonders why nothing happens is better served with one.
pub(super) fn without_service(
    parent: &ParentRef,
    name: &NamespacedName,
    rules: &RouteRules,
) -> Verdict {
    let message = format!("Service {name} does not exist; create it or correct the parentRef");
    verdict(parent, vec![not_accepted(Reason::NoMatchingParent, message)], rules)
}

/// Accepted with its PartiallyInvalid, and ResolvedRefs between the two.
fn verdict(parent: &ParentRef, mut accepted: Vec<Condition>, rules: &RouteRules) -> Verdict {
    accepted.insert(1, resolved_refs(rules));
    Verdict { parent: parent.clone(), conditions: accepted }
}

fn by_rules(attachment: &Attachment<'_>, route: &RouteRules, service: &Service) -> Vec<Condition> {
    let refused = |rule: &&ResolvedRule| !rule.refusals.is_empty();
    let dropped: Vec<&ResolvedRule> = route.rules.iter().filter(refused).collect();
    let Some(reason) = reason(&dropped) else {
        return vec![accepted(attachment, service)];
    };
    // "If all Route Rules in a Route are invalid, the entire Route would be considered invalid."
    if dropped.len() == route.rules.len() {
        let message = dropped.iter().flat_map(|rule| &rule.refusals).map(told);
        let message = message.collect::<Vec<_>>().join("; ");
        return vec![not_accepted(reason, format!("no rule can be used: {message}"))];
    }
    // "The message for this condition MUST start with the prefix "Dropped Rule" and include
    // information about which Rules have been dropped. In this state, the "Accepted" condition MUST
    // be set to "True"".
    let message = dropped.iter().map(|rule| dropped_rule(rule)).collect::<Vec<_>>().join("; ");
    vec![
        accepted(attachment, service),
        condition(ConditionType::PartiallyInvalid, true, reason, message),
    ]
}

fn accepted(attachment: &Attachment<'_>, service: &Service) -> Condition {
    let held: Vec<usize> = attachment.held().collect();
    let mut message = format!("attached to {} of Service {}", ports(&held, service), service.name);
    if !attachment.lost.is_empty() {
        message = format!("{message}; {}", held_by_others(&attachment.lost, service));
    }
    // "GAMMA implementations SHOULD NOT infer any functionality from the hostnames field" (GEP-1294).
    // Those of a TLSRoute are its matches.
    if attachment.route.kind != RouteKind::Tls && !attachment.route.hostnames.is_empty() {
        message.push_str("; spec.hostnames says nothing here: match the header Host instead");
    }
    for (port, older) in &attachment.shadowed {
        let ports = ports(&[*port], service);
        message = format!("{message}; {older} comes first and takes the connections to {ports}");
    }
    condition(ConditionType::Accepted, true, Reason::Accepted, message)
}

fn resolved_refs(route: &RouteRules) -> Condition {
    let backends = route.rules.iter().flat_map(|rule| &rule.backends);
    let problems: Vec<&BackendProblem> =
        backends.filter_map(|it| it.target.as_ref().err()).chain(&route.mirrors).collect();
    match problems.first() {
        None => {
            let message = "all references resolve".to_owned();
            condition(ConditionType::ResolvedRefs, true, Reason::ResolvedRefs, message)
        }
        Some(first) => {
            let messages: Vec<&str> = problems.iter().map(|it| it.message.as_str()).collect();
            condition(ConditionType::ResolvedRefs, false, first.reason, messages.join("; "))
        }
    }
}

fn reason(dropped: &[&ResolvedRule]) -> Option<Reason> {
    // A value that is not supported outweighs filters that do not fit together.
    let reasons = dropped.iter().flat_map(|rule| &rule.refusals).map(|refusal| refusal.reason);
    reasons.min().map(|reason| match reason {
        RefusalReason::UnsupportedValue => Reason::UnsupportedValue,
        RefusalReason::IncompatibleFilters => Reason::IncompatibleFilters,
    })
}

fn dropped_rule(rule: &ResolvedRule) -> String {
    let name = rule.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    let causes = rule.refusals.iter().map(told).collect::<Vec<_>>().join(", ");
    format!("Dropped Rule spec.rules[{}]{name}: {causes}", rule.index)
}

fn told(refusal: &Refusal) -> String {
    format!("{}: {}", refusal.field, refusal.message)
}

fn held_by_others(lost: &[(usize, RouteKind)], service: &Service) -> String {
    let mut by_holder: BTreeMap<RouteKind, Vec<usize>> = BTreeMap::new();
    for (port, holder) in lost {
        by_holder.entry(*holder).or_default().push(*port);
    }
    let held = by_holder.iter().rev().map(|(holder, lost)| {
        let article = if *holder == RouteKind::Http { "an" } else { "a" };
        format!("{article} {holder} in this route's namespace holds {}", ports(lost, service))
    });
    held.collect::<Vec<_>>().join("; ")
}

fn ports(indices: &[usize], service: &Service) -> String {
    let numbers: Vec<String> =
        indices.iter().map(|index| service.ports[*index].port.to_string()).collect();
    let plural = if numbers.len() == 1 { "" } else { "s" };
    format!("port{plural} {}", numbers.join(", "))
}

fn not_accepted(reason: Reason, message: String) -> Condition {
    condition(ConditionType::Accepted, false, reason, message)
}

fn condition(kind: ConditionType, status: bool, reason: Reason, mut message: String) -> Condition {
    if message.len() > MAX_MESSAGE {
        let end = (0..=MAX_MESSAGE - '…'.len_utf8()).rev().find(|at| message.is_char_boundary(*at));
        message.truncate(end.unwrap_or_default());
        message.push('…');
    }
    Condition { kind, status, reason, message }
}
