//! Requests through the whole data path: a client, the proxy on real sockets, backends.

mod attempts;
mod conformance;
mod cors;
mod deadline;
mod drain;
mod expect;
mod filters;
mod framing;
mod grpc;
mod headers;
mod http1;
mod http2;
mod mirror;
mod pool;
mod replay;
mod retry;
mod routing;
mod service;
mod sticky;
mod streaming;
mod suite;
mod upgrade;
