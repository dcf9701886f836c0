//! What keeps a user where an earlier request went: a rule's `sessionPersistence`, which names an
//! endpoint of the backend that was chosen, and the annotation [`STICKY_SPLIT`], which keeps the
//! choice among the backends itself.
//!
//! The API has words for the former only: "Session persistence MUST NOT override which backend is
//! selected during traffic splitting, and it MUST NOT impact the process of route matching" (GEP-1619).

use std::fmt;
use std::time::Duration;

use http::HeaderName;

/// The annotation of a route by which its splits are sticky: see [`StickySplit`].
pub const STICKY_SPLIT: &str = "weft.mesh/sticky-split";

/// `sessionPersistence` of a rule: requests of one session go to one endpoint of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionPersistence {
    /// `type`, with what belongs to it.
    pub carrier: SessionCarrier,
    /// `absoluteTimeout`, in whole seconds: when a session ends, however busy it is.
    pub absolute_timeout: Option<Duration>,
    /// `idleTimeout`, in whole seconds: when a session ends that nobody uses. The API had it until
    /// v1.5.
    pub idle_timeout: Option<Duration>,
}

/// Where a client finds its session in a response, and puts it into its next request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionCarrier {
    /// A cookie, which browsers send back by themselves.
    Cookie(SessionCookie),
    /// A header of this name, which the client has to send back: `header.name`.
    Header(HeaderName),
}

/// The cookie of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionCookie {
    /// `cookie.name`, before v1.7 `sessionName`. "If not specified, a unique cookie name SHOULD be
    /// generated."
    pub name: Option<String>,
    /// `cookie.path`: "implementations MUST default the cookie path to "/"."
    pub path: String,
    /// `lifetimeType` is Permanent: the cookie outlives the browser's session, until
    /// [`SessionPersistence::absolute_timeout`].
    pub permanent: bool,
}

/// By what a user keeps the backend that a rule's weights gave them: the annotation [`STICKY_SPLIT`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StickySplit {
    /// `header=NAME`: by the value of a request header. Requests without it are split as ever.
    Header(HeaderName),
    /// `cookie=NAME`: by the value of one of the application's own cookies. The same.
    Cookie(String),
    /// `session`, or `session=24h` for one that outlives the browser's: by the rule's
    /// `sessionPersistence`, and by a cookie of Weft's where the rule has none.
    Session(Option<Duration>),
}

impl Default for SessionCookie {
    fn default() -> Self {
        Self { name: None, path: "/".to_owned(), permanent: false }
    }
}

/// As the annotation has it.
impl fmt::Display for StickySplit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header={name}"),
            Self::Cookie(name) => write!(f, "cookie={name}"),
            Self::Session(None) => f.write_str("session"),
            Self::Session(Some(lifetime)) => write!(f, "session={}s", lifetime.as_secs()),
        }
    }
}
