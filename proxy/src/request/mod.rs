//! One request, top to bottom: head → rule → filters → backend → endpoint → response → metrics.
//!
//! [`serve`] is called by [`crate::outbound`] for every request of an HTTP connection. It always
//! answers: what goes wrong becomes a [`Fault`], and that a response that says why.

mod access;
mod body;
mod deadline;
mod forward;
mod gate;
mod grpc;
pub(crate) mod head;
mod limited;
mod mirror;
mod record;
mod replay;
mod retry;
mod shared;
mod tee;
#[cfg(test)]
mod tests;
mod upgrade;

use std::cell::Cell;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Instant;

use http::header::{CONNECTION, CONTENT_TYPE, EXPECT, HOST, HeaderValue, LOCATION};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use weft_gamma::matching::{self, Matcher, RequestView};
use weft_gamma::route::{Match, PathMatch, Redirect};

pub(crate) use body::{BodyError, RequestBody, ResponseBody, Unread};
pub(crate) use grpc::timeout as grpc_timeout;
pub(crate) use retry::is_idempotent;
pub(crate) use tee::Backlog;

use crate::fault::{Fault, Kind};
use crate::filter::{self, Chain};
use crate::outbound::Activity;
use crate::prefixed::Handle;
use crate::table::{Action, Destination, Routing, Rule, Target, WeightedBackend};
use crate::worker::{Snapshot, Worker};
use access::AccessEntry;
use body::Received;
use deadline::Deadline;
use forward::{Forward, Terms};
use head::Present;
use limited::Cutoff;
use record::Record;
use upgrade::Upgrade;

/// The header of the proxy's own answers that says why: [`Fault::reason`].
const REASON: &str = "x-weft-reason";

/// The client's side of a connection: what all of its requests share.
pub(crate) struct Connection {
    pub(crate) worker: Rc<Worker>,
    pub(crate) client: SocketAddr,
    /// The address that the application dialled.
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
    pub(crate) stream: Handle,
    /// Of a client that speaks HTTP/2.
    pub(crate) http2: Option<Rc<Activity>>,
    /// The generation of the last table that had all there is to know of the address.
    pub(crate) found_in: Cell<Option<u64>>,
}

impl Connection {
    /// Whether nothing is left to be asked of the source; looked up once for each table.
    fn finds_enough_in(&self, table: &Snapshot) -> bool {
        let generation = Some(table.generation());
        if self.found_in.get() == generation {
            return true;
        }
        let is_enough = table.is_enough_for(self.ip, self.port);
        if is_enough {
            self.found_in.set(generation);
        }
        is_enough
    }
}

/// The rule that applies to a request.
pub(crate) struct Selected<'t> {
    pub(crate) rule: &'t Rule,
    /// Which of the destination's matches won; None where no route is attached.
    pub(crate) winner: Option<matching::Selected>,
    /// The path criterion by which it won.
    pub(crate) matched: Option<&'t PathMatch>,
}

