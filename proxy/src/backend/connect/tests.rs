use std::time::Duration;

use socket2::{SockRef, Socket};
use tokio::net::TcpListener;

use super::{ConnectSettings, tcp};
use crate::outbound::{Accepted, serve_redirected};
use crate::testing::{Mesh, connected, eventually, run};

/// Whether a peer that has gone without a word is noticed within 30 s, whatever is under way.
fn notices_silence(socket: &Socket) -> bool {
    let seconds = Duration::from_secs;
    socket.keepalive().unwrap()
        && socket.tcp_keepalive_time().unwrap() == seconds(15)
        && socket.tcp_keepalive_interval().unwrap() == seconds(5)
        && socket.tcp_keepalive_retries().unwrap() == 3
        && socket.tcp_user_timeout().unwrap() == Some(seconds(30))
}

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

#[test]
fn connections_of_clients_notice_a_peer_that_is_gone() {
    run(async {
        let mesh = Mesh::new();
        let service = mesh.service("default/svc", "http", &[]);
        let (_client, stream) = connected().await;
        let socket = SockRef::from(&stream).try_clone().unwrap();
        assert!(!notices_silence(&socket), "the kernel's own is another");
        let accepted = Accepted { client: stream.peer_addr().unwrap(), original: service, stream };
        tokio::task::spawn_local(serve_redirected(mesh.worker.clone(), accepted));
        eventually("the options are set", || notices_silence(&socket)).await;
    });
}
