//! Beginnings and ends: init containers, Jobs, and applications that send to the last.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::{Value, json};
use weft_e2e::{Client, PATIENCE, eventually, run};

use crate::reviews_to_v2;

/// Prints the status and the version of one answer.
const ASK: &str = "curl -s -o /dev/null -w '%{http_code} %header{x-version}\\n' http://reviews/";

fn container(name: &str, script: &str) -> Value {
    let client = Client::default().object();
    let mut container = client["spec"]["containers"][0].clone();
    container["name"] = json!(name);
    container["command"] = json!(["sh", "-c", script]);
    container
}

#[test]
fn a_pods_own_init_containers_are_routed() {
    run("init", async |cluster| {
        let shop = reviews_to_v2(cluster).await?;
        let mut pod = Client::default().object();
        let script = format!("set -e; {ASK}; {ASK}; {ASK}; {ASK}");
        pod["spec"]["initContainers"] =
            json!([container("first", &script), container("second", &script)]);
        shop.create(pod).await?;
        let pod = shop.pod("client");
        pod.ready().await?;
        for name in ["first", "second"] {
            let log = pod.container(name).logs().await?;
            ensure!(log == "200 v2\n".repeat(4), "{name}: {log}");
        }
        Ok(())
    });
}

fn job(name: &str, script: &str) -> Value {
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": { "name": name },
        "spec": {
            "backoffLimit": 0,
            "template": {
                "spec": { "restartPolicy": "Never", "containers": [container("work", script)] },
            },
        },
    })
}

#[test]
fn jobs_come_to_their_end() {
    run("jobs", async |cluster| {
        let shop = reviews_to_v2(cluster).await?;
        shop.apply_value(job("good", &format!("set -e; {ASK}; {ASK}"))).await?;
        shop.apply_value(job("bad", &format!("{ASK}; exit 3"))).await?;
        for (name, field, phase, log) in [
            ("good", "succeeded", "Succeeded", "200 v2\n200 v2\n"),
            ("bad", "failed", "Failed", "200 v2\n"),
        ] {
            eventually(PATIENCE, &format!("the end of Job {name}"), async || {
                let status = shop.get("Job", name).await?.data["status"].clone();
                ensure!(status[field] == 1, "{status}");
                Ok(())
            })
            .await?;
            let pod = shop.pods(&format!("job-name={name}")).await?.remove(0);
            let pod = shop.pod(&pod.metadata.name.unwrap_or_default());
            ensure!(pod.is_injected().await?, "{name} has no sidecar");
            pod.reaches(phase).await?;
            ensure!(pod.logs().await? == log, "{name}: {}", pod.logs().await?);
        }
        Ok(())
    });
}

/// The application's last requests: in its preStop hook, and for seconds after SIGTERM.
#[test]
fn an_application_that_shuts_down_still_sends() {
    run("shutdown", async |cluster| {
        let shop = reviews_to_v2(cluster).await?;
        let last = format!("for n in 1 2 3 4 5 6 7 8 9 10; do {ASK}; sleep 0.3; done");
        let script = format!(
            "trap 'cat /tmp/hook; {}; echo bye; exit 0' TERM; {ASK}; while :; do sleep 0.1; done",
            last.replace('\'', "\"")
        );
        let mut pod = Client::default().object();
        pod["spec"]["terminationGracePeriodSeconds"] = json!(60);
        pod["spec"]["containers"][0] = container("client", &script);
        let hook = format!("for n in 1 2 3 4 5; do {ASK}; sleep 0.3; done >/tmp/hook");
        pod["spec"]["containers"][0]["lifecycle"] =
            json!({ "preStop": { "exec": { "command": ["sh", "-c", hook] } } });
        shop.create(pod).await?;
        let pod = shop.pod("client");
        pod.ready().await?;
        eventually(PATIENCE, "the first request", async || {
            let log = pod.container("client").logs().await?;
            ensure!(log == "200 v2\n", "{log}");
            Ok(())
        })
        .await?;

        let deleted = Instant::now();
        let client = pod.container("client");
        let (log, asked) = tokio::join!(client.logs_to_the_end(), pod.delete());
        asked?;
        let log = log?;
        ensure!(log == format!("{}bye\n", "200 v2\n".repeat(1 + 5 + 10)), "{log}");
        // The sidecar ends when the application has, not when the pod's time is over.
        pod.gone().await?;
        ensure!(deleted.elapsed() < Duration::from_secs(40), "{:?}", deleted.elapsed());
        Ok(())
    });
}

/// A pod whose application ends by itself, and one that is deleted while it starts: neither hangs.
#[test]
fn a_pod_that_ends_early_ends() {
    run("early", async |cluster| {
        let shop = reviews_to_v2(cluster).await?;
        let mut pod = Client::named("short").object();
        pod["spec"]["containers"][0] = container("client", ASK);
        shop.create(pod).await?;
        shop.pod("short").reaches("Succeeded").await?;

        let mut pod = Client::named("interrupted").object();
        pod["spec"]["initContainers"] = json!([container("wait", "sleep infinity")]);
        shop.create(pod).await?;
        let pod = shop.pod("interrupted");
        eventually(PATIENCE, "its own init container", async || {
            pod.container("wait").logs().await?;
            Ok(())
        })
        .await?;
        pod.delete().await?;
        pod.gone().await?;
        Ok(())
    });
}
