//! The idle HTTP/1 connections of one endpoint, on one worker.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use hyper::client::conn::http1::SendRequest;

use crate::request::RequestBody;

/// How many idle connections are kept, and how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolSettings {
    pub(crate) max_idle: usize,
    pub(crate) idle_timeout: Duration,
}

/// A stack: the connection that was used last is the least likely to have been closed meanwhile, and
/// those that are not needed grow old together.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    idle: RefCell<Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<RequestBody>,
    since: Instant,
}

impl Pool {
    /// An idle connection that is still open, as far as this side knows.
    pub(crate) fn take(&self) -> Option<SendRequest<RequestBody>> {
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { sender, .. }) = idle.pop() {
            // Not ready: its last request's body is still being sent, though the answer is complete.
            if !sender.is_closed() && sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    pub(crate) fn put(
        &self,
        sender: SendRequest<RequestBody>,
        settings: &PoolSettings,
        now: Instant,
    ) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < settings.max_idle && !sender.is_closed() {
            idle.push(Idle { sender, since: now });
        }
    }

    /// Closes what has been idle for too long.
    pub(crate) fn sweep(&self, now: Instant, settings: &PoolSettings) {
        self.idle.borrow_mut().retain(|idle| {
            !idle.sender.is_closed()
                && now.saturating_duration_since(idle.since) < settings.idle_timeout
        });
    }

    /// Closes all.
    pub(crate) fn clear(&self) {
        self.idle.borrow_mut().clear();
    }
}
