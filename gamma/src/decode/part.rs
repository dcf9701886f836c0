//! Reads one part of an object with its generated type, and says where it cannot.
//!
//! The other modules of [`crate::decode`] call it, part by part: the generated types are closed (an
//! unknown enum value fails the whole of what is read with them), so each parentRef, criterion,
//! filter and backendRef is read on its own.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::object::{ObjectKey, Problem};
use crate::route::{Refusal, RefusalReason};

/// What is wrong with the parts that were read so far, with the paths of their fields.
#[derive(Debug, Default)]
pub(super) struct Faults(pub(super) Vec<Refusal>);

impl Faults {
    /// A value that is not known or not valid.
    pub(super) fn unsupported(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.push(RefusalReason::UnsupportedValue, field.into(), message.into());
    }

    /// Filters that cannot stand together.
    pub(super) fn incompatible(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.push(RefusalReason::IncompatibleFilters, field.into(), message.into());
    }

    /// The faults of a part outside of a rule, where there is no rule to refuse.
    pub(super) fn into_problems(self, object: &ObjectKey) -> Vec<Problem> {
        self.0
            .into_iter()
            .map(|fault| Problem {
                object: Some(object.clone()),
                field: fault.field,
                message: fault.message,
            })
            .collect()
    }

    fn push(&mut self, reason: RefusalReason, field: String, message: String) {
        self.0.push(Refusal { reason, field, message });
    }
}

/// Reads a part of a Gateway API object. Fields that the type does not know are faults too: a field
/// that nobody reads must not be dropped in silence.
pub(super) fn read<T: DeserializeOwned>(value: &Value, at: &str, faults: &mut Faults) -> Option<T> {
    let mut unknown = Vec::new();
    let mut note = |path: serde_ignored::Path<'_>| unknown.push(ignored_path(&path));
    let mut track = serde_path_to_error::Track::new();
    let located = serde_path_to_error::Deserializer::new(value, &mut track);
    let result = T::deserialize(serde_ignored::Deserializer::new(located, &mut note));
    for path in unknown {
        unknown_field(join(at, &path), faults);
    }
    keep(result, &track.path(), at, faults)
}

/// Reads a part of a core object, of which newer clusters may have fields that do not matter here.
pub(super) fn read_core<T: DeserializeOwned>(
    value: &Value,
    at: &str,
    faults: &mut Faults,
) -> Option<T> {
    let mut track = serde_path_to_error::Track::new();
    let result = T::deserialize(serde_path_to_error::Deserializer::new(value, &mut track));
    keep(result, &track.path(), at, faults)
}

/// The fields of an object; those not in `known` are faults. None if it is not an object.
pub(super) fn fields<'v>(
    value: &'v Value,
    at: &str,
    known: &[&str],
    faults: &mut Faults,
) -> Option<&'v Map<String, Value>> {
    let Value::Object(map) = value else {
        faults.unsupported(at, not_an_object(Some(value)));
        return None;
    };
    for name in map.keys().filter(|name| !known.contains(&name.as_str())) {
        unknown_field(join(at, name), faults);
    }
    Some(map)
}

/// The items of a list; a missing one is empty. None if it is not a list.
pub(super) fn items<'v>(
    value: Option<&'v Value>,
    at: &str,
    faults: &mut Faults,
) -> Option<&'v [Value]> {
    match value {
        None | Some(Value::Null) => Some(&[]),
        Some(Value::Array(items)) => Some(items),
        Some(other) => {
            faults.unsupported(at, format!("must be a list, not {}", type_of(other)));
            None
        }
    }
}

/// Why a value that must be an object cannot be used.
pub(super) fn not_an_object(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "must be set".to_owned(),
        Some(other) => format!("must be an object, not {}", type_of(other)),
    }
}

/// A field's value, where `null` counts as missing, as the API server has it.
pub(super) fn present<'v>(map: &'v Map<String, Value>, name: &str) -> Option<&'v Value> {
    map.get(name).filter(|value| !value.is_null())
}

/// A port number, 1 to 65535.
pub(super) fn port(number: i32, at: &str, faults: &mut Faults) -> Option<u16> {
    match u16::try_from(number) {
        Ok(port) if port > 0 => Some(port),
        _ => {
            faults.unsupported(at, format!("{number} is not a port; use 1 to 65535"));
            None
        }
    }
}

/// What a value is, for messages.
pub(super) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn unknown_field(field: String, faults: &mut Faults) {
    faults.unsupported(field, "unknown field; remove it or correct its spelling");
}

fn keep<T>(
    result: Result<T, serde_json::Error>,
    path: &serde_path_to_error::Path,
    at: &str,
    faults: &mut Faults,
) -> Option<T> {
    match result {
        Ok(part) => Some(part),
        Err(error) => {
            let inner = if path.iter().len() == 0 { String::new() } else { path.to_string() };
            faults.unsupported(join(at, &inner), error.to_string());
            None
        }
    }
}

fn join(at: &str, inner: &str) -> String {
    match (at, inner) {
        (_, "") => at.to_owned(),
        ("", _) => inner.to_owned(),
        _ if inner.starts_with('[') => format!("{at}{inner}"),
        _ => format!("{at}.{inner}"),
    }
}

/// The path in the form that the rest of the crate uses: `add[0].name`, without the `?` that
/// serde_ignored writes for optional values.
fn ignored_path(path: &serde_ignored::Path<'_>) -> String {
    match path {
        serde_ignored::Path::Root => String::new(),
        serde_ignored::Path::Seq { parent, index } => format!("{}[{index}]", ignored_path(parent)),
        serde_ignored::Path::Map { parent, key } => join(&ignored_path(parent), key),
        serde_ignored::Path::Some { parent }
        | serde_ignored::Path::NewtypeStruct { parent }
        | serde_ignored::Path::NewtypeVariant { parent } => ignored_path(parent),
    }
}
