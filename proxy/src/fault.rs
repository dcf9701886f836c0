//! Why the proxy answers a request by itself, and with what.
//!
//! A fault says what happened ([`Kind`]); everything that depends on it, the status, the
//! grpc-status, the word in metrics and logs, is derived here and nowhere else.

use std::borrow::Cow;

use http::StatusCode;

/// A request that no backend answered.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    pub kind: Kind,
    /// For people: what happened, with the names of the objects that are involved.
    pub message: Cow<'static, str>,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request is one that two parties may read differently (RFC 9112, section 3.2), or that
    /// cannot be forwarded.
    BadRequest,
    /// The request has more headers than the proxy takes.
    TooManyHeaders,
    /// Routes are attached, but no rule matches.
    NoRuleMatched,
    /// The rule says something that Weft does not understand or implement.
    RuleRefused,
    /// The CORS filter does not allow the origin of a preflight.
    OriginNotAllowed,
    /// The rule names no backend, or only backends of weight 0.
    NoBackend,
    /// The chosen backend's reference does not resolve.
    BackendInvalid,
    /// The chosen backend has no ready endpoint.
    NoReadyEndpoint,
    /// The chosen backend's Service keeps traffic on the node, where it has no endpoint.
    NoLocalEndpoint,
    /// All endpoints have as many requests under way as one may have.
    Overloaded,
    /// No connection to an endpoint could be made.
    ConnectFailed,
    /// The endpoint closed the connection before it answered.
    BackendClosed,
    /// The endpoint answered with something that is not HTTP.
    BackendProtocol,
    /// The client's own request body broke.
    ClientBody,
    /// The request's time is up: the rule's `timeouts.request`, or gRPC's deadline.
    RequestTimeout,
    /// The attempt's time is up, `timeouts.backendRequest`, and it is not sent again.
    BackendTimeout,
    /// The request would be sent again, but the backend's retries are used up.
    RetryBudget,
}

/// gRPC status codes that the proxy answers with.
const GRPC_DEADLINE_EXCEEDED: u8 = 4;
const GRPC_PERMISSION_DENIED: u8 = 7;
const GRPC_RESOURCE_EXHAUSTED: u8 = 8;
const GRPC_UNIMPLEMENTED: u8 = 12;
const GRPC_INTERNAL: u8 = 13;
const GRPC_UNAVAILABLE: u8 = 14;

impl Fault {
    pub fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into() }
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self.kind {
            Kind::BadRequest | Kind::ClientBody => StatusCode::BAD_REQUEST,
            Kind::TooManyHeaders => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Kind::NoRuleMatched => StatusCode::NOT_FOUND,
            Kind::OriginNotAllowed => StatusCode::FORBIDDEN,
            Kind::RuleRefused | Kind::NoBackend | Kind::BackendInvalid => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Kind::BackendProtocol => StatusCode::BAD_GATEWAY,
            Kind::NoReadyEndpoint
            | Kind::NoLocalEndpoint
            | Kind::Overloaded
            | Kind::ConnectFailed
            | Kind::BackendClosed
            | Kind::RetryBudget => StatusCode::SERVICE_UNAVAILABLE,
            Kind::RequestTimeout | Kind::BackendTimeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// The grpc-status of the answer to a gRPC request.
    ///
    /// The API (GRPCRouteRule.backendRefs): requests to invalid backends "MUST result in the gRPC
    /// status UNAVAILABLE". No code is given for a request that matches no rule: UNIMPLEMENTED is
    /// what a server without that method says.
    pub fn grpc_status(&self) -> u8 {
        match self.kind {
            Kind::RequestTimeout | Kind::BackendTimeout => GRPC_DEADLINE_EXCEEDED,
            Kind::TooManyHeaders => GRPC_RESOURCE_EXHAUSTED,
            Kind::NoRuleMatched => GRPC_UNIMPLEMENTED,
            Kind::OriginNotAllowed => GRPC_PERMISSION_DENIED,
            Kind::BadRequest | Kind::ClientBody => GRPC_INTERNAL,
            Kind::RuleRefused
            | Kind::NoBackend
            | Kind::BackendInvalid
            | Kind::BackendProtocol
            | Kind::NoReadyEndpoint
            | Kind::NoLocalEndpoint
            | Kind::Overloaded
            | Kind::ConnectFailed
            | Kind::BackendClosed
            | Kind::RetryBudget => GRPC_UNAVAILABLE,
        }
    }

    /// The word for metrics, logs and the header `x-weft-reason`.
    pub fn reason(&self) -> &'static str {
        match self.kind {
            Kind::BadRequest => "bad_request",
            Kind::TooManyHeaders => "too_many_headers",
            Kind::NoRuleMatched => "no_rule_matched",
            Kind::RuleRefused => "rule_refused",
            Kind::OriginNotAllowed => "origin_not_allowed",
            Kind::NoBackend => "no_backend",
            Kind::BackendInvalid => "backend_invalid",
            Kind::NoReadyEndpoint => "no_ready_endpoint",
            Kind::NoLocalEndpoint => "no_local_endpoint",
            Kind::Overloaded => "overloaded",
            Kind::ConnectFailed => "connect_failed",
            Kind::BackendClosed => "backend_closed",
            Kind::BackendProtocol => "backend_protocol",
            Kind::ClientBody => "client_body",
            Kind::RequestTimeout => "request_timeout",
            Kind::BackendTimeout => "backend_timeout",
            Kind::RetryBudget => "retry_budget",
        }
    }
}
