//! What becomes of a request, step by step as [`crate::request`] takes them, with the reasons.

use std::net::IpAddr;

use http::Method;
use http::request::Parts;
use weft_gamma::matching::{self, Considered, Matcher, RequestView};
use weft_gamma::object::{Service, ServicePort};
use weft_gamma::precedence;
use weft_gamma::resolve::{self, ResolvedRule};

use super::answer::{
    self, Answer, Backend, Destination, Explanation, Header, Match, Rule, RuleName, Verdict,
};
use super::backends::Asked;
use super::protocol::{self, Treatment};
use super::question::Question;
use super::streams::Connection;
use super::{Unexplained, World, offline, routes};
use crate::fault::Fault;
use crate::filter;
use crate::request::head::{self, Present};
use crate::request::{self, Selected};
use crate::table::{self, Action, Routing};

/// Explains what comes to `destination`, which is a port of `service`.
pub(super) fn explain(
    world: &World<'_>,
    question: &Question,
    service: &Service,
    address: IpAddr,
    destination: &table::Destination,
) -> Result<Explanation, Unexplained> {
    let (treatment, protocol) = protocol::treat(question, destination);
    let is_stream = matches!(treatment, Treatment::Stream(_));
    let port = &destination.port;
    let mut explanation = Explanation {
        summary: String::new(),
        request: answer::Request {
            method: question.scheme.is_of_requests().then(|| question.method.to_string()),
            url: question.url(),
            headers: headers(&question.headers),
            client_namespace: world.namespace.to_owned(),
        },
        destination: Destination {
            service: destination.service.to_string(),
            address: (!offline::is_made_up(address)).then(|| address.to_string()),
            port: port.port,
            port_name: port.name.clone(),
            app_protocol: port.app_protocol.clone(),
            reads_requests: !is_stream,
            protocol,
        },
        routes: routes::all(world, service, destination, is_stream),
        matches: Vec::new(),
        announces: None,
        rule: None,
        backends: Vec::new(),
        answer: None,
        problems: routes::problems(world, service),
    };
    let rules = resolved_rules(world, service, port);
    match treatment {
        Treatment::Requests => {
            let mut parts = question.head()?;
            let present = Present::of(&parts.headers);
            let path = Path { world, destination, rules: &rules, present };
            if let Err(fault) = path.follow(&mut parts, &mut explanation) {
                explanation.answer = Some(answer_of(&fault, present.is_grpc()));
            }
        }
        Treatment::Stream(hello) => {
            let connection = Connection { world, destination, rules: &rules, hello: &hello };
            connection.follow(&mut explanation);
        }
        Treatment::NotHttp => explanation.answer = Some(not_http()),
    }
    explanation.summary = summary(&explanation);
    Ok(explanation)
}

/// The way of one request.
struct Path<'a> {
    world: &'a World<'a>,
    destination: &'a table::Destination,
    /// What the destination's rules were compiled from, in their order.
    rules: &'a [ResolvedRule],
    present: Present,
}

impl Path<'_> {
    /// As `request::route` does, but with every backend that can be drawn instead of one.
    fn follow(&self, parts: &mut Parts, explanation: &mut Explanation) -> Result<(), Fault> {
        let Self { world, destination, rules, present } = *self;
        let service = &destination.service;
        let authority =
            head::normalise(parts, present, world.max_headers, || service.name.clone())?;
        head::write_host(&mut parts.headers, authority.as_ref());
        let parts = &*parts;
        let selected = request::select(destination, parts);
        let winner = selected.as_ref().ok().and_then(|it| it.winner);
        if let Routing::Routed { matcher, .. } = &destination.routing {
            let announced = announced(matcher, parts, winner);
            let method = announced.as_ref().unwrap_or(&parts.method);
            let view = RequestView { method, ..request::view(parts) };
            explanation.matches = matches(world, rules, winner, matcher.consider(view));
            explanation.announces = announced.map(|method| method.to_string());
        }
        let Selected { rule, matched, .. } = selected?;
        let resolved = winner.and_then(|winner| rules.get(winner.rule));
        let asked = Asked { world, destination, rule, parts, matched, is_grpc: present.is_grpc() };
        explanation.rule = rule.source.as_ref().map(|source| {
            let (filters, forwarded) = asked.by_rule();
            Rule {
                name: RuleName::of(source),
                filters,
                forwarded,
                timeouts: asked.timeouts(),
                retry: asked.retry(),
                stickiness: asked.stickiness(),
            }
        });
        explanation.answer = asked.answer();
        // Those of weight 0 are shown where there are no others.
        if let Action::Forward(_) = rule.action
            && (explanation.answer.is_none() || rule.backends().is_empty())
        {
            explanation.backends = asked.backends(resolved);
        }
        Ok(())
    }
}

