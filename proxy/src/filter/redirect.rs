//! RequestRedirect: where the client is sent.

use http::uri::PathAndQuery;
use http::{HeaderValue, Uri};
use weft_gamma::route::{PathMatch, Redirect, Scheme};

/// The `Location` of a redirect of a request for `host` (with its port, as the client sent it) and
/// `uri` that came to `port` of a Service.
pub(crate) fn location(
    redirect: &Redirect,
    host: &str,
    uri: &Uri,
    port: u16,
    matched: Option<&PathMatch>,
) -> Option<HeaderValue> {
    // "When empty, the scheme of the request is used": the mesh carries plain HTTP.
    let scheme = redirect.scheme.unwrap_or(Scheme::Http);
    let hostname = redirect.hostname.as_deref().unwrap_or_else(|| without_port(host));
    let port = target_port(redirect, scheme, port);
    let path = match &redirect.path {
        Some(modifier) => {
            modifier.apply(uri.path(), matched.unwrap_or(&PathMatch::Prefix(String::new())))
        }
        None => uri.path().to_owned(),
    };
    // `OPTIONS *` and CONNECT have no path that could stand in a Location.
    let path = if path.starts_with('/') { path } else { "/".to_owned() };
    let query = uri.path_and_query().and_then(PathAndQuery::query);
    let mut location = format!("{}://{hostname}", name(scheme));
    if let Some(port) = port {
        location.push_str(&format!(":{port}"));
    }
    location.push_str(&path);
    if let Some(query) = query {
        location.push('?');
        location.push_str(query);
    }
    HeaderValue::try_from(location).ok()
}

/// HTTPRequestRedirectFilter.port: "If redirect scheme is not-empty, the redirect port MUST be the
/// well-known port associated with the redirect scheme. […] If redirect scheme is empty, the
/// redirect port MUST be the Gateway Listener port", which for a mesh is the Service's. And:
/// "Implementations SHOULD NOT add the port number in the 'Location' header in the following cases:
/// […] HTTP […] port 80 […] HTTPS […] port 443".
fn target_port(redirect: &Redirect, scheme: Scheme, service_port: u16) -> Option<u16> {
    let well_known = match scheme {
        Scheme::Http => 80,
        Scheme::Https => 443,
    };
    let port = match (redirect.port, redirect.scheme) {
        (Some(port), _) => port,
        (None, Some(_)) => well_known,
        (None, None) => service_port,
    };
    (port != well_known).then_some(port)
}

fn name(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    }
}

/// A host without its port; an IPv6 literal keeps its brackets.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            // The colon of `[::1]` is none of a port.
            if name.starts_with('[') && !name.ends_with(']') { host } else { name }
        }
        _ => host,
    }
}
