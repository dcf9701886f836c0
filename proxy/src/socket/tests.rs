use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice, Read};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::io::AsyncWriteExt;

use super::{listen, poll_write_last};
use crate::testing::{notices_silence, run};

#[test]
fn connections_of_clients_notice_a_peer_that_is_gone() {
    let listener = listen((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    assert!(!notices_silence(&SockRef::from(&client)), "the kernel's own is another");
    let (accepted, _) = listener.accept().unwrap();
    assert!(notices_silence(&SockRef::from(&accepted)));
    assert!(accepted.nodelay().unwrap());
}

#[test]
fn connections_of_clients_are_not_paced() {
    let listener = listen((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    let congestion = SockRef::from(&accepted).tcp_congestion().unwrap();
    assert_eq!(congestion.split(|byte| *byte == 0).next(), Some(b"reno".as_slice()));
}

#[test]
fn the_last_bytes_leave_with_the_end() {
    /// Longer the kernel holds nothing back.
    const HELD: Duration = Duration::from_millis(150);
    run(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        for pieces in [&["answer"] as &[_], &["head", "", "body"]] {
            loop {
                let mut client = TcpStream::connect(addr).unwrap();
                let (mut stream, _) = listener.accept().await.unwrap();
                let began = Instant::now();
                let slices: Vec<_> =
                    pieces.iter().map(|piece| IoSlice::new(piece.as_bytes())).collect();
                let written =
                    poll_fn(|cx| poll_write_last(&mut stream, cx, &slices)).await.unwrap();
                client.set_nonblocking(true).unwrap();
                let early = client.peek(&mut [0]).map_err(|error| error.kind());
                let is_early = began.elapsed() < HELD;
                stream.shutdown().await.unwrap();
                client.set_nonblocking(false).unwrap();
                let mut seen = String::new();
                client.read_to_string(&mut seen).unwrap();
                assert_eq!((seen, written), (pieces.concat(), pieces.concat().len()));
                if is_early {
                    assert_eq!(early, Err(ErrorKind::WouldBlock), "it went by itself");
                    break;
                }
            }
        }
    });
}

#[test]
fn many_bytes_in_pieces_are_written_as_they_are() {
    run(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let large = vec![b'x'; 3000];
        let slices = [IoSlice::new(b"head"), IoSlice::new(&large)];
        let written = poll_fn(|cx| poll_write_last(&mut stream, cx, &slices)).await.unwrap();
        assert_eq!(written, 3004);
        drop(stream);
        let mut seen = Vec::new();
        client.read_to_end(&mut seen).unwrap();
        assert!(seen == [b"head".as_slice(), &large].concat());
    });
}
