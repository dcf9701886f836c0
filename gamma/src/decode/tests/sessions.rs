//! `sessionPersistence` in both of its forms, sticky splits, and what a Service says of affinity.

use std::time::Duration;

use http::HeaderName;

use super::refusals::{check, refused};
use super::{problems, route, rule};
use crate::object::{Decoded, InternalTraffic, Object};
use crate::session::{SessionCarrier, SessionCookie, SessionPersistence, StickySplit};
use crate::testing::{decoded, only_route};

const AT: &str = ".sessionPersistence";

fn seconds(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

fn session(carrier: SessionCarrier) -> SessionPersistence {
    SessionPersistence { carrier, absolute_timeout: None, idle_timeout: None }
}

fn named(name: &str) -> SessionCookie {
    SessionCookie { name: Some(name.to_owned()), ..SessionCookie::default() }
}

#[test]
fn sessions_in_both_forms_and_of_both_kinds() {
    let cookie = |cookie| session(SessionCarrier::Cookie(cookie));
    let header = session(SessionCarrier::Header(HeaderName::from_static("x-session")));
    let permanent = SessionCookie { permanent: true, ..SessionCookie::default() };
    let lasting = SessionPersistence { absolute_timeout: seconds(90), ..cookie(permanent) };
    let own_path = SessionCookie { path: "/shop".to_owned(), ..named("user") };
    let idle = SessionPersistence {
        idle_timeout: seconds(60),
        absolute_timeout: seconds(3600),
        ..cookie(named("a"))
    };
    for (text, expected) in [
        ("{}", cookie(SessionCookie::default())),
        ("{type: Cookie, cookie: {}}", cookie(SessionCookie::default())),
        ("{cookie: {name: user, lifetimeType: Session}}", cookie(named("user"))),
        ("{sessionName: user, type: Cookie}", cookie(named("user"))),
        ("{sessionName: user, cookieConfig: {lifetimeType: Session}}", cookie(named("user"))),
        ("{cookie: {name: user, path: /shop}}", cookie(own_path)),
        ("{absoluteTimeout: 1m30s, cookie: {lifetimeType: Permanent}}", lasting.clone()),
        ("{absoluteTimeout: 1m30s, cookieConfig: {lifetimeType: Permanent}}", lasting),
        ("{sessionName: a, idleTimeout: 1m, absoluteTimeout: 1h}", idle),
        ("{type: Header, header: {name: X-Session}}", header.clone()),
        ("{type: Header, sessionName: X-Session}", header),
    ] {
        for kind in ["HTTPRoute", "GRPCRoute"] {
            let decoded = route(kind, &format!("- sessionPersistence: {text}"));
            assert_eq!(problems(&decoded), [""; 0], "{kind} {text}");
            assert_eq!(rule(&decoded).session.as_ref(), Some(&expected), "{kind} {text}");
        }
    }
}

#[test]
fn what_no_session_can_be() {
    let of = |field: &str| format!("{AT}{field}");
    let table = [
        ("type: Query", of(".type"), "use Cookie or Header"),
        ("type: 7", of(".type"), "must be a string"),
        ("name: user", of(".name"), "unknown field"),
        ("cookie: user", of(".cookie"), "must be an object"),
        ("cookie: {nam: user}", of(".cookie.nam"), "unknown field"),
        ("cookie: {name: 'a b'}", of(".cookie.name"), "not a cookie's name"),
        ("sessionName: ''", of(".sessionName"), "not a cookie's name"),
        ("cookie: {name: __Host-a, path: /b}", of(".cookie.name"), "path /"),
        ("cookie: {name: a}, sessionName: a", of(".sessionName"), "since v1.7"),
        ("cookie: {}, cookieConfig: {}", of(".cookieConfig"), "since v1.7"),
        ("cookieConfig: {path: /}", of(".cookieConfig.path"), "unknown field"),
        ("cookie: {path: shop}", of(".cookie.path"), "start with '/'"),
        ("cookie: {path: '/a;b'}", of(".cookie.path"), "';'"),
        ("cookie: {lifetimeType: Eternal}", of(".cookie.lifetimeType"), "Session or Permanent"),
        ("cookie: {lifetimeType: Permanent}", of(".absoluteTimeout"), "must be specified"),
        ("cookieConfig: {lifetimeType: Permanent}", of(".absoluteTimeout"), "must be specified"),
        ("absoluteTimeout: soon", of(".absoluteTimeout"), "such as 1m30s"),
        ("absoluteTimeout: 0s", of(".absoluteTimeout"), "at least 1s"),
        ("idleTimeout: 1500ms", of(".idleTimeout"), "whole seconds"),
        ("header: {name: a}", of(".header"), "type is not Header"),
        ("type: Header", of(".header.name"), "must be set"),
        ("type: Header, header: {}", of(".header.name"), "must be set"),
        ("type: Header, header: {name: 'a b'}", of(".header.name"), "not a header name"),
        ("type: Header, sessionName: set-cookie", of(".sessionName"), "a meaning of its own"),
        ("type: Header, header: {name: a}, sessionName: a", of(".sessionName"), "since v1.7"),
        ("type: Header, header: {name: a}, cookie: {}", of(".cookie"), "type is not Cookie"),
    ];
    for kind in ["HTTPRoute", "GRPCRoute"] {
        for (text, field, word) in &table {
            check(kind, &[(&format!("{{sessionPersistence: {{{text}}}}}"), field, word)]);
        }
    }
}

/// An HTTPRoute with the annotation, and with a rule for each of the numbers, of so many backends;
/// `more` is part of each.
fn annotated(annotation: &str, backends: &[usize], more: &str) -> Decoded {
    let rule = |count: &usize| {
        let refs = "{name: a, port: 80},".repeat(*count);
        format!("  - {{backendRefs: [{refs}]{more}}}\n")
    };
    let rules: String = backends.iter().map(rule).collect();
    decoded(&format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: r, annotations: {{{annotation}, example.com/note: '1'}}}}
spec:
  parentRefs: [{{group: '', kind: Service, name: demo}}]
  rules:
{rules}"
    ))
}

