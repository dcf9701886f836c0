//! No field of the API is dropped in silence: what is wrong in it is told with its path, so somebody
//! reads it; and what the API does not have at a place is told there.

use anyhow::Result;
use serde_json::{Map, Value, json};
use weft_api::LIST;
use weft_api::list::{Api, Field, Kind};
use weft_gamma::object::{Problem, decode};

/// Fields that are refused as a whole, whatever is in them.
const REFUSED: [(&str, &str); 1] = [("XBackendTrafficPolicy", "spec.sessionPersistence")];

/// Fields that mean nothing for a Service: useDefaultGateways asks for Gateways as parents.
const OF_GATEWAYS: [&str; 1] = ["spec.useDefaultGateways"];

/// What is told of an object of which nothing is set but `value` at `path`.
fn problems(kind: &Kind, path: &str, value: Value) -> Vec<Problem> {
    let mut value = value;
    for step in path.split('.').rev() {
        let (name, lists) = (step.trim_end_matches("[]"), step.matches("[]").count());
        for _ in 0..lists {
            value = Value::Array(vec![value]);
        }
        value = Value::Object(Map::from_iter([(name.to_owned(), value)]));
    }
    value["apiVersion"] = json!(format!("{}/{}", kind.group, kind.version));
    value["kind"] = json!(kind.kind);
    value["metadata"] = json!({"name": "x"});
    if let Some(session) = value.pointer_mut("/spec/rules/0/sessionPersistence")
        && session.get("header").is_some()
    {
        session["type"] = json!("Header");
    }
    decode(value).problems
}

fn told(problems: &[Problem], kind: &str, path: &str) -> bool {
    let refused = REFUSED.iter().find(|(of, whole)| *of == kind && path.starts_with(whole));
    let path = refused.map_or(path, |(_, whole)| whole).replace("[]", "[0]");
    problems.iter().any(|problem| problem.field.starts_with(&path))
}

/// The fields that users write.
fn fields<'a>(api: &'a Api, kind: &Kind) -> Result<Vec<(String, &'a Field)>> {
    let is_read = |path: &str| path.starts_with("spec.") && !OF_GATEWAYS.contains(&path);
    let fields = api.fields(&kind.kind)?.into_iter();
    Ok(fields.filter(|(path, _)| is_read(path)).collect())
}

#[test]
fn every_field_is_read() -> Result<()> {
    let api = Api::read(LIST.as_ref())?;
    let mut wrong = Vec::new();
    let mut count = 0;
    for kind in &api.kinds {
        for (path, field) in fields(&api, kind)? {
            // Of no field's type.
            let value = if field.kind == "object" { json!("text") } else { json!({"a": {}}) };
            let problems = problems(kind, &path, value);
            let at = path.replace("[]", "[0]");
            let unknown = |it: &Problem| it.field == at && it.message.contains("unknown field");
            if problems.iter().any(unknown) || !told(&problems, &kind.kind, &path) {
                wrong.push(format!("{} {path}: {problems:?}", kind.kind));
            }
            count += 1;
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    assert!(count > 300, "{count} fields");
    Ok(())
}

#[test]
fn what_the_api_does_not_have_is_told_wherever_it_stands() -> Result<()> {
    let api = Api::read(LIST.as_ref())?;
    let mut wrong = Vec::new();
    for kind in &api.kinds {
        let fields = fields(&api, kind)?;
        let objects = fields.iter().filter(|(_, field)| field.kind == "object");
        for path in objects.map(|(path, _)| path.as_str()).chain(["spec"]) {
            let problems = problems(kind, path, json!({"unheardOf": 1}));
            if !told(&problems, &kind.kind, &format!("{path}.unheardOf")) {
                wrong.push(format!("{} {path}: {problems:?}", kind.kind));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    Ok(())
}

#[test]
fn every_value_of_an_enum_is_known() -> Result<()> {
    let api = Api::read(LIST.as_ref())?;
    let mut wrong = Vec::new();
    let mut count = 0;
    for kind in &api.kinds {
        for (path, field) in fields(&api, kind)? {
            for value in &field.values {
                let problems = problems(kind, &path, value.clone());
                let unknown = |it: &&Problem| it.message.contains("unknown variant");
                wrong.extend(problems.iter().find(unknown).map(ToString::to_string));
                count += 1;
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    assert!(count > 60, "{count} values");
    Ok(())
}
