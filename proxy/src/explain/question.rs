//! The request that is asked about, as a person types it: `GET http://reviews:9080/x` and headers.

use std::net::IpAddr;

use http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, TE};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use http::{Method, Request, Uri, Version};
use serde::{Deserialize, Serialize};
use weft_gamma::object::NamespacedName;

/// A question as it is typed, and as it is sent to the admin port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Words {
    /// `[METHOD] URL`
    pub request: Vec<String>,
    /// Each as in `end-user: jason`.
    #[serde(default)]
    pub headers: Vec<String>,
}

/// A request that somebody asks about.
#[derive(Clone, Debug)]
pub struct Question {
    pub(super) scheme: Scheme,
    pub(super) method: Method,
    /// As typed, without the port.
    host: String,
    pub(super) port: u16,
    /// Without a fragment.
    target: PathAndQuery,
    /// As typed, in their order, without Host.
    pub(super) headers: HeaderMap,
    /// What the request's Host says: the URL's, or the header that was given.
    host_header: HeaderValue,
}

/// What the connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    /// HTTP/2 with prior knowledge and gRPC's content type.
    Grpc,
    /// A TLS handshake comes first.
    Tls,
    /// Bytes of some other protocol.
    Tcp,
}

impl Scheme {
    /// Whether requests can be read.
    pub(super) fn is_of_requests(self) -> bool {
        matches!(self, Scheme::Http | Scheme::Grpc)
    }
}

/// Where a question's host leads, before anything is looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    Address(IpAddr),
    Service(NamespacedName),
}

/// A question that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadQuestion(String);

impl Question {
    /// Understands what was typed.
    pub fn parse(words: &Words) -> Result<Self, BadQuestion> {
        let (method, url) = match words.request.as_slice() {
            [url] => (None, url),
            [method, url] => (Some(method), url),
            _ => {
                return Err(bad(
                    "give a method and a URL, as in: GET http://reviews:9080/reviews/1",
                ));
            }
        };
        let Url { scheme, authority, target } = Url::parse(url)?;
        let method = match method {
            Some(method) => method_of(method, url)?,
            None if scheme == Scheme::Grpc => Method::POST,
            None => Method::GET,
        };
        let port = match (authority.port_u16(), scheme) {
            (Some(0), _) => return Err(bad(format!("{url}: 0 is not a port; use 1 to 65535"))),
            (Some(port), _) => port,
            (None, Scheme::Http) => 80,
            (None, Scheme::Tls) => 443,
            (None, Scheme::Grpc | Scheme::Tcp) => {
                let example = format!("{}:PORT", authority.host());
                return Err(bad(format!("{url}: has no port; write {example}")));
            }
        };
        let mut question = Self {
            scheme,
            method,
            host: authority.host().trim_start_matches('[').trim_end_matches(']').to_owned(),
            port,
            target,
            headers: HeaderMap::new(),
            host_header: host_header(&authority, scheme)?,
        };
        for header in &words.headers {
            question.add(header)?;
        }
        Ok(question)
    }

    /// The host as it was typed, without the port.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The host that the request names, without the port: the URL's, or the Host header that was given.
    pub(super) fn named_host(&self) -> &str {
        let host = self.host_header.to_str().unwrap_or_default();
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        name.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.')
    }

    /// Where its host leads for a pod in `namespace`: `reviews`, `reviews.bookinfo` and
    /// `reviews.bookinfo.svc…` are Services, as the cluster's DNS has them.
    pub(super) fn leads_to(&self, namespace: &str) -> Host {
        if let Ok(ip) = self.host.parse() {
            return Host::Address(ip);
        }
        let host = self.host.trim_end_matches('.').to_ascii_lowercase();
        let mut labels = host.split('.');
        let name = labels.next().unwrap_or_default().to_owned();
        let namespace = labels.next().unwrap_or(namespace).to_owned();
        match labels.next() {
            None | Some("svc") => Host::Service(NamespacedName { namespace, name }),
            // No Service's name has more labels: a name of the Internet, or a pod's.
            Some(_) => Host::Service(NamespacedName { namespace: String::new(), name: host }),
        }
    }

    /// The head of the request as a server reads it.
    pub(super) fn head(&self) -> Result<Parts, BadQuestion> {
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        *request.headers_mut() = self.headers.clone();
        if self.scheme == Scheme::Grpc {
            let headers = request.headers_mut();
            // What every gRPC client sends.
            headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/grpc"));
            headers.entry(TE).or_insert(HeaderValue::from_static("trailers"));
            // HTTP/2 has the host in the target (RFC 9113, section 8.3.1).
            let authority = Authority::try_from(self.host_header.as_bytes())
                .map_err(|error| bad(format!("the Host header is not a host: {error}")))?;
            let mut target = Uri::from(self.target.clone()).into_parts();
            target.scheme = Some(http::uri::Scheme::HTTP);
            target.authority = Some(authority);
            *request.version_mut() = Version::HTTP_2;
            *request.uri_mut() = Uri::from_parts(target).map_err(|error| bad(error.to_string()))?;
        } else {
            *request.uri_mut() = Uri::from(self.target.clone());
            request.headers_mut().insert(HOST, self.host_header.clone());
        }
        Ok(request.into_parts().0)
    }

