//! One run at a time in a network namespace.
//!
//! `run` takes its turn before it reads the rules and keeps it until they are verified: iptables
//! has no way to say "write this if nothing has changed since I looked", and two runs that look at
//! the same moment would both add their jump.
//!
//! A turn is a name among the abstract Unix sockets, of which every network namespace has its own:
//! the very scope of the rules, without a file, and free again when the process ends.

use std::io::{self, ErrorKind, Read};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::{Duration, Instant};

use thiserror::Error;

const NAME: &str = "weft.mesh/init";

/// Another run takes well under a second.
const PATIENCE: Duration = Duration::from_secs(30);

/// Held while this exists.
#[derive(Debug)]
pub struct Turn {
    _listener: UnixListener,
}

impl Turn {
    /// Waits until no other run has its turn in this network namespace, for 30 seconds at most.
    pub fn take() -> Result<Turn, TurnError> {
        let name = SocketAddr::from_abstract_name(NAME)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match UnixListener::bind_addr(&name) {
                Ok(listener) => return Ok(Turn { _listener: listener }),
                Err(error) if error.kind() == ErrorKind::AddrInUse => {}
                Err(error) => return Err(TurnError::Socket(error)),
            }
            let patience = deadline.saturating_duration_since(Instant::now());
            if patience.is_zero() {
                return Err(TurnError::Taken);
            }
            // The other run never answers; the connection ends when that run does. If none can
            // be made, it has just ended or has not quite begun.
            if let Ok(mut other) = UnixStream::connect_addr(&name) {
                other.set_read_timeout(Some(patience))?;
                let _ = other.read(&mut [0]);
            }
        }
    }
}

/// Why a run could not begin.
#[derive(Debug, Error)]
pub enum TurnError {
    #[error(
        "another weft-init has been at work in this network namespace for {} seconds: find out \
         what it waits for, or end it", PATIENCE.as_secs()
    )]
    Taken,
    #[error("no socket could be made to keep other runs of weft-init waiting: {0}")]
    Socket(#[from] io::Error),
}
