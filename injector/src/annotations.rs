//! What a pod asks for by its annotations, and what becomes of a wrong one.
//!
//! `pod` parses them for every pod that is to be injected. A wrong value **denies** the pod where
//! the pod would otherwise run as something that nobody asked for: with other redirects, or with
//! another image. Elsewhere the default stands in, and an admission warning says so; so does one
//! for an annotation that Weft does not know, which is mostly a misspelt one.

use serde_json::{Map, Value};
use thiserror::Error;
use weft_init::cidr::{CidrError, CidrList, Includes};
use weft_init::ports::{PortError, PortList};

use crate::container::{self, Resources};
use crate::log::{self, LevelError};
use crate::quantity::{Quantity, QuantityError};

/// The domain of Weft's annotations and labels.
const DOMAIN: &str = "weft.mesh/";

pub const EXCLUDE_OUTBOUND_PORTS: &str = "weft.mesh/exclude-outbound-ports";
pub const EXCLUDE_OUTBOUND_CIDRS: &str = "weft.mesh/exclude-outbound-cidrs";
pub const INCLUDE_OUTBOUND_CIDRS: &str = "weft.mesh/include-outbound-cidrs";
pub const PROXY_CPU_REQUEST: &str = "weft.mesh/proxy-cpu-request";
pub const PROXY_CPU_LIMIT: &str = "weft.mesh/proxy-cpu-limit";
pub const PROXY_MEMORY_REQUEST: &str = "weft.mesh/proxy-memory-request";
pub const PROXY_MEMORY_LIMIT: &str = "weft.mesh/proxy-memory-limit";
pub const LOG_LEVEL: &str = "weft.mesh/log-level";
pub const PROXY_IMAGE: &str = "weft.mesh/proxy-image";
pub const DRAIN_SECONDS: &str = "weft.mesh/drain-seconds";

const KNOWN: [&str; 10] = [
    EXCLUDE_OUTBOUND_PORTS,
    EXCLUDE_OUTBOUND_CIDRS,
    INCLUDE_OUTBOUND_CIDRS,
    PROXY_CPU_REQUEST,
    PROXY_CPU_LIMIT,
    PROXY_MEMORY_REQUEST,
    PROXY_MEMORY_LIMIT,
    LOG_LEVEL,
    PROXY_IMAGE,
    DRAIN_SECONDS,
];

/// What a pod's annotations ask for; `None` and empty lists where they are silent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Annotations {
    pub exclude_outbound_ports: PortList,
    pub exclude_outbound_cidrs: CidrList,
    pub include_outbound_cidrs: Includes,
    pub resources: Resources,
    pub log_level: Option<String>,
    pub proxy_image: Option<String>,
    pub drain_seconds: Option<u32>,
    /// What the pod's author should know, of what is set aside.
    pub warnings: Vec<String>,
}

impl Annotations {
    /// Reads what stands in a pod's `metadata.annotations`.
    ///
    /// An error is a reason to deny the pod; all of them are found, so that none has to be
    /// discovered after another.
    pub fn parse(annotations: &Map<String, Value>) -> Result<Annotations, Vec<AnnotationError>> {
        let mut reader = Reader { annotations, warnings: Vec::new(), errors: Vec::new() };
        let mut parsed = Annotations {
            exclude_outbound_ports: reader.essential(EXCLUDE_OUTBOUND_PORTS).unwrap_or_default(),
            exclude_outbound_cidrs: reader.essential(EXCLUDE_OUTBOUND_CIDRS).unwrap_or_default(),
            include_outbound_cidrs: reader.essential(INCLUDE_OUTBOUND_CIDRS).unwrap_or_default(),
            resources: Resources {
                cpu_request: reader.advisory(PROXY_CPU_REQUEST),
                cpu_limit: reader.advisory(PROXY_CPU_LIMIT),
                memory_request: reader.advisory(PROXY_MEMORY_REQUEST),
                memory_limit: reader.advisory(PROXY_MEMORY_LIMIT),
            },
            log_level: reader.advisory::<LogLevel>(LOG_LEVEL).map(|LogLevel(level)| level),
            proxy_image: reader.essential::<Image>(PROXY_IMAGE).map(|Image(image)| image),
            drain_seconds: reader.advisory::<Seconds>(DRAIN_SECONDS).map(|Seconds(number)| number),
            warnings: Vec::new(),
        };
        reader.check_order(
            (PROXY_CPU_REQUEST, &parsed.resources.cpu_request),
            (PROXY_CPU_LIMIT, &parsed.resources.cpu_limit),
        );
        reader.check_order(
            (PROXY_MEMORY_REQUEST, &parsed.resources.memory_request),
            (PROXY_MEMORY_LIMIT, &parsed.resources.memory_limit),
        );
        reader.warn_of_unknown();
        parsed.warnings = reader.warnings;
        if reader.errors.is_empty() { Ok(parsed) } else { Err(reader.errors) }
    }
}

