//! Options: command line and environment, one struct.
//!
//! Every option is also an environment variable, because a pod's container is set by those; the
//! command line wins. Values are parsed here into the types that the rest of the crate works with,
//! so that a wrong one ends the start with a message and nothing else has to check it again.

mod cpus;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Parser, ValueEnum};
use weft_gamma::endpoints::Place;

use crate::metrics::{DEFAULT_BUCKETS, MetricsSettings};
use crate::pod::Pod;
use crate::worker::Limits;

/// Weft's sidecar: applies the Gateway API routes attached to Services to the traffic of its pod.
///
/// Outbound connections that weft-init redirects to it go where HTTPRoutes and GRPCRoutes whose
/// parent is a Service say. What no route concerns behaves as without a mesh.
#[derive(Clone, Debug, Parser)]
#[command(name = "weft-proxy", version, max_term_width = 100)]
pub struct Config {
    /// Namespace of the pod that the sidecar stands in.
    ///
    /// Routes of this namespace apply to its traffic even if the Service is in another one.
    #[arg(
        long,
        env = "WEFT_NAMESPACE",
        value_name = "NAMESPACE",
        value_parser = namespace,
        help_heading = "Pod"
    )]
    pub namespace: String,

    /// Name of the pod's node: a Service with internalTrafficPolicy Local has its endpoints there.
    #[arg(
        long,
        env = "WEFT_NODE_NAME",
        value_name = "NODE",
        value_parser = NonEmptyStringValueParser::new(),
        help_heading = "Pod"
    )]
    pub node_name: Option<String>,

    /// Zone of the pod's node, to which endpoints can be hinted (topology.kubernetes.io/zone)
    /// [default: that of an endpoint on the same node, once one is known].
    ///
    /// Empty is as if it were not there: before Kubernetes 1.35 pods do not have the label.
    #[arg(long, env = "WEFT_ZONE", value_name = "ZONE", help_heading = "Pod")]
    pub zone: Option<String>,

    /// The pod's address, by which a Service with sessionAffinity ClientIP chooses an endpoint
    /// [default: any is chosen, and kept].
    #[arg(long, env = "WEFT_POD_IP", value_name = "ADDRESS", help_heading = "Pod")]
    pub pod_ip: Option<IpAddr>,

    /// Folder of manifests to read instead of the API server: Services, EndpointSlices, HTTPRoutes,
    /// GRPCRoutes and ReferenceGrants as `kubectl get -o yaml` prints them.
    ///
    /// All files below it that end in .yaml, .yml or .json are read, and read again when they
    /// change. Without it the API server is asked, as the pod's ServiceAccount (or as KUBECONFIG
    /// says), for the Services that the pod connects to and their routes.
    #[arg(long, env = "WEFT_MANIFESTS", value_name = "FOLDER", help_heading = "Source of routes")]
    pub manifests: Option<PathBuf>,

    /// Seconds after which a Service that the pod has not used any more is no longer watched.
    #[arg(
        long = "forget-seconds",
        env = "WEFT_FORGET_SECONDS",
        value_name = "SECONDS",
        default_value = "600",
        value_parser = seconds,
        help_heading = "Source of routes"
    )]
    pub forget: Duration,

    /// Milliseconds that the first connection to an address may wait for the API server; after
    /// that it is passed on as it is, and no route applies to it as long as it is open.
    #[arg(
        long = "lookup-timeout-ms",
        env = "WEFT_LOOKUP_TIMEOUT_MS",
        value_name = "MILLISECONDS",
        default_value = "5000",
        value_parser = milliseconds,
        help_heading = "Source of routes"
    )]
    pub lookup_timeout: Duration,

    /// Port on loopback to which weft-init redirects outbound connections.
    #[arg(
        long,
        env = "WEFT_OUTBOUND_PORT",
        value_name = "PORT",
        default_value_t = 15001,
        value_parser = clap::value_parser!(u16).range(1..),
        help_heading = "Ports"
    )]
    pub outbound_port: u16,

    /// Port on loopback of the admin endpoints: configuration, log level, drain.
    #[arg(
        long,
        env = "WEFT_ADMIN_PORT",
        value_name = "PORT",
        default_value_t = 15000,
        value_parser = clap::value_parser!(u16).range(1..),
        help_heading = "Ports"
    )]
    pub admin_port: u16,

    /// Port on all addresses of /metrics, /livez and /readyz.
    #[arg(
        long,
        env = "WEFT_METRICS_PORT",
        value_name = "PORT",
        default_value_t = 15020,
        value_parser = clap::value_parser!(u16).range(1..),
        help_heading = "Ports"
    )]
    pub metrics_port: u16,

    /// Worker threads [default: the CPU limit of the container, rounded up; without one, the CPUs].
    #[arg(long, env = "WEFT_WORKERS", value_name = "THREADS", help_heading = "Resources")]
    pub workers: Option<NonZeroUsize>,

    /// Connections that are kept open to each endpoint, per worker, while no request uses them.
    #[arg(
        long,
        env = "WEFT_POOL_MAX_IDLE_PER_ENDPOINT",
        value_name = "CONNECTIONS",
        default_value_t = 128,
        help_heading = "Resources"
    )]
    pub pool_max_idle_per_endpoint: usize,

    /// How long such a connection is kept, in seconds.
    #[arg(
        long = "pool-idle-seconds",
        env = "WEFT_POOL_IDLE_SECONDS",
        value_name = "SECONDS",
        default_value = "60",
        value_parser = seconds,
        help_heading = "Resources"
    )]
    pub pool_idle: Duration,

    /// How many bytes the head of a request may have; a longer one is answered with 431.
    #[arg(
        long,
        env = "WEFT_MAX_HEADER_BYTES",
        value_name = "BYTES",
        default_value = "65536",
        value_parser = header_bytes,
        help_heading = "Resources"
    )]
    pub max_header_bytes: usize,

    /// How many headers a request may have; one with more is answered with 431.
    #[arg(
        long,
        env = "WEFT_MAX_HEADERS",
        value_name = "HEADERS",
        default_value = "100",
        help_heading = "Resources"
    )]
    pub max_headers: NonZeroUsize,

    /// Requests, and connections that pass unread, that each worker may have under way at an endpoint;
    /// what is more goes to others, and is answered 503 where all have as many.
    #[arg(
        long,
        env = "WEFT_MAX_REQUESTS_PER_ENDPOINT",
        value_name = "REQUESTS",
        default_value = "1024",
        help_heading = "Resources"
    )]
    pub max_requests_per_endpoint: NonZeroU32,

    /// Connections of the pod that may be open at a time; more wait until others end
    /// [default: half of the open files that the process may have, less 32].
    ///
    /// A connection takes two descriptors, one towards the pod and one towards a backend: those that
    /// are open can then be served.
    #[arg(
        long,
        env = "WEFT_MAX_CONNECTIONS",
        value_name = "CONNECTIONS",
        help_heading = "Resources"
    )]
    pub max_connections: Option<NonZeroUsize>,

    /// Requests that an HTTP/2 connection may have under way.
    #[arg(
        long,
        env = "WEFT_HTTP2_MAX_STREAMS",
        value_name = "STREAMS",
        default_value = "256",
        help_heading = "Resources"
    )]
    pub http2_max_streams: NonZeroU32,

    /// Requests that an HTTP/2 connection may abandon (reset before they are answered) in excess of
    /// those that are answered and of 20 a second; then it is closed.
    #[arg(
        long,
        env = "WEFT_HTTP2_MAX_RESETS",
        value_name = "REQUESTS",
        default_value = "256",
        help_heading = "Resources"
    )]
    pub http2_max_resets: NonZeroU32,

    /// Frames that carry nothing (PING, SETTINGS, PRIORITY, empty DATA, …) that an HTTP/2 connection
    /// may send in excess of what its requests account for and of 100 a second; then it is closed.
    #[arg(
        long,
        env = "WEFT_HTTP2_MAX_EMPTY_FRAMES",
        value_name = "FRAMES",
        default_value = "1000",
        help_heading = "Resources"
    )]
    pub http2_max_empty_frames: NonZeroU32,

    /// How long to wait for the first bytes of a connection whose protocol is not declared before
    /// it is taken for one where the server speaks first, in milliseconds.
    #[arg(
        long = "detect-timeout-ms",
        env = "WEFT_DETECT_TIMEOUT_MS",
        value_name = "MILLISECONDS",
        default_value = "200",
        value_parser = milliseconds,
        help_heading = "Deadlines"
    )]
    pub detect_timeout: Duration,

    /// How long a connection to an endpoint may take, in milliseconds.
    #[arg(
        long = "connect-timeout-ms",
        env = "WEFT_CONNECT_TIMEOUT_MS",
        value_name = "MILLISECONDS",
        default_value = "1500",
        value_parser = milliseconds,
        help_heading = "Deadlines"
    )]
    pub connect_timeout: Duration,

    /// How long a client may take to send the head of a request, in seconds.
    #[arg(
        long = "header-timeout-seconds",
        env = "WEFT_HEADER_TIMEOUT_SECONDS",
        value_name = "SECONDS",
        default_value = "10",
        value_parser = seconds,
        help_heading = "Deadlines"
    )]
    pub header_timeout: Duration,

    /// How long an HTTP connection of the pod may be without a request before it is closed, in seconds.
    #[arg(
        long = "client-idle-seconds",
        env = "WEFT_CLIENT_IDLE_SECONDS",
        value_name = "SECONDS",
        default_value = "3600",
        value_parser = seconds,
        help_heading = "Deadlines"
    )]
    pub client_idle: Duration,

    /// How long requests in flight may take to finish after SIGTERM, in seconds.
    #[arg(
        long = "drain-seconds",
        env = "WEFT_DRAIN_SECONDS",
        value_name = "SECONDS",
        default_value = "30",
        value_parser = seconds_or_none,
        help_heading = "Deadlines"
    )]
    pub drain: Duration,

    /// What is logged: a level (error, warn, info, debug, off) or levels by module, as in
    /// `info,weft_proxy::source=debug`. Release builds have nothing at the level trace.
    #[arg(
        long,
        env = "WEFT_LOG_LEVEL",
        value_name = "LEVEL",
        default_value = "info",
        value_parser = log_level,
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

    /// Whether and how a line is written for each request, and for each connection that passes unread
    /// (to standard output).
    #[arg(
        long,
        env = "WEFT_ACCESS_LOG",
        value_name = "FORMAT",
        value_enum,
        default_value_t = AccessLogFormat::Off,
        help_heading = "Logs"
    )]
    pub access_log: AccessLogFormat,

    /// Upper bounds of the buckets of duration histograms, in seconds, ascending
    /// [default: 16 bounds from 0.0005 to 60].
    #[arg(
        long,
        env = "WEFT_DURATION_BUCKETS",
        value_name = "SECONDS,…",
        value_parser = buckets,
        help_heading = "Metrics"
    )]
    pub duration_buckets: Option<Buckets>,

    /// How many label sets of routes are kept; what is beyond is counted as "other".
    #[arg(
        long,
        env = "WEFT_MAX_SERIES",
        value_name = "SERIES",
        default_value = "10000",
        help_heading = "Metrics"
    )]
    pub max_series: NonZeroUsize,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Whether and how a line for each request is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AccessLogFormat {
    /// Not at all.
    Off,
    /// key=value pairs.
    Text,
    /// One JSON object a line.
    Json,
}