/// What the rule makes of the request.
pub(crate) enum Plan<'t> {
    /// The CORS filter answers, with these headers.
    Preflight(HeaderMap),
    Redirect(&'t Redirect),
    Forward(&'t WeightedBackend),
}

/// Answers a request, of which `body` is not read yet.
///
/// One box holds all that a request needs until its answer's head: who serves the connection moves what this
/// function returns several times, and hyper keeps room for it while a connection is idle. The box is there
/// before what is in it, some 3 KiB that would be copied into it otherwise; and neither this nor [`route`] is
/// an `async fn`, which moves what it is given once more.
pub(crate) fn serve(
    connection: Rc<Connection>,
    head: Parts,
    body: Unread,
) -> Pin<Box<impl Future<Output = Result<Response<ResponseBody>, Infallible>>>> {
    let place = Box::new_uninit();
    let answer = async move {
        let start = Instant::now();
        // Once per request: no request straddles two configurations.
        let mut table = connection.worker.table();
        let mut routed = start;
        if !connection.finds_enough_in(&table) {
            table = connection.worker.look_up(connection.ip).await;
            routed = Instant::now();
        }
        let Some(destination) = table.destination(connection.ip, connection.port) else {
            return Ok(gone(&connection));
        };
        destination.touch();
        let present = Present::of(&head.headers);
        let is_grpc = present.is_grpc();
        let mut record = Record::new(
            connection.clone(),
            destination.unmatched_series.clone(),
            [start, routed],
            is_grpc,
            AccessEntry::begin(&connection, destination, &head),
        );
        let version = head.version;
        let is_connect = head.method == Method::CONNECT;
        let is_head = head.method == Method::HEAD;
        // Known once a rule has won; applied to whatever the answer is.
        let mut chain = Chain::default();
        let request = (head, body);
        let answer = route(&connection, destination, request, present, &mut record, &mut chain);
        let mut response = match answer.await {
            Ok(Answer::Backend(response, cutoff)) => forwarded(response, cutoff, version, record),
            Ok(Answer::Own(response)) => {
                record.own_answer(response.status().as_u16(), None, "");
                response
            }
            Err(fault) => refuse(&fault, is_grpc, &connection, &mut record),
        };
        chain.on_response(response.headers_mut());
        if is_connect && !response.status().is_success() {
            // What the client sends behind a CONNECT is for the tunnel: without one, a client that does
            // not wait would have it read as requests.
            close(&connection, response.headers_mut());
        }
        if is_head && version == Version::HTTP_2 && matches!(response.body(), ResponseBody::Own(_))
        {
            // No answer to HEAD has content (RFC 9110, section 9.3.2). Of HTTP/1, hyper sees to it.
            *response.body_mut() = ResponseBody::empty();
        }
        Ok(response)
    };
    Box::into_pin(Box::write(place, answer))
}

/// A backend's answer, as it goes to a client of that version.
fn forwarded(
    response: Response<Received>,
    cutoff: Option<Box<Cutoff>>,
    version: Version,
    mut record: Box<Record>,
) -> Response<ResponseBody> {
    let (mut parts, body) = response.into_parts();
    record.answered(parts.status.as_u16(), &parts.headers);
    // In HTTP/2 there are none: h2 takes an answer with one for malformed (RFC 9113, section 8.2.2), and sends
    // none.
    if parts.version != Version::HTTP_2 && parts.status != StatusCode::SWITCHING_PROTOCOLS {
        let present = Present::of(&parts.headers);
        head::strip_hop_by_hop(&mut parts.headers, present);
    }
    if version == Version::HTTP_10 {
        record.reset_on_failure();
    }
    // Of this connection, whatever the backend's was. To a client of HTTP/1.0 hyper answers
    // in its version, and keeps the connection for it only if the answer claims to be 1.1.
    parts.version = if version == Version::HTTP_2 { version } else { Version::HTTP_11 };
    let trailers = record.is_grpc() && version == Version::HTTP_2;
    Response::from_parts(parts, ResponseBody::backend(body, record, cutoff, trailers))
}

enum Answer {
    /// With what limits its body, if anything does.
    Backend(Response<Received>, Option<Box<Cutoff>>),
    Own(Response<ResponseBody>),
}

/// Everything from the head to the response, without what is common to all responses.
#[expect(clippy::manual_async_fn, reason = "see serve")]
fn route<'t>(
    connection: &Connection,
    destination: &'t Destination,
    (mut parts, mut body): (Parts, Unread),
    present: Present,
    record: &mut Record,
    chain: &mut Chain<'t>,
) -> impl Future<Output = Result<Answer, Fault>> {
    async move {
        let max_headers = connection.worker.shared.limits.max_headers;
        let authority = head::normalise(&mut parts, present, max_headers, || {
            let service = &destination.service;
            format!("{}.{}:{}", service.name, service.namespace, connection.port)
        })?;
        if destination.reads_host() {
            head::write_host(&mut parts.headers, authority.as_ref());
        }
        let is_grpc = present.is_grpc();
        let selected = select(destination, &parts)?;
        record.set_series(&selected.rule.series);
        if let Some(access) = record.access() {
            access.rule.clone_from(&selected.rule.source);
        }
        let visit = selected.rule.stickiness.as_ref().map(|it| it.visit(&parts.headers));
        let drawn = match (&selected.rule.action, &visit) {
            (Action::Forward(split), Some(visit)) => visit.choose(split),
            _ => selected.rule.draw(),
        };
        let backend = match plan(selected.rule, drawn, &parts, chain)? {
            Plan::Preflight(headers) => return Ok(preflight(headers)),
            Plan::Redirect(to) => {
                let request = (parts, body);
                return redirect(connection, to, request, present, destination, &selected, chain);
            }
            Plan::Forward(backend) => backend,
        };
        record.set_series(&backend.series);
        let target = match &backend.target {
            Ok(target) => target,
            Err(why) => return Err(Fault::new(Kind::BackendInvalid, why.clone())),
        };
        if let Some(access) = record.access() {
            access.backend = Some(target.backend.name.clone());
        }
        if let Some(to) = filter::redirect(&backend.filters) {
            let request = (parts, body);
            return redirect(connection, to, request, present, destination, &selected, chain);
        }

        let upgrade = Upgrade::asked(&mut parts, &mut body, present);
        head::strip_hop_by_hop(&mut parts.headers, present);
        let mut copies = chain.on_request(&mut parts, selected.matched);
        let over_http2 = is_grpc && parts.version == Version::HTTP_2;
        let http2 = speaks_http2(target, over_http2, upgrade.is_some());
        if let Some(upgrade) = &upgrade {
            upgrade.request(&mut parts);
            // A mirror would have to be spoken to in a protocol that nobody here knows.
            copies.clear();
        }
        parts.version = if http2 { Version::HTTP_2 } else { Version::HTTP_11 };

        let counter = record.access().map(|access| access.request_bytes.clone());
        let mut body = RequestBody::new(body, present.length(&parts.headers), counter);
        if present.close && body.is_empty() && upgrade.is_none() {
            connection.stream.set_last();
        }
        mirror::start(&connection.worker, copies, over_http2, &mut body);
        let mut deadline = limit(selected.rule, record.start(), is_grpc, &parts.headers, &mut body);
        let shared = body.shared().cloned();
        if http2 {
            head::to_http2(&mut parts, authority)?;
        } else {
            head::write_host(&mut parts.headers, authority.as_ref());
        }
        let holds = !http2 && parts.headers.contains_key(EXPECT);
        let gate = if holds { body.hold().map(Rc::new) } else { None };
        let terms = Terms {
            worker: &connection.worker,
            backend: connection.worker.backend(&target.backend),
            wanted: visit.as_ref().and_then(|visit| visit.endpoint(backend.digest)),
            http2,
            is_grpc,
            attempt_timeout: selected.rule.timeouts.backend_request,
            retry: selected.rule.retry.as_ref(),
            gate: gate.clone(),
        };
        let mut forward = Forward::new(Request::from_parts(parts, body), terms);
        let mut response = forward.run(&mut deadline, record).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS
            && upgrade.as_ref().is_none_or(Upgrade::is_connect)
        {
            // RFC 9110, section 15.2.2, has it for a request with Upgrade only.
            let message = "the endpoint switches protocols, which nobody has asked for";
            return Err(Fault::new(Kind::BackendProtocol, message));
        }
        if let (Some(visit), Some(endpoint)) = (visit, record.endpoint()) {
            visit.answer(response.headers_mut(), backend.digest, endpoint);
        }
        if let Some(gate) = gate {
            if response.status().is_client_error() || response.status().is_server_error() {
                record.keep_closed(gate);
            } else {
                // The backend answers without a 100, and before it has the body.
                gate.open();
            }
        }
        if let Some(upgrade) = upgrade {
            upgrade.response(&mut response, connection);
        }
        let cutoff = (!deadline.is_none())
            .then(|| Box::new(Cutoff { deadline, request: shared, trailers: over_http2 }));
        Ok(Answer::Backend(response, cutoff))
    }
}

