//! A run from beginning to end: look, choose an engine, plan, write, verify.
//!
//! `main` calls [`run`]. When it succeeds, the rules in the kernel have been read back and are the
//! wanted ones, in one engine only. When it fails, the error says what is missing, and rules are
//! as they were, or as they are without Weft.

use std::io::{self, Write};
use std::path::Path;

use thiserror::Error;
use tracing::{debug, info, warn};

use crate::capability::Capability;
use crate::cidr::{CidrList, Family};
use crate::config::{BackendChoice, Config, Demand, Job};
use crate::diagnose::NEEDS_NET_ADMIN;
use crate::iptables::{Backend, ToolError, Tools};
use crate::plan::{Plan, explained, plan};
use crate::rules::{Chain, chains};
use crate::saved::Saved;
use crate::turn::{Turn, TurnError};

/// How often rules are written before they are given up. More than once only if somebody else
/// writes at the same time, because then what was planned is no longer what is needed.
const ATTEMPTS: usize = 4;

/// Does the job; `out` gets what `--dry-run` prints.
pub fn run(job: &Job, out: &mut impl Write) -> Result<(), RunError> {
    match job {
        Job::Redirect(config) => redirect(config),
        Job::Print(config) => print(config, out).map_err(RunError::Print),
        Job::Cleanup => cleanup(),
    }
}

/// Why a run failed, and what to do.
#[derive(Debug, Error)]
pub enum RunError {
    #[error("this process lacks the capability NET_ADMIN: {NEEDS_NET_ADMIN}")]
    NetAdmin,
    #[error(
        "the ranges {ranges} are to be redirected, but IPv6 is switched off in this node's kernel: \
         leave them out, or switch IPv6 on"
    )]
    NoIpv6 { ranges: CidrList },
    #[error(transparent)]
    Turn(#[from] TurnError),
    #[error("the rules could not be written: {}", listed(.0))]
    Refused(Vec<Refusal>),
    #[error("Weft's rules could not be looked for: {}", listed(.0))]
    Unreadable(Vec<Refusal>),
    #[error(
        "the rules are written, but those of an earlier run could not be removed and would \
         redirect as well: {0}"
    )]
    Leftover(Refusal),
    #[error("the rules could not be removed: {0}")]
    Removal(Refusal),
    #[error("the rules could not be printed: {0}")]
    Print(io::Error),
}

/// One family in one engine that did not do what was asked.
#[derive(Debug, Error)]
#[error("{family} with {backend}: {cause}")]
pub struct Refusal {
    pub backend: Backend,
    pub family: Family,
    pub cause: Cause,
}

#[derive(Debug, Error)]
pub enum Cause {
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error(
        "what was written is not there when it is read back, so something else on this node \
         changes or blocks the rules: {}", .0.join(", ")
    )]
    NotThere(Vec<String>),
}

impl Refusal {
    fn is_denied(&self) -> bool {
        matches!(&self.cause, Cause::Tool(error) if error.is_denied())
    }
}

fn listed(refusals: &[Refusal]) -> String {
    let texts: Vec<String> = refusals.iter().map(Refusal::to_string).collect();
    texts.join("; ")
}

fn redirect(config: &Config) -> Result<(), RunError> {
    if !Capability::NetAdmin.is_effective() {
        return Err(RunError::NetAdmin);
    }
    for cidr in config.undone() {
        warn!("{cidr} is included, but excluded as a whole: nothing of it is redirected");
    }
    let wanted = wanted(config)?;
    let _turn = Turn::take()?;
    let engines = Backend::ALL.map(|backend| Engine::look(backend, &wanted));
    let order = order(config.backend, &engines.each_ref().map(Engine::standing));
    let mut refusals = Vec::new();
    for backend in order {
        let Some(engine) = engines.iter().find(|engine| engine.backend == backend) else {
            continue;
        };
        if let Some(refusal) = refusals.last() {
            warn!("trying {backend}, because the rules could not be written: {refusal}");
        }
        match engine.write(&wanted) {
            Ok(changed) => {
                for other in engines.iter().filter(|other| other.backend != backend) {
                    other.remove_leftovers(&[]).map_err(RunError::Leftover)?;
                }
                engine.remove_leftovers(&wanted).map_err(RunError::Leftover)?;
                report(config, backend, &wanted, changed);
                return Ok(());
            }
            Err(refusal) => refusals.push(refusal),
        }
    }
    for engine in engines {
        if config.backend.fixed().is_none_or(|fixed| fixed == engine.backend) {
            refusals.extend(engine.unusable());
        }
    }
    // What is forbidden is the cause, and whatever else went wrong its consequence.
    if let Some(denied) = refusals.iter().position(Refusal::is_denied) {
        refusals = vec![refusals.swap_remove(denied)];
    }
    Err(RunError::Refused(refusals))
}

