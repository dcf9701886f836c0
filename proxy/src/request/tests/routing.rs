//! Which rule and backend a request gets, and how that is counted.

use std::collections::BTreeMap;

use crate::testing::{Mesh, Server, eventually, refusing, run, yaml};

/// Bookinfo's header canary.
const CANARY: &str = r#"
- name: jason
  matches: [{headers: [{name: end-user, value: jason}]}]
  backendRefs: [{name: reviews-v2, port: 80}]
- backendRefs: [{name: reviews-v3, port: 80}]
"#;

/// A Service `reviews` and three versions of it.
struct Reviews {
    mesh: Mesh,
    reviews: std::net::SocketAddr,
}

impl Reviews {
    async fn new() -> Self {
        Self::seen_from("default").await
    }

    async fn seen_from(namespace: &str) -> Self {
        let mesh = Mesh::with(namespace, |_limits| {});
        let mut all = Vec::new();
        for version in ["v1", "v2", "v3"] {
            let server = Server::http1(version).await;
            mesh.service(&format!("default/reviews-{version}"), "http", &[server.addr]);
            all.push(server.addr);
        }
        let reviews = mesh.service("default/reviews", "http", &all);
        Self { mesh, reviews }
    }

    /// Who answers.
    async fn ask(&self, headers: &str) -> String {
        let answer = self.mesh.get_with(self.reviews, "/", headers).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        answer.text().to_owned()
    }
}

#[test]
fn a_header_routes_and_the_rest_takes_the_default() {
    run(async {
        let bookinfo = Reviews::new().await;
        bookinfo.mesh.http_route("default/canary", "default/reviews", CANARY);
        for (headers, expected) in [
            ("end-user: jason\r\n", "v2"),
            ("End-User: jason\r\n", "v2"),
            ("end-user: Jason\r\n", "v3"),
            ("end-user: jason2\r\n", "v3"),
            ("", "v3"),
        ] {
            assert_eq!(bookinfo.ask(headers).await, expected, "{headers}");
        }
        let text = bookinfo.mesh.shared.metrics.encode();
        for line in [
            "weft_route_requests_total{parent_namespace=\"default\",parent_name=\"reviews\",\
             parent_port=\"80\",route_kind=\"HTTPRoute\",route_namespace=\"default\",\
             route_name=\"canary\",rule=\"0\",rule_name=\"jason\",backend_namespace=\"default\",\
             backend_name=\"reviews-v2\",backend_port=\"80\",status=\"200\",grpc_status=\"\",\
             reason=\"\"} 2",
            "weft_route_requests_total{parent_namespace=\"default\",parent_name=\"reviews\",\
             parent_port=\"80\",route_kind=\"HTTPRoute\",route_namespace=\"default\",\
             route_name=\"canary\",rule=\"1\",rule_name=\"\",backend_namespace=\"default\",\
             backend_name=\"reviews-v3\",backend_port=\"80\",status=\"200\",grpc_status=\"\",\
             reason=\"\"} 3",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line}\nin {text}");
        }
        let durations = "weft_route_request_duration_seconds_count";
        assert_eq!(bookinfo.mesh.count(durations, &["rule=\"0\""]), 2);
    });
}

#[test]
fn rules_of_two_routes_merge_and_either_can_go() {
    run(async {
        let bookinfo = Reviews::new().await;
        let second = r#"
- matches: [{headers: [{name: end-user, value: jason2}]}]
  backendRefs: [{name: reviews-v1, port: 80}]
"#;
        bookinfo.mesh.http_route("default/canary", "default/reviews", CANARY);
        bookinfo.mesh.http_route("default/canary2", "default/reviews", second);
        assert_eq!(bookinfo.ask("end-user: jason\r\n").await, "v2");
        assert_eq!(bookinfo.ask("end-user: jason2\r\n").await, "v1");
        assert_eq!(bookinfo.ask("").await, "v3");
        bookinfo.mesh.change(|objects| objects.routes.retain(|key, _| key.name != "canary"));
        assert_eq!(bookinfo.ask("end-user: jason2\r\n").await, "v1");
        let answer = bookinfo.mesh.get(bookinfo.reviews, "/").await;
        assert_eq!(
            (answer.status(), answer.header("x-weft-reason")),
            (404, Some("no_rule_matched"))
        );
    });
}