#[test]
fn splits_that_are_sticky() {
    for (value, expected) in [
        ("header=End-User", StickySplit::Header(HeaderName::from_static("end-user"))),
        ("cookie=sid", StickySplit::Cookie("sid".to_owned())),
        ("session", StickySplit::Session(None)),
        ("session=24h", StickySplit::Session(seconds(86_400))),
    ] {
        let decoded = annotated(&format!("weft.mesh/sticky-split: '{value}'"), &[1, 2], "");
        assert_eq!(problems(&decoded), [""; 0], "{value}");
        assert_eq!(only_route(&decoded).sticky_split.as_ref(), Some(&expected), "{value}");
    }
}

#[test]
fn a_wrong_annotation_costs_the_rules_that_split() {
    const FIELD: &str = "metadata.annotations[weft.mesh/sticky-split]";
    for (value, word) in [
        ("header", "use header=NAME"),
        ("header=", "not a header name"),
        ("header=Cookie", "use cookie=NAME"),
        ("cookie=a b", "not a cookie's name"),
        ("session=0s", "at least 1s"),
        ("session=forever", "such as 1m30s"),
        ("user", "use header=NAME"),
        ("", "use header=NAME"),
    ] {
        let decoded = annotated(&format!("weft.mesh/sticky-split: '{value}'"), &[1, 2, 3], "");
        let route = only_route(&decoded);
        let fields: Vec<Vec<&str>> = route
            .rules
            .iter()
            .map(|rule| rule.refusals.iter().map(|it| it.field.as_str()).collect())
            .collect();
        assert_eq!(fields, [vec![], vec![FIELD], vec![FIELD]], "{value}");
        assert!(route.rules[1].refusals[0].message.contains(word), "{:?}", route.rules[1].refusals);
        // Where nothing splits nothing is lost, and it is said all the same.
        let decoded = annotated(&format!("weft.mesh/sticky-split: '{value}'"), &[1], "");
        assert_eq!(refused_and_told(&decoded), (0, vec![FIELD.to_owned()]), "{value}");
    }
}

