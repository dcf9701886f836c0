//! The Gateway API's mesh semantics (GAMMA), pure: objects in, rules and verdicts out.
//!
//! Two programs must agree: the proxy, which sends requests where [`resolve`] says, and the
//! controller, which writes the verdicts of the same pass into the routes' status. So this crate
//! knows no runtime, no HTTP implementation and no Kubernetes client.
//!
//! The way through it:
//! [`object`] decodes what the API server (or a file) holds, leniently: a part that cannot be read
//! costs that part only; [`route`] is what a route means once parsed, [`session`] what of it keeps a
//! user where they were; [`resolve`] attaches routes to Services, orders them and checks references;
//! [`matching`] finds the rule for a request; [`endpoints`] finds the addresses of a backend,
//! [`policy`] how many retries it may get.
#![deny(missing_docs)]

mod attach;
pub mod condition;
mod decode;
pub mod endpoints;
pub mod matching;
pub mod object;
pub mod path;
pub mod policy;
pub mod precedence;
pub mod reference;
pub mod resolve;
pub mod route;
pub mod session;
pub mod support;

#[cfg(test)]
mod testing;