#[test]
fn a_consumer_route_takes_the_place_of_the_producers() {
    for (namespace, expected) in [("default", "v1"), ("shop", "v2"), ("other", "v1")] {
        run(async {
            let bookinfo = Reviews::seen_from(namespace).await;
            let to = |version: &str| {
                format!("[{{backendRefs: [{{name: {version}, namespace: default, port: 80}}]}}]")
            };
            bookinfo.mesh.http_route("default/all", "default/reviews", &to("reviews-v1"));
            bookinfo.mesh.http_route("shop/own", "default/reviews", &to("reviews-v2"));
            assert_eq!(bookinfo.ask("").await, expected, "in {namespace}");
        });
    }
}

#[test]
fn without_a_match_the_answer_is_404() {
    run(async {
        let bookinfo = Reviews::new().await;
        let rules =
            "[{matches: [{path: {value: /v1}}], backendRefs: [{name: reviews-v1, port: 80}]}]";
        bookinfo.mesh.http_route("default/paths", "default/reviews", rules);
        let answer = bookinfo.mesh.get(bookinfo.reviews, "/v2?x=1").await;
        assert_eq!(answer.status(), 404);
        assert_eq!(answer.header("x-weft-reason"), Some("no_rule_matched"));
        assert_eq!(
            answer.text(),
            "weft: no rule of the HTTPRoutes attached to Service default/reviews port 80 matches \
             GET /v2\n"
        );
        let labels = [
            "route_kind=\"none\"",
            "parent_name=\"reviews\"",
            "rule=\"\"",
            "backend_name=\"\"",
            "status=\"404\"",
            "reason=\"no_rule_matched\"",
        ];
        assert_eq!(bookinfo.mesh.requests(&labels), 1);
    });
}

#[test]
fn exactly_the_share_of_an_invalid_backend_is_answered_500() {
    run(async {
        let bookinfo = Reviews::new().await;
        let rules = r#"
- backendRefs:
  - {name: reviews-v1, port: 80, weight: 3}
  - {name: missing, port: 80, weight: 1}
  - {name: also-missing, port: 80, weight: 0}
"#;
        bookinfo.mesh.http_route("default/split", "default/reviews", rules);
        let mut client = bookinfo.mesh.connect(bookinfo.reviews).await;
        let mut seen: BTreeMap<u16, u32> = BTreeMap::new();
        for _ in 0..400 {
            client.send("GET / HTTP/1.1\r\nhost: reviews\r\n\r\n").await;
            let answer = client.message().await;
            if answer.status() == 500 {
                assert_eq!(answer.header("x-weft-reason"), Some("backend_invalid"));
            }
            *seen.entry(answer.status()).or_default() += 1;
        }
        // A binomial share of 1/4: the standard deviation is 8.7, the bounds are 6 of these away.
        assert_eq!(seen.keys().copied().collect::<Vec<_>>(), [200, 500]);
        assert!((48..=152).contains(&seen[&500]), "{seen:?}");
        let labels = ["backend_name=\"missing\"", "status=\"500\"", "reason=\"backend_invalid\""];
        assert_eq!(bookinfo.mesh.requests(&labels), u64::from(seen[&500]));
        assert_eq!(bookinfo.mesh.requests(&["backend_name=\"also-missing\""]), 0);
    });
}

/// "If an implementation chooses to do this, all of the above rules for 500 responses MUST also apply
/// for responses that return a 503."
#[test]
fn a_backend_without_endpoints_answers_503_for_its_share() {
    run(async {
        let bookinfo = Reviews::new().await;
        bookinfo.mesh.service("default/empty", "http", &[]);
        let rules = r#"
- backendRefs:
  - {name: reviews-v1, port: 80, weight: 3}
  - {name: empty, port: 80, weight: 1}
"#;
        bookinfo.mesh.http_route("default/split", "default/reviews", rules);
        let mut client = bookinfo.mesh.connect(bookinfo.reviews).await;
        let mut empty = 0;
        for _ in 0..400 {
            client.send("GET / HTTP/1.1\r\nhost: reviews\r\n\r\n").await;
            let answer = client.message().await;
            if answer.status() == 200 {
                continue;
            }
            assert_eq!(answer.status(), 503);
            assert_eq!(answer.header("x-weft-reason"), Some("no_ready_endpoint"));
            empty += 1;
        }
        // As of an invalid backend, above.
        assert!((48..=152).contains(&empty), "{empty} of 400");
    });
}

