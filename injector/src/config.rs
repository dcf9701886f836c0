//! Options: command line and environment, one struct.
//!
//! Every option is also an environment variable, because a pod's container is set by those; the
//! command line wins. [`Config::settings`] makes of them what sidecars are given.

use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Parser, ValueEnum};
use thiserror::Error;
use weft_init::cidr::CidrList;

use crate::certificate::Names;
use crate::container::{self, Resources, Settings, Variable};
use crate::log::{self, LogFormat};
use crate::quantity::Quantity;

/// Weft's admission webhook: puts weft-init and weft-proxy into pods as they are created.
///
/// It serves a certificate of its own making, keeps it in a Secret that its replicas share, and
/// tells the API server about it in the webhook configuration.
#[derive(Clone, Debug, Parser)]
#[command(name = "weft-injector", version, max_term_width = 100)]
pub struct Config {
    /// Image of the sidecar.
    #[arg(
        long,
        env = "WEFT_PROXY_IMAGE",
        value_name = "IMAGE",
        value_parser = image,
        help_heading = "What is injected"
    )]
    pub proxy_image: String,

    /// Image of the init container.
    #[arg(
        long,
        env = "WEFT_INIT_IMAGE",
        value_name = "IMAGE",
        value_parser = image,
        help_heading = "What is injected"
    )]
    pub init_image: String,

    /// When the nodes pull the two images.
    #[arg(
        long,
        env = "WEFT_IMAGE_PULL_POLICY",
        value_name = "POLICY",
        value_enum,
        default_value_t = PullPolicy::IfNotPresent,
        help_heading = "What is injected"
    )]
    pub image_pull_policy: PullPolicy,

    /// CPU that a sidecar is sure to get.
    #[arg(
        long,
        env = "WEFT_PROXY_CPU_REQUEST",
        value_name = "AMOUNT",
        default_value = "10m",
        help_heading = "What is injected"
    )]
    pub proxy_cpu_request: Quantity,

    /// CPU that a sidecar gets at most; also sets how many worker threads it has [default: none].
    #[arg(
        long,
        env = "WEFT_PROXY_CPU_LIMIT",
        value_name = "AMOUNT",
        help_heading = "What is injected"
    )]
    pub proxy_cpu_limit: Option<Quantity>,

    /// Memory that a sidecar is sure to get.
    #[arg(
        long,
        env = "WEFT_PROXY_MEMORY_REQUEST",
        value_name = "AMOUNT",
        default_value = "32Mi",
        help_heading = "What is injected"
    )]
    pub proxy_memory_request: Quantity,

    /// Memory that a sidecar gets at most [default: none].
    #[arg(
        long,
        env = "WEFT_PROXY_MEMORY_LIMIT",
        value_name = "AMOUNT",
        help_heading = "What is injected"
    )]
    pub proxy_memory_limit: Option<Quantity>,

    /// How long a sidecar lets requests in flight finish, in seconds; never longer than the pod's
    /// terminationGracePeriodSeconds.
    #[arg(
        long,
        env = "WEFT_DRAIN_SECONDS",
        value_name = "SECONDS",
        default_value_t = 30,
        value_parser = clap::value_parser!(u32).range(0..=86400),
        help_heading = "What is injected"
    )]
    pub drain_seconds: u32,

    /// What sidecars log: a level (error, warn, info, debug, trace, off) or levels by module.
    #[arg(
        long,
        env = "WEFT_PROXY_LOG_LEVEL",
        value_name = "LEVEL",
        default_value = "info",
        value_parser = log_level,
        help_heading = "What is injected"
    )]
    pub proxy_log_level: String,

    /// How sidecars and init containers write log lines.
    #[arg(
        long,
        env = "WEFT_PROXY_LOG_FORMAT",
        value_name = "FORMAT",
        value_enum,
        default_value_t = LogFormat::Text,
        help_heading = "What is injected"
    )]
    pub proxy_log_format: LogFormat,

    /// An environment variable of every sidecar, as in WEFT_ACCESS_LOG=json; can be repeated. In
    /// the environment: one a line.
    #[arg(
        long = "proxy-env",
        env = "WEFT_PROXY_ENV",
        value_name = "NAME=VALUE",
        value_delimiter = '\n',
        value_parser = variable,
        help_heading = "What is injected"
    )]
    pub proxy_environment: Vec<VariableLine>,

    /// Whether pods get the annotations prometheus.io/scrape, /port and /path of the sidecar, unless
    /// they have one of these.
    #[arg(
        long,
        env = "WEFT_SCRAPE_ANNOTATIONS",
        value_name = "BOOL",
        default_value = "true",
        action = ArgAction::Set,
        value_parser = BoolishValueParser::new(),
        help_heading = "What is injected"
    )]
    pub scrape_annotations: bool,

    /// The cluster's Service ranges, e.g. 10.96.0.0/12,fd00:10:96::/112 [default: as the API
    /// server's ServiceCIDR objects say, which are watched].
    ///
    /// Needed where the API server has no such objects (before Kubernetes 1.33), or where they may
    /// not be read.
    #[arg(
        long,
        env = "WEFT_SERVICE_CIDRS",
        value_name = "CIDRS",
        default_value = "",
        hide_default_value = true,
        help_heading = "What is injected"
    )]
    pub service_cidrs: CidrList,

    /// Namespaces whose pods are left alone whatever their labels, besides the injector's own.
    #[arg(
        long,
        env = "WEFT_IGNORED_NAMESPACES",
        value_name = "NAMESPACES",
        value_delimiter = ',',
        default_value = "kube-system,kube-public,kube-node-lease",
        help_heading = "What is injected"
    )]
    pub ignored_namespaces: Vec<String>,

    /// Namespace of the injector.
    #[arg(long, env = "WEFT_NAMESPACE", value_name = "NAMESPACE", help_heading = "Webhook")]
    pub namespace: String,

    /// Name of the Service by which API servers reach the webhook.
    #[arg(
        long,
        env = "WEFT_SERVICE_NAME",
        value_name = "NAME",
        default_value = "weft-injector",
        help_heading = "Webhook"
    )]
    pub service_name: String,

    /// Name of the MutatingWebhookConfiguration whose webhooks get the CA.
    #[arg(
        long,
        env = "WEFT_WEBHOOK_CONFIGURATION",
        value_name = "NAME",
        default_value = "weft-injector",
        help_heading = "Webhook"
    )]
    pub webhook_configuration: String,

    /// Name of the Secret in the injector's namespace that keeps the certificate; made if it is not
    /// there.
    #[arg(
        long,
        env = "WEFT_CERTIFICATE_SECRET",
        value_name = "NAME",
        default_value = "weft-injector-certificate",
        help_heading = "Webhook"
    )]
    pub certificate_secret: String,

    /// How long a certificate is good, as in 90d, 12h, 30m or 20s; it is replaced when a third is
    /// left, and one that is good for longer at once.
    #[arg(
        long,
        env = "WEFT_CERTIFICATE_VALIDITY",
        value_name = "DURATION",
        default_value = "90d",
        value_parser = validity,
        help_heading = "Webhook"
    )]
    pub certificate_validity: Duration,

    /// Port of the webhook.
    #[arg(
        long,
        env = "WEFT_WEBHOOK_PORT",
        value_name = "PORT",
        default_value_t = 8443,
        value_parser = clap::value_parser!(u16).range(1..),
        help_heading = "Ports"
    )]
    pub webhook_port: u16,

    /// Port of /metrics, /livez and /readyz.
    #[arg(
        long,
        env = "WEFT_METRICS_PORT",
        value_name = "PORT",
        default_value_t = 8080,
        value_parser = clap::value_parser!(u16).range(1..),
        help_heading = "Ports"
    )]
    pub metrics_port: u16,

    /// How long new admissions are still answered after SIGTERM, in seconds: until no API server
    /// sends any more.
    #[arg(
        long,
        env = "WEFT_SHUTDOWN_DELAY_SECONDS",
        value_name = "SECONDS",
        default_value_t = 5,
        value_parser = clap::value_parser!(u64).range(0..=300),
        help_heading = "Deadlines"
    )]
    pub shutdown_delay_seconds: u64,

    /// What the injector logs.
    #[arg(
        long,
        env = "WEFT_LOG_LEVEL",
        value_name = "LEVEL",
        default_value = "info",
        value_parser = log_level,
        help_heading = "Logs"
    )]
    pub log_level: String,

    /// How the injector writes log lines (to standard error).
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

