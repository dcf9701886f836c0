use super::*;

fn parse(text: &str) -> Quantity {
    text.parse().unwrap()
}

#[test]
fn every_form_has_its_value() {
    for (text, same) in [
        ("1", "1000m"),
        ("0.5", "500m"),
        (".5", "0.50"),
        ("5.", "5"),
        ("64Mi", "65536Ki"),
        ("1k", "1e3"),
        ("1M", "1E6"),
        ("1G", "1000M"),
        ("1Gi", "1073741824"),
        ("100u", "100000n"),
        ("1e-3", "1m"),
        ("0", "0Mi"),
        (" 10m ", "10m"),
    ] {
        assert_eq!(parse(text), parse(same), "{text}");
    }
    assert_eq!(parse("0.10").to_string(), "0.10");
}

#[test]
fn amounts_are_ordered_by_value() {
    assert!(parse("1Ki") > parse("1k"));
    assert!(parse("900m") < parse("1"));
    assert!(parse("2") > parse("1500m"));
}

#[test]
fn what_is_no_amount_is_refused() {
    for text in [
        "", " ", ".", "m", "-1", "+1", "1.2.3", "1 Gi", "64MB", "64mi", "1e", "1e99", "9Ei9", "ten",
    ] {
        assert!(text.parse::<Quantity>().is_err(), "{text}");
    }
    assert!("99999999999999999999999999999999999999999999".parse::<Quantity>().is_err());
    assert!("16Ei".parse::<Quantity>().is_err());
    let message = "64MB".parse::<Quantity>().unwrap_err().to_string();
    assert_eq!(
        message,
        "`64MB` is not an amount: write it like 100m or 0.5 for CPUs, 64Mi for memory"
    );
}
