use std::io::Write;
use std::sync::{Arc, Mutex};

use weft_gamma::object::Kind;

use super::*;

#[test]
fn problems_display_what_there_is() {
    let mut problem = SourceProblem {
        file: Some("a.yaml".into()),
        line: Some(3),
        object: None,
        field: String::new(),
        message: "is not YAML".into(),
    };
    assert_eq!(problem.to_string(), "a.yaml:3: is not YAML");
    problem.line = None;
    problem.field = "spec".into();
    assert_eq!(problem.to_string(), "a.yaml: spec: is not YAML");
}

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Captured {
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

#[test]
fn each_problem_is_logged_once() {
    let captured = Captured::default();
    let writer = captured.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .without_time()
        .with_target(false)
        .with_ansi(false)
        .finish();
    let problem = |line, message: &str| SourceProblem {
        file: Some("a.yaml".into()),
        line: Some(line),
        object: None,
        field: "spec".into(),
        message: message.into(),
    };
    tracing::subscriber::with_default(subscriber, || {
        let mut log = ProblemLog::default();
        log.report(&[problem(1, "one"), problem(9, "two")]);
        assert_eq!(captured.take(), " WARN a.yaml:1: spec: one\n WARN a.yaml:9: spec: two\n");
        // Moved by an edit further up.
        log.report(&[problem(2, "one"), problem(10, "two")]);
        assert_eq!(captured.take(), "");
        log.report(&[problem(2, "one, changed")]);
        let lines = captured.take();
        assert_eq!(
            lines,
            " WARN a.yaml:2: spec: one, changed\n INFO resolved: a.yaml: spec: one\n \
             INFO resolved: a.yaml: spec: two\n"
        );
        let many: Vec<_> = (0..500).map(|index| problem(1, &format!("{index}"))).collect();
        log.report(&many);
        let lines = captured.take();
        assert!(lines.lines().count() < 60 && lines.contains("and 450 more problems"), "{lines}");
    });
}

#[test]
fn a_problem_is_one_line_whatever_its_words_are() {
    let key = ObjectKey {
        kind: Kind::Service,
        namespace: "de\nfault".into(),
        name: "a\u{1b}[31m".into(),
    };
    let problem = SourceProblem {
        file: None,
        line: None,
        object: Some(key),
        field: "spec.\rä".into(),
        message: "must\tbe set".into(),
    };
    let expected = r"Service de\nfault/a\u{1b}[31m: spec.\rä: must\tbe set";
    assert_eq!(problem.to_string(), expected);
}
