//! Lists, a page at a time.
//!
//! Not by `kube::Api::list`: that has three copies of a page's text in memory, and then all of its objects in some
//! twenty pieces each, among which what is kept of them would lie scattered.

use std::pin::pin;

use futures_util::AsyncReadExt;
use kube::api::{Api, ListParams};
use kube::core::{ListMeta, Request};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::lean::LeanObject;

/// A page as it came.
pub(super) struct Page(Vec<u8>);

#[derive(Deserialize)]
struct Content<'p> {
    #[serde(default)]
    metadata: ListMeta,
    /// None, as null, is what servers in Go have for an empty one.
    #[serde(borrow)]
    items: Option<Vec<&'p RawValue>>,
}

/// Asks for a page of `api`'s objects.
///
/// # Errors
///
/// What the server answers in place of it.
pub(super) async fn page(
    client: &kube::Client,
    api: &Api<LeanObject>,
    params: &ListParams,
) -> kube::Result<Page> {
    let request = Request::new(api.resource_url()).list(params);
    let answer = client.request_stream(request.map_err(kube::Error::BuildRequest)?).await?;
    let mut page = Vec::new();
    pin!(answer)
        .read_to_end(&mut page)
        .await
        .map_err(|error| kube::Error::Service(error.into()))?;
    Ok(Page(page))
}

impl Page {
    /// What is said of the list, and the objects, each of which is read when it is its turn.
    ///
    /// # Errors
    ///
    /// What is no list, and then what is no object.
    pub(super) fn read(
        &self,
    ) -> kube::Result<(ListMeta, impl Iterator<Item = kube::Result<LeanObject>>)> {
        let Content { metadata, items } =
            serde_json::from_slice(&self.0).map_err(kube::Error::SerdeError)?;
        let read =
            |item: &RawValue| serde_json::from_str(item.get()).map_err(kube::Error::SerdeError);
        Ok((metadata, items.unwrap_or_default().into_iter().map(read)))
    }
}

#[cfg(test)]
mod tests {
    use super::Page;

    fn names(text: &str) -> Result<Vec<String>, String> {
        let page = Page(text.into());
        let (_, objects) = page.read().map_err(|error| error.to_string())?;
        let name = |object: kube::Result<super::LeanObject>| match object {
            Ok(object) => Ok(object.metadata.name.unwrap_or_default()),
            Err(error) => Err(error.to_string()),
        };
        objects.map(name).collect()
    }

    #[test]
    fn objects_are_read_in_their_order() {
        let text = r#"{"kind": "ServiceList", "metadata": {"continue": "more"}, "items":
            [{"metadata": {"name": "a"}}, {"spec": {"x": [1, "{"]}, "metadata": {"name": "b"}}]}"#;
        assert_eq!(names(text).unwrap(), ["a", "b"]);
        assert_eq!(Page(text.into()).read().unwrap().0.continue_.as_deref(), Some("more"));
    }

    #[test]
    fn an_empty_list_may_be_null() {
        for text in [r#"{"items": null}"#, r#"{"items": []}"#] {
            assert_eq!(names(text).unwrap(), [""; 0], "{text}");
        }
    }

    #[test]
    fn what_is_no_list_is_an_error() {
        for text in ["", "<html>", r#"{"items": [{"metadata""#, r#"{"items": [7]}"#] {
            assert!(names(text).is_err(), "{text}");
        }
    }
}
