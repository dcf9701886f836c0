use std::future::poll_fn;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::outbound::pace::{Pace, SLOW_PAUSE, SLOW_TURN, TURN};
use crate::testing::{Mesh, run};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PING: u8 = 6;

/// What a request costs: [`REQUEST`].
const COST: u32 = 4;

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags, 0, 0, 0, 1]);
    bytes.extend_from_slice(payload);
    bytes
}

/// A client that has sent `bytes`, and whose connection is read from as h2 does it.
struct Reader {
    stream: ClientStream,
    activity: Rc<Activity>,
    _client: TcpStream,
}

impl Reader {
    async fn of(bytes: &[u8], pace: &Rc<Pace>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        client.write_all(bytes).await.unwrap();
        stream.readable().await.unwrap();
        let activity = Activity::new(&Mesh::limits(), pace);
        let stream = ClientStream::new(Prefixed::new(stream, Vec::new()), activity.clone());
        Self { stream, activity, _client: client }
    }

    /// Reads for one turn; nothing where there is none.
    async fn turn(&mut self) -> Vec<u8> {
        poll_fn(|cx| Poll::Ready(self.poll_turn(cx))).await
    }

    /// Waits for a turn with something to read, and reads for as long as it is.
    async fn next_turn(&mut self) -> Vec<u8> {
        poll_fn(|cx| match self.poll_turn(cx) {
            read if read.is_empty() => Poll::Pending,
            read => Poll::Ready(read),
        })
        .await
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Vec<u8> {
        self.activity.turn_begins();
        let mut read = Vec::new();
        let mut room = [0; 8 * 1024];
        loop {
            let mut buf = ReadBuf::new(&mut room);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buf) {
                Poll::Ready(ended) => ended.unwrap(),
                Poll::Pending => return read,
            }
            read.extend_from_slice(buf.filled());
        }
    }
}

/// However it came: in one piece, larger than what is read at a time.
#[test]
fn a_turn_ends_with_its_frames_and_nothing_is_lost() {
    run(async {
        let request = frame(HEADERS, 5, &[0x82; 10]);
        let ping = frame(PING, 0, &[0; 8]);
        let large = frame(HEADERS, 5, &[0x82; 2048]);
        for (unit, cost) in [(request, COST), (ping, 1), (large, COST + 8)] {
            let bytes = [PREFACE, &unit.repeat(200)].concat();
            let mut reader = Reader::of(&bytes, &Pace::new()).await;
            let mut read = Vec::new();
            let mut first = true;
            while read.len() < bytes.len() {
                // How slow it gets is not what is tested here.
                reader.activity.earn_frames(u32::MAX);
                let turn = reader.next_turn().await;
                let before = if std::mem::take(&mut first) { PREFACE.len() } else { 0 };
                // With what was left of a frame that the turn before had begun.
                let most = (TURN.div_ceil(cost) as usize + 1) * unit.len() + before;
                assert!(turn.len() <= most, "{} of {most} bytes", turn.len());
                read.extend(turn);
            }
            assert!(read == bytes, "it was changed");
        }
    });
}

/// Heads first, as clients send them that have many at once.
#[test]
fn sixteen_calls_come_with_their_messages() {
    run(async {
        let heads = frame(HEADERS, 4, &[0x82; 10]).repeat(16);
        let messages = frame(DATA, 1, &[b'x'; 64]).repeat(16);
        let bytes = [PREFACE, &heads, &messages].concat();
        let mut reader = Reader::of(&bytes, &Pace::new()).await;
        assert!(reader.next_turn().await == bytes, "not in one turn");
    });
}

#[test]
fn content_is_read_in_one_turn() {
    run(async {
        let bytes = [PREFACE, &frame(DATA, 0, &[b'x'; 16_000]).repeat(20)].concat();
        let mut reader = Reader::of(&bytes, &Pace::new()).await;
        let mut read = 0;
        // What has yet to come through the kernel has its own.
        for turns in 1.. {
            read += reader.next_turn().await.len();
            assert!(turns <= 20);
            if read == bytes.len() {
                break;
            }
        }
    });
}

#[test]
fn whoever_is_slow_waits_however_often_it_is_polled() {
    run(async {
        let ping = frame(PING, 0, &[0; 8]);
        let bytes = [PREFACE, &ping.repeat(500)].concat();
        let mut reader = Reader::of(&bytes, &Pace::new()).await;
        let mut read = 0;
        while !reader.activity.is_slow() {
            read += reader.next_turn().await.len();
        }
        for _ in 0..1000 {
            assert!(reader.turn().await.is_empty());
        }
        let began = Instant::now();
        for _ in 0..5 {
            let turn = reader.next_turn().await.len();
            assert_eq!(turn, SLOW_TURN as usize * ping.len());
            read += turn;
        }
        assert!(began.elapsed() >= 4 * SLOW_PAUSE, "{:?}", began.elapsed());
        assert!(read < bytes.len());
    });
}

#[test]
fn after_misuse_a_new_connection_waits_for_its_first_turn() {
    run(async {
        let pace = Pace::new();
        let bytes = [PREFACE, &frame(PING, 0, &[0; 8])].concat();
        assert_eq!(Reader::of(&bytes, &pace).await.turn().await, bytes);
        pace.is_misused();
        let mut reader = Reader::of(&bytes, &pace).await;
        assert!(reader.turn().await.is_empty());
        assert_eq!(reader.next_turn().await, bytes);
    });
}

/// Else it would come too late: when the request has been answered, and with that been made up for.
#[test]
fn a_reset_is_read_in_the_turn_of_its_request() {
    run(async {
        let request = frame(HEADERS, 5, &[0x82; 10]);
        let reset = frame(RST_STREAM, 0, &[0, 0, 0, 8]);
        let pair = [request, reset].concat();
        let bytes = [PREFACE, &frame(PING, 0, &[0; 8]), &pair.repeat(100)].concat();
        let mut reader = Reader::of(&bytes, &Pace::new()).await;
        let mut read = 0;
        while read < bytes.len() {
            reader.activity.earn_frames(u32::MAX);
            read += reader.next_turn().await.len();
            assert_eq!((bytes.len() - read) % pair.len(), 0, "in between");
        }
    });
}
