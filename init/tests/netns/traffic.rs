//! Which connections reach the sidecar, and which do not.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

use crate::support::{
    FarSide, SERVICES, Sidecar, connect, connect_as, dropped, in_netns, original_destination,
    patient, run, weft_init,
};

const PROXY_UID: u32 = 65101;

fn to(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

#[track_caller]
fn is_redirected(sidecar: &Sidecar, destination: SocketAddr) {
    let _client = connect(destination);
    let accepted = sidecar.accept(destination);
    assert_eq!(original_destination(&accepted), destination);
}

/// The connection is one to the far side itself, and so is none to the sidecar.
#[track_caller]
fn is_left_alone(sidecar: &Sidecar, far: &FarSide, destination: SocketAddr) {
    let client = connect(destination);
    let (accepted, _) = far.listener.accept().unwrap();
    assert_eq!(accepted.peer_addr().unwrap().port(), client.local_addr().unwrap().port());
    sidecar.saw_nothing();
}

fn services(more: &[&str], sidecar: &Sidecar) {
    let ranges = format!("--service-cidrs={}", SERVICES.join(","));
    let option = sidecar.option();
    weft_init(&[&[ranges.as_str(), option.as_str()], more].concat()).succeeded();
}

fn service_connections_go_to_the_sidecar(engine: &str) {
    let (far, sidecar) = (FarSide::new(), Sidecar::new());
    for address in ["10.96.0.10", "fd00:96::10"] {
        is_left_alone(&sidecar, &far, to(address, far.port()));
    }
    services(&[engine], &sidecar);
    for address in ["10.96.0.10", "10.111.255.254", "fd00:96::10", "fd00:96::ffff"] {
        for port in [80, far.port()] {
            is_redirected(&sidecar, to(address, port));
        }
    }
    for address in ["192.0.2.1", "2001:db8::1", "10.1.0.1", "fd00:1::1"] {
        is_left_alone(&sidecar, &far, to(address, far.port()));
    }
    weft_init(&["--cleanup"]).succeeded();
    for address in ["10.96.0.10", "fd00:96::10"] {
        is_left_alone(&sidecar, &far, to(address, far.port()));
    }
}

#[test]
fn service_connections_go_to_the_sidecar_nft() {
    in_netns(|| service_connections_go_to_the_sidecar("--iptables=nft"));
}

#[test]
fn service_connections_go_to_the_sidecar_legacy() {
    in_netns(|| service_connections_go_to_the_sidecar("--iptables=legacy"));
}

fn what_the_sidecar_sends_is_not_redirected(engine: &str) {
    let (far, sidecar) = (FarSide::new(), Sidecar::new());
    services(&[engine, "--include-outbound-cidrs=*"], &sidecar);
    for address in ["10.96.0.10", "192.0.2.1", "fd00:96::10", "2001:db8::1"] {
        let destination = to(address, far.port());
        let client = connect_as(PROXY_UID, destination);
        let (accepted, _) = far.listener.accept().unwrap();
        assert_eq!(accepted.peer_addr().unwrap().port(), client.local_addr().unwrap().port());
        sidecar.saw_nothing();
        // And one who is not the sidecar, for comparison.
        let _client = connect_as(PROXY_UID + 1, destination);
        assert_eq!(original_destination(&sidecar.accept(destination)), destination);
    }
}

#[test]
fn what_the_sidecar_sends_is_not_redirected_nft() {
    in_netns(|| what_the_sidecar_sends_is_not_redirected("--iptables=nft"));
}

#[test]
fn what_the_sidecar_sends_is_not_redirected_legacy() {
    in_netns(|| what_the_sidecar_sends_is_not_redirected("--iptables=legacy"));
}

fn exclusions_are_exclusions(engine: &str) {
    let (far, sidecar) = (FarSide::new(), Sidecar::new());
    // The far side's port is the last of more than one match can take.
    let mut ports: Vec<String> = (1..=20).map(|n| (2 * n).to_string()).collect();
    ports.push(format!("{}-65535", far.port()));
    services(&[engine, &format!("--exclude-outbound-ports={}", ports.join(","))], &sidecar);
    for address in ["10.96.0.10", "fd00:96::10"] {
        is_left_alone(&sidecar, &far, to(address, far.port()));
        is_redirected(&sidecar, to(address, 41));
        is_redirected(&sidecar, to(address, far.port() - 1));
    }
    services(
        &[
            engine,
            "--exclude-outbound-cidrs=10.96.0.0/24,fd00:96::/120",
            "--include-outbound-cidrs=*",
        ],
        &sidecar,
    );
    for address in ["10.96.0.10", "fd00:96::10"] {
        is_left_alone(&sidecar, &far, to(address, far.port()));
    }
    for address in ["10.96.1.10", "192.0.2.1", "fd00:96::1:10", "2001:db8::1"] {
        is_redirected(&sidecar, to(address, far.port()));
    }
}

#[test]
fn exclusions_are_exclusions_nft() {
    in_netns(|| exclusions_are_exclusions("--iptables=nft"));
}

#[test]
fn exclusions_are_exclusions_legacy() {
    in_netns(|| exclusions_are_exclusions("--iptables=legacy"));
}

#[test]
fn connections_within_the_pod_are_left_alone() {
    in_netns(|| {
        let (_far, sidecar) = (FarSide::new(), Sidecar::new());
        services(&["--include-outbound-cidrs=*"], &sidecar);
        let own = std::net::TcpListener::bind("[::]:0").unwrap();
        patient(&own);
        let port = own.local_addr().unwrap().port();
        for address in ["127.0.0.1", "127.8.9.10", "10.1.0.2", "::1", "fd00:1::2"] {
            let client = connect(to(address, port));
            let (accepted, _) = own.accept().unwrap();
            assert_eq!(accepted.peer_addr().unwrap().port(), client.local_addr().unwrap().port());
            sidecar.saw_nothing();
        }
    });
}

/// A redirected connection, as both of its ends see it, that conntrack has just forgotten.
fn forgotten_connection(sidecar: &Sidecar, destination: SocketAddr) -> (TcpStream, TcpStream) {
    let mut client = connect(destination);
    let mut accepted = sidecar.accept(destination);
    accepted.set_read_timeout(client.read_timeout().unwrap()).unwrap();
    accepted.set_nodelay(true).unwrap();
    accepted.write_all(b"hello").unwrap();
    assert_eq!(read(&mut client, 5).unwrap(), b"hello");
    forget_connections();
    (client, accepted)
}

fn read(stream: &mut TcpStream, length: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Has the kernel forget every connection that it tracks in this namespace, as `conntrack -F`
/// does: the message IPCTNL_MSG_CT_DELETE of ctnetlink without anything that narrows it down.
fn forget_connections() {
    const TYPE: u16 = (1 << 8) | 2;
    const REQUEST_AND_ACKNOWLEDGE: u16 = 1 | 4;
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )
    .unwrap();
    let mut message = Vec::new();
    message.extend(20_u32.to_ne_bytes());
    message.extend(TYPE.to_ne_bytes());
    message.extend(REQUEST_AND_ACKNOWLEDGE.to_ne_bytes());
    // Sequence and port; then any family, version 0, no resource.
    message.extend([0; 12]);
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&netlink);
    sendto(descriptor, &message, &NetlinkAddr::new(0, 0), MsgFlags::empty()).unwrap();
    let mut answer = [0; 256];
    let length = recv(descriptor, &mut answer, MsgFlags::empty()).unwrap();
    assert!(length >= 20);
    // NLMSG_ERROR with the error 0: done.
    assert_eq!(answer[4..6], 2_u16.to_ne_bytes());
    assert_eq!(answer[16..20], [0; 4]);
}

