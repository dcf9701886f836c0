//! CORS: answers preflights, and tells browsers who may read a response.
//!
//! The sentences quoted here are those of HTTPCORSFilter. Terms are those of the Fetch standard.

use http::Method;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName,
    HeaderValue, ORIGIN, SET_COOKIE, VARY,
};
use http::request::Parts;
use weft_gamma::route;

use super::headers;

/// Any value: `*` alone.
const WILDCARD: &str = "*";

/// What this filter says is the last word: a backend's own opinion would contradict it.
const OWN: [HeaderName; 6] = [
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
];

/// A CORS filter, ready for use.
#[derive(Debug)]
pub(crate) struct Cors {
    origins: Origins,
    credentials: bool,
    methods: Option<Names>,
    headers: Option<Names>,
    expose: Option<Names>,
    max_age: HeaderValue,
}

#[derive(Debug)]
enum Origins {
    Any,
    Listed(Vec<Pattern>),
}

/// The names of a list: all there are, or these, as a header has them.
#[derive(Debug)]
enum Names {
    Any,
    Listed(HeaderValue),
}

/// An origin with, perhaps, a wildcard in its host.
#[derive(Debug)]
struct Pattern {
    https: bool,
    host: Host,
    port: u16,
}

#[derive(Debug)]
enum Host {
    Any,
    /// What stands behind the wildcard: `.example.com`.
    EndsWith(String),
    Exactly(String),
}

/// A request that asks for leave before the one that it announces: "CORS-preflight request".
pub(crate) fn is_preflight(parts: &Parts) -> bool {
    parts.method == Method::OPTIONS
        && parts.headers.contains_key(ORIGIN)
        && parts.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The method that a preflight announces.
pub(crate) fn requested_method(headers: &HeaderMap) -> Option<Method> {
    Method::from_bytes(headers.get(ACCESS_CONTROL_REQUEST_METHOD)?.as_bytes()).ok()
}

impl From<&route::Cors> for Cors {
    fn from(cors: &route::Cors) -> Self {
        let any = cors.allow_origins.iter().any(|origin| origin == WILDCARD);
        Self {
            origins: match any {
                true => Origins::Any,
                false => Origins::Listed(
                    cors.allow_origins.iter().filter_map(|it| Pattern::parse(it)).collect(),
                ),
            },
            credentials: cors.allow_credentials,
            methods: Names::of(&cors.allow_methods),
            headers: Names::of(&cors.allow_headers),
            expose: Names::of(&cors.expose_headers),
            max_age: cors.max_age.into(),
        }
    }
}

impl Cors {
    /// The value of Access-Control-Allow-Origin for a request with these headers; None where its
    /// origin is not allowed, or not one.
    pub(super) fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let mut origins = headers.get_all(ORIGIN).iter();
        let origin = origins.next()?;
        if origins.next().is_some() {
            return None;
        }
        match &self.origins {
            // "must not return `*` […] Instead, it must return a single origin matching the value of
            // the `Origin` request header."
            Origins::Any if self.credentials => Some(origin.clone()),
            Origins::Any => Some(HeaderValue::from_static(WILDCARD)),
            Origins::Listed(patterns) => {
                let (https, host, port) = parse(origin.to_str().ok()?)?;
                let matched = patterns.iter().any(|it| it.matches(https, host, port));
                matched.then(|| origin.clone())
            }
        }
    }

    /// The headers of the answer to a preflight from an allowed origin; `asked` are those of the
    /// preflight.
    ///
    /// What is configured as `*` is answered with what was asked for: "may either contain the
    /// wildcard `*` or echo the value", and with credentials it must be the latter. Not every browser
    /// knows the wildcard, and to none does it stand for Authorization.
    pub(super) fn preflight(&self, origin: HeaderValue, asked: &HeaderMap) -> HeaderMap {
        let mut answer = HeaderMap::new();
        self.share(origin, &mut answer);
        answer.insert(ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        let lists = [
            (&self.methods, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_REQUEST_METHOD),
            (&self.headers, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_REQUEST_HEADERS),
        ];
        for (names, name, request) in lists {
            match names {
                None => {}
                Some(Names::Listed(names)) => {
                    answer.insert(name, names.clone());
                }
                Some(Names::Any) => {
                    // "If the `Access-Control-Request-Headers` header is not present in the request,
                    // the gateway must omit the `Access-Control-Allow-Headers` response header."
                    for value in asked.get_all(&request) {
                        headers::append(&mut answer, &name, value);
                    }
                    headers::append(&mut answer, &VARY, &request.into());
                }
            }
        }
        answer
    }

    /// Says who may read a response: nobody where `origin` is None.
    pub(super) fn on_response(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        for name in OWN {
            headers.remove(name);
        }
        match origin {
            Some(origin) => self.share(origin.clone(), headers),
            None => self.vary(headers),
        }
    }

    fn share(&self, origin: HeaderValue, headers: &mut HeaderMap) {
        if let Some(names) = self.exposed(headers) {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, names);
        }
        self.vary(headers);
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        // "When set to false or omitted the gateway will omit the header".
        if self.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }

    /// The value of Access-Control-Expose-Headers for a response with these headers.
    fn exposed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        match self.expose.as_ref()? {
            Names::Listed(names) => Some(names.clone()),
            Names::Any if !self.credentials => Some(HeaderValue::from_static(WILDCARD)),
            // "the gateway cannot use the `*`": all that the response has, by name.
            Names::Any => {
                let names: Vec<&str> = headers
                    .keys()
                    .filter(|name| *name != SET_COOKIE)
                    .map(HeaderName::as_str)
                    .collect();
                HeaderValue::try_from(names.join(",")).ok().filter(|names| !names.is_empty())
            }
        }
    }

    /// Tells caches that the answer to another origin may be another one, and that to none as well.
    fn vary(&self, headers: &mut HeaderMap) {
        if matches!(self.origins, Origins::Any) && !self.credentials {
            return;
        }
        let said = |value: &HeaderValue| {
            let names = value.to_str().unwrap_or_default().split(',').map(str::trim);
            names.into_iter().any(|name| name == WILDCARD || name.eq_ignore_ascii_case("origin"))
        };
        if !headers.get_all(VARY).iter().any(said) {
            headers::append(headers, &VARY, &HeaderValue::from_static("Origin"));
        }
    }
}

