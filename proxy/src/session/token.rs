//! What a user brings along: where it was, sealed.
//!
//! The client sees random-looking text. It holds no address and no name, only digests, and these
//! encrypted and authenticated with a key that all sidecars derive alike from the Service that the
//! route is attached to. The key is no secret inside of the cluster (whoever may read the Service has
//! its uid), but nobody outside can make a token, or learn from one; and the most that a made one
//! does is to choose among the endpoints that its request can get anyway.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest::{Context, SHA256};
use ring::rand::{SecureRandom, SystemRandom};
use weft_gamma::object::Service;

/// As many backends as a rule can have.
const MAX_PLACES: usize = 16;

/// Two times and the places.
const HEAD: usize = 8;
const PLACE: usize = 16;

/// A backend, and the endpoint of it where a session was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) backend: u64,
    /// 0 for any.
    pub(super) endpoint: u64,
}

/// A user's session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// Seconds since 1970.
    pub(super) begun: u32,
    /// Seconds since 1970.
    pub(super) used: u32,
    /// The latest first; one for each backend: "If the same backend is selected, the session cookie
    /// routes the client to the same endpoint. If a different backend is selected, a new session is
    /// established within that backend" (GEP-1619).
    places: Vec<Place>,
}

/// Seals and opens tokens.
#[derive(Debug)]
pub(super) struct Key(LessSafeKey);

impl Token {
    pub(super) fn new(now: u32) -> Self {
        Self { begun: now, used: now, places: Vec::new() }
    }

    pub(super) fn places(&self) -> impl Iterator<Item = &Place> {
        self.places.iter()
    }

    /// Adds a place, instead of the one of the same backend.
    pub(super) fn put(&mut self, place: Place) {
        self.places.retain(|other| other.backend != place.backend);
        self.places.truncate(MAX_PLACES - 1);
        self.places.insert(0, place);
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD + PLACE * self.places.len());
        bytes.extend(self.begun.to_be_bytes());
        bytes.extend(self.used.to_be_bytes());
        for place in &self.places {
            bytes.extend(place.backend.to_be_bytes());
            bytes.extend(place.endpoint.to_be_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (head, places) = bytes.split_first_chunk::<HEAD>()?;
        let (begun, used) = head.split_at(HEAD / 2);
        let (places, rest) = places.as_chunks::<PLACE>();
        let place = |bytes: &[u8; PLACE]| {
            let (backend, endpoint) = bytes.split_at(PLACE / 2);
            Some(Place {
                backend: u64::from_be_bytes(backend.try_into().ok()?),
                endpoint: u64::from_be_bytes(endpoint.try_into().ok()?),
            })
        };
        rest.is_empty().then_some(Self {
            begun: u32::from_be_bytes(begun.try_into().ok()?),
            used: u32::from_be_bytes(used.try_into().ok()?),
            places: places.iter().map(place).collect::<Option<_>>()?,
        })
    }
}

impl Key {
    /// The key of a Service's sessions of that name.
    pub(super) fn new(parent: &Service, name: &str) -> Self {
        let mut material = Context::new(&SHA256);
        let uid = parent.uid.as_deref().unwrap_or_default();
        // What is sealed in another form must have another first line.
        for part in ["weft session 1", uid, &parent.name.namespace, &parent.name.name, name] {
            material.update(&part.len().to_be_bytes());
            material.update(part.as_bytes());
        }
        let key = UnboundKey::new(&CHACHA20_POLY1305, material.finish().as_ref());
        Self(LessSafeKey::new(key.expect("a SHA-256 is as long as a key of ChaCha20")))
    }

    /// The token as text for a cookie or a header. None where the system has no random numbers.
    pub(super) fn seal(&self, token: &Token) -> Option<String> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let mut sealed = token.to_bytes();
        self.0
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::empty(),
                &mut sealed,
            )
            .ok()?;
        sealed.splice(..0, nonce);
        Some(BASE64_URL_SAFE_NO_PAD.encode(sealed))
    }

    /// The token that a text is; None where it is none of this key's.
    pub(super) fn open(&self, text: &[u8]) -> Option<Token> {
        let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk_mut::<NONCE_LEN>()?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        Token::from_bytes(self.0.open_in_place(nonce, Aad::empty(), sealed).ok()?)
    }
}
