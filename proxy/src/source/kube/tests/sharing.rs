//! What lookups cost, and what of them is remembered.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{advance, timeout};
use weft_gamma::object::NamespacedName;
use weft_gamma::route::RouteKind;

use super::objects::{name, service, slice};
use super::scenario::Scenario;
use super::server::{ApiServer, PATIENCE};
use crate::metrics::{Metrics, MetricsSettings};
use crate::source::Lookup;
use crate::source::kube::find::{Found, NotFound};
use crate::source::kube::selection::Selection;
use crate::source::kube::view::View;
use crate::source::kube::watch::{Backoff, Change, Unavailable, Update};
use crate::source::kube::{MAX_UNKNOWN, Running, UNKNOWN_FOR};

const A: &str = "10.96.0.1";
const UNKNOWN: &str = "10.96.0.99";

fn cluster() -> ApiServer {
    ApiServer::new([service("default/a", &[A, "fd00::a"]), slice("default/a", &["10.0.0.1"])])
}

/// A run of the source that the test drives itself.
fn running(server: &ApiServer) -> (Running, mpsc::UnboundedReceiver<Update>) {
    let (updates, updated) = mpsc::unbounded_channel();
    let (found, _) = mpsc::unbounded_channel();
    let metrics = Metrics::new(&MetricsSettings::default());
    let view = View::new("default".into());
    (Running::new(server.client(), view, metrics, updates, found), updated)
}

