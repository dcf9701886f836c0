//! The init container of a Weft pod: redirects the pod's outbound TCP connections to its sidecar.
//!
//! | module | |
//! |---|---|
//! | [`config`] | the command line, parsed into a `Job` |
//! | [`cidr`], [`ports`] | the types of its values |
//! | [`rules`] | configuration → the chains of each family; pure |
//! | [`saved`] | what the kernel has, as `iptables-save` prints it; pure |
//! | [`plan`] | both → what to write; pure |
//! | [`run`] | look, choose an engine, plan, write, verify |
//! | [`turn`] | one run at a time |
//! | [`iptables`] | the programs that read and write |
//! | [`diagnose`], [`capability`] | what an error means and what to do about it |

pub mod capability;
pub mod cidr;
pub mod config;
pub mod diagnose;
pub mod iptables;
pub mod plan;
pub mod ports;
pub mod rules;
pub mod run;
pub mod saved;
pub mod turn;
