//! Users that stay where they were: sessions, and splits that are sticky.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use http::Request;
use serde_json::json;

use super::http2::{connect, whole};
use crate::testing::{Mesh, Message, Server, empty, namespaced, refusing, run, yaml};

/// A Service `shop`, and its versions, each with three endpoints.
struct Shop {
    mesh: Mesh,
    address: SocketAddr,
    versions: BTreeMap<&'static str, Vec<Server>>,
}

const VERSIONS: [(&str, [&str; 3]); 3] = [
    ("v1", ["v1-a", "v1-b", "v1-c"]),
    ("v2", ["v2-a", "v2-b", "v2-c"]),
    ("v3", ["v3-a", "v3-b", "v3-c"]),
];

impl Shop {
    async fn new() -> Self {
        let mut versions = BTreeMap::new();
        for (version, names) in VERSIONS {
            let mut servers = Vec::new();
            for name in names {
                servers.push(Server::http1(name).await);
            }
            versions.insert(version, servers);
        }
        let mesh = Mesh::new();
        let address = Self::services(&mesh, &versions);
        Self { mesh, address, versions }
    }

    fn services(mesh: &Mesh, versions: &BTreeMap<&'static str, Vec<Server>>) -> SocketAddr {
        for (version, servers) in versions {
            let addresses: Vec<SocketAddr> = servers.iter().map(|server| server.addr).collect();
            mesh.service(&format!("default/{version}"), "http", &addresses);
        }
        mesh.service("default/shop", "http", &[])
    }

    /// The same, as another pod's sidecar sees it.
    fn in_another_pod(self) -> Self {
        let mesh = Mesh::new();
        let address = Self::services(&mesh, &self.versions);
        Self { mesh, address, versions: self.versions }
    }

    /// The route of the shop: one rule with these weights, and with more in it.
    fn route(&self, annotation: &str, weights: &[(&str, u32)], more: &str) {
        self.route_of("HTTPRoute", annotation, weights, more);
    }

    fn route_of(&self, kind: &str, annotation: &str, weights: &[(&str, u32)], more: &str) {
        let backends: Vec<String> = weights
            .iter()
            .map(|(name, weight)| format!("{{name: {name}, port: 80, weight: {weight}}}"))
            .collect();
        let rule = format!("{{backendRefs: [{}]{more}}}", backends.join(", "));
        self.mesh.apply(json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": kind,
            "metadata": {
                "namespace": "default", "name": "route",
                "annotations": if annotation.is_empty() {
                    json!({})
                } else {
                    json!({ "weft.mesh/sticky-split": annotation })
                },
            },
            "spec": {
                "parentRefs": [{ "group": "", "kind": "Service", "name": "shop" }],
                "rules": [yaml(&rule)],
            },
        }));
    }

    async fn ask(&self, headers: &str) -> Message {
        let answer = self.mesh.get_with(self.address, "/", headers).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        answer
    }

    /// Who answers so many requests with these headers, none of which may get a cookie.
    async fn who_answers(&self, headers: &str, requests: usize) -> BTreeSet<String> {
        let mut seen = BTreeSet::new();
        for _ in 0..requests {
            let answer = self.ask(headers).await;
            assert_eq!(answer.header("set-cookie"), None, "{headers}");
            seen.insert(answer.text().to_owned());
        }
        seen
    }

    /// The same, by version.
    async fn versions_of(&self, headers: &str, requests: usize) -> BTreeSet<String> {
        let who = self.who_answers(headers, requests).await;
        who.iter().map(|name| version(name).to_owned()).collect()
    }

    /// A new user: who answered, and the cookie.
    async fn visitor(&self) -> (String, String) {
        let answer = self.ask("").await;
        (answer.text().to_owned(), cookie(&answer))
    }

    /// A new user who is given that version.
    async fn visitor_of(&self, wanted: &str) -> String {
        for _ in 0..1_000 {
            let (name, cookie) = self.visitor().await;
            if version(&name) == wanted {
                return cookie;
            }
        }
        panic!("nobody is given {wanted}");
    }
}

fn version(name: &str) -> &str {
    name.split('-').next().unwrap()
}

