//! Reads the filters of a rule or a backend. [`crate::decode::rule`] calls it.
//!
//! One parser for all: the schema of backend filters is that of rule filters, and GRPCRoute has a
//! subset of HTTPRoute's.

use std::collections::HashSet;
use std::mem::discriminant;

use gateway_api::apis::experimental::httproutes::{
    HttpRouteRulesFilters, HttpRouteRulesFiltersCors, HttpRouteRulesFiltersRequestMirror,
    HttpRouteRulesFiltersRequestRedirect, HttpRouteRulesFiltersRequestRedirectPathType,
    HttpRouteRulesFiltersRequestRedirectScheme, HttpRouteRulesFiltersType,
    HttpRouteRulesFiltersUrlRewrite, HttpRouteRulesFiltersUrlRewritePathType,
};
use http::header::HOST;
use http::uri::Authority;
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::Value;

use super::backend;
use super::part::{Faults, items, port, read};
use super::value::{header_name, header_value, is_hostname, is_path, is_token};
use crate::route::{
    Cors, Filter, HeaderModifier, Mirror, PathModifier, Redirect, Rewrite, RouteKind, Scheme,
};

/// The API's limit on the length of a replacement for a path.
const MAX_PATH: usize = 1024;

/// Reads the filters at `at`; those that cannot be read are missing and are faults.
pub(super) fn filters(
    value: Option<&Value>,
    at: &str,
    kind: RouteKind,
    faults: &mut Faults,
) -> Vec<Filter> {
    let mut filters: Vec<Filter> = Vec::new();
    for (index, value) in items(value, at, faults).unwrap_or_default().iter().enumerate() {
        let at = format!("{at}[{index}]");
        let Some(filter) = filter(value, &at, kind, faults) else {
            continue;
        };
        // "Specifying the same filter multiple times is not supported unless explicitly indicated
        // in the filter." RequestMirror indicates it: it may be repeated.
        let repeated = filters.iter().any(|other| discriminant(other) == discriminant(&filter));
        if repeated && !matches!(filter, Filter::Mirror(_)) {
            faults.incompatible(&at, "a filter of this type cannot be repeated; merge the two");
        }
        filters.push(filter);
    }
    let redirect = filters.iter().any(|filter| matches!(filter, Filter::Redirect(_)));
    if redirect && filters.iter().any(|filter| matches!(filter, Filter::Rewrite(_))) {
        // "All filters are expected to be compatible with each other except for the URLRewrite and
        // RequestRedirect filters, which may not be combined."
        faults.incompatible(at, "RequestRedirect and URLRewrite cannot be combined; keep one");
    }
    filters
}

fn filter(value: &Value, at: &str, kind: RouteKind, faults: &mut Faults) -> Option<Filter> {
    let part: HttpRouteRulesFilters = read(value, at, faults)?;
    if kind == RouteKind::Grpc && !grpc_has(&part.r#type) {
        faults.unsupported(
            format!("{at}.type"),
            "GRPCRoute has no filter of this type; use RequestHeaderModifier, \
             ResponseHeaderModifier or RequestMirror",
        );
        return None;
    }
    members(&part, at, faults);
    match part.r#type {
        HttpRouteRulesFiltersType::RequestHeaderModifier => {
            let part = part.request_header_modifier?;
            let set = part.set.into_iter().flatten().map(|header| (header.name, header.value));
            let add = part.add.into_iter().flatten().map(|header| (header.name, header.value));
            let at = format!("{at}.requestHeaderModifier");
            let modifier = modifier(set, add, part.remove, &at, faults);
            check_host(&modifier, &at, faults);
            Some(Filter::RequestHeaders(modifier))
        }
        HttpRouteRulesFiltersType::ResponseHeaderModifier => {
            let part = part.response_header_modifier?;
            let set = part.set.into_iter().flatten().map(|header| (header.name, header.value));
            let add = part.add.into_iter().flatten().map(|header| (header.name, header.value));
            let at = format!("{at}.responseHeaderModifier");
            Some(Filter::ResponseHeaders(modifier(set, add, part.remove, &at, faults)))
        }
        HttpRouteRulesFiltersType::RequestRedirect => {
            let at = format!("{at}.requestRedirect");
            redirect(part.request_redirect?, &at, faults).map(Filter::Redirect)
        }
        HttpRouteRulesFiltersType::UrlRewrite => {
            let at = format!("{at}.urlRewrite");
            rewrite(part.url_rewrite?, &at, faults).map(Filter::Rewrite)
        }
        HttpRouteRulesFiltersType::RequestMirror => {
            let at = format!("{at}.requestMirror");
            mirror(part.request_mirror?, &at, faults).map(Filter::Mirror)
        }
        HttpRouteRulesFiltersType::Cors => {
            Some(Filter::Cors(cors(part.cors?, &format!("{at}.cors"), faults)))
        }
        HttpRouteRulesFiltersType::ExtensionRef => {
            // "If a reference to a custom filter type cannot be resolved, the filter MUST NOT be
            // skipped. Instead, requests that would have been processed by that filter MUST
            // receive a HTTP error response."
            faults.unsupported(format!("{at}.type"), "ExtensionRef: Weft has no custom filters");
            None
        }
        HttpRouteRulesFiltersType::ExternalAuth => {
            faults.unsupported(format!("{at}.type"), "ExternalAuth is not implemented");
            None
        }
    }
}

