//! A pod: its state, and commands in it.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi_kube::api::core::v1 as core;
use kube::api::{Api, AttachParams, DeleteParams, LogParams};
use tokio::io::AsyncReadExt;
use weft_tests::lab::Output;

use crate::report;
use crate::wait::{PATIENCE, eventually};

/// No command of a test takes longer.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);

/// A pod of a test's namespace.
#[derive(Clone)]
pub struct Pod {
    /// Its name.
    pub name: String,
    api: Api<core::Pod>,
    container: Option<String>,
}

impl Pod {
    pub(crate) fn new(api: Api<core::Pod>, name: &str) -> Pod {
        Pod { name: name.to_owned(), api, container: None }
    }

    /// The same pod, for commands and logs of another container than its first.
    #[must_use]
    pub fn container(&self, name: &str) -> Pod {
        Pod { container: Some(name.to_owned()), ..self.clone() }
    }

    /// The pod as the API server has it now.
    pub async fn object(&self) -> Result<core::Pod> {
        Ok(self.api.get(&self.name).await?)
    }

    /// Whether the sidecar stands in it.
    pub async fn is_injected(&self) -> Result<bool> {
        let spec = self.object().await?.spec.unwrap_or_default();
        let names: Vec<String> =
            spec.init_containers.unwrap_or_default().into_iter().map(|one| one.name).collect();
        let both = ["weft-init", "weft-proxy"].map(|name| names.iter().any(|one| one == name));
        ensure!(both[0] == both[1], "half of an injection: {names:?}");
        Ok(both[0])
    }

    /// What its status says of a container, the sidecar among them.
    pub async fn container_status(&self, name: &str) -> Result<core::ContainerStatus> {
        let status = self.object().await?.status.unwrap_or_default();
        let lists = [status.init_container_statuses, status.container_statuses];
        let mut all = lists.into_iter().flatten().flatten();
        all.find(|one| one.name == name).with_context(|| format!("no status of {name} yet"))
    }

    /// What its runtime calls a container that runs.
    pub async fn container_id(&self, name: &str) -> Result<String> {
        let id = self.container_status(name).await?.container_id.context("it has not begun")?;
        Ok(id.trim_start_matches("containerd://").to_owned())
    }

    /// Its phase: Pending, Running, Succeeded or Failed.
    pub async fn phase(&self) -> Result<String> {
        Ok(self.object().await?.status.and_then(|status| status.phase).unwrap_or_default())
    }

    /// Waits until it is ready.
    pub async fn ready(&self) -> Result<()> {
        let what = format!("pod {} to be ready", self.name);
        eventually(PATIENCE, &what, async || {
            let pod = self.object().await?;
            let conditions =
                pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
            let mut ready = conditions.filter(|one| one.type_ == "Ready" && one.status == "True");
            ensure!(ready.next().is_some(), "{}", report::pod(&pod));
            Ok(())
        })
        .await
    }

    /// Waits until it is in this phase.
    pub async fn reaches(&self, phase: &str) -> Result<()> {
        let what = format!("pod {} to be {phase}", self.name);
        eventually(PATIENCE, &what, async || {
            let pod = self.object().await?;
            let now = pod.status.as_ref().and_then(|status| status.phase.clone());
            ensure!(now.as_deref() == Some(phase), "{}", report::pod(&pod));
            Ok(())
        })
        .await
    }

    /// Its addresses, the first family first.
    pub async fn addresses(&self) -> Result<Vec<String>> {
        let status = self.object().await?.status.context("no status")?;
        Ok(status.pod_ips.unwrap_or_default().into_iter().map(|one| one.ip).collect())
    }

