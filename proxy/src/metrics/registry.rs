//! Series by their labels: interned, bounded in number, let go when nobody needs them any more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Something that tells whether it was used since one looked last.
pub(super) trait Activity {
    /// A number that changes with use, 0 before; it costs nothing on the path of a request because it
    /// is read off the counters.
    fn activity(&self) -> u64;
}

/// All series of one kind, sorted by their labels.
#[derive(Debug)]
pub(super) struct Registry<L, S> {
    entries: BTreeMap<L, Entry<S>>,
    max: usize,
    /// Takes what comes when there are `max` series already.
    other: Arc<S>,
    /// How many label sets were refused a series of their own.
    overflows: u64,
}

#[derive(Debug)]
struct Entry<S> {
    series: Arc<S>,
    activity: u64,
    changed: Instant,
}

impl<L: Ord + Clone, S: Activity> Registry<L, S> {
    pub(super) fn new(max: usize, other: Arc<S>) -> Registry<L, S> {
        Registry { entries: BTreeMap::new(), max, other, overflows: 0 }
    }

    /// The series of these labels, made if there is none and room for one.
    pub(super) fn intern(&mut self, labels: L, now: Instant, new: impl FnOnce() -> S) -> Arc<S> {
        if let Some(entry) = self.entries.get(&labels) {
            return Arc::clone(&entry.series);
        }
        if self.entries.len() >= self.max {
            if self.overflows == 0 {
                tracing::warn!(
                    max_series = self.max,
                    "no room for more metric series: the rest is counted as \"other\""
                );
            }
            self.overflows += 1;
            return Arc::clone(&self.other);
        }
        let series = Arc::new(new());
        let entry = Entry { series: Arc::clone(&series), activity: 0, changed: now };
        self.entries.insert(labels, entry);
        series
    }

    /// Lets go of series that only this registry holds and that did not change for `idle`; of those that were
    /// never used, which no scrape has shown, at once.
    pub(super) fn sweep(&mut self, now: Instant, idle: Duration) -> usize {
        let before = self.entries.len();
        self.entries.retain(|_, entry| {
            // First: what others have recorded before they let go of it is seen then.
            let held_elsewhere = Arc::get_mut(&mut entry.series).is_none();
            let activity = entry.series.activity();
            if activity == 0 && !held_elsewhere {
                return false;
            }
            if activity != entry.activity || held_elsewhere {
                entry.activity = activity;
                entry.changed = now;
            }
            now.saturating_duration_since(entry.changed) < idle
        });
        before - self.entries.len()
    }

    /// All series as they are now, for an encoder that shall not hold the lock meanwhile.
    pub(super) fn snapshot(&self) -> Vec<(L, Arc<S>)> {
        self.entries
            .iter()
            .map(|(labels, entry)| (labels.clone(), Arc::clone(&entry.series)))
            .collect()
    }

    pub(super) fn other(&self) -> Arc<S> {
        Arc::clone(&self.other)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn overflows(&self) -> u64 {
        self.overflows
    }
}