/// The time that a request has. Its body is made one that can be sent again, or cut off when the time is
/// up, where the rule or the client asks for that.
fn limit(
    rule: &Rule,
    start: Instant,
    is_grpc: bool,
    headers: &HeaderMap,
    body: &mut RequestBody,
) -> Deadline {
    let Rule { timeouts, retry, .. } = rule;
    let grpc_timeout = if is_grpc { grpc::timeout(headers) } else { None };
    let deadline = Deadline::new(start, timeouts.request, grpc_timeout);
    let may_retry = retry.as_ref().is_some_and(|retry| retry.attempts > 0);
    if may_retry || !deadline.is_none() || timeouts.backend_request.is_some() {
        body.share(may_retry);
    }
    deadline
}

/// The rule whose match ranks first. The choice is final: a rule that cannot be served does not
/// fall through to the next.
pub(crate) fn select<'t>(
    destination: &'t Destination,
    parts: &Parts,
) -> Result<Selected<'t>, Fault> {
    let (kind, matcher, rules, cors) = match &destination.routing {
        Routing::Unrouted => {
            return Ok(Selected { rule: &destination.unrouted, winner: None, matched: None });
        }
        Routing::Routed { kind, matcher, rules, cors, .. } => (kind, matcher, rules, *cors),
    };
    let view = view(parts);
    let mut selected = matcher.select(&view);
    if cors && filter::is_preflight(parts) {
        selected = announced(matcher, rules, &view, selected).or(selected);
    }
    let Some(selected) = selected else {
        return Err(Fault::new(
            Kind::NoRuleMatched,
            format!(
                "no rule of the {}s attached to Service {} port {} matches {} {}",
                kind.as_str(),
                destination.service,
                destination.port.port,
                parts.method,
                parts.uri.path()
            ),
        ));
    };
    let rule = &rules[selected.rule];
    let matched = match rule.matches.get(selected.matched) {
        Some(Match::Http(matched)) => Some(&matched.path),
        _ => None,
    };
    Ok(Selected { rule, winner: Some(selected), matched })
}

