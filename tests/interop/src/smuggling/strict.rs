//! A server that reads requests as RFC 9112 writes them and no other way: the reference for what the
//! sidecar sends. It prints a line for each request: `METHOD TARGET`, `INCOMPLETE METHOD TARGET` when
//! its body does not end, and `MALFORMED` with the reason for everything else.

use std::io::{BufReader, Write};
use std::net::{TcpListener, TcpStream};

use anyhow::{Context, Result};
use clap::Args;
use weft_strict::{Head, body, head};

#[derive(Args)]
pub(crate) struct Options {
    /// The port to listen on.
    port: u16,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", options.port)).context("listen")?;
    loop {
        let (stream, _) = listener.accept().context("accept")?;
        std::thread::spawn(move || {
            if let Err(error) = serve(stream) {
                println!("MALFORMED {error:#}");
            }
        });
    }
}

fn serve(stream: TcpStream) -> Result<()> {
    let mut answers = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = head(&mut reader)? {
        if request.expects_continue {
            answers.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let Head { method, target, .. } = &request;
        if !body(&mut reader, &request)? {
            println!("INCOMPLETE {method} {target}");
            return Ok(());
        }
        println!("{method} {target}");
        let body = if method == "HEAD" { "" } else { "ok\n" };
        let status = if method == "CONNECT" { "405 Method Not Allowed" } else { "200 OK" };
        let answer = format!(
            "HTTP/1.1 {status}\r\nX-Seen: {method} {target}\r\nContent-Length: 3\r\n\r\n{body}"
        );
        if answers.write_all(answer.as_bytes()).is_err() {
            return Ok(());
        }
    }
    Ok(())
}
