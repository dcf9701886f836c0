//! What it takes to send a request again. Most never are: what is kept costs a copy of the head's bytes,
//! where a clone would count up, and down again, who shares each of them.

use std::rc::Rc;

use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

use super::body::RequestBody;
use super::shared::SharedBody;

/// A request's head, and its body if that is kept.
pub(super) struct Replay {
    method: Method,
    uri: Uri,
    version: Version,
    headers: Headers,
    extensions: Extensions,
    body: Option<Rc<SharedBody>>,
}

/// Headers, one after the other: the lengths of name and value, then their bytes.
struct Headers(Vec<u8>);

/// The two lengths: a word, of which the name's is the upper half.
const LENGTHS: usize = size_of::<u64>();

impl Replay {
    /// None where the body is not kept.
    pub(super) fn of(request: &Request<RequestBody>) -> Option<Self> {
        let body = request.body().shared().filter(|body| body.is_kept());
        if body.is_none() && !request.body().is_empty() {
            return None;
        }
        Some(Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            headers: Headers::of(request.headers())?,
            extensions: request.extensions().clone(),
            body: body.cloned(),
        })
    }

    /// Whether all of the body that has come so far is kept.
    pub(super) fn is_complete(&self) -> bool {
        self.body.as_ref().is_none_or(|body| body.is_kept())
    }

    pub(super) fn request(&self) -> Option<Request<RequestBody>> {
        let body = match &self.body {
            Some(body) => RequestBody::Shared(body.again()?),
            None => RequestBody::Empty,
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers.map()?;
        *request.extensions_mut() = self.extensions.clone();
        Some(request)
    }
}

impl Headers {
    /// None for headers that are longer than 4 GiB.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let lines = || headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let size = lines().map(|(name, value)| LENGTHS + name.len() + value.len()).sum();
        let mut bytes = Vec::with_capacity(size);
        for (name, value) in lines() {
            let [name_length, value_length] = [name.len(), value.len()].map(u32::try_from);
            let lengths = u64::from(name_length.ok()?) << 32 | u64::from(value_length.ok()?);
            bytes.extend_from_slice(&lengths.to_le_bytes());
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(value);
        }
        Some(Self(bytes))
    }

    /// The headers anew, values of one name in their order.
    fn map(&self) -> Option<HeaderMap> {
        let mut map = HeaderMap::new();
        let mut rest = self.0.as_slice();
        while !rest.is_empty() {
            let lengths = u64::from_le_bytes(rest.split_off(..LENGTHS)?.try_into().ok()?);
            let name = rest.split_off(..usize::try_from(lengths >> 32).ok()?)?;
            let value = rest.split_off(..lengths as u32 as usize)?;
            let name = HeaderName::from_bytes(name).ok()?;
            map.append(name, HeaderValue::from_bytes(value).ok()?);
        }
        Some(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_as_they_were() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", &b"reviews"[..]),
            ("accept", b"text/html"),
            ("x-empty", b""),
            ("accept", b"*/*"),
            ("x-bytes", b"\xe4 \t ~"),
        ] {
            headers.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        let kept = Headers::of(&headers).unwrap();
        assert_eq!(kept.map().unwrap(), headers);
        assert!(Headers::of(&HeaderMap::new()).unwrap().map().unwrap().is_empty());
    }
}
