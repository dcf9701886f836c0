//! A client at a fixed rate, on the backend's own thread. That never sleeps meanwhile: what is measured is the
//! proxy, and not how long the load's core takes to wake one thread after another, half of its time.
//!
//! A request's time counts from when it was due, not from when it could be sent, so that a stall of the proxy
//! is seen by all requests that it has held up.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::work::{SMALL, small_request};

const CONNECTIONS: usize = 16;

/// What is sent for so long before what is measured: caches are cold at first.
const BEFORE: Duration = Duration::from_millis(20);

/// Longer no answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// The times of requests to `target`, so many a second, in microseconds.
pub(super) async fn pace(target: &str, rate: &str, seconds: &str) -> Result<Vec<f64>> {
    let slot = Duration::try_from_secs_f64(1.0 / rate.parse::<f64>()?)?;
    let length = Duration::try_from_secs_f64(seconds.parse()?)?;
    let count = |length: Duration| length.div_duration_f64(slot) as usize;
    let (before, measured) = (count(BEFORE), count(length));
    // Ended with this.
    let mut readers = JoinSet::new();
    let mut clients = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let client = Client::connect(target).await?;
        readers.spawn_local(client.clone().read());
        clients.push(client);
    }
    let start = Instant::now();
    // The same each time.
    let mut random = fastrand::Rng::with_seed(0);
    for number in 0..before + measured {
        // Each at some moment of its slot. Were they spread evenly, a proxy would answer all before the next
        // one comes, or none, and a few microseconds would say which.
        let due = start + slot.mul_f64(number as f64 + random.f64());
        while Instant::now() < due {
            tokio::task::yield_now().await;
        }
        clients[number % CONNECTIONS].ask(due)?;
    }
    let end = start + slot * (before + measured) as u32 + PATIENCE;
    let mut times = Vec::with_capacity(measured);
    for (number, client) in clients.iter().enumerate() {
        let asked = (before + measured).saturating_sub(number).div_ceil(CONNECTIONS);
        while client.answered() < asked {
            ensure!(Instant::now() < end, "{target} does not answer");
            if let Some(ended) = readers.try_join_next() {
                ended??;
            }
            tokio::task::yield_now().await;
        }
        // In the order in which they were asked, of which the first are not measured.
        let first = before.saturating_sub(number).div_ceil(CONNECTIONS);
        times.extend_from_slice(&client.state.borrow().times[first..]);
    }
    Ok(times)
}

/// A connection of which one request is under way at a time.
#[derive(Clone)]
struct Client {
    stream: Rc<TcpStream>,
    request: Rc<[u8]>,
    state: Rc<RefCell<State>>,
}

#[derive(Default)]
struct State {
    /// When the requests were due that are not answered; the first is under way.
    due: VecDeque<Instant>,
    /// Of the others, in microseconds.
    times: Vec<f64>,
}

impl Client {
    async fn connect(target: &str) -> Result<Client> {
        let stream = TcpStream::connect(target).await.with_context(|| target.to_owned())?;
        stream.set_nodelay(true)?;
        let request = small_request(target, "").into();
        Ok(Client { stream: Rc::new(stream), request, state: Rc::default() })
    }

    /// Sends a request, or has it sent after those that are not answered yet.
    fn ask(&self, due: Instant) -> Result<()> {
        let mut state = self.state.borrow_mut();
        state.due.push_back(due);
        if state.due.len() == 1 { self.send() } else { Ok(()) }
    }

    fn send(&self) -> Result<()> {
        let written = self.stream.try_write(&self.request)?;
        ensure!(written == self.request.len(), "a request was written in part");
        Ok(())
    }

    /// Takes answers, until one is none.
    async fn read(self) -> Result<()> {
        let mut answer = Vec::with_capacity(4096);
        loop {
            self.stream.readable().await?;
            match self.stream.try_read_buf(&mut answer) {
                Ok(0) => bail!("the connection was closed"),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            }
            if !answer.ends_with(SMALL) {
                continue;
            }
            let is_right = answer.starts_with(b"HTTP/1.1 200 ");
            ensure!(is_right, "not answered 200: {}", String::from_utf8_lossy(&answer));
            answer.clear();
            let mut state = self.state.borrow_mut();
            let due = state.due.pop_front().context("an answer to nothing")?;
            state.times.push(due.elapsed().as_secs_f64() * 1e6);
            if !state.due.is_empty() {
                self.send()?;
            }
        }
    }

    fn answered(&self) -> usize {
        self.state.borrow().times.len()
    }
}
