//! Counts requests by the value of a header, to tell which came more than once.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use http::{HeaderName, Request};
use weft_tests::answer::Counted;

/// So many values that came more than once are told.
const REPEATED: usize = 100;

pub(crate) struct Counter {
    header: HeaderName,
    /// By method and value.
    seen: Mutex<HashMap<(String, String), u64>>,
}

impl Counter {
    pub(crate) fn new(header: HeaderName) -> Self {
        Self { header, seen: Mutex::default() }
    }

    /// Requests without the header do not count.
    pub(crate) fn count<B>(&self, request: &Request<B>) {
        let Some(value) = request.headers().get(&self.header) else { return };
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen.entry((request.method().to_string(), value)).or_default() += 1;
    }

    /// [`Counted`] as JSON.
    pub(crate) fn tell(&self) -> String {
        let mut counted = Counted::new();
        for ((method, value), times) in &*self.seen.lock().unwrap_or_else(PoisonError::into_inner) {
            let counts = counted.entry(method.clone()).or_default();
            counts.requests += times;
            counts.values += 1;
            if *times > 1 && counts.repeated.len() < REPEATED {
                counts.repeated.push(value.clone());
            }
        }
        serde_json::to_string(&counted).unwrap_or_else(|error| error.to_string())
    }
}
