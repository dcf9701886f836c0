//! The running sidecar explains what it does, and looks up what it has not met yet.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use weft_gamma::resolve::Settings;

use super::objects::{route, service, slice};
use super::scenario::IDLE;
use super::server::ApiServer;
use crate::drain::Drain;
use crate::explain::live::Live;
use crate::explain::{Explanation, Question, Unexplained, Words};
use crate::log::AccessLog;
use crate::metrics::{Metrics, MetricsSettings};
use crate::publish::Publisher;
use crate::source::kube::{KubeSource, UsedServices};
use crate::testing::{Mesh, eventually, run};
use crate::worker::Shared;

/// A sidecar in a pod of namespace `default`, as far as it can be asked.
struct Sidecar {
    live: Live,
}

impl Sidecar {
    fn start(server: &ApiServer) -> Self {
        let metrics = Metrics::new(&MetricsSettings::default());
        let (lookups, asked) = mpsc::unbounded_channel();
        let limits = Mesh::limits();
        let shared =
            Shared::new(metrics.clone(), AccessLog::off(), Drain::default(), limits, Some(lookups));
        let settings = Settings::default();
        let mut publisher = Publisher::new(shared.clone(), "default".into(), settings);
        let in_force = publisher.in_force();
        let used = UsedServices(Box::new(BTreeSet::new));
        let source = KubeSource::new(server.client(), "default".into(), asked, used, IDLE);
        let source = source.run(metrics, move |snapshot| publisher.publish(snapshot));
        tokio::task::spawn_local(source);
        let cluster = Some(server.client());
        Self { live: Live { shared, in_force, namespace: "default".into(), settings, cluster } }
    }

    async fn explain(&self, url: &str) -> Result<Explanation, Unexplained> {
        let words = Words { request: vec![url.to_owned()], headers: Vec::new() };
        self.live.explain(&Question::parse(&words).unwrap()).await
    }

    async fn refuse(&self, url: &str) -> String {
        self.explain(url).await.unwrap_err().to_string()
    }
}

fn shops() -> Vec<Value> {
    vec![
        service("default/a", &["10.96.0.1"]),
        slice("default/a", &["10.0.0.1"]),
        service("default/b", &["10.96.0.2"]),
        slice("default/b", &["10.0.0.2"]),
        service("shop/c", &["10.96.0.3"]),
        slice("shop/c", &["10.0.0.3"]),
        service("shop/headless", &["None"]),
        route("default/r", "default/a", &["default/b"]),
    ]
}

#[test]
fn a_service_that_was_not_met_is_looked_up() {
    run(async {
        let server = ApiServer::new(shops());
        let sidecar = Sidecar::start(&server);
        for url in ["http://a/", "http://a.default.svc.cluster.local/", "http://10.96.0.1/"] {
            let said = sidecar.explain(url).await.unwrap();
            let route = "rule 0 of HTTPRoute default/r";
            assert_eq!(said.summary, format!("goes to Service default/b port 80, by {route}"));
            assert_eq!(said.backends[0].endpoints[0].address, "10.0.0.2:8080", "{url}");
            assert!(said.backends[0].endpoints[0].used);
            assert_eq!(said.destination.address.as_deref(), Some("10.96.0.1"));
        }
        // Once is enough, and what is only asked about is known as after a connection.
        assert_eq!(server.requests("list services at").len(), 1);
        assert_eq!(server.requests("watch services of default/a").len(), 1);
        let said = sidecar.explain("http://c.shop/").await.unwrap();
        assert_eq!(said.summary, "goes to Service shop/c port 80: no route applies");
        // A backend of others, which the pod does not use itself.
        let said = sidecar.explain("http://b/").await.unwrap();
        assert_eq!(said.summary, "goes to Service default/b port 80: no route applies");
    });
}

#[test]
fn what_is_said_follows_the_cluster() {
    run(async {
        let server = ApiServer::new(shops());
        let sidecar = Sidecar::start(&server);
        sidecar.explain("http://a/").await.unwrap();
        server.apply(route("default/r", "default/a", &["default/a"]));
        let in_force = sidecar.live.in_force.clone();
        let follows = || {
            let routes = &in_force.load().objects.routes;
            routes.values().any(|route| route.rules[0].backends[0].name == "a")
        };
        eventually("the edit is in force", follows).await;
        let said = sidecar.explain("http://a/").await.unwrap();
        assert_eq!(said.backends[0].service, "default/a");
    });
}

#[test]
fn routes_that_were_meant_for_it_are_named() {
    run(async {
        let mut without_kind = route("default/without-kind", "default/a", &["default/b"]);
        without_kind["spec"]["parentRefs"] = json!([{"name": "a"}]);
        let mut of_another = route("default/other", "default/a", &["default/b"]);
        of_another["spec"]["parentRefs"] = json!([{"group": "", "kind": "Service", "name": "c"}]);
        let mut objects = shops();
        objects.extend([without_kind, of_another]);
        let sidecar = Sidecar::start(&ApiServer::new(objects));
        for (url, route, why) in [
            (
                "http://a/",
                "HTTPRoute default/without-kind",
                "its parentRef is a Gateway, as one without a kind is; write group: \"\" and kind: \
                 Service",
            ),
            (
                "http://c.shop/",
                "HTTPRoute default/other",
                "its parentRef means Service default/c, as one without a namespace is of the \
                 route's own; add namespace: shop",
            ),
        ] {
            let said = sidecar.explain(url).await.unwrap();
            let left_out: Vec<_> = said.routes.iter().filter(|it| !it.applies).collect();
            assert_eq!(left_out.len(), 1, "{said}");
            assert_eq!((left_out[0].route.as_str(), left_out[0].because.as_str()), (route, why));
        }
    });
}

#[test]
fn what_cannot_be_explained_says_why() {
    run(async {
        let server = ApiServer::new(shops());
        let sidecar = Sidecar::start(&server);
        for (url, expected) in [
            ("http://nobody/", "the cluster has no Service default/nobody;"),
            ("http://a.nowhere/", "the cluster has no Service nowhere/a;"),
            ("http://www.example.com/", "www.example.com is not the name of a Service,"),
            ("http://10.1.2.3/", "10.1.2.3 is not the address of a Service"),
            ("http://a:81/", "Service default/a has no port 81; its TCP ports are 80 (http)"),
            ("http://headless.shop/", "Service shop/headless is headless,"),
        ] {
            let said = sidecar.refuse(url).await;
            assert!(said.starts_with(expected), "{url}: {said}");
        }
        server.trouble(|trouble| trouble.away = true);
        let said = sidecar.refuse("http://c.shop/").await;
        let expected = "the API server does not say whether there is a Service shop/c: ";
        assert!(said.starts_with(expected), "{said}");
        // What is known goes on being explained.
        assert!(sidecar.explain("http://a/").await.is_ok());
    });
}

/// The Service can be seen, but not what its traffic depends on.
#[test]
fn a_service_that_does_not_get_known_in_time_is_told() {
    run(async {
        let server = ApiServer::new(shops());
        server.trouble(|trouble| {
            trouble.held.insert("list endpointslices of default/a");
        });
        let sidecar = Sidecar::start(&server);
        let said = sidecar.refuse("http://a/").await;
        assert!(said.contains("the sidecar does not get to know it"), "{said}");
    });
}
