//! Memory that is not needed any more goes back to the system.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

/// Without work for so long, a thread is taken to be done.
const QUIET: Duration = Duration::from_millis(300);
/// Where there is always some work, free pages go back so often all the same.
const LONGEST: Duration = Duration::from_secs(10);
/// After so many requests the allocator looks for pages of which nothing is used (generic_collect) …
const REQUESTS: usize = 10_000;
/// … counting those alone that are larger than its smallest sizes, in bytes.
const COUNTED: usize = 2048;
/// Longer than it keeps free pages before they go back to the system (purge_delay, 1 s).
const KEPT: Duration = Duration::from_millis(1100);
/// So large that the allocator has pages for it alone, in bytes; nothing is ever written to them.
const ALONE: usize = 1024 * 1024;

/// Sees to it that a thread that falls quiet after much work keeps no free pages.
///
/// mimalloc looks for free pages, and gives back to the system those that are free for a while, only when it is
/// asked for memory; whoever has nothing more to do would keep what its last work took. (Its function for that
/// is not safe to call from Rust.)
#[derive(Debug)]
pub(crate) struct GiveBack {
    worked: Arc<Notify>,
    task: AbortHandle,
}

impl GiveBack {
    /// In a tokio runtime of the thread's own.
    pub(crate) fn start() -> Self {
        let worked = Arc::new(Notify::new());
        let task = tokio::spawn(give_back(worked.clone())).abort_handle();
        Self { worked, task }
    }

    /// There was work just now.
    pub(crate) fn when_quiet(&self) {
        self.worked.notify_one();
    }
}

impl Drop for GiveBack {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn give_back(worked: Arc<Notify>) {
    loop {
        worked.notified().await;
        let begun = Instant::now();
        while begun.elapsed() < LONGEST && timeout(QUIET, worked.notified()).await.is_ok() {}
        for _ in 0..REQUESTS {
            drop(black_box(Vec::<u8>::with_capacity(COUNTED)));
        }
        tokio::time::sleep(KEPT).await;
        drop(black_box(Vec::<u8>::with_capacity(ALONE)));
    }
}
