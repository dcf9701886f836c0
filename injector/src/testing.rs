//! What tests of several modules need: an API server of one process, with the few objects that the
//! injector reads and writes.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use k8s_openapi_kube::ByteString;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use crate::certificate::Names;
use crate::container::{Resources, Settings};
use crate::log::LogFormat;

pub(crate) fn names() -> Names {
    Names {
        namespace: "weft-system".to_owned(),
        secret: "certificate".to_owned(),
        service: "weft-injector".to_owned(),
        webhook_configuration: "weft".to_owned(),
    }
}

pub(crate) fn settings() -> Settings {
    Settings {
        proxy_image: "weft-proxy:1".to_owned(),
        init_image: "weft-init:1".to_owned(),
        image_pull_policy: "IfNotPresent",
        resources: Resources {
            cpu_request: Some("10m".parse().unwrap()),
            memory_request: Some("32Mi".parse().unwrap()),
            memory_limit: Some("128Mi".parse().unwrap()),
            ..Resources::default()
        },
        drain_seconds: 30,
        log_level: "info".to_owned(),
        log_format: LogFormat::Text,
        proxy_environment: Vec::new(),
        scrape_annotations: true,
        ignored_namespaces: vec!["kube-system".to_owned(), "weft-system".to_owned()],
    }
}

/// An API server. Clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct Cluster {
    state: Arc<Mutex<State>>,
}

type Interference = Box<dyn FnOnce(&mut State) + Send>;

/// What the API server has.
#[derive(Default)]
pub(crate) struct State {
    version: u64,
    pub(crate) secret: Option<Value>,
    pub(crate) configuration: Option<Value>,
    pub(crate) service_cidrs: Vec<Value>,
    /// Methods and paths of all requests since the last [`Cluster::requests`].
    requests: Vec<String>,
    /// The next request with this method is answered with this status.
    pub(crate) failure: Option<(Method, StatusCode)>,
    /// Happens between a look and the first request with this method.
    pub(crate) interference: Option<(Method, Interference)>,
}

impl Cluster {
    /// With a configuration of these webhooks, which have no CA yet.
    pub(crate) fn with_webhooks(webhooks: &[&str]) -> Cluster {
        let cluster = Cluster::default();
        cluster.state().set_webhooks(webhooks);
        cluster
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn client(&self) -> Client {
        let cluster = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let cluster = cluster.clone();
            async move { Ok::<_, Infallible>(cluster.answer(request).await) }
        });
        Client::new(service, "default")
    }

    /// What was asked since this was called last.
    pub(crate) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state().requests)
    }

    /// The bundle of a webhook.
    pub(crate) fn bundle(&self, webhook: usize) -> Vec<u8> {
        let state = self.state();
        let path = format!("/webhooks/{webhook}/clientConfig/caBundle");
        let text = state.configuration.as_ref().and_then(|found| found.pointer(&path)).cloned();
        let ByteString(bundle) =
            text.map(|text| serde_json::from_value(text).unwrap()).unwrap_or_default();
        bundle
    }

    async fn answer(&self, request: Request<Body>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let query = parts.uri.query().unwrap_or_default();
        if query.contains("watch=true") || query.contains("watch=1") {
            // Nothing ever happens here by itself.
            tokio::time::sleep(Duration::from_secs(3600)).await;
        }
        let (status, answer) = self.state().answer(&parts.method, parts.uri.path(), body);
        let mut response = Response::new(Full::from(answer.to_string()));
        *response.status_mut() = status;
        response
    }
}

