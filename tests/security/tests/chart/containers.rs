//! Each container's privileges: those of the chart as rendered, and those that the injector adds to
//! pods, whose own tests hold its patch against `injected.json`.

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use weft_security::{checkout, table};

use super::{SETTINGS, documented, of_kind, render};

/// Below it stands what each container may.
const HEADING: &str = "## Containers";

/// What a container may, and nothing besides.
fn context(user: u64, capabilities: &[String]) -> Value {
    let mut context = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": true,
        "runAsGroup": user,
        "runAsNonRoot": user != 0,
        "runAsUser": user,
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    if !capabilities.is_empty() {
        context["capabilities"]["add"] = json!(capabilities);
    }
    context
}

/// What a container is given, in its own context and its pod's, which its own overrides.
fn given(pod: &Value, container: &Value) -> Value {
    let mut given = Map::new();
    for context in [&pod["securityContext"], &container["securityContext"]] {
        given.extend(context.as_object().cloned().unwrap_or_default());
    }
    // The default, which the injector writes out.
    if given.get("privileged") == Some(&json!(false)) {
        given.remove("privileged");
    }
    Value::Object(given)
}

/// The documented context of a container, and what it says of tokens and memory.
fn of_document(name: &str) -> Result<(Value, String, String)> {
    for [container, user, capabilities, token, memory, _] in documented(HEADING)? {
        if container == name {
            let user = user.parse().with_context(|| format!("{container}: user {user}"))?;
            return Ok((context(user, &table::list(&capabilities)), token, memory));
        }
    }
    anyhow::bail!("docs/privileges.md has no container {name}")
}

fn check(pod: &Value, container: &Value) -> Result<String> {
    let name = container["name"].as_str().context("a container without a name")?;
    let (context, token, memory) = of_document(name)?;
    let given = given(pod, container);
    ensure!(given == context, "{name}: {given:#}\ndocumented: {context:#}");
    let mounts = container["volumeMounts"].as_array().into_iter().flatten();
    let own = mounts.into_iter().any(|it| it["name"] == "weft-api-access");
    let has = own || pod["automountServiceAccountToken"] == true;
    ensure!((token == "yes") == has, "{name}: a token: {has}; documented: {token}");
    let resources = &container["resources"];
    for amount in ["/requests/cpu", "/requests/memory"] {
        ensure!(resources.pointer(amount).is_some(), "{name}: {amount} is not set");
    }
    ensure!(resources["limits"]["memory"] == memory, "{name}: {resources}, not {memory}");
    Ok(name.to_owned())
}

#[test]
fn the_control_plane_may_what_is_documented() -> Result<()> {
    for settings in SETTINGS {
        let objects = render(settings)?;
        let mut names = Vec::new();
        for deployment in of_kind(&objects, "Deployment") {
            let pod = &deployment["spec"]["template"]["spec"];
            // Nothing of the node, and no files but the image's.
            for field in ["hostNetwork", "hostPID", "hostIPC", "volumes", "initContainers"] {
                ensure!(pod[field].is_null(), "{field} is set in {pod:#}");
            }
            for container in pod["containers"].as_array().context("no containers")? {
                names.push(check(pod, container)?);
            }
        }
        names.sort();
        ensure!(names == ["controller", "injector"], "{settings:?}: {names:?}");
        for account in of_kind(&objects, "ServiceAccount") {
            ensure!(account["automountServiceAccountToken"] == false, "{account:#}");
        }
        for kind in ["Pod", "DaemonSet", "StatefulSet", "Job", "CronJob"] {
            ensure!(of_kind(&objects, kind).next().is_none(), "{kind}: add it to this test");
        }
    }
    Ok(())
}

#[test]
fn injected_containers_may_what_is_documented() -> Result<()> {
    let path = checkout().join("injector/src/pod/tests/injected.json");
    let pod: Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    let containers = pod["spec"]["initContainers"].as_array().context("no init containers")?;
    let names: Vec<String> =
        containers.iter().map(|it| check(&pod["spec"], it)).collect::<Result<_>>()?;
    ensure!(names == ["weft-init", "weft-proxy"], "{names:?}");
    let rows = documented::<6>(HEADING)?.len();
    ensure!(rows == 4, "{rows} containers are documented, and there are 4");
    Ok(())
}