fn grpc_has(kind: &HttpRouteRulesFiltersType) -> bool {
    matches!(
        kind,
        HttpRouteRulesFiltersType::RequestHeaderModifier
            | HttpRouteRulesFiltersType::ResponseHeaderModifier
            | HttpRouteRulesFiltersType::RequestMirror
            | HttpRouteRulesFiltersType::ExtensionRef
    )
}

/// A filter has the member that its type names, and no other.
fn members(part: &HttpRouteRulesFilters, at: &str, faults: &mut Faults) {
    use HttpRouteRulesFiltersType as Type;
    let members = [
        (
            "requestHeaderModifier",
            Type::RequestHeaderModifier,
            part.request_header_modifier.is_some(),
        ),
        (
            "responseHeaderModifier",
            Type::ResponseHeaderModifier,
            part.response_header_modifier.is_some(),
        ),
        ("requestRedirect", Type::RequestRedirect, part.request_redirect.is_some()),
        ("urlRewrite", Type::UrlRewrite, part.url_rewrite.is_some()),
        ("requestMirror", Type::RequestMirror, part.request_mirror.is_some()),
        ("cors", Type::Cors, part.cors.is_some()),
        ("extensionRef", Type::ExtensionRef, part.extension_ref.is_some()),
        ("externalAuth", Type::ExternalAuth, part.external_auth.is_some()),
    ];
    for (name, kind, present) in members {
        match (present, kind == part.r#type) {
            (true, false) => faults.unsupported(
                format!("{at}.{name}"),
                "must not be set: the filter is of another type; correct `type` or remove it",
            ),
            (false, true) => {
                faults.unsupported(format!("{at}.{name}"), "must be set, as `type` says");
            }
            _ => {}
        }
    }
}

fn modifier(
    set: impl Iterator<Item = (String, String)>,
    add: impl Iterator<Item = (String, String)>,
    remove: Option<Vec<String>>,
    at: &str,
    faults: &mut Faults,
) -> HeaderModifier {
    let modifier = HeaderModifier {
        set: headers(set, &format!("{at}.set"), faults),
        add: headers(add, &format!("{at}.add"), faults),
        remove: remove
            .into_iter()
            .flatten()
            .enumerate()
            .filter_map(|(index, name)| match header_name(&name) {
                Ok(name) => Some(name),
                Err(message) => {
                    faults.unsupported(format!("{at}.remove[{index}]"), message);
                    None
                }
            })
            .collect(),
    };
    // A name in two actions has no defined meaning.
    let set: HashSet<&HeaderName> = modifier.set.iter().map(|(name, _)| name).collect();
    let add: HashSet<&HeaderName> = modifier.add.iter().map(|(name, _)| name).collect();
    let remove: HashSet<&HeaderName> = modifier.remove.iter().collect();
    let twice = set.iter().filter(|name| add.contains(*name) || remove.contains(*name));
    let mut twice: Vec<_> =
        twice.chain(add.iter().filter(|name| remove.contains(*name))).map(|n| n.as_str()).collect();
    twice.sort_unstable();
    twice.dedup();
    for name in twice {
        let message = format!("header {name} is in more than one of set, add and remove");
        faults.unsupported(at, message);
    }
    check_framing(&modifier, at, faults);
    modifier
}

/// What frames a message or concerns one connection only is for each side of the proxy to say
/// (RFC 9110, section 7.6.1; RFC 9112, section 6): a filter that changes it would tear messages apart.
const FRAMING: [&str; 7] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

