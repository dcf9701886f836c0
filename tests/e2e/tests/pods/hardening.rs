//! What Weft's containers may do on their node, as the kernel has it; and the pod security standards.

use anyhow::{Context, Result, ensure};
use k8s_openapi_kube::api::apps::v1::Deployment;
use kube::api::Api;
use serde_json::json;
use weft_e2e::{INJECT, Pod, admit, node, run};

use crate::reviews_to_v2;

const ENFORCE: &str = "pod-security.kubernetes.io/enforce";

/// `Uid`, `CapEff` and their like of a container's process.
struct Process {
    number: u32,
    status: String,
}

impl Process {
    async fn of(pod: &Pod, container: &str) -> Result<Process> {
        let number = node::process_of(&pod.container_id(container).await?)?;
        let status = node::run(&["cat", &format!("/proc/{number}/status")])?;
        Ok(Process { number, status })
    }

    /// A line's words, with one blank between them.
    fn line(&self, name: &str) -> String {
        let mut lines = self.status.lines().filter_map(|line| line.split_once(':'));
        let value = lines.find(|(key, _)| *key == name).map(|(_, value)| value);
        value.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn has_no_privilege(&self, user: u32) -> Result<()> {
        let four = format!("{user} {user} {user} {user}");
        let nothing = "0000000000000000";
        let sets = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(|set| (set, nothing));
        // 2: by a filter.
        let others = [("Uid", &four[..]), ("Gid", &four), ("NoNewPrivs", "1"), ("Seccomp", "2")];
        for (name, expected) in sets.into_iter().chain(others) {
            ensure!(self.line(name) == expected, "{name} is {:?}", self.line(name));
        }
        Ok(())
    }

    /// Not even root can.
    fn cannot_write(&self) -> Result<()> {
        for folder in ["", "/tmp", "/usr/bin", "/etc"] {
            let file = format!("/proc/{}/root{folder}/weft-e2e", self.number);
            let refused = node::run(&["touch", &file]).err().map(|error| format!("{error:#}"));
            let refused = refused.with_context(|| format!("{folder}/ can be written to"))?;
            ensure!(refused.contains("Read-only file system"), "{refused}");
        }
        Ok(())
    }
}

#[test]
fn no_container_of_weft_has_a_privilege_while_it_runs() {
    run("privilege", async |cluster| {
        if !node::is_own() {
            println!("privilege: skipped, as the node of KUBECONFIG's cluster is not ours");
            return Ok(());
        }
        let shop = reviews_to_v2(cluster).await?;
        let client = shop.client().await?;
        let sidecar = Process::of(&client, "weft-proxy").await?;
        sidecar.has_no_privilege(65101).context("weft-proxy")?;
        sidecar.cannot_write().context("weft-proxy")?;
        // With all that it does its work.
        let answer = client.curl(&["http://reviews/"]).await?.success()?;
        ensure!(answer.contains("\"version\":\"v2\""), "{answer}");

        let system = cluster.existing("weft-system");
        for program in ["injector", "controller"] {
            let pods = system.pods(&format!("app.kubernetes.io/name=weft-{program}")).await?;
            let pod = pods.into_iter().find(|pod| pod.metadata.deletion_timestamp.is_none());
            let name = pod.and_then(|pod| pod.metadata.name).context("no pod")?;
            let process = Process::of(&system.pod(&name), program).await?;
            process.has_no_privilege(65102).context(program)?;
            process.cannot_write().context(program)?;
        }
        Ok(())
    });
}

#[test]
fn the_control_planes_pods_pass_the_restricted_standard() {
    run("restricted", async |cluster| {
        let labels = [(ENFORCE, "restricted"), (INJECT, "disabled")];
        let strict = cluster.namespace_with("strict", &labels).await?;
        let deployments: Api<Deployment> = cluster.existing("weft-system").api();
        for name in ["weft-injector", "weft-controller"] {
            let spec = deployments.get(name).await?.spec.context("no spec")?;
            let mut pod = json!({
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": { "name": name },
                "spec": spec.template.spec,
            });
            // It is not there in this namespace.
            pod["spec"].as_object_mut().context("no spec")?.remove("serviceAccountName");
            pod["spec"].as_object_mut().context("no spec")?.remove("serviceAccount");
            let admission = admit(&cluster.client, &strict.name, &pod).await?;
            ensure!(admission.pod.is_ok(), "{name}: {admission:?}");
            ensure!(admission.warnings.is_empty(), "{name}: {:?}", admission.warnings);

            // Somebody does look.
            pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] =
                json!(true);
            let refusal = admit(&cluster.client, &strict.name, &pod).await?.pod.err();
            let refusal = refusal.context("the standard is not enforced")?;
            ensure!(refusal.contains("allowPrivilegeEscalation"), "{refusal}");
        }
        Ok(())
    });
}
