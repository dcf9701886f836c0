use std::time::{Duration, UNIX_EPOCH};

use super::*;

const NAME: &str = "weft-injector.weft-system.svc";

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn issue(number: u64, seconds: u64) -> Generation {
    Generation::issue(number, NAME, now(), Duration::from_secs(seconds)).unwrap()
}

#[test]
fn has_every_generation_once() {
    let (one, two) = (issue(1, 600), issue(2, 900));
    let first = merged(b"", std::slice::from_ref(&one), now());
    assert_eq!(first, one.ca_pem);
    let both = merged(first.as_bytes(), &[one.clone(), two.clone()], now());
    assert_eq!(both, format!("{}{}", one.ca_pem, two.ca_pem));
    assert_eq!(merged(both.as_bytes(), &[one, two], now()), both);
}

#[test]
fn keeps_cas_of_ours_while_they_are_good() {
    let (one, two) = (issue(1, 600), issue(2, 900));
    let both = merged(one.ca_pem.as_bytes(), std::slice::from_ref(&two), now());
    assert_eq!(authorities(both.as_bytes()), [one.ca, two.ca.clone()]);
    let later = now() + Duration::from_secs(600);
    assert_eq!(merged(both.as_bytes(), std::slice::from_ref(&two), later), two.ca_pem);
}

#[test]
fn what_is_not_ours_goes() {
    let one = issue(1, 600);
    let foreign = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap().cert.pem();
    let before = format!("{foreign}some text\n");
    assert_eq!(merged(before.as_bytes(), std::slice::from_ref(&one), now()), one.ca_pem);
    assert_eq!(merged(b"\xff\x00", std::slice::from_ref(&one), now()), one.ca_pem);
}

#[test]
fn is_bounded_and_never_without_the_generations() {
    let one = issue(1, 600);
    let many: String = (0..40).map(|number| issue(number, 600).ca_pem).collect();
    let merged = merged(many.as_bytes(), std::slice::from_ref(&one), now());
    let authorities = authorities(merged.as_bytes());
    assert_eq!(authorities.len(), MOST + 1);
    assert_eq!(authorities.last(), Some(&one.ca));
}
