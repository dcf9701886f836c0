//! Finds the line of a field in a document. Done only where there is a problem to report.

use serde_saphyr::granit_parser::{Event, Parser};
use weft_gamma::object::ObjectKey;

/// A document with the lines of its nodes.
#[derive(Debug)]
pub(super) struct Document {
    root: Option<Node>,
}

#[derive(Debug)]
struct Node {
    /// From 0.
    line: usize,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Scalar(String),
    /// Key, line of the key, value.
    Mapping(Vec<(String, usize, Node)>),
    Sequence(Vec<Node>),
}

impl Document {
    /// Reads what was parsed before; what cannot be read has no lines.
    pub(super) fn read(text: &str) -> Document {
        let mut builder = Builder::default();
        for event in Parser::new_from_str(text) {
            let Ok((event, span)) = event else { break };
            builder.take(&event, span.start.line().saturating_sub(1));
        }
        Document { root: builder.root }
    }

    /// The line, from 0, of a field such as `spec.rules[0].matches[1].path`, or of what of it is
    /// there, within the document's object or the one of that name in a list.
    pub(super) fn line_of(&self, object: Option<&ObjectKey>, field: &str) -> Option<usize> {
        let root = self.root.as_ref()?;
        let start = match object {
            Some(key) => root.find_item(key).unwrap_or(root),
            None => root,
        };
        Some(start.descend("", field).unwrap_or(start.line))
    }
}

impl Node {
    /// The item of a list that has this name.
    fn find_item(&self, key: &ObjectKey) -> Option<&Node> {
        let Value::Sequence(items) = &self.get("items")?.value else { return None };
        items.iter().find(|item| {
            let text_at = |field| item.get("metadata")?.get(field)?.text();
            let kind = item.get("kind").and_then(Node::text);
            text_at("name") == Some(&key.name)
                && text_at("namespace").unwrap_or("default") == key.namespace
                && kind.is_none_or(|kind| kind == key.kind.to_string())
        })
    }

    fn get(&self, name: &str) -> Option<&Node> {
        let Value::Mapping(fields) = &self.value else { return None };
        fields.iter().find(|(key, _, _)| key == name).map(|(_, _, node)| node)
    }

    fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(text) => Some(text),
            _ => None,
        }
    }

    /// The line of the last node on the way to `field`; `path` is the way that has been gone. Keys
    /// have dots too, so that the way is compared as it is written.
    fn descend(&self, path: &str, field: &str) -> Option<usize> {
        let (line, path, node) = match &self.value {
            Value::Scalar(_) => return None,
            Value::Mapping(fields) => fields.iter().find_map(|(key, line, node)| {
                let dot = if path.is_empty() { "" } else { "." };
                let path = format!("{path}{dot}{key}");
                leads_to(&path, field).then_some((*line, path, node))
            })?,
            Value::Sequence(items) => items.iter().enumerate().find_map(|(index, node)| {
                let path = format!("{path}[{index}]");
                leads_to(&path, field).then_some((node.line, path, node))
            })?,
        };
        node.descend(&path, field).or(Some(line))
    }
}

/// Whether a path is a field or one of those that it is in.
fn leads_to(path: &str, field: &str) -> bool {
    field
        .strip_prefix(path)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || rest.starts_with('['))
}

/// Makes a tree of a parser's events.
#[derive(Default)]
struct Builder {
    root: Option<Node>,
    open: Vec<Open>,
}

/// A mapping or sequence that has not ended.
struct Open {
    node: Node,
    /// A mapping's key that waits for its value.
    key: Option<(String, usize)>,
}

impl Builder {
    fn take(&mut self, event: &Event<'_>, line: usize) {
        match event {
            Event::MappingStart(..) => self.open(line, Value::Mapping(Vec::new())),
            Event::SequenceStart(..) => self.open(line, Value::Sequence(Vec::new())),
            Event::MappingEnd | Event::SequenceEnd => {
                if let Some(open) = self.open.pop() {
                    self.add(open.node);
                }
            }
            Event::Scalar(text, ..) => {
                self.add(Node { line, value: Value::Scalar(text.to_string()) });
            }
            // What an alias stands for is written elsewhere.
            Event::Alias(..) => self.add(Node { line, value: Value::Scalar(String::new()) }),
            _ => {}
        }
    }

    fn open(&mut self, line: usize, value: Value) {
        self.open.push(Open { node: Node { line, value }, key: None });
    }

    fn add(&mut self, node: Node) {
        let Some(parent) = self.open.last_mut() else {
            self.root.get_or_insert(node);
            return;
        };
        match &mut parent.node.value {
            Value::Sequence(items) => items.push(node),
            Value::Mapping(fields) => match parent.key.take() {
                Some((key, line)) => fields.push((key, line, node)),
                None => {
                    let key = node.text().unwrap_or_default().to_owned();
                    parent.key = Some((key, node.line));
                }
            },
            Value::Scalar(_) => {}
        }
    }
}
