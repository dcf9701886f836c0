//! The backend as a client ([`crate::work::CLIENT`]): one thread for both, which never sleeps. Where a client
//! and the backend wake each other, that takes half of their core's time.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::str::FromStr;

use anyhow::{Context, Result, bail};

use crate::work::CLIENT;

/// What the backend is at.
pub(super) struct Task {
    backend: TcpStream,
    asked: String,
}

impl Task {
    pub(super) fn begin(asked: &str) -> Result<Task> {
        let mut backend =
            TcpStream::connect((Ipv4Addr::LOCALHOST, CLIENT)).context("the backend")?;
        backend.write_all(asked.as_bytes())?;
        backend.shutdown(Shutdown::Write)?;
        Ok(Task { backend, asked: asked.to_owned() })
    }

    /// Waits until it is done; returns the numbers that came of it.
    pub(super) fn end<T: FromStr>(mut self) -> Result<Vec<T>> {
        let mut said = String::new();
        self.backend.read_to_string(&mut said)?;
        match said.split_whitespace().map(str::parse).collect() {
            Ok(numbers) => Ok(numbers),
            Err(_) => bail!("{}: {said}", self.asked),
        }
    }
}