/// Why a pod cannot be injected as its annotations ask.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum AnnotationError {
    #[error("annotation {name}: {reason}")]
    Value { name: &'static str, reason: ValueError },
    #[error("annotation {request_name} ({request}) is more than {limit_name} ({limit})")]
    RequestAboveLimit {
        request_name: &'static str,
        request: String,
        limit_name: &'static str,
        limit: String,
    },
}

/// Why a value is not what its annotation takes.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ValueError {
    #[error("the value is not a text: put it in quotes")]
    NotText,
    #[error(transparent)]
    Ports(#[from] PortError),
    #[error(transparent)]
    Cidrs(#[from] CidrError),
    #[error(transparent)]
    Quantity(#[from] QuantityError),
    #[error(transparent)]
    Level(#[from] LevelError),
    #[error("`{0}` is not the name of an image: write it like registry.example/weft-proxy:1.0")]
    Image(String),
    #[error("`{0}` is not a number of seconds from 0 to 86400")]
    Seconds(String),
}

struct Reader<'a> {
    annotations: &'a Map<String, Value>,
    warnings: Vec<String>,
    errors: Vec<AnnotationError>,
}

impl Reader<'_> {
    /// A value without which the pod would run as something else.
    fn essential<T>(&mut self, name: &'static str) -> Option<T>
    where
        T: std::str::FromStr,
        ValueError: From<T::Err>,
    {
        match self.value(name)? {
            Ok(value) => Some(value),
            Err(reason) => {
                self.errors.push(AnnotationError::Value { name, reason });
                None
            }
        }
    }

    /// A value that the default can stand in for.
    fn advisory<T>(&mut self, name: &'static str) -> Option<T>
    where
        T: std::str::FromStr,
        ValueError: From<T::Err>,
    {
        match self.value(name)? {
            Ok(value) => Some(value),
            Err(reason) => {
                self.warnings.push(format!("annotation {name} is set aside: {reason}"));
                None
            }
        }
    }

    fn value<T>(&self, name: &str) -> Option<Result<T, ValueError>>
    where
        T: std::str::FromStr,
        ValueError: From<T::Err>,
    {
        let value = self.annotations.get(name)?;
        let text = match value {
            Value::String(text) => text,
            _ => return Some(Err(ValueError::NotText)),
        };
        Some(text.parse().map_err(ValueError::from))
    }

    fn check_order(
        &mut self,
        (request_name, request): (&'static str, &Option<Quantity>),
        (limit_name, limit): (&'static str, &Option<Quantity>),
    ) {
        if let (Some(request), Some(limit)) = (request, limit)
            && request > limit
        {
            self.errors.push(AnnotationError::RequestAboveLimit {
                request_name,
                request: request.to_string(),
                limit_name,
                limit: limit.to_string(),
            });
        }
    }

    fn warn_of_unknown(&mut self) {
        let unknown = |name: &&String| name.starts_with(DOMAIN) && !KNOWN.contains(&name.as_str());
        for name in self.annotations.keys().filter(unknown) {
            let warning = if name == container::INJECT_LABEL {
                format!("{name} is a label, not an annotation: as an annotation it does nothing")
            } else {
                format!("annotation {name} is unknown to Weft and does nothing")
            };
            self.warnings.push(warning);
        }
    }
}

struct LogLevel(String);

impl std::str::FromStr for LogLevel {
    type Err = LevelError;

    fn from_str(text: &str) -> Result<LogLevel, LevelError> {
        log::parse_level(text).map(|_| LogLevel(text.to_owned()))
    }
}

struct Image(String);

impl std::str::FromStr for Image {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Image, ValueError> {
        if container::is_image(text) {
            Ok(Image(text.to_owned()))
        } else {
            Err(ValueError::Image(text.to_owned()))
        }
    }
}

struct Seconds(u32);

impl std::str::FromStr for Seconds {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Seconds, ValueError> {
        match text.trim().parse() {
            Ok(seconds) if seconds <= MOST_SECONDS => Ok(Seconds(seconds)),
            _ => Err(ValueError::Seconds(text.to_owned())),
        }
    }
}

/// A day: the proxy's own limit.
const MOST_SECONDS: u32 = 24 * 60 * 60;

#[cfg(test)]
mod tests;
