use std::fmt::Write as _;

use super::*;

fn service(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  clusterIP: 10.96.0.1\n  \
         ports:\n  - port: 80\n"
    )
}

#[test]
fn documents_are_split_at_markers_only() {
    // The text, the lines at which documents begin, and how many of them say something.
    let cases: [(&str, &[usize], usize); 10] = [
        ("", &[1], 0),
        ("a: 1\n", &[1], 1),
        ("---\na: 1\n---\nb: 1", &[1, 3], 2),
        ("# x\n\n---\na: 1\n", &[1, 3], 1),
        ("--- \na: 1\n---\t# x\nb: 1\n--- # y\n---", &[1, 3, 5, 6], 3),
        ("a: 1\r\n---\r\nb: 1\r\n", &[1, 2], 2),
        ("a: |\n  ---\n  text\nb: 1\n", &[1], 1),
        ("a: 1\n----: 1\n", &[1], 1),
        ("%YAML 1.2\n---\na: 1\n...\n---\n# nothing\n", &[1, 2, 5], 1),
        ("a: 1\n--- {b: 1}\n", &[1, 2], 2),
    ];
    for (text, lines, speaking) in cases {
        let documents = split(text);
        let whole: String = documents.iter().map(|(_, document)| *document).collect();
        assert_eq!(whole, text);
        let begins: Vec<usize> = documents.iter().map(|(line, _)| *line).collect();
        assert_eq!(begins, lines, "{text:?}");
        let count = documents.iter().filter(|(_, document)| !is_blank(document)).count();
        assert_eq!(count, speaking, "{text:?}");
        let parsed = parse(Path::new("a.yaml"), text.as_bytes());
        assert!(!parsed.unreadable, "{text:?}: {:?}", parsed.content.problems);
    }
}

#[test]
fn scalars_are_what_yaml_says() {
    let text = "port: 80\nquoted: \"80\"\nflag: true\nempty:\nlong: |\n  a\n  b\n";
    let value: Value = serde_saphyr::from_str_with_options(text, options()).unwrap();
    let expected = serde_json::json!({
        "port": 80, "quoted": "80", "flag": true, "empty": null, "long": "a\nb\n"
    });
    assert_eq!(value, expected);
}

#[test]
fn json_documents_follow_each_other() {
    let text = r#"
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "one"},
         "spec": {"clusterIP": "None"}}
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "one"},
         "spec": {"clusterIP": "None"}}
        {"#;
    let Parsed { content, unreadable } = parse(Path::new("a.json"), text.as_bytes());
    assert!(unreadable);
    assert_eq!(content.lines.values().collect::<Vec<_>>(), [&2]);
    let [duplicate, broken] = content.problems.as_slice() else { panic!("{:?}", content.problems) };
    assert_eq!((duplicate.line, broken.line), (Some(4), Some(6)));
    assert!(broken.message.starts_with("is not JSON: "), "{broken}");
}

#[test]
fn a_byte_order_mark_is_no_text() {
    let parsed = parse(Path::new("a.yaml"), format!("\u{feff}{}", service("a")).as_bytes());
    assert_eq!(parsed.content.lines.len(), 1, "{:?}", parsed.content.problems);
}

/// What editors and people leave behind, with the line at which it is reported.
#[test]
fn what_is_no_yaml_is_located() {
    for (text, line) in [
        ("a: 1\n---\na: 1\na: 2\n", 4),
        ("a: 1\n---\nb:\n\tc: 1\n", 4),
        ("a: 1\n---\nb: \"never closed\nc: 1\n", 4),
        ("<<<<<<< HEAD\na: 1\n=======\n", 2),
        ("a: *nowhere\n", 1),
    ] {
        let parsed = parse(Path::new("a.yaml"), text.as_bytes());
        assert!(parsed.unreadable, "{text:?}");
        let problem = parsed.content.problems.last().unwrap();
        assert_eq!(problem.line, Some(line), "{text:?}: {problem}");
    }
}

#[test]
fn a_large_document_is_read() {
    let mut list = String::from("apiVersion: v1\nkind: List\nitems:\n");
    let items = 20_000;
    for index in 0..items {
        let item = service(&format!("service-{index}"));
        let _ = writeln!(list, "- {}", item.trim_end().replace('\n', "\n  "));
    }
    assert!(list.len() > 2 << 20);
    let Parsed { content, unreadable } = parse(Path::new("large.yaml"), list.as_bytes());
    assert!(!unreadable, "{:?}", content.problems.first());
    assert_eq!(content.objects.services.len(), items);
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let before = format!("*a{}, ", level - 1).repeat(10);
        let _ = writeln!(bomb, "a{level}: &a{level} [{}]", before.trim_end_matches(", "));
    }
    let parsed = parse(Path::new("bomb.yaml"), bomb.as_bytes());
    assert!(parsed.unreadable);
    assert_eq!(parsed.content.problems.len(), 1);
}

#[test]
fn deep_nesting_is_refused() {
    for (name, text) in [("a.yaml", "[".repeat(100_000)), ("a.json", "[".repeat(100_000))] {
        let parsed = parse(Path::new(name), text.as_bytes());
        assert!(parsed.unreadable, "{name}");
    }
}

#[test]
fn words_that_yaml_1_1_takes_for_booleans_are_words() {
    let parsed = serde_saphyr::from_str_with_options::<Value>(
        "[y, n, yes, no, on, off, true, 'true']",
        options(),
    );
    let expected = serde_json::json!(["y", "n", "yes", "no", "on", "off", true, "true"]);
    assert_eq!(parsed.expect("YAML"), expected);
}
