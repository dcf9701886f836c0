use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpListener;

use super::{ConnectSettings, tcp};
use crate::testing::{notices_silence, run};

#[test]
fn connections_to_endpoints_notice_a_peer_that_is_gone() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let settings = ConnectSettings { timeout: Duration::from_secs(5) };
        let stream = tcp(listener.local_addr().unwrap(), &settings).await.unwrap();
        assert!(notices_silence(&SockRef::from(&stream)));
        assert!(stream.nodelay().unwrap());
    });
}