fn an_answer_survives_the_loss_of_its_connection(program: &str, address: &str) {
    let (_far, sidecar) = (FarSide::new(), Sidecar::new());
    services(&["--iptables=nft"], &sidecar);
    let (mut client, mut accepted) = forgotten_connection(&sidecar, to(address, 80));
    accepted.write_all(b"answer").unwrap();
    assert!(dropped(program, "--sport") > 0);
    // The application says something, and its connection is known again.
    client.write_all(b"?").unwrap();
    assert_eq!(read(&mut accepted, 1).unwrap(), b"?");
    assert_eq!(read(&mut client, 6).unwrap(), b"answer");
}

#[test]
fn an_answer_survives_the_loss_of_its_connection_ipv4() {
    in_netns(|| an_answer_survives_the_loss_of_its_connection("iptables-nft", "10.96.0.10"));
}

#[test]
fn an_answer_survives_the_loss_of_its_connection_ipv6() {
    in_netns(|| an_answer_survives_the_loss_of_its_connection("ip6tables-nft", "fd00:96::10"));
}

/// What the guard is for: the same without it.
#[test]
fn without_the_guard_an_answer_is_reset() {
    in_netns(|| {
        let (_far, sidecar) = (FarSide::new(), Sidecar::new());
        services(&["--iptables=nft"], &sidecar);
        run("iptables-nft", &["-t", "filter", "-F", "OUTPUT"]);
        let (_client, mut accepted) = forgotten_connection(&sidecar, to("10.96.0.10", 80));
        accepted.write_all(b"answer").unwrap();
        let error = read(&mut accepted, 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn an_invalid_packet_of_the_applications_does_not_leave_the_pod() {
    in_netns(|| {
        let (_far, sidecar) = (FarSide::new(), Sidecar::new());
        services(&["--iptables=nft"], &sidecar);
        let (client, _accepted) = forgotten_connection(&sidecar, to("10.96.0.10", 80));
        let dropped = || dropped("iptables-nft", "-d 10.96.0.0/12");
        assert_eq!(dropped(), 0);
        // The end of a connection that conntrack has not seen begin is INVALID.
        client.shutdown(Shutdown::Write).unwrap();
        assert!(dropped() > 0);
    });
}

/// What the guard is for: the same without it.
#[test]
fn without_the_guard_an_invalid_packet_resets_the_application() {
    in_netns(|| {
        let (_far, sidecar) = (FarSide::new(), Sidecar::new());
        services(&["--iptables=nft"], &sidecar);
        run("iptables-nft", &["-t", "filter", "-F", "OUTPUT"]);
        let (mut client, _accepted) = forgotten_connection(&sidecar, to("10.96.0.10", 80));
        client.shutdown(Shutdown::Write).unwrap();
        let error = read(&mut client, 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}