/// The Cookie header for the next request.
fn cookie(answer: &Message) -> String {
    let cookie = answer.header("set-cookie").expect("a cookie is set");
    format!("cookie: {}\r\n", cookie.split(';').next().unwrap())
}

/// So many draws come to both of two versions of like weights: more than half of them are made in one
/// block (see `table::draws`), and more than the larger share of it.
const ENOUGH: usize = 80;

const SESSION: &str = ", sessionPersistence: {}";

#[test]
fn a_session_stays_with_an_endpoint() {
    run(async {
        let shop = Shop::new().await;
        shop.route("", &[("v1", 1)], SESSION);
        let mut places = BTreeSet::new();
        let mut cookies = Vec::new();
        for _ in 0..30 {
            let (name, cookie) = shop.visitor().await;
            assert_eq!(shop.who_answers(&cookie, 5).await, [name.clone()].into());
            places.insert(name.clone());
            cookies.push((name, cookie));
        }
        assert!(places.len() > 1, "new users are balanced");
        // Any sidecar of any pod understands it.
        let shop = shop.in_another_pod();
        shop.route("", &[("v1", 1)], SESSION);
        for (name, cookie) in cookies {
            assert_eq!(shop.who_answers(&cookie, 2).await, [name].into());
        }
    });
}

#[test]
fn the_cookie_reaches_the_backend_and_is_all_that_is_set() {
    run(async {
        let mesh = Mesh::new();
        let server = Server::start(false, |request| async move {
            let seen = request.headers().get("cookie").cloned();
            let mut response = http::Response::new(empty());
            response.headers_mut().insert("set-cookie", "own=1".parse().unwrap());
            if let Some(seen) = seen {
                response.headers_mut().insert("seen", seen);
            }
            response
        })
        .await;
        let service = mesh.service("default/svc", "http", &[server.addr]);
        let rules =
            "[{backendRefs: [{name: svc, port: 80}], sessionPersistence: {sessionName: user}}]";
        mesh.http_route("default/r", "default/svc", rules);
        let answer = mesh.get(service, "/").await;
        let cookies = answer.head.all("set-cookie");
        assert_eq!((cookies.len(), cookies[0]), (2, "own=1"));
        assert!(
            cookies[1].starts_with("user=")
                && cookies[1].ends_with("; Path=/; HttpOnly; SameSite=Lax")
        );
        // "implementations SHOULD forward the Gateway-generated persistence cookie"
        let pair = cookies[1].split(';').next().unwrap();
        let answer = mesh.get_with(service, "/", &format!("cookie: a=b; {pair}\r\n")).await;
        assert_eq!(answer.header("seen"), Some(&*format!("a=b; {pair}")));
        assert_eq!(answer.head.all("set-cookie"), ["own=1"]);
    });
}

#[test]
fn an_endpoint_that_goes_or_fails_is_chosen_anew() {
    run(async {
        let shop = Shop::new().await;
        shop.route("", &[("v1", 1)], SESSION);
        let (first, old) = shop.visitor().await;
        let left: Vec<SocketAddr> = shop.versions["v1"]
            .iter()
            .zip(VERSIONS[0].1)
            .filter(|(_, name)| *name != first)
            .map(|(server, _)| server.addr)
            .collect();
        shop.mesh.endpoints("default/v1", &left);
        let answer = shop.ask(&old).await;
        let (second, new) = (answer.text().to_owned(), cookie(&answer));
        assert_ne!(second, first);
        assert_eq!(shop.who_answers(&new, 10).await, [second.clone()].into());

        // The address of the second is now one where nobody listens, and the pod is still the same.
        let address =
            shop.versions["v1"][VERSIONS[0].1.iter().position(|it| *it == second).unwrap()].addr;
        let pods: Vec<(SocketAddr, String)> = left
            .iter()
            .map(|addr| {
                (if *addr == address { refusing() } else { *addr }, format!("pod-at-{addr}"))
            })
            .collect();
        let pods: Vec<(SocketAddr, &str)> =
            pods.iter().map(|(addr, pod)| (*addr, pod.as_str())).collect();
        shop.mesh.pods("default/v1", &pods);
        let answer = shop.ask(&new).await;
        assert!(answer.text() != first && answer.text() != second, "{}", answer.text());
        assert!(answer.header("set-cookie").is_some());
    });
}