#[test]
fn the_chosen_rule_is_final() {
    run(async {
        let bookinfo = Reviews::new().await;
        for (rule, status, reason) in [
            ("{name: missing, port: 80}", 500, "backend_invalid"),
            ("{name: reviews-v1, port: 81}", 500, "backend_invalid"),
            ("{name: reviews-v1, port: 80, weight: 0}", 500, "no_backend"),
            ("{name: empty, port: 80}", 503, "no_ready_endpoint"),
        ] {
            bookinfo.mesh.service("default/empty", "http", &[]);
            let rules = format!(
                "- matches: [{{path: {{value: /a}}}}]\n  backendRefs: [{rule}]\n\
                 - backendRefs: [{{name: reviews-v1, port: 80}}]\n"
            );
            bookinfo.mesh.http_route("default/final", "default/reviews", &rules);
            let answer = bookinfo.mesh.get(bookinfo.reviews, "/a/b").await;
            assert_eq!(answer.status(), status, "{rule}");
            assert_eq!(answer.header("x-weft-reason"), Some(reason), "{rule}");
            assert_eq!(bookinfo.ask("").await, "v1");
            let (status, reason) = (format!("status=\"{status}\""), format!("reason=\"{reason}\""));
            assert!(bookinfo.mesh.requests(&["rule=\"0\"", &status, &reason]) > 0, "{rule}");
        }
    });
}

#[test]
fn a_rule_without_backends_or_with_an_unknown_filter_answers_500() {
    run(async {
        let bookinfo = Reviews::new().await;
        for (rule, reason) in [
            ("{}", "no_backend"),
            (
                "{filters: [{type: FromTheFuture}], backendRefs: [{name: reviews-v1, port: 80}]}",
                "rule_refused",
            ),
            (
                "{sessionPersistence: {type: Spoon}, backendRefs: [{name: reviews-v1, port: 80}]}",
                "rule_refused",
            ),
        ] {
            bookinfo.mesh.http_route("default/bad", "default/reviews", &format!("[{rule}]"));
            let answer = bookinfo.mesh.get(bookinfo.reviews, "/").await;
            assert_eq!(answer.status(), 500, "{rule}");
            assert_eq!(answer.header("x-weft-reason"), Some(reason), "{rule}");
            assert!(answer.text().contains("rule 0 of HTTPRoute default/bad"), "{}", answer.text());
        }
    });
}

#[test]
fn no_endpoint_that_answers_is_503() {
    run(async {
        let mesh = Mesh::new();
        let empty = mesh.service("default/empty", "http", &[]);
        let dead = mesh.service("default/dead", "http", &[refusing()]);
        for (service, reason) in [(empty, "no_ready_endpoint"), (dead, "connect_failed")] {
            let answer = mesh.get(service, "/").await;
            assert_eq!((answer.status(), answer.header("x-weft-reason")), (503, Some(reason)));
        }
        let labels = ["parent_name=\"dead\"", "status=\"503\"", "reason=\"connect_failed\""];
        assert_eq!(mesh.requests(&labels), 1);
    });
}

