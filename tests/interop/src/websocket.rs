//! A WebSocket through the sidecar, byte by byte: after the handshake both sides send frames at the same
//! time, of every size that has a form of its own, whole and in fragments, with control frames between
//! them, written in pieces that have nothing to do with frames. Each side knows from a number what the
//! other one sends, and compares.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use fastrand::Rng;
use weft_tests::lab::{Lab, Output, Workload};

use crate::Setting;
use crate::table::Row;
use crate::world::service;

const PORT: u16 = 8200;

/// Connections, one after the other, each with other frames.
const CONNECTIONS: u64 = 40;

/// Lengths at which the header's form changes (RFC 6455, section 5.2), and their neighbours.
const LENGTHS: [usize; 12] =
    [0, 1, 2, 124, 125, 126, 127, 65_534, 65_535, 65_536, 65_537, 1_048_576];

/// The handshake of RFC 6455, section 1.3: its key and what a server answers to it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const CONTINUATION: u8 = 0;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

#[derive(Args)]
pub(crate) struct ServerOptions {
    port: u16,
}

#[derive(Args)]
pub(crate) struct ClientOptions {
    /// The Service; its port is 80.
    host: String,
    connections: u64,
}

/// Who sends: clients mask their frames.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

pub(crate) fn run(setting: &Setting) -> Result<Vec<Row>> {
    let lab = Lab::new()?;
    let own = lab.bring(&std::env::current_exe()?)?;
    lab.apply(&service("websocket", 1, "http", PORT))?;
    let workload = Workload::new("websocket", "v1", "default").on_port(PORT);
    let words = [own.as_str(), "websocket-server", &PORT.to_string()];
    let server = lab.foreign_backend(&workload, &words)?;
    let client = lab.client("default")?;
    let mut command = client.command("timeout");
    command.args(["120", &own, "websocket-client", "websocket", &CONNECTIONS.to_string()]);
    let output = Output::of(command)?;
    fs::write(setting.out.join("websocket.txt"), format!("{}{}", output.stdout, server.log()))?;
    let bytes = |text: &str| -> u64 {
        let lines = text.lines().filter_map(|line| line.strip_suffix(" bytes as they were sent"));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    };
    let ends = |text: &str| text.matches("as they were sent").count() as u64;
    let counted = client.metrics()?.lines().any(|line| {
        line.starts_with("weft_route_requests_total{") && line.contains("status=\"101\"")
    });
    let mut notes: Vec<String> = output.stderr.lines().map(str::to_owned).collect();
    notes.extend(server.log().lines().filter(|it| it.contains("WRONG")).map(str::to_owned));
    if !counted {
        notes.push("the sidecar has counted no upgrade".to_owned());
    }
    let (forth, back) = (server.log(), output.stdout);
    Ok(vec![Row {
        what: "WebSocket, both ways at once".to_owned(),
        expected: format!("{CONNECTIONS} connections, the same bytes"),
        seen: format!(
            "{} and {}; {} MiB there, {} MiB back",
            ends(&forth),
            ends(&back),
            bytes(&forth) >> 20,
            bytes(&back) >> 20
        ),
        passed: notes.is_empty()
            && output.code == 0
            && ends(&forth) == CONNECTIONS
            && ends(&back) == CONNECTIONS,
        notes,
    }])
}

pub(crate) fn serve(options: &ServerOptions) -> Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", options.port)).context("listen")?;
    loop {
        let (stream, _) = listener.accept()?;
        thread::spawn(move || {
            if let Err(error) = accept(stream) {
                println!("WRONG {error:#}");
            }
        });
    }
}

fn accept(mut stream: TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let head = read_head(&mut stream)?;
    let seed: u64 = head
        .strip_prefix("GET /frames/")
        .and_then(|rest| rest.split(' ').next()?.parse().ok())
        .with_context(|| format!("the request {head:?}"))?;
    let lower = head.to_ascii_lowercase();
    ensure!(lower.contains("\r\nupgrade: websocket\r\n"), "no Upgrade: {head}");
    ensure!(lower.contains("\r\nconnection: upgrade\r\n"), "no Connection: {head}");
    ensure!(head.contains(KEY), "no key: {head}");
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes())?;
    let count = exchange(stream, seed, Side::Server)?;
    println!("connection {seed}: {count} bytes as they were sent");
    Ok(())
}

pub(crate) fn connect(options: &ClientOptions) -> Result<()> {
    for seed in 0..options.connections {
        let count =
            connect_once(&options.host, seed).with_context(|| format!("connection {seed}"))?;
        println!("connection {seed}: {count} bytes as they were sent");
    }
    Ok(())
}

