//! A client that holds connections open, on each of which one request was answered.

use anyhow::Result;

use super::paced::Client;

/// Connections that are open as long as it is there.
pub(crate) struct Held {
    _clients: Vec<Client>,
}

pub(crate) fn hold(target: &str, connections: usize) -> Result<Held> {
    let mut clients = Vec::with_capacity(connections);
    for _ in 0..connections {
        let mut client = Client::connect(target)?;
        client.get()?;
        clients.push(client);
    }
    Ok(Held { _clients: clients })
}
