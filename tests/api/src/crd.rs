//! Makes the list of fields from the API's CRDs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::list::{Api, Channel, Field, Kind, below};

/// The kinds that Weft reads, by group and by the name in their CRD's file.
const KINDS: [(&str, &str); 6] = [
    ("gateway.networking.k8s.io", "httproutes"),
    ("gateway.networking.k8s.io", "grpcroutes"),
    ("gateway.networking.k8s.io", "tlsroutes"),
    ("gateway.networking.k8s.io", "tcproutes"),
    ("gateway.networking.k8s.io", "referencegrants"),
    ("gateway.networking.x-k8s.io", "xbackendtrafficpolicies"),
];

/// The version whose fields are listed where a kind has it.
const VERSION: &str = "v1";

/// The annotation of a CRD that names the release.
const RELEASE: &str = "gateway.networking.k8s.io/bundle-version";

/// Reads a folder with the CRDs of both channels in `standard` and `experimental`, and with the
/// sources of the official suite's tests for meshes in `mesh`.
///
/// # Errors
/// When something is missing, or is not as the release v1.7.0 has it.
pub fn condense(folder: &Path) -> Result<Api> {
    let mut version = String::new();
    let mut kinds = Vec::new();
    for (group, plural) in KINDS {
        let file = format!("{group}_{plural}.yaml");
        let experimental = read(&folder.join("experimental").join(&file))?;
        let standard = folder.join("standard").join(&file);
        let standard = standard.exists().then(|| read(&standard)).transpose()?;
        version = text(&experimental["metadata"]["annotations"][RELEASE])?;
        let kind = kind(group, &experimental, standard.as_ref());
        kinds.push(kind.with_context(|| file)?);
    }
    leave_out_repetitions(&mut kinds);
    Ok(Api { version, kinds, suite: suite(&folder.join("mesh"))? })
}

fn read(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_saphyr::from_str(&text).with_context(|| path.display().to_string())
}

fn kind(group: &str, experimental: &Value, standard: Option<&Value>) -> Result<Kind> {
    let mut served = BTreeMap::new();
    for (channel, crd) in
        [(Channel::Experimental, Some(experimental)), (Channel::Standard, standard)]
    {
        for version in crd.into_iter().flat_map(versions).filter(|it| it["served"] == true) {
            served.insert(text(&version["name"])?, channel);
        }
    }
    let version = match served.contains_key(VERSION) {
        true => VERSION.to_owned(),
        false => served.keys().next().context("no version is served")?.clone(),
    };
    let schema = |crd| -> Option<&Value> {
        let version = versions(crd).iter().find(|it| it["name"] == version.as_str())?;
        Some(&version["schema"]["openAPIV3Schema"])
    };
    let mut of_standard = BTreeSet::new();
    if let Some(schema) = standard.and_then(schema) {
        let mut fields = Vec::new();
        walk(schema, "", &mut fields)?;
        of_standard.extend(fields.into_iter().map(|field| field.path));
    }
    let mut fields = Vec::new();
    walk(schema(experimental).context("no schema")?, "", &mut fields)?;
    for field in &mut fields {
        if of_standard.remove(&field.path) {
            field.channel = Channel::Standard;
        }
    }
    ensure!(of_standard.is_empty(), "in the standard channel only: {of_standard:?}");
    let kind = text(&experimental["spec"]["names"]["kind"])?;
    Ok(Kind { kind, group: group.to_owned(), version, served, fields })
}

fn versions(crd: &Value) -> &[Value] {
    crd["spec"]["versions"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Adds the field at `path` and all below it; every one as if it were experimental.
fn walk(schema: &Value, path: &str, fields: &mut Vec<Field>) -> Result<()> {
    if !path.is_empty() {
        let lines = schema["description"].as_str().unwrap_or_default().lines();
        fields.push(Field {
            path: path.to_owned(),
            kind: text(&schema["type"]).with_context(|| path.to_owned())?,
            channel: Channel::Experimental,
            values: schema["enum"].as_array().cloned().unwrap_or_default(),
            default: schema.get("default").cloned(),
            doc: lines.map(|line| line.trim_end().to_owned()).collect(),
            like: None,
        });
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        match path {
            // What every object of Kubernetes has.
            "" if ["apiVersion", "kind", "metadata"].contains(&name.as_str()) => {}
            "" => walk(schema, name, fields)?,
            _ => walk(schema, &format!("{path}.{name}"), fields)?,
        }
    }
    if let Some(items) = schema.get("items") {
        walk(items, &format!("{path}[]"), fields)?;
    }
    Ok(())
}

/// A filter has the same fields in a rule and in a backendRef, a parentRef the same in every kind:
/// once is enough to read. The one that stays is that of the first kind, and there the shallowest.
fn leave_out_repetitions(kinds: &mut [Kind]) {
    let mut places: Vec<(usize, usize, usize)> = Vec::new();
    for (kind, of) in kinds.iter().enumerate() {
        let depth = |path: &str| path.matches(['.', '[']).count();
        places.extend(of.fields.iter().enumerate().map(|(at, it)| (kind, depth(&it.path), at)));
    }
    places.sort_unstable();
    let mut first: BTreeMap<String, (String, String)> = BTreeMap::new();
    let mut like: Vec<(usize, usize, (String, String))> = Vec::new();
    for (kind, _, at) in places {
        let of = &kinds[kind];
        let path = &of.fields[at].path;
        let tree: Vec<Field> = (of.fields.iter())
            .filter_map(|it| Some(Field { path: below(path, &it.path)?.to_owned(), ..it.clone() }))
            .collect();
        // Of a list with its one kind of items the reference would be the longer text.
        if tree.len() < 2 {
            continue;
        }
        let own = (of.kind.clone(), path.clone());
        let other = first.entry(format!("{tree:?}")).or_insert_with(|| own.clone());
        if *other != own {
            like.push((kind, at, other.clone()));
        }
    }
    for (kind, at, other) in like {
        kinds[kind].fields[at].like = Some(other);
    }
    for kind in kinds {
        let paths = kind.fields.iter().filter(|it| it.like.is_some()).map(|it| it.path.clone());
        let paths: Vec<String> = paths.collect();
        kind.fields.retain(|it| paths.iter().all(|path| below(path, &it.path).is_none()));
    }
}

/// The names of the suite's tests.
fn suite(folder: &Path) -> Result<Vec<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let text = fs::read_to_string(entry?.path())?;
        let named = text.lines().filter_map(|line| line.trim().strip_prefix("ShortName:"));
        names.extend(named.map(|name| name.trim().trim_matches([',', '"']).to_owned()));
    }
    ensure!(!names.is_empty(), "{} has no tests", folder.display());
    Ok(names.into_iter().collect())
}

fn text(value: &Value) -> Result<String> {
    Ok(value.as_str().context("not a string")?.to_owned())
}
