//! How much of a block was seen shortly before: what repeats is better left to a general
//! compressor than split into planes.

/// Entries of the table; a string of eight bytes is remembered until another takes its place.
const SLOTS_LOG2: u32 = 14;

/// Strings of eight bytes that were seen lately.
pub(super) struct Repeats {
    slots: Vec<u64>,
}

impl Repeats {
    /// Nothing seen yet.
    pub(super) fn new() -> Self {
        Self {
            slots: vec![0; 1 << SLOTS_LOG2],
        }
    }

    /// Looks at a block: the share of its strings that were seen before, in thousandths. Runs
    /// of one byte do not count as repeated: planes hold them as cheaply.
    pub(super) fn share(&mut self, block: &[u8]) -> usize {
        // Fibonacci hashing: the multiplier is 2^64 over the golden ratio.
        const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut n_repeated = 0;
        for string in block.windows(8).filter_map(<[u8]>::first_chunk::<8>) {
            let value = u64::from_le_bytes(*string);
            let slot = value.wrapping_mul(MULTIPLIER) >> (u64::BITS - SLOTS_LOG2);
            let slot = usize::try_from(slot)
                .ok()
                .and_then(|slot| self.slots.get_mut(slot));
            if let Some(slot) = slot {
                let run = value == value.rotate_left(8);
                n_repeated += usize::from(*slot == value && !run);
                *slot = value;
            }
        }
        n_repeated * 1000 / block.len().max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_again_is_repeated_and_runs_are_not() {
        let mut repeats = Repeats::new();
        let block: Vec<u8> = (0..=255).cycle().take(4096).collect();
        assert!(repeats.share(&block) > 900);
        assert!(repeats.share(&block) > 990);
        assert_eq!(Repeats::new().share(&[7; 4096]), 0);
        assert_eq!(Repeats::new().share(b"once"), 0);
        let once: Vec<u8> = (0..512u64)
            .flat_map(|i| (i * i * 977 + i).to_le_bytes())
            .collect();
        assert!(Repeats::new().share(&once) < 10);
    }
}