#[test]
fn connections_that_pass_unread_have_no_users() {
    let text = "
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: r, annotations: {weft.mesh/sticky-split: session}}
spec:
  parentRefs: [{group: '', kind: Service, name: demo}]
  rules: [{backendRefs: [{name: a, port: 80}, {name: b, port: 80}]}]";
    let decoded = decoded(text);
    let message = &rule(&decoded).refusals[0].message;
    assert!(message.contains("a TCPRoute has no headers"), "{message}");
}

fn refused_and_told(decoded: &Decoded) -> (usize, Vec<String>) {
    let refusals = only_route(decoded).rules.iter().map(|rule| rule.refusals.len()).sum();
    (refusals, decoded.problems.iter().map(|it| it.field.clone()).collect())
}

#[test]
fn two_lifetimes_of_one_session() {
    let annotation = "weft.mesh/sticky-split: session=1h";
    let decoded = annotated(annotation, &[2], ", sessionPersistence: {}");
    assert!(rule(&decoded).refusals[0].message.contains("write session without a time"));
    for (annotation, more) in [
        ("weft.mesh/sticky-split: session", ", sessionPersistence: {}"),
        ("weft.mesh/sticky-split: header=user", ", sessionPersistence: {}"),
        (annotation, ""),
    ] {
        assert_eq!(refused(&annotated(annotation, &[2], more)), [""; 0], "{annotation}{more}");
    }
}

#[test]
fn annotations_of_our_domain_that_mean_nothing() {
    let decoded = annotated("weft.mesh/stickysplit: session", &[2], "");
    let field = "metadata.annotations[weft.mesh/stickysplit]".to_owned();
    assert_eq!(refused_and_told(&decoded), (0, vec![field]));
    let decoded = annotated("weft.mesh/sticky-split: 7", &[2], "");
    assert!(problems(&decoded)[0].contains("must be a string, not a number"));
}

#[test]
fn affinity_and_traffic_policy_of_a_service() {
    let read = |spec: &str| {
        let decoded = decoded(&format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: x, uid: u-1}}, spec: {{{spec}}}}}"
        ));
        let Object::Service(service) = &decoded.objects[0] else { panic!("not a Service") };
        assert_eq!(service.uid.as_deref(), Some("u-1"));
        (service.client_affinity, service.internal_traffic, problems(&decoded).concat())
    };
    let (cluster, local) = (InternalTraffic::Cluster, InternalTraffic::Local);
    let config = |value: &str| {
        format!(
            "sessionAffinity: ClientIP, sessionAffinityConfig: {{clientIP: {{timeoutSeconds: {value}}}}}"
        )
    };
    for (spec, affinity, policy) in [
        (String::new(), None, cluster),
        ("sessionAffinity: None, internalTrafficPolicy: Cluster".to_owned(), None, cluster),
        ("sessionAffinity: ClientIP".to_owned(), seconds(10_800), cluster),
        (config("5"), seconds(5), cluster),
        (config("null"), seconds(10_800), cluster),
        ("internalTrafficPolicy: Local".to_owned(), None, local),
    ] {
        assert_eq!(read(&spec), (affinity, policy, String::new()), "{spec}");
    }
    for (spec, affinity, field) in [
        ("sessionAffinity: Cookie".to_owned(), None, "spec.sessionAffinity: \"Cookie\""),
        ("internalTrafficPolicy: Zone".to_owned(), None, "spec.internalTrafficPolicy: \"Zone\""),
        (config("0"), seconds(10_800), "timeoutSeconds: 0 cannot be; use 1 to 86400"),
        (config("86401"), seconds(10_800), "timeoutSeconds: 86401"),
    ] {
        let (read_affinity, policy, told) = read(&spec);
        assert_eq!((read_affinity, policy), (affinity, cluster), "{spec}");
        assert!(told.contains(field), "{spec}: {told}");
    }
}
