//! How many CPUs the process may use.
//!
//! In a container that is the limit of its control group, which the number of CPUs of the node says
//! nothing about: a thread for each of 64 cores under a limit of half a core would only be throttled
//! in turns.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// The CPU limit rounded up, at most the CPUs that the process may be scheduled on, at least 1.
pub(super) fn available() -> NonZeroUsize {
    let limit = limit(Path::new("/proc/self/cgroup"), Path::new("/sys/fs/cgroup"));
    let cpus = scheduled_on();
    limit.map_or(cpus, |limit| limit.min(cpus))
}

fn scheduled_on() -> NonZeroUsize {
    let affinity = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).ok();
    let counted = affinity.map(|set| {
        let cpus = 0..nix::sched::CpuSet::count();
        cpus.filter(|cpu| set.is_set(*cpu).unwrap_or(false)).count()
    });
    counted
        .and_then(NonZeroUsize::new)
        .or_else(|| std::thread::available_parallelism().ok())
        .unwrap_or(NonZeroUsize::MIN)
}

/// The smallest limit of the process's control group and those above it, rounded up to whole CPUs.
fn limit(membership: &Path, mount: &Path) -> Option<NonZeroUsize> {
    let membership = fs::read_to_string(membership).ok()?;
    let limits = membership.lines().filter_map(|line| {
        // `hierarchy:controllers:path`; version 2 is hierarchy 0 and names no controllers.
        let mut parts = line.splitn(3, ':');
        let (hierarchy, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        if hierarchy == "0" && controllers.is_empty() {
            smallest(mount, path, version_2)
        } else if controllers.split(',').any(|controller| controller == "cpu") {
            let mount = [mount.join(controllers), mount.join("cpu")];
            mount.iter().filter_map(|mount| smallest(mount, path, version_1)).reduce(f64::min)
        } else {
            None
        }
    });
    let cpus = limits.reduce(f64::min)?;
    // As sysfs counts in microseconds, a limit of exactly 2 CPUs is exactly 2.0.
    NonZeroUsize::new(cpus.ceil() as usize).or(Some(NonZeroUsize::MIN))
}

/// The smallest limit on the way from a group up to the root. A container may see its group's path
/// as the node knows it and have that group mounted as the root: so the root is always looked at.
fn smallest(mount: &Path, path: &str, read: fn(&Path) -> Option<f64>) -> Option<f64> {
    let relative = PathBuf::from(path.trim_start_matches('/'));
    relative.ancestors().filter_map(|group| read(&mount.join(group))).reduce(f64::min)
}

/// `cpu.max` has `quota period` in microseconds, or `max period`.
fn version_2(group: &Path) -> Option<f64> {
    let text = fs::read_to_string(group.join("cpu.max")).ok()?;
    let mut words = text.split_whitespace();
    ratio(words.next()?, words.next()?)
}

fn version_1(group: &Path) -> Option<f64> {
    let quota = fs::read_to_string(group.join("cpu.cfs_quota_us")).ok()?;
    let period = fs::read_to_string(group.join("cpu.cfs_period_us")).ok()?;
    ratio(quota.trim(), period.trim())
}

/// None where there is no limit: `max` in version 2, -1 in version 1.
fn ratio(quota: &str, period: &str) -> Option<f64> {
    let quota: f64 = quota.parse().ok()?;
    let period: f64 = period.parse().ok()?;
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

#[cfg(test)]
mod tests;
