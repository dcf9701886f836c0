//! XBackendTrafficPolicies: what they say of a backend's traffic, and which of them holds.
//!
//! The proxy takes the constraints from [`resolve`], the controller the verdicts: one pass for both,
//! so that status cannot disagree with traffic.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use crate::condition::{Condition, ConditionType, Reason};
use crate::object::{Kind, NamespacedName, ObjectKey, Objects};
use crate::precedence::RouteOrder;
use crate::route::Refusal;

/// An XBackendTrafficPolicy. The kind is experimental: a cluster may well not have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendTrafficPolicy {
    /// Namespace and name.
    pub name: NamespacedName,
    /// `metadata.creationTimestamp`, as [`Route::created`](crate::route::Route::created).
    pub created: i64,
    /// `spec.targetRefs`, in their order; those that cannot be read are in `refusals`.
    pub targets: Vec<PolicyTarget>,
    /// `spec.retryConstraint`
    pub retries: Option<RetryConstraint>,
    /// Why the policy does not hold: each a field that cannot be read or that Weft does not implement.
    pub refusals: Vec<Refusal>,
}

/// What a policy applies to, in its own namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyTarget {
    /// API group; empty for core.
    pub group: String,
    /// Kind; only Service can be a target.
    pub kind: String,
    /// Name.
    pub name: String,
}

/// How many retries a backend may get (`retryConstraint`): a share of its requests, and at least a
/// rate. The default is what the API gives where a policy names nothing, and what Weft applies where
/// there is no policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryConstraint {
    /// `budget.percent`, 0 to 100: how many of the backend's requests, retries included, may be
    /// retries.
    pub percent: u32,
    /// `budget.interval`: over the requests of how much time; 1 s to 1 h.
    pub interval: Duration,
    /// `minRetryRate.count`: so many retries are allowed in each `rate_interval` whatever the share.
    pub rate_count: u32,
    /// `minRetryRate.interval`, more than 0 and up to 1 h.
    pub rate_interval: Duration,
}

/// Which constraints hold, and what every policy deserves.
#[derive(Clone, Debug, Default)]
pub struct ResolvedPolicies {
    /// By Service, of all its ports; what is missing has the default.
    pub retries: BTreeMap<NamespacedName, RetryConstraint>,
    /// For every policy a verdict per target, in the targets' order.
    pub verdicts: BTreeMap<ObjectKey, Vec<PolicyVerdict>>,
}

/// What a policy deserves for one of its targets: an entry of `status.ancestors`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyVerdict {
    /// The target, as the spec has it.
    pub target: PolicyTarget,
    /// Accepted.
    pub condition: Condition,
}

impl Default for RetryConstraint {
    /// "default={percent: 20, interval: \"10s\"}" and "default={count: 10, interval: \"1s\"}".
    fn default() -> Self {
        Self {
            percent: 20,
            interval: Duration::from_secs(10),
            rate_count: 10,
            rate_interval: Duration::from_secs(1),
        }
    }
}

impl BackendTrafficPolicy {
    /// Kind, namespace and name.
    pub fn key(&self) -> ObjectKey {
        let NamespacedName { namespace, name } = self.name.clone();
        ObjectKey { kind: Kind::BackendTrafficPolicy, namespace, name }
    }
}

impl PolicyTarget {
    /// The Service in the policy's namespace, if it is one.
    pub fn service(&self, namespace: &str) -> Option<NamespacedName> {
        let is_service = self.group.is_empty() && self.kind == "Service";
        let name = || NamespacedName { namespace: namespace.to_owned(), name: self.name.clone() };
        is_service.then(name)
    }
}

/// Finds the policy that holds for each Service: of several the oldest, and of those of one age the
/// first by name. One that cannot be honoured holds for nobody, and takes nothing from the others.
pub fn resolve(objects: &Objects) -> ResolvedPolicies {
    let mut resolved = ResolvedPolicies::default();
    let mut policies: Vec<&Arc<BackendTrafficPolicy>> = objects.policies.values().collect();
    policies.sort_by_key(|policy| RouteOrder::of_policy(policy));
    let mut holders: BTreeMap<NamespacedName, &NamespacedName> = BTreeMap::new();
    for policy in policies {
        let mut verdicts: Vec<PolicyVerdict> = Vec::with_capacity(policy.targets.len());
        for target in &policy.targets {
            // The same target twice is one entry of the status.
            if verdicts.iter().any(|verdict| verdict.target == *target) {
                continue;
            }
            let condition = match claim(policy, target, objects, &mut holders) {
                Ok(service) => {
                    resolved.retries.insert(service, policy.retries.unwrap_or_default());
                    condition(Reason::Accepted, "the policy holds".to_owned())
                }
                Err((reason, message)) => condition(reason, message),
            };
            verdicts.push(PolicyVerdict { target: target.clone(), condition });
        }
        resolved.verdicts.insert(policy.key(), verdicts);
    }
    resolved
}

/// The Service for which the policy holds, or why it does not hold for its target.
fn claim<'a>(
    policy: &'a BackendTrafficPolicy,
    target: &PolicyTarget,
    objects: &Objects,
    holders: &mut BTreeMap<NamespacedName, &'a NamespacedName>,
) -> Result<NamespacedName, (Reason, String)> {
    if !policy.refusals.is_empty() {
        let told = |refusal: &Refusal| format!("{}: {}", refusal.field, refusal.message);
        let messages: Vec<String> = policy.refusals.iter().map(told).collect();
        return Err((Reason::Invalid, messages.join("; ")));
    }
    let Some(service) = target.service(&policy.name.namespace) else {
        let PolicyTarget { group, kind, .. } = target;
        let message = format!("{kind} of group {group:?} cannot be a target; only a Service can");
        return Err((Reason::Invalid, message));
    };
    if !objects.services.contains_key(&service) {
        let message = format!("there is no Service {service}");
        return Err((Reason::TargetNotFound, message));
    }
    match holders.entry(service) {
        Entry::Occupied(held) => {
            let message = format!("{}, which comes first, holds for {}", held.get(), held.key());
            Err((Reason::PolicyConflicted, message))
        }
        Entry::Vacant(free) => {
            let service = free.key().clone();
            free.insert(&policy.name);
            Ok(service)
        }
    }
}

fn condition(reason: Reason, message: String) -> Condition {
    let status = reason == Reason::Accepted;
    Condition { kind: ConditionType::Accepted, status, reason, message }
}

#[cfg(test)]
mod tests;
