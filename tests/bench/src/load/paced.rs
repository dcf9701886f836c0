//! A client at a fixed rate. Each connection has a thread and a timetable; a request's time counts
//! from when it was due, not from when it could be sent, so that a stall of the proxy is seen by
//! all requests that it has held up.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::work::SMALL;

const CONNECTIONS: u32 = 16;

/// What is sent for so long before and after what is measured: caches are cold at first, and a thread's end
/// takes time from the others.
const AROUND: Duration = Duration::from_millis(20);

/// Response times in microseconds, ascending.
#[derive(Debug)]
pub(crate) struct Times(Vec<f64>);

impl Times {
    /// The time that this share of the requests did not exceed.
    pub(crate) fn percentile(&self, share: f64) -> f64 {
        let last = self.0.len() - 1;
        self.0[(share * last as f64).round() as usize]
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len() as u64
    }
}

/// So many requests a second, spread evenly, for so long.
pub(crate) fn paced(target: &str, rate: f64, length: Duration) -> Result<Times> {
    let interval = Duration::from_secs_f64(f64::from(CONNECTIONS) / rate);
    let count = |length: Duration| (length.as_secs_f64() / interval.as_secs_f64()) as u32;
    let (around, each) = (count(AROUND), count(length));
    ensure!(each > 0, "the rate of {rate:.0}/s is too low to measure");
    let start = Instant::now() + Duration::from_millis(50);
    let threads: Vec<_> = (0..CONNECTIONS)
        .map(|number| {
            let target = target.to_owned();
            let first = start + interval * number / CONNECTIONS;
            thread::spawn(move || connection(&target, first, interval, [around, each]))
        })
        .collect();
    let mut times = Vec::new();
    for thread in threads {
        match thread.join() {
            Ok(own) => times.extend(own?),
            Err(_panic) => bail!("a client's thread panicked"),
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(Times(times))
}

fn connection(
    target: &str,
    first: Instant,
    interval: Duration,
    [around, count]: [u32; 2],
) -> Result<Vec<f64>> {
    // The kernel's own slack of 50 µs would be in every figure.
    nix::sys::prctl::set_timerslack(1)?;
    let mut client = Client::connect(target)?;
    client.get()?;
    let mut times = Vec::with_capacity(count as usize);
    for number in 0..around + count + around {
        let due = first + interval * number;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        client.get()?;
        if (around..around + count).contains(&number) {
            times.push(due.elapsed().as_secs_f64() * 1e6);
        }
    }
    Ok(times)
}

/// A client that asks and waits.
pub(super) struct Client {
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Client {
    pub(super) fn connect(target: &str) -> Result<Client> {
        let stream = TcpStream::connect(target).with_context(|| format!("connecting {target}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let request = format!("GET / HTTP/1.1\r\nHost: {target}\r\nend-user: jason\r\n\r\n");
        Ok(Client { stream, request: request.into(), answer: Vec::with_capacity(4096) })
    }

    /// One request, and its answer to the last byte.
    pub(super) fn get(&mut self) -> Result<()> {
        self.stream.write_all(&self.request)?;
        self.answer.clear();
        let mut chunk = [0; 4096];
        while !self.answer.ends_with(SMALL) {
            let read = self.stream.read(&mut chunk).context("waiting for an answer")?;
            ensure!(read > 0, "the connection was closed: {}", self.seen());
            self.answer.extend_from_slice(&chunk[..read]);
        }
        ensure!(self.answer.starts_with(b"HTTP/1.1 200 "), "not answered 200: {}", self.seen());
        Ok(())
    }

    fn seen(&self) -> String {
        String::from_utf8_lossy(&self.answer).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::Times;

    #[test]
    fn percentiles_are_of_the_ascending_times() {
        let times = Times((0..=1000).map(f64::from).collect());
        assert_eq!(times.percentile(0.5), 500.0);
        assert_eq!(times.percentile(0.99), 990.0);
        assert_eq!(times.percentile(0.999), 999.0);
        assert_eq!(Times(vec![7.0]).percentile(0.999), 7.0);
    }
}
