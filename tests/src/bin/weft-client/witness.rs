//! A well-behaved client: one GET after the other on connections that stay, and how long each took.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use weft_tests::attack::Witness;

#[derive(Args)]
pub(crate) struct Options {
    /// `host:port`
    address: String,
    /// How long.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Between an answer and the next request, in microseconds.
    #[arg(long, default_value_t = 500)]
    pause_us: u64,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut seen = Witness::default();
    let mut latencies = Vec::new();
    let mut connection = None;
    let began = Instant::now();
    while began.elapsed().as_secs_f64() < options.seconds {
        let start = Instant::now();
        match get(&mut connection, &options.address) {
            Ok(()) => latencies.push(start.elapsed()),
            Err(error) => {
                connection = None;
                seen.errors += 1;
                if seen.first_error.is_empty() {
                    seen.first_error = format!("{error:#}");
                }
            }
        }
        std::thread::sleep(Duration::from_micros(options.pause_us));
    }
    latencies.sort_unstable();
    seen.answers = latencies.len() as u64;
    let quantile = |share: f64| {
        let at = (latencies.len() as f64 * share) as usize;
        latencies.get(at.min(latencies.len().saturating_sub(1)))
    };
    let milliseconds =
        |latency: Option<&Duration>| latency.map_or(0.0, Duration::as_secs_f64) * 1e3;
    (seen.p50, seen.p99) = (milliseconds(quantile(0.5)), milliseconds(quantile(0.99)));
    println!("{}", serde_json::to_string(&seen)?);
    Ok(())
}

fn get(connection: &mut Option<BufReader<TcpStream>>, address: &str) -> Result<()> {
    let stream = match connection {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect(address).context("connect")?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            connection.insert(BufReader::new(stream))
        }
    };
    stream.get_mut().write_all(b"GET /witness HTTP/1.1\r\nhost: echo\r\n\r\n").context("send")?;
    let (mut status, mut length, mut line) = (String::new(), 0, String::new());
    loop {
        line.clear();
        ensure!(stream.read_line(&mut line).context("receive")? > 0, "closed without an answer");
        if status.is_empty() {
            status = line.split(' ').nth(1).unwrap_or_default().to_owned();
        } else if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        } else if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).context("the body")?;
    ensure!(status == "200", "status {status}");
    Ok(())
}
