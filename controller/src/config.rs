//! Options: command line and environment, one struct.
//!
//! Every option is also an environment variable, because a pod's container is set by those; the
//! command line wins.

use std::time::Duration;

use clap::{Parser, ValueEnum};

/// Weft's controller: writes into the status of routes what Weft makes of them.
///
/// Routes whose parent is a Service get the conditions Accepted, ResolvedRefs and PartiallyInvalid,
/// by the same rules by which the sidecars apply them. Several replicas may run: one leads. The API
/// server is found as by kubectl: the pod's ServiceAccount, or KUBECONFIG.
#[derive(Clone, Debug, Parser)]
#[command(name = "weft-controller", version, max_term_width = 100)]
pub struct Config {
    /// Namespace of the Lease by which the replicas elect their leader.
    #[arg(
        long,
        env = "WEFT_NAMESPACE",
        value_name = "NAMESPACE",
        default_value = "weft-system",
        help_heading = "Election"
    )]
    pub namespace: String,

    /// Name of that Lease.
    #[arg(
        long,
        env = "WEFT_LEASE_NAME",
        value_name = "LEASE",
        default_value = "weft-controller",
        help_heading = "Election"
    )]
    pub lease_name: String,

    /// What this replica is called in the Lease: the pod's name [default: the host's name and a
    /// random number].
    #[arg(long, env = "WEFT_POD_NAME", value_name = "NAME", help_heading = "Election")]
    pub pod_name: Option<String>,

    /// Name of the XMesh that tells what Weft supports; it is created where its kind is installed.
    #[arg(
        long,
        env = "WEFT_MESH_NAME",
        value_name = "XMESH",
        default_value = "weft",
        help_heading = "Mesh"
    )]
    pub mesh_name: String,

    /// ClusterRole that owns the XMesh, so that the XMesh is deleted with it.
    #[arg(long, env = "WEFT_MESH_OWNER", value_name = "CLUSTERROLE", help_heading = "Mesh")]
    pub mesh_owner: Option<String>,

    /// Namespaces in which pods need no sidecar whatever the labels say: those that the webhook
    /// leaves alone.
    #[arg(
        long,
        env = "WEFT_IGNORED_NAMESPACES",
        value_name = "NAMESPACE,…",
        value_delimiter = ',',
        default_value = "kube-system,kube-public,kube-node-lease",
        help_heading = "Pods without a sidecar"
    )]
    pub ignored_namespaces: Vec<String>,

    /// How often pods without a sidecar are looked for, in seconds; 0 for never.
    #[arg(
        long,
        env = "WEFT_POD_REPORT_SECONDS",
        value_name = "SECONDS",
        default_value_t = 30,
        value_parser = clap::value_parser!(u64).range(..=86_400),
        help_heading = "Pods without a sidecar"
    )]
    pub pod_report_seconds: u64,

    /// Port on all addresses of /metrics, /livez and /readyz.
    #[arg(
        long,
        env = "WEFT_METRICS_PORT",
        value_name = "PORT",
        default_value_t = 8080,
        value_parser = clap::value_parser!(u16).range(1..),
        help_heading = "Ports"
    )]
    pub metrics_port: u16,

    /// What is logged: a level (error, warn, info, debug, trace, off) or levels by module, as in
    /// `info,weft_controller::watch=debug`.
    #[arg(
        long,
        env = "WEFT_LOG_LEVEL",
        value_name = "LEVEL",
        default_value = "info",
        value_parser = crate::log::level,
        help_heading = "Logs"
    )]
    pub log_level: String,

    /// How log lines are written (to standard error).
    #[arg(
        long,
        env = "WEFT_LOG_FORMAT",
        value_name = "FORMAT",
        value_enum,
        default_value_t = LogFormat::Text,
        help_heading = "Logs"
    )]
    pub log_format: LogFormat,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// An object on each line.
    Json,
}

impl Config {
    /// What this replica is called in the Lease.
    pub fn identity(&self) -> String {
        if let Some(name) = self.pod_name.as_ref().filter(|name| !name.is_empty()) {
            return name.clone();
        }
        // Two processes of one host must not take each other for themselves.
        let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        format!("{}-{:08x}", host.as_deref().unwrap_or("weft-controller"), fastrand::u32(..))
    }

    /// How often pods are looked for; None for never.
    pub fn pod_report_interval(&self) -> Option<Duration> {
        (self.pod_report_seconds > 0).then(|| Duration::from_secs(self.pod_report_seconds))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_option_has_a_variable_and_the_defaults_are_valid() {
        Config::command().debug_assert();
        for argument in Config::command().get_arguments() {
            let id = argument.get_id().as_str();
            if !["help", "version"].contains(&id) {
                assert!(argument.get_env().is_some(), "{id} has no environment variable");
            }
        }
        let config = Config::try_parse_from(["weft-controller"]).expect("defaults");
        assert_eq!(config.metrics_port, 8080);
        assert_eq!(config.ignored_namespaces.len(), 3);
    }

    #[test]
    fn a_pods_name_is_the_identity_and_without_one_no_two_are_alike() {
        let named = ["weft-controller", "--pod-name", "weft-controller-abc"];
        let config = Config::try_parse_from(named).expect("valid");
        assert_eq!(config.identity(), "weft-controller-abc");
        let config = Config::try_parse_from(["weft-controller"]).expect("valid");
        assert_ne!(config.identity(), config.identity());
    }

    #[test]
    fn a_misspelt_level_is_refused() {
        assert!(Config::try_parse_from(["weft-controller", "--log-level", "inof"]).is_err());
    }

    #[test]
    fn zero_seconds_switch_the_report_off() {
        let off = ["weft-controller", "--pod-report-seconds", "0"];
        let config = Config::try_parse_from(off).expect("valid");
        assert_eq!(config.pod_report_interval(), None);
    }
}
