//! The source when the API server is back. Time is paused.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::objects::{name, service, slice};
use super::scenario::Scenario;
use super::server::ApiServer;

const A: &str = "10.96.0.1";
const SEARCH: &str = "list services at 10.96.0.1";

/// All that a Service without routes needs.
const WATCHES: usize = 6;

/// So long that all pauses have grown to their bound.
const OUTAGE: Duration = Duration::from_secs(180);

fn server() -> ApiServer {
    ApiServer::new([service("default/a", &[A]), slice("default/a", &["10.0.0.1"])])
}

async fn known(server: &ApiServer) -> Scenario {
    let mut scenario = Scenario::start(server).await;
    scenario.look_up(A).await;
    server.until("all watches", |server| server.watched().len() == WATCHES).await;
    scenario
}

/// An outage, at the end of which the Service is still in use.
async fn outage(server: &ApiServer, scenario: &Scenario) {
    server.trouble(|trouble| trouble.away = true);
    scenario.used.lock().unwrap().insert(name("default/a"));
    sleep(OUTAGE).await;
}

#[tokio::test(start_paused = true)]
async fn the_first_watch_that_is_answered_wakes_the_others() {
    let server = server();
    let scenario = known(&server).await;
    // Pauses are random: often enough for a long one.
    for _ in 0..20 {
        outage(&server, &scenario).await;
        server.trouble(|trouble| trouble.away = false);
        server.until("one watch", |server| !server.watched().is_empty()).await;
        let first = Instant::now();
        server.until("all watches", |server| server.watched().len() == WATCHES).await;
        assert!(first.elapsed() < Duration::from_millis(100), "{:?}", first.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_needs_an_answer_wakes_all_watches() {
    let server = server();
    let mut scenario = known(&server).await;
    outage(&server, &scenario).await;
    scenario.look_up("10.96.0.9").await;
    server.trouble(|trouble| trouble.away = false);
    sleep(Duration::from_secs(1)).await;
    scenario.look_up("10.96.0.9").await;
    let answered = Instant::now();
    server.until("all watches", |server| server.watched().len() == WATCHES).await;
    assert!(answered.elapsed() < Duration::from_millis(100), "{:?}", answered.elapsed());
}

/// An API server that has just begun knows its RBAC a moment later.
#[tokio::test(start_paused = true)]
async fn a_refusal_after_an_outage_is_not_believed_for_long() {
    let server = server();
    let scenario = known(&server).await;
    for _ in 0..20 {
        outage(&server, &scenario).await;
        let refused = ["watch services", "watch endpointslices", "watch httproutes"];
        server.trouble(|trouble| {
            trouble.away = false;
            trouble.forbidden.extend(refused);
        });
        server.until("the others", |server| server.watched().len() == 3).await;
        sleep(Duration::from_secs(1)).await;
        let begun = Instant::now();
        server.trouble(|trouble| trouble.forbidden.clear());
        server.until("all watches", |server| server.watched().len() == WATCHES).await;
        // Within that second pauses have hardly been more than six, the next one's bound is 12.8 s; and
        // not the half minute that they come to after three minutes of refusals.
        assert!(begun.elapsed() < Duration::from_secs(13), "{:?}", begun.elapsed());
        // The next outage has nothing to do with this one.
        sleep(OUTAGE).await;
    }
}

#[tokio::test(start_paused = true)]
async fn watches_that_break_again_and_again_do_not_wake_each_other_without_end() {
    let server = server();
    let scenario = known(&server).await;
    server.trouble(|trouble| trouble.torn.extend(["services", "httproutes"]));
    scenario.used.lock().unwrap().insert(name("default/a"));
    let before = server.requests("watch").len();
    let attempts = |server: &ApiServer| server.requests("watch").len() - before;
    server.end_watches();
    tokio::select! {
        () = sleep(Duration::from_secs(300)) => {}
        () = server.until("a storm", |server| attempts(server) > 900) => {}
    }
    let attempts = attempts(&server);
    assert!((60..900).contains(&attempts), "{attempts} in five minutes, of two watches");
}

#[tokio::test(start_paused = true)]
async fn a_search_goes_on_when_the_connection_has_given_up() {
    let server = server();
    let mut scenario = Scenario::start(&server).await;
    server.trouble(|trouble| trouble.silent = true);
    assert_eq!(scenario.look_up(A).await, Duration::from_secs(5));
    server.trouble(|trouble| {
        trouble.silent = false;
        trouble.held.insert(SEARCH);
    });
    sleep(Duration::from_secs(1)).await;
    assert_eq!(scenario.look_up(A).await, Duration::from_secs(1), "it does not wait longer");
    assert!(!scenario.knows("default/a"));
    sleep(Duration::from_secs(1)).await;
    server.trouble(|trouble| trouble.held.clear());
    scenario.until("the Service", |it| it.knows("default/a")).await;
    assert_eq!(server.requests(SEARCH).len(), 2);
    assert_eq!(scenario.look_up(A).await, Duration::ZERO);
}
