//! The events of a watch: one a line, as JSON.
//!
//! Not by `kube::Api::watch`: that has room for 8 KiB, and for the longest event that ever came, in each of
//! some fifty watches, of which most wait most of the time.

use std::error::Error;
use std::io;
use std::pin::Pin;

use futures_util::{AsyncBufRead, AsyncBufReadExt};
use kube::api::{Api, WatchEvent, WatchParams};
use kube::core::{Request, Status};

use super::lean::LeanObject;

/// What comes of one watch.
pub(super) struct Events {
    lines: Pin<Box<dyn AsyncBufRead + Send>>,
}

/// Asks for what happens to `api`'s objects after the resource version `from`.
///
/// # Errors
///
/// What the server answers in place of a watch.
pub(super) async fn watch(
    client: &kube::Client,
    api: &Api<LeanObject>,
    params: &WatchParams,
    from: &str,
) -> kube::Result<Events> {
    let request = Request::new(api.resource_url()).watch(params, from);
    let request = request.map_err(kube::Error::BuildRequest)?;
    Ok(Events { lines: Box::pin(client.request_stream(request).await?) })
}

impl Events {
    /// The next event; None where the watch has ended, or was cut off.
    pub(super) async fn next(&mut self) -> Option<kube::Result<WatchEvent<LeanObject>>> {
        // Of this event only: what waits takes no room.
        let mut line = Vec::new();
        match self.lines.read_until(b'\n', &mut line).await {
            // A line that does not end is the beginning of an event.
            Ok(_) if line.last() == Some(&b'\n') => Some(read(&line)),
            Ok(_) => None,
            Err(error) if is_cut_off(&error) => None,
            Err(error) => Some(Err(kube::Error::ReadEvents(error))),
        }
    }
}

fn read(line: &[u8]) -> kube::Result<WatchEvent<LeanObject>> {
    serde_json::from_slice(line).map_err(|error| match serde_json::from_slice::<Status>(line) {
        Ok(status) => kube::Error::Api(Box::new(status)),
        Err(_) => kube::Error::SerdeError(error),
    })
}

/// Whether the connection was closed in the midst of the answer, as servers do that end.
fn is_cut_off(error: &(dyn Error + 'static)) -> bool {
    let is_end = |error: &io::Error| error.kind() == io::ErrorKind::UnexpectedEof;
    if error.downcast_ref().is_some_and(is_end) {
        return true;
    }
    // An I/O error that is made of another error has that one's source for its own.
    let inner = error.downcast_ref::<io::Error>().and_then(|error| error.get_ref());
    match inner {
        Some(inner) => is_cut_off(inner),
        None => error.source().is_some_and(is_cut_off),
    }
}

#[cfg(test)]
mod tests;
