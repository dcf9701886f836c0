//! HTTP/1.1 written by hand, for answers that a correct library does not give. By path:
//!
//! | path | answer |
//! |---|---|
//! | `/early-hints` | 103 with a `Link`, then 200 |
//! | `/until-close` | 200 without a length: the body ends with the connection |
//! | `/close` | none: the connection is closed |
//! | `/half` | 200 with a length of 100, then 10 bytes, then the connection is closed |
//! | `/garbage` | bytes that are no HTTP |
//! | `/reset-reused` | 200 on a new connection, a close without an answer on a reused one |
//! | `/impatient` | 200, or now and then none on a reused connection; which is closed within 2 ms |
//! | anything else | 200 |
//!
//! Requests to `/impatient` are printed: `served POST /impatient?n=1`.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use weft_tests::answer::Identity;

/// Serves one connection until it is closed.
pub(crate) async fn serve(identity: Arc<Identity>, stream: TcpStream) {
    let _reset = answer_all(&identity, stream).await;
}

async fn answer_all(identity: &Identity, stream: TcpStream) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut requests = 0;
    while let Some((method, path)) = next_request(&mut stream).await? {
        requests += 1;
        if path.starts_with("/impatient") {
            println!("served {method} {path}");
            return be_impatient(identity, stream).await;
        }
        let body = format!("{} {path}\n", identity.pod);
        let plain = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let (answer, close) = match path.as_str() {
            "/early-hints" => {
                let hint = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n";
                (format!("{hint}{plain}"), false)
            }
            "/until-close" => (format!("HTTP/1.1 200 OK\r\n\r\n{body}"), true),
            "/close" => (String::new(), true),
            "/half" => {
                ("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789".to_owned(), true)
            }
            "/garbage" => ("\u{1}\u{2} this is no HTTP\r\n\r\n".to_owned(), true),
            "/reset-reused" if requests > 1 => (String::new(), true),
            _ => (plain, false),
        };
        stream.write_all(answer.as_bytes()).await?;
        if close {
            stream.shutdown().await?;
            return Ok(());
        }
    }
    Ok(())
}

/// Answers a request, and those that come before a moment's patience is over.
async fn be_impatient(
    identity: &Identity,
    mut stream: BufReader<TcpStream>,
) -> std::io::Result<()> {
    let body = format!("{}\n", identity.pod);
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    loop {
        stream.write_all(answer.as_bytes()).await?;
        let patience = Duration::from_micros(u64::from(any_number() % 2000));
        let next = tokio::time::timeout(patience, next_request(&mut stream)).await;
        let Ok(Some((method, path))) = next.unwrap_or(Ok(None)) else { return Ok(()) };
        println!("served {method} {path}");
        if any_number().is_multiple_of(64) {
            return Ok(());
        }
    }
}

/// The clock's last digits: no two servers act alike, and neither does one from run to run.
fn any_number() -> u32 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.subsec_nanos() / 100
}

/// Method and path of the next request, its head and body read; `None` at the connection's end.
async fn next_request(
    stream: &mut BufReader<TcpStream>,
) -> std::io::Result<Option<(String, String)>> {
    let mut first = String::new();
    if stream.read_line(&mut first).await? == 0 {
        return Ok(None);
    }
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let mut words = first.split_whitespace().map(str::to_owned);
    Ok(words.next().zip(words.next()))
}
