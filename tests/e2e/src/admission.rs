//! How the API server answers to a pod that is not kept (`dryRun=All`): all of admission takes part,
//! and nothing is left of it.

use anyhow::{Context, Result};
use http_body_util::BodyExt;
use k8s_openapi_kube::api::core::v1::Pod;
use kube::Client;
use kube::client::Body;
use serde_json::Value;

/// The API server's answer.
#[derive(Clone, Debug)]
pub struct Admission {
    /// The pod as it would be kept, or why it is refused.
    pub pod: Result<Pod, String>,
    /// What stands in the answer's `Warning` headers; kubectl shows it.
    pub warnings: Vec<String>,
}

impl Admission {
    /// The names of the init containers in their order; the refusal as an error.
    pub fn init_containers(&self) -> Result<Vec<String>> {
        let pod = self.pod.as_ref().map_err(|refusal| anyhow::anyhow!("refused: {refusal}"))?;
        let containers = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
        Ok(containers.map(|container| container.name.clone()).collect())
    }

    /// Whether weft-init and weft-proxy stand in front of all other init containers.
    pub fn is_injected(&self) -> Result<bool> {
        Ok(self.init_containers()?.starts_with(&["weft-init".to_owned(), "weft-proxy".to_owned()]))
    }

    /// Whether a warning holds this text.
    pub fn warns(&self, text: &str) -> bool {
        self.warnings.iter().any(|warning| warning.contains(text))
    }
}

/// Asks for the admission of a pod to a namespace.
pub async fn admit(client: &Client, namespace: &str, pod: &Value) -> Result<Admission> {
    let uri = format!("/api/v1/namespaces/{namespace}/pods?dryRun=All");
    let request = http::Request::post(uri)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(Body::from(serde_json::to_vec(pod)?))?;
    let (head, body) = client.send(request).await?.into_parts();
    let warnings = head.headers.get_all(http::header::WARNING).iter().filter_map(|value| {
        // `299 - "text"`, with quotes and backslashes of the text escaped.
        let text = value.to_str().ok()?.strip_prefix("299 - \"")?.strip_suffix('"')?;
        Some(text.replace("\\\"", "\"").replace("\\\\", "\\"))
    });
    let warnings = warnings.collect();
    let body = body.collect().await.context("the answer's body")?.to_bytes();
    let pod = if head.status.is_success() {
        Ok(serde_json::from_slice(&body).context("a pod")?)
    } else {
        let status: Value = serde_json::from_slice(&body).context("a status")?;
        Err(status["message"].as_str().unwrap_or_default().to_owned())
    };
    Ok(Admission { pod, warnings })
}