/// What of a request is held against matches.
pub(crate) fn view(parts: &Parts) -> RequestView<'_> {
    RequestView {
        method: &parts.method,
        path: parts.uri.path(),
        query: parts.uri.query(),
        headers: &parts.headers,
    }
}

/// The rule whose CORS filter answers a preflight that has `selected`: that of the request which it
/// announces, whose method is another. None where that rule has no such filter, or where the preflight
/// itself is asked for, by a match on OPTIONS.
fn announced(
    matcher: &Matcher,
    rules: &[Rule],
    view: &RequestView<'_>,
    selected: Option<matching::Selected>,
) -> Option<matching::Selected> {
    let asks = |it: matching::Selected| match &rules[it.rule].matches[it.matched] {
        Match::Http(criteria) => criteria.method.is_some(),
        Match::Grpc(_) | Match::Tls(_) | Match::Tcp => false,
    };
    if selected.is_some_and(asks) {
        return None;
    }
    let method = &filter::requested_method(view.headers)?;
    matcher.select(&RequestView { method, ..*view }).filter(|it| rules[it.rule].has_cors())
}

/// What the rule says to do with a request that has drawn a backend, or none where the rule has none;
/// with the filters that apply from now on.
pub(crate) fn plan<'t>(
    rule: &'t Rule,
    drawn: Option<&'t WeightedBackend>,
    parts: &Parts,
    chain: &mut Chain<'t>,
) -> Result<Plan<'t>, Fault> {
    let name = || rule.source.as_ref().map_or("this port".to_owned(), ToString::to_string);
    if let Action::Refuse(why) = &rule.action {
        let why = format!("{} cannot be honoured: {why}", name());
        return Err(Fault::new(Kind::RuleRefused, why));
    }
    let of_backend = drawn.map_or(&[][..], |backend| &backend.filters);
    *chain = Chain::new(&rule.filters, of_backend, &parts.headers);
    if let Some(answer) = chain.preflight(parts) {
        return match answer {
            Ok(headers) => Ok(Plan::Preflight(headers)),
            Err(why) => Err(Fault::new(Kind::OriginNotAllowed, format!("{}: {why}", name()))),
        };
    }
    if let Some(backend) = drawn {
        return Ok(Plan::Forward(backend));
    }
    filter::redirect(&rule.filters).map(Plan::Redirect).ok_or_else(|| {
        Fault::new(Kind::NoBackend, format!("{} has no backend of a weight above 0", name()))
    })
}

