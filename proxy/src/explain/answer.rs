//! The answer to "why did this request go there?", for programs as it stands and for people through
//! [`super::text`].

use std::fmt;

use serde::Serialize;

use crate::opaque::Ended;
use crate::table;

/// Everything that decides about a request, in the order in which it is decided.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// What becomes of the request, in a sentence.
    pub summary: String,
    pub request: Request,
    pub destination: Destination,
    /// The routes that name the Service, or nearly do; those that apply first.
    pub routes: Vec<Route>,
    /// All matches of the routes that apply, in the order of precedence.
    pub matches: Vec<Match>,
    /// Of a CORS preflight that a rule answers for the request that it announces: that one's method,
    /// which is held against the matches.
    pub announces: Option<String>,
    /// The rule that won; None where none did, or no route applies.
    pub rule: Option<Rule>,
    /// Where the request can go.
    pub backends: Vec<Backend>,
    /// What the proxy answers by itself, whichever backend is chosen; None where it forwards.
    pub answer: Option<Answer>,
    /// What the source of routes could not read or use.
    pub problems: Vec<String>,
}

/// The request that was asked about.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// None of a connection that carries no requests.
    pub method: Option<String>,
    pub url: String,
    pub headers: Vec<Header>,
    /// The namespace of the pod that sends it.
    pub client_namespace: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Header {
    pub name: String,
    pub value: String,
}

/// The Service's port that the connection is made to.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Destination {
    /// `namespace/name`
    pub service: String,
    /// None where manifests give the Service no cluster address.
    pub address: Option<String>,
    pub port: u16,
    pub port_name: String,
    pub app_protocol: Option<String>,
    /// Whether the proxy reads requests, or passes bytes.
    pub reads_requests: bool,
    /// How the connection is treated, and why, in words.
    pub protocol: String,
}

/// A route and what became of it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// As in `HTTPRoute default/reviews`.
    pub route: String,
    pub applies: bool,
    /// `applies`, `shadowed`, `overridden`, `otherClients`, `conflicted`, `otherPort`, `notAccepted`,
    /// `otherParent`, `otherTraffic` or `notInForce`.
    pub place: &'static str,
    /// In words, with what to do.
    pub because: String,
    pub rules: usize,
    /// What its status complains about, for this parent.
    pub complaints: Vec<String>,
}

/// A match, held against the request.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Match {
    #[serde(flatten)]
    pub rule: RuleName,
    /// Index of the match within the rule; shown where there are several.
    pub r#match: usize,
    pub of: usize,
    pub criteria: Vec<String>,
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// What came of a match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "verdict")]
pub enum Verdict {
    /// The first that holds.
    Wins,
    /// It holds as well, and ranks below the winner.
    Outranked {
        /// The API's criterion that put the winner first.
        by: &'static str,
        because: String,
    },
    /// It does not hold.
    Lacks {
        /// What the request does not satisfy, the path first.
        unmet: Vec<String>,
    },
}

/// What names a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleName {
    /// As in `HTTPRoute default/reviews`.
    pub route: String,
    /// Its index in its route.
    pub rule: usize,
    pub name: Option<String>,
}

/// What the rule that won makes of the request.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    #[serde(flatten)]
    pub name: RuleName,
    /// In the order in which they apply.
    pub filters: Vec<Filter>,
    /// The request that goes on, before the chosen backend's own filters; None where none does.
    pub forwarded: Option<Forwarded>,
    pub timeouts: Timeouts,
    /// None where the rule asks for none.
    pub retry: Option<Retry>,
    /// None where nothing keeps users where they were.
    pub stickiness: Option<Stickiness>,
}

/// What keeps users where they were.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stickiness {
    /// As in `session in cookie weft-1f…, keeps the endpoint`.
    pub by: String,
    /// What that means for this request, in words.
    pub because: String,
    /// The request says whose it is: the odds of the backends play no part.
    pub keeps_backend: bool,
    /// The request's session is at one endpoint, as long as that is there.
    pub keeps_endpoint: bool,
}

/// What bounds a request in time, as in `1.5s`; None where nothing does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeouts {
    /// All of it, with its retries.
    pub request: Option<String>,
    /// Each attempt.
    pub backend_request: Option<String>,
    /// The client's own deadline, which counts as `request` does where it is shorter.
    pub grpc: Option<String>,
}

