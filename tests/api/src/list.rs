//! The list of fields, as the tree has it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One release of the Gateway API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Api {
    /// As in `v1.7.0`.
    pub version: String,
    /// The kinds that Weft reads.
    pub kinds: Vec<Kind>,
    /// The names of the official suite's tests for meshes.
    pub suite: Vec<String>,
}

/// A kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kind {
    /// Its name, as in `HTTPRoute`.
    pub kind: String,
    /// Its API group.
    pub group: String,
    /// The version whose fields these are.
    pub version: String,
    /// Every served version, with the first channel that serves it.
    pub served: BTreeMap<String, Channel>,
    /// In the order of their paths; what [`Field::like`] stands for is left out.
    pub fields: Vec<Field>,
}

/// A field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Field {
    /// As in `spec.rules[].matches[].path.type`; with `[]` at its end, the items of a list.
    pub path: String,
    /// The schema's type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Standard where both channels have it.
    pub channel: Channel,
    /// The values that the schema allows, where it lists them.
    #[serde(rename = "enum", default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<Value>,
    /// What the API server fills in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// The godoc of the experimental channel, which has every field, line by line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub doc: Vec<String>,
    /// The kind and path of another field, below which everything is as below this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub like: Option<(String, String)>,
}

/// A release channel of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// In both channels.
    Standard,
    /// In the experimental channel only.
    Experimental,
}

impl Api {
    /// Reads the list.
    ///
    /// # Errors
    /// When there is no such file, or it is no list.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }

    /// The kind of that name.
    ///
    /// # Errors
    /// When the API has none.
    pub fn kind(&self, name: &str) -> Result<&Kind> {
        let kind = self.kinds.iter().find(|kind| kind.kind == name);
        kind.with_context(|| format!("the list has no kind {name}"))
    }

    /// All fields of a kind by their paths, also those that [`Field::like`] stands for.
    ///
    /// # Errors
    /// When a `like` names a field that is not there.
    pub fn fields(&self, kind: &str) -> Result<BTreeMap<String, &Field>> {
        let mut all = BTreeMap::new();
        for field in &self.kind(kind)?.fields {
            self.add(field, field.path.clone(), &mut all)?;
        }
        Ok(all)
    }

    fn add<'a>(
        &'a self,
        field: &'a Field,
        path: String,
        all: &mut BTreeMap<String, &'a Field>,
    ) -> Result<()> {
        if let Some((kind, like)) = &field.like {
            let others = &self.kind(kind)?.fields;
            ensure!(others.iter().any(|other| other.path == *like), "no field {kind} {like}");
            for other in others {
                if let Some(rest) = below(like, &other.path) {
                    self.add(other, format!("{path}{rest}"), all)?;
                }
            }
        }
        all.insert(path, field);
        Ok(())
    }
}

impl Channel {
    /// As the API's documentation writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Channel::Standard => "standard",
            Channel::Experimental => "experimental",
        }
    }
}

/// What follows `path` in the path of a field below it.
pub fn below<'p>(path: &str, other: &'p str) -> Option<&'p str> {
    other.strip_prefix(path).filter(|rest| rest.starts_with(['.', '[']))
}
