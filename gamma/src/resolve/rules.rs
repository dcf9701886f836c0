//! The rules of a route as they apply to one parent. [`crate::resolve`] calls it.

use std::sync::Arc;

use super::{BackendProblem, ResolvedBackend, ResolvedRule, Settings};
use crate::object::Objects;
use crate::reference::{BackendRef, Referrer, backend_port};
use crate::route::{Filter, Refusal, RefusalReason, Route, Rule, Timeouts};
use crate::support::Implemented;

/// The rules of a route as they apply to one parent.
pub(super) struct RouteRules {
    /// The rules.
    pub(super) rules: Vec<ResolvedRule>,
    /// The references of mirrors that do not resolve. Such a mirror is left out of its rule's
    /// filters: the API lets the request itself go on.
    pub(super) mirrors: Vec<BackendProblem>,
}

/// Resolves the rules of `route` for a parent in `parent_namespace`.
pub(super) fn resolve(
    route: &Route,
    parent_namespace: &str,
    objects: &Objects,
    settings: &Settings,
) -> RouteRules {
    let namespace = &route.key.namespace;
    let referrer = Referrer { kind: route.kind, namespace, parent_namespace };
    let target =
        |backend: &BackendRef| backend_port(backend, referrer, objects, settings.cross_namespace);
    let mut mirrors = Vec::new();
    let mut filters = |filters: &[Filter]| -> Arc<[Filter]> {
        let resolves = |filter: &&Filter| match filter {
            Filter::Mirror(mirror) => match target(&mirror.backend) {
                Ok(_) => true,
                Err(problem) => {
                    mirrors.push(problem);
                    false
                }
            },
            _ => true,
        };
        filters.iter().filter(resolves).cloned().collect()
    };
    let mut rules = Vec::with_capacity(route.rules.len());
    for (index, rule) in route.rules.iter().enumerate() {
        let mut refusals = rule.refusals.clone();
        refusals.extend(unimplemented(rule, index, settings.implemented));
        let filters_of_rule = filters(&rule.filters);
        let backends = rule.backends.iter().map(|backend| ResolvedBackend {
            weight: backend.weight,
            filters: filters(&backend.filters),
            service: backend.service(namespace),
            port: backend.port.unwrap_or_default(),
            target: target(backend),
        });
        let backends: Vec<_> = backends.collect();
        if rule.session.is_some() {
            refusals.extend(two_affinities(&backends, index, objects));
        }
        rules.push(ResolvedRule {
            route: route.key.clone(),
            index,
            name: rule.name.clone(),
            matches: rule.matches.iter().cloned().collect(),
            filters: filters_of_rule,
            timeouts: rule.timeouts,
            retry: rule.retry.clone(),
            session: rule.session.clone(),
            sticky_split: route.sticky_split.clone(),
            backends,
            refusals,
        });
    }
    RouteRules { rules, mirrors }
}

/// What the rule says and the proxy does not do yet. Parsed and ignored would be the worst of all.
fn unimplemented(rule: &Rule, index: usize, implemented: Implemented) -> Vec<Refusal> {
    let at = format!("spec.rules[{index}]");
    let mut refusals = Vec::new();
    let mut refuse = |field: String, what: &str| {
        refusals.push(Refusal {
            reason: RefusalReason::UnsupportedValue,
            field,
            message: format!("{what} is not implemented; remove it"),
        });
    };
    let lists = rule.backends.iter().map(|it| (format!("{}.filters", it.field), &it.filters));
    for (at, filters) in std::iter::once((format!("{at}.filters"), &rule.filters)).chain(lists) {
        for (index, filter) in filters.iter().enumerate() {
            // Filters that cannot be read are missing from the list, and so its indices are those
            // of the route only while nothing is missing.
            let field =
                if rule.refusals.is_empty() { format!("{at}[{index}]") } else { at.clone() };
            match filter {
                Filter::Mirror(_) if !implemented.mirror => refuse(field, "RequestMirror"),
                Filter::Cors(_) if !implemented.cors => refuse(field, "CORS"),
                _ => {}
            }
        }
    }
    if rule.timeouts != Timeouts::default() && !implemented.timeouts {
        refuse(format!("{at}.timeouts"), "timeouts");
    }
    if rule.retry.is_some() && !implemented.retry {
        refuse(format!("{at}.retry"), "retry");
    }
    refusals
}

/// "In these cases where both Kubernetes service session affinity and Gateway API session persistence
/// are both enabled, the route MUST be rejected, and a status should be set describing the
/// incompatibility of these two configurations" (GEP-1619).
fn two_affinities(
    backends: &[ResolvedBackend],
    index: usize,
    objects: &Objects,
) -> Option<Refusal> {
    let mut services = backends.iter().filter(|it| it.target.is_ok()).map(|it| &it.service);
    let both = services.find(|name| {
        objects.services.get(name).is_some_and(|service| service.client_affinity.is_some())
    })?;
    Some(Refusal {
        reason: RefusalReason::UnsupportedValue,
        field: format!("spec.rules[{index}].sessionPersistence"),
        message: format!(
            "Service {both} has sessionAffinity: ClientIP, which says something else; remove one of \
             the two"
        ),
    })
}
