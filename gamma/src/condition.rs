//! The conditions that a route deserves for each of its parents, and a policy for each of its
//! targets, in the API's words.

use std::fmt;

use crate::reference::ParentRef;

/// A condition's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// At least one rule works for this parent.
    Accepted,
    /// All references resolve.
    ResolvedRefs,
    /// Some rules were dropped; only ever True.
    PartiallyInvalid,
}

/// A condition's reason: the API's constants, and one literal of GEP-1294.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Accepted=True
    Accepted,
    /// ResolvedRefs=True
    ResolvedRefs,
    /// The parent has no such port, or is not of a type that routes attach to.
    NoMatchingParent,
    /// Another kind of route holds the port: the literal `RouteReasonConflicted`.
    Conflicted,
    /// A value that Weft does not implement.
    UnsupportedValue,
    /// Filters that cannot stand together.
    IncompatibleFilters,
    /// A backend of a kind that cannot be one.
    InvalidKind,
    /// A backend that does not exist, or lacks the port.
    BackendNotFound,
    /// A backend in another namespace that no ReferenceGrant permits.
    RefNotPermitted,
    /// A backend port whose protocol the route cannot speak.
    UnsupportedProtocol,
    /// A policy that cannot be honoured.
    Invalid,
    /// A policy whose target does not exist.
    TargetNotFound,
    /// Another policy holds for the target.
    PolicyConflicted,
}

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Its type.
    pub kind: ConditionType,
    /// True or False.
    pub status: bool,
    /// Its reason.
    pub reason: Reason,
    /// For people: every cause with its field's path.
    pub message: String,
}

/// What a route deserves for one of its parents: an entry of `status.parents`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The parentRef, as the spec has it; its index tells two alike apart.
    pub parent: ParentRef,
    /// Accepted and ResolvedRefs, then PartiallyInvalid where it applies.
    pub conditions: Vec<Condition>,
}

impl ConditionType {
    /// The API's literal string.
    pub fn as_str(self) -> &'static str {
        match self {
            ConditionType::Accepted => "Accepted",
            ConditionType::ResolvedRefs => "ResolvedRefs",
            ConditionType::PartiallyInvalid => "PartiallyInvalid",
        }
    }
}

impl Condition {
    /// Whether it tells of something that its route's author should mend.
    pub fn is_complaint(&self) -> bool {
        match self.kind {
            ConditionType::PartiallyInvalid => self.status,
            ConditionType::Accepted | ConditionType::ResolvedRefs => !self.status,
        }
    }

    /// The API's literal string for its status.
    pub fn status_str(&self) -> &'static str {
        if self.status { "True" } else { "False" }
    }
}

impl Reason {
    /// The API's literal string.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Accepted => "Accepted",
            Reason::ResolvedRefs => "ResolvedRefs",
            Reason::NoMatchingParent => "NoMatchingParent",
            Reason::Conflicted => "RouteReasonConflicted",
            Reason::UnsupportedValue => "UnsupportedValue",
            Reason::IncompatibleFilters => "IncompatibleFilters",
            Reason::InvalidKind => "InvalidKind",
            Reason::BackendNotFound => "BackendNotFound",
            Reason::RefNotPermitted => "RefNotPermitted",
            Reason::UnsupportedProtocol => "UnsupportedProtocol",
            Reason::Invalid => "Invalid",
            Reason::TargetNotFound => "TargetNotFound",
            Reason::PolicyConflicted => "Conflicted",
        }
    }
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
