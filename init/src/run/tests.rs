use super::*;

/// `(usable, foreign, own)` of nft, then of legacy.
fn ordered(choice: BackendChoice, nft: [bool; 3], legacy: [bool; 3]) -> Vec<Backend> {
    let standing =
        |backend, [usable, foreign, own]: [bool; 3]| Standing { backend, usable, foreign, own };
    order(choice, &[standing(Backend::Nft, nft), standing(Backend::Legacy, legacy)])
}

const NONE: [bool; 3] = [true, false, false];
const FOREIGN: [bool; 3] = [true, true, false];
const OWN: [bool; 3] = [true, false, true];
const BOTH: [bool; 3] = [true, true, true];
const BROKEN: [bool; 3] = [false, false, false];

#[test]
fn auto_prefers_the_engine_that_is_in_use() {
    use Backend::{Legacy, Nft};
    for (nft, legacy, expected) in [
        (NONE, NONE, vec![Nft, Legacy]),
        (NONE, FOREIGN, vec![Legacy, Nft]),
        (FOREIGN, NONE, vec![Nft, Legacy]),
        (FOREIGN, FOREIGN, vec![Nft, Legacy]),
        // Rules of others outweigh those of an earlier run, which then move.
        (OWN, FOREIGN, vec![Legacy, Nft]),
        (FOREIGN, OWN, vec![Nft, Legacy]),
        // An earlier run's choice stands where nothing speaks against it.
        (NONE, OWN, vec![Legacy, Nft]),
        (FOREIGN, BOTH, vec![Legacy, Nft]),
        (BROKEN, NONE, vec![Legacy]),
        (NONE, BROKEN, vec![Nft]),
        (BROKEN, BROKEN, vec![]),
    ] {
        assert_eq!(ordered(BackendChoice::Auto, nft, legacy), expected, "{nft:?} {legacy:?}");
    }
}

#[test]
fn a_given_engine_is_the_only_one() {
    assert_eq!(ordered(BackendChoice::Legacy, FOREIGN, NONE), [Backend::Legacy]);
    assert_eq!(ordered(BackendChoice::Nft, NONE, FOREIGN), [Backend::Nft]);
    assert!(ordered(BackendChoice::Nft, BROKEN, NONE).is_empty());
}
