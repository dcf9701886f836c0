use super::*;

const NAME: &str = "weft-injector.weft-system.svc";
const HOUR: Duration = Duration::from_secs(3600);

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn read_again(
    generation: &Generation,
    name: &str,
    now: SystemTime,
) -> Result<Generation, GenerationError> {
    let Generation { number, ca_pem, certificate_pem, key_pem, .. } = generation.clone();
    Generation::read(number, ca_pem, certificate_pem, key_pem, name, now)
}

#[test]
fn what_is_issued_can_be_read_and_is_good_for_its_name() {
    let generation = Generation::issue(7, NAME, now(), HOUR).unwrap();
    assert_eq!(generation.number, 7);
    assert_eq!(generation.valid.until, now() + HOUR);
    assert_eq!(generation.valid.from, now() - Duration::from_secs(300));
    assert!(is_our_ca(&generation.ca));
    let read = read_again(&generation, NAME, now()).unwrap();
    assert_eq!(read.ca, generation.ca);
    assert_eq!(read.valid, generation.valid);
}

#[test]
fn short_lives_are_backdated_a_little() {
    let generation = Generation::issue(1, NAME, now(), Duration::from_secs(20)).unwrap();
    assert_eq!(generation.valid.length(), Duration::from_secs(22));
}

#[test]
fn one_for_another_name_is_not_usable() {
    let generation = Generation::issue(1, NAME, now(), HOUR).unwrap();
    let error = read_again(&generation, "other.weft-system.svc", now()).unwrap_err();
    assert!(matches!(error, GenerationError::Unusable(_)), "{error}");
}

#[test]
fn expired_ones_are_read_as_such() {
    let generation = Generation::issue(1, NAME, now(), HOUR).unwrap();
    let later = now() + HOUR * 2;
    assert!(read_again(&generation, NAME, later).unwrap().valid.has_ended(later));
}

#[test]
fn a_clock_that_is_behind_makes_none_unusable() {
    let generation = Generation::issue(1, NAME, now(), HOUR).unwrap();
    read_again(&generation, NAME, now() - HOUR).unwrap();
}

#[test]
fn parts_of_different_generations_do_not_fit() {
    let one = Generation::issue(1, NAME, now(), HOUR).unwrap();
    let other = Generation::issue(2, NAME, now(), HOUR).unwrap();
    let wrong_ca = Generation { ca_pem: other.ca_pem.clone(), ..one.clone() };
    assert!(read_again(&wrong_ca, NAME, now()).is_err());
    let wrong_key = Generation { key_pem: other.key_pem, ..one.clone() };
    assert!(read_again(&wrong_key, NAME, now()).is_err());
    let no_pem = Generation { certificate_pem: "?".to_owned(), ..one };
    let error = read_again(&no_pem, NAME, now()).unwrap_err().to_string();
    assert!(error.starts_with("the certificate is not PEM"), "{error}");
}
