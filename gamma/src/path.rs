//! Paths: prefixes by segment, and their replacement.
//!
//! [`crate::matching`] and the proxy's redirects and rewrites call it. Paths are taken as they are,
//! case-sensitively and without normalisation.

use std::borrow::Cow;

use crate::route::{PathMatch, PathModifier};

/// Whether `path` begins with the segments of `prefix`, whose trailing `/` is ignored.
///
/// "Matches based on a URL path prefix split by `/`. Matching is case-sensitive and done on a path
/// element by element basis. […] For example, the paths `/abc`, `/abc/`, and `/abc/def` would all
/// match the prefix `/abc`, but the path `/abcd` would not." And of the prefix `/`: it "has the effect
/// of matching every HTTP request", those whose target is no path among them (`OPTIONS *`, CONNECT).
pub fn has_prefix(path: &str, prefix: &str) -> bool {
    without_slash(prefix).is_empty() || after_prefix(path, prefix).is_some()
}

/// `path` with `replacement` in place of its prefix `matched`; trailing `/` of both are ignored.
/// A path without that prefix is returned as it is.
///
/// "ReplacePrefixMatch specifies the value with which to replace the prefix match of a request during
/// a rewrite or redirect":
///
/// | path       | matched           | replacement       | result     |
/// |------------|-------------------|-------------------|------------|
/// | `/foo/bar` | `/foo` or `/foo/` | `/xyz` or `/xyz/` | `/xyz/bar` |
/// | `/foo`     | `/foo`            | `/xyz`            | `/xyz`     |
/// | `/foo/`    | `/foo`            | `/xyz`            | `/xyz/`    |
/// | `/foo/bar` | `/foo`            |                   | `/bar`     |
/// | `/foo`, `/foo/` | `/foo`       | nothing or `/`    | `/`        |
pub fn replace_prefix(path: &str, matched: &str, replacement: &str) -> String {
    let Some(rest) = after_prefix(path, matched) else {
        return path.to_owned();
    };
    match (without_slash(replacement), rest) {
        ("", "") => "/".to_owned(),
        ("", rest) => rest.to_owned(),
        (replacement, rest) => format!("{}{rest}", absolute(replacement)),
    }
}

impl PathModifier {
    /// The path that takes the place of `path`, a request's path without its query, which `matched`
    /// has matched. Always absolute.
    pub fn apply(&self, path: &str, matched: &PathMatch) -> String {
        match (self, matched) {
            (PathModifier::ReplaceFullPath(full), _) => absolute(full).into_owned(),
            (PathModifier::ReplacePrefixMatch(replacement), PathMatch::Prefix(prefix)) => {
                replace_prefix(path, prefix, replacement)
            }
            // A rule that replaces a prefix without matching one is refused when it is read.
            (PathModifier::ReplacePrefixMatch(_), _) => path.to_owned(),
        }
    }
}

/// What follows the prefix: nothing, or something that begins with `/`.
fn after_prefix<'p>(path: &'p str, prefix: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(without_slash(prefix))?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

fn without_slash(path: &str) -> &str {
    path.strip_suffix('/').unwrap_or(path)
}

fn absolute(path: &str) -> Cow<'_, str> {
    match path.starts_with('/') {
        true => Cow::Borrowed(path),
        false => Cow::Owned(format!("/{path}")),
    }
}

#[cfg(test)]
mod tests;
