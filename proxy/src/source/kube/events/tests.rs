//! Lines that come in pieces, and how a watch ends.

use futures_util::{TryStreamExt, stream};

use super::*;

fn events(pieces: Vec<io::Result<&'static str>>) -> Events {
    let pieces = stream::iter(pieces).map_ok(str::as_bytes);
    Events { lines: Box::pin(pieces.into_async_read()) }
}

fn name(event: Option<kube::Result<WatchEvent<LeanObject>>>) -> String {
    match event.unwrap().unwrap() {
        WatchEvent::Added(object) => object.metadata.name.unwrap(),
        other => panic!("{other:?}"),
    }
}

const ONE: &str = "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"one\"}}}\n";
const TWO: &str = "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"two\"}}}\n";

#[tokio::test]
async fn events_are_lines_however_they_are_cut() {
    let (begin, end) = ONE.split_at(20);
    let mut events = events(vec![Ok(begin), Ok(end), Ok(TWO), Ok(&ONE[..5])]);
    assert_eq!(name(events.next().await), "one");
    assert_eq!(name(events.next().await), "two");
    assert!(events.next().await.is_none(), "the rest is no event");
}

#[tokio::test]
async fn a_connection_that_is_cut_off_is_the_end() {
    let plain = io::Error::from(io::ErrorKind::UnexpectedEof);
    let wrapped = io::Error::other(io::Error::other(io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "unexpected EOF during chunk size line",
    )));
    for cut in [plain, wrapped] {
        let mut events = events(vec![Ok(ONE), Err(cut)]);
        assert_eq!(name(events.next().await), "one");
        assert!(events.next().await.is_none());
    }
}

#[tokio::test]
async fn other_errors_are_told() {
    let mut broken = events(vec![Err(io::ErrorKind::ConnectionReset.into())]);
    assert!(matches!(broken.next().await, Some(Err(kube::Error::ReadEvents(_)))));
    let mut gone = events(vec![Ok("{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"code\":410}\n")]);
    match gone.next().await {
        Some(Err(kube::Error::Api(status))) => assert_eq!(status.code, 410),
        other => panic!("{other:?}"),
    }
    let mut nonsense = events(vec![Ok("<html>\n")]);
    assert!(matches!(nonsense.next().await, Some(Err(kube::Error::SerdeError(_)))));
}
