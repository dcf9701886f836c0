//! An object as it is read from the API server, without what means nothing to traffic.
//!
//! Who wrote which field, what others say of an object, and what tools keep in its annotations is
//! most of what the server sends. It is passed over while the text is read, so that it never takes
//! memory.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use kube::api::{ApiResource, ObjectMeta};
use kube::core::{DynamicResourceScope, Resource};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};
use weft_gamma::object::ANNOTATION_PREFIX;

/// An object of any kind.
#[derive(Clone, Debug, Default)]
pub(super) struct LeanObject {
    /// Name, namespace, labels, Weft's own annotations, age, generation, uid and resource version.
    pub(super) metadata: ObjectMeta,
    /// The object's other fields; without its kind, its version and its status.
    pub(super) fields: Map<String, Value>,
}

impl LeanObject {
    /// One of [`Self::fields`]; null where there is none.
    pub(super) fn field(&self, name: &str) -> &Value {
        self.fields.get(name).unwrap_or(&Value::Null)
    }
}

impl Resource for LeanObject {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn api_version(resource: &ApiResource) -> Cow<'_, str> {
        resource.api_version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl<'de> Deserialize<'de> for LeanObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Object)
    }
}

struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = LeanObject;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of the API")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<LeanObject, M::Error> {
        let mut object = LeanObject::default();
        while let Some(field) = map.next_key::<String>()? {
            match field.as_str() {
                "metadata" => object.metadata = map.next_value::<Metadata>()?.into(),
                "apiVersion" | "kind" | "status" => _ = map.next_value::<IgnoredAny>()?,
                _ => _ = object.fields.insert(field, map.next_value()?),
            }
        }
        Ok(object)
    }
}

/// What of `metadata` is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<Annotations>,
    creation_timestamp: Option<Time>,
    generation: Option<i64>,
    uid: Option<String>,
    resource_version: Option<String>,
}

/// As [`ObjectMeta`] has it.
type Time = k8s_openapi_kube::apimachinery::pkg::apis::meta::v1::Time;

impl From<Metadata> for ObjectMeta {
    fn from(read: Metadata) -> Self {
        Self {
            name: read.name,
            namespace: read.namespace,
            labels: read.labels,
            annotations: read.annotations.map(|it| it.0).filter(|it| !it.is_empty()),
            creation_timestamp: read.creation_timestamp,
            generation: read.generation,
            uid: read.uid,
            resource_version: read.resource_version,
            ..Self::default()
        }
    }
}

/// Weft's own.
struct Annotations(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(OwnAnnotations).map(Self)
    }
}

struct OwnAnnotations;

impl<'de> Visitor<'de> for OwnAnnotations {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("annotations")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut own = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            if name.starts_with(ANNOTATION_PREFIX) {
                own.insert(name, map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(own)
    }
}

#[cfg(test)]
mod tests;
