//! What the index finds is what a scan finds that reads as the API's sentences do.

use proptest::prelude::*;

use super::SniMatcher;
use crate::matching::consider_server_name;
use crate::object::Objects;
use crate::testing::{add, add_service, port, resolved, route};

/// Few labels, so that hostnames meet.
fn hostname() -> impl Strategy<Value = String> {
    "(\\*\\.)?([ab]{1,2}\\.){0,2}[ab]"
}

fn matches(hostname: &str, name: &str) -> bool {
    match hostname.strip_prefix('*') {
        // "`*.example.com` would match both `test.example.com`, and `foo.test.example.com`. But it would
        // not match `example.com`."
        Some(suffix) => name.strip_suffix(suffix).is_some_and(|labels| !labels.is_empty()),
        None => hostname == name,
    }
}

/// The index of the route that wins: most characters in a matching hostname without a wildcard, then in
/// any matching hostname, then the oldest, which is the first.
fn scan(routes: &[Vec<String>], name: &str) -> Option<usize> {
    let mut best: Option<(usize, usize, usize)> = None;
    for (index, hostnames) in routes.iter().enumerate() {
        for hostname in hostnames.iter().filter(|hostname| matches(hostname, name)) {
            let exact = if hostname.starts_with('*') { 0 } else { hostname.len() };
            if best.is_none_or(|(precise, length, _)| (exact, hostname.len()) > (precise, length)) {
                best = Some((exact, hostname.len(), index));
            }
        }
    }
    best.map(|(_, _, index)| index)
}

proptest! {
    #[test]
    fn the_index_finds_what_a_scan_finds(
        routes in prop::collection::vec(prop::collection::vec(hostname(), 1..4), 1..8),
        name in "([ab]{1,2}\\.){0,3}[ab]",
    ) {
        let mut objects = Objects::default();
        add_service(&mut objects, "default/demo", &[443]);
        for (index, hostnames) in routes.iter().enumerate() {
            let created = format!("2024-01-01T00:00:{index:02}Z");
            let mut value = route("TLSRoute", &format!("default/r{index}"), &created, "[{}]");
            value["spec"]["hostnames"] = hostnames.clone().into();
            add(&mut objects, value);
        }
        let resolved = resolved(&objects);
        let rules = &port(&resolved, "default/demo", 443).producer.rules;
        let found = SniMatcher::new(rules).select(Some(&name));
        // What people are told is what happens, also to a client that names no server.
        for name in [Some(name.as_str()), None] {
            let considered = consider_server_name(rules, name);
            let first = considered.iter().find(|it| it.unmet.is_empty());
            prop_assert_eq!(first.map(|it| it.selected), SniMatcher::new(rules).select(name));
        }
        let found = found.map(|selected| rules[selected.rule].route.name.clone());
        prop_assert_eq!(found, scan(&routes, &name).map(|index| format!("r{index}")));
    }
}
