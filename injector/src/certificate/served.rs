//! The certificate that new TLS connections get; open ones keep theirs.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// What is served, swapped by [`super::Keeper`]. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Served {
    current: Arc<ArcSwapOption<CertifiedKey>>,
}

impl Served {
    pub fn set(&self, certified_key: Arc<CertifiedKey>) {
        self.current.store(Some(certified_key));
    }

    pub fn current(&self) -> Option<Arc<CertifiedKey>> {
        self.current.load_full()
    }
}

impl ResolvesServerCert for Served {
    /// Whatever name the client asks for: there is one certificate, and clients check its name.
    fn resolve(&self, _client: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current()
    }
}
