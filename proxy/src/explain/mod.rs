//! Why a request goes where it goes: for people and programs that ask, never on the path of a request.
//!
//! A [`Question`] is explained from a compiled table and the objects that it was made from, either
//! those of a folder ([`offline`]) or those in force in the running sidecar ([`live`], through the
//! admin port). The decision is made by the functions that [`crate::request`] calls for every request;
//! what stands beside it (why other routes and matches were not chosen) is asked of `gamma`. Nothing
//! here decides anything by itself.

mod answer;
mod backends;
mod decide;
mod filters;
pub mod live;
pub mod offline;
mod protocol;
mod question;
mod retries;
mod routes;
mod stickiness;
mod streams;
#[cfg(test)]
mod tests;
mod text;

use std::net::IpAddr;

use weft_gamma::object::{NamespacedName, Objects, Service, Transport};
use weft_gamma::resolve::Settings;
use weft_gamma::route::Route;

pub use self::answer::Explanation;
pub use self::question::{BadQuestion, Question, Words};

use self::question::Host;
use crate::source::SourceProblem;
use crate::table::Table;

/// What a question is explained from.
pub(crate) struct World<'a> {
    objects: &'a Objects,
    /// What was compiled from the objects, for clients in `namespace`.
    table: &'a Table,
    problems: &'a [SourceProblem],
    /// The client's.
    namespace: &'a str,
    settings: &'a Settings,
    /// How many headers a request may have.
    max_headers: usize,
    /// Routes that are there and not among the objects: not attached to anything that the pod uses,
    /// or not in force yet.
    bystanders: &'a [Route],
    extent: Extent,
}

/// What is to be concluded from an object's not being there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// Nothing of the kind is there: the sidecar runs from these manifests.
    Whole,
    /// It may be in the cluster: nobody says that the manifests are all there is.
    Manifests,
    /// The pod has not used it: the sidecar asks for what it needs.
    OnDemand,
}

/// Why there is nothing to explain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unexplained {
    #[error(transparent)]
    BadQuestion(#[from] BadQuestion),
    /// No Service has that name or address.
    #[error("{0}")]
    UnknownHost(String),
    /// The Service has no such port, or no address that a route could apply to.
    #[error("{0}")]
    NoSuchPort(String),
    /// Whoever could say does not answer.
    #[error("{0}")]
    Unavailable(String),
}

/// Explains what becomes of the request.
pub(crate) fn explain(world: &World<'_>, question: &Question) -> Result<Explanation, Unexplained> {
    let host = question.leads_to(world.namespace);
    let service =
        find(world.objects, world.table, &host).ok_or_else(|| unknown(&host, question, world))?;
    let address = address(service, &host)?;
    let Some(destination) = world.table.destination(address, question.port) else {
        return Err(no_such_port(service, question.port));
    };
    decide::explain(world, question, service, address, destination)
}

/// The Service that the host is the name or address of, if connections to it are looked at.
fn find<'a>(objects: &'a Objects, table: &Table, host: &Host) -> Option<&'a Service> {
    let service = match host {
        Host::Service(name) => objects.services.get(name),
        Host::Address(ip) => objects.services.values().find(|it| it.cluster_ips.contains(ip)),
    };
    let service: &Service = service?;
    // A Service without an address is known as far as it can be; one that is only the backend of
    // others is not.
    let is_destination = service.cluster_ips.is_empty()
        || service.ports.is_empty()
        || service.cluster_ips.iter().any(|ip| table.knows(*ip));
    is_destination.then_some(service)
}

/// The address that a client dials.
fn address(service: &Service, host: &Host) -> Result<IpAddr, Unexplained> {
    if let Host::Address(ip) = host {
        return Ok(*ip);
    }
    let name = &service.name;
    let pods = "connections go to addresses that are not redirected, and no route applies to them";
    service.cluster_ips.first().copied().ok_or_else(|| {
        Unexplained::NoSuchPort(match (service.external_name, service.headless) {
            (true, _) => format!("Service {name} is of type ExternalName: {pods}"),
            (false, true) => {
                format!("Service {name} is headless, and its name resolves to its pods: {pods}")
            }
            (false, false) => format!("Service {name} has no cluster address yet"),
        })
    })
}

fn no_such_port(service: &Service, port: u16) -> Unexplained {
    let other = service.ports.iter().find(|it| it.port == port);
    let there = match other {
        Some(_) => format!("port {port} of Service {} is not TCP", service.name),
        None => format!("Service {} has no port {port}", service.name),
    };
    let tcp = service.ports.iter().filter(|it| it.transport == Transport::Tcp);
    let ports: Vec<String> = tcp
        .map(|it| match it.name.as_str() {
            "" => it.port.to_string(),
            name => format!("{} ({name})", it.port),
        })
        .collect();
    Unexplained::NoSuchPort(match ports.as_slice() {
        [] => format!("{there}, and no TCP port at all"),
        ports => format!("{there}; its TCP ports are {}", ports.join(", ")),
    })
}

fn unknown(host: &Host, question: &Question, world: &World<'_>) -> Unexplained {
    let aside = "what is no Service's never meets a route";
    Unexplained::UnknownHost(match host {
        Host::Address(ip) => format!("{ip} is not the address of a Service that is known; {aside}"),
        Host::Service(name) if name.namespace.is_empty() => format!(
            "{} is not the name of a Service, as reviews, reviews.bookinfo or \
             reviews.bookinfo.svc.cluster.local is; {aside}",
            question.host()
        ),
        Host::Service(name) if world.extent == Extent::OnDemand => {
            format!("the cluster has no Service {name}; {aside}")
        }
        Host::Service(name) => format!("there is no Service {name}{}", hint(name, world.objects)),
    })
}

/// Services whose name may have been meant.
fn hint(name: &NamespacedName, objects: &Objects) -> String {
    let elsewhere: Vec<String> = objects
        .services
        .keys()
        .filter(|other| other.name == name.name)
        .map(|other| format!("{}.{}", other.name, other.namespace))
        .collect();
    if !elsewhere.is_empty() {
        return format!("; there is {}", elsewhere.join(", "));
    }
    let beside: Vec<&str> = objects
        .services
        .keys()
        .filter(|other| other.namespace == name.namespace)
        .map(|other| other.name.as_str())
        .collect();
    match beside.len() {
        0 => format!("; no Service of namespace {} is known", name.namespace),
        1..=HINTS => format!("; namespace {} has {}", name.namespace, beside.join(", ")),
        more => format!("; namespace {} has {more} others", name.namespace),
    }
}

/// How many Services are named where one was not found.
const HINTS: usize = 12;