/// When the rule has a request sent again: where it was not processed, and as these say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// How often, beyond the first attempt.
    pub attempts: u32,
    /// After these answers.
    pub codes: Vec<u16>,
    /// The longest first pause; it doubles up to `longest_pause`.
    pub backoff: String,
    pub longest_pause: String,
    /// Also where the connection broke: the request is idempotent.
    pub if_broken: bool,
}

/// How many retries a backend may get: a share of its requests in an interval, and a rate in any case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RetryBudget {
    pub percent: u32,
    pub interval: String,
    pub rate_count: u32,
    pub rate_interval: String,
    /// The XBackendTrafficPolicy that says so; None for the API's default.
    pub policy: Option<String>,
}

/// A filter and what it does to this request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Filter {
    /// The API's name of its type.
    pub r#type: &'static str,
    pub effects: Vec<String>,
}

/// A request as its endpoint gets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Forwarded {
    pub method: String,
    /// With the query.
    pub target: String,
    pub host: String,
    /// Without Host.
    pub headers: Vec<Header>,
}

/// A backend of the rule.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Backend {
    /// `namespace/name`
    pub service: String,
    pub port: u16,
    pub weight: u32,
    /// The odds that it is chosen for this request.
    pub percent: f64,
    /// `HTTP/1.1`, `HTTP/2` or `bytes`; None where nothing is sent.
    pub protocol: Option<&'static str>,
    pub filters: Vec<Filter>,
    /// Where its own filters change the request that the rule has made.
    pub forwarded: Option<Forwarded>,
    /// None where nothing asks for retries or bounds them.
    pub retry_budget: Option<RetryBudget>,
    /// False where nothing is known of them: manifests without the Service's EndpointSlices.
    pub endpoints_known: bool,
    /// What the Service says of the choice among its endpoints, in words.
    pub choice: Vec<String>,
    pub endpoints: Vec<Endpoint>,
    /// What the proxy answers by itself when this backend is chosen.
    pub answer: Option<Answer>,
}

/// An address behind a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    pub address: String,
    /// Whether requests are sent there.
    pub used: bool,
    /// `ready`, `terminating`, `not ready`, …
    pub state: &'static str,
    /// The request's session stays there, or the pod (`sessionAffinity`).
    pub kept: bool,
}

/// An answer that the proxy makes by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// None where the connection is closed: no request was read.
    pub status: Option<u16>,
    /// Of a gRPC request.
    pub grpc_status: Option<u8>,
    /// The value of the header `x-weft-reason`, and of the label `reason` in metrics.
    pub reason: Option<&'static str>,
    /// The answer's body, without what is the same in all.
    pub message: Option<String>,
    /// Of a redirect.
    pub location: Option<String>,
    /// Of the answer to a CORS preflight.
    pub headers: Vec<Header>,
}

impl RuleName {
    pub(super) fn of(source: &table::RuleName) -> Self {
        let table::RuleName { route, index, name } = source;
        Self { route: route.to_string(), rule: *index, name: name.clone() }
    }
}

/// As in `rule 0 (canary) of HTTPRoute default/reviews`.
impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {}", self.rule)?;
        if let Some(name) = &self.name {
            write!(f, " ({name})")?;
        }
        write!(f, " of {}", self.route)
    }
}

impl Answer {
    pub(super) fn of(status: u16) -> Self {
        Self {
            status: Some(status),
            grpc_status: None,
            reason: None,
            message: None,
            location: None,
            headers: Vec::new(),
        }
    }

    pub(super) fn closed(ended: &Ended) -> Self {
        Self {
            status: None,
            reason: Some(ended.reason),
            message: Some(ended.message.clone().into_owned()),
            ..Self::of(0)
        }
    }
}

/// As in `is answered by the proxy with 404 (x-weft-reason: no_rule_matched)`.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(status) = self.status else {
            return write!(
                f,
                "is closed by the proxy (reason: {})",
                self.reason.unwrap_or_default()
            );
        };
        if let Some(location) = &self.location {
            return write!(f, "is redirected with {status} to {location}");
        }
        match self.grpc_status {
            Some(status) => {
                let name = GRPC_CODES.get(usize::from(status)).copied().unwrap_or_default();
                write!(f, "is answered by the proxy with grpc-status {status} {name}")?;
            }
            None => write!(f, "is answered by the proxy with {status}")?,
        }
        match self.reason {
            Some(reason) => write!(f, " (x-weft-reason: {reason})"),
            None => Ok(()),
        }
    }
}

/// By number.
const GRPC_CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
