use super::{has_prefix, replace_prefix};
use crate::route::{PathMatch, PathModifier};

#[test]
fn prefixes_are_compared_by_segment() {
    let table = [
        ("/v2", "/v2", true),
        ("/v2/", "/v2", true),
        ("/v2/x", "/v2", true),
        ("/v2example", "/v2", false),
        ("/v2", "/v2/", true),
        ("/v2/x", "/v2/", true),
        ("/v2example", "/v2/", false),
        ("/V2", "/v2", false),
        ("/", "/v2", false),
        ("/", "/", true),
        ("/anything", "/", true),
        ("/anything", "", true),
        ("/a/b", "/a/b/c", false),
        ("*", "/", true),
        ("", "/", true),
        ("*", "/v2", false),
    ];
    for (path, prefix, expected) in table {
        assert_eq!(has_prefix(path, prefix), expected, "{path} under {prefix}");
    }
}

#[test]
fn prefix_replacement_has_the_table_of_the_api() {
    let table = [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo", "/foo", "/xyz/", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/", "/foo", "", "/"),
        ("/foo", "/foo", "", "/"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
        ("/foo/bar", "/", "/xyz", "/xyz/foo/bar"),
        ("/foo/bar", "", "/xyz", "/xyz/foo/bar"),
        ("/foo", "/", "/", "/foo"),
        ("/foo/bar", "/foo", "xyz", "/xyz/bar"),
        ("/foo/%2Fbar/", "/foo", "/x", "/x/%2Fbar/"),
        ("/foobar", "/foo", "/xyz", "/foobar"),
        // One trailing slash is ignored, not two.
        ("/foo/bar", "/foo", "//", "//bar"),
        ("/foo", "/foo", "//", "/"),
    ];
    for (path, matched, replacement, expected) in table {
        let replaced = replace_prefix(path, matched, replacement);
        assert_eq!(replaced, expected, "{path}: {matched} by {replacement:?}");
    }
}

#[test]
fn modifiers_yield_absolute_paths() {
    let prefix = PathMatch::Prefix("/foo".to_owned());
    let table = [
        (PathModifier::ReplaceFullPath("/full".to_owned()), &prefix, "/full"),
        (PathModifier::ReplaceFullPath("full".to_owned()), &prefix, "/full"),
        (PathModifier::ReplaceFullPath(String::new()), &prefix, "/"),
        (PathModifier::ReplacePrefixMatch("/new".to_owned()), &prefix, "/new/bar"),
        (PathModifier::ReplacePrefixMatch("/new".to_owned()), &PathMatch::Unreadable, "/foo/bar"),
    ];
    for (modifier, matched, expected) in table {
        assert_eq!(modifier.apply("/foo/bar", matched), expected, "{modifier:?}");
    }
}
