//! Reads the matches of a rule. [`crate::decode::rule`] calls it.
//!
//! A criterion that cannot be read is a fault of its rule, which then answers 500. What the match
//! still catches decides which requests that is: see [`PathMatch::Unreadable`] and
//! [`ValueMatch::Unreadable`].

use gateway_api::apis::experimental::grpcroutes::{
    GrpcRouteRulesMatchesMethod, GrpcRouteRulesMatchesMethodType,
};
use gateway_api::apis::experimental::httproutes::{
    HttpRouteRulesMatchesHeaders, HttpRouteRulesMatchesHeadersType, HttpRouteRulesMatchesMethod,
    HttpRouteRulesMatchesPath, HttpRouteRulesMatchesPathType, HttpRouteRulesMatchesQueryParams,
    HttpRouteRulesMatchesQueryParamsType,
};
use http::{HeaderName, Method};
use regex::{Regex, RegexBuilder};
use serde_json::Value;

use super::part::{Faults, fields, items, present, read};
use super::value::{header_name, is_header_value, is_path, is_token};
use crate::route::{GrpcMatch, HeaderMatch, HttpMatch, PathMatch, QueryMatch, ValueMatch};

/// The most memory, in bytes, that one compiled pattern may take: enough for a few Unicode classes,
/// too little for `(\w{100}){100}`. A route must not be able to exhaust the proxy.
const REGEX_SIZE_LIMIT: usize = 256 * 1024;

/// The most memory, in bytes, that one pattern's lazily built automaton may take while it matches.
const REGEX_DFA_SIZE_LIMIT: usize = 1024 * 1024;

/// The API's limits on the length of values, in characters.
const MAX_PATH: usize = 1024;
const MAX_HEADER_VALUE: usize = 4096;
const MAX_QUERY_VALUE: usize = 1024;
const MAX_GRPC_NAME: usize = 1024;

/// The match of an HTTPRoute's rule that has none.
///
/// "If no matches are specified, the default is a prefix path match on "/", which has the effect of
/// matching every HTTP request."
pub(super) fn http_default() -> HttpMatch {
    HttpMatch {
        path: PathMatch::Prefix(String::new()),
        method: None,
        headers: Vec::new(),
        query: Vec::new(),
    }
}

/// The match of a GRPCRoute's rule that has none.
///
/// "If no matches are specified, the implementation MUST match every gRPC request."
pub(super) fn grpc_default() -> GrpcMatch {
    GrpcMatch { service: None, method: None, headers: Vec::new() }
}

/// The match that stands for an HTTPRoute's match that cannot be read at all.
pub(super) fn http_unreadable() -> HttpMatch {
    HttpMatch { path: PathMatch::Unreadable, ..http_default() }
}

/// The match that stands for a GRPCRoute's match that cannot be read at all.
pub(super) fn grpc_unreadable() -> GrpcMatch {
    GrpcMatch { service: Some(ValueMatch::Unreadable), ..grpc_default() }
}

/// Reads a match of an HTTPRoute.
pub(super) fn http(value: &Value, at: &str, faults: &mut Faults) -> HttpMatch {
    let known = ["path", "method", "headers", "queryParams"];
    let Some(map) = fields(value, at, &known, faults) else {
        return http_unreadable();
    };
    let mut matched = http_default();
    if let Some(value) = present(map, "path") {
        matched.path = path(value, &format!("{at}.path"), faults);
    }
    let mut readable = true;
    if let Some(value) = present(map, "method") {
        matched.method = method(value, &format!("{at}.method"), faults);
        readable &= matched.method.is_some();
    }
    match headers(map.get("headers"), &format!("{at}.headers"), faults) {
        Ok(headers) => matched.headers = headers,
        Err(rest) => (matched.headers, readable) = (rest, false),
    }
    match query(map.get("queryParams"), &format!("{at}.queryParams"), faults) {
        Ok(query) => matched.query = query,
        Err(rest) => (matched.query, readable) = (rest, false),
    }
    if !readable {
        // A criterion is missing from the match, so it catches more than its author meant: at its
        // own rank it would take requests from good rules.
        matched.path = PathMatch::Unreadable;
    }
    matched
}

/// Reads a match of a GRPCRoute.
pub(super) fn grpc(value: &Value, at: &str, faults: &mut Faults) -> GrpcMatch {
    let Some(map) = fields(value, at, &["method", "headers"], faults) else {
        return grpc_unreadable();
    };
    let mut matched = grpc_default();
    if let Some(value) = present(map, "method") {
        (matched.service, matched.method) = grpc_method(value, &format!("{at}.method"), faults);
    }
    match headers(map.get("headers"), &format!("{at}.headers"), faults) {
        Ok(headers) => matched.headers = headers,
        Err(rest) => {
            matched = GrpcMatch { headers: rest, ..grpc_unreadable() };
        }
    }
    matched
}

