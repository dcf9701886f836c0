//! The idle HTTP/1 connections of one endpoint, on one worker.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use crate::http1::Connection;

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
    connection: Connection,
    since: Instant,
}

impl Pool {
    /// An idle connection that is still open, as far as this side knows.
    pub(crate) fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { connection, .. }) = idle.pop() {
            if connection.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    pub(crate) fn put(&self, connection: Connection, settings: &PoolSettings, now: Instant) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < settings.max_idle {
            idle.push(Idle { connection, since: now });
        }
    }

    /// Closes what has been idle for too long, or is of no use any more.
    pub(crate) fn sweep(&self, now: Instant, settings: &PoolSettings) {
        self.idle.borrow_mut().retain(|idle| {
            idle.connection.is_ready()
                && now.saturating_duration_since(idle.since) < settings.idle_timeout
        });
    }

    /// Closes all.
    pub(crate) fn clear(&self) {
        self.idle.borrow_mut().clear();
    }
}
