//! What keeps users where they were: sticky splits and sessions.
//!
//! [`crate::request`] asks a rule's [`Stickiness`] for the [`Visit`] that a request is. The visit
//! chooses the backend, names the endpoint, and writes into the answer what the user has to bring
//! along next time. Nothing is remembered here: what a sidecar has to know it finds in the request, so
//! that all sidecars and all of their workers treat a user alike.

mod cookie;
#[cfg(test)]
mod tests;
mod token;

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use weft_gamma::object::Service;
use weft_gamma::resolve::ResolvedRule;
use weft_gamma::session::{SessionCarrier, SessionCookie, SessionPersistence, StickySplit};

use crate::rendezvous;
use crate::table::{Split, WeightedBackend};
use token::{Key, Place, Token};

/// What keeps the users of a rule where they were.
#[derive(Debug)]
pub(crate) struct Stickiness {
    /// Whose choice among the backends always is the same.
    user: Option<User>,
    sessions: Option<Sessions>,
}

/// Where a request says whose it is.
#[derive(Debug)]
enum User {
    Header(HeaderName),
    Cookie(String),
}

/// The sessions of a rule.
#[derive(Debug)]
struct Sessions {
    carrier: Carrier,
    key: Key,
    /// Whether a user that has no session is given one.
    begins: bool,
    keeps_backend: bool,
    keeps_endpoint: bool,
    /// Seconds.
    absolute_timeout: Option<u32>,
    /// Seconds.
    idle_timeout: Option<u32>,
}

/// Where a session's token is, in requests and answers.
#[derive(Debug)]
enum Carrier {
    Cookie { name: String, path: String, permanent: bool },
    Header(HeaderName),
}

/// A request, as far as it says where its user was before.
pub(crate) struct Visit<'t> {
    sessions: Option<&'t Sessions>,
    /// The digest of who it is.
    user: Option<u64>,
    /// Of a session that is good.
    token: Option<Token>,
    /// Seconds since 1970.
    now: u32,
}

impl Stickiness {
    /// That of a rule of routes attached to `parent`; `splits` tells whether more than one of its
    /// backends has a weight. None where no request has anything to say.
    pub(crate) fn new(parent: &Service, rule: &ResolvedRule, splits: bool) -> Option<Self> {
        let split = rule.sticky_split.as_ref().filter(|_| rule.backends.len() > 1);
        let user = match split {
            Some(StickySplit::Header(name)) => Some(User::Header(name.clone())),
            Some(StickySplit::Cookie(name)) => Some(User::Cookie(name.clone())),
            Some(StickySplit::Session(_)) | None => None,
        };
        let sessions = match (&rule.session, split) {
            (Some(session), split) => Some(Sessions {
                keeps_backend: matches!(split, Some(StickySplit::Session(_))),
                keeps_endpoint: true,
                ..Sessions::new(parent, rule, session)
            }),
            (None, Some(StickySplit::Session(lifetime))) => Some(Sessions {
                keeps_backend: true,
                // Who is sent to the only backend was given it by no split, and takes part in the
                // next one.
                begins: splits,
                ..Sessions::new(parent, rule, &of_split(*lifetime))
            }),
            (None, _) => None,
        };
        (user.is_some() || sessions.is_some()).then_some(Self { user, sessions })
    }

    /// What a request with these headers says.
    pub(crate) fn visit(&self, headers: &HeaderMap) -> Visit<'_> {
        self.visit_at(headers, if self.sessions.is_some() { seconds_since_1970() } else { 0 })
    }

    fn visit_at(&self, headers: &HeaderMap, now: u32) -> Visit<'_> {
        let sessions = self.sessions.as_ref();
        Visit {
            sessions,
            user: self.user.as_ref().and_then(|user| user.digest(headers)),
            token: sessions.and_then(|sessions| sessions.token(headers, now)),
            now,
        }
    }
}

impl User {
    fn digest(&self, headers: &HeaderMap) -> Option<u64> {
        match self {
            Self::Header(name) => {
                let mut values = headers.get_all(name).iter().map(HeaderValue::as_bytes).peekable();
                values.peek()?;
                Some(rendezvous::digest(values))
            }
            Self::Cookie(name) => {
                cookie::values(headers, name).next().map(|value| rendezvous::digest([value]))
            }
        }
    }
}

impl Visit<'_> {
    /// The backend of the split: the one that the user was given before, as long as it is one of them.
    pub(crate) fn choose<'s>(&self, split: &'s Split) -> Option<&'s WeightedBackend> {
        self.kept(split).or_else(|| split.choose())
    }

    /// The backend that the user gets whatever the odds; None where it is drawn.
    pub(crate) fn kept<'s>(&self, split: &'s Split) -> Option<&'s WeightedBackend> {
        let keeps_backend = self.sessions.is_some_and(|sessions| sessions.keeps_backend);
        let token = self.token.as_ref().filter(|_| keeps_backend);
        token
            .and_then(|token| token.places().find_map(|place| split.named(place.backend)))
            .or_else(|| self.user.and_then(|user| split.choose_for(user)))
    }

    /// Whether the request brings a session along that is good.
    pub(crate) fn has_session(&self) -> bool {
        self.token.is_some()
    }

    /// Whether a session begins with the answer.
    pub(crate) fn begins_session(&self) -> bool {
        self.token.is_none() && self.sessions.is_some_and(|sessions| sessions.begins)
    }

    /// The endpoint of a backend that the session is at; both by their digests.
    pub(crate) fn endpoint(&self, backend: u64) -> Option<u64> {
        self.sessions.filter(|sessions| sessions.keeps_endpoint)?;
        let mut places = self.token.as_ref()?.places();
        places.find(|place| place.backend == backend).map(|place| place.endpoint)
    }

    /// Writes into the headers of an answer from that endpoint what the user has to bring along to
    /// get to the same place again, where that is not what it brought along this time.
    pub(crate) fn answer(&self, headers: &mut HeaderMap, backend: u64, endpoint: u64) {
        let Some(sessions) = self.sessions else { return };
        if self.token.is_none() && !sessions.begins {
            return;
        }
        let mut token = self.token.clone().unwrap_or_else(|| Token::new(self.now));
        let place = Place { backend, endpoint: if sessions.keeps_endpoint { endpoint } else { 0 } };
        let is_known = token.places().any(|known| {
            known.backend == place.backend
                && (known.endpoint == place.endpoint || !sessions.keeps_endpoint)
        });
        let is_fresh = sessions.idle_timeout.is_none() || token.used == self.now;
        if is_known && is_fresh {
            return;
        }
        if !is_known {
            token.put(place);
        }
        token.used = self.now;
        sessions.write(&token, self.now, headers);
    }
}

