//! What a route means, parsed once: values of the kinds that a request or connection is held against.

use std::fmt;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use regex::Regex;

use crate::object::{Kind, ObjectKey, Problem};
use crate::reference::{BackendRef, ParentRef};
use crate::session::{SessionPersistence, StickySplit};

/// The kinds of route that attach to a Service. The order is the API's (GEP-1294): where several
/// kinds claim one port, the greater one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteKind {
    /// TCPRoute
    Tcp,
    /// TLSRoute
    Tls,
    /// HTTPRoute
    Http,
    /// GRPCRoute
    Grpc,
}

/// A route.
#[derive(Clone, Debug)]
pub struct Route {
    /// Kind, namespace and name.
    pub key: ObjectKey,
    /// Which kind of route it is.
    pub kind: RouteKind,
    /// `metadata.creationTimestamp` in seconds since 1970. Missing (a file by hand): i64::MAX, so
    /// that an object without age counts as the newest.
    pub created: i64,
    /// `metadata.generation`; 0 where missing.
    pub generation: i64,
    /// `spec.parentRefs`, in their order; those that cannot be read are in `problems`.
    pub parents: Vec<ParentRef>,
    /// `spec.hostnames`. The API tells meshes to ignore those of an HTTPRoute or GRPCRoute; those of a
    /// TLSRoute stand in its rules' matches.
    pub hostnames: Vec<String>,
    /// `spec.rules`, in their order.
    pub rules: Vec<Rule>,
    /// The annotation `weft.mesh/sticky-split`: for all rules that split.
    pub sticky_split: Option<StickySplit>,
    /// What cannot be read outside of the rules.
    pub problems: Vec<Problem>,
}

/// A rule of a route.
#[derive(Clone, Debug)]
pub struct Rule {
    /// `name`.
    pub name: Option<String>,
    /// `matches`; never empty: a rule without matches has the one that the API's default gives.
    pub matches: Vec<Match>,
    /// `filters`, in the listed order.
    pub filters: Vec<Filter>,
    /// `backendRefs`, in the listed order.
    pub backends: Vec<BackendRef>,
    /// `timeouts`.
    pub timeouts: Timeouts,
    /// `retry`.
    pub retry: Option<Retry>,
    /// `sessionPersistence`.
    pub session: Option<SessionPersistence>,
    /// Why the rule answers 500 (TLSRoute and TCPRoute: closes the connection) instead of doing what
    /// it says: each a field that cannot be read or that Weft does not implement. Empty for a good
    /// rule.
    pub refusals: Vec<Refusal>,
}

/// A field that keeps a rule from working.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason for the condition `Accepted`.
    pub reason: RefusalReason,
    /// The path from the route's root, as in `spec.rules[0].filters[1].type`.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

/// Why a rule is refused, in the API's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusalReason {
    /// A value that Weft does not know or does not implement.
    UnsupportedValue,
    /// Filters that cannot stand together.
    IncompatibleFilters,
}

/// A match: all of its criteria must hold.
#[derive(Clone, Debug)]
pub enum Match {
    /// Of an HTTPRoute.
    Http(HttpMatch),
    /// Of a GRPCRoute.
    Grpc(GrpcMatch),
    /// Of a TLSRoute: one of its hostnames.
    Tls(SniMatch),
    /// Of a TCPRoute: every connection.
    Tcp,
}

/// A match of an HTTPRoute.
#[derive(Clone, Debug)]
pub struct HttpMatch {
    /// `path`; missing means the prefix `/`.
    pub path: PathMatch,
    /// `method`.
    pub method: Option<Method>,
    /// `headers`, ANDed; the first of several with one name counts.
    pub headers: Vec<HeaderMatch>,
    /// `queryParams`, ANDed; the first of several with one name counts.
    pub query: Vec<QueryMatch>,
}

/// A match of a GRPCRoute.
#[derive(Clone, Debug)]
pub struct GrpcMatch {
    /// `method.service`.
    pub service: Option<ValueMatch>,
    /// `method.method`.
    pub method: Option<ValueMatch>,
    /// `headers`.
    pub headers: Vec<HeaderMatch>,
}

/// A criterion on the server name that a TLS client asks for (SNI, RFC 6066), which is compared
/// without case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SniMatch {
    /// That name, in lower case.
    Exact(String),
    /// All names below a domain: for `*.example.com`, `a.example.com` and `a.b.example.com`, but not
    /// `example.com`. Stored with its first dot, `.example.com`, in lower case.
    Wildcard(String),
    /// A TLSRoute without hostnames, which the API knew before v1: any name, or none.
    Any,
    /// A hostname that cannot be read: any name or none, at the lowest rank.
    Unreadable,
}

/// A criterion on the path, which is compared without the query and case-sensitively.
#[derive(Clone, Debug)]
pub enum PathMatch {
    /// Byte-equal.
    Exact(String),
    /// By segment; stored without its trailing `/`, so that `/` is the empty string.
    Prefix(String),
    /// On the whole path.
    Regex(Regex),
    /// A criterion that cannot be read: any path, at the lowest rank, so that a broken rule answers
    /// 500 where otherwise nothing would match, and takes nothing from a good rule.
    Unreadable,
}

