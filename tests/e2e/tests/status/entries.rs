//! Whose entries are in `status.parents`: those of other controllers stay as they are.

use anyhow::{Context, Result, ensure};
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use weft_e2e::{Namespace, PATIENCE, Parent, documents, eventually, parents, run, verdict};

const SERVICES: &str = "\
{apiVersion: v1, kind: Service, metadata: {name: one}, spec: {ports: [{name: http, port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: two}, spec: {ports: [{name: http, port: 80}]}}
";

const GOOD: &str = "Accepted=True Accepted, ResolvedRefs=True ResolvedRefs";

/// A route with these parentRefs.
fn route(parents: &str) -> Result<Value> {
    let yaml = format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {{name: route}}, spec: {{parentRefs: [{parents}], rules: [{{backendRefs: [{{name: one, port: 80}}]}}]}}}}"
    );
    Ok(documents(&yaml)?.remove(0))
}

/// The route once Weft's entries are of its newest generation and for so many parents.
async fn settled(namespace: &Namespace, entries: usize) -> Result<(DynamicObject, Vec<Parent>)> {
    eventually(PATIENCE, &format!("{entries} entries of the newest generation"), async || {
        let route = namespace.get("HTTPRoute", "route").await?;
        let (parents, generation) = (parents(&route), route.metadata.generation);
        ensure!(parents.len() == entries, "{}", route.data["status"]);
        let conditions = parents.iter().flat_map(|parent| &parent.conditions);
        for condition in conditions {
            ensure!(Some(condition.observed_generation) == generation, "{}", route.data["status"]);
        }
        Ok((route, parents))
    })
    .await
}

#[test]
fn an_entry_goes_with_its_parent_ref() {
    run("stale", async |cluster| {
        let shop = cluster.namespace_with("shop", &[]).await?;
        shop.apply(SERVICES).await?;
        let one = "{group: '', kind: Service, name: one, port: 80}";
        // A Gateway's entry is its controller's to write.
        let gateway = "{name: gateway}";
        let two = "{group: '', kind: Service, name: two, port: 80}";
        shop.apply_value(route(&format!("{one}, {gateway}, {two}"))?).await?;
        let (_, entries) = settled(&shop, 2).await?;
        let names: Vec<&Value> = entries.iter().map(|entry| &entry.parent_ref["name"]).collect();
        ensure!(names == ["one", "two"], "{names:?}");

        shop.apply_value(route(two)?).await?;
        let (route_now, entries) = settled(&shop, 1).await?;
        ensure!(entries[0].parent_ref["name"] == "two", "{entries:?}");
        ensure!(verdict(&route_now) == GOOD, "{}", verdict(&route_now));

        // Without a Service among its parents it is none of Weft's business.
        shop.apply_value(route(gateway)?).await?;
        settled(&shop, 0).await?;
        Ok(())
    });
}

#[test]
fn what_others_have_written_stays() {
    run("foreign", async |cluster| {
        let shop = cluster.namespace_with("shop", &[]).await?;
        shop.apply(SERVICES).await?;
        let one = "{group: '', kind: Service, name: one, port: 80}";
        shop.apply_value(route(one)?).await?;
        let (now, _) = settled(&shop, 1).await?;

        // Another controller's entry for the same parentRef.
        let foreign = json!({
            "parentRef": { "group": "", "kind": "Service", "name": "one", "port": 80 },
            "controllerName": "example.org/other-mesh",
            "conditions": [{
                "type": "Accepted", "status": "False", "reason": "Busy", "message": "not now",
                "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z",
            }],
        });
        let mut entries = now.data["status"]["parents"].clone();
        let list = entries.as_array_mut().context("a list")?;
        list.insert(0, foreign.clone());
        let patch = Patch::Merge(json!({ "status": { "parents": entries } }));
        let api = shop.dynamic("HTTPRoute")?;
        api.patch_status("route", &PatchParams::default(), &patch).await?;

        // An edit that changes what we have to say.
        shop.apply_value(route("{group: '', kind: Service, name: one, port: 81}")?).await?;
        shop.apply_value(route("{group: '', kind: Service, name: two, port: 80}, {group: '', kind: Service, name: one, port: 80}")?).await?;
        let (now, ours) = settled(&shop, 2).await?;
        let entries = now.data["status"]["parents"].as_array().context("a list")?;
        ensure!(entries.contains(&foreign), "the other's entry was touched: {entries:?}");
        ensure!(entries.len() == 3, "{entries:?}");
        ensure!(ours.iter().all(|entry| entry.conditions.len() == 2), "{ours:?}");
        Ok(())
    });
}

#[test]
fn a_condition_of_another_type_in_our_entry_stays() {
    run("condition", async |cluster| {
        let shop = cluster.namespace_with("shop", &[]).await?;
        shop.apply(SERVICES).await?;
        shop.apply_value(route("{group: '', kind: Service, name: one, port: 80}")?).await?;
        let (now, _) = settled(&shop, 1).await?;
        let extra = json!({
            "type": "example.org/Audited", "status": "True", "reason": "Seen", "message": "by a human",
            "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        let mut entries = now.data["status"]["parents"].clone();
        let conditions = entries[0]["conditions"].as_array_mut().context("a list")?;
        conditions.push(extra.clone());
        let patch = Patch::Merge(json!({ "status": { "parents": entries } }));
        let api = shop.dynamic("HTTPRoute")?;
        api.patch_status("route", &PatchParams::default(), &patch).await?;

        // What our conditions say changes with the Service, not with the route.
        shop.apply("{apiVersion: v1, kind: Service, metadata: {name: one}, spec: {ports: [{name: http, port: 81}]}}").await?;
        eventually(PATIENCE, "the port to be missed", async || {
            let route = shop.get("HTTPRoute", "route").await?;
            let text = route.data["status"].to_string();
            ensure!(text.contains("NoMatchingParent"), "{text}");
            let conditions = route.data["status"]["parents"][0]["conditions"].clone();
            let conditions = conditions.as_array().context("a list")?;
            ensure!(conditions.contains(&extra), "it was touched: {text}");
            Ok(())
        })
        .await
    });
}
