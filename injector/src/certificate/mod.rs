//! The webhook's serving certificate: made here, shared by the replicas, rotated without a gap.
//!
//! A [`Generation`] is a serving certificate, its key, and a CA that signed it and nothing else: the
//! CA's key is forgotten at once, so that nobody can sign with it. Generations live in a Secret of
//! the injector's namespace; the API server's `resourceVersion` makes the replicas agree on them.
//! [`Keeper`] looks after three things, over and over:
//!
//! 1. **The Secret** has a generation that is good for long enough; else the first replica to notice
//!    adds one. The old one stays until it expires.
//! 2. **The webhook configuration** has the CAs of all generations in `caBundle`, so that API servers
//!    trust every certificate that a replica may serve.
//! 3. **This replica** serves the newest generation whose CA has been in the bundle long enough for
//!    every API server to have seen it ([`schedule`]). Until then it serves the one before.
//!
//! So replicas never have to act together: for a third of its life a certificate and its successor
//! are both good. [`Served`] hands the certificate to new TLS connections; those that are open stay.
//!
//! | module | |
//! |---|---|
//! | [`generation`] | make one, read one, check it |
//! | [`schedule`] | when to renew, which to serve; pure |
//! | [`bundle`] | what belongs into `caBundle`; pure |
//! | [`secret`] | generations as the data of a Secret |
//! | [`keeper`] | the loop, and all that is asked of the API server |
//! | [`served`] | the certificate of new connections |

pub mod bundle;
pub mod generation;
pub mod keeper;
pub mod schedule;
pub mod secret;
pub mod served;

pub use self::generation::Generation;
pub use self::keeper::{Keeper, Names};
pub use self::served::Served;