/// Whether a request goes on with HTTP/2: where the port says so, or the client speaks gRPC over it. An
/// upgrade is HTTP/1.1's.
pub(crate) fn speaks_http2(target: &Target, grpc: bool, upgrades: bool) -> bool {
    (target.http2 || grpc) && !upgrades
}

/// The answer to a CORS preflight.
fn preflight(headers: HeaderMap) -> Answer {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    *response.headers_mut() = headers;
    Answer::Own(response)
}

fn redirect(
    connection: &Connection,
    redirect: &Redirect,
    (mut parts, mut body): (Parts, Unread),
    present: Present,
    destination: &Destination,
    selected: &Selected<'_>,
    chain: &Chain<'_>,
) -> Result<Answer, Fault> {
    let location = location(redirect, &parts, destination, selected.matched)?;
    if chain.mirrors() && Upgrade::asked(&mut parts, &mut body, present).is_none() {
        // Nobody else gets the request.
        let grpc = present.is_grpc() && parts.version == Version::HTTP_2;
        head::strip_hop_by_hop(&mut parts.headers, present);
        let copies = chain.on_request(&mut parts, selected.matched);
        let mut body = RequestBody::new(body, present.length(&parts.headers), None);
        mirror::start(&connection.worker, copies, grpc, &mut body);
        mirror::read_for_mirrors(body);
    }
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = redirect.status;
    response.headers_mut().insert(LOCATION, location);
    Ok(Answer::Own(response))
}

/// Where a redirect sends the client.
pub(crate) fn location(
    redirect: &Redirect,
    parts: &Parts,
    destination: &Destination,
    matched: Option<&PathMatch>,
) -> Result<HeaderValue, Fault> {
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    filter::location(redirect, host, &parts.uri, destination.port.port, matched)
        .ok_or_else(|| Fault::new(Kind::RuleRefused, "the redirect's Location is no URI"))
}

/// The proxy's own answer to what no backend answered.
fn refuse(
    fault: &Fault,
    is_grpc: bool,
    connection: &Connection,
    record: &mut Record,
) -> Response<ResponseBody> {
    tracing::debug!(client = %connection.client, reason = fault.reason(), "{fault}");
    let mut response = Response::new(ResponseBody::empty());
    let headers = response.headers_mut();
    headers.insert(REASON, HeaderValue::from_static(fault.reason()));
    if is_grpc {
        // A gRPC status travels in a response of HTTP 200 ("Trailers-Only").
        let status = fault.grpc_status();
        grpc::refuse(fault, headers);
        record.own_answer(StatusCode::OK.as_u16(), Some(status), fault.reason());
        return response;
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if fault.kind == Kind::BadRequest {
        // RFC 9112, section 9.6: after a message whose framing is in doubt nothing else is read.
        close(connection, headers);
    }
    *response.status_mut() = fault.status();
    *response.body_mut() = ResponseBody::text(format!("weft: {fault}\n"));
    record.own_answer(fault.status().as_u16(), None, fault.reason());
    response
}

/// The Service that this connection was opened to does not exist any more.
fn gone(connection: &Connection) -> Response<ResponseBody> {
    let text = format!("weft: no Service has the address {} any more\n", connection.ip);
    let mut response = Response::new(ResponseBody::text(text));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(REASON, HeaderValue::from_static("service_gone"));
    close(connection, headers);
    response
}

/// The answer is the connection's last one, if it is one of HTTP/1: in HTTP/2 no header can say that.
fn close(connection: &Connection, headers: &mut HeaderMap) {
    if connection.http2.is_none() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
}
