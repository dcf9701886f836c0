//! What is read from a request and written into an answer. How requests fare by it is in the tests of
//! [`crate::request`].

use std::collections::BTreeSet;

use http::HeaderMap;
use http::header::{COOKIE, SET_COOKIE};
use serde_json::{Value, json};
use weft_gamma::object::{self, Objects, Service};
use weft_gamma::resolve::{self, ResolvedRule, Settings};

use super::token::{Key, Place, Token};
use super::{Stickiness, Visit, cookie};
use crate::testing::{namespaced, yaml};

/// A time in these tests, in seconds since 1970.
const NOW: u32 = 1_800_000_000;

/// A Service, and the rules of an HTTPRoute on it that has two backends in each.
fn resolved(uid: &str, annotation: Option<&str>, rules: &[&str]) -> (Service, Vec<ResolvedRule>) {
    let backends = "backendRefs: [{name: one, port: 80}, {name: two, port: 80}]";
    let rules: Vec<Value> =
        rules.iter().map(|rule| yaml(&format!("{{{backends}{rule}}}"))).collect();
    let service = |name: &str| {
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "namespace": "default", "name": name, "uid": uid },
            "spec": { "clusterIP": "10.0.0.1", "ports": [{ "port": 80 }] },
        })
    };
    let annotations = annotation.map(|value| json!({ "weft.mesh/sticky-split": value }));
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": { "namespace": "default", "name": "route", "annotations": annotations },
        "spec": {
            "parentRefs": [{ "group": "", "kind": "Service", "name": "svc" }],
            "rules": rules,
        },
    });
    let mut objects = Objects::default();
    for document in [service("svc"), service("one"), service("two"), route] {
        let decoded = object::decode(document);
        assert_eq!(decoded.problems, []);
        for object in decoded.objects {
            objects.insert(object);
        }
    }
    let name = namespaced("default/svc");
    let parent = resolve::resolve(&objects, &Settings::default()).parents.remove(&name).unwrap();
    ((*objects.services[&name]).clone(), parent.ports[0].producer.rules.clone())
}

fn stickiness(annotation: Option<&str>, session: &str) -> Stickiness {
    let rule =
        if session.is_empty() { String::new() } else { format!(", sessionPersistence: {session}") };
    let (service, rules) = resolved("uid-1", annotation, &[&rule]);
    Stickiness::new(&service, &rules[0], true).unwrap()
}

fn key(uid: &str, name: &str) -> Key {
    Key::new(&resolved(uid, None, &[""]).0, name)
}

fn place(backend: u64, endpoint: u64) -> Place {
    Place { backend, endpoint }
}

fn token(places: &[Place]) -> Token {
    let mut token = Token::new(NOW);
    places.iter().rev().for_each(|place| token.put(*place));
    token
}

fn with_cookie(text: &str) -> HeaderMap {
    HeaderMap::from_iter([(COOKIE, text.try_into().unwrap())])
}

/// The headers of the next request of a browser that got this answer.
fn browser(answer: &HeaderMap) -> HeaderMap {
    with_cookie(answer[SET_COOKIE].to_str().unwrap().split(';').next().unwrap())
}

/// What an answer from that place sets.
fn answered(visit: &Visit<'_>, place: Place) -> HeaderMap {
    let mut headers = HeaderMap::new();
    visit.answer(&mut headers, place.backend, place.endpoint);
    headers
}

fn attributes(answer: &HeaderMap) -> BTreeSet<&str> {
    answer[SET_COOKIE].to_str().unwrap().split("; ").skip(1).collect()
}

#[test]
fn a_token_opens_by_its_own_key_only() {
    let (key, token) =
        (key("uid-1", "name"), token(&[place(1, 2), place(3, 0), place(u64::MAX, 5)]));
    let text = key.seal(&token).unwrap();
    assert_eq!(key.open(text.as_bytes()), Some(token.clone()));
    assert!(
        text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)),
        "{text}"
    );
    // Two users at one place cannot be seen to be there.
    assert_ne!(key.seal(&token), Some(text.clone()));
    for other in [self::key("uid-2", "name"), self::key("uid-1", "other")] {
        assert_eq!(other.open(text.as_bytes()), None);
    }
}

#[test]
fn a_token_that_was_changed_is_none() {
    let key = key("uid-1", "name");
    let text = key.seal(&token(&[place(1, 2)])).unwrap();
    for index in 0..text.len() {
        let mut changed = text.clone().into_bytes();
        changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
        // Of the last character some bits are padding.
        if index < text.len() - 1 {
            assert_eq!(key.open(&changed), None, "at {index}");
        }
        assert_eq!(key.open(&text.as_bytes()[..index]), None, "cut at {index}");
    }
    for nonsense in ["", "A", "AAAA", "10.1.0.1:8080", "ä", &"A".repeat(10_000)] {
        assert_eq!(key.open(nonsense.as_bytes()), None, "{nonsense}");
    }
}

