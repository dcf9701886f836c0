//! What belongs into a webhook's `caBundle`: the CAs of all generations, and those of ours that are
//! there already and good, as another replica may still serve a certificate of theirs.

use std::time::SystemTime;

use pem::{EncodeConfig, LineEnding, Pem};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::generation::{Generation, is_our_ca, validity};

/// The bundle as it should be, given what it is.
///
/// What is there keeps its place, so that two replicas with the same generations never undo each
/// other's work. What is not a CA of ours goes: whoever has its key could answer in our name.
pub fn merged(before: &[u8], generations: &[Generation], now: SystemTime) -> String {
    let is_good = |ca: &CertificateDer<'_>| {
        is_our_ca(ca) && validity(ca).is_ok_and(|valid| !valid.has_ended(now))
    };
    let mut kept: Vec<CertificateDer<'static>> = Vec::new();
    for ca in authorities(before) {
        let is_known = generations.iter().any(|generation| generation.ca == ca);
        // Somebody who fills the bundle up must not make it grow without bound.
        if is_good(&ca) && !kept.contains(&ca) && (is_known || kept.len() < MOST) {
            kept.push(ca);
        }
    }
    for generation in generations {
        if !generation.valid.has_ended(now) && !kept.contains(&generation.ca) {
            kept.push(generation.ca.clone());
        }
    }
    kept.iter().map(text).collect()
}

/// More than a rotation ever needs.
const MOST: usize = 16;

/// The certificates of a bundle; what is not PEM is not there.
pub fn authorities(bundle: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(bundle).filter_map(Result::ok).collect()
}

fn text(certificate: &CertificateDer<'_>) -> String {
    let lines = EncodeConfig::new().set_line_ending(LineEnding::LF);
    pem::encode_config(&Pem::new("CERTIFICATE", certificate.to_vec()), lines)
}

#[cfg(test)]
mod tests;