fn connect_once(host: &str, seed: u64) -> Result<usize> {
    let mut stream = TcpStream::connect((host, 80)).context("connect")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut request = format!(
        "GET /frames/{seed} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n\
         Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    )
    .into_bytes();
    // Every other time the first frames do not wait for the answer: they come with the request.
    let early = if seed.is_multiple_of(2) { 0 } else { 100 };
    let frames = frames(seed, Side::Client);
    request.extend_from_slice(&frames[..early.min(frames.len())]);
    stream.write_all(&request)?;
    let head = read_head(&mut stream)?;
    ensure!(head.starts_with("HTTP/1.1 101 "), "the answer {head:?}");
    ensure!(head.contains(ACCEPT), "another key's answer: {head:?}");
    exchange_from(stream, seed, Side::Client, early)
}

/// The head of a message, and not a byte more.
fn read_head(stream: &mut TcpStream) -> Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).context("the head")?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn exchange(stream: TcpStream, seed: u64, side: Side) -> Result<usize> {
    exchange_from(stream, seed, side, 0)
}

/// Sends what this side has to say, behind what has been sent `early`, and compares at the same time
/// what comes; returns how many bytes came.
fn exchange_from(mut stream: TcpStream, seed: u64, side: Side, early: usize) -> Result<usize> {
    let mut writer = stream.try_clone()?;
    let sending = thread::spawn(move || -> Result<()> {
        let bytes = frames(seed, side);
        let mut random = Rng::with_seed(!seed);
        let mut rest = &bytes[early.min(bytes.len())..];
        while !rest.is_empty() {
            let largest = [1, 3, 100, 5_000, 200_000][random.usize(..5)];
            let (piece, behind) = rest.split_at(random.usize(1..=largest).min(rest.len()));
            writer.write_all(piece).context("send")?;
            rest = behind;
        }
        // The end of one direction is not the end of the other.
        writer.shutdown(Shutdown::Write).context("finish")
    });
    let other = if side == Side::Client { Side::Server } else { Side::Client };
    let expected = frames(seed, other);
    let mut received = Vec::with_capacity(expected.len());
    stream.read_to_end(&mut received).context("receive")?;
    let first = received.iter().zip(&expected).position(|(came, sent)| came != sent);
    ensure!(
        first.is_none() && received.len() == expected.len(),
        "{} bytes came, {} were sent; the first that differs: {first:?}",
        received.len(),
        expected.len()
    );
    sending.join().map_err(|_| anyhow::anyhow!("the sender has panicked"))??;
    Ok(received.len())
}

/// What one side sends on the connection of this number: the same on both sides.
fn frames(seed: u64, side: Side) -> Vec<u8> {
    let mut random = Rng::with_seed(seed * 2 + u64::from(side == Side::Client));
    let mut bytes = Vec::new();
    for _ in 0..24 {
        let length = match random.usize(..3) {
            0 => LENGTHS[random.usize(..LENGTHS.len())],
            1 => random.usize(..300),
            _ => random.usize(..100_000),
        };
        let fragments = random.usize(1..5);
        for number in 0..fragments {
            let opcode = if number == 0 { BINARY } else { CONTINUATION };
            let is_last = number + 1 == fragments;
            frame(&mut bytes, &mut random, side, opcode, is_last, length / fragments);
            if random.u8(..4) == 0 {
                let opcode = if random.bool() { PING } else { PONG };
                let length = random.usize(..=125);
                frame(&mut bytes, &mut random, side, opcode, true, length);
            }
        }
    }
    frame(&mut bytes, &mut random, side, CLOSE, true, 2);
    bytes
}

/// RFC 6455, section 5.2.
fn frame(
    bytes: &mut Vec<u8>,
    random: &mut Rng,
    side: Side,
    opcode: u8,
    is_last: bool,
    length: usize,
) {
    bytes.push(u8::from(is_last) << 7 | opcode);
    let masked = if side == Side::Client { 0x80 } else { 0 };
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ ..=125), _) => bytes.push(masked | length),
        (_, Ok(length)) => {
            bytes.push(masked | 126);
            bytes.extend(length.to_be_bytes());
        }
        _ => {
            bytes.push(masked | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    if side == Side::Client {
        bytes.extend(random.u32(..).to_be_bytes());
    }
    // Random bytes are as good masked as not.
    bytes.extend(std::iter::repeat_with(|| random.u8(..)).take(length));
}
