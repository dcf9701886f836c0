//! How the demo looks: colour on a terminal, plain text elsewhere (NO_COLOR is honoured).

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use weft_tests::scenario::{Compared, Counted, Event, Scenario};

/// Widths in characters.
const LINE: usize = 92;
const BAR: usize = 30;

/// Paints, or leaves text as it is.
pub(crate) struct Painter {
    colour: bool,
}

impl Painter {
    /// With colour when standard output is a terminal that has it and nobody objects.
    pub(crate) fn for_stdout() -> Painter {
        let objection = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Painter { colour: std::io::stdout().is_terminal() && !objection && !dumb }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(crate) fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(crate) fn dim(&self, text: &str) -> String {
        self.paint("2", text)
    }

    pub(crate) fn good(&self, text: &str) -> String {
        self.paint("1;32", text)
    }

    pub(crate) fn bad(&self, text: &str) -> String {
        self.paint("1;31", text)
    }

    fn mark(&self, passed: bool) -> String {
        if passed { self.good("✓") } else { self.bad("✗") }
    }

    pub(crate) fn introduction(&self) {
        println!("\n{}", self.bold("Weft: the Gateway API's routes, applied by a sidecar"));
        for line in wrap(
            "Below, every client stands in a network namespace of its own, as in a pod. weft-init \
             has written its iptables rules there and weft-proxy runs as an unprivileged user. \
             Service addresses exist only as numbers: nothing listens there, and an answer has \
             come through the sidecar. Requests are sent by curl.",
        ) {
            println!("{}", self.dim(&line));
        }
        println!();
    }

    pub(crate) fn is_laid(&self, backends: usize, clients: usize, took: Duration) {
        println!(
            "{} {backends} backend pods, {clients} client pods with sidecars, ready in {:.1} s",
            self.good("✓"),
            took.as_secs_f64()
        );
    }

    pub(crate) fn headline(&self, scenario: &Scenario) {
        let title = format!("{}  {}", scenario.number, scenario.title);
        println!("\n{} {}", self.bold(&title), self.dim(&rule(&title)));
        for line in wrap(scenario.story) {
            println!("   {}", self.dim(&line));
        }
    }

    pub(crate) fn section(&self, title: &str, remark: &str) {
        println!("\n{} {}", self.bold(title), self.dim(&rule(title)));
        println!("   {}", self.dim(remark));
    }

    /// One event; with `brief` only what has been checked.
    pub(crate) fn event(&self, event: &Event, brief: bool) {
        match event {
            Event::Say(_) | Event::Applied(_) | Event::Deleted(_) if brief => {}
            Event::Say(sentence) => {
                println!();
                for line in wrap(sentence) {
                    println!("   {line}");
                }
            }
            Event::Applied(object) => println!("   {} {}", self.paint("36", "+"), shorten(object)),
            Event::Deleted(object) => println!("   {} {}", self.paint("35", "-"), shorten(object)),
            Event::Compared(compared) => self.compared(compared),
            Event::Counted(counted) => self.counted(counted),
        }
    }

    fn compared(&self, compared: &Compared) {
        let Compared { what, expected, came, passed } = compared;
        let mark = self.mark(*passed);
        if expected == came {
            println!("   {mark} {what}: {}", self.bold(&shorten(came)));
        } else {
            println!(
                "   {mark} {what}: {} {}",
                self.bold(came),
                self.dim(&format!("({expected})"))
            );
        }
    }

    fn counted(&self, counted: &Counted) {
        let total = counted.total();
        println!(
            "   {} {} {}",
            self.mark(counted.passed),
            self.paint("1;34", &shorten(&counted.sent)),
            self.dim(&format!("× {total} from {}", shorten(&counted.from)))
        );
        let mut rows: BTreeMap<&str, (Option<f64>, u32)> = BTreeMap::new();
        for (label, share) in &counted.expected {
            rows.insert(label, (Some(*share), 0));
        }
        for (label, count) in &counted.came {
            rows.entry(label).or_default().1 = *count;
        }
        let width = rows.keys().map(|label| label.chars().count()).max().unwrap_or(0);
        for (label, (expected, count)) in rows {
            let share = f64::from(count) / f64::from(total.max(1));
            let wanted = expected
                .map_or("not expected".to_owned(), |share| format!("expected {}", percent(share)));
            println!(
                "       {label:width$} {} {count:>6} {:>7}  {}",
                self.bar(share),
                percent(share),
                self.dim(&wanted)
            );
        }
    }

    fn bar(&self, share: f64) -> String {
        let full = (share * BAR as f64).round() as usize;
        let full = full.clamp(usize::from(share > 0.0), BAR);
        self.paint("32", &"█".repeat(full)) + &self.dim(&"·".repeat(BAR - full))
    }

    pub(crate) fn success(&self, scenarios: usize, checks: usize, took: Duration) {
        println!(
            "\n{} {scenarios} scenarios, {checks} checks, {:.1} s",
            self.good("✓ all as expected:"),
            took.as_secs_f64()
        );
    }

    pub(crate) fn farewell(&self) {
        println!(
            "   {} leaves all of this up and opens a shell in a client pod: send requests, edit \
             routes.\n   The manifests are in {}.\n",
            self.bold("make demo-shell"),
            self.bold("tests/scenarios/")
        );
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// The rule after a title, to the line's end.
fn rule(title: &str) -> String {
    "─".repeat(LINE.saturating_sub(title.chars().count() + 1))
}

/// Names of 63 characters are cut in the middle: they only have to be recognised.
fn shorten(text: &str) -> String {
    let short = |word: &str| {
        let letters: Vec<char> = word.chars().collect();
        if letters.len() <= 60 || word.contains(' ') {
            return word.to_owned();
        }
        let (head, tail) = (&letters[..28], &letters[letters.len() - 16..]);
        format!("{}…{}", head.iter().collect::<String>(), tail.iter().collect::<String>())
    };
    text.split(' ').map(short).collect::<Vec<_>>().join(" ")
}

/// Lines of a paragraph.
fn wrap(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last_mut().map_or(0, |line| line.chars().count());
        if last + word.chars().count() + 4 > LINE {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
