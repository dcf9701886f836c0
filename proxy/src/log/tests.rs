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
