//! The AdmissionReview (admission.k8s.io/v1) around a pod: the API server's question and our answer.
//!
//! [`answer`] is called by [`crate::server`] with a request's body. It asks nobody and changes
//! nothing, so that a dry run needs no care (`sideEffects: None`).

use http::StatusCode;
use k8s_openapi_kube::ByteString;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::container::Settings;
use crate::patch::Patch;
use crate::pod::{self, Context, Injection, Outcome, Reason, Standard};
use crate::service_cidr::ServiceCidrs;

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// The answer to one request, and what to count and log of it.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    /// An AdmissionReview with a response, as JSON.
    pub body: Vec<u8>,
    pub summary: Summary,
}

/// What happened, for the log and the metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// `injected`, `left_alone`, `denied` or `error`.
    pub result: &'static str,
    /// Why, in one word; empty for `injected`.
    pub reason: &'static str,
    pub dry_run: bool,
    pub namespace: String,
    /// The pod's name, or the beginning that the API server will make one of.
    pub pod: String,
    pub message: String,
    pub warnings: Vec<String>,
}

/// Why a request has no answer about a pod.
#[derive(Debug, Error)]
pub enum ReviewError {
    #[error("the content type is {0}: send an AdmissionReview as application/json")]
    ContentType(String),
    #[error("the body is larger than {} MiB: no pod is", .0 / 1024 / 1024)]
    TooLarge(usize),
    #[error("the body could not be read: {0}")]
    Unreadable(String),
    #[error("the body is no AdmissionReview: {0}")]
    NotJson(serde_json::Error),
    #[error(
        "this is kind `{kind}` of version `{api_version}`, and weft-injector answers to {KIND} of \
         {API_VERSION}: \
         set admissionReviewVersions: [v1] in its webhook configuration"
    )]
    Version { api_version: String, kind: String },
    #[error("the AdmissionReview has no request")]
    NoRequest,
}

impl ReviewError {
    fn status(&self) -> StatusCode {
        match self {
            ReviewError::ContentType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ReviewError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            ReviewError::Unreadable(_)
            | ReviewError::NotJson(_)
            | ReviewError::Version { .. }
            | ReviewError::NoRequest => StatusCode::BAD_REQUEST,
        }
    }

    fn as_str(&self) -> &'static str {
        match self {
            ReviewError::ContentType(_) => "content_type",
            ReviewError::TooLarge(_) => "too_large",
            ReviewError::Unreadable(_) => "unreadable",
            ReviewError::NotJson(_) => "not_json",
            ReviewError::Version { .. } => "version",
            ReviewError::NoRequest => "no_request",
        }
    }
}

/// Answers an AdmissionReview about a pod of a namespace with this standard.
pub fn answer(
    body: &[u8],
    settings: &Settings,
    service_cidrs: &ServiceCidrs,
    standard: Standard,
) -> Answer {
    match read(body) {
        Ok(request) => decide(&request, settings, service_cidrs, standard),
        Err((error, uid)) => refuse(&error, &uid),
    }
}

/// The answer to what is no review. `uid` is the request's, where one could be read.
pub fn refuse(error: &ReviewError, uid: &str) -> Answer {
    let status = error.status();
    let message = format!("weft-injector: {error}");
    let response = Response {
        uid,
        allowed: false,
        status: Some(Status { code: status.as_u16(), message: &message }),
        ..Response::default()
    };
    let summary = Summary {
        result: "error",
        reason: error.as_str(),
        message: error.to_string(),
        ..Summary::default()
    };
    Answer { status, body: written(response), summary }
}

fn read(body: &[u8]) -> Result<Request, (ReviewError, String)> {
    let without_uid = |error| (error, String::new());
    let review: Review =
        serde_json::from_slice(body).map_err(|error| without_uid(ReviewError::NotJson(error)))?;
    if review.api_version != API_VERSION || review.kind != KIND {
        let uid = review.request.map(|request| request.uid).unwrap_or_default();
        let Review { api_version, kind, .. } = review;
        return Err((ReviewError::Version { api_version, kind }, uid));
    }
    review.request.ok_or_else(|| without_uid(ReviewError::NoRequest))
}

