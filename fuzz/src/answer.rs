//! What an endpoint answers: read alike however it comes, and never otherwise than hyper's client reads it.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_proxy::fuzz::answer;

/// Longer ones are cut: they are read byte by byte too.
const LONGEST: usize = 4096;

type Answer = (Response<Vec<u8>>, Option<HeaderMap>);

pub fn run(data: &[u8]) {
    let data = &data[..data.len().min(LONGEST)];
    for method in [Method::GET, Method::HEAD] {
        let whole = answer(&method, [data]);
        let bytes = answer(&method, data.chunks(1));
        let (told, told_of_bytes) = (tell(whole.as_ref().ok()), tell(bytes.as_ref().ok()));
        assert_eq!(told, told_of_bytes, "byte by byte: {}", data.escape_ascii());
        // What is refused is not misread.
        let Ok(whole) = whole else { continue };
        let other = by_hyper(&method, data);
        assert_eq!(told, tell(other.as_ref()), "by hyper: {}", data.escape_ascii());
        assert!(whole.0.status() >= StatusCode::SWITCHING_PROTOCOLS);
    }
}

/// All that a client could see of it.
fn tell(answer: Option<&Answer>) -> String {
    let Some((answer, trailers)) = answer else { return "none".to_owned() };
    let (status, version, headers) = (answer.status(), answer.version(), answer.headers());
    let body = answer.body().escape_ascii();
    format!("{version:?} {status} {headers:?}\n{body}\n{trailers:?}")
}

/// The answer as hyper's client reads it; None where it finds it wrong, or not complete.
fn by_hyper(method: &Method, data: &[u8]) -> Option<Answer> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let (near, mut far) = tokio::io::duplex(LONGEST);
        let (mut sender, connection) = http1::handshake(TokioIo::new(near)).await.ok()?;
        let served = async {
            // Once the request is there: what comes before it is none's answer.
            far.read_u8().await.ok()?;
            far.write_all(data).await.ok()?;
            far.shutdown().await.ok()
        };
        let request = Request::builder().method(method).uri("/").body(Empty::<Bytes>::new());
        let answered = async {
            let (head, body) = sender.send_request(request.ok()?).await.ok()?.into_parts();
            let body = body.collect().await.ok()?;
            let trailers = body.trailers().cloned();
            Some((Response::from_parts(head, body.to_bytes().to_vec()), trailers))
        };
        let (answered, _, _) = tokio::join!(answered, connection.with_upgrades(), served);
        answered
    })
}
