//! The HTTP connections of a worker's clients, and those whose time is up.
//!
//! All of them are looked at now and then, so that a request sets no timer and reads no clock for it, and
//! an idle connection costs nothing but itself. (The heads of HTTP/1 have a deadline of their own, in
//! [`super::http1`].)

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

use super::activity::{Activity, Verdict, Waiting};
use super::pace::Pace;
use crate::prefixed::{Handle, WeakHandle};
use crate::worker::{Limits, Worker};

/// Connections are looked at so often, unless their deadlines are short.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Clients {
    watched: RefCell<Vec<Watched>>,
    pub(super) pace: Rc<Pace>,
}

#[derive(Debug)]
struct Watched {
    who: Who,
    wait: Wait,
}

/// What a connection was waited for when it was looked at, with a number that changes when that
/// begins anew, and since when.
#[derive(Debug)]
struct Wait {
    waiting: Waiting,
    number: u32,
    since: Instant,
}

#[derive(Debug)]
enum Who {
    /// With the task that serves it.
    Http1(WeakHandle, Waker),
    Http2(Weak<Activity>),
}

impl Default for Clients {
    fn default() -> Self {
        Self { watched: RefCell::default(), pace: Pace::new() }
    }
}

impl Clients {
    pub(super) fn add_http1(&self, stream: &Handle, task: &Waker) {
        self.add(Who::Http1(stream.downgrade(), task.clone()));
    }

    pub(super) fn add_http2(&self, activity: &Rc<Activity>) {
        self.add(Who::Http2(Rc::downgrade(activity)));
    }

    fn add(&self, who: Who) {
        let wait = Wait { waiting: Waiting::No, number: 0, since: Instant::now() };
        self.watched.borrow_mut().push(Watched { who, wait });
    }

    /// Looks at all connections, ends those whose time is up, and forgets those that have ended.
    fn look(&self, now: Instant, passed: Duration, limits: &Limits) {
        self.pace.passed(passed);
        let mut clients = self.watched.borrow_mut();
        clients.retain_mut(|watched| watched.look(now, passed, limits));
        // What a flood has left behind.
        let (room, needed) = (clients.capacity(), clients.len());
        if room > 1024 && needed < room / 4 {
            clients.shrink_to(needed * 2);
        }
    }
}

impl Watched {
    /// False where the connection has ended.
    fn look(&mut self, now: Instant, passed: Duration, limits: &Limits) -> bool {
        match &self.who {
            Who::Http1(stream, task) => {
                let Some(stream) = stream.upgrade() else { return false };
                let phase = stream.phase();
                let waiting = if phase.is_idle() { Waiting::Idle } else { Waiting::No };
                if self.wait.is_late(waiting, phase.number(), now, limits).is_some() {
                    stream.end();
                    task.wake_by_ref();
                }
            }
            Who::Http2(activity) => {
                let Some(activity) = activity.upgrade() else { return false };
                activity.forgive(passed);
                if let Some(verdict) =
                    self.wait.is_late(activity.waiting(), activity.number(), now, limits)
                {
                    activity.end(verdict);
                }
            }
        }
        true
    }
}

impl Wait {
    fn is_late(
        &mut self,
        waiting: Waiting,
        number: u32,
        now: Instant,
        limits: &Limits,
    ) -> Option<Verdict> {
        if (waiting, number) != (self.waiting, self.number) {
            (self.waiting, self.number, self.since) = (waiting, number, now);
        }
        let waited = now.saturating_duration_since(self.since);
        match waiting {
            Waiting::Head if waited >= limits.header_timeout => Some(Verdict::HeaderTimeout),
            Waiting::Idle if waited >= limits.client_idle_timeout => Some(Verdict::IdleTimeout),
            _ => None,
        }
    }
}

/// Looks at the worker's connections for as long as its runtime runs.
pub(crate) async fn watch(worker: Rc<Worker>) {
    let limits = worker.shared.limits;
    let shortest = limits.header_timeout.min(limits.client_idle_timeout);
    let period = LOOK.min(shortest / 4).max(Duration::from_millis(10));
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        worker.clients.look(Instant::now(), period, &limits);
    }
}

#[cfg(test)]
mod tests;
