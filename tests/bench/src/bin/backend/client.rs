//! The backend as a client, which shares its thread: that never sleeps as long as it is one.

use std::io;

use anyhow::{Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::pace::pace;
use super::saturate::{Then, saturate};

/// Does what is asked for on a connection to [`super::work::CLIENT`], and says what came of it.
pub(super) async fn serve(mut stream: TcpStream) -> io::Result<()> {
    let mut asked = String::new();
    stream.read_to_string(&mut asked).await?;
    let said = said(&asked).await.unwrap_or_else(|error| format!("{error:#}"));
    stream.write_all(said.as_bytes()).await
}

async fn said(asked: &str) -> Result<String> {
    let words: Vec<_> = asked.split_whitespace().collect();
    match words[..] {
        ["pace", target, rate, seconds] => {
            let times = pace(target, rate, seconds).await?;
            Ok(times.iter().map(|time| format!("{time:.1}\n")).collect())
        }
        ["requests", target, seconds] => {
            Ok(saturate(target, seconds, Then::Again).await?.to_string())
        }
        ["connections", target, seconds] => {
            Ok(saturate(target, seconds, Then::Close).await?.to_string())
        }
        _ => bail!("{asked:?} is no task"),
    }
}
