//! Through the admin port of a sidecar that runs from manifests, as `weft-proxy explain` asks it.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::FutureExt;
use serde_json::Value;
use weft_gamma::resolve::Settings;

use crate::admin::{self, AdminState};
use crate::command::explain::{Failed, ask};
use crate::explain::Words;
use crate::explain::live::Live;
use crate::publish::Publisher;
use crate::source::Snapshot;
use crate::testing::{Mesh, refusing, run};

const CANARY: &str = "
- name: jason
  matches: [{headers: [{name: end-user, value: jason}]}]
  backendRefs: [{name: v2, port: 80}]
- backendRefs: [{name: v3, port: 80}]
";

/// A sidecar whose admin port is served; the publisher is for what changes later.
fn sidecar(mesh: &Mesh) -> (SocketAddr, Publisher) {
    let settings = Settings::default();
    let mut publisher = Publisher::new(mesh.shared.clone(), "default".into(), settings);
    publisher.publish(Snapshot { objects: mesh.objects(), ..Snapshot::default() });
    let live = Arc::new(Live {
        shared: mesh.shared.clone(),
        in_force: publisher.in_force(),
        namespace: "default".into(),
        settings,
        cluster: None,
    });
    let (log, _) = crate::log::test_handle("info");
    let in_force = publisher.in_force();
    let state = AdminState {
        metrics: mesh.shared.metrics.clone(),
        readiness: Arc::default(),
        log,
        config: Arc::new(move || in_force.dump()),
        explain: Arc::new(move |question| {
            let live = live.clone();
            async move { live.explain(&question).await }.boxed()
        }),
        drain: Arc::new(|| {}),
    };
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = admin::listen(any, "admin", "--admin-port").unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(admin::serve_admin(listener, state));
    (address, publisher)
}

fn words(request: &[&str], headers: &[&str]) -> Words {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    Words { request: owned(request), headers: owned(headers) }
}

fn bookinfo() -> Mesh {
    let mesh = Mesh::new();
    let [v2, v3] = [1, 2].map(|pod| SocketAddr::from(([10, 1, 0, pod], 8080)));
    mesh.service("default/v2", "http", &[v2]);
    mesh.service("default/v3", "http", &[v3]);
    mesh.service("default/reviews", "http", &[v2, v3]);
    mesh.http_route("default/canary", "default/reviews", CANARY);
    mesh
}

#[test]
fn the_running_sidecar_is_asked_through_its_admin_port() {
    run(async {
        let mesh = bookinfo();
        let (admin, mut publisher) = sidecar(&mesh);
        let question = words(&["GET", "http://reviews/"], &["end-user: jason"]);
        let said = ask(admin, &question, false).await.unwrap();
        let summary = "=> goes to Service default/v2 port 80, by rule 0 (jason) of HTTPRoute \
                       default/canary\n";
        assert!(said.contains(summary), "{said}");
        assert!(said.contains("10.1.0.1:8080 ready"), "{said}");

        let said = ask(admin, &question, true).await.unwrap();
        let said: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["rule"]["name"], "jason");
        assert_eq!(said["matches"][0]["verdict"], "wins");
        assert_eq!(said["matches"][1]["verdict"], "outranked");
        assert_eq!(said["matches"][1]["by"], "moreHeaders");
        assert_eq!(said["backends"][0]["endpoints"][0]["used"], true);

        // What is in force now, and not what was when the sidecar started.
        mesh.endpoints("default/v2", &[]);
        publisher.publish(Snapshot { objects: mesh.objects(), ..Snapshot::default() });
        let said = ask(admin, &question, false).await.unwrap();
        let answer = "is answered by the proxy with 503 (x-weft-reason: no_ready_endpoint)";
        assert!(said.contains(answer), "{said}");
    });
}

#[test]
fn what_goes_wrong_says_what_to_do() {
    run(async {
        let mesh = bookinfo();
        let (admin, _publisher) = sidecar(&mesh);
        let asked = |url: &'static str| async move {
            ask(admin, &words(&[url], &[]), false).await.unwrap_err().to_string()
        };
        let unknown = asked("http://revews/").await;
        let names = "namespace default has reviews, v2, v3";
        assert_eq!(unknown, format!("there is no Service default/revews; {names}"));
        let port = asked("http://reviews:81/").await;
        assert_eq!(port, "Service default/reviews has no port 81; its TCP ports are 80 (http)");
        let bad = ask(admin, &words(&["ftp://reviews/"], &[]), false).await.unwrap_err();
        assert!(matches!(bad, Failed::Usage(_)), "{bad}");

        let nobody = ask(refusing(), &words(&["http://reviews/"], &[]), false).await.unwrap_err();
        let nobody = nobody.to_string();
        assert!(nobody.starts_with("no sidecar answers on 127.0.0.1:"), "{nobody}");
        assert!(nobody.contains("Connection refused"), "{nobody}");
        assert!(
            nobody.contains("kubectl exec POD -c weft-proxy -- weft-proxy explain"),
            "{nobody}"
        );
    });
}