#[test]
fn without_a_route_requests_of_one_connection_are_balanced() {
    run(async {
        let mut seen = Vec::new();
        // On a busy machine one of the two may have to wait for the processor, and rightly looks slow.
        for _ in 0..5 {
            let mesh = Mesh::new();
            let (one, other) = (Server::http1("one").await, Server::http1("other").await);
            let service = mesh.service("default/svc", "http", &[one.addr, other.addr]);
            let mut client = mesh.connect(service).await;
            for _ in 0..200 {
                client.send("GET / HTTP/1.1\r\nhost: svc\r\n\r\n").await;
                assert_eq!(client.message().await.status(), 200);
            }
            assert_eq!(one.requests.get() + other.requests.get(), 200);
            // Connections are kept, not made for each request.
            assert_eq!((one.open.get(), other.open.get()), (1, 1));
            let labels = ["route_kind=\"none\"", "backend_name=\"svc\"", "status=\"200\""];
            assert_eq!(mesh.requests(&labels), 200);
            seen.push(one.requests.get());
        }
        assert!(seen.iter().any(|seen| (60..=140).contains(seen)), "{seen:?} of 200 each");
    });
}

#[test]
fn a_reload_fails_no_request_and_none_sees_two_configurations() {
    run(async {
        let mesh = Mesh::new();
        let (v1, v2) = (Server::http1("v1").await, Server::http1("v2").await);
        mesh.service("default/v1", "http", &[v1.addr]);
        mesh.service("default/v2", "http", &[v2.addr]);
        let service = mesh.service("default/svc", "http", &[]);
        // The rewritten path and the backend change together.
        let configure = |version: &str| {
            let rules = format!(
                "[{{filters: [{{type: URLRewrite, urlRewrite: {{path: {{type: ReplaceFullPath, \
                 replaceFullPath: /{version}}}}}}}], backendRefs: [{{name: {version}, port: 80}}]}}]"
            );
            mesh.http_route("default/route", "default/svc", &rules);
        };
        configure("v1");
        let mut clients = Vec::new();
        for _ in 0..4 {
            clients.push(mesh.connect(service).await);
        }
        for round in 0..100 {
            for client in &mut clients {
                client.send("GET / HTTP/1.1\r\nhost: svc\r\n\r\n").await;
            }
            // While the requests are on their way.
            configure(if round % 2 == 0 { "v2" } else { "v1" });
            tokio::task::yield_now().await;
            for client in &mut clients {
                let answer = client.message().await;
                assert_eq!(answer.status(), 200);
                assert_eq!(answer.header("seen-target"), Some(&*format!("/{}", answer.text())));
            }
            // What begins now begins with the new configuration.
            let expected = if round % 2 == 0 { "v2" } else { "v1" };
            assert_eq!(mesh.get(service, "/").await.text(), expected);
        }
        assert_eq!(mesh.requests(&["status=\"200\""]), 500);
    });
}

#[test]
fn a_service_that_goes_ends_its_connections_with_503() {
    run(async {
        let mesh = Mesh::new();
        let server = Server::http1("one").await;
        let service = mesh.service("default/svc", "http", &[server.addr]);
        let mut client = mesh.connect(service).await;
        client.send("GET / HTTP/1.1\r\nhost: svc\r\n\r\n").await;
        assert_eq!(client.message().await.status(), 200);
        mesh.change(|objects| objects.services.clear());
        eventually("the pool is closed", || server.open.get() == 0).await;
        client.send("GET / HTTP/1.1\r\nhost: svc\r\n\r\n").await;
        let answer = client.message().await;
        assert_eq!((answer.status(), answer.header("x-weft-reason")), (503, Some("service_gone")));
        assert_eq!(client.rest().await, "");
    });
}

#[test]
fn a_missing_grant_costs_its_share_only() {
    run(async {
        let mesh = Mesh::new();
        let server = Server::http1("fruit").await;
        mesh.service("bananas/echo", "http", &[server.addr]);
        let service = mesh.service("infra/fruits", "http", &[]);
        let rules = "[{backendRefs: [{name: echo, namespace: bananas, port: 80}]}]";
        mesh.http_route("infra/route", "infra/fruits", rules);
        let answer = mesh.get(service, "/fruits").await;
        assert_eq!(
            (answer.status(), answer.header("x-weft-reason")),
            (500, Some("backend_invalid"))
        );
        mesh.apply(yaml(
            r#"
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {namespace: bananas, name: infra}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: infra}]
  to: [{group: "", kind: Service, name: ""}]
"#,
        ));
        assert_eq!(mesh.get(service, "/fruits").await.text(), "fruit");
    });
}