#[test]
fn the_address_under_another_pod_is_another_endpoint() {
    run(async {
        let shop = Shop::new().await;
        shop.route("", &[("v1", 1)], SESSION);
        let (_, old) = shop.visitor().await;
        let pods: Vec<(SocketAddr, &str)> =
            shop.versions["v1"].iter().map(|server| server.addr).zip(["x", "y", "z"]).collect();
        shop.mesh.pods("default/v1", &pods);
        assert!(shop.ask(&old).await.header("set-cookie").is_some());
    });
}

#[test]
fn a_session_does_not_choose_the_backend() {
    run(async {
        let shop = Shop::new().await;
        shop.route("", &[("v1", 1), ("v2", 1)], SESSION);
        // "Session persistence MUST NOT override which backend is selected during traffic splitting":
        // the user comes to both, and in each to one endpoint.
        let (mut headers, mut seen) = (String::new(), BTreeMap::<String, u32>::new());
        for _ in 0..200 {
            let answer = shop.ask(&headers).await;
            *seen.entry(answer.text().to_owned()).or_default() += 1;
            if answer.header("set-cookie").is_some() {
                headers = cookie(&answer);
            }
        }
        let versions: Vec<&str> = seen.keys().map(|name| version(name)).collect();
        assert_eq!(versions, ["v1", "v2"], "{seen:?}");
        assert!(seen.values().all(|count| count.abs_diff(100) < 35), "{seen:?}");
    });
}

#[test]
fn a_sticky_split_keeps_the_version_and_not_the_endpoint() {
    run(async {
        let shop = Shop::new().await;
        shop.route("session", &[("v1", 90), ("v2", 10)], "");
        let [one, two] = [shop.visitor_of("v1").await, shop.visitor_of("v2").await];
        for weights in [[90, 10], [10, 90], [1, 1_000]] {
            shop.route("session", &[("v1", weights[0]), ("v2", weights[1])], "");
            assert_eq!(shop.versions_of(&one, 30).await, ["v1".to_owned()].into());
            assert_eq!(shop.versions_of(&two, 30).await, ["v2".to_owned()].into());
        }
        assert!(shop.who_answers(&two, 60).await.len() > 1, "balanced over its endpoints");
        // The order says nothing, and another sidecar knows its users too.
        let shop = shop.in_another_pod();
        shop.route("session", &[("v3", 1_000), ("v2", 1), ("v1", 1)], "");
        assert_eq!(shop.versions_of(&one, 30).await, ["v1".to_owned()].into());
        assert_eq!(shop.versions_of(&two, 30).await, ["v2".to_owned()].into());
    });
}

#[test]
fn new_users_of_a_sticky_split_are_split_by_the_weights() {
    run(async {
        let shop = Shop::new().await;
        shop.route("session", &[("v1", 70), ("v2", 30)], "");
        let mut canary = 0_u32;
        for _ in 0..300 {
            canary += u32::from(version(&shop.visitor().await.0) == "v2");
        }
        assert!(canary.abs_diff(90) < 30, "{canary}");
    });
}