/// Matches of `rules`, in the order of precedence, with what came of each.
pub(super) fn matches<'m>(
    world: &World<'_>,
    rules: &[ResolvedRule],
    winner: Option<matching::Selected>,
    considered: impl IntoIterator<Item = Considered<'m>>,
) -> Vec<Match> {
    let shown = considered.into_iter().filter_map(|it| {
        let rule = rules.get(it.selected.rule)?;
        let verdict = match winner {
            Some(winner) if winner == it.selected && it.unmet.is_empty() => Verdict::Wins,
            Some(winner) if it.unmet.is_empty() => {
                let by = precedence::decision(rules, world.objects, winner, it.selected);
                Verdict::Outranked { by: by.as_str(), because: by.to_string() }
            }
            _ => Verdict::Lacks { unmet: it.unmet.iter().map(ToString::to_string).collect() },
        };
        Some(Match {
            rule: RuleName {
                route: rule.route.to_string(),
                rule: rule.index,
                name: rule.name.clone(),
            },
            r#match: it.selected.matched,
            of: rule.matches.len(),
            criteria: it.criteria.criteria().iter().map(ToString::to_string).collect(),
            verdict,
        })
    });
    shown.collect()
}

/// The method that a CORS preflight announces, where that is why `winner` has won.
fn announced(
    matcher: &Matcher,
    parts: &Parts,
    winner: Option<matching::Selected>,
) -> Option<Method> {
    let is_announced = filter::is_preflight(parts)
        && winner.is_some()
        && matcher.select(&request::view(parts)) != winner;
    filter::requested_method(&parts.headers).filter(|_| is_announced)
}

/// What the rules of a destination were compiled from.
fn resolved_rules(world: &World<'_>, service: &Service, port: &ServicePort) -> Vec<ResolvedRule> {
    let parent = resolve::resolve_parent(world.objects, service, world.settings);
    let port = parent.ports.into_iter().find(|it| it.port == *port);
    port.map(|port| port.for_client(world.namespace).rules.clone()).unwrap_or_default()
}

pub(super) fn headers(headers: &http::HeaderMap) -> Vec<Header> {
    let shown = headers.iter().map(|(name, value)| Header {
        name: name.to_string(),
        value: String::from_utf8_lossy(value.as_bytes()).into_owned(),
    });
    shown.collect()
}

/// The answer that a fault becomes.
pub(super) fn answer_of(fault: &Fault, is_grpc: bool) -> Answer {
    Answer {
        grpc_status: is_grpc.then(|| fault.grpc_status()),
        reason: Some(fault.reason()),
        message: Some(fault.to_string()),
        ..Answer::of(if is_grpc { 200 } else { fault.status().as_u16() })
    }
}

/// The answer to what is not HTTP where the port says that it is: the HTTP parser's own.
fn not_http() -> Answer {
    let message = "the port declares HTTP, and what comes is not; name it tcp-…, or set its appProtocol \
                   to tcp";
    Answer { message: Some(message.to_owned()), ..Answer::of(400) }
}

fn summary(explanation: &Explanation) -> String {
    let by = match &explanation.rule {
        Some(rule) => format!(", by {}", rule.name),
        None if explanation.answer.is_none() => ": no route applies".to_owned(),
        None => String::new(),
    };
    if let Some(answer) = &explanation.answer {
        return format!("{answer}{by}");
    }
    let backends: Vec<&Backend> =
        explanation.backends.iter().filter(|it| it.percent > 0.0).collect();
    // What the rule's filters answer, they answer whichever backend is drawn.
    if let [Backend { answer: Some(answer), .. }, rest @ ..] = backends.as_slice()
        && rest.iter().all(|it| it.answer.as_ref() == Some(answer))
    {
        return format!("{answer}{by}");
    }
    if !explanation.destination.reads_requests && explanation.rule.is_none() {
        let Destination { service, port, .. } = &explanation.destination;
        return format!("passes unread to the endpoints of Service {service} port {port}");
    }
    if let [only] = backends.as_slice() {
        return format!("goes to Service {} port {}{by}", only.service, only.port);
    }
    let refused: f64 = backends.iter().filter(|it| it.answer.is_some()).map(|it| it.percent).sum();
    let share = match refused > 0.0 {
        true => format!(" ({} % are answered by the proxy)", percent(refused)),
        false => String::new(),
    };
    format!("goes to one of {} backends by weight{share}{by}", backends.len())
}

/// A share with one decimal where it has any.
pub(super) fn percent(share: f64) -> String {
    let text = format!("{share:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}
