//! Draining: connections are told to finish, and the process waits for them.
//!
//! On SIGTERM (or `POST /drain`) every HTTP/1 connection closes after its current request, every
//! HTTP/2 connection gets a GOAWAY. Listeners stay open meanwhile: as a native sidecar the proxy is
//! only stopped after the application, and whoever still sends is served.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::coop::unconstrained;

/// Starts a drain and waits for its end. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Drain {
    started: Arc<watch::Sender<bool>>,
    open: Arc<Open>,
}

/// A connection's side: tells when to finish, and counts as open until dropped.
#[derive(Debug)]
pub struct Watch {
    started: watch::Receiver<bool>,
    open: Arc<Open>,
}

#[derive(Debug, Default)]
struct Open {
    connections: AtomicUsize,
    /// What `started` says, at the cost of a load.
    draining: AtomicBool,
    changed: tokio::sync::Notify,
}

impl Default for Drain {
    fn default() -> Self {
        Self { started: Arc::new(watch::Sender::new(false)), open: Arc::default() }
    }
}

impl Drain {
    /// Registers a connection.
    pub fn watch(&self) -> Watch {
        self.open.connections.fetch_add(1, Ordering::Relaxed);
        Watch { started: self.started.subscribe(), open: self.open.clone() }
    }

    /// Tells all connections, those to come as well, to finish what they are doing.
    pub fn start(&self) {
        self.open.draining.store(true, Ordering::Release);
        self.started.send_replace(true);
    }

    pub fn is_started(&self) -> bool {
        *self.started.borrow()
    }

    /// Resolves once the drain was started.
    pub async fn started(&self) {
        // The sender lives in `self`, so that waiting cannot fail.
        let _ = self.started.subscribe().wait_for(|started| *started).await;
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.open.connections.load(Ordering::Acquire)
    }

    /// Waits until no connection is left, at most `deadline`. Returns how many were left.
    pub async fn finished(&self, deadline: Duration) -> usize {
        let wait = async {
            loop {
                let changed = self.open.changed.notified();
                if self.open() == 0 {
                    return;
                }
                changed.await;
            }
        };
        // Whether the time ran out shows in the number.
        let _ = tokio::time::timeout(deadline, wait).await;
        self.open()
    }
}

impl Watch {
    /// Resolves once the connection should finish. It costs a load where it is polled again and again
    /// beside what the connection does: always by the same task, which its first poll has told whom to
    /// wake.
    pub async fn draining(&mut self) {
        // Whatever the task has done before in its turn: its first poll has to count.
        let mut started = pin!(unconstrained(self.started.wait_for(|started| *started)));
        let mut is_waiting = false;
        let ended = poll_fn(|cx| {
            if std::mem::replace(&mut is_waiting, true)
                && !self.open.draining.load(Ordering::Acquire)
            {
                return Poll::Pending;
            }
            started.as_mut().poll(cx).map(|started| started.is_err())
        });
        if ended.await {
            // The process is on its way out without a drain.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.open.connections.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.open.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::coop::poll_proceed;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_for_the_last_connection() {
        let drain = Drain::default();
        let mut connection = drain.watch();
        drain.start();
        connection.draining().await;
        assert_eq!(drain.finished(Duration::from_secs(5)).await, 1);
        let waiting = tokio::spawn({
            let drain = drain.clone();
            async move { drain.finished(Duration::from_secs(5)).await }
        });
        tokio::task::yield_now().await;
        drop(connection);
        assert_eq!(waiting.await.expect("does not panic"), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_comes_late_is_told_too() {
        let drain = Drain::default();
        drain.start();
        drain.watch().draining().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_in_a_long_turn_is_told_too() {
        let drain = Drain::default();
        let mut connection = drain.watch();
        let told = tokio::spawn(async move {
            let mut draining = pin!(connection.draining());
            let mut is_first = true;
            poll_fn(|cx| {
                // All that tokio lets it do in a turn has been done.
                while is_first && let Poll::Ready(unit) = poll_proceed(cx) {
                    unit.made_progress();
                }
                is_first = false;
                draining.as_mut().poll(cx)
            })
            .await;
        });
        // Its second turn as well, for which tokio wakes it.
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        drain.start();
        let told = tokio::time::timeout(Duration::from_secs(5), told).await;
        told.expect("is told").expect("does not panic");
    }
}
