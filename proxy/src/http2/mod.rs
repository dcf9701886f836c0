//! HTTP/2 on h2 itself, and what of a request and its answer is not h2's: [`client`] speaks it to endpoints,
//! [`answer`] serves a client's stream. hyper's own two sides do it with more tasks, channels and looks at
//! headers.

mod answer;
mod body;
mod client;
mod send;

pub(crate) use answer::answer;
pub(crate) use body::Body;
pub(crate) use client::{Connection, Error};

/// What a broken stream says to those that it is passed on to.
fn reason(error: &(dyn std::error::Error + 'static)) -> h2::Reason {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(reason) = error.downcast_ref::<h2::Error>().and_then(h2::Error::reason) {
            return reason;
        }
        cause = error.source();
    }
    h2::Reason::INTERNAL_ERROR
}
