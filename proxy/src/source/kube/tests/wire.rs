//! The API server of the tests behind real sockets and TLS, as kube-apiserver is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::server::ApiServer;
use crate::source::kube::client::with_times;
use crate::source::kube::connections::Times;

/// As the sidecar's own, for tests that do not wait; long enough for a busy machine.
pub(super) const TIMES: Times = Times {
    connect: Duration::from_secs(5),
    ping_after: Duration::from_millis(200),
    answer: Duration::from_secs(1),
    idle: Duration::from_secs(5),
};

/// An API server and the way to it; both end when dropped.
pub(super) struct Wire {
    address: SocketAddr,
    certificate: CertificateDer<'static>,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct State {
    /// How many connections there have been.
    accepted: watch::Sender<usize>,
    /// How many there are.
    open: watch::Sender<usize>,
    /// Changes when the connections that there are get stuck.
    stuck: watch::Sender<()>,
    /// Changes when the server takes no more requests over the connections that there are.
    leaving: watch::Sender<()>,
}

/// What the server speaks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Speaks {
    Http1,
    /// With so many streams at a time.
    Http2(u32),
}

impl Wire {
    pub(super) async fn to(api: &ApiServer, speaks: Speaks) -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let certificate = made.cert.der().clone();
        let mut tls = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        if let Speaks::Http2(_) = speaks {
            tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        }
        let (server, relay) = (listener().await, listener().await);
        let (behind, address) = (server.local_addr().unwrap(), relay.local_addr().unwrap());
        let state: Arc<State> = Arc::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(api.clone(), server, tls, speaks, state.clone()));
        tasks.spawn(pass_on(relay, behind, state.clone()));
        Self { address, certificate, state, _tasks: tasks }
    }

    /// A client that has nothing yet.
    pub(super) fn client(&self, times: Times) -> kube::Client {
        let url = format!("https://{}", self.address);
        let mut config = kube::Config::new(url.parse().unwrap());
        config.root_cert = Some(vec![self.certificate.to_vec()]);
        with_times(config, times).unwrap()
    }

    /// How many connections there have been.
    pub(super) fn accepted(&self) -> usize {
        *self.state.accepted.borrow()
    }

    /// Waits until there are so many connections.
    pub(super) async fn until_open(&self, count: usize) {
        let mut open = self.state.open.subscribe();
        open.wait_for(|open| *open == count).await.unwrap();
    }

    /// From now on nothing comes through the connections that there are, nor their end.
    pub(super) fn stick(&self) {
        self.state.stuck.send_replace(());
    }

    /// Says GOAWAY on all connections that there are: what is under way goes on.
    pub(super) fn leave(&self) {
        self.state.leaving.send_replace(());
    }
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

async fn serve(
    api: ApiServer,
    listener: TcpListener,
    tls: ServerConfig,
    speaks: Speaks,
    state: Arc<State>,
) {
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (api, acceptor, state) = (api.clone(), acceptor.clone(), state.clone());
        connections.spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let mut leaving = state.leaving.subscribe();
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let api = api.clone();
                async move { api.answer(request.uri()).await }
            });
            let stream = TokioIo::new(stream);
            let Speaks::Http2(streams) = speaks else {
                let _ = http1::Builder::new().serve_connection(stream, service).await;
                return;
            };
            let connection = http2::Builder::new(TokioExecutor::new())
                .max_concurrent_streams(streams)
                .serve_connection(stream, service);
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                _ = connection.as_mut() => return,
                _ = leaving.changed() => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        });
    }
}

/// Passes connections on, until they get stuck.
async fn pass_on(listener: TcpListener, to: SocketAddr, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((mut client, _)) = listener.accept().await {
        let state = state.clone();
        state.accepted.send_modify(|count| *count += 1);
        state.open.send_modify(|count| *count += 1);
        let mut stuck = state.stuck.subscribe();
        connections.spawn(async move {
            let mut server = TcpStream::connect(to).await.unwrap();
            tokio::select! {
                _ = copy_bidirectional(&mut client, &mut server) => {}
                _ = stuck.changed() => std::future::pending().await,
            }
            state.open.send_modify(|count| *count -= 1);
        });
    }
}
