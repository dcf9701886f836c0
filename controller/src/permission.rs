//! What the controller may not do is said once, by name, with the rule that is missing.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Something that needs a rule of RBAC.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// API group; empty for core.
    pub group: &'static str,
    /// Resource, with its subresource: `httproutes/status`.
    pub resource: String,
    /// What is to be done with it, as RBAC names it.
    pub verbs: &'static [&'static str],
}

/// What was refused so far. Shared by all parts of the controller.
#[derive(Debug, Default)]
pub struct Permissions {
    refused: Mutex<BTreeSet<Need>>,
}

impl Need {
    /// To list and watch a resource.
    pub fn read(group: &'static str, resource: &str) -> Need {
        Need { group, resource: resource.to_owned(), verbs: &["get", "list", "watch"] }
    }

    /// The rule, as it stands in a ClusterRole.
    fn rule(&self) -> String {
        let verbs: Vec<String> = self.verbs.iter().map(|verb| format!("{verb:?}")).collect();
        let verbs = verbs.join(", ");
        let (group, resource) = (self.group, &self.resource);
        format!("{{apiGroups: [{group:?}], resources: [{resource:?}], verbs: [{verbs}]}}")
    }
}

impl Permissions {
    /// The API server refused with 403: says so, unless it was said already.
    pub fn refused(&self, need: &Need, answer: &str) {
        if !self.remember(need) {
            return;
        }
        tracing::error!(
            rule = %need.rule(),
            %answer,
            "may not {} {}: add the rule to a role of the controller's ServiceAccount",
            need.verbs.join(", "),
            need.resource,
        );
    }

    /// It works: says so if it was refused before, and will tell the next refusal anew.
    pub fn granted(&self, need: &Need) {
        if self.lock().remove(need) {
            tracing::info!("may {} {} now", need.verbs.join(", "), need.resource);
        }
    }

    /// True when it was not refused before.
    fn remember(&self, need: &Need) -> bool {
        self.lock().insert(need.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<Need>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_reads_as_in_a_cluster_role() {
        let need = Need::read("gateway.networking.k8s.io", "httproutes");
        let rule = r#"{apiGroups: ["gateway.networking.k8s.io"], resources: ["httproutes"], verbs: ["get", "list", "watch"]}"#;
        assert_eq!(need.rule(), rule);
    }

    #[test]
    fn a_refusal_is_told_once_and_again_after_it_was_lifted() {
        let permissions = Permissions::default();
        let (routes, grants) = (Need::read("g", "routes"), Need::read("g", "grants"));
        assert!(permissions.remember(&routes));
        assert!(!permissions.remember(&routes));
        assert!(permissions.remember(&grants));
        permissions.granted(&routes);
        assert!(permissions.remember(&routes));
    }
}
