//! A route that no Service in use has to do with.

use std::fmt;

use serde_json::Value;
use weft_gamma::object::{self, NamespacedName};
use weft_gamma::route::Route;

/// A route as text, with what tells when it has to be read. Most of a namespace's routes stay so: read they take
/// three times as much memory, in some twenty pieces each.
#[derive(Clone)]
pub(super) struct Unread {
    parents: Box<[NamespacedName]>,
    /// JSON.
    text: Box<str>,
}

impl Unread {
    /// `text` is what the route was read from.
    pub(super) fn new(route: &Route, text: String) -> Self {
        let parents: Box<[_]> = route.parent_services().collect();
        // One that is attached to no Service at all is never read.
        let text = if parents.is_empty() { Box::default() } else { text.into() };
        Self { parents, text }
    }

    /// Whether the route names one of certain Services as its parent.
    pub(super) fn names(&self, is_one: impl Fn(&NamespacedName) -> bool) -> bool {
        self.parents.iter().any(is_one)
    }

    /// The route, and what could not be read of it.
    pub(super) fn read(&self) -> object::Decoded {
        // It has been read before, so that it can be.
        object::decode(serde_json::from_str(&self.text).unwrap_or(Value::Null))
    }
}

impl fmt::Debug for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
