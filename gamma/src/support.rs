//! What the proxy implements today, of what the API's fields can say.
//!
//! [`crate::resolve`] refuses a rule that uses a field which is parsed but not implemented: it answers
//! 500 and its route's status names the field. Nothing is ignored in silence.

/// What the proxy implements. [`crate::resolve::Settings`] carries it, so that tests can vary it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Implemented {
    /// The filter RequestMirror.
    pub mirror: bool,
    /// The filter CORS.
    pub cors: bool,
    /// `timeouts` of a rule.
    pub timeouts: bool,
    /// `retry` of a rule.
    pub retry: bool,
}

/// What the proxy of this version implements: flip a field with the commit that implements it.
pub const IMPLEMENTED: Implemented =
    Implemented { mirror: true, cors: true, timeouts: true, retry: true };

impl Default for Implemented {
    fn default() -> Self {
        IMPLEMENTED
    }
}