/// Upper bounds of histogram buckets in seconds: positive, ascending, at least one.
#[derive(Clone, Debug, PartialEq)]
pub struct Buckets(Vec<f64>);

impl Config {
    /// The pod that the sidecar stands in.
    pub fn pod(&self) -> Pod {
        Pod {
            namespace: self.namespace.clone(),
            place: Place {
                node: self.node_name.clone(),
                zone: self.zone.clone().filter(|zone| !zone.is_empty()),
            },
            address: self.pod_ip,
        }
    }

    /// How many workers to run.
    pub fn worker_count(&self) -> NonZeroUsize {
        self.workers.unwrap_or_else(cpus::available)
    }

    /// Where the admin endpoints listen: on loopback only.
    pub fn admin_address(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.admin_port)
    }

    /// What a client may ask, and how long things may take, where so many files may be open.
    pub fn limits(&self, open_files: u64) -> Limits {
        Limits {
            detect_timeout: self.detect_timeout,
            header_timeout: self.header_timeout,
            max_header_bytes: self.max_header_bytes,
            max_headers: self.max_headers.get(),
            client_idle_timeout: self.client_idle,
            max_connections: match self.max_connections {
                Some(connections) => connections.get(),
                None => default_connections(open_files),
            },
            http2_max_streams: self.http2_max_streams.get(),
            http2_max_resets: self.http2_max_resets.get(),
            http2_max_empty_frames: self.http2_max_empty_frames.get(),
            connect_timeout: self.connect_timeout,
            pool_idle_timeout: self.pool_idle,
            pool_max_idle: self.pool_max_idle_per_endpoint,
            max_requests: self.max_requests_per_endpoint.get(),
            lookup_timeout: self.lookup_timeout,
        }
    }

    /// What of the metrics can be set.
    pub fn metrics_settings(&self) -> MetricsSettings {
        let buckets = match &self.duration_buckets {
            Some(Buckets(bounds)) => bounds.clone(),
            None => DEFAULT_BUCKETS.to_vec(),
        };
        MetricsSettings { buckets, max_series: self.max_series.get(), ..MetricsSettings::default() }
    }
}

