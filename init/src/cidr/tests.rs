use super::*;

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

fn refusal(text: &str) -> String {
    text.parse::<Cidr>().unwrap_err().to_string()
}

#[test]
fn ranges_and_single_addresses_keep_the_text_that_iptables_prints() {
    for (written, printed) in [
        ("10.96.0.0/12", "10.96.0.0/12"),
        ("10.0.0.7", "10.0.0.7/32"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("fd00:0:0:0:0:0:0:0/108", "fd00::/108"),
        ("FD00::7", "fd00::7/128"),
        ("::/0", "::/0"),
    ] {
        assert_eq!(cidr(written).to_string(), printed);
    }
}

#[test]
fn host_bits_are_refused_with_both_things_that_may_have_been_meant() {
    assert_eq!(
        refusal("10.96.0.1/12"),
        "`10.96.0.1/12` has bits set behind its prefix: write 10.96.0.0/12 for the range, or \
         10.96.0.1/32 for the one address"
    );
    assert!(refusal("fd00::1/64").contains("write fd00::/64 for the range, or fd00::1/128"));
}

#[test]
fn what_is_no_range_is_refused() {
    for text in ["", "10.96.0.0.0/12", "cluster.local", "10.96/12", "fd00::%eth0/64", "10.0.0.0 /8"]
    {
        assert!(refusal(text).contains("is not an address range"), "{text}");
    }
    for text in ["10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/255.0.0.0", "fd00::/129"] {
        assert!(refusal(text).contains("the prefix of an IPv"), "{text}");
    }
    assert!(refusal("::ffff:10.0.0.0/104").contains("write it with the address 10.0.0.0"));
}

#[test]
fn a_range_contains_those_in_it_and_none_of_the_other_family() {
    assert!(cidr("10.96.0.0/12").contains(cidr("10.111.0.0/16")));
    assert!(cidr("10.96.0.0/12").contains(cidr("10.96.0.0/12")));
    assert!(!cidr("10.96.0.0/12").contains(cidr("10.112.0.0/16")));
    assert!(!cidr("10.96.0.0/12").contains(cidr("10.0.0.0/8")));
    assert!(cidr("::/0").contains(cidr("fd00::7")));
    assert!(!cidr("0.0.0.0/0").contains(cidr("::/0")));
    assert!(!cidr("::/0").contains(cidr("10.0.0.0/8")));
}

#[test]
fn a_list_is_sorted_and_holds_no_range_twice() {
    let list: CidrList =
        " fd00::/64, 10.1.0.0/16 ,10.0.0.0/8,10.0.0.0/8,, 192.0.2.1".parse().unwrap();
    assert_eq!(list.to_string(), "10.0.0.0/8,192.0.2.1/32,fd00::/64");
    assert_eq!(list.of(Family::Ipv6).count(), 1);
    assert!(list.contains(cidr("10.1.2.3")));
    assert!("".parse::<CidrList>().unwrap().is_empty());
}

#[test]
fn only_includes_take_the_star() {
    let includes: Includes = "*,10.0.0.0/8".parse().unwrap();
    assert!(includes.everything);
    assert_eq!(includes.cidrs.to_string(), "10.0.0.0/8");
    assert_eq!("10.0.0.0/8,*".parse::<CidrList>().unwrap_err(), CidrError::Everything);
}