fn decide(
    request: &Request,
    settings: &Settings,
    service_cidrs: &ServiceCidrs,
    standard: Standard,
) -> Answer {
    let known = service_cidrs.current();
    let context =
        Context { namespace: &request.namespace, service_cidrs: known.as_deref(), standard };
    let Injection { outcome, patch, warnings } = if request.creates_a_pod() {
        pod::inject(&request.object, &context, settings)
    } else {
        let warnings = Reason::NotAPod.warning().map(str::to_owned).into_iter().collect();
        let outcome = Outcome::LeftAlone(Reason::NotAPod);
        Injection { outcome, patch: Patch::default(), warnings }
    };
    let (allowed, result, reason, message) = match &outcome {
        Outcome::Injected => (true, "injected", "", String::new()),
        Outcome::LeftAlone(reason) => (true, "left_alone", reason.as_str(), String::new()),
        Outcome::Denied(denial) => (false, "denied", denial.as_str(), denial.to_string()),
    };
    let shown = format!("weft-injector: {message}");
    let has_patch = !patch.is_empty();
    let response = Response {
        uid: &request.uid,
        allowed,
        patch_type: has_patch.then_some("JSONPatch"),
        // JSON of an addition cannot fail: its keys are texts.
        patch: has_patch.then(|| ByteString(serde_json::to_vec(&patch).unwrap_or_default())),
        warnings: warnings.iter().map(|warning| presentable(warning)).collect(),
        // As a ReplicaSet's event shows it: `admission webhook … denied the request: <message>`.
        status: (!allowed)
            .then_some(Status { code: StatusCode::FORBIDDEN.as_u16(), message: &shown }),
    };
    let body = written(response);
    let summary = Summary {
        result,
        reason,
        dry_run: request.dry_run,
        namespace: request.namespace.clone(),
        pod: request.pod_name(),
        message,
        warnings,
    };
    Answer { status: StatusCode::OK, body, summary }
}

/// As a `Warning` header may be: the API server cuts longer ones, and drops all of those that are
/// together longer than 4096.
fn presentable(warning: &str) -> String {
    let mut text: String = warning
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(LONGEST_WARNING)
        .collect();
    if warning.chars().nth(LONGEST_WARNING).is_some() {
        text.push('…');
    }
    format!("weft-injector: {text}")
}

const LONGEST_WARNING: usize = 230;

fn written(response: Response<'_>) -> Vec<u8> {
    let review = ReviewedReview { api_version: API_VERSION, kind: KIND, response };
    // Texts, a number and a truth value: nothing that JSON cannot hold.
    serde_json::to_vec(&review).unwrap_or_default()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    request: Option<Request>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    uid: String,
    #[serde(default)]
    kind: GroupVersionKind,
    #[serde(default)]
    sub_resource: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    object: Value,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Default, Deserialize)]
struct GroupVersionKind {
    #[serde(default)]
    group: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    kind: String,
}

impl Request {
    fn creates_a_pod(&self) -> bool {
        let GroupVersionKind { group, version, kind } = &self.kind;
        (group.as_str(), version.as_str(), kind.as_str()) == ("", "v1", "Pod")
            && self.operation == "CREATE"
            && self.sub_resource.is_empty()
    }

    /// A pod of a ReplicaSet has no name yet, only the beginning of one.
    fn pod_name(&self) -> String {
        let text = |name: &str| {
            self.object.pointer(name).and_then(Value::as_str).filter(|text| !text.is_empty())
        };
        match (self.name.as_str(), text("/metadata/name"), text("/metadata/generateName")) {
            ("", Some(name), _) => name.to_owned(),
            ("", None, Some(beginning)) => format!("{beginning}…"),
            (name, _, _) => name.to_owned(),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReviewedReview<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    /// Written as base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<ByteString>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
}

#[derive(Serialize)]
struct Status<'a> {
    code: u16,
    message: &'a str,
}

#[cfg(test)]
mod tests;