#[test]
fn a_token_has_one_place_of_a_backend_and_never_too_many() {
    let mut token = token(&[place(1, 1), place(2, 2)]);
    token.put(place(2, 3));
    assert_eq!(token.places().copied().collect::<Vec<_>>(), [place(2, 3), place(1, 1)]);
    for backend in 0..100 {
        token.put(place(backend, 1));
    }
    assert_eq!(token.places().count(), 16);
    assert_eq!(token.places().next(), Some(&place(99, 1)));
    // As long as that its cookie is far from any limit.
    assert!(key("uid", "name").seal(&token).unwrap().len() < 400);
}

#[test]
fn cookies_of_a_request() {
    let mut headers = with_cookie("a=1; sid=x=y; aa=2;sid=\"quoted\"; SID=no; sid ; xsid=no");
    headers.append(COOKIE, "sid = spaced ;b".try_into().unwrap());
    headers.append(COOKIE, http::HeaderValue::from_bytes(b"sid=\xff").unwrap());
    let values: Vec<&[u8]> = cookie::values(&headers, "sid").collect();
    assert_eq!(values, [&b"x=y"[..], b"quoted", b"spaced", b"\xff"]);
    assert_eq!(cookie::values(&headers, "none").count(), 0);
}

#[test]
fn cookies_of_an_answer() {
    for (session, expected) in [
        ("{}", &["HttpOnly", "Path=/", "SameSite=Lax"][..]),
        ("{cookie: {path: /shop}}", &["HttpOnly", "Path=/shop", "SameSite=Lax"]),
        // Without Expires and Max-Age: "Session cookies do not include either of these attributes".
        ("{absoluteTimeout: 5m}", &["HttpOnly", "Path=/", "SameSite=Lax"]),
        (
            "{absoluteTimeout: 5m, cookie: {lifetimeType: Permanent}}",
            &["HttpOnly", "Max-Age=300", "Path=/", "SameSite=Lax"],
        ),
        ("{cookie: {name: __Host-a}}", &["HttpOnly", "Path=/", "SameSite=Lax", "Secure"]),
    ] {
        let stickiness = stickiness(None, session);
        let answer = answered(&stickiness.visit_at(&HeaderMap::new(), NOW), place(1, 2));
        assert_eq!(attributes(&answer), expected.iter().copied().collect(), "{session}");
    }
    let named = stickiness(None, "{cookie: {name: user}}");
    let answer = answered(&named.visit_at(&HeaderMap::new(), NOW), place(1, 2));
    assert!(answer[SET_COOKIE].to_str().unwrap().starts_with("user="));
}

#[test]
fn generated_names_are_a_rules_or_for_a_split_the_routes() {
    let name = |stickiness: Stickiness| {
        let answer = answered(&stickiness.visit_at(&HeaderMap::new(), NOW), place(1, 2));
        let cookie = answer[SET_COOKIE].to_str().unwrap().to_owned();
        cookie.split('=').next().unwrap().to_owned()
    };
    let session = ", sessionPersistence: {}";
    let rules = ["", "", session, session, &format!("{session}, name: a")];
    let (service, rules) = resolved("uid", Some("session"), &rules);
    let names: Vec<String> =
        rules.iter().map(|rule| name(Stickiness::new(&service, rule, true).unwrap())).collect();
    assert!(names[0].starts_with("weft-") && names[0] == names[1], "{names:?}");
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 4, "{names:?}");
}

#[test]
fn nothing_is_set_twice() {
    let stickiness = stickiness(None, "{}");
    let first = answered(&stickiness.visit_at(&HeaderMap::new(), NOW), place(1, 2));
    let again = stickiness.visit_at(&browser(&first), NOW + 100_000);
    assert_eq!(answered(&again, place(1, 2)), HeaderMap::new());
    assert_ne!(answered(&again, place(1, 3)), HeaderMap::new());
}

#[test]
fn a_session_has_a_place_in_each_backend() {
    let stickiness = stickiness(None, "{}");
    let first = answered(&stickiness.visit_at(&HeaderMap::new(), NOW), place(1, 10));
    let second = answered(&stickiness.visit_at(&browser(&first), NOW), place(2, 20));
    let third = stickiness.visit_at(&browser(&second), NOW);
    for known in [place(1, 10), place(2, 20)] {
        assert_eq!(third.endpoint(known.backend), Some(known.endpoint));
        assert_eq!(answered(&third, known), HeaderMap::new());
    }
    assert_eq!(third.endpoint(3), None);
}

