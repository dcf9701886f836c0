//! What each account may in the API.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weft_security::table;

use super::{SETTINGS, documented, of_kind, render};

/// A rule, for an account: who, where, API group, resources, names, verbs.
type Rule = (String, String, String, BTreeSet<String>, BTreeSet<String>, BTreeSet<String>);

fn rules_of_document() -> Result<BTreeSet<Rule>> {
    let set = |cell: &str| table::list(cell).into_iter().collect();
    let rows = documented("## Accounts")?.into_iter();
    let rules = rows.map(|[account, place, group, resources, names, verbs, _]| {
        (account, place, group, set(&resources), set(&names), set(&verbs))
    });
    Ok(rules.collect())
}

fn words(value: &Value) -> BTreeSet<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The rules of all roles, for those that they are bound to.
fn rules_of_chart(objects: &[Value]) -> Result<BTreeSet<Rule>> {
    let mut roles: BTreeMap<(&str, String), &Value> = BTreeMap::new();
    for kind in ["ClusterRole", "Role"] {
        for role in of_kind(objects, kind) {
            roles.insert((kind, role["metadata"]["name"].to_string()), &role["rules"]);
        }
    }
    let mut rules = BTreeSet::new();
    for (kind, role_kind) in [("ClusterRoleBinding", "ClusterRole"), ("RoleBinding", "Role")] {
        for binding in of_kind(objects, kind) {
            let role = &binding["roleRef"];
            ensure!(role["kind"] == role_kind, "{binding:#}");
            let bound = roles.remove(&(role_kind, role["name"].to_string()));
            let bound = bound.with_context(|| format!("no such role, or bound twice: {role}"))?;
            let namespace = binding["metadata"]["namespace"].as_str().unwrap_or("cluster");
            let subjects = binding["subjects"].as_array().context("no subjects")?;
            for subject in subjects {
                let account = subject["name"].as_str().context("a subject without a name")?;
                for rule in bound.as_array().context("a role without rules")? {
                    let [group] = words(&rule["apiGroups"])
                        .into_iter()
                        .collect::<Vec<_>>()
                        .try_into()
                        .map_err(|groups| anyhow::anyhow!("one group a rule: {groups:?}"))?;
                    let group = if group.is_empty() { "\"\"".to_owned() } else { group };
                    ensure!(rule["nonResourceURLs"].is_null(), "{rule}");
                    rules.insert((
                        account.to_owned(),
                        namespace.to_owned(),
                        group,
                        words(&rule["resources"]),
                        words(&rule["resourceNames"]),
                        words(&rule["verbs"]),
                    ));
                }
            }
        }
    }
    ensure!(roles.is_empty(), "bound to nobody: {:?}", roles.keys());
    Ok(rules)
}

#[test]
fn accounts_may_what_is_documented() -> Result<()> {
    let documented = rules_of_document()?;
    let rendered = rules_of_chart(&render(&[])?)?;
    let more: Vec<&Rule> = rendered.difference(&documented).collect();
    let less: Vec<&Rule> = documented.difference(&rendered).collect();
    ensure!(more.is_empty(), "the chart has rules that docs/privileges.md has not: {more:#?}");
    ensure!(less.is_empty(), "docs/privileges.md has rules that the chart has not: {less:#?}");
    Ok(())
}

#[test]
fn no_value_of_the_chart_gives_more() -> Result<()> {
    let documented = rules_of_document()?;
    for settings in SETTINGS {
        for mut rule in rules_of_chart(&render(settings)?)? {
            // In place of all accounts, those of some namespaces.
            if rule.0.starts_with("system:serviceaccounts:") {
                rule.0 = "system:serviceaccounts".to_owned();
            }
            ensure!(documented.contains(&rule), "{settings:?}: {rule:?}");
        }
    }
    Ok(())
}

#[test]
fn nobody_may_everything_or_more_than_itself() -> Result<()> {
    for (account, _, _, resources, names, verbs) in rules_of_chart(&render(&[])?)? {
        for words in [&resources, &verbs] {
            ensure!(!words.contains("*"), "{account}: {words:?}");
        }
        let escalating = ["escalate", "bind", "impersonate", "delete", "deletecollection"];
        ensure!(!verbs.iter().any(|it| escalating.contains(&it.as_str())), "{account}: {verbs:?}");
        let secret = resources.iter().any(|it| it.starts_with("secrets"));
        ensure!(!secret || !names.is_empty(), "{account} may {verbs:?} all Secrets");
    }
    Ok(())
}