fn found(ip: &str, service: Option<NamespacedName>) -> Found {
    Found { ip: ip.parse().unwrap(), service: Ok(service) }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_address_is_answered_quickly_and_remembered_for_a_moment() {
    let server = cluster();
    let mut scenario = Scenario::start(&server).await;
    assert!(scenario.look_up(UNKNOWN).await < Duration::from_secs(1));
    let requests = server.requests("list").len();
    scenario.look_up(UNKNOWN).await;
    assert_eq!(server.requests("list").len(), requests);
    assert_eq!(scenario.count, 1, "nothing to publish");

    server.apply(service("default/late", &[UNKNOWN]));
    advance(UNKNOWN_FOR).await;
    scenario.look_up(UNKNOWN).await;
    assert!(scenario.knows("default/late"));
}

#[tokio::test(start_paused = true)]
async fn lookups_at_once_share_a_search_and_its_watches() {
    let server = cluster();
    let mut scenario = Scenario::start(&server).await;
    let hold = "list services at 10.96.0.1";
    server.trouble(|trouble| _ = trouble.held.insert(hold));
    let first = scenario.ask(A);
    server.until("the search", |server| server.requests(hold).len() == 1).await;
    let second = scenario.ask(A);
    // One that comes while the Service is found but not yet listed needs no search either.
    let slow = "list endpointslices of default/a";
    server.trouble(|trouble| {
        trouble.held.clear();
        trouble.held.insert(slow);
    });
    server.until("the slices", |server| server.requests(slow).len() == 1).await;
    let mut third = scenario.ask(A);
    let waits = timeout(Duration::from_secs(1), &mut third).await;
    assert!(waits.is_err(), "answered before all is listed");
    server.trouble(|trouble| trouble.held.clear());
    for answer in [first, second, third] {
        assert!(timeout(PATIENCE, answer).await.is_ok());
    }
    scenario.catch_up();
    assert!(scenario.knows("default/a"));
    assert_eq!(server.requests("list services").len(), 2, "one by address, one by name");
    assert_eq!(server.requests("list httproutes").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_second_address_of_a_dual_stack_service_finds_it() {
    let crowd = (0..7).map(|index| {
        let ips = [format!("10.97.0.{index}"), format!("fd00::1:{index}")];
        service(&format!("crowd/s{index}"), &[&ips[0], &ips[1]])
    });
    let server = cluster();
    crowd.for_each(|object| server.apply(object));
    server.trouble(|trouble| trouble.page = 3);
    let mut scenario = Scenario::start(&server).await;
    scenario.look_up("fd00::a").await;
    assert!(scenario.knows("default/a"));
    // All eight Services, three at a time; the addresses of the others are known by that.
    let pages = |server: &ApiServer| {
        server.requests("list services").iter().filter(|it| *it == "list services").count()
    };
    assert_eq!(pages(&server), 3);
    scenario.look_up("fd00::1:6").await;
    assert!(scenario.knows("crowd/s6"));
    assert_eq!(pages(&server), 3, "what was seen then is not looked for again");
    // Its first address needs no search: the Service is known.
    scenario.look_up(A).await;
    assert!(server.requests("list services at 10.96.0.1").is_empty());

    // Unknown ones share a look, and wait for its turn.
    let unknown = ["10.99.0.1", "10.99.0.2", "fd00::ffff"];
    let asked = unknown.map(|ip| scenario.ask(ip));
    for answered in asked {
        assert!(timeout(PATIENCE, answered).await.is_ok());
    }
    assert_eq!(pages(&server), 6, "all Services are not listed for each unknown address");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_new_is_found_by_its_second_address() {
    let server = cluster();
    let mut scenario = Scenario::start(&server).await;
    scenario.look_up("fd00::a").await;
    server.apply(service("default/new", &["10.96.0.50", "fd00::50"]));
    assert!(scenario.look_up("fd00::50").await < Duration::from_secs(2));
    assert!(scenario.knows("default/new"));
}

#[tokio::test(start_paused = true)]
async fn unknown_addresses_do_not_pile_up() {
    let (mut running, _updated) = running(&cluster());
    for index in 0..MAX_UNKNOWN + 1000 {
        let ip = format!("10.{}.{}.{}", index >> 16, (index >> 8) & 255, index & 255);
        running.found(found(&ip, None));
    }
    assert_eq!(running.unknown.len(), MAX_UNKNOWN);
    advance(UNKNOWN_FOR).await;
    running.found(found(UNKNOWN, None));
    assert_eq!(running.unknown.len(), 1);
    advance(UNKNOWN_FOR).await;
    running.forget_unused([name("default/never-wanted")].into(), Duration::ZERO);
    assert!(running.unknown.is_empty() && running.last_used.is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_has_given_up_waiting_is_not_kept() {
    let (mut running, _updated) = running(&cluster());
    let ip = A.parse().unwrap();
    running.found(found(A, Some(name("default/a"))));
    for _ in 0..1000 {
        let (answer, _) = oneshot::channel();
        running.look_up(Lookup { ip, answer });
    }
    assert_eq!(running.waiting[&name("default/a")].len(), 1);
    let (answer, answered) = oneshot::channel();
    running.look_up(Lookup { ip, answer });

    // Nor is one whose Service is let go before it is known.
    advance(Duration::from_secs(1)).await;
    running.forget_unused([].into(), Duration::ZERO);
    running.reconcile(&mut |_| ());
    assert!(running.waiting.is_empty());
    assert!(answered.await.is_err());
}

#[tokio::test(start_paused = true)]
async fn what_an_ended_watch_still_says_is_not_heard() {
    let (mut running, _updated) = running(&cluster());
    running.found(found(A, Some(name("default/a"))));
    running.reconcile(&mut |_| ());
    let selection = Selection::Routes(RouteKind::Http, "default".into());
    let earlier = running.watches[&selection].id;
    running.view.forget(&name("default/a"));
    running.reconcile(&mut |_| ());
    running.found(found(A, Some(name("default/a"))));
    running.reconcile(&mut |_| ());
    let now = running.watches[&selection].id;
    assert_ne!(earlier, now);
    let update = |watch, change| Update { watch, selection: selection.clone(), change };
    assert!(!running.updated(update(earlier, Change::Listed(Vec::new()))));
    assert!(running.updated(update(now, Change::Unavailable(Unavailable::NotInstalled))));
    assert!(!running.updated(update(now, Change::Current)));
    assert!(!running.updated(update(now, Change::Failed("refused".into()))));
}

#[tokio::test(start_paused = true)]
async fn what_was_not_answered_is_asked_again_soon() {
    let (mut running, _updated) = running(&cluster());
    let ip = UNKNOWN.parse().unwrap();
    running.found(Found { ip, service: Err(NotFound::Failed("refused".into())) });
    assert!(running.unknown.contains_key(&ip));
    advance(Duration::from_secs(1)).await;
    running.forget_unused([].into(), Duration::ZERO);
    assert!(running.unknown.is_empty());
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_to_their_bound_differ_and_start_over() {
    let longest = Duration::from_secs(8);
    let mut backoff = Backoff::default();
    let mut bound = Duration::from_millis(200);
    for _ in 0..100 {
        assert!(backoff.next(longest) <= bound);
        bound = (bound * 2).min(longest);
    }
    let pauses: Vec<Duration> = (0..100).map(|_| backoff.next(longest)).collect();
    assert!(pauses.iter().any(|pause| *pause < longest / 2));
    assert!(pauses.iter().any(|pause| *pause > longest / 2));
    advance(Duration::from_secs(300)).await;
    assert!(backoff.next(longest) <= Duration::from_millis(200));
}