/// The chains of each family; none for a family of which nothing is redirected.
fn wanted(config: &Config) -> Result<Wanted, RunError> {
    let ipv6_in_kernel = ipv6_in_kernel();
    let mut wanted = Family::ALL.map(|family| (family, chains(config, family)));
    for (family, chains) in &mut wanted {
        let in_kernel = *family == Family::Ipv4 || ipv6_in_kernel;
        match config.demand(*family) {
            Demand::Yes if !in_kernel => {
                let ranges = CidrList::new(config.included.of(*family));
                return Err(RunError::NoIpv6 { ranges });
            }
            Demand::WhereKernelHasIt if !in_kernel => {
                info!("{family} is skipped: it is switched off in this node's kernel");
                chains.clear();
            }
            Demand::No => info!("{family} is skipped: no {family} range is to be redirected"),
            Demand::Yes | Demand::WhereKernelHasIt => {}
        }
    }
    Ok(wanted)
}

type Wanted = [(Family, Vec<Chain>); 2];

/// What an engine of the kernel has, and the programs to change it.
struct Engine {
    backend: Backend,
    families: [(Family, Result<Reading, ToolError>); 2],
    needed: Vec<Family>,
}

/// A family's rules as they were at the beginning, and the programs that read them.
struct Reading {
    tools: Tools,
    saved: Saved,
}

impl Engine {
    fn look(backend: Backend, wanted: &Wanted) -> Engine {
        let families = Family::ALL.map(|family| (family, read(backend, family)));
        let needed = wanted
            .iter()
            .filter(|(_, chains)| !chains.is_empty())
            .map(|(family, _)| *family)
            .collect();
        Engine { backend, families, needed }
    }

    fn standing(&self) -> Standing {
        let readable = || self.families.iter().filter_map(|(_, read)| read.as_ref().ok());
        Standing {
            backend: self.backend,
            usable: self
                .families
                .iter()
                .all(|(family, read)| read.is_ok() || !self.needed.contains(family)),
            foreign: readable().any(|reading| reading.saved.has_foreign()),
            own: readable().any(|reading| reading.saved.has_own()),
        }
    }

    /// Why it cannot be used: one refusal for each needed family that could not even be read.
    fn unusable(self) -> Vec<Refusal> {
        let Engine { backend, families, needed } = self;
        families
            .into_iter()
            .filter(|(family, _)| needed.contains(family))
            .filter_map(|(family, read)| {
                Some(Refusal { backend, family, cause: Cause::Tool(read.err()?) })
            })
            .collect()
    }

    /// Writes and verifies the needed families; whether anything had to be changed. If one fails,
    /// those that had no rules of Weft's are left without any.
    fn write(&self, wanted: &Wanted) -> Result<bool, Refusal> {
        let mut changed = false;
        let mut fresh: Vec<(&Tools, Family)> = Vec::new();
        for (family, chains) in wanted.iter().filter(|(_, chains)| !chains.is_empty()) {
            // Only an engine whose needed families could all be read is chosen.
            let Some(Reading { tools, saved }) = self.reading(*family) else { continue };
            if !saved.has_own() {
                fresh.push((tools, *family));
            }
            match settle(tools, chains) {
                Ok(family_changed) => changed |= family_changed,
                Err(cause) => {
                    for (tools, family) in fresh {
                        if let Err(cause) = settle(tools, &[]) {
                            warn!("the {family} rules written so far could not be undone: {cause}");
                        }
                    }
                    return Err(Refusal { backend: self.backend, family: *family, cause });
                }
            }
        }
        Ok(changed)
    }

    /// Removes what an earlier run wrote for families that `keep` wants nothing of. An engine that
    /// cannot be read holds nothing that this image or this kernel could have written.
    fn remove_leftovers(&self, keep: &[(Family, Vec<Chain>)]) -> Result<(), Refusal> {
        let kept = |family: Family| {
            keep.iter().any(|(in_keep, chains)| *in_keep == family && !chains.is_empty())
        };
        for (family, read) in self.families.iter().filter(|(family, _)| !kept(*family)) {
            let backend = self.backend;
            match read {
                Ok(Reading { tools, .. }) => match settle(tools, &[]) {
                    Ok(true) => {
                        info!("removed the {family} rules of an earlier run from {backend}")
                    }
                    Ok(false) => {}
                    Err(cause) => return Err(Refusal { backend, family: *family, cause }),
                },
                Err(error) => debug!("{family} with {backend} was not looked at: {error}"),
            }
        }
        Ok(())
    }

