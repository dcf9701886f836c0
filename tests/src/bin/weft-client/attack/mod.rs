//! Attacks on a server of HTTP: each is cheap to send. A connection that the other side ends is made
//! again at once, so that an attack goes on for as long as it is asked to.

mod http1;
mod http2;
mod idle;
mod wire;

use std::io;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use weft_tests::attack::Attack;

use self::wire::Wire;

#[derive(Args)]
pub(crate) struct Options {
    #[arg(value_enum)]
    kind: Kind,
    /// `host:port`
    address: String,
    /// How long.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Ends when the other side has ended so many connections.
    #[arg(long, default_value_t = u64::MAX)]
    closed: u64,
    /// Connections at a time, of attacks that hold them.
    #[arg(long, default_value_t = 200)]
    connections: usize,
    /// Waits after each piece until the other side has read it, so that what it takes can be counted.
    #[arg(long)]
    in_step: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// HTTP/2: a request and its reset at once.
    RapidReset,
    /// HTTP/2: resets of requests that are under way already.
    LateReset,
    /// HTTP/2: a head that never ends.
    Continuation,
    EmptyData,
    Settings,
    Ping,
    Priority,
    WindowUpdate,
    /// HTTP/2: what is wrong, so that the server resets requests while the backend works.
    MadeYouReset,
    /// HTTP/2: heads that are short on the wire and long when read.
    HpackBomb,
    /// HTTP/2: the same, as long as a head may be: requests that reach the backend.
    SmallHpackBomb,
    /// HTTP/2: heads of a megabyte.
    HugeHeadersHttp2,
    HugeHeadersHttp1,
    /// Heads that come byte by byte.
    SlowHeadersHttp1,
    /// Heads that begin and do not go on.
    SlowHeadersHttp2,
    /// Bodies that come byte by byte.
    SlowBodies,
    /// Connections on which nothing is sent.
    IdleConnections,
    /// Connections that are made and closed.
    Connections,
}

/// An attack under way.
struct Attacker<'o> {
    options: &'o Options,
    began: Instant,
    seen: Attack,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut attacker = Attacker { options, began: Instant::now(), seen: Attack::default() };
    match options.kind {
        Kind::HugeHeadersHttp1 => attacker.again_and_again(http1::huge_headers)?,
        Kind::SlowHeadersHttp1 => attacker.hold(Some(http1::HEAD_BEGINS), b"x")?,
        Kind::SlowBodies => attacker.hold(Some(http1::BODY_BEGINS), b"x")?,
        Kind::SlowHeadersHttp2 => attacker.hold(Some(&http2::head_begins()), b"")?,
        Kind::IdleConnections => attacker.hold(None, b"")?,
        Kind::Connections => attacker.again_and_again(idle::connect_and_close)?,
        kind => attacker.again_and_again(|attacker, wire| http2::flood(kind, attacker, wire))?,
    }
    let mut seen = attacker.seen;
    seen.seconds = attacker.began.elapsed().as_secs_f64();
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let microseconds =
        usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    seen.cpu_seconds = microseconds as f64 / 1e6;
    // In kilobytes (getrusage(2)).
    seen.peak_bytes = u64::try_from(usage.max_rss()).unwrap_or(0) * 1024;
    println!("{}", serde_json::to_string(&seen)?);
    Ok(())
}

impl Attacker<'_> {
    fn is_over(&self) -> bool {
        self.began.elapsed().as_secs_f64() >= self.options.seconds
            || self.seen.closed >= self.options.closed
    }

    /// Makes one connection after the other; `on` returns when the connection or the attack is over.
    fn again_and_again(
        &mut self,
        mut on: impl FnMut(&mut Self, &mut Wire) -> io::Result<()>,
    ) -> Result<()> {
        while !self.is_over() {
            let Some(mut wire) = self.connect()? else { continue };
            let ended = on(self, &mut wire);
            self.seen.frames += wire.frames;
            self.seen.most_frames = self.seen.most_frames.max(wire.frames);
            if let Some(code) = wire.told {
                self.seen.told += 1;
                self.seen.code = code;
            }
            if ended.is_err() || wire.has_ended {
                self.seen.closed += 1;
            }
        }
        Ok(())
    }

    fn connect(&mut self) -> Result<Option<Wire>> {
        match Wire::connect(&self.options.address) {
            Ok(wire) => {
                self.seen.connections += 1;
                Ok(Some(wire))
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                Err(error).context("the address")
            }
            Err(_) => {
                self.seen.refused += 1;
                std::thread::sleep(Duration::from_millis(1));
                Ok(None)
            }
        }
    }
}