/// How many connections can be served with so many descriptors, two for each; the rest is for
/// listeners, the API server, scrapes and logs.
fn default_connections(open_files: u64) -> usize {
    const OTHERS: u64 = 64;
    const LEAST: usize = 16;
    let connections = open_files.saturating_sub(OTHERS) / 2;
    usize::try_from(connections).unwrap_or(usize::MAX).max(LEAST)
}

/// A namespace's name is a DNS label (RFC 1123).
pub(crate) fn namespace(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_label = (1..=63).contains(&text.len())
        && text.bytes().all(allowed)
        && !text.starts_with('-')
        && !text.ends_with('-');
    if is_label {
        Ok(text.to_owned())
    } else {
        Err("a namespace has at most 63 of a-z, 0-9 and -, and begins and ends with one of a-z \
             and 0-9"
            .to_owned())
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match seconds_or_none(text)? {
        Duration::ZERO => Err("must be more than 0".to_owned()),
        duration => Ok(duration),
    }
}

fn seconds_or_none(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().map_err(|_| not_a_number("seconds"))?;
    let duration = Duration::try_from_secs_f64(seconds).map_err(|_| not_a_number("seconds"))?;
    if duration > LONGEST { Err("must be a day at most".to_owned()) } else { Ok(duration) }
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    let milliseconds = text.parse::<u64>().map_err(|_| not_a_number("whole milliseconds"))?;
    match Duration::from_millis(milliseconds) {
        Duration::ZERO => Err("must be more than 0".to_owned()),
        duration if duration > LONGEST => Err("must be a day at most".to_owned()),
        duration => Ok(duration),
    }
}

/// Longer deadlines are typing errors, and far longer ones would overflow a clock.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

fn not_a_number(of_what: &str) -> String {
    format!("not a number of {of_what}")
}

/// hyper wants room for 8 KiB at least.
fn header_bytes(text: &str) -> Result<usize, String> {
    let bytes = text.parse::<usize>().map_err(|_| not_a_number("bytes"))?;
    if (8192..=16 * 1024 * 1024).contains(&bytes) {
        Ok(bytes)
    } else {
        Err("must be from 8192 to 16777216".to_owned())
    }
}

fn log_level(text: &str) -> Result<String, String> {
    crate::log::parse_level(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn buckets(text: &str) -> Result<Buckets, String> {
    let mut bounds: Vec<f64> = Vec::new();
    for item in text.split(',') {
        let bound: f64 =
            item.trim().parse().map_err(|_| format!("\"{item}\" is not a number of seconds"))?;
        if !bound.is_finite() || bound <= 0.0 {
            return Err(format!("{bound} is not a bound: must be more than 0 and finite"));
        }
        if bounds.last().is_some_and(|last| *last >= bound) {
            return Err(format!("{bound} is out of order: bounds must ascend"));
        }
        bounds.push(bound);
    }
    if bounds.len() > MAX_BUCKETS {
        return Err(format!("{} bounds are too many: at most {MAX_BUCKETS}", bounds.len()));
    }
    Ok(Buckets(bounds))
}

/// Each bucket is a time series of every rule and backend.
const MAX_BUCKETS: usize = 64;

#[cfg(test)]
mod tests;
