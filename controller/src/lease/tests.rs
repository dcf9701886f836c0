//! Two candidates, one Lease, and time that passes at once.

use serde_json::{Value, json};

use super::*;
use crate::fake::{FakeApi, LEASES};

const LEASE: &str = "weft-system/weft";

fn candidate<'a>(api: &FakeApi, permissions: &'a Permissions, identity: &str) -> Election<'a> {
    let client = api.client();
    Election::new(client, permissions, "weft-system", "weft", identity, Timing::default())
}

async fn acquire(election: &mut Election<'_>) -> Option<Tenure> {
    election.try_acquire().await.expect("an answer")
}

fn holder(api: &FakeApi) -> Value {
    api.get(LEASES, LEASE).expect("the lease")["spec"]["holderIdentity"].clone()
}

#[tokio::test(start_paused = true)]
async fn the_first_one_creates_the_lease_and_the_second_one_waits() {
    let (api, permissions) = (FakeApi::new(), Permissions::default());
    let mut one = candidate(&api, &permissions, "one");
    let mut other = candidate(&api, &permissions, "other");
    let tenure = acquire(&mut one).await.expect("the lease");
    assert!(tenure.holds());
    assert_eq!(holder(&api), "one");
    assert!(acquire(&mut other).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn an_empty_lease_made_at_installation_is_taken() {
    let (api, permissions) = (FakeApi::new(), Permissions::default());
    let metadata = json!({ "namespace": "weft-system", "name": "weft" });
    api.put(LEASES, json!({ "metadata": metadata }));
    assert!(acquire(&mut candidate(&api, &permissions, "one")).await.is_some());
    assert_eq!(holder(&api), "one");
}

#[tokio::test(start_paused = true)]
async fn renewals_keep_the_other_one_waiting() {
    let (api, permissions) = (FakeApi::new(), Permissions::default());
    let mut one = candidate(&api, &permissions, "one");
    let mut other = candidate(&api, &permissions, "other");
    let tenure = acquire(&mut one).await.expect("the lease");
    let waits = async {
        for _ in 0..60 {
            assert!(acquire(&mut other).await.is_none());
            tokio::time::sleep(other.pause()).await;
        }
    };
    tokio::select! {
        () = one.hold() => panic!("lost"),
        () = waits => {}
    }
    assert!(tenure.holds());
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_died_is_succeeded_after_the_lease_has_ended() {
    let (api, permissions) = (FakeApi::new(), Permissions::default());
    let mut one = candidate(&api, &permissions, "one");
    acquire(&mut one).await.expect("the lease");
    drop(one);
    let mut other = candidate(&api, &permissions, "other");
    let begin = Instant::now();
    while acquire(&mut other).await.is_none() {
        tokio::time::sleep(other.pause()).await;
    }
    let waited = begin.elapsed();
    assert!(waited >= Duration::from_secs(15) && waited < Duration::from_secs(18), "{waited:?}");
    assert_eq!(holder(&api), "other");
    let lease = api.get(LEASES, LEASE).expect("the lease");
    assert_eq!(lease["spec"]["leaseTransitions"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_released_lease_is_taken_at_once() {
    let (api, permissions) = (FakeApi::new(), Permissions::default());
    let mut one = candidate(&api, &permissions, "one");
    let mut other = candidate(&api, &permissions, "other");
    let tenure = acquire(&mut one).await.expect("the lease");
    assert!(acquire(&mut other).await.is_none());
    one.release().await;
    assert!(!tenure.holds());
    assert!(acquire(&mut other).await.is_some());
    // A second release is not about the other one's lease.
    one.release().await;
    assert_eq!(holder(&api), "other");
}

#[tokio::test(start_paused = true)]
async fn a_restarted_replica_takes_its_own_lease_up_at_once() {
    let (api, permissions) = (FakeApi::new(), Permissions::default());
    acquire(&mut candidate(&api, &permissions, "one")).await.expect("the lease");
    assert!(acquire(&mut candidate(&api, &permissions, "one")).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_holder_without_an_api_server_stops_before_others_may_begin() {
    let (api, permissions) = (FakeApi::new(), Permissions::default());
    let mut one = candidate(&api, &permissions, "one");
    let tenure = acquire(&mut one).await.expect("the lease");
    api.set_unreachable(true);
    let begin = Instant::now();
    one.hold().await;
    assert!(!tenure.holds());
    // With the longest request that had begun before.
    let ended = begin.elapsed() + crate::request::DEADLINE;
    assert!(ended < Timing::default().duration, "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn a_short_failure_does_not_end_the_tenure() {
    let (api, permissions) = (FakeApi::new(), Permissions::default());
    let mut one = candidate(&api, &permissions, "one");
    let tenure = acquire(&mut one).await.expect("the lease");
    api.set_unreachable(true);
    let comes_back = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        api.set_unreachable(false);
        tokio::time::sleep(Duration::from_secs(60)).await;
    };
    tokio::select! {
        () = one.hold() => panic!("lost"),
        () = comes_back => {}
    }
    assert!(tenure.holds());
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_labelled_is_still_held_and_one_that_was_taken_is_lost() {
    let (api, permissions) = (FakeApi::new(), Permissions::default());
    let mut one = candidate(&api, &permissions, "one");
    let tenure = acquire(&mut one).await.expect("the lease");
    let labelled_then_taken = async {
        let mut lease = api.get(LEASES, LEASE).expect("the lease");
        lease["metadata"]["labels"] = json!({ "a": "b" });
        api.put(LEASES, lease);
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert!(tenure.holds());
        let mut lease = api.get(LEASES, LEASE).expect("the lease");
        lease["spec"]["holderIdentity"] = json!("other");
        api.put(LEASES, lease);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = one.hold() => {}
        () = labelled_then_taken => {}
    }
    assert!(!tenure.holds());
    one.release().await;
    assert_eq!(holder(&api), "other");
}