#[test]
fn a_version_that_is_gone_is_chosen_anew() {
    run(async {
        let shop = Shop::new().await;
        let before = [("v1", 50), ("v2", 50)];
        for after in [
            // Its weight is 0: it gets nothing, not even those who had it.
            &[("v1", 1), ("v2", 0), ("v3", 1)][..],
            // It is removed from the rule.
            &[("v1", 1), ("v3", 1)],
            // The other way round.
            &[("v1", 1), ("v2", 0)],
        ] {
            shop.route("session", &before, "");
            let two = shop.visitor_of("v2").await;
            shop.route("session", after, "");
            let answer = shop.ask(&two).await;
            let moved_to = version(answer.text()).to_owned();
            assert_ne!(moved_to, "v2", "{after:?}");
            // From now on the user stays there, also when the old version comes back.
            let headers = cookie(&answer);
            assert_eq!(shop.versions_of(&headers, 20).await, [moved_to.clone()].into());
            shop.route("session", &[("v1", 1), ("v2", 1_000), ("v3", 1)], "");
            assert_eq!(shop.versions_of(&headers, 20).await, [moved_to].into());
        }
        // The Service is deleted: its share is 500, and who had it goes on elsewhere.
        shop.route("session", &before, "");
        let two = shop.visitor_of("v2").await;
        shop.mesh.change(|objects| {
            objects.services.remove(&namespaced("default/v2"));
        });
        let mut statuses = BTreeSet::new();
        for _ in 0..ENOUGH {
            let answer = shop.mesh.get_with(shop.address, "/", &two).await;
            // The answers of the mesh give nobody a session.
            assert_eq!(answer.header("set-cookie").is_some(), answer.status() == 200);
            statuses.insert(answer.status());
        }
        assert_eq!(statuses, [200, 500].into());
    });
}

#[test]
fn a_forged_cookie_is_no_cookie() {
    run(async {
        let shop = Shop::new().await;
        shop.route("session", &[("v1", 1), ("v2", 1)], "");
        let two = shop.visitor_of("v2").await;
        let (name, value) =
            two.trim_end().strip_prefix("cookie: ").unwrap().split_once('=').unwrap();
        let flipped: String = value.chars().map(|c| if c == 'A' { 'B' } else { 'A' }).collect();
        for forged in ["", "v2", "default/v2:80", &flipped, &value[1..], &format!("{value}{value}")]
        {
            let mut seen = BTreeSet::new();
            for _ in 0..ENOUGH {
                let answer = shop.ask(&format!("cookie: {name}={forged}\r\n")).await;
                assert!(answer.header("set-cookie").is_some(), "{forged}");
                seen.insert(version(answer.text()).to_owned());
            }
            assert_eq!(seen.len(), 2, "{forged}");
        }
    });
}

#[test]
fn a_session_that_keeps_version_and_endpoint() {
    run(async {
        let shop = Shop::new().await;
        let session = ", sessionPersistence: {cookie: {name: user}}";
        shop.route("session", &[("v1", 1), ("v2", 1)], session);
        let (name, headers) = shop.visitor().await;
        assert!(headers.starts_with("cookie: user="));
        assert_eq!(shop.who_answers(&headers, 20).await, [name].into());
    });
}

#[test]
fn users_keep_their_version_by_a_header_of_theirs() {
    run(async {
        let shop = Shop::new().await;
        shop.route("header=end-user", &[("v1", 75), ("v2", 25)], "");
        let users: Vec<String> =
            (0..120).map(|user| format!("End-User: user-{user}\r\n")).collect();
        let mut before = Vec::new();
        for user in &users {
            let versions = shop.versions_of(user, 2).await;
            assert_eq!(versions.len(), 1, "{user}");
            before.push(versions.first().unwrap().clone());
        }
        let canary = before.iter().filter(|version| *version == "v2").count();
        // Binomial with a mean of 30: five standard deviations are 24.
        assert!(canary.abs_diff(30) < 24, "{canary}");

        // The canary grows: nobody leaves it. And every sidecar says the same.
        let shop = shop.in_another_pod();
        shop.route("header=end-user", &[("v2", 60), ("v1", 40)], "");
        let mut grown = 0;
        for (user, before) in users.iter().zip(&before) {
            let after = shop.versions_of(user, 2).await;
            assert!(before == "v1" || after.contains("v2"), "{user} has left the canary");
            grown += usize::from(after.contains("v2"));
        }
        assert!(grown > canary, "{grown}");
        // Who says nothing is split as ever, and gets no cookie.
        assert_eq!(shop.versions_of("", ENOUGH).await.len(), 2);
    });
}

#[test]
fn users_keep_their_version_by_a_cookie_of_the_application() {
    run(async {
        let shop = Shop::new().await;
        shop.route("cookie=sid", &[("v1", 1), ("v2", 1)], "");
        let mut seen = BTreeSet::new();
        for user in 0..20 {
            let headers = format!("cookie: theme=dark; sid={user}; x={}\r\n", user * 7);
            let versions = shop.versions_of(&headers, 4).await;
            assert_eq!(versions.len(), 1, "{user}");
            seen.extend(versions);
        }
        assert_eq!(seen.len(), 2);
        assert_eq!(shop.versions_of("cookie: theme=dark\r\n", ENOUGH).await.len(), 2);
    });
}

