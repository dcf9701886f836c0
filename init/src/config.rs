//! The command line, and what it asks for.
//!
//! `main` parses [`Args`]; [`Args::job`] turns them into a [`Job`] or says what is missing. From
//! then on every value is of a type that cannot be wrong.

use std::num::NonZeroU16;

use clap::builder::FalseyValueParser;
use clap::{Parser, ValueEnum};
use thiserror::Error;

use crate::cidr::{Cidr, CidrList, Family, Includes};
use crate::iptables::Backend;
use crate::ports::PortList;

/// Redirects a pod's outbound TCP connections to its Weft sidecar.
///
/// Runs as the pod's init container, as root with the capabilities NET_ADMIN and NET_RAW, and
/// writes iptables rules for IPv4 and IPv6 into the pod's network namespace. Connections to the
/// cluster's Service ranges are redirected; everything else is left as it is. A second run with
/// the same options changes nothing, one with other options replaces the rules.
///
/// Lists are separated by commas. Every option can be given as the environment variable that
/// stands beside it; the option wins.
#[derive(Debug, Parser)]
#[command(name = "weft-init", version, max_term_width = 100)]
pub struct Args {
    /// Port on which the sidecar accepts redirected connections, on 127.0.0.1 and ::1
    #[arg(
        long,
        env = "WEFT_OUTBOUND_PORT",
        value_name = "PORT",
        default_value = "15001",
        help_heading = "Sidecar"
    )]
    outbound_port: NonZeroU16,

    /// User id of the sidecar: what it sends is never redirected
    #[arg(
        long,
        env = "WEFT_PROXY_UID",
        value_name = "UID",
        default_value_t = 65101,
        // 0 would exempt every process that runs as root; the last value means "no user".
        value_parser = clap::value_parser!(u32).range(1..i64::from(u32::MAX)),
        help_heading = "Sidecar"
    )]
    proxy_uid: u32,

    /// The cluster's Service ranges, e.g. 10.96.0.0/12,fd00:10:96::/112; connections to them are
    /// redirected
    #[arg(
        long,
        env = "WEFT_SERVICE_CIDRS",
        value_name = "CIDRS",
        default_value = "",
        hide_default_value = true,
        help_heading = "What is redirected"
    )]
    service_cidrs: CidrList,

    /// Ranges to redirect in addition to the Service ranges; `*` is every address of both families
    #[arg(
        long,
        env = "WEFT_INCLUDE_OUTBOUND_CIDRS",
        value_name = "CIDRS",
        default_value = "",
        hide_default_value = true,
        help_heading = "What is redirected"
    )]
    include_outbound_cidrs: Includes,

    /// Ranges never to redirect; they win over included ones
    #[arg(
        long,
        env = "WEFT_EXCLUDE_OUTBOUND_CIDRS",
        value_name = "CIDRS",
        default_value = "",
        hide_default_value = true,
        help_heading = "What is redirected"
    )]
    exclude_outbound_cidrs: CidrList,

    /// Destination ports never to redirect, single ones and ranges, e.g. 3306,8000-8010
    #[arg(
        long,
        env = "WEFT_EXCLUDE_OUTBOUND_PORTS",
        value_name = "PORTS",
        default_value = "",
        hide_default_value = true,
        help_heading = "What is redirected"
    )]
    exclude_outbound_ports: PortList,

    /// Which of the kernel's two rule engines to write to
    #[arg(
        long,
        env = "WEFT_IPTABLES",
        value_name = "BACKEND",
        value_enum,
        default_value_t = BackendChoice::Auto,
        help_heading = "How"
    )]
    iptables: BackendChoice,

    /// Print the rules and their reasons, and touch nothing; needs no privilege
    #[arg(long, env = "WEFT_DRY_RUN", value_parser = FalseyValueParser::new(), help_heading = "How")]
    dry_run: bool,

    /// Remove Weft's chains and the jumps to them, and nothing else, from both rule engines
    #[arg(long, env = "WEFT_CLEANUP", value_parser = FalseyValueParser::new(), help_heading = "How")]
    cleanup: bool,

    /// Form of the log, which goes to standard error
    #[arg(
        long,
        env = "WEFT_LOG_FORMAT",
        value_name = "FORMAT",
        value_enum,
        default_value_t = LogFormat::Text,
        help_heading = "How"
    )]
    log_format: LogFormat,
}