    fn reading(&self, wanted: Family) -> Option<&Reading> {
        let mut families = self.families.iter();
        families.find_map(|(family, read)| read.as_ref().ok().filter(|_| *family == wanted))
    }
}

/// What decides between the engines.
#[derive(Clone, Copy, Debug)]
struct Standing {
    backend: Backend,
    usable: bool,
    foreign: bool,
    own: bool,
}

/// The engines to try, best first. The one in which others have rules is the one that this node
/// uses; else an earlier run has chosen already; else nft, which newer kernels may have alone.
fn order(choice: BackendChoice, standings: &[Standing; 2]) -> Vec<Backend> {
    let mut order: Vec<Standing> = standings
        .iter()
        .copied()
        .filter(|standing| standing.usable)
        .filter(|standing| choice.fixed().is_none_or(|fixed| fixed == standing.backend))
        .collect();
    let foreign_in_both = standings.iter().all(|standing| standing.foreign);
    order.sort_by_key(|standing| {
        let foreign = standing.foreign && !foreign_in_both;
        (!foreign, !standing.own, standing.backend == Backend::Legacy)
    });
    order.into_iter().map(|standing| standing.backend).collect()
}

/// Plans and writes until nothing is left to do, which is the verification; whether anything was
/// written.
fn settle(tools: &Tools, wanted: &[Chain]) -> Result<bool, Cause> {
    let mut tried: Option<(Plan, Option<ToolError>)> = None;
    let mut attempts = 0;
    loop {
        let Some(plan) = plan(&tools.save()?, wanted) else { return Ok(tried.is_some()) };
        match tried {
            // The same again: nobody else has interfered, and trying once more would not help.
            Some((before, outcome)) if before.input == plan.input || attempts == ATTEMPTS => {
                return Err(outcome.map_or(Cause::NotThere(plan.differences), Cause::Tool));
            }
            _ => {}
        }
        attempts += 1;
        let outcome = tools.restore(&plan.input).err();
        tried = Some((plan, outcome));
    }
}

fn read(backend: Backend, family: Family) -> Result<Reading, ToolError> {
    let tools = Tools::find(backend, family)?;
    let saved = tools.save()?;
    Ok(Reading { tools, saved })
}

/// With `ipv6.disable=1` the kernel has no such directory.
fn ipv6_in_kernel() -> bool {
    Path::new("/proc/sys/net/ipv6/conf").exists()
}

fn report(config: &Config, backend: Backend, wanted: &Wanted, changed: bool) {
    let families: Vec<String> = wanted
        .iter()
        .filter(|(_, chains)| !chains.is_empty())
        .map(|(family, _)| family.to_string())
        .collect();
    info!(
        backend = backend.name(),
        families = families.join(","),
        changed,
        included = %config.included,
        excluded = %config.excluded,
        excluded_ports = %config.excluded_ports,
        outbound_port = config.outbound_port,
        proxy_uid = config.proxy_uid,
        "{}",
        if changed { "rules written and verified" } else { "rules are there already: nothing changed" },
    );
}

fn print(config: &Config, out: &mut impl Write) -> io::Result<()> {
    for family in Family::ALL {
        let program = match family {
            Family::Ipv4 => "iptables-restore",
            Family::Ipv6 => "ip6tables-restore",
        };
        match chains(config, family).as_slice() {
            [] => writeln!(out, "# {family}: no range is to be redirected, so there is no rule")?,
            chains => {
                writeln!(out, "# {family}: input for {program} --noflush")?;
                out.write_all(explained(chains).as_bytes())?;
            }
        }
    }
    out.flush()
}

/// Removes Weft's chains from every engine that can be read.
fn cleanup() -> Result<(), RunError> {
    if !Capability::NetAdmin.is_effective() {
        return Err(RunError::NetAdmin);
    }
    let _turn = Turn::take()?;
    let mut unreadable = Vec::new();
    let mut cleaned = false;
    for backend in Backend::ALL {
        for family in Family::ALL {
            let tools = match read(backend, family) {
                Ok(reading) => reading.tools,
                Err(error) => {
                    info!("{family} with {backend} is not looked at: {error}");
                    unreadable.push(Refusal { backend, family, cause: error.into() });
                    continue;
                }
            };
            cleaned = true;
            match settle(&tools, &[]) {
                Ok(true) => info!("removed the {family} rules from {backend}"),
                Ok(false) => info!("{family} has no rules of Weft's in {backend}"),
                Err(cause) => return Err(RunError::Removal(Refusal { backend, family, cause })),
            }
        }
    }
    if cleaned { Ok(()) } else { Err(RunError::Unreadable(unreadable)) }
}

#[cfg(test)]
mod tests;
