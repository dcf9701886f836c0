//! RequestMirror: which requests are copied, and what the copy is. [`crate::request`] sends it.

use std::fmt;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, Method, Uri};

use crate::metrics::MirrorSeries;
use crate::table::{Draws, Target};

/// A backend that gets copies of a share of the requests.
pub(crate) struct Mirror {
    pub(crate) target: Target,
    pub(crate) series: Arc<MirrorSeries>,
    /// Above 0, and at most `denominator`.
    numerator: u32,
    denominator: u32,
    draws: Draws,
}

/// A copy of a request's head, on its way to a mirror.
#[derive(Debug)]
pub(crate) struct Mirrored<'t> {
    pub(crate) mirror: &'t Mirror,
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
}

impl Mirror {
    /// None where no request is to be copied.
    pub(crate) fn new(
        target: Target,
        series: Arc<MirrorSeries>,
        numerator: u32,
        denominator: u32,
    ) -> Option<Self> {
        let draws = Draws::new();
        (numerator > 0).then_some(Self { target, series, numerator, denominator, draws })
    }

    /// The share of the requests that is copied, in percent.
    pub(crate) fn percent(&self) -> f64 {
        (f64::from(self.numerator) * 100.0 / f64::from(self.denominator)).min(100.0)
    }

    /// A copy of the request, if it is of the share that gets one.
    ///
    /// HTTPRequestMirrorFilter.fraction: "the fraction of requests that should be mirrored to
    /// BackendRef".
    pub(super) fn copy(&self, parts: &Parts) -> Option<Mirrored<'_>> {
        let all = self.numerator >= self.denominator;
        let drawn = || self.draws.next_below(self.denominator.into()) < self.numerator.into();
        (all || drawn()).then(|| Mirrored {
            mirror: self,
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            headers: parts.headers.clone(),
        })
    }
}

impl fmt::Debug for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, share) = (&self.target.backend.name, (self.numerator, self.denominator));
        write!(f, "Mirror({name}, {} of {})", share.0, share.1)
    }
}
