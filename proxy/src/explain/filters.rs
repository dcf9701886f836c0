//! What filters do to the request that is asked about: found by running them.

use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};
use http::request::Parts;
use weft_gamma::route::{HeaderModifier, PathMatch};

use super::answer::{self, Answer, Forwarded};
use super::decide;
use crate::filter::{Chain, Filter};

/// Runs the filters one by one; says what each does.
pub(super) fn walk(
    chain: &Chain<'_>,
    parts: &mut Parts,
    matched: Option<&PathMatch>,
) -> Vec<answer::Filter> {
    let headers = parts.headers.clone();
    let mut before = parts.clone();
    let mut shown = Vec::new();
    chain.walk(parts, matched, |filter, after| {
        let mut effects = changes(&before, after);
        effects.extend(beside(filter, &headers));
        if effects.is_empty() {
            effects.push("changes nothing of this request".to_owned());
        }
        before = after.clone();
        shown.push(answer::Filter { r#type: type_of(filter), effects });
    });
    shown
}

/// The filters of a rule or a backend where the proxy answers by itself: those of the response are run
/// all the same, and those of the request where a mirror gets what is redirected.
pub(super) fn of_answer(
    filters: &[Filter],
    answer: &Answer,
    headers: &HeaderMap,
) -> Vec<answer::Filter> {
    let redirects = answer.location.is_some();
    let mirrors = redirects && filters.iter().any(|it| matches!(it, Filter::Mirror(_)));
    let shown = filters.iter().map(|filter| {
        let effects = match filter {
            Filter::Redirect(_) if redirects => vec![answer.to_string()],
            Filter::RequestHeaders(_) | Filter::Rewrite(_) if mirrors => {
                vec!["changes what mirrors get, and nothing else".to_owned()]
            }
            Filter::Cors(_) if !answer.headers.is_empty() => vec!["answers".to_owned()],
            Filter::Mirror(_) if redirects => beside(filter, headers),
            Filter::ResponseHeaders(_) | Filter::Cors(_) => beside(filter, headers),
            _ => vec!["is not run: the proxy answers".to_owned()],
        };
        answer::Filter { r#type: type_of(filter), effects }
    });
    shown.collect()
}

/// The request as it stands.
pub(super) fn forwarded(parts: &Parts) -> Forwarded {
    let mut headers = decide::headers(&parts.headers);
    headers.retain(|header| header.name != HOST.as_str());
    Forwarded {
        method: parts.method.to_string(),
        target: parts.uri.to_string(),
        host: parts.headers.get(HOST).map(text).unwrap_or_default(),
        headers,
    }
}

/// What differs between a request before and after a filter.
fn changes(before: &Parts, after: &Parts) -> Vec<String> {
    let mut changes = Vec::new();
    if before.uri != after.uri {
        changes.push(format!("path {} → {}", before.uri, after.uri));
    }
    let mut names: Vec<&HeaderName> = before.headers.keys().collect();
    names.extend(after.headers.keys().filter(|name| !before.headers.contains_key(*name)));
    for name in names {
        let (old, new) = (values(&before.headers, name), values(&after.headers, name));
        match (old, new) {
            (old, new) if old == new => {}
            (Some(old), Some(new)) => changes.push(format!("header {name}: {old} → {new}")),
            (None, Some(new)) => changes.push(format!("header {name}: {new}")),
            (_, None) => changes.push(format!("header {name} is removed")),
        }
    }
    changes
}

/// What a filter does besides changing the request, whose headers came as these.
fn beside(filter: &Filter, headers: &HeaderMap) -> Vec<String> {
    match filter {
        Filter::ResponseHeaders(HeaderModifier { set, add, remove }) => {
            let pair = |what: &str, (name, value): &(HeaderName, HeaderValue)| {
                format!("of the response, header {name} {what} {}", text(value))
            };
            let set = set.iter().map(|it| pair("is set to", it));
            let add = add.iter().map(|it| pair("gets", it));
            let remove = remove.iter().map(|it| format!("of the response, header {it} is removed"));
            set.chain(add).chain(remove).collect()
        }
        Filter::Mirror(mirror) => {
            let backend = &mirror.target.backend.name;
            vec![format!(
                "{} % of the requests are copied to Service {} port {}",
                decide::percent(mirror.percent()),
                backend.service,
                backend.port
            )]
        }
        Filter::Cors(_) => {
            let mut answer = HeaderMap::new();
            Chain::new(std::slice::from_ref(filter), &[], headers).on_response(&mut answer);
            if !answer.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) {
                let nobody = match headers.get(ORIGIN) {
                    Some(origin) => format!("no page of {} may read the response", text(origin)),
                    None => "has no say: the request has no header origin".to_owned(),
                };
                return vec![nobody];
            }
            let set = decide::headers(&answer).into_iter();
            set.map(|it| format!("of the response, header {} is {}", it.name, it.value)).collect()
        }
        Filter::RequestHeaders(_) | Filter::Redirect(_) | Filter::Rewrite(_) => Vec::new(),
    }
}

/// The API's name of a filter's type.
fn type_of(filter: &Filter) -> &'static str {
    match filter {
        Filter::RequestHeaders(_) => "RequestHeaderModifier",
        Filter::ResponseHeaders(_) => "ResponseHeaderModifier",
        Filter::Redirect(_) => "RequestRedirect",
        Filter::Rewrite(_) => "URLRewrite",
        Filter::Mirror(_) => "RequestMirror",
        Filter::Cors(_) => "CORS",
    }
}

fn values(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values: Vec<String> = headers.get_all(name).iter().map(text).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}
