use std::net::{Ipv4Addr, TcpStream};

use socket2::SockRef;

use super::listen;
use crate::testing::notices_silence;

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
