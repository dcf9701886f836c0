//! Whether a proxy did the work: answers, and where they came from.

use std::io::Read;
use std::net::TcpStream;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;

use crate::measure::Work;
use crate::proxy::Proxy;
use crate::work::{
    COUNTS, GRPC_MESSAGE, GRPC_PATH, LARGE, LARGE_PATH, LocalExecutor, MIB, MIB_PATH, SMALL,
};

/// How many requests each version of the service has had.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts([u64; 3]);

impl Counts {
    pub(crate) fn now() -> Result<Counts> {
        let mut text = String::new();
        TcpStream::connect(("127.0.0.1", COUNTS))?.read_to_string(&mut text)?;
        let counts: Result<Vec<u64>, _> = text.split_whitespace().map(str::parse).collect();
        let counts: [u64; 3] = counts?.try_into().ok().context("the backend's counts")?;
        Ok(Counts(counts))
    }

    /// How many came since.
    pub(crate) fn since(self) -> Result<u64> {
        let now: u64 = Counts::now()?.0.iter().sum();
        Ok(now - self.0.iter().sum::<u64>())
    }

    /// Whether what came since was split as the route says: nothing to v1, 90/10 to the others.
    ///
    /// A proxy may draw by chance: five standard deviations are let pass. Connections that pass
    /// unread are too few for that.
    pub(crate) fn check_shares(self, answers: u64, work: Work) -> Result<()> {
        let now = Counts::now()?.0;
        let [v1, v2, v3] = std::array::from_fn(|version| now[version] - self.0[version]);
        ensure!(v1 == 0, "{v1} requests went to v1, against the header match");
        // What is under way when a client stops is counted here and not there.
        ensure!(v2 + v3 >= answers, "{answers} answers, but {} at the backend", v2 + v3);
        if work == Work::Tcp {
            return Ok(());
        }
        let total = (v2 + v3) as f64;
        let share = v3 as f64 / total;
        let slack = 5.0 * (0.9 * 0.1 / total).sqrt() + 0.005;
        ensure!((share - 0.1).abs() < slack, "v3 got {:.1} % instead of 10 %", share * 100.0);
        Ok(())
    }
}

/// Sends a few requests and looks at the whole of each answer.
pub(crate) fn probe(proxy: Proxy, work: Work) -> Result<()> {
    let Some(target) = proxy.target(work) else { return Ok(()) };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())?;
    runtime.block_on(async {
        for number in 0..8 {
            // Of a connection that passes unread no header is seen.
            let user = if number % 4 == 0 && work != Work::Tcp { "kylie" } else { "jason" };
            let answer = ask(&target, work, user).await?;
            check_answer(answer, work, user == "jason" || proxy == Proxy::Direct).await?;
        }
        Ok(())
    })
}

async fn ask(target: &str, work: Work, user: &str) -> Result<Response<Incoming>> {
    let (path, body) = match work {
        Work::Mib => (MIB_PATH, vec![b'x'; MIB].into()),
        Work::Tcp => (LARGE_PATH, Bytes::new()),
        Work::Grpc => (GRPC_PATH, Bytes::from_static(GRPC_MESSAGE)),
        Work::Http1 | Work::NewConnections | Work::Http2ToHttp1 | Work::Http2 => {
            ("/", Bytes::new())
        }
    };
    let mut request = Request::new(Full::new(body.clone()));
    if !body.is_empty() {
        *request.method_mut() = Method::POST;
    }
    request.headers_mut().insert("end-user", user.parse()?);
    if work == Work::Grpc {
        request.headers_mut().insert("content-type", "application/grpc".parse()?);
        request.headers_mut().insert("te", "trailers".parse()?);
    }
    let stream = TokioIo::new(tokio::net::TcpStream::connect(target).await?);
    if work.is_http2() {
        *request.uri_mut() = format!("http://{target}{path}").parse()?;
        let (mut sender, connection) = http2::handshake(LocalExecutor, stream).await?;
        tokio::task::spawn_local(connection);
        Ok(sender.send_request(request).await?)
    } else {
        *request.uri_mut() = path.parse()?;
        request.headers_mut().insert("host", target.parse()?);
        let (mut sender, connection) = http1::handshake(stream).await?;
        tokio::task::spawn_local(connection);
        Ok(sender.send_request(request).await?)
    }
}

async fn check_answer(answer: Response<Incoming>, work: Work, split: bool) -> Result<()> {
    let (head, body) = answer.into_parts();
    let body = body.collect().await.context("the answer's body")?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    let body = body.to_bytes();
    let length = body.len();
    let expected = match work {
        Work::Mib => MIB,
        Work::Tcp => LARGE,
        Work::Grpc => GRPC_MESSAGE.len(),
        Work::Http1 | Work::NewConnections | Work::Http2ToHttp1 | Work::Http2 => SMALL.len(),
    };
    let start = String::from_utf8_lossy(&body[..length.min(200)]);
    ensure!(head.status == 200, "answered {}: {start}", head.status);
    ensure!(length == expected, "a body of {length} bytes instead of {expected}");
    let value = |headers: &HeaderMap, name: &str| {
        headers.get(name).and_then(|value| value.to_str().ok().map(str::to_owned))
    };
    let backend = value(&head.headers, "x-backend").unwrap_or_default();
    ensure!((backend != "v1") == split, "answered by {backend:?}, against the header match");
    if work == Work::Grpc {
        ensure!(value(&trailers, "grpc-status").as_deref() == Some("0"), "no grpc-status 0");
    }
    Ok(())
}
