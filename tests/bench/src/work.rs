//! What the runner, the backend and the floor agree on: addresses, ports, paths and bodies. All of
//! it stands in a network namespace of the bench's own, so that ports can be fixed.
#![allow(dead_code, reason = "each program uses its part")]

use std::net::Ipv4Addr;

/// The address of all endpoints.
pub(crate) const BACKEND: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
/// Where the backend tells its counts, on loopback.
pub(crate) const COUNTS: u16 = 9000;

/// Where the backend is asked to be a client itself, on loopback, until the connection's end: for
/// `pace target rate seconds` it tells the requests' times in microseconds, for `requests target seconds`
/// how many were answered on connections that stay, for `connections target seconds` how many on one each.
/// What is no number is an error.
pub(crate) const CLIENT: u16 = 9001;

/// The answer to most requests.
pub(crate) const SMALL: &[u8] = &[b'x'; 64];
/// Takes 1 MiB and answers with 1 MiB.
pub(crate) const MIB_PATH: &str = "/mib";
pub(crate) const MIB: usize = 1 << 20;
/// A large transfer.
pub(crate) const LARGE_PATH: &str = "/large";
pub(crate) const LARGE: usize = 8 << 20;
pub(crate) const GRPC_PATH: &str = "/bench.Echo/Unary";
/// A message of 64 bytes with gRPC's frame before it: not compressed, its length.
pub(crate) const GRPC_MESSAGE: &[u8] =
    b"\0\0\0\0\x40xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

/// A version of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V2,
    V3,
}

impl Version {
    pub(crate) const ALL: [Version; 3] = [Version::V1, Version::V2, Version::V3];

    pub(crate) const fn name(self) -> &'static str {
        ["v1", "v2", "v3"][self as usize]
    }

    /// Its port for one of the two protocols.
    pub(crate) const fn port(self, http2: bool) -> u16 {
        (if http2 { 9021 } else { 9011 }) + self as u16
    }
}

/// The request that is answered with [`SMALL`], with `more` headers, of a line each.
pub(crate) fn small_request(host: &str, more: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\nend-user: jason\r\n{more}\r\n").into()
}

/// Spawns hyper's HTTP/2 tasks on the thread that calls it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