fn path(value: &Value, at: &str, faults: &mut Faults) -> PathMatch {
    let Some(part) = read::<HttpRouteRulesMatchesPath>(value, at, faults) else {
        return PathMatch::Unreadable;
    };
    let kind = part.r#type.unwrap_or(HttpRouteRulesMatchesPathType::PathPrefix);
    let value = part.value.unwrap_or_else(|| "/".to_owned());
    let at = format!("{at}.value");
    if kind == HttpRouteRulesMatchesPathType::RegularExpression {
        return regex(&value, MAX_PATH, &at, faults)
            .map_or(PathMatch::Unreadable, PathMatch::Regex);
    }
    if let Err(message) = readable_path(&value) {
        faults.unsupported(at, message);
        return PathMatch::Unreadable;
    }
    match kind {
        HttpRouteRulesMatchesPathType::Exact => PathMatch::Exact(value),
        // "When specified, a trailing `/` is ignored."
        _ => PathMatch::Prefix(value.strip_suffix('/').unwrap_or(&value).to_owned()),
    }
}

/// What the API's validation demands of the value of an Exact or PathPrefix match. It repeats it
/// because a route from a file has not been through the API server.
fn readable_path(value: &str) -> Result<(), String> {
    if value.chars().count() > MAX_PATH {
        return Err(format!("is longer than {MAX_PATH} characters"));
    }
    if !value.starts_with('/') {
        return Err("must be an absolute path and start with '/'".to_owned());
    }
    for part in ["//", "/./", "/../", "%2f", "%2F", "#"] {
        if value.contains(part) {
            return Err(format!("must not contain '{part}'"));
        }
    }
    for end in ["/..", "/."] {
        if value.ends_with(end) {
            return Err(format!("must not end with '{end}'"));
        }
    }
    if !is_path(value) {
        return Err("must only contain characters of a path; percent-encode others".to_owned());
    }
    Ok(())
}

fn method(value: &Value, at: &str, faults: &mut Faults) -> Option<Method> {
    // Read for its faults: a method that the API does not know is refused, yet keeps its match to
    // requests of that method.
    let _: Option<HttpRouteRulesMatchesMethod> = read(value, at, faults);
    Method::from_bytes(value.as_str()?.as_bytes()).ok()
}

/// The criteria on headers; Err with the readable ones where one cannot be told whose it is.
fn headers(
    value: Option<&Value>,
    at: &str,
    faults: &mut Faults,
) -> Result<Vec<HeaderMatch>, Vec<HeaderMatch>> {
    let Some(values) = items(value, at, faults) else {
        return Err(Vec::new());
    };
    let mut headers: Vec<HeaderMatch> = Vec::with_capacity(values.len());
    let mut readable = true;
    for (index, value) in values.iter().enumerate() {
        match header(value, &format!("{at}[{index}]"), faults) {
            // "If multiple entries specify equivalent header names, only the first entry with an
            // equivalent name MUST be considered for a match. Subsequent entries with an
            // equivalent header name MUST be ignored. Due to the case-insensitivity of header
            // names, "foo" and "Foo" are considered equivalent."
            Some(header) if headers.iter().any(|first| first.name == header.name) => {}
            Some(header) => headers.push(header),
            None => readable = false,
        }
    }
    if readable { Ok(headers) } else { Err(headers) }
}

fn header(value: &Value, at: &str, faults: &mut Faults) -> Option<HeaderMatch> {
    let part: Option<HttpRouteRulesMatchesHeaders> = read(value, at, faults);
    let name = criterion_name(value, part.as_ref().map(|part| part.name.as_str()))?;
    let name: HeaderName = match header_name(name) {
        Ok(name) => name,
        Err(message) => {
            faults.unsupported(format!("{at}.name"), message);
            return None;
        }
    };
    let at = format!("{at}.value");
    let criterion = part.and_then(|part| match part.r#type {
        Some(HttpRouteRulesMatchesHeadersType::RegularExpression) => {
            regex(&part.value, MAX_HEADER_VALUE, &at, faults).map(ValueMatch::Regex)
        }
        Some(HttpRouteRulesMatchesHeadersType::Exact) | None => {
            if part.value.len() > MAX_HEADER_VALUE || !is_header_value(&part.value) {
                faults.unsupported(&at, "is not the value of a header; it could never match");
                return None;
            }
            Some(ValueMatch::Exact(part.value))
        }
    });
    Some(HeaderMatch { name, value: criterion.unwrap_or(ValueMatch::Unreadable) })
}

/// The criteria on query parameters; Err with the readable ones where one cannot be told whose it is.
fn query(
    value: Option<&Value>,
    at: &str,
    faults: &mut Faults,
) -> Result<Vec<QueryMatch>, Vec<QueryMatch>> {
    let Some(values) = items(value, at, faults) else {
        return Err(Vec::new());
    };
    let mut query: Vec<QueryMatch> = Vec::with_capacity(values.len());
    let mut readable = true;
    for (index, value) in values.iter().enumerate() {
        match query_param(value, &format!("{at}[{index}]"), faults) {
            // "If multiple entries specify equivalent query param names, only the first entry with
            // an equivalent name MUST be considered for a match."
            Some(param) if query.iter().any(|first| first.name == param.name) => {}
            Some(param) => query.push(param),
            None => readable = false,
        }
    }
    if readable { Ok(query) } else { Err(query) }
}

