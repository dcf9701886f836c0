use super::*;

fn list(text: &str) -> PortList {
    text.parse().unwrap()
}

#[test]
fn the_same_ports_make_the_same_list() {
    assert_eq!(list("8005-8010, 80 ,8000-8006,81,,80").to_string(), "80-81,8000-8010");
    assert_eq!(list("65535,65534-65535").to_string(), "65534-65535");
    assert!(list(" , ").is_empty());
}

#[test]
fn what_is_no_port_is_refused_with_what_to_write() {
    for text in ["0", "65536", "http", "80-", "-80", "80:90", "+80", "1-2-3", "80 90"] {
        let error = text.parse::<PortList>().unwrap_err().to_string();
        assert!(error.contains("a range like 8000-8010"), "{text}: {error}");
    }
    assert_eq!(
        "90-80".parse::<PortList>().unwrap_err().to_string(),
        "`90-80` ends before it begins: write 80-90"
    );
}

#[test]
fn more_ports_than_one_match_takes_are_spread_over_several() {
    let odd: Vec<String> = (0..16).map(|n| (1 + 2 * n).to_string()).collect();
    assert_eq!(list(&odd.join(",")).multiports(), [odd[..15].join(","), odd[15].clone()]);
    assert_eq!(list(&odd[..15].join(",")).multiports().len(), 1);
}

#[test]
fn a_range_counts_as_two_ports() {
    let ranges: Vec<String> = (0..8).map(|n| format!("{}-{}", 10 * n + 1, 10 * n + 3)).collect();
    let values = list(&ranges.join(",")).multiports();
    assert_eq!(values.len(), 2);
    assert_eq!(values[0], "1:3,11:13,21:23,31:33,41:43,51:53,61:63");
    assert_eq!(values[1], "71:73");
    // Fourteen slots are taken and a range needs two: it moves on whole.
    let single_first = format!("{},100", ranges[..7].join(","));
    assert_eq!(list(&single_first).multiports().len(), 1);
}
