//! What it takes to send a request again. Most never are: what is kept costs a copy of the head's bytes,
//! where a clone would count up, and down again, who shares each of them.

use std::rc::Rc;

use http::uri::{Scheme, Uri};
use http::{Extensions, HeaderName, HeaderValue, Method, Request, Version};

use super::body::RequestBody;
use super::shared::SharedBody;

/// What is to be had of a request once it was sent.
pub(super) struct Replay {
    /// None where the head stays in its place.
    head: Option<Head>,
    /// None where there is no body.
    body: Option<Rc<SharedBody>>,
}

/// A copy of a request's head.
struct Head {
    method: Method,
    scheme: Option<Scheme>,
    version: Version,
    text: Text,
    extensions: Extensions,
}

/// What of a head is text, in pairs: authority and path, then each header's name and value. Before the
/// bytes of a pair are their lengths.
struct Text(Vec<u8>);

/// The two lengths: a word, of which the first one's is the upper half.
const LENGTHS: usize = size_of::<u64>();

/// Room for the text of most heads.
const ROOM: usize = 512;

impl Replay {
    /// None where the body is not kept. `stays` says that the head will still be in its place.
    pub(super) fn of(request: &Request<RequestBody>, stays: bool) -> Option<Self> {
        let body = request.body().shared();
        if !request.body().is_empty() && !body.is_some_and(|shared| shared.is_kept()) {
            return None;
        }
        let head = if stays { None } else { Some(Head::of(request)?) };
        Some(Self { head, body: body.cloned() })
    }

    /// Whether all that was sent of the request can be sent again.
    pub(super) fn is_complete(&self) -> bool {
        self.body.as_ref().is_none_or(|body| body.is_kept())
    }

    /// Puts the request in its place once more; nothing where its body is no longer kept.
    pub(super) fn restore(&self, place: &mut Option<Request<RequestBody>>) {
        let body = match &self.body {
            Some(shared) => shared.again().map(RequestBody::Shared),
            None => Some(RequestBody::Empty),
        };
        let again = body.and_then(|body| match &self.head {
            Some(head) => head.with(body),
            None => Some(place.take()?.map(|_sent| body)),
        });
        *place = again;
    }
}

impl Head {
    fn of<B>(request: &Request<B>) -> Option<Self> {
        Some(Self {
            method: request.method().clone(),
            scheme: request.uri().scheme().cloned(),
            version: request.version(),
            text: Text::of(request)?,
            extensions: request.extensions().clone(),
        })
    }

    /// The request of that head and body.
    fn with<B>(&self, body: B) -> Option<Request<B>> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.version_mut() = self.version;
        *request.extensions_mut() = self.extensions.clone();
        let mut pairs = self.text.pairs();
        let (authority, path) = pairs.next()?;
        let mut uri = http::uri::Parts::default();
        uri.scheme.clone_from(&self.scheme);
        if !authority.is_empty() {
            uri.authority = Some(authority.try_into().ok()?);
        }
        if !path.is_empty() {
            uri.path_and_query = Some(path.try_into().ok()?);
        }
        *request.uri_mut() = Uri::from_parts(uri).ok()?;
        for (name, value) in pairs {
            let name = HeaderName::from_bytes(name).ok()?;
            request.headers_mut().append(name, HeaderValue::from_bytes(value).ok()?);
        }
        Some(request)
    }
}

impl Text {
    /// None where a part of it is longer than 4 GiB.
    fn of<B>(request: &Request<B>) -> Option<Self> {
        let uri = request.uri();
        let mut text = Self(Vec::with_capacity(ROOM));
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let path = uri.path_and_query().map_or("", |path| path.as_str());
        text.push(authority.as_bytes(), path.as_bytes())?;
        for (name, value) in request.headers() {
            text.push(name.as_str().as_bytes(), value.as_bytes())?;
        }
        Some(text)
    }

    fn push(&mut self, one: &[u8], other: &[u8]) -> Option<()> {
        let [upper, lower] = [one.len(), other.len()].map(u32::try_from);
        let lengths = u64::from(upper.ok()?) << 32 | u64::from(lower.ok()?);
        self.0.reserve(LENGTHS + one.len() + other.len());
        self.0.extend_from_slice(&lengths.to_le_bytes());
        self.0.extend_from_slice(one);
        self.0.extend_from_slice(other);
        Some(())
    }

    fn pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = self.0.as_slice();
        std::iter::from_fn(move || {
            let lengths = u64::from_le_bytes(rest.split_off(..LENGTHS)?.try_into().ok()?);
            let one = rest.split_off(..usize::try_from(lengths >> 32).ok()?)?;
            let other = rest.split_off(..lengths as u32 as usize)?;
            Some((one, other))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes back of a request without a body.
    fn again(request: &Request<RequestBody>) -> Request<RequestBody> {
        let mut place = None;
        Replay::of(request, false).unwrap().restore(&mut place);
        place.unwrap()
    }

    #[test]
    fn a_head_comes_back_as_it_was() {
        for (method, uri, version) in [
            (Method::GET, "/a/b?c=d", Version::HTTP_11),
            (Method::PUT, "http://reviews:9080/?q", Version::HTTP_2),
            (Method::OPTIONS, "*", Version::HTTP_11),
            (Method::CONNECT, "reviews:9080", Version::HTTP_11),
        ] {
            let mut request = Request::new(RequestBody::Empty);
            *request.method_mut() = method;
            *request.uri_mut() = uri.parse().unwrap();
            *request.version_mut() = version;
            for (name, value) in [
                ("host", &b"reviews"[..]),
                ("accept", b"text/html"),
                ("x-empty", b""),
                ("accept", b"*/*"),
                ("x-bytes", b"\xe4 \t ~"),
            ] {
                request.headers_mut().append(name, HeaderValue::from_bytes(value).unwrap());
            }
            let again = again(&request);
            assert_eq!(again.method(), request.method());
            assert_eq!(again.uri(), request.uri());
            assert_eq!(again.uri().scheme(), request.uri().scheme());
            assert_eq!(again.version(), version);
            assert_eq!(again.headers(), request.headers());
        }
    }

    #[test]
    fn a_head_without_headers_or_with_long_ones_comes_back_too() {
        let mut request = Request::new(RequestBody::Empty);
        assert!(again(&request).headers().is_empty());
        let long = HeaderValue::from_bytes(&[b'a'; 2 * ROOM]).unwrap();
        request.headers_mut().insert("x-long", long);
        assert_eq!(again(&request).headers(), request.headers());
    }
}