impl State {
    pub(crate) fn set_webhooks(&mut self, webhooks: &[&str]) {
        let webhooks: Vec<Value> = webhooks
            .iter()
            .map(|name| {
                json!({
                    "name": name,
                    "admissionReviewVersions": ["v1"],
                    "sideEffects": "None",
                    "clientConfig": {"service": {"name": "weft-injector", "namespace": "weft-system"}},
                })
            })
            .collect();
        let metadata = json!({"name": "weft", "resourceVersion": self.next_version()});
        self.configuration = Some(json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": metadata,
            "webhooks": webhooks,
        }));
    }

    pub(crate) fn set_bundle(&mut self, webhook: usize, bundle: &[u8]) {
        let version = self.next_version();
        let configuration = self.configuration.as_mut().unwrap();
        configuration["metadata"]["resourceVersion"] = json!(version);
        configuration["webhooks"][webhook]["clientConfig"]["caBundle"] =
            json!(ByteString(bundle.to_vec()));
    }

    fn next_version(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }

    fn answer(&mut self, method: &Method, path: &str, body: Value) -> (StatusCode, Value) {
        self.requests.push(format!("{method} {path}"));
        if self.failure.as_ref().is_some_and(|(failing, _)| failing == method) {
            let (_, status) = self.failure.take().unwrap();
            return refusal(status);
        }
        if self.interference.as_ref().is_some_and(|(before, _)| before == method) {
            let (_, interfere) = self.interference.take().unwrap();
            interfere(self);
        }
        match path {
            "/api/v1/namespaces/weft-system/secrets"
            | "/api/v1/namespaces/weft-system/secrets/certificate" => self.secret(method, body),
            "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/weft" => {
                self.configuration(method, &body)
            }
            "/apis/networking.k8s.io/v1/servicecidrs" => {
                let metadata = json!({"resourceVersion": "1"});
                (StatusCode::OK, json!({"metadata": metadata, "items": self.service_cidrs}))
            }
            _ => refusal(StatusCode::NOT_FOUND),
        }
    }

    pub(crate) fn secret(&mut self, method: &Method, mut body: Value) -> (StatusCode, Value) {
        match (method, &self.secret) {
            (&Method::GET, Some(secret)) => return (StatusCode::OK, secret.clone()),
            (&Method::POST, None) => {}
            (&Method::PUT, Some(secret)) => {
                let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
                assert!(version(&body).is_string(), "a write without a version");
                if version(secret) != version(&body) {
                    return refusal(StatusCode::CONFLICT);
                }
            }
            (&Method::POST, Some(_)) => return refusal(StatusCode::CONFLICT),
            _ => return refusal(StatusCode::NOT_FOUND),
        }
        body["metadata"]["resourceVersion"] = json!(self.next_version());
        self.secret = Some(body.clone());
        (StatusCode::OK, body)
    }

    fn configuration(&mut self, method: &Method, patch: &Value) -> (StatusCode, Value) {
        let Some(found) = &self.configuration else { return refusal(StatusCode::NOT_FOUND) };
        if method == Method::GET {
            return (StatusCode::OK, found.clone());
        }
        assert_eq!(method, Method::PATCH);
        assert!(patch["metadata"]["resourceVersion"].is_string(), "a patch without a version");
        if found["metadata"]["resourceVersion"] != patch["metadata"]["resourceVersion"] {
            return refusal(StatusCode::CONFLICT);
        }
        for patched in patch["webhooks"].as_array().unwrap() {
            let ByteString(bundle) =
                serde_json::from_value(patched["clientConfig"]["caBundle"].clone()).unwrap();
            let found = self.configuration.as_ref().unwrap();
            let webhooks = found["webhooks"].as_array().unwrap();
            let position =
                webhooks.iter().position(|webhook| webhook["name"] == patched["name"]).unwrap();
            self.set_bundle(position, &bundle);
        }
        (StatusCode::OK, self.configuration.clone().unwrap())
    }
}

fn refusal(status: StatusCode) -> (StatusCode, Value) {
    let body = json!({
        "apiVersion": "v1",
        "kind": "Status",
        "status": "Failure",
        "code": status.as_u16(),
        "message": format!("refused with {status}"),
        "reason": status.canonical_reason().unwrap_or_default().replace(' ', ""),
    });
    (status, body)
}
