use super::*;

/// A handle of a log that goes nowhere, with the layer that has to live as long.
pub(crate) fn handle(level: &str) -> (LogHandle, reload::Layer<EnvFilter, Registry>) {
    let (layer, filter) = reload::Layer::new(parse_level(level).unwrap());
    (LogHandle { filter }, layer)
}

#[test]
fn levels_are_understood() {
    for level in [
        "info",
        "WARN",
        "off",
        "trace",
        " debug ",
        "info,weft_proxy::source=debug",
        "weft_proxy=trace, hyper=off",
        "weft_proxy::source",
        "[request{id=1}]=debug",
    ] {
        assert!(parse_level(level).is_ok(), "{level}");
    }
}

#[test]
fn misspelt_levels_are_refused() {
    for level in ["", " ", "inof", "info,debgu", "weft_proxy=loud", "=", "info;debug"] {
        let error = parse_level(level).unwrap_err().to_string();
        assert!(error.contains("is no log level: write error, warn"), "{level}: {error}");
    }
}

#[test]
fn the_level_can_be_changed() {
    let (handle, _layer) = handle("info");
    assert_eq!(handle.current(), "info");
    handle.set("warn,weft_proxy::source=debug").unwrap();
    assert_eq!(handle.current(), "weft_proxy::source=debug,warn");
    assert!(handle.set("nonsense").is_err());
    assert_eq!(handle.current(), "weft_proxy::source=debug,warn");
}

#[test]
fn the_clients_own_complaints_are_left_to_the_source() {
    let (lines, seen) = std::sync::mpsc::channel();
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(move || Line(lines.clone()))
        .with_filter(filter_fn(is_news));
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        tracing::error!(target: "kube_client::client::builder", "failed with error");
        tracing::warn!(target: "kube_client::client", "eof in poll");
        tracing::info!(target: "kube_client::client", "a detail that somebody asked for");
        tracing::warn!("the API server does not answer");
    });
    let seen: String = seen.try_iter().collect();
    assert!(!seen.contains("failed with") && !seen.contains("eof in poll"), "{seen}");
    assert!(seen.contains("a detail") && seen.contains("does not answer"), "{seen}");
}

struct Line(std::sync::mpsc::Sender<String>);

impl std::io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.send(String::from_utf8_lossy(bytes).into_owned()).unwrap();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