fn check_framing(modifier: &HeaderModifier, at: &str, faults: &mut Faults) {
    let mut check = |list: &str, names: &mut dyn Iterator<Item = &HeaderName>| {
        for name in names.filter(|name| FRAMING.contains(&name.as_str())) {
            let message = format!("{name} frames messages and cannot be changed; remove it");
            faults.unsupported(format!("{at}.{list}"), message);
        }
    };
    check("set", &mut modifier.set.iter().map(|(name, _)| name));
    check("add", &mut modifier.add.iter().map(|(name, _)| name));
    check("remove", &mut modifier.remove.iter());
}

/// A request has exactly one Host (RFC 9112, section 3.2), and it is a host.
fn check_host(modifier: &HeaderModifier, at: &str, faults: &mut Faults) {
    let added = modifier.add.iter().any(|(name, _)| *name == HOST);
    for (list, present) in [("add", added), ("remove", modifier.remove.contains(&HOST))] {
        if present {
            let message = "a request has one Host; use set, or URLRewrite's hostname";
            faults.unsupported(format!("{at}.{list}"), message);
        }
    }
    for (_, value) in modifier.set.iter().filter(|(name, _)| *name == HOST) {
        // An authority with a user is one, but not a host.
        if value.as_bytes().contains(&b'@') || Authority::try_from(value.as_bytes()).is_err() {
            let message = format!("{value:?} is not a host");
            faults.unsupported(format!("{at}.set"), message);
        }
    }
}

fn headers(
    pairs: impl Iterator<Item = (String, String)>,
    at: &str,
    faults: &mut Faults,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for (index, (name, value)) in pairs.enumerate() {
        match (header_name(&name), header_value(&value)) {
            // "If multiple entries specify equivalent header names, the first entry with an
            // equivalent name MUST be considered for a match. Subsequent entries with an equivalent
            // header name MUST be ignored."
            (Ok(name), Ok(_)) if headers.iter().any(|(first, _)| *first == name) => {}
            (Ok(name), Ok(value)) => headers.push((name, value)),
            (Err(message), _) => faults.unsupported(format!("{at}[{index}].name"), message),
            (_, Err(message)) => faults.unsupported(format!("{at}[{index}].value"), message),
        }
    }
    headers
}

fn redirect(
    part: HttpRouteRulesFiltersRequestRedirect,
    at: &str,
    faults: &mut Faults,
) -> Option<Redirect> {
    let before = faults.0.len();
    if let Some(hostname) = &part.hostname {
        check_hostname(hostname, at, faults);
    }
    let path = part.path.and_then(|path| {
        let full = path.r#type == HttpRouteRulesFiltersRequestRedirectPathType::ReplaceFullPath;
        let at = format!("{at}.path");
        path_modifier(full, path.replace_full_path, path.replace_prefix_match, &at, faults)
    });
    let number = part.status_code.unwrap_or(302);
    let status = match number {
        301 | 302 | 303 | 307 | 308 => u16::try_from(number).ok(),
        _ => None,
    };
    let status = status.and_then(|code| StatusCode::from_u16(code).ok());
    if status.is_none() {
        let message = format!("{number} is not supported; use 301, 302, 303, 307 or 308");
        faults.unsupported(format!("{at}.statusCode"), message);
    }
    let redirect = Redirect {
        scheme: part.scheme.map(|scheme| match scheme {
            HttpRouteRulesFiltersRequestRedirectScheme::Http => Scheme::Http,
            HttpRouteRulesFiltersRequestRedirectScheme::Https => Scheme::Https,
        }),
        hostname: part.hostname,
        port: part.port.and_then(|number| port(number, &format!("{at}.port"), faults)),
        path,
        status: status?,
    };
    // Half a redirect would send clients to a wrong place.
    (faults.0.len() == before).then_some(redirect)
}

fn rewrite(
    part: HttpRouteRulesFiltersUrlRewrite,
    at: &str,
    faults: &mut Faults,
) -> Option<Rewrite> {
    let before = faults.0.len();
    let hostname = part.hostname.and_then(|hostname| {
        check_hostname(&hostname, at, faults);
        HeaderValue::from_str(&hostname).ok()
    });
    let path = part.path.and_then(|path| {
        let full = path.r#type == HttpRouteRulesFiltersUrlRewritePathType::ReplaceFullPath;
        let at = format!("{at}.path");
        path_modifier(full, path.replace_full_path, path.replace_prefix_match, &at, faults)
    });
    (faults.0.len() == before).then_some(Rewrite { hostname, path })
}

fn check_hostname(hostname: &str, at: &str, faults: &mut Faults) {
    if !is_hostname(hostname) {
        let message = format!("{hostname:?} is not a hostname in lower case without a wildcard");
        faults.unsupported(format!("{at}.hostname"), message);
    }
}

