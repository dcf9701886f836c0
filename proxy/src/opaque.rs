//! Traffic that passes unread: TCP and TLS to the backends of TLSRoutes and TCPRoutes, or to the
//! Service's own endpoints where there are none; and everything that is addressed to no Service.

mod join;
mod record;

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::TcpStream;

use self::join::{Passed, join};
use self::record::Record;
use crate::backend::Backend;
use crate::backend::local::Lease;
use crate::fault::{Fault, Kind};
use crate::metrics::TcpSeries;
use crate::prefixed::Prefixed;
use crate::table::{Action, Destination, StreamRouting, StreamRule, WeightedBackend};
use crate::worker::Worker;

/// Endpoints that are tried before a connection is given up.
const ATTEMPTS: usize = 3;

/// A connection to a Service's port that is to pass unread.
pub(crate) struct Stream {
    pub(crate) client: Prefixed,
    pub(crate) client_addr: SocketAddr,
    /// The address that the application dialled.
    pub(crate) original: SocketAddr,
    /// It begins as TLS does, as far as that was looked at.
    pub(crate) is_tls: bool,
    pub(crate) hello: Hello,
}

/// What a client said first, as far as routes have to know.
pub(crate) enum Hello {
    /// Not read: no route asks for it.
    Unread,
    /// TLS, to a server of that name if the client gave one.
    Tls(Option<String>),
    /// Not what a TLSRoute could be held against.
    Refused(Ended),
}

/// Why a connection was closed.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The word for metrics and logs.
    pub(crate) reason: &'static str,
    pub(crate) message: Cow<'static, str>,
}

/// Joins a client with an endpoint of the backend that the routes choose.
///
/// A connection that no rule matches, or whose backend cannot be had, is reset: "the underlying
/// implementation MUST actively reject connection attempts to this backend" (TCPRoute, TLSRoute).
pub(crate) async fn to_service(
    worker: &Worker,
    stream: Stream,
    destination: &Destination,
) -> io::Result<()> {
    let _watch = worker.shared.drain.watch();
    let mut record = Record::begin(worker, destination, &stream);
    let Stream { mut client, hello, .. } = stream;
    match serve(worker, destination, &hello, &mut client, &mut record).await {
        Ok(()) => {
            record.reason = "";
            Ok(())
        }
        Err(ended) => {
            record.reason = ended.reason;
            client.handle().reset();
            Err(io::Error::other(format!("{}: {}", ended.reason, ended.message)))
        }
    }
}

async fn serve<'t>(
    worker: &Worker,
    destination: &'t Destination,
    hello: &Hello,
    client: &mut Prefixed,
    record: &mut Record<'t>,
) -> Result<(), Ended> {
    let rule = select(destination, hello)?;
    record.selected(rule);
    let backend = choose(rule, rule.draw())?;
    record.chosen(backend);
    let target = match &backend.target {
        Ok(target) => target,
        Err(why) => return Err(Fault::new(Kind::BackendInvalid, why.clone()).into()),
    };
    let (stream, lease) = connect(worker, &target.backend).await?;
    record.joined(lease.endpoint().endpoint.addr);
    let passed = Passed::default();
    let joined = join(client, &stream, &passed).await;
    record.count(&passed);
    joined.map_err(|error| Ended { reason: "reset", message: error.to_string().into() })
}

/// The rule that a connection falls under. The choice is final, as that of a request.
pub(crate) fn select<'t>(
    destination: &'t Destination,
    hello: &Hello,
) -> Result<&'t StreamRule, Ended> {
    let (kind, rule) = match (&destination.streams, hello) {
        (StreamRouting::Unrouted, _) => return Ok(&destination.unrouted_stream),
        (StreamRouting::Tcp { rules }, _) => ("TCPRoute", rules.first()),
        (StreamRouting::Tls { matcher, rules }, Hello::Tls(name)) => {
            let selected = matcher.select(name.as_deref());
            ("TLSRoute", selected.map(|selected| &rules[selected.rule]))
        }
        (StreamRouting::Tls { .. }, Hello::Refused(Ended { reason, message })) => {
            return Err(Ended { reason, message: message.clone() });
        }
        (StreamRouting::Tls { .. }, Hello::Unread) => ("TLSRoute", None),
    };
    rule.ok_or_else(|| {
        let name = match hello {
            Hello::Tls(Some(name)) => Cow::Owned(format!("server name {name}")),
            _ => Cow::Borrowed("connection without a server name"),
        };
        let (service, port) = (&destination.service, destination.port.port);
        let message =
            format!("no {kind} attached to Service {service} port {port} matches a {name}");
        Fault::new(Kind::NoRuleMatched, message).into()
    })
}

/// The backend that a connection goes to which has drawn this one, or none where the rule has none.
///
/// "Connection rejections must respect weight": the backend is drawn before it is looked at.
pub(crate) fn choose<'t>(
    rule: &StreamRule,
    drawn: Option<&'t WeightedBackend<TcpSeries>>,
) -> Result<&'t WeightedBackend<TcpSeries>, Fault> {
    match &rule.action {
        Action::Refuse(why) => Err(Fault::new(Kind::RuleRefused, why.clone())),
        Action::Forward(_) | Action::Answer => drawn.ok_or_else(|| {
            Fault::new(Kind::NoBackend, "the rule has no backend of a weight above 0")
        }),
    }
}

async fn connect(worker: &Worker, backend: &Arc<Backend>) -> Result<(TcpStream, Lease), Fault> {
    let local = worker.backend(backend);
    let mut tried = Vec::new();
    loop {
        let start = Instant::now();
        let Some(lease) = local.pick(&tried, start) else {
            return Err(local.no_endpoint());
        };
        match lease.tcp(&worker.connect).await {
            Ok(stream) => {
                lease.connected();
                return Ok((stream, lease));
            }
            Err(error) => {
                local.failed(lease.endpoint());
                tried.push(lease.endpoint().clone());
                if tried.len() == ATTEMPTS {
                    let message = format!("no endpoint of {} accepts: {error}", backend.name);
                    return Err(Fault::new(Kind::ConnectFailed, message));
                }
            }
        }
    }
}

/// Joins a client with the address that it dialled, as if the proxy were not there.
pub(crate) async fn to_original(
    worker: &Worker,
    client: TcpStream,
    original: SocketAddr,
) -> io::Result<()> {
    let _watch = worker.shared.drain.watch();
    let mut client = Prefixed::new(client, Vec::new());
    let joined = async {
        let backend = TcpStream::connect(original).await?;
        crate::socket::set_options(&backend)?;
        join(&mut client, &backend, &Passed::default()).await
    };
    let joined = joined.await;
    if joined.is_err() {
        client.handle().reset();
    }
    joined
}

impl From<Fault> for Ended {
    fn from(fault: Fault) -> Self {
        Self { reason: fault.reason(), message: fault.message }
    }
}