impl Sessions {
    fn new(parent: &Service, rule: &ResolvedRule, session: &SessionPersistence) -> Self {
        let carrier = match &session.carrier {
            SessionCarrier::Header(name) => Carrier::Header(name.clone()),
            SessionCarrier::Cookie(cookie) => Carrier::Cookie {
                name: cookie.name.clone().unwrap_or_else(|| generated_name(parent, rule)),
                path: cookie.path.clone(),
                permanent: cookie.permanent,
            },
        };
        let seconds =
            |timeout: std::time::Duration| u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX);
        Self {
            key: Key::new(parent, carrier.name()),
            carrier,
            begins: true,
            keeps_backend: false,
            keeps_endpoint: false,
            absolute_timeout: session.absolute_timeout.map(seconds),
            idle_timeout: session.idle_timeout.map(seconds),
        }
    }

    /// The token of a request, if it has one that is ours, whole, and not too old.
    fn token(&self, headers: &HeaderMap, now: u32) -> Option<Token> {
        let good = |text: &[u8]| self.key.open(text).filter(|token| self.is_alive(token, now));
        match &self.carrier {
            // Any of several: a browser sends those of all paths.
            Carrier::Cookie { name, .. } => cookie::values(headers, name).find_map(good),
            Carrier::Header(name) => {
                headers.get_all(name).iter().map(HeaderValue::as_bytes).find_map(good)
            }
        }
    }

    fn is_alive(&self, token: &Token, now: u32) -> bool {
        // Sidecars' clocks may differ a little: what comes from the future is new.
        let (age, pause) = (now.saturating_sub(token.begun), now.saturating_sub(token.used));
        self.absolute_timeout.is_none_or(|timeout| age < timeout)
            && self.idle_timeout.is_none_or(|timeout| pause <= timeout)
    }

    fn write(&self, token: &Token, now: u32, headers: &mut HeaderMap) {
        let Some(text) = self.key.seal(token) else { return };
        match &self.carrier {
            Carrier::Cookie { name, path, permanent } => {
                let left = self
                    .absolute_timeout
                    .filter(|_| *permanent)
                    .map(|timeout| timeout.saturating_sub(now.saturating_sub(token.begun)).max(1));
                if let Some(cookie) = cookie::set(name, &text, path, left) {
                    headers.append(header::SET_COOKIE, cookie);
                }
            }
            Carrier::Header(name) => {
                if let Ok(value) = HeaderValue::try_from(text) {
                    headers.insert(name.clone(), value);
                }
            }
        }
    }
}

impl Carrier {
    fn name(&self) -> &str {
        match self {
            Self::Cookie { name, .. } => name,
            Self::Header(name) => name.as_str(),
        }
    }
}

/// For people: `split by header=user; session in cookie weft-…, keeps the endpoint`.
impl fmt::Display for Stickiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.user {
            Some(User::Header(name)) => write!(f, "split by header={name}")?,
            Some(User::Cookie(name)) => write!(f, "split by cookie={name}")?,
            None => {}
        }
        let Some(sessions) = &self.sessions else { return Ok(()) };
        if self.user.is_some() {
            f.write_str("; ")?;
        }
        match &sessions.carrier {
            Carrier::Cookie { name, .. } => write!(f, "session in cookie {name}")?,
            Carrier::Header(name) => write!(f, "session in header {name}")?,
        }
        f.write_str(match (sessions.keeps_backend, sessions.keeps_endpoint) {
            (true, true) => ", keeps the backend and the endpoint",
            (true, false) => ", keeps the backend",
            (false, _) => ", keeps the endpoint",
        })
    }
}

/// The session by which a sticky split keeps its users, where the rule has none of its own.
fn of_split(lifetime: Option<Duration>) -> SessionPersistence {
    let cookie = SessionCookie { permanent: lifetime.is_some(), ..SessionCookie::default() };
    SessionPersistence {
        carrier: SessionCarrier::Cookie(cookie),
        absolute_timeout: lifetime,
        idle_timeout: None,
    }
}

/// "If not specified, a unique cookie name SHOULD be generated": that of a rule with a
/// `sessionPersistence` is the rule's; a sticky split is its route's, so that a user has one version
/// through all of its rules.
fn generated_name(parent: &Service, rule: &ResolvedRule) -> String {
    let index = rule.index.to_string();
    let rule_name = match &rule.session {
        Some(_) => rule.name.as_deref().unwrap_or(&index),
        None => "",
    };
    let names = [
        &*parent.name.namespace,
        &parent.name.name,
        &rule.route.kind.to_string(),
        &rule.route.namespace,
        &rule.route.name,
        rule_name,
    ];
    format!("weft-{:016x}", rendezvous::digest(names.map(str::as_bytes)))
}

fn seconds_since_1970() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(now.as_secs()).unwrap_or(u32::MAX)
}
