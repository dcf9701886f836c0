//! Attacks that hold connections, or make and close them.

use std::io;
use std::time::Duration;

use anyhow::Result;

use super::Attacker;
use super::wire::Wire;

/// Between two pieces of what is sent slowly.
const SLOWLY: Duration = Duration::from_millis(200);

impl Attacker<'_> {
    /// Holds as many connections as the options say: each sends `first`, and `then` again and again. One
    /// that is ended is made again.
    pub(super) fn hold(&mut self, first: Option<&[u8]>, then: &[u8]) -> Result<()> {
        let mut held: Vec<Wire> = Vec::new();
        while !self.is_over() {
            while held.len() < self.options.connections && !self.is_over() {
                let Some(mut wire) = self.connect()? else { break };
                if wire.send(first.unwrap_or_default()).is_ok() {
                    held.push(wire);
                } else {
                    self.seen.closed += 1;
                }
            }
            std::thread::sleep(SLOWLY);
            let before = held.len();
            held.retain_mut(|wire| {
                wire.frames += 1;
                wire.send(then).is_ok()
            });
            self.seen.closed += (before - held.len()) as u64;
            self.seen.frames += held.len() as u64;
        }
        Ok(())
    }
}

/// A connection that is of no use to anybody.
pub(super) fn connect_and_close(_: &mut Attacker<'_>, wire: &mut Wire) -> io::Result<()> {
    wire.frames += 1;
    Ok(())
}