fn query_param(value: &Value, at: &str, faults: &mut Faults) -> Option<QueryMatch> {
    let part: Option<HttpRouteRulesMatchesQueryParams> = read(value, at, faults);
    let name = criterion_name(value, part.as_ref().map(|part| part.name.as_str()))?.to_owned();
    if !is_token(&name) {
        faults.unsupported(format!("{at}.name"), "is not the name of a query parameter");
        return None;
    }
    let at = format!("{at}.value");
    let criterion = part.and_then(|part| match part.r#type {
        Some(HttpRouteRulesMatchesQueryParamsType::RegularExpression) => {
            regex(&part.value, MAX_QUERY_VALUE, &at, faults).map(ValueMatch::Regex)
        }
        Some(HttpRouteRulesMatchesQueryParamsType::Exact) | None => {
            if part.value.is_empty() || part.value.chars().count() > MAX_QUERY_VALUE {
                faults.unsupported(&at, format!("must have 1 to {MAX_QUERY_VALUE} characters"));
                return None;
            }
            Some(ValueMatch::Exact(part.value))
        }
    });
    Some(QueryMatch { name, value: criterion.unwrap_or(ValueMatch::Unreadable) })
}

/// The name of a header or query criterion, also where the rest of it cannot be read: it tells whose
/// requests the broken criterion was meant for.
fn criterion_name<'v>(value: &'v Value, read: Option<&'v str>) -> Option<&'v str> {
    read.or_else(|| value.get("name")?.as_str())
}

fn grpc_method(
    value: &Value,
    at: &str,
    faults: &mut Faults,
) -> (Option<ValueMatch>, Option<ValueMatch>) {
    let Some(part) = read::<GrpcRouteRulesMatchesMethod>(value, at, faults) else {
        return (Some(ValueMatch::Unreadable), None);
    };
    // "Value of the service to match against. If left empty or omitted, will match any service. At
    // least one of Service and Method MUST be a non-empty string."
    let service = part.service.filter(|service| !service.is_empty());
    let method = part.method.filter(|method| !method.is_empty());
    if service.is_none() && method.is_none() {
        faults.unsupported(at, "one or both of 'service' or 'method' must be specified");
        return (Some(ValueMatch::Unreadable), None);
    }
    let exact = part.r#type != Some(GrpcRouteRulesMatchesMethodType::RegularExpression);
    let mut name = |value: String, field: &str, valid: fn(&str) -> bool| {
        let at = format!("{at}.{field}");
        if !exact {
            return regex(&value, MAX_GRPC_NAME, &at, faults)
                .map_or(ValueMatch::Unreadable, ValueMatch::Regex);
        }
        if value.len() > MAX_GRPC_NAME || !valid(&value) {
            faults.unsupported(at, format!("is not the name of a gRPC {field}"));
            return ValueMatch::Unreadable;
        }
        ValueMatch::Exact(value)
    };
    let service = service.map(|value| name(value, "service", is_grpc_service));
    let method = method.map(|value| name(value, "method", is_grpc_identifier));
    (service, method)
}

/// `^(?i)\.?[a-z_][a-z_0-9]*(\.[a-z_][a-z_0-9]*)*$`
fn is_grpc_service(value: &str) -> bool {
    value.strip_prefix('.').unwrap_or(value).split('.').all(is_grpc_identifier)
}

/// `^[A-Za-z_][A-Za-z_0-9]*$`
fn is_grpc_identifier(value: &str) -> bool {
    value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && value.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())
}

/// A pattern for a whole value, in linear time and bounded memory.
fn regex(pattern: &str, max: usize, at: &str, faults: &mut Faults) -> Option<Regex> {
    if pattern.chars().count() > max {
        faults.unsupported(at, format!("is longer than {max} characters"));
        return None;
    }
    let build = |pattern: &str| {
        RegexBuilder::new(pattern)
            .size_limit(REGEX_SIZE_LIMIT)
            .dfa_size_limit(REGEX_DFA_SIZE_LIMIT)
            .build()
    };
    // First on its own: `a)|(b` is no pattern, but would be one between the anchors' parentheses,
    // and then it would not be anchored.
    match build(pattern).and_then(|_| build(&format!("^(?:{pattern})$"))) {
        Ok(regex) => Some(regex),
        Err(error) => {
            let reason = one_line(&error.to_string());
            let message = format!("{pattern:?} is not a valid regular expression: {reason}");
            faults.unsupported(at, message);
            None
        }
    }
}

/// What an invalid pattern's error says in its last line, after a drawing that no line of a log and no
/// condition has room for.
fn one_line(error: &str) -> String {
    let last = error.lines().rfind(|line| !line.trim().is_empty()).unwrap_or(error);
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}