#[test]
fn sessions_end_in_time() {
    let ends = |session: &str, used: &[u32], alive: bool| {
        let stickiness = stickiness(None, session);
        let mut request = HeaderMap::new();
        for (index, after) in used.iter().enumerate() {
            let visit = stickiness.visit_at(&request, NOW + after);
            let is_alive = visit.endpoint(1).is_some();
            assert_eq!(
                is_alive,
                index > 0 && (alive || index + 1 < used.len()),
                "{session} {used:?}"
            );
            let answer = answered(&visit, place(1, 2));
            if answer.contains_key(SET_COOKIE) {
                request = browser(&answer);
            }
        }
    };
    let absolute = "{absoluteTimeout: 10s}";
    ends(absolute, &[0, 9], true);
    ends(absolute, &[0, 5, 9, 10], false);
    let idle = "{idleTimeout: 10s}";
    ends(idle, &[0, 10, 20, 30], true);
    ends(idle, &[0, 10, 21], false);
    let both = "{idleTimeout: 10s, absoluteTimeout: 25s}";
    ends(both, &[0, 10, 20, 24], true);
    ends(both, &[0, 10, 20, 25], false);
    ends("{}", &[0, 1_000_000_000], true);
    // Another sidecar's clock may be behind.
    let stickiness = stickiness(None, both);
    let first = answered(&stickiness.visit_at(&HeaderMap::new(), NOW), place(1, 2));
    assert_eq!(stickiness.visit_at(&browser(&first), NOW - 60).endpoint(1), Some(2));
}

#[test]
fn a_cookie_that_is_written_again_ends_when_the_first_would_have() {
    let session = "{absoluteTimeout: 5m, cookie: {lifetimeType: Permanent}}";
    let stickiness = stickiness(None, session);
    let first = answered(&stickiness.visit_at(&HeaderMap::new(), NOW), place(1, 2));
    let visit = stickiness.visit_at(&browser(&first), NOW + 100);
    assert!(attributes(&answered(&visit, place(1, 3))).contains("Max-Age=200"));
}

#[test]
fn of_several_cookies_of_one_name_the_good_one_counts() {
    let stickiness = stickiness(None, "{cookie: {name: user}}");
    let answer = answered(&stickiness.visit_at(&HeaderMap::new(), NOW), place(1, 2));
    let good = answer[SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned();
    let request = with_cookie(&format!("user=the-applications-own; {good}; b=c"));
    assert_eq!(stickiness.visit_at(&request, NOW).endpoint(1), Some(2));
}

#[test]
fn a_header_carries_what_a_cookie_would() {
    let stickiness = stickiness(None, "{type: Header, header: {name: X-Session}}");
    let answer = answered(&stickiness.visit_at(&HeaderMap::new(), NOW), place(1, 2));
    assert!(!answer.contains_key(SET_COOKIE));
    let visit = stickiness.visit_at(&answer, NOW);
    assert_eq!(visit.endpoint(1), Some(2));
    assert_eq!(answered(&visit, place(1, 2)), HeaderMap::new());
}

#[test]
fn a_sticky_split_alone_names_no_endpoint() {
    let stickiness = stickiness(Some("session=1h"), "");
    let answer = answered(&stickiness.visit_at(&HeaderMap::new(), NOW), place(1, 2));
    assert!(attributes(&answer).contains("Max-Age=3600"));
    let visit = stickiness.visit_at(&browser(&answer), NOW);
    assert_eq!(visit.endpoint(1), None);
    assert_eq!(answered(&visit, place(1, 3)), HeaderMap::new());
    assert_ne!(answered(&visit, place(2, 3)), HeaderMap::new());
}

#[test]
fn nobody_is_given_the_only_backend() {
    let (service, rules) = resolved("uid", Some("session"), &[""]);
    let [split, only] =
        [true, false].map(|splits| Stickiness::new(&service, &rules[0], splits).unwrap());
    assert_eq!(answered(&only.visit_at(&HeaderMap::new(), NOW), place(1, 1)), HeaderMap::new());
    // But who was given another one is now here.
    let first = answered(&split.visit_at(&HeaderMap::new(), NOW), place(2, 1));
    assert_ne!(answered(&only.visit_at(&browser(&first), NOW), place(1, 1)), HeaderMap::new());
}

#[test]
fn it_is_told_in_words() {
    for (annotation, session, expected) in [
        (Some("header=end-user"), "", "split by header=end-user"),
        (
            Some("cookie=sid"),
            "{cookie: {name: a}}",
            "split by cookie=sid; session in cookie a, keeps the endpoint",
        ),
        (
            Some("session"),
            "{type: Header, header: {name: a}}",
            "session in header a, keeps the backend and the endpoint",
        ),
        (Some("session"), "", "session in cookie weft-668111e1568b2701, keeps the backend"),
    ] {
        assert_eq!(stickiness(annotation, session).to_string(), expected);
    }
}

#[test]
fn a_rule_to_which_it_does_not_apply_has_none() {
    let (service, mut rules) = resolved("uid", None, &[""]);
    assert!(Stickiness::new(&service, &rules[0], true).is_none());
    for annotation in ["session", "header=user", "cookie=user"] {
        (_, rules) = resolved("uid", Some(annotation), &[""]);
        assert!(Stickiness::new(&service, &rules[0], true).is_some());
        rules[0].backends.truncate(1);
        assert!(Stickiness::new(&service, &rules[0], false).is_none(), "{annotation}");
    }
}
