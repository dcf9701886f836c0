//! From a source's snapshot to what workers use: compiles, publishes, says what is wrong, and keeps
//! what was published for those who ask.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use weft_gamma::object::Objects;
use weft_gamma::resolve::Settings;

use crate::pod::Pod;
use crate::source::{ProblemLog, Snapshot, SourceProblem};
use crate::table::{Compiled, Compiler, Table, dump};
use crate::worker::Shared;

/// Publishes snapshots, one after the other, on the control thread.
#[derive(Debug)]
pub struct Publisher {
    shared: Arc<Shared>,
    compiler: Compiler,
    log: ProblemLog,
    in_force: InForce,
}

/// What was published last, for the admin port. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct InForce(Arc<ArcSwap<Published>>);

/// A table with what it was made from.
#[derive(Debug, Default)]
pub struct Published {
    pub table: Arc<Table>,
    /// Shared with the source.
    pub objects: Objects,
    /// What of it the source could not read or use.
    pub problems: Vec<SourceProblem>,
    /// What the routes' status complains about.
    pub verdicts: Vec<SourceProblem>,
}

impl Publisher {
    pub fn new(shared: Arc<Shared>, pod: Pod, settings: Settings) -> Self {
        let compiler = Compiler::new(pod, settings, shared.metrics.clone());
        Self { shared, compiler, log: ProblemLog::default(), in_force: InForce::default() }
    }

    pub fn in_force(&self) -> InForce {
        self.in_force.clone()
    }

    /// Requests that begin after this returns use what the snapshot says.
    pub fn publish(&mut self, snapshot: Snapshot) {
        let start = Instant::now();
        let Snapshot { objects, problems, destinations } = snapshot;
        let Compiled { table, verdicts } = self.compiler.compile(&objects, destinations.as_ref());
        let (generation, addresses) = (table.generation, table.len());
        self.shared.publish(table);
        let took = start.elapsed();

        self.log.report(problems.iter().chain(&verdicts));
        let (routes, count) = (objects.routes.len(), problems.len() + verdicts.len());
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
        let table = self.shared.table();
        self.in_force.0.store(Arc::new(Published { table, objects, problems, verdicts }));
    }
}

impl InForce {
    pub fn load(&self) -> Arc<Published> {
        self.0.load_full()
    }

    /// The table in force with the problems, as JSON.
    pub fn dump(&self) -> serde_json::Value {
        let published = self.load();
        let problems = published.problems.iter().chain(&published.verdicts);
        let problems: Vec<String> = problems.map(ToString::to_string).collect();
        dump(&published.table, &problems)
    }
}

#[cfg(test)]
mod tests;
