//! The chart on paper: lint, values, what the API server thinks of its objects.

use anyhow::{Result, ensure};
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use weft_e2e::{documents, helm, resource_of, run};

#[test]
fn helm_lint_has_nothing_to_say() {
    run("lint", async |_| {
        let said = helm(&["run", "lint", "--strict", "charts/weft"], "").await?;
        ensure!(said.contains("1 chart(s) linted, 0 chart(s) failed"), "{said}");
        ensure!(!said.contains("[WARNING]"), "{said}");
        Ok(())
    });
}

/// Values that make no sense, and the word by which the message names each.
const NONSENSE: &[(&str, &str)] = &[
    ("injector.replicas=0", "replicas"),
    ("injector.replica=3", "replica"),
    ("injector.failurePolicy=Maybe", "failurePolicy"),
    ("injector.timeoutSeconds=31", "timeoutSeconds"),
    ("injector.serviceCidrs={10.96.0.0}", "serviceCidrs"),
    ("injector.excludedNamespaces={Not_A_Name}", "excludedNamespaces"),
    ("injector.refuseByPodSecurity=perhaps", "refuseByPodSecurity"),
    ("controller.meshName=Weft", "meshName"),
    ("controller.podReportSeconds=-1", "podReportSeconds"),
    ("proxy.drainSeconds=-1", "drainSeconds"),
    ("proxy.drainSeconds=soon", "drainSeconds"),
    ("proxy.resources.requests.cpus=1", "cpus"),
    ("proxy.logFormat=xml", "logFormat"),
    ("proxy.env[0].name=A", "env"),
    ("image.pullPolicy=Sometimes", "pullPolicy"),
    ("image.registry=", "registry"),
    ("podMonitor.interval=30", "interval"),
    ("unknown=1", "unknown"),
];

#[test]
fn nonsense_is_refused_with_its_name() {
    run("nonsense", async |_| {
        let mut accepted = Vec::new();
        for (value, word) in NONSENSE {
            let answer =
                helm(&["run", "template", "weft", "charts/weft", "--set", value], "").await;
            let refusal = answer.err().map(|error| format!("{error:#}")).unwrap_or_default();
            if !(refusal.contains("don't meet the specifications of the schema")
                && refusal.contains(word))
            {
                accepted.push(format!("{value}: {refusal}"));
            }
        }
        ensure!(accepted.is_empty(), "{}", accepted.join("\n"));
        Ok(())
    });
}

/// Settings under which other templates and other parts of them are rendered.
const SETTINGS: &[&[&str]] = &[
    &[],
    &[
        "--set",
        "networkPolicy.enabled=true",
        "--set",
        "networkPolicy.metricsFrom[0].podSelector.matchLabels.app=prometheus",
    ],
    &[
        "--set",
        "injector.podLabel=false",
        "--set",
        "injector.refuseByPodSecurity=false",
        "--set",
        "injector.serviceCidrs={10.96.0.0/16,fd66:96::/112}",
        "--set",
        "injector.replicas=1",
        "--set",
        "controller.podReportSeconds=0",
        "--set",
        "proxy.rbac.namespaces={shop,stock}",
        "--set",
        "proxy.env[0].name=WEFT_ACCESS_LOG,proxy.env[0].value=json",
        "--set",
        "image.pullSecrets={registry}",
        "--set",
        "scrapeAnnotations=false",
    ],
];

#[test]
fn the_api_server_takes_every_object() {
    run("dryrun", async |cluster| {
        for settings in SETTINGS {
            let mut words = vec!["run", "template", "weft", "charts/weft", "-n", "weft-system"];
            words.extend(*settings);
            let objects = documents(&helm(&words, "").await?)?;
            ensure!(objects.len() > 15, "only {} objects", objects.len());
            for object in objects {
                let object: DynamicObject = serde_json::from_value(object)?;
                let kind =
                    object.types.as_ref().map(|types| types.kind.clone()).unwrap_or_default();
                let resource = resource_of(&kind)?;
                let api: Api<DynamicObject> = match &object.metadata.namespace {
                    Some(name) => Api::namespaced_with(cluster.client.clone(), name, &resource),
                    None => Api::all_with(cluster.client.clone(), &resource),
                };
                let name = object.metadata.name.clone().unwrap_or_default();
                // Strict: a field that the API does not know is a mistake of the chart's.
                let parameters = PatchParams {
                    dry_run: true,
                    field_validation: Some(kube::api::ValidationDirective::Strict),
                    ..PatchParams::apply("helm").force()
                };
                let applied = api.patch(&name, &parameters, &Patch::Apply(&object)).await;
                ensure!(applied.is_ok(), "{settings:?}: {kind} {name}: {applied:?}");
            }
        }
        Result::<()>::Ok(())
    });
}