/// When nodes pull an image, as Kubernetes spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum PullPolicy {
    /// At every start of a container.
    Always,
    /// Where the node does not have it.
    IfNotPresent,
    /// Never: the nodes have it.
    Never,
}

impl PullPolicy {
    fn as_str(self) -> &'static str {
        match self {
            PullPolicy::Always => "Always",
            PullPolicy::IfNotPresent => "IfNotPresent",
            PullPolicy::Never => "Never",
        }
    }
}

/// A line of the environment variable: a variable, or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VariableLine(Option<Variable>);

/// Options that do not go together.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    #[error("--proxy-{amount}-request ({request}) is more than --proxy-{amount}-limit ({limit})")]
    RequestAboveLimit { amount: &'static str, request: String, limit: String },
}

impl Config {
    /// What sidecars are given.
    pub fn settings(&self) -> Result<Settings, ConfigError> {
        let check = |amount, request: &Quantity, limit: &Option<Quantity>| match limit {
            Some(limit) if request > limit => Err(ConfigError::RequestAboveLimit {
                amount,
                request: request.to_string(),
                limit: limit.to_string(),
            }),
            _ => Ok(()),
        };
        check("cpu", &self.proxy_cpu_request, &self.proxy_cpu_limit)?;
        check("memory", &self.proxy_memory_request, &self.proxy_memory_limit)?;
        let mut ignored_namespaces = self.ignored_namespaces.clone();
        ignored_namespaces.push(self.namespace.clone());
        Ok(Settings {
            proxy_image: self.proxy_image.clone(),
            init_image: self.init_image.clone(),
            image_pull_policy: self.image_pull_policy.as_str(),
            resources: Resources {
                cpu_request: Some(self.proxy_cpu_request.clone()),
                cpu_limit: self.proxy_cpu_limit.clone(),
                memory_request: Some(self.proxy_memory_request.clone()),
                memory_limit: self.proxy_memory_limit.clone(),
            },
            drain_seconds: self.drain_seconds,
            log_level: self.proxy_log_level.clone(),
            log_format: self.proxy_log_format,
            proxy_environment: self
                .proxy_environment
                .iter()
                .filter_map(|VariableLine(variable)| variable.clone())
                .collect(),
            scrape_annotations: self.scrape_annotations,
            ignored_namespaces,
        })
    }

