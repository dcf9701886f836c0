use super::*;
use crate::outbound::activity::FRAMES_OF_REQUEST;
use crate::testing::{Mesh, run};

const SECOND: Duration = Duration::from_secs(1);

fn limits() -> Limits {
    let mut limits = Mesh::limits();
    (limits.header_timeout, limits.client_idle_timeout) = (10 * SECOND, 60 * SECOND);
    (limits.http2_max_resets, limits.http2_max_empty_frames) = (10, 100);
    limits
}

/// A connection of HTTP/2 that is looked at every second.
struct Scenario {
    activity: Rc<Activity>,
    clients: Clients,
    now: Instant,
    limits: Limits,
}

impl Scenario {
    fn new() -> Self {
        let limits = limits();
        let clients = Clients::default();
        let activity = Activity::new(&limits, &clients.pace);
        clients.add_http2(&activity);
        Self { activity, clients, now: Instant::now(), limits }
    }

    /// Lets seconds pass; returns after how many it was ended.
    fn pass(&mut self, seconds: u32) -> Option<(u32, Verdict)> {
        for second in 1..=seconds {
            self.now += SECOND;
            self.clients.look(self.now, SECOND, &self.limits);
            if let Some(verdict) = self.activity.verdict() {
                return Some((second, verdict));
            }
        }
        None
    }
}

#[test]
fn a_block_of_headers_that_does_not_end_is_a_head() {
    let mut scenario = Scenario::new();
    scenario.activity.request_begins();
    scenario.activity.set_in_header_block(true);
    assert_eq!(scenario.pass(20), Some((11, Verdict::HeaderTimeout)));
}

#[test]
fn an_idle_connection_is_ended_late() {
    let mut scenario = Scenario::new();
    scenario.activity.request_begins();
    assert_eq!(scenario.pass(100), None, "a request may take its time");
    scenario.activity.request_ends(false);
    assert_eq!(scenario.pass(100), Some((61, Verdict::IdleTimeout)));
}

#[test]
fn a_tunnel_may_be_silent_and_what_still_comes_keeps_a_connection() {
    let mut scenario = Scenario::new();
    let tunnel = scenario.activity.tunnel();
    assert_eq!(scenario.pass(1000), None);
    drop(tunnel);
    for _ in 0..10 {
        assert_eq!(scenario.pass(59), None);
        scenario.activity.has_read(Waker::noop());
    }
    assert_eq!(scenario.pass(100), Some((61, Verdict::IdleTimeout)));
}

#[test]
fn so_is_an_idle_connection_of_http_1() {
    let (clients, handle, limits) = (Clients::default(), Handle::default(), limits());
    clients.add_http1(&handle, Waker::noop());
    let mut now = Instant::now();
    let mut pass = |seconds: u32| {
        for _ in 0..seconds {
            now += SECOND;
            clients.look(now, SECOND, &limits);
        }
        handle.is_over()
    };
    assert!(!pass(100), "heads have a deadline of their own");
    handle.request_begins(false);
    assert!(!pass(100), "a request may take its time");
    handle.request_ends();
    assert!(!pass(60));
    assert!(pass(1));
}

/// Whoever is ended need not send anything to notice.
#[test]
fn the_task_of_an_idle_connection_is_woken() {
    run(async {
        let mesh = Mesh::with("default", |limits| {
            limits.client_idle_timeout = Duration::from_millis(100);
        });
        let server = crate::testing::Server::http1("one").await;
        let service = mesh.service("default/svc", "http", &[server.addr]);
        let mut client = mesh.connect(service).await;
        client.send("GET / HTTP/1.1\r\nhost: svc\r\n\r\n").await;
        assert_eq!(client.message().await.status(), 200);
        assert_eq!(client.rest().await, "");
        let mut client = mesh.connect(service).await;
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
        let (bytes, _end) = client.end().await;
        // GOAWAY without an error: no stream was begun.
        assert!(bytes.ends_with(&[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), "{bytes:?}");
        let labels = ["reason=\"idle_timeout\""];
        assert_eq!(mesh.count("weft_outbound_connections_ended_total", &labels), 2);
    });
}

#[test]
fn connections_that_have_ended_are_forgotten() {
    let scenario = Scenario::new();
    for _ in 0..10_000 {
        scenario.clients.add_http2(&Activity::new(&scenario.limits, &scenario.clients.pace));
        scenario.clients.add_http1(&Handle::default(), Waker::noop());
    }
    scenario.clients.look(scenario.now, SECOND, &scenario.limits);
    let watched = scenario.clients.watched.borrow();
    assert_eq!(watched.len(), 1);
    assert!(watched.capacity() < 1024, "{}", watched.capacity());
}

#[test]
fn abandoned_requests_are_made_up_for_by_others_and_by_time() {
    let mut scenario = Scenario::new();
    let request = |scenario: &Scenario, abandoned| {
        scenario.activity.request_begins();
        scenario.activity.request_ends(abandoned);
    };
    // As many as are answered, for ever.
    for _ in 0..1000 {
        request(&scenario, true);
        request(&scenario, false);
    }
    (0..10).for_each(|_| request(&scenario, true));
    assert_eq!(scenario.activity.verdict(), None);
    // 20 a second are forgiven.
    assert_eq!(scenario.pass(1), None);
    (0..10).for_each(|_| request(&scenario, true));
    assert_eq!(scenario.activity.verdict(), None);
    request(&scenario, true);
    assert_eq!(scenario.activity.verdict(), Some(Verdict::TooManyResets));
}

#[test]
fn empty_frames_are_made_up_for_by_requests_and_by_time() {
    let mut scenario = Scenario::new();
    for _ in 0..1000 {
        scenario.activity.spend_frames(FRAMES_OF_REQUEST);
        scenario.activity.request_begins();
        scenario.activity.request_ends(false);
    }
    scenario.activity.spend_frames(100);
    assert_eq!(scenario.pass(1), None);
    scenario.activity.spend_frames(100);
    assert_eq!(scenario.activity.verdict(), None);
    scenario.activity.spend_frames(1);
    assert_eq!(scenario.activity.verdict(), Some(Verdict::TooManyFrames));
}
