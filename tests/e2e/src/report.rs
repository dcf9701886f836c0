//! What a person would look up first when a test has failed: pods, their containers, events, logs.

use std::fmt::Write;

use k8s_openapi_kube::api::core::v1 as core;
use kube::Client;
use kube::api::{Api, ListParams, LogParams};

/// A namespace's pods and warnings.
pub(crate) async fn namespace(client: &Client, namespace: &str) -> String {
    let mut text = format!("namespace {namespace}\n");
    let pods: Api<core::Pod> = Api::namespaced(client.clone(), namespace);
    let list = match pods.list(&ListParams::default()).await {
        Ok(list) => list.items,
        Err(error) => return text + &format!("  its pods cannot be read: {error}\n"),
    };
    for object in list {
        let _ = writeln!(text, "{}", pod(&object));
        for container in noteworthy(&object) {
            let name = object.metadata.name.as_deref().unwrap_or_default();
            let parameters = LogParams {
                container: Some(container.clone()),
                tail_lines: Some(15),
                ..LogParams::default()
            };
            let log = pods.logs(name, &parameters).await.unwrap_or_else(|error| error.to_string());
            let log = log.trim().replace('\n', "\n      | ");
            let _ = writeln!(text, "    log of {container}:\n      | {log}");
        }
    }
    let events: Api<core::Event> = Api::namespaced(client.clone(), namespace);
    let warnings = ListParams::default().fields("type=Warning");
    for event in events.list(&warnings).await.map(|list| list.items).unwrap_or_default() {
        let object = event.involved_object;
        let (kind, name) = (object.kind.unwrap_or_default(), object.name.unwrap_or_default());
        let (reason, message) =
            (event.reason.unwrap_or_default(), event.message.unwrap_or_default());
        let _ = writeln!(text, "  warning about {kind} {name}: {reason}: {message}");
    }
    text
}

/// A pod in a few lines: its phase, the conditions that are not met, its containers.
pub(crate) fn pod(pod: &core::Pod) -> String {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let Some(status) = &pod.status else { return format!("  pod {name}: no status yet") };
    let mut text = format!("  pod {name}: {}", status.phase.as_deref().unwrap_or("no phase"));
    for condition in status.conditions.iter().flatten().filter(|one| one.status != "True") {
        let message = condition.message.as_deref().or(condition.reason.as_deref());
        let _ = write!(text, "; not {}: {}", condition.type_, message.unwrap_or("?"));
    }
    for container in containers(pod) {
        let state = container.state.clone().unwrap_or_default();
        let words = if let Some(waiting) = state.waiting {
            let message = waiting.message.unwrap_or_default();
            format!("waits: {} {message}", waiting.reason.unwrap_or_default())
        } else if let Some(ended) = state.terminated {
            let message = ended.message.unwrap_or_default();
            format!("ended with {}: {}", ended.exit_code, message.trim())
        } else if container.ready {
            "ready".to_owned()
        } else {
            "runs, not ready".to_owned()
        };
        let restarts = match container.restart_count {
            0 => String::new(),
            count => format!(" ({count} restarts)"),
        };
        let _ = write!(text, "\n    {}: {words}{restarts}", container.name);
    }
    text
}

/// Containers whose logs may tell the cause: the sidecar's, and those that are not well.
fn noteworthy(pod: &core::Pod) -> Vec<String> {
    let has_log = |one: &core::ContainerStatus| {
        let state = one.state.clone().unwrap_or_default();
        let started = state.running.is_some() || state.terminated.is_some();
        let well = one.ready || state.terminated.is_some_and(|ended| ended.exit_code == 0);
        started && (!well || one.restart_count > 0 || one.name == "weft-proxy")
    };
    containers(pod).filter(|one| has_log(one)).map(|one| one.name.clone()).collect()
}

fn containers(pod: &core::Pod) -> impl Iterator<Item = &core::ContainerStatus> {
    let status = pod.status.iter();
    status.flat_map(|status| {
        let init = status.init_container_statuses.iter().flatten();
        init.chain(status.container_statuses.iter().flatten())
    })
}
