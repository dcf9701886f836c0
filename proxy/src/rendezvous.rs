//! Choices that every sidecar, and every worker of one, makes alike without asking another:
//! rendezvous hashing. Each candidate gets a score from its own digest and the key's; the highest
//! wins, and when a candidate goes only those move that it had won.
//!
//! The digests outlive processes and versions of Weft (they stand in the cookies of sessions), and so
//! must not be those of a library that reserves to change them.

/// A digest of texts, the same everywhere and for ever; never 0. `["ab", "c"]` and `["a", "bc"]`
/// differ.
pub(crate) fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    // FNV-1a, which the finalizer spreads over all bits.
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
    let hash = parts.into_iter().fold(0xCBF2_9CE4_8422_2325, |hash, part| {
        // No text has this byte, UTF-8 or header.
        step(part.iter().fold(hash, |hash, byte| step(hash, *byte)), 0xFF)
    });
    mix(hash).max(1)
}

/// SplitMix64's finalizer: neighbours become strangers.
pub(crate) fn mix(mut key: u64) -> u64 {
    key = key.wrapping_add(0x9E37_79B9_7F4A_7C15);
    key = (key ^ (key >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    key = (key ^ (key >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    key ^ (key >> 31)
}

/// What a candidate bids for a key; among candidates that are alike the highest bid wins.
pub(crate) fn bid(key: u64, candidate: u64) -> u64 {
    mix(key ^ candidate)
}

/// How long a candidate of that weight (above 0) lets a key wait; the shortest wins, each with the
/// probability weight / sum of the weights. When weights change, keys move only from candidates that
/// lose in proportion to those that gain.
///
/// The waits are independent and exponentially distributed, with the weights as their rates.
pub(crate) fn wait(key: u64, candidate: u64, weight: u32) -> f64 {
    // The upper 53 bits, in the middle of their steps: above 0 and below 1.
    #[allow(clippy::cast_precision_loss)]
    let uniform = ((bid(key, candidate) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -libm::log(uniform) / f64::from(weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of the candidates, each a name and a weight, gets the key.
    fn winner(key: u64, weights: &[(u64, u32)]) -> u64 {
        let wait =
            |(name, weight): &(u64, u32)| wait(key, digest([&name.to_be_bytes()[..]]), *weight);
        weights.iter().min_by(|one, other| wait(one).total_cmp(&wait(other))).unwrap().0
    }

    fn keys() -> impl Iterator<Item = u64> {
        (0..20_000_u64).map(|user| digest([user.to_string().as_bytes()]))
    }

    #[test]
    fn digests_never_change() {
        // Written down: sidecars of other versions and cookies of last week have them.
        assert_eq!(digest([&b"default/reviews-v2"[..], b"9080"]), 0x31AC_4D69_F5C7_E30A);
        assert_eq!(mix(1), 0x910A_2DEC_8902_5CC1);
        assert_ne!(digest([&b"ab"[..], b"c"]), digest([&b"a"[..], b"bc"]));
        assert_ne!(digest([]), 0);
    }

    #[test]
    fn shares_are_the_weights() {
        let weights = [(1, 70), (2, 20), (3, 10)];
        let mut seen = [0_usize; 3];
        for key in keys() {
            seen[winner(key, &weights) as usize - 1] += 1;
        }
        // Five standard deviations of binomials are 324, 283 and 212.
        for (seen, expected) in seen.into_iter().zip([14_000, 4_000, 2_000]) {
            assert!(seen.abs_diff(expected) < 330, "{seen} for {expected}");
        }
    }

    #[test]
    fn weights_that_change_move_as_few_as_can_be() {
        let moved = |before: &[(u64, u32)], after: &[(u64, u32)]| {
            keys()
                .map(|key| (winner(key, before), winner(key, after)))
                .filter(|(before, after)| before != after)
                .collect::<Vec<_>>()
        };
        // A canary grows from 10 % to 25 %: that is who moves, and nobody moves back.
        let to_canary = moved(&[(1, 90), (2, 10)], &[(1, 75), (2, 25)]);
        assert!(to_canary.len().abs_diff(3_000) < 300, "{}", to_canary.len());
        assert!(to_canary.iter().all(|pair| *pair == (1, 2)), "{to_canary:?}");
        // The same weights in other numbers and in another order: nobody.
        assert_eq!(moved(&[(1, 9), (2, 1)], &[(2, 100_000), (1, 900_000)]), []);
        // One goes: its users only.
        let gone = moved(&[(1, 60), (2, 30), (3, 10)], &[(1, 60), (3, 10)]);
        assert!(gone.iter().all(|(before, _)| *before == 2), "{gone:?}");
        assert!(gone.len().abs_diff(6_000) < 330, "{}", gone.len());
    }

    #[test]
    fn two_splits_do_not_go_hand_in_hand() {
        let both = keys()
            .filter(|key| {
                winner(*key, &[(1, 1), (2, 1)]) == 1 && winner(*key, &[(3, 1), (4, 1)]) == 3
            })
            .count();
        assert!(both.abs_diff(5_000) < 310, "{both}");
    }
}
