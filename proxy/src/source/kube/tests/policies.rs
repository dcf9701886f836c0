//! XBackendTrafficPolicies, which most clusters do not have.

use std::time::Duration;

use serde_json::Value;
use weft_gamma::policy;

use super::objects::{name, policy, route, service, slice};
use super::scenario::Scenario;
use super::server::ApiServer;

const A: &str = "10.96.0.1";

/// A Service `default/a`, whose route leads to `shop/b`.
fn objects() -> Vec<Value> {
    vec![
        service("default/a", &[A]),
        slice("default/a", &["10.0.0.1"]),
        service("shop/b", &["10.96.0.2"]),
        slice("shop/b", &["10.0.0.2"]),
        route("default/r", "default/a", &["shop/b"]),
        policy("shop/p", "b", 5),
    ]
}

/// How much of the requests to `shop/b` may be retries.
fn percent(scenario: &Scenario) -> u32 {
    let retries = policy::resolve(&scenario.latest.objects).retries;
    retries.get(&name("shop/b")).copied().unwrap_or_default().percent
}

fn watched(server: &ApiServer) -> Vec<String> {
    let watched = server.watched().into_iter();
    watched.filter(|it| it.starts_with("xbackendtrafficpolicies")).collect()
}

#[tokio::test(start_paused = true)]
async fn policies_of_the_backends_namespaces_apply_and_change() {
    let server = ApiServer::new(objects());
    server.trouble(|trouble| trouble.experimental = true);
    let mut scenario = Scenario::start(&server).await;
    scenario.look_up(A).await;
    scenario.until("the policy", |it| percent(it) == 5).await;
    let expected = ["xbackendtrafficpolicies of default", "xbackendtrafficpolicies of shop"];
    assert_eq!(watched(&server), expected);
    server.apply(policy("shop/p", "b", 7));
    scenario.until("its edit", |it| percent(it) == 7).await;
    server.delete(&policy("shop/p", "b", 7));
    scenario.until("its end", |it| percent(it) == 20).await;
    assert_eq!(scenario.problems(), "");
}

#[tokio::test(start_paused = true)]
async fn where_the_kind_is_not_installed_nothing_asks_for_it_and_nothing_waits() {
    let server = ApiServer::new(objects());
    let mut scenario = Scenario::start(&server).await;
    scenario.used.lock().unwrap().insert(name("default/a"));
    assert!(scenario.look_up(A).await < Duration::from_secs(1));
    assert_eq!((percent(&scenario), scenario.problems().as_str()), (20, ""));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(server.requests("list xbackendtrafficpolicies").is_empty());

    // It is found when it comes, and let go when it goes.
    server.trouble(|trouble| trouble.experimental = true);
    scenario.until("the policy", |it| percent(it) == 5).await;
    server.trouble(|trouble| trouble.experimental = false);
    server.until("the watches end", |server| watched(server).is_empty()).await;
    scenario.until("the default", |it| percent(it) == 20).await;
    assert_eq!(scenario.problems(), "");
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_does_not_answer_takes_no_policy_away() {
    let server = ApiServer::new(objects());
    server.trouble(|trouble| trouble.experimental = true);
    let mut scenario = Scenario::start(&server).await;
    scenario.used.lock().unwrap().insert(name("default/a"));
    scenario.look_up(A).await;
    scenario.until("the policy", |it| percent(it) == 5).await;
    server.trouble(|trouble| trouble.away = true);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    scenario.catch_up();
    assert_eq!(percent(&scenario), 5);
}