    /// Deletes it with the time that its spec gives it to end.
    pub async fn delete(&self) -> Result<()> {
        self.api.delete(&self.name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Waits until it is not there any more.
    pub async fn gone(&self) -> Result<()> {
        eventually(PATIENCE, &format!("the end of pod {}", self.name), async || {
            ensure!(self.api.get_opt(&self.name).await?.is_none(), "it is still there");
            Ok(())
        })
        .await
    }

    /// What a container has printed.
    pub async fn logs(&self) -> Result<String> {
        let parameters = LogParams { container: self.container.clone(), ..LogParams::default() };
        Ok(self.api.logs(&self.name, &parameters).await?)
    }

    /// What a container prints until it has ended, from the beginning.
    pub async fn logs_to_the_end(&self) -> Result<String> {
        let parameters =
            LogParams { container: self.container.clone(), follow: true, ..LogParams::default() };
        let mut stream = self.api.log_stream(&self.name, &parameters).await?;
        let mut text = String::new();
        let reading = futures_util::AsyncReadExt::read_to_string(&mut stream, &mut text);
        let ended = tokio::time::timeout(COMMAND_LIMIT, reading).await;
        ended.with_context(|| format!("{} has not ended; its log is {text}", self.name))??;
        Ok(text)
    }

    /// Runs a command to its end.
    pub async fn exec(&self, words: &[&str]) -> Result<Output> {
        let command = words.join(" ");
        let ended = tokio::time::timeout(COMMAND_LIMIT, self.run(words)).await;
        let ended = ended.with_context(|| format!("it takes longer than {COMMAND_LIMIT:?}"));
        ended.and_then(|output| output).with_context(|| format!("in pod {}: {command}", self.name))
    }

    /// Runs a shell script.
    pub async fn sh(&self, script: &str) -> Result<Output> {
        self.exec(&["sh", "-c", script]).await
    }

    /// Runs curl, quietly.
    pub async fn curl(&self, arguments: &[&str]) -> Result<Output> {
        let mut words = vec!["curl", "--silent", "--show-error", "--max-time", "20"];
        words.extend(arguments);
        self.exec(&words).await
    }

    /// The status that curl gets; 0 where there is no answer.
    pub async fn status(&self, arguments: &[&str]) -> Result<u16> {
        let mut words = vec!["-o", "/dev/null", "-w", "%{http_code}"];
        words.extend(arguments);
        Ok(self.curl(&words).await?.stdout.trim().parse().unwrap_or(0))
    }

    /// An answer of the sidecar's admin port.
    pub async fn admin(&self, path: &str) -> Result<String> {
        let url = format!("http://127.0.0.1:15000{path}");
        self.curl(&["--fail", &url]).await?.success().context("the sidecar's admin port")
    }

    /// The sidecar's metrics as a scrape sees them.
    pub async fn metrics(&self) -> Result<String> {
        let answer = self.curl(&["--fail", "http://127.0.0.1:15020/metrics"]).await?;
        answer.success().context("the sidecar's metrics")
    }

    async fn run(&self, words: &[&str]) -> Result<Output> {
        let parameters = AttachParams {
            container: self.container.clone(),
            stdin: false,
            stdout: true,
            stderr: true,
            max_stdout_buf_size: Some(1 << 20),
            ..AttachParams::default()
        };
        let mut process = self.api.exec(&self.name, words.iter().copied(), &parameters).await?;
        let (mut stdout, mut stderr) = (process.stdout(), process.stderr());
        let status = process.take_status().context("no status")?;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let read_out = async {
            if let Some(stream) = &mut stdout {
                stream.read_to_end(&mut out).await?;
            }
            std::io::Result::Ok(())
        };
        let read_err = async {
            if let Some(stream) = &mut stderr {
                stream.read_to_end(&mut err).await?;
            }
            std::io::Result::Ok(())
        };
        let (one, other, status) = tokio::join!(read_out, read_err, status);
        one.and(other)?;
        process.join().await?;
        let status = status.context("the connection broke before the command ended")?;
        // "command terminated with exit code 7": the number is among the causes.
        let causes =
            status.details.into_iter().flat_map(|details| details.causes.unwrap_or_default());
        let mut codes = causes.filter(|cause| cause.reason.as_deref() == Some("ExitCode"));
        let code = match status.status.as_deref() {
            Some("Success") => 0,
            _ => match codes.next().and_then(|cause| cause.message?.parse().ok()) {
                Some(code) => code,
                None => bail!("{}", status.message.unwrap_or_default()),
            },
        };
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Output { stdout: text(out), stderr: text(err), code })
    }
}
