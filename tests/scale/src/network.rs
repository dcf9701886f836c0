//! Network and files of a run.

use anyhow::{Context, Result};
use weft_bench::namespace::{FOLDER, shell};

use crate::Options;
use crate::sidecar::UID;

/// Where all Services have their addresses.
pub(crate) const SERVICES: &str = "10.96.0.0/16";
/// Where all endpoints are: every one of these addresses is this machine's.
const ENDPOINTS: &str = "10.128.0.0/14";
/// The node's own address.
pub(crate) const NODE: &str = "10.244.0.1";

/// Lays the network, and puts Weft's programs where their users can read them. There is no uplink.
pub(crate) fn lay(options: &Options) -> Result<()> {
    let programs = options.programs.display();
    let sidecar = options.sidecar.display();
    shell(&format!(
        "mount -t tmpfs -o mode=0755 weft /run\n\
         mkdir -p -m 0755 {FOLDER}/logs {FOLDER}/etcd {FOLDER}/pki\n\
         ip link set lo up\n\
         ip link add eth0 type veth peer name eth1\n\
         ip addr add {NODE}/16 dev eth0\n\
         ip link set eth0 up\n\
         ip link set eth1 up\n\
         ip route add {SERVICES} dev eth0\n\
         ip route add local {ENDPOINTS} dev lo\n\
         # What the sidecar passes on as it is ends at once, not when nobody has answered for three seconds.\n\
         ip rule add uidrange {UID}-{UID} to {SERVICES} unreachable\n\
         install -m 0755 '{sidecar}' {FOLDER}/weft-proxy\n\
         '{programs}/weft-init' --service-cidrs {SERVICES}"
    ))
    .context("laying the run's network")
}
