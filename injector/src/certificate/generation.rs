//! One generation: a CA, and the serving certificate that it signed with its key.
//!
//! `keeper` issues them and `secret` reads them back; what was read is checked as a client would,
//! since somebody else may have written it, or the Service may have another name by now.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use thiserror::Error;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The common name of our CAs begins so; by it, `bundle` knows them again.
pub const CA_NAME: &str = "Weft injector CA";

/// A certificate is good from a little before it is made, for API servers whose clock is behind.
const BACKDATED: Duration = Duration::from_secs(300);

/// A serving certificate with what belongs to it, as PEM and ready to serve.
#[derive(Clone, Debug)]
pub struct Generation {
    /// Higher is newer, within one Secret.
    pub number: u64,
    pub ca_pem: String,
    pub certificate_pem: String,
    pub key_pem: String,
    pub ca: CertificateDer<'static>,
    pub valid: Validity,
    pub certified_key: Arc<CertifiedKey>,
}

/// When a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub from: SystemTime,
    pub until: SystemTime,
}

impl Validity {
    pub fn has_ended(&self, now: SystemTime) -> bool {
        now >= self.until
    }

    /// `now`, or the time next to it at which the certificate is good.
    fn nearest(&self, now: SystemTime) -> SystemTime {
        now.min(self.until - Duration::from_secs(1)).max(self.from)
    }

    pub fn length(&self) -> Duration {
        self.until.duration_since(self.from).unwrap_or_default()
    }
}

/// Why there is no generation.
#[derive(Debug, Error)]
pub enum GenerationError {
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    #[error("{0} is not PEM: {1}")]
    Pem(&'static str, rustls::pki_types::pem::Error),
    #[error("not a certificate: {0}")]
    X509(String),
    #[error("not usable: {0}")]
    Unusable(#[from] rustls::Error),
    #[error("`{0}` is not a name that a certificate can have")]
    Name(String),
}

impl Generation {
    /// Makes a CA and a certificate for `name`, good for `validity` from now on.
    pub fn issue(
        number: u64,
        name: &str,
        now: SystemTime,
        validity: Duration,
    ) -> Result<Generation, GenerationError> {
        let valid = Validity { from: now - BACKDATED.min(validity / 10), until: now + validity };
        let serial = format!("{:016x}", fastrand::u64(..));
        let mut ca = CertificateParams::default();
        ca.distinguished_name.push(DnType::CommonName, format!("{CA_NAME} {serial}"));
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        (ca.not_before, ca.not_after) = (valid.from.into(), valid.until.into());
        // Its key goes with it at the end of this function.
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;

        let mut certificate = CertificateParams::new(vec![name.to_owned()])?;
        certificate.distinguished_name.push(DnType::CommonName, "weft-injector");
        certificate.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        certificate.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        certificate.use_authority_key_identifier_extension = true;
        (certificate.not_before, certificate.not_after) = (valid.from.into(), valid.until.into());
        let key = KeyPair::generate()?;
        let certificate = certificate.signed_by(&key, &ca)?;
        Generation::read(number, ca.pem(), certificate.pem(), key.serialize_pem(), name, now)
    }

    /// Reads what [`Generation::issue`] made, perhaps another replica's, and checks that a client
    /// which trusts the CA takes the certificate for `name`. One that has expired passes, and so
    /// does one that is not good yet: replicas' clocks differ, and must not make them quarrel.
    pub fn read(
        number: u64,
        ca_pem: String,
        certificate_pem: String,
        key_pem: String,
        name: &str,
        now: SystemTime,
    ) -> Result<Generation, GenerationError> {
        let ca = certificate("the CA", &ca_pem)?;
        let leaf = certificate("the certificate", &certificate_pem)?;
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
            .map_err(|error| GenerationError::Pem("the key", error))?;
        let valid = validity(&leaf)?;
        let provider = provider();
        let certified_key = CertifiedKey::from_der(vec![leaf.clone()], key, &provider)?;
        check(&ca, &leaf, name, valid.nearest(now), provider)?;
        Ok(Generation {
            number,
            ca_pem,
            certificate_pem,
            key_pem,
            ca,
            valid,
            certified_key: Arc::new(certified_key),
        })
    }
}

/// The one provider of cryptography.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// When a certificate is good.
pub(crate) fn validity(certificate: &CertificateDer<'_>) -> Result<Validity, GenerationError> {
    let parsed = parsed(certificate)?;
    let validity = parsed.validity();
    let time =
        |seconds: i64| UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    Ok(Validity {
        from: time(validity.not_before.timestamp()),
        until: time(validity.not_after.timestamp()),
    })
}

/// Whether a certificate is a CA that an injector made.
pub(crate) fn is_our_ca(certificate: &CertificateDer<'_>) -> bool {
    parsed(certificate).is_ok_and(|parsed| {
        let mut names = parsed.subject().iter_common_name();
        names.any(|name| name.as_str().is_ok_and(|name| name.starts_with(CA_NAME)))
    })
}

fn parsed<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, GenerationError> {
    X509Certificate::from_der(certificate)
        .map(|(_, parsed)| parsed)
        .map_err(|error| GenerationError::X509(error.to_string()))
}

fn certificate(what: &'static str, pem: &str) -> Result<CertificateDer<'static>, GenerationError> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| GenerationError::Pem(what, error))
}

fn check(
    ca: &CertificateDer<'static>,
    leaf: &CertificateDer<'_>,
    name: &str,
    at: SystemTime,
    provider: Arc<CryptoProvider>,
) -> Result<(), GenerationError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.clone())?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| GenerationError::X509(error.to_string()))?;
    let server = ServerName::try_from(name).map_err(|_| GenerationError::Name(name.to_owned()))?;
    let at = UnixTime::since_unix_epoch(at.duration_since(UNIX_EPOCH).unwrap_or_default());
    verifier.verify_server_cert(leaf, &[], &server, &[], at)?;
    Ok(())
}

#[cfg(test)]
mod tests;
