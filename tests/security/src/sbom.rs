//! A CycloneDX document of a [`Graph`], and whether such a document is whole.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::graph::{Crate, Graph, Id};

/// The document, in CycloneDX 1.5. `time` is in ISO 8601; `compiler` is what `rustc --version` says.
///
/// What is only used to build the program has the scope `excluded`.
pub fn document(graph: &Graph, target: &str, time: &str, compiler: &str) -> Value {
    let others = graph.crates.iter().filter(|(id, _)| **id != graph.root);
    let components: Vec<Value> = others.map(|(id, it)| component(id, it, "library")).collect();
    let dependencies: Vec<Value> = graph
        .crates
        .iter()
        .map(|(id, it)| {
            let needs: Vec<String> = it.needs.iter().map(purl).collect();
            json!({"ref": purl(id), "dependsOn": needs})
        })
        .collect();
    let root = graph.crates.get(&graph.root).map(|it| component(&graph.root, it, "application"));
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": time,
            "tools": {"components": [
                {"type": "application", "name": "weft-sbom", "version": env!("CARGO_PKG_VERSION")},
            ]},
            "component": root,
            "properties": [
                {"name": "weft:target", "value": target},
                {"name": "weft:compiler", "value": compiler},
            ],
        },
        "components": components,
        "dependencies": dependencies,
    })
}

fn component(id: &Id, of: &Crate, kind: &str) -> Value {
    let mut component = Map::new();
    let mut put = |name: &str, value: Value| component.insert(name.to_owned(), value);
    put("type", json!(kind));
    put("bom-ref", json!(purl(id)));
    put("name", json!(id.0));
    put("version", json!(id.1));
    put("purl", json!(purl(id)));
    put("scope", json!(if of.is_linked { "required" } else { "excluded" }));
    if let Some(description) = &of.description {
        put("description", json!(description.split_whitespace().collect::<Vec<_>>().join(" ")));
    }
    if let Some(license) = &of.license {
        put("licenses", json!([{"expression": license}]));
    }
    if let Some(checksum) = &of.checksum {
        put("hashes", json!([{"alg": "SHA-256", "content": checksum}]));
    }
    if let Some(repository) = &of.repository {
        put("externalReferences", json!([{"type": "vcs", "url": repository}]));
    }
    Value::Object(component)
}

/// The package URL, which is also the name within the document. Of names and versions only a `+` needs
/// to be written in another way.
fn purl((name, version): &Id) -> String {
    format!("pkg:cargo/{name}@{}", version.replace('+', "%2B"))
}

/// What a document lacks: of each component the name, version, licence and package URL, a checksum
/// where it is not Weft's own; and a component behind every name among the dependencies.
pub fn lacks(document: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    if document["bomFormat"] != "CycloneDX" || document["specVersion"] != "1.5" {
        wrong.push("it is no CycloneDX 1.5".to_owned());
    }
    let main = &document["metadata"]["component"];
    let components: Vec<&Value> =
        document["components"].as_array().into_iter().flatten().chain([main]).collect();
    if components.len() < 2 {
        wrong.push("it has no components".to_owned());
    }
    let mut names = BTreeSet::new();
    for component in components {
        let name = component["bom-ref"].as_str().unwrap_or_default();
        if !names.insert(name) {
            wrong.push(format!("{name} is there twice"));
        }
        let missing = |pointer: &&str| {
            let value = component.pointer(pointer).and_then(Value::as_str);
            value.is_none_or(str::is_empty)
        };
        let mut needed = vec!["/name", "/version", "/purl", "/licenses/0/expression"];
        if !component["name"].as_str().is_some_and(|name| name.starts_with("weft-")) {
            needed.push("/hashes/0/content");
        }
        wrong.extend(needed.iter().filter(|it| missing(it)).map(|it| format!("{name}: no {it}")));
    }
    let dependencies: Vec<&Value> =
        document["dependencies"].as_array().into_iter().flatten().collect();
    let needed =
        dependencies.iter().flat_map(|it| it["dependsOn"].as_array().into_iter().flatten());
    for name in dependencies.iter().map(|it| &it["ref"]).chain(needed) {
        if !name.as_str().is_some_and(|name| names.contains(name)) {
            wrong.push(format!("{name} is needed, and not among the components"));
        }
    }
    if dependencies.len() != names.len() {
        wrong.push(format!("what {} of {} need is said", dependencies.len(), names.len()));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> Value {
        let mut graph = Graph { root: ("weft-x".into(), "0.1.0".into()), ..Graph::default() };
        let needed = ("y".to_owned(), "1.0.0+2".to_owned());
        let license = || Some("MIT".to_owned());
        let root = Crate { needs: [needed.clone()].into(), license: license(), ..Crate::default() };
        let other =
            Crate { license: license(), checksum: Some("ab".to_owned()), ..Crate::default() };
        graph.crates.insert(graph.root.clone(), root);
        graph.crates.insert(needed, other);
        document(&graph, "x86_64-unknown-linux-gnu", "2026-01-01T00:00:00Z", "rustc 1.92.0")
    }

    #[test]
    fn a_whole_one_lacks_nothing() {
        let document = whole();
        assert_eq!(lacks(&document), [""; 0]);
        assert_eq!(document["components"][0]["purl"], "pkg:cargo/y@1.0.0%2B2");
        assert_eq!(document["metadata"]["component"]["name"], "weft-x");
    }

    #[test]
    fn what_is_missing_is_named() {
        for (pointer, said) in [
            ("/specVersion", "no CycloneDX 1.5"),
            ("/components", "no components"),
            ("/components/0/name", "no /name"),
            ("/components/0/version", "no /version"),
            ("/components/0/purl", "no /purl"),
            ("/components/0/licenses", "no /licenses"),
            ("/components/0/hashes", "no /hashes"),
            ("/components/0/bom-ref", "not among the components"),
            ("/dependencies", "0 of 2"),
        ] {
            let mut document = whole();
            if let Some(part) = document.pointer_mut(pointer) {
                *part = Value::Null;
            }
            let lacks = lacks(&document);
            assert!(lacks.iter().any(|it| it.contains(said)), "{pointer}: {lacks:?}");
        }
    }
}
