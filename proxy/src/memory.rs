//! Memory that is not needed any more goes back to the system.

use std::hint::black_box;
use std::time::Duration;

use tokio::task::AbortHandle;

/// Without work for so long, a thread is taken to be done.
const QUIET: Duration = Duration::from_millis(300);
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
#[derive(Debug, Default)]
pub(crate) struct GiveBack(Option<AbortHandle>);

impl GiveBack {
    /// There was work just now. In a tokio runtime of the thread's own.
    pub(crate) fn when_quiet(&mut self) {
        let later = tokio::spawn(async {
            tokio::time::sleep(QUIET).await;
            for _ in 0..REQUESTS {
                drop(black_box(Vec::<u8>::with_capacity(COUNTED)));
            }
            tokio::time::sleep(KEPT).await;
            drop(black_box(Vec::<u8>::with_capacity(ALONE)));
        });
        if let Some(earlier) = self.0.replace(later.abort_handle()) {
            earlier.abort();
        }
    }
}