/// A criterion on a string.
#[derive(Clone, Debug)]
pub enum ValueMatch {
    /// Byte-equal.
    Exact(String),
    /// On the whole value.
    Regex(Regex),
    /// A criterion that cannot be read: any value, so that the requests that the broken rule was
    /// meant for are answered 500 and do not slip to another rule in silence.
    Unreadable,
}

/// A criterion on a request header.
#[derive(Clone, Debug)]
pub struct HeaderMatch {
    /// The name, which is compared without case.
    pub name: HeaderName,
    /// Held against the values joined with `,`.
    pub value: ValueMatch,
}

/// A criterion on a query parameter.
#[derive(Clone, Debug)]
pub struct QueryMatch {
    /// The name, decoded, which is compared with case.
    pub name: String,
    /// Held against the first value of that name, decoded.
    pub value: ValueMatch,
}

/// A filter of a rule or a backend.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// RequestHeaderModifier
    RequestHeaders(HeaderModifier),
    /// ResponseHeaderModifier
    ResponseHeaders(HeaderModifier),
    /// RequestRedirect
    Redirect(Redirect),
    /// URLRewrite
    Rewrite(Rewrite),
    /// RequestMirror
    Mirror(Mirror),
    /// CORS
    Cors(Cors),
}

/// `set` overwrites, `add` appends, `remove` deletes. A name occurs in one of the three only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderModifier {
    /// `set`
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// `add`
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// `remove`
    pub remove: Vec<HeaderName>,
}

/// A redirect that the proxy answers by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// `scheme`: `http` or `https`; missing means the request's.
    pub scheme: Option<Scheme>,
    /// `hostname`; missing means the request's.
    pub hostname: Option<String>,
    /// `port`; missing means the well-known one of `scheme`, and without that the Service port.
    pub port: Option<u16>,
    /// `path`; missing means the request's.
    pub path: Option<PathModifier>,
    /// `statusCode`, 302 where missing.
    pub status: StatusCode,
}

/// A URL scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// http, port 80
    Http,
    /// https, port 443
    Https,
}

/// A rewrite of the request before it is forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// `hostname`: replaces the Host header.
    pub hostname: Option<HeaderValue>,
    /// `path`
    pub path: Option<PathModifier>,
}

/// How a path is replaced. [`crate::path::replace_prefix`] has the edge cases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathModifier {
    /// ReplaceFullPath: the whole path, not the query.
    ReplaceFullPath(String),
    /// ReplacePrefixMatch: the part that the rule's only PathPrefix matched.
    ReplacePrefixMatch(String),
}

/// A copy of the request that goes to another backend; its response is ignored.
#[derive(Clone, Debug, PartialEq)]
pub struct Mirror {
    /// Where to; its weight says nothing.
    pub backend: BackendRef,
    /// Numerator of the share of requests to mirror.
    pub numerator: u32,
    /// Denominator of that share, at least 1.
    pub denominator: u32,
}

/// Cross-origin resource sharing, as the API words it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// `allowOrigins`
    pub allow_origins: Vec<String>,
    /// `allowCredentials`
    pub allow_credentials: bool,
    /// `allowMethods`
    pub allow_methods: Vec<String>,
    /// `allowHeaders`
    pub allow_headers: Vec<String>,
    /// `exposeHeaders`
    pub expose_headers: Vec<String>,
    /// `maxAge` in seconds, 5 where missing.
    pub max_age: i32,
}

/// `timeouts` of a rule; a zero duration (`0s`) disables and is kept as such.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// The whole transaction with its retries.
    pub request: Option<Duration>,
    /// One attempt.
    pub backend_request: Option<Duration>,
}

/// `retry` of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Status codes to retry.
    pub codes: Vec<StatusCode>,
    /// Retries beyond the first attempt; 1 where missing.
    pub attempts: u32,
    /// The base interval of the pauses between attempts.
    pub backoff: Option<Duration>,
}

impl RouteKind {
    /// All of them, in their order.
    pub const ALL: [RouteKind; 4] =
        [RouteKind::Tcp, RouteKind::Tls, RouteKind::Http, RouteKind::Grpc];

    /// The kind's name in the API.
    pub fn as_str(self) -> &'static str {
        Kind::from(self).as_str()
    }

    /// Whether it is about connections that pass unread, and not about requests.
    pub fn is_of_streams(self) -> bool {
        matches!(self, RouteKind::Tls | RouteKind::Tcp)
    }
}

impl From<RouteKind> for Kind {
    fn from(kind: RouteKind) -> Self {
        match kind {
            RouteKind::Tcp => Kind::TcpRoute,
            RouteKind::Tls => Kind::TlsRoute,
            RouteKind::Http => Kind::HttpRoute,
            RouteKind::Grpc => Kind::GrpcRoute,
        }
    }
}

impl fmt::Display for RouteKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
