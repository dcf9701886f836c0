//! Which of the capabilities that writing rules needs this process has.
//!
//! `run` asks before it touches anything: iptables itself answers a missing capability with
//! "Permission denied (you must be root)" or, in its legacy form, with a missing table.

use std::fmt;

/// A capability by its number in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    NetAdmin = 12,
    NetRaw = 13,
}

impl Capability {
    /// Whether it is in effect for this process. Where the kernel does not tell, it is taken to
    /// be: iptables will say otherwise.
    pub fn is_effective(self) -> bool {
        std::fs::read_to_string("/proc/self/status")
            .ok()
            .and_then(|status| effective(&status))
            .is_none_or(|set| set & (1 << self as u64) != 0)
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Capability::NetAdmin => "NET_ADMIN",
            Capability::NetRaw => "NET_RAW",
        })
    }
}

fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effective_set_is_read_from_the_kernels_text() {
        let status = "Name:\tweft-init\nCapPrm:\t0\nCapEff:\t0000000000003000\nCapBnd:\t0\n";
        assert_eq!(effective(status), Some(0x3000));
        assert_eq!(effective("Name:\tweft-init\n"), None);
    }
}