#[test]
fn one_backend_twice_has_both_of_its_shares() {
    run(async {
        let shop = Shop::new().await;
        let filter = |name: &str| {
            format!(
                "filters: [{{type: ResponseHeaderModifier, responseHeaderModifier: {{set: [{{name: \
                 share, value: {name}}}]}}}}]"
            )
        };
        let rules = format!(
            "[{{backendRefs: [{{name: v1, port: 80, weight: 60, {}}}, {{name: v1, port: 80, weight: \
             40, {}}}]}}]",
            filter("one"),
            filter("two")
        );
        shop.route("header=user", &[], "");
        shop.mesh.apply(json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {
                "namespace": "default", "name": "route",
                "annotations": { "weft.mesh/sticky-split": "header=user" },
            },
            "spec": {
                "parentRefs": [{ "group": "", "kind": "Service", "name": "shop" }],
                "rules": yaml(&rules),
            },
        }));
        let mut two = 0_u32;
        for user in 0..120 {
            let answer = shop.ask(&format!("user: {user}\r\n")).await;
            two += u32::from(answer.header("share") == Some("two"));
        }
        // Binomial with a mean of 48: five standard deviations are 27.
        assert!(two.abs_diff(48) < 27, "{two}");
    });
}

#[test]
fn grpc_keeps_sessions_in_cookies_and_headers() {
    run(async {
        let mesh = Mesh::new();
        let mut servers = Vec::new();
        for name in ["a", "b", "c"] {
            let answer = move |_request| async move {
                http::Response::builder()
                    .header("content-type", "application/grpc")
                    .header("served-by", name)
                    .header("grpc-status", "0")
                    .body(empty())
                    .unwrap()
            };
            servers.push(Server::start(true, answer).await);
        }
        let addresses: Vec<SocketAddr> = servers.iter().map(|server| server.addr).collect();
        let service = mesh.service("default/svc", "grpc", &addresses);
        for (session, set, send) in [
            ("{}", "set-cookie", "cookie"),
            ("{type: Header, header: {name: x-session}}", "x-session", "x-session"),
        ] {
            let rules = format!(
                "[{{backendRefs: [{{name: svc, port: 80}}], sessionPersistence: {session}}}]"
            );
            mesh.grpc_route("default/r", "default/svc", &rules);
            let mut client = connect(&mesh, service).await;
            let (mut token, mut first) = (None, None);
            for _ in 0..20 {
                let mut request = Request::post("http://svc:80/s/M")
                    .header("content-type", "application/grpc")
                    .header("te", "trailers");
                if let Some(token) = &token {
                    request = request.header(send, token);
                }
                let answer = client.send_request(request.body(empty()).unwrap()).await.unwrap();
                let (answer, _) = whole(answer).await;
                let served_by = answer.headers()["served-by"].clone();
                assert_eq!(*first.get_or_insert_with(|| served_by.clone()), served_by, "{session}");
                assert_eq!(answer.headers().contains_key(set), token.is_none(), "{session}");
                if let Some(value) = answer.headers().get(set) {
                    let value = value.to_str().unwrap();
                    token = Some(value.split(';').next().unwrap().to_owned());
                }
            }
        }
    });
}

#[test]
fn rules_without_any_of_this_set_nothing() {
    run(async {
        let shop = Shop::new().await;
        shop.route("", &[("v1", 1), ("v2", 1)], "");
        assert_eq!(shop.versions_of("", ENOUGH).await.len(), 2);
        // And of a rule with a session only what a backend answers.
        shop.route("session", &[("v1", 1), ("missing", 0)], SESSION);
        shop.mesh.endpoints("default/v1", &[]);
        let answer = shop.mesh.get(shop.address, "/").await;
        assert_eq!((answer.status(), answer.header("set-cookie")), (503, None));
    });
}