impl Args {
    pub fn log_format(&self) -> LogFormat {
        self.log_format
    }

    pub fn job(self) -> Result<Job, ConfigError> {
        if self.cleanup {
            // Together they could mean "print what would go": nobody should have to guess.
            return if self.dry_run { Err(ConfigError::TwoJobs) } else { Ok(Job::Cleanup) };
        }
        let dry_run = self.dry_run;
        let config = Config::from_args(self)?;
        Ok(if dry_run { Job::Print(config) } else { Job::Redirect(config) })
    }
}

/// What one run does.
#[derive(Debug)]
pub enum Job {
    Redirect(Config),
    Print(Config),
    Cleanup,
}

/// What to redirect, where to, and how.
#[derive(Debug, Clone)]
pub struct Config {
    pub outbound_port: NonZeroU16,
    pub proxy_uid: u32,
    /// Service ranges and included ones together; with `*`, everything of both families.
    pub included: CidrList,
    pub excluded: CidrList,
    pub excluded_ports: PortList,
    pub backend: BackendChoice,
    /// IPv6 was asked for by a range, and not only by `*`.
    ipv6_by_name: bool,
}

impl Config {
    pub fn demand(&self, family: Family) -> Demand {
        match (self.included.of(family).next(), family) {
            (None, _) => Demand::No,
            (Some(_), Family::Ipv6) if !self.ipv6_by_name => Demand::WhereKernelHasIt,
            (Some(_), _) => Demand::Yes,
        }
    }

    /// Included ranges of which nothing is left, because an excluded one contains them.
    pub fn undone(&self) -> impl Iterator<Item = Cidr> + '_ {
        self.included.iter().filter(|included| self.excluded.contains(*included))
    }

    fn from_args(args: Args) -> Result<Config, ConfigError> {
        let Includes { everything, cidrs } = args.include_outbound_cidrs;
        let named = CidrList::new(args.service_cidrs.iter().chain(cidrs.iter()));
        if named.is_empty() && !everything {
            return Err(ConfigError::NothingIncluded);
        }
        let ipv6_by_name = named.of(Family::Ipv6).next().is_some();
        let included =
            if everything { CidrList::new(Family::ALL.map(Cidr::everything)) } else { named };
        Ok(Config {
            outbound_port: args.outbound_port,
            proxy_uid: args.proxy_uid,
            included,
            excluded: args.exclude_outbound_cidrs,
            excluded_ports: args.exclude_outbound_ports,
            backend: args.iptables,
            ipv6_by_name,
        })
    }
}

/// Whether a family's connections are to be redirected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    No,
    /// Asked for by `*` alone: without the family in the kernel nothing can pass by the sidecar.
    WhereKernelHasIt,
    Yes,
}

/// Which rule engine to write to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BackendChoice {
    /// The one that already has rules, else nft where it works, else legacy
    Auto,
    /// nf_tables
    Nft,
    /// The older xtables
    Legacy,
}

impl BackendChoice {
    /// The engine that was asked for, if one was.
    pub fn fixed(self) -> Option<Backend> {
        match self {
            BackendChoice::Auto => None,
            BackendChoice::Nft => Some(Backend::Nft),
            BackendChoice::Legacy => Some(Backend::Legacy),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// Options that do not make a job.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    #[error(
        "nothing to redirect: give the cluster's Service ranges with --service-cidrs \
         (WEFT_SERVICE_CIDRS), e.g. 10.96.0.0/12, or other ranges with --include-outbound-cidrs, \
         where `*` is everything"
    )]
    NothingIncluded,
    #[error("--dry-run and --cleanup exclude each other: give one of them")]
    TwoJobs,
}

#[cfg(test)]
mod tests;