fn path_modifier(
    full: bool,
    full_path: Option<String>,
    prefix: Option<String>,
    at: &str,
    faults: &mut Faults,
) -> Option<PathModifier> {
    let ((name, value), (other, extra)) = match full {
        true => (("replaceFullPath", full_path), ("replacePrefixMatch", prefix)),
        false => (("replacePrefixMatch", prefix), ("replaceFullPath", full_path)),
    };
    if extra.is_some() {
        let message = "must not be set: `type` names the other; remove it or correct `type`";
        faults.unsupported(format!("{at}.{other}"), message);
    }
    let Some(value) = value else {
        faults.unsupported(format!("{at}.{name}"), "must be set, as `type` says");
        return None;
    };
    if value.len() > MAX_PATH || !(value.is_empty() || is_path(&value)) {
        let message =
            format!("is not a path of at most {MAX_PATH} characters; percent-encode others");
        faults.unsupported(format!("{at}.{name}"), message);
        return None;
    }
    Some(match full {
        true => PathModifier::ReplaceFullPath(value),
        false => PathModifier::ReplacePrefixMatch(value),
    })
}

fn mirror(
    part: HttpRouteRulesFiltersRequestMirror,
    at: &str,
    faults: &mut Faults,
) -> Option<Mirror> {
    let target = part.backend_ref;
    let backend = backend::Fields {
        group: target.group,
        kind: target.kind,
        namespace: target.namespace,
        name: target.name,
        port: target.port,
        weight: None,
    };
    let backend = backend::reference(backend, &format!("{at}.backendRef"), faults);
    let share = match (part.percent, part.fraction) {
        (Some(_), Some(_)) => {
            let message = "only one of percent or fraction may be specified; remove one";
            faults.unsupported(at, message);
            return None;
        }
        // "If neither field is specified, 100% of requests will be mirrored."
        (None, None) => (1, 1),
        (Some(percent), None) => (percent, 100),
        (None, Some(fraction)) => (fraction.numerator, fraction.denominator.unwrap_or(100)),
    };
    match (u32::try_from(share.0), u32::try_from(share.1)) {
        (Ok(numerator), Ok(denominator)) if denominator > 0 && numerator <= denominator => {
            Some(Mirror { backend: backend?, numerator, denominator })
        }
        _ => {
            let message = format!("{}/{} is not a share between 0 and 1", share.0, share.1);
            faults.unsupported(at, message);
            None
        }
    }
}

fn cors(part: HttpRouteRulesFiltersCors, at: &str, faults: &mut Faults) -> Cors {
    let cors = Cors {
        allow_origins: part.allow_origins.unwrap_or_default(),
        allow_credentials: part.allow_credentials.unwrap_or(false),
        allow_methods: part.allow_methods.unwrap_or_default(),
        allow_headers: part.allow_headers.unwrap_or_default(),
        expose_headers: part.expose_headers.unwrap_or_default(),
        max_age: part.max_age.unwrap_or(5),
    };
    const METHODS: [&str; 10] =
        ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "*"];
    let method: fn(&str) -> bool = |value| METHODS.contains(&value);
    let lists = [
        ("allowOrigins", &cors.allow_origins, is_origin as fn(&str) -> bool, true),
        ("allowMethods", &cors.allow_methods, method, true),
        ("allowHeaders", &cors.allow_headers, is_token, true),
        ("exposeHeaders", &cors.expose_headers, is_token, false),
    ];
    for (name, values, valid, alone) in lists {
        for (index, value) in values.iter().enumerate().filter(|(_, value)| !valid(value)) {
            faults.unsupported(format!("{at}.{name}[{index}]"), format!("{value:?} is not valid"));
        }
        if alone && values.len() > 1 && values.iter().any(|value| value == "*") {
            faults.unsupported(format!("{at}.{name}"), "cannot contain '*' alongside others");
        }
    }
    if cors.max_age < 1 {
        faults.unsupported(format!("{at}.maxAge"), "must be at least 1");
    }
    cors
}

/// `*`, or a scheme and a host with an optional port, where the host is or begins with a wildcard or
/// has none.
fn is_origin(value: &str) -> bool {
    let Some(rest) = value.strip_prefix("http://").or_else(|| value.strip_prefix("https://"))
    else {
        return value == "*";
    };
    let (host, port) = rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port)));
    // "Valid values for port are any integer between 1 and 65535".
    let port = port.is_none_or(|port| {
        port.bytes().all(|byte| byte.is_ascii_digit())
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let host = host == "*" || host.strip_prefix("*.").unwrap_or(host).split('.').all(label);
    value.len() <= 253 && port && host
}
