//! Traffic that passes unread: TCP and TLS to a Service's endpoints, and everything that is
//! addressed to no Service.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::TcpStream;

use crate::backend::local::Lease;
use crate::prefixed::Prefixed;
use crate::socket;
use crate::table::Destination;
use crate::worker::Worker;

/// One buffer each way.
const BUFFER: usize = 16 * 1024;

/// Endpoints that are tried before a connection is given up.
const ATTEMPTS: usize = 3;

/// Joins a client with one of the Service's endpoints.
pub(crate) async fn to_service(
    worker: &Worker,
    mut client: Prefixed,
    client_addr: SocketAddr,
    destination: &Destination,
) -> io::Result<()> {
    let series = &destination.opaque_series;
    let start = Instant::now();
    series.opened();
    let mut watch = worker.shared.drain.watch();
    let (mut backend, _lease) = match connect(worker, destination).await {
        Ok(connected) => connected,
        Err((reason, error)) => {
            tracing::debug!(client = %client_addr, service = %destination.service, %error, reason);
            series.closed(start.elapsed(), 0, 0, reason);
            client.reset().set();
            return Err(error);
        }
    };
    let joined = tokio::select! {
        joined = join(&mut client, &mut backend) => joined,
        // Nobody can tell where a stream of unknown protocol may be cut: it has until the deadline,
        // after which the process ends.
        () = async { watch.draining().await; std::future::pending().await } => Ok((0, 0)),
    };
    match joined {
        Ok((sent, received)) => {
            series.closed(start.elapsed(), sent, received, "");
            Ok(())
        }
        Err(error) => {
            series.closed(start.elapsed(), 0, 0, "reset");
            client.reset().set();
            Err(error)
        }
    }
}

async fn connect(
    worker: &Worker,
    destination: &Destination,
) -> Result<(TcpStream, Lease), (&'static str, io::Error)> {
    let backend = worker.backend(&destination.opaque);
    let mut tried = Vec::new();
    loop {
        let Some(lease) = backend.pick(&tried) else {
            let error = io::Error::new(io::ErrorKind::NotConnected, "no ready endpoint");
            return Err(("no_ready_endpoint", error));
        };
        match lease.tcp(&worker.connect).await {
            Ok(stream) => return Ok((stream, lease)),
            Err(error) => {
                backend.failed(lease.endpoint());
                tried.push(lease.endpoint().clone());
                if tried.len() == ATTEMPTS {
                    return Err(("connect_failed", error));
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
        let mut backend = TcpStream::connect(original).await?;
        crate::backend::set_options(&backend)?;
        join(&mut client, &mut backend).await
    };
    let joined = joined.await;
    if joined.is_err() {
        client.reset().set();
    }
    joined.map(|_bytes| ())
}

/// Copies both ways until both have ended; an end of one side is passed on as such, and a reset of
/// one side is a reset of the other. Of the client's that is the caller's to see to.
async fn join(client: &mut Prefixed, backend: &mut TcpStream) -> io::Result<(u64, u64)> {
    let copied = copy_bidirectional_with_sizes(client, backend, BUFFER, BUFFER).await;
    if copied.is_err() {
        socket::reset_on_close(backend);
    }
    copied
}
