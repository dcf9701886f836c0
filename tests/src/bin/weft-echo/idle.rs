//! Connections that close when nothing has been asked for a while, as servers do, but sooner and at
//! other times each time: so that the end meets the next request at every moment of its way.

use std::future::pending;
use std::time::Duration;

use tokio::sync::watch;

/// What one connection is doing.
pub(crate) struct Idle {
    longest: Duration,
    state: watch::Sender<State>,
}

#[derive(Default)]
struct State {
    under_way: u64,
    answered: u64,
}

/// A request; until it is dropped the connection is not idle.
pub(crate) struct UnderWay(watch::Sender<State>);

impl Idle {
    /// `longest` may be zero: then it may be idle for ever.
    pub(crate) fn new(longest: Duration) -> Self {
        Self { longest, state: watch::Sender::default() }
    }

    pub(crate) fn begin(&self) -> UnderWay {
        self.state.send_modify(|state| state.under_way += 1);
        UnderWay(self.state.clone())
    }

    /// Resolves when the connection has been idle for longer than it may this time. A connection that
    /// has not answered yet is not idle.
    pub(crate) fn for_long(&self) -> impl Future<Output = ()> + use<> {
        let (longest, mut state) = (self.longest, self.state.subscribe());
        async move {
            while !longest.is_zero() {
                let is_idle = |state: &State| state.under_way == 0 && state.answered > 0;
                if state.wait_for(is_idle).await.is_err() {
                    break;
                }
                tokio::select! {
                    () = tokio::time::sleep(longest.mul_f64(fastrand::f64())) => return,
                    changed = state.changed() => if changed.is_err() { break },
                }
            }
            pending().await
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.send_modify(|state| {
            state.under_way -= 1;
            state.answered += 1;
        });
    }
}
