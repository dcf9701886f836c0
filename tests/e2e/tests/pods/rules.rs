//! Everything that Weft's accounts may do in the API, neither more nor less, in the API server's own
//! words.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use k8s_openapi_kube::api::authorization::v1::{
    SelfSubjectRulesReview, SelfSubjectRulesReviewSpec,
};
use kube::api::{Api, PostParams};
use weft_e2e::{Cluster, run};

const READ: &str = "get list watch";

/// Group, resources, names (empty: all), verbs.
type Rule = (&'static str, &'static str, &'static str, &'static str);

/// What the ServiceAccount of any pod may do, as the sidecar uses it.
const SIDECAR: [Rule; 4] = [
    ("", "services", "", READ),
    ("discovery.k8s.io", "endpointslices", "", READ),
    (
        "gateway.networking.k8s.io",
        "httproutes grpcroutes tlsroutes tcproutes referencegrants",
        "",
        READ,
    ),
    ("gateway.networking.x-k8s.io", "xbackendtrafficpolicies", "", READ),
];

/// What the controller may do besides, in every namespace.
const CONTROLLER: [Rule; 7] = [
    (
        "gateway.networking.k8s.io",
        "httproutes/status grpcroutes/status tlsroutes/status tcproutes/status",
        "",
        "update",
    ),
    ("gateway.networking.x-k8s.io", "xbackendtrafficpolicies/status", "", "update"),
    ("gateway.networking.x-k8s.io", "xmeshes", "", "get list watch create"),
    ("gateway.networking.x-k8s.io", "xmeshes/status", "", "update"),
    ("rbac.authorization.k8s.io", "clusterroles", "weft-controller", "get"),
    ("", "namespaces pods", "", "list"),
    ("", "events", "", "create"),
];

/// What it may do in its own.
const CONTROLLER_AT_HOME: [Rule; 1] =
    [("coordination.k8s.io", "leases", "weft-controller", "get update")];

/// What the injector may do besides, in every namespace.
const INJECTOR: [Rule; 2] = [
    (
        "admissionregistration.k8s.io",
        "mutatingwebhookconfigurations",
        "weft-injector",
        "get list watch patch",
    ),
    ("networking.k8s.io", "servicecidrs", "", READ),
];

/// What it may do in its own.
const INJECTOR_AT_HOME: [Rule; 1] =
    [("", "secrets", "weft-injector-certificate", "get list watch update")];

/// `verb resource.group name`, a line for each.
type Allowed = BTreeSet<String>;

fn expected(rules: &[&[Rule]]) -> Allowed {
    let mut allowed = Allowed::new();
    for (group, resources, names, verbs) in rules.iter().copied().flatten() {
        for resource in resources.split(' ') {
            for name in names.split(' ') {
                allowed.extend(verbs.split(' ').map(|verb| line(verb, group, resource, name)));
            }
        }
    }
    allowed
}

fn line(verb: &str, group: &str, resource: &str, name: &str) -> String {
    format!("{verb} {resource}.{group} {name}").trim_end_matches([' ', '.']).to_owned()
}

/// What a user may do in a namespace, as it would be told itself.
async fn allowed(user: &str, groups: &[&str], namespace: &str) -> Result<Allowed> {
    let mut config = kube::Config::infer().await?;
    config.auth_info.impersonate = Some(user.to_owned());
    config.auth_info.impersonate_groups =
        Some(groups.iter().map(|group| (*group).to_owned()).collect());
    let reviews: Api<SelfSubjectRulesReview> = Api::all(kube::Client::try_from(config)?);
    let spec = SelfSubjectRulesReviewSpec { namespace: Some(namespace.to_owned()) };
    let review = SelfSubjectRulesReview { spec, ..SelfSubjectRulesReview::default() };
    let status = reviews.create(&PostParams::default(), &review).await?.status;
    let status = status.context("no answer")?;
    if status.incomplete {
        // Of another authorizer than RBAC, in a cluster of the user's.
        println!("rules: not all that {user} may do can be listed: {:?}", status.evaluation_error);
    }
    let mut allowed = Allowed::new();
    for rule in status.resource_rules {
        let every = vec![String::new()];
        let names = rule.resource_names.filter(|names| !names.is_empty()).unwrap_or(every);
        for group in rule.api_groups.unwrap_or_default() {
            for resource in rule.resources.iter().flatten() {
                for name in &names {
                    let lines = rule.verbs.iter().map(|verb| line(verb, &group, resource, name));
                    allowed.extend(lines);
                }
            }
        }
    }
    Ok(allowed)
}

/// What a ServiceAccount may do beyond what everybody may who has a name.
async fn account(namespace: &str, name: &str, asked: &str) -> Result<Allowed> {
    let everybody = allowed("weft-e2e-nobody", &["system:authenticated"], asked).await?;
    let user = format!("system:serviceaccount:{namespace}:{name}");
    let own = format!("system:serviceaccounts:{namespace}");
    let groups = ["system:authenticated", "system:serviceaccounts", &own];
    Ok(&allowed(&user, &groups, asked).await? - &everybody)
}

fn compare(who: &str, namespace: &str, found: &Allowed, expected: &Allowed) -> Result<()> {
    let more: Vec<_> = found.difference(expected).collect();
    let less: Vec<_> = expected.difference(found).collect();
    ensure!(
        more.is_empty() && less.is_empty(),
        "{who} in {namespace} may also {more:#?} and may not {less:#?}"
    );
    Ok(())
}

#[test]
fn every_account_may_do_what_is_listed_and_nothing_else() {
    run("rules", async |cluster: &Cluster| {
        let shop = cluster.namespace("shop").await?;
        let (system, elsewhere) = ("weft-system", "kube-system");
        for asked in [&shop.name, elsewhere, system] {
            let sidecar = account(&shop.name, "default", asked).await?;
            compare("a sidecar", asked, &sidecar, &expected(&[&SIDECAR]))?;
            let at_home = asked == system;
            let own = |rules: &'static [Rule]| if at_home { rules } else { &[] };
            for (name, rules, home) in [
                ("weft-controller", &CONTROLLER[..], own(&CONTROLLER_AT_HOME)),
                ("weft-injector", &INJECTOR, own(&INJECTOR_AT_HOME)),
            ] {
                let found = account(system, name, asked).await?;
                // They are accounts of pods like any other.
                compare(name, asked, &found, &expected(&[&SIDECAR, rules, home]))?;
            }
        }
        Ok(())
    });
}