    /// The URL in one form.
    pub(super) fn url(&self) -> String {
        let Self { host, port, target, .. } = self;
        let (scheme, default_port) = match self.scheme {
            Scheme::Http => ("http", 80),
            Scheme::Grpc => ("grpc", 0),
            Scheme::Tls => ("https", 443),
            Scheme::Tcp => return format!("tcp://{}:{port}", bracketed(host)),
        };
        match *port == default_port {
            true => format!("{scheme}://{}{target}", bracketed(host)),
            false => format!("{scheme}://{}:{port}{target}", bracketed(host)),
        }
    }

    fn add(&mut self, header: &str) -> Result<(), BadQuestion> {
        let Some((name, value)) = header.split_once(':') else {
            let example = "write name: value, as in -H 'end-user: jason'";
            return Err(bad(format!("{header:?} is not a header; {example}")));
        };
        let invalid =
            |what: &str| bad(format!("{header:?} is not a header: its {what} is invalid"));
        let name = HeaderName::try_from(name.trim()).map_err(|_| invalid("name"))?;
        let value = HeaderValue::try_from(value.trim()).map_err(|_| invalid("value"))?;
        if name == HOST {
            self.host_header = value;
        } else {
            self.headers.append(name, value);
        }
        Ok(())
    }
}

/// What a URL says.
struct Url {
    scheme: Scheme,
    authority: Authority,
    target: PathAndQuery,
}

impl Url {
    fn parse(text: &str) -> Result<Self, BadQuestion> {
        let wrong = |why: &str| {
            let example = "write it as in http://reviews:9080/reviews/1";
            bad(format!("{text:?} is not a URL: {why}; {example}"))
        };
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "grpc" => Scheme::Grpc,
            "https" | "tls" => Scheme::Tls,
            "tcp" => Scheme::Tcp,
            other => {
                return Err(wrong(&format!("{other} is not one of http, grpc, https and tcp")));
            }
        };
        let rest = rest.split_once('#').map_or(rest, |(rest, _fragment)| rest);
        let (authority, target) = match rest.find(['/', '?']) {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        if authority.is_empty() {
            return Err(wrong("it names no host"));
        }
        if authority.contains('@') {
            return Err(wrong("a user cannot be given"));
        }
        let authority =
            Authority::try_from(authority).map_err(|error| wrong(&error.to_string()))?;
        if !authority.as_str().ends_with(authority.host()) && authority.port_u16().is_none() {
            return Err(wrong("its port is not one of 1 to 65535"));
        }
        let target = match target.strip_prefix('?') {
            Some(query) => PathAndQuery::try_from(format!("/?{query}")),
            None => PathAndQuery::try_from(target),
        };
        let target = target.map_err(|error| wrong(&format!("{error} in its path or query")))?;
        if scheme == Scheme::Grpc && !is_grpc_path(target.path()) {
            return Err(bad(format!(
                "{text:?} names no gRPC method; write it as in grpc://cart:7070/shop.Cart/AddItem"
            )));
        }
        Ok(Self { scheme, authority, target })
    }
}

fn is_grpc_path(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    matches!(parts.as_slice(), ["", service, method] if !service.is_empty() && !method.is_empty())
}

fn method_of(method: &str, url: &str) -> Result<Method, BadQuestion> {
    if method.contains("://") {
        return Err(bad(format!("{method} {url}: the method comes first, then one URL")));
    }
    // Methods are case-sensitive, and all that are in use are in capitals.
    Method::try_from(method.to_ascii_uppercase().as_str())
        .map_err(|_| bad(format!("{method:?} is not a method; write GET, POST, …")))
}

/// The Host that a client sends: without the scheme's own port.
fn host_header(authority: &Authority, scheme: Scheme) -> Result<HeaderValue, BadQuestion> {
    let host = match (authority.port_u16(), scheme) {
        (Some(80), Scheme::Http) => authority.host(),
        _ => authority.as_str(),
    };
    HeaderValue::try_from(host).map_err(|_| bad(format!("{host:?} is not a host")))
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

fn bad(message: impl Into<String>) -> BadQuestion {
    BadQuestion(message.into())
}

#[cfg(test)]
mod tests;
