//! The dice of a weighted split, and of a mirror's share.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::rendezvous::mix;

/// Draws are made in blocks of so many: a power of two.
const BLOCK: u64 = 64;
const BLOCK_BITS: u32 = BLOCK.trailing_zeros();

/// Steps through a block of which any stretch is spread evenly: over every stretch and every range,
/// the count is within 2.8 of the fair one (with a step of 1 it is off by up to 16). The odd numbers
/// below 64 for which that holds.
const STEPS: [u8; 16] = [11, 15, 17, 19, 23, 25, 27, 29, 35, 37, 39, 41, 45, 47, 49, 53];

/// Random numbers that are spread more evenly than independent ones.
///
/// Of 200 requests over a 70/30 split, independent draws send one time in three more than 66 or less
/// than 54 the second way, and whoever watches a canary wonders. So each block of 64 draws visits
/// each 64th of the range exactly once, in an order of its own, at a random point of it: every draw
/// alone is uniform, and the shares of a block are off by less than one request for each boundary
/// between backends; those of any shorter run of draws by less than three. The order differs from
/// block to block and from split to split, so that two splits that the same requests pass do not go
/// hand in hand.
#[derive(Debug)]
pub(crate) struct Draws {
    count: AtomicU64,
    seed: u64,
}

impl Draws {
    pub(crate) fn new() -> Self {
        // Begins anywhere in a block: tables that are replaced often would otherwise all begin alike.
        Self { count: AtomicU64::new(fastrand::u64(..BLOCK)), seed: fastrand::u64(..) }
    }

    /// A number in `0..bound`; `bound` is above 0.
    pub(crate) fn next_below(&self, bound: u64) -> u64 {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let key = mix(self.seed ^ (count / BLOCK));
        // An odd factor and an offset permute the numbers below a power of two.
        let step = u64::from(STEPS[(key % STEPS.len() as u64) as usize]);
        let stratum = (count % BLOCK).wrapping_mul(step).wrapping_add(key >> 32) % BLOCK;
        let within = fastrand::u64(..) >> BLOCK_BITS;
        let point = (stratum << (u64::BITS - BLOCK_BITS)) | within;
        // The high half of the product: `point` is a fraction of 2^64.
        u64::try_from((u128::from(point) * u128::from(bound)) >> u64::BITS).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_visits_every_part_once() {
        let draws = Draws { count: AtomicU64::new(0), seed: 7 };
        for _ in 0..100 {
            let mut seen: Vec<u64> = (0..BLOCK).map(|_| draws.next_below(BLOCK)).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..BLOCK).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_part_of_a_block_is_spread_evenly() {
        for seed in 0..200 {
            let draws = Draws { count: AtomicU64::new(0), seed };
            let block: Vec<u64> = (0..BLOCK).map(|_| draws.next_below(BLOCK)).collect();
            for (from, to) in (0..64).flat_map(|from| (from..=64).map(move |to| (from, to))) {
                for below in [7, 16, 32, 50] {
                    let seen = block[from..to].iter().filter(|it| **it < below).count();
                    let fair = (to - from) as f64 * below as f64 / BLOCK as f64;
                    assert!(
                        (seen as f64 - fair).abs() < 2.8,
                        "{seen} of {from}..{to} below {below}"
                    );
                }
            }
        }
    }

    #[test]
    fn shares_stay_near_the_weights_at_every_length() {
        let draws = Draws::new();
        let mut low = 0;
        for drawn in 1..=10_000_u32 {
            low += u32::from(draws.next_below(100) < 30);
            let expected = f64::from(drawn) * 0.3;
            // A whole block can be off by one, a begun one by three.
            let bound = 4.0 + f64::from(drawn) * 0.005;
            assert!((f64::from(low) - expected).abs() < bound, "{low} of {drawn}");
        }
    }

    #[test]
    fn two_splits_do_not_go_hand_in_hand() {
        let (first, second) = (Draws::new(), Draws::new());
        let rounds = 64_000;
        let both = (0..rounds)
            .filter(|_| (first.next_below(2) == 0) & (second.next_below(2) == 0))
            .count();
        let share = f64::from(u32::try_from(both).expect("few")) / f64::from(rounds);
        assert!((share - 0.25).abs() < 0.03, "{share}");
    }
}