    /// What the certificate's keeper looks after.
    pub fn names(&self) -> Names {
        Names {
            namespace: self.namespace.clone(),
            secret: self.certificate_secret.clone(),
            service: self.service_name.clone(),
            webhook_configuration: self.webhook_configuration.clone(),
        }
    }
}

fn image(text: &str) -> Result<String, String> {
    if container::is_image(text) {
        Ok(text.to_owned())
    } else {
        Err("write the name of an image, like registry.example/weft-proxy:1.0".to_owned())
    }
}

fn log_level(text: &str) -> Result<String, String> {
    log::parse_level(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn variable(text: &str) -> Result<VariableLine, String> {
    if text.trim().is_empty() {
        return Ok(VariableLine(None));
    }
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    let (name, value) = (name.trim(), value.trim_end_matches('\r'));
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.is_empty() || !name.bytes().all(allowed) || name.starts_with(|c: char| c.is_numeric()) {
        return Err(format!("`{name}` is not the name of an environment variable"));
    }
    if container::is_reserved(name) {
        return Err(format!("{name} is set by the injector itself"));
    }
    Ok(VariableLine(Some(Variable { name: name.to_owned(), value: value.to_owned() })))
}

fn validity(text: &str) -> Result<Duration, String> {
    let refuse = || "write it as a number and d, h, m or s, as in 90d; 10s at least".to_owned();
    let unit = text.chars().next_back().ok_or_else(refuse)?;
    let seconds_per_unit = match unit {
        'd' => 24 * 60 * 60,
        'h' => 60 * 60,
        'm' => 60,
        's' => 1,
        _ => return Err(refuse()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| refuse())?;
    match number.checked_mul(seconds_per_unit) {
        // Rotation takes some seconds; and no date of a certificate is beyond the year 9999.
        Some(seconds @ 10..=LONGEST_VALIDITY) => Ok(Duration::from_secs(seconds)),
        Some(seconds) if seconds > LONGEST_VALIDITY => Err("ten years at most".to_owned()),
        _ => Err(refuse()),
    }
}

const LONGEST_VALIDITY: u64 = 3650 * 24 * 60 * 60;

#[cfg(test)]
mod tests;
