//! Two joined connections over loopback: every byte, every end, every reset.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{BULK, Bulk, PIPES, Passed, join};
use crate::prefixed::Prefixed;
use crate::socket;

/// Long enough for the slowest machine; nothing waits for it unless something is broken.
const PATIENCE: Duration = Duration::from_secs(60);

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("in time") });
}

/// Two ends of a connection.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (one, other) = tokio::join!(TcpStream::connect(address), listener.accept());
    (one.unwrap(), other.unwrap().0)
}

/// Bytes of which no two stretches are alike.
fn bytes(length: u64, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..length).map(|_| random.u8(..)).collect()
}

async fn read_all(stream: &mut (impl AsyncReadExt + Unpin)) -> std::io::Result<Vec<u8>> {
    let mut read = Vec::new();
    stream.read_to_end(&mut read).await.map(|_| read)
}

#[test]
fn every_byte_passes_both_ways_whatever_there_is_of_it() {
    run(async {
        // None, little, about as much as makes a pipe worth it, and much.
        for length in [0, 1, 70_000, BULK - 1, BULK, BULK + 1, 5 * BULK + 17] {
            let (mut client, near) = pair().await;
            let (far, mut backend) = pair().await;
            let mut near = Prefixed::new(near, b"first".to_vec());
            let passed = Passed::default();
            let (there, back) = (bytes(length, 1), bytes(length, 2));
            let ask = async {
                let (mut reader, mut writer) = client.split();
                let write = async {
                    writer.write_all(&there).await.unwrap();
                    writer.shutdown().await.unwrap();
                };
                tokio::join!(write, read_all(&mut reader)).1.unwrap()
            };
            let answer = async {
                let (mut reader, mut writer) = backend.split();
                let write = async {
                    writer.write_all(&back).await.unwrap();
                    writer.shutdown().await.unwrap();
                };
                tokio::join!(write, read_all(&mut reader)).1.unwrap()
            };
            let (joined, read, received) =
                tokio::join!(join(&mut near, &far, &passed), ask, answer);
            joined.unwrap();
            assert!(read == back, "{length} bytes back");
            assert!(received == [&b"first"[..], &there].concat(), "{length} bytes there");
            assert_eq!((passed.sent.get(), passed.received.get()), (length + 5, length));
        }
    });
}

#[test]
fn pipes_are_the_threads_and_wait_for_the_next_stream_while_there_is_one() {
    run(async {
        let another = Bulk::begin();
        for _ in 0..3 {
            let (mut client, near) = pair().await;
            let (far, mut backend) = pair().await;
            let mut near = Prefixed::new(near, Vec::new());
            let passed = Passed::default();
            let talk = async {
                let write = async {
                    client.write_all(&bytes(3 * BULK, 6)).await.unwrap();
                    client.shutdown().await.unwrap();
                };
                tokio::join!(write, read_all(&mut backend)).1.unwrap();
                drop(backend);
            };
            tokio::join!(join(&mut near, &far, &passed), talk).0.unwrap();
            // However often something passed, and whatever stream it was.
            assert_eq!(PIPES.with_borrow(Vec::len), 1);
        }
        drop(another);
        assert_eq!(PIPES.with_borrow(Vec::len), 0);
    });
}

#[test]
fn an_end_of_one_side_leaves_the_other_open() {
    run(async {
        let (mut client, near) = pair().await;
        let (far, mut backend) = pair().await;
        let mut near = Prefixed::new(near, Vec::new());
        let passed = Passed::default();
        let talk = async {
            client.write_all(b"all that I ask").await.unwrap();
            client.shutdown().await.unwrap();
            // The backend answers once it has heard the end.
            assert_eq!(read_all(&mut backend).await.unwrap(), b"all that I ask");
            let answer = bytes(3 * BULK, 3);
            let write = async {
                backend.write_all(&answer).await.unwrap();
                backend.shutdown().await.unwrap();
            };
            assert!(tokio::join!(write, read_all(&mut client)).1.unwrap() == answer);
        };
        tokio::join!(join(&mut near, &far, &passed), talk).0.unwrap();
    });
}

#[test]
fn who_does_not_read_holds_the_other_back() {
    run(async {
        let (client, near) = pair().await;
        let (far, backend) = pair().await;
        let mut near = Prefixed::new(near, Vec::new());
        let passed = Passed::default();
        let flood = async {
            let piece = bytes(BULK, 4);
            // Until it is stuck: the sockets and the pipe are full, and nothing moves any more.
            let mut before = 0;
            loop {
                let write = async {
                    client.writable().await.unwrap();
                    client.try_write(&piece)
                };
                let waited = tokio::time::timeout(Duration::from_millis(500), write).await;
                if waited.is_err()
                    && std::mem::replace(&mut before, passed.sent.get()) == passed.sent.get()
                {
                    return;
                }
            }
        };
        tokio::select! {
            joined = join(&mut near, &far, &passed) => panic!("{joined:?}"),
            () = flood => {}
        }
        // Through the pipe; the kernel's buffers hold no more than this.
        assert!((BULK..256 * BULK).contains(&passed.sent.get()), "{passed:?}");
        drop(backend);
    });
}

#[test]
fn a_reset_is_an_error_and_a_reset_of_the_other_side() {
    run(async {
        for before in [0, 2 * BULK] {
            let (mut client, near) = pair().await;
            let (far, mut backend) = pair().await;
            let mut near = Prefixed::new(near, Vec::new());
            let passed = Passed::default();
            let sent = bytes(before, 5);
            let talk = async {
                let mut received = vec![0; sent.len()];
                tokio::join!(async { client.write_all(&sent).await.unwrap() }, async {
                    backend.read_exact(&mut received).await.unwrap()
                });
                socket::reset_on_close(&client);
                drop(client);
            };
            let joined = tokio::join!(join(&mut near, &far, &passed), talk).0;
            assert!(joined.is_err(), "after {before} bytes");
            drop(far);
            let error = read_all(&mut backend).await.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "after {before} bytes");
        }
    });
}
