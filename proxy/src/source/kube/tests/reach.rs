//! What is said of whether the API server can be reached.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use crate::metrics::{Metrics, MetricsSettings};
use crate::source::kube::reach::{Reach, Witness};

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Captured {
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

#[test]
fn that_the_api_server_is_away_is_said_once_and_so_is_its_return() {
    let captured = Captured::default();
    let writer = captured.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .without_time()
        .with_target(false)
        .with_ansi(false)
        .finish();
    let metrics = Metrics::new(&MetricsSettings::default());
    let connected = |expected: &str| {
        let line = format!("\nweft_source_connected {expected}\n");
        assert!(metrics.encode().contains(&line), "expected {expected}");
    };
    let mut reach = Reach::new(metrics.clone());
    tracing::subscriber::with_default(subscriber, || {
        reach.answered(Witness::Watch(1));
        connected("1");
        for round in 0..100 {
            reach.failed(Witness::Watch(1 + round % 3), "refused");
            reach.failed(Witness::Lookup, "refused");
        }
        connected("0");
        let away = "what is known stays in force error=\"refused\"\n";
        assert_eq!(captured.take(), format!(" WARN the API server does not answer: {away}"));

        reach.answered(Witness::Watch(1));
        reach.answered(Witness::Watch(2));
        connected("0");
        assert_eq!(captured.take(), "", "not all are back");
        reach.answered(Witness::Watch(3));
        connected("1");
        assert_eq!(captured.take(), " INFO the API server answers again\n");

        // One that is let go is not waited for.
        reach.failed(Witness::Watch(4), "refused");
        captured.take();
        reach.forget(4);
        reach.answered(Witness::Watch(1));
        connected("1");
    });
    assert!(metrics.encode().contains("\nweft_source_errors_total 201\n"));
}
