//! Explains from a folder of manifests, without a cluster and without a running sidecar.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use weft_gamma::object::{Objects, Service};
use weft_gamma::resolve::Settings;

use super::{Explanation, Extent, Question, Unexplained, World};
use crate::metrics::{Metrics, MetricsSettings};
use crate::pod::Pod;
use crate::source::SourceProblem;
use crate::source::manifest::{self, FolderError};
use crate::table::{Compiler, Table};

/// What a folder of manifests says, compiled for the clients of one namespace.
#[derive(Debug)]
pub struct Offline {
    objects: Objects,
    table: Table,
    problems: Vec<SourceProblem>,
    namespace: String,
    settings: Settings,
}

/// The sidecar's default, as nobody can say what it is set to.
const MAX_HEADERS: usize = 100;

impl Offline {
    /// Reads the folder, for the requests of a pod.
    pub fn read(folder: &Path, pod: Pod) -> Result<Self, FolderError> {
        let snapshot = manifest::read(folder)?.snapshot;
        Ok(Self::new(snapshot.objects, snapshot.problems, pod))
    }

    pub(crate) fn new(mut objects: Objects, problems: Vec<SourceProblem>, pod: Pod) -> Self {
        give_addresses(&mut objects);
        let settings = Settings::default();
        let metrics = Metrics::new(&MetricsSettings::default());
        let namespace = pod.namespace.clone();
        let mut compiler = Compiler::new(pod, settings, metrics);
        let table = compiler.compile(&objects, None).table;
        Self { objects, table, problems, namespace, settings }
    }

    /// Explains what would become of the request.
    pub fn explain(&self, question: &Question) -> Result<Explanation, Unexplained> {
        let world = World {
            objects: &self.objects,
            table: &self.table,
            problems: &self.problems,
            namespace: &self.namespace,
            settings: &self.settings,
            max_headers: MAX_HEADERS,
            bystanders: &[],
            extent: Extent::Manifests,
        };
        super::explain(&world, question)
    }
}

/// Gives the Services an address that have none, as manifests that were written by hand: the API
/// server does so when it gets them.
fn give_addresses(objects: &mut Objects) {
    let mut next = 0_u32;
    for service in objects.services.values_mut() {
        let Service { cluster_ips, headless, external_name, .. } = &**service;
        if cluster_ips.is_empty() && !headless && !external_name {
            next += 1;
            let address = IpAddr::V4(Ipv4Addr::from_bits(next & !MADE_UP_MASK));
            Arc::make_mut(service).cluster_ips.push(address);
        }
    }
}

/// Whether an address is one that [`give_addresses`] gave.
pub(super) fn is_made_up(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.to_bits() & MADE_UP_MASK == 0,
        IpAddr::V6(_) => false,
    }
}

/// Addresses that begin with 0 are no destinations (RFC 1122, section 3.2.1.3), so no Service has one.
const MADE_UP_MASK: u32 = 0xff00_0000;
