//! From a source's snapshot to what workers use: compiles, publishes, and says what is wrong.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use weft_gamma::resolve::Settings;

use crate::pod::Pod;
use crate::source::{ProblemLog, Snapshot, SourceProblem};
use crate::table::{Compiled, Compiler, dump};
use crate::worker::Shared;

/// Publishes snapshots, one after the other, on the control thread.
#[derive(Debug)]
pub struct Publisher {
    shared: Arc<Shared>,
    compiler: Compiler,
    log: ProblemLog,
    problems: Problems,
}

/// The problems of what was published last, for the admin port. Clones are the same list.
#[derive(Clone, Debug, Default)]
pub struct Problems(Arc<ArcSwap<Vec<SourceProblem>>>);

impl Publisher {
    pub fn new(shared: Arc<Shared>, pod: Pod, settings: Settings) -> Self {
        let compiler = Compiler::new(pod, settings, shared.metrics.clone());
        Self { shared, compiler, log: ProblemLog::default(), problems: Problems::default() }
    }

    pub fn problems(&self) -> Problems {
        self.problems.clone()
    }

    /// Requests that begin after this returns use what the snapshot says.
    pub fn publish(&mut self, snapshot: Snapshot) {
        let start = Instant::now();
        let Snapshot { objects, mut problems, destinations } = snapshot;
        let Compiled { table, verdicts } = self.compiler.compile(&objects, destinations.as_ref());
        let (generation, addresses) = (table.generation, table.len());
        self.shared.publish(table);
        let took = start.elapsed();

        problems.extend(verdicts);
        self.log.report(&problems);
        let (routes, count) = (objects.routes.len(), problems.len());
        self.shared.metrics.source().set_problems(count);
        self.shared.metrics.table_published(generation, took, routes, addresses, count);
        tracing::info!(
            generation,
            routes,
            destinations = addresses,
            problems = count,
            microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            "table published",
        );
        self.problems.0.store(Arc::new(problems));
    }
}

impl Problems {
    /// The table in force with its problems, as JSON.
    pub fn dump(&self, shared: &Shared) -> serde_json::Value {
        let problems: Vec<String> = self.0.load().iter().map(ToString::to_string).collect();
        dump(&shared.table(), &problems)
    }
}

#[cfg(test)]
mod tests;