impl Names {
    /// None for an empty list.
    fn of(names: &[String]) -> Option<Self> {
        if names.iter().any(|name| name == WILDCARD) {
            return Some(Self::Any);
        }
        // Names that were read are tokens, so that they make a header's value.
        let joined = HeaderValue::try_from(names.join(",")).ok();
        joined.filter(|joined| !joined.is_empty()).map(Self::Listed)
    }
}

impl Pattern {
    fn parse(origin: &str) -> Option<Self> {
        let (https, host, port) = parse(origin)?;
        let host = match host.strip_prefix('*') {
            Some("") => Host::Any,
            Some(end) => Host::EndsWith(end.to_owned()),
            None => Host::Exactly(host.to_owned()),
        };
        Some(Self { https, host, port })
    }

    /// "`*` is a greedy match to the _left_, including any number of DNS labels to the left of its
    /// position." "A wildcard by itself matches all hosts."
    fn matches(&self, https: bool, host: &str, port: u16) -> bool {
        let matched = match &self.host {
            Host::Any => true,
            Host::Exactly(exactly) => host.eq_ignore_ascii_case(exactly),
            Host::EndsWith(end) => host.len().checked_sub(end.len()).is_some_and(|at| {
                at > 0 && host.as_bytes()[at..].eq_ignore_ascii_case(end.as_bytes())
            }),
        };
        matched && self.https == https && self.port == port
    }
}

/// Whether an origin is one of https, its host, and its port: "if not included, port `80` is assumed
/// for `http` scheme origins, and port `443` is assumed for `https` origins."
fn parse(origin: &str) -> Option<(bool, &str, u16)> {
    let (https, rest) = match origin.strip_prefix("https://") {
        Some(rest) => (true, rest),
        None => (false, origin.strip_prefix("http://")?),
    };
    let (host, port) = match rest.rsplit_once(':') {
        // The colons of an IPv6 literal are in brackets.
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (rest, if https { 443 } else { 80 }),
    };
    // A browser sends nothing else; who could would otherwise hide a host of theirs before ours.
    let of_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._*[]:".contains(&byte);
    (!host.is_empty() && rest.bytes().all(of_host)).then_some((https, host, port))
}
