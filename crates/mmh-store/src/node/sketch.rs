//! Finding how two sets of digests differ, by a stream of coded symbols whose length depends on
//! the difference and not on the sets.
//!
//! A rateless invertible Bloom lookup table: Yang, Gilad, Alizadeh, "Practical Rateless Set
//! Reconciliation", SIGCOMM 2024. Each digest is added to symbol 0 and then to ever sparser ones;
//! subtracting the symbols of one set from those of the other leaves those of the difference,
//! which are peeled one by one. About 1.4 symbols are needed for each digest that differs, more
//! where few do. PROTOCOL.md, "Reconciliation", has the bytes.

use std::collections::BTreeSet;

use mmh_core::Digest;

/// Bytes of a symbol: sum, check and count.
pub const SYMBOL_LEN: usize = 48;
/// Bytes of the key that places digests; a new one for each exchange, drawn at random, so that
/// nobody can choose digests that do not come apart.
pub const KEY_LEN: usize = 32;

/// A coded symbol: what the digests that were added to it come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Symbol {
    /// Exclusive or of the digests.
    sum: [u8; 32],
    /// Exclusive or of their checks.
    check: u64,
    /// How many there are, less those that were taken away.
    count: i64,
}

impl Symbol {
    /// As it is sent.
    #[must_use]
    pub fn to_bytes(self) -> [u8; SYMBOL_LEN] {
        let mut out = [0; SYMBOL_LEN];
        out[..32].copy_from_slice(&self.sum);
        out[32..40].copy_from_slice(&self.check.to_le_bytes());
        out[40..].copy_from_slice(&self.count.to_le_bytes());
        out
    }

    /// As it was sent.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; SYMBOL_LEN]) -> Self {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        let mut sum = [0; 32];
        sum.copy_from_slice(&bytes[..32]);
        Self {
            sum,
            check: word(32),
            count: word(40).cast_signed(),
        }
    }

    fn add(&mut self, item: &Item, times: i64) {
        let mut halves = self.sum.iter_mut().zip(item.id.as_bytes());
        halves.by_ref().for_each(|(sum, id)| *sum ^= id);
        self.check ^= item.check;
        // A liar may send any count.
        self.count = self.count.wrapping_add(times);
    }

    fn subtract(&mut self, other: &Self) {
        let mut halves = self.sum.iter_mut().zip(other.sum);
        halves.by_ref().for_each(|(sum, theirs)| *sum ^= theirs);
        self.check ^= other.check;
        self.count = self.count.wrapping_sub(other.count);
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A digest with what places it.
#[derive(Debug, Clone)]
struct Item {
    id: Digest,
    check: u64,
    /// The state of the generator that draws the gaps.
    state: u64,
    /// The next symbol that it is added to.
    next: u64,
}

impl Item {
    fn new(key: &[u8; KEY_LEN], id: Digest) -> Self {
        let hash = *blake3::keyed_hash(key, id.as_bytes()).as_bytes();
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&hash[at..at + 8]);
            u64::from_le_bytes(word)
        };
        Self {
            id,
            check: word(0),
            state: word(8),
            next: 0,
        }
    }

    /// Moves to the next symbol: after symbol `i` that is `j` with the probability that the paper
    /// gives in section 4.2 for one in `1 + i / 2`.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "exact or rounded alike everywhere: only division, root and rounding up"
    )]
    fn step(&mut self) {
        // SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        // In (0, 1], in steps of 2^-53.
        let chance = ((z >> 11) + 1) as f64 / (1u64 << 53) as f64;
        let gap = (self.next as f64 + 1.5) * (1.0 / chance.sqrt() - 1.0);
        // A conversion of what is too large gives the largest.
        self.next = self.next.saturating_add((gap.ceil() as u64).max(1));
    }
}

/// A set of digests on its way into symbols.
#[derive(Debug)]
pub struct Sketcher {
    items: Vec<Item>,
    made: u64,
}

impl Sketcher {
    /// A set; each digest must be there once.
    #[must_use]
    pub fn new(key: &[u8; KEY_LEN], ids: impl IntoIterator<Item = Digest>) -> Self {
        let items = ids.into_iter().map(|id| Item::new(key, id)).collect();
        Self { items, made: 0 }
    }

    /// How many digests there are.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// The next `n` symbols. Costs a look at each digest, whatever `n` is.
    pub fn next(&mut self, n: usize) -> Vec<Symbol> {
        let mut out = vec![Symbol::default(); n];
        let end = self.made.saturating_add(n as u64);
        for item in &mut self.items {
            while item.next < end {
                let at = usize::try_from(item.next - self.made).unwrap_or(usize::MAX);
                out[at].add(item, 1);
                item.step();
            }
        }
        self.made = end;
        out
    }
}

/// How two sets differ.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Difference {
    /// Digests that only this side has, sorted.
    pub only_here: Vec<Digest>,
    /// Digests that only the other side has, sorted.
    pub only_there: Vec<Digest>,
}

/// The symbols of the other side are none of any set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the symbols that were sent belong to no set")]
pub struct Nonsense;

/// Peels the difference out of the symbols of both sides.
#[derive(Debug)]
pub struct Peeler {
    key: [u8; KEY_LEN],
    /// The other side's symbols less ours and less what was peeled.
    left: Vec<Symbol>,
    /// What was peeled, each with 1 if only the other side has it, -1 if only we have.
    peeled: Vec<(Item, i64)>,
    known: BTreeSet<Digest>,
}

impl Peeler {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(key: [u8; KEY_LEN]) -> Self {
        Self {
            key,
            left: Vec::new(),
            peeled: Vec::new(),
            known: BTreeSet::new(),
        }
    }

    /// Takes the next symbols of the other side and as many of ours; returns whether the
    /// difference is known.
    ///
    /// # Errors
    /// [`Nonsense`].
    pub fn push(&mut self, theirs: &[Symbol], ours: &[Symbol]) -> Result<bool, Nonsense> {
        let from = self.left.len();
        self.left
            .extend(theirs.iter().zip(ours).map(|(theirs, ours)| {
                let mut symbol = *theirs;
                symbol.subtract(ours);
                symbol
            }));
        let end = self.left.len() as u64;
        for (item, side) in &mut self.peeled {
            take(item, *side, &mut self.left, end);
        }
        let mut look: Vec<usize> = (from..self.left.len()).collect();
        while let Some(at) = look.pop() {
            let Some((mut item, side)) = self.pure(at) else {
                continue;
            };
            // Each digest that differs is peeled once, and takes a symbol with it.
            if !self.known.insert(item.id) || self.peeled.len() >= self.left.len() {
                return Err(Nonsense);
            }
            look.extend(take(&mut item, side, &mut self.left, end));
            self.peeled.push((item, side));
        }
        Ok(self.left.first().is_some_and(Symbol::is_empty))
    }

    /// The one digest that is left in a symbol.
    fn pure(&self, at: usize) -> Option<(Item, i64)> {
        let symbol = self.left.get(at)?;
        if symbol.count != 1 && symbol.count != -1 {
            return None;
        }
        let item = Item::new(&self.key, Digest::from_bytes(symbol.sum));
        (item.check == symbol.check).then_some((item, symbol.count))
    }

    /// What was found.
    #[must_use]
    pub fn finish(self) -> Difference {
        let mut difference = Difference::default();
        for (item, side) in self.peeled {
            match side {
                1 => difference.only_there.push(item.id),
                _ => difference.only_here.push(item.id),
            }
        }
        difference.only_here.sort_unstable();
        difference.only_there.sort_unstable();
        difference
    }
}

/// Takes an item out of every symbol before `end`; returns which these were.
fn take(item: &mut Item, side: i64, left: &mut [Symbol], end: u64) -> Vec<usize> {
    let mut hit = Vec::new();
    while item.next < end {
        let at = usize::try_from(item.next).unwrap_or(usize::MAX);
        left[at].add(item, -side);
        hit.push(at);
        item.step();
    }
    hit
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids(range: std::ops::Range<u64>) -> Vec<Digest> {
        range.map(|n| Digest::of(&n.to_le_bytes())).collect()
    }

    fn sorted(mut ids: Vec<Digest>) -> Vec<Digest> {
        ids.sort_unstable();
        ids
    }

    /// Reconciles in blocks of `block` symbols; returns how many were needed.
    fn reconcile(ours: &[Digest], theirs: &[Digest], block: usize) -> (Difference, usize) {
        let key = [7; KEY_LEN];
        let mut here = Sketcher::new(&key, ours.iter().copied());
        let mut there = Sketcher::new(&key, theirs.iter().copied());
        assert_eq!((here.len(), there.len()), (ours.len(), theirs.len()));
        let mut peeler = Peeler::new(key);
        for n in 1.. {
            if peeler.push(&there.next(block), &here.next(block)).unwrap() {
                return (peeler.finish(), n * block);
            }
            assert!(n * block < 8 * (ours.len() + theirs.len()) + 64, "it ends");
        }
        unreachable!("the loop returns")
    }

    #[test]
    fn equal_sets_are_known_to_be_after_one_symbol() {
        for n in [0, 1, 1000] {
            assert_eq!(
                reconcile(&ids(0..n), &ids(0..n), 1),
                (Difference::default(), 1)
            );
        }
    }

    /// The paper's figure: 1.35 symbols a digest for many, at most 1.72 on average for few.
    #[test]
    fn differences_cost_in_proportion_to_themselves() {
        for (differ, most) in [(10, 60), (100, 240), (1000, 1700), (4000, 6000)] {
            let (ours, theirs) = (ids(0..20_000), ids(differ / 2..20_000 + differ / 2));
            let (found, symbols) = reconcile(&ours, &theirs, 10);
            assert_eq!(found.only_here, sorted(ids(0..differ / 2)));
            assert_eq!(found.only_there, sorted(ids(20_000..20_000 + differ / 2)));
            assert!(symbols < most, "{differ}: {symbols}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_two_sets_are_reconciled(ours in prop::collection::btree_set(0u64..300, 0..100), theirs in prop::collection::btree_set(0u64..300, 0..100), block in 1usize..50) {
            let of = |set: &BTreeSet<u64>| set.iter().map(|n| Digest::of(&n.to_le_bytes())).collect::<Vec<_>>();
            let (found, _) = reconcile(&of(&ours), &of(&theirs), block);
            let only = |a: &BTreeSet<u64>, b: &BTreeSet<u64>| sorted(of(&(a - b)));
            prop_assert_eq!(found.only_here, only(&ours, &theirs));
            prop_assert_eq!(found.only_there, only(&theirs, &ours));
        }

        /// A liar makes the peeler give up or find nothing true, but never run for ever.
        #[test]
        fn any_symbols_are_peeled_without_panic(bytes in prop::collection::vec(any::<[u8; SYMBOL_LEN]>(), 1..40), counts in prop::collection::vec(-2i64..3, 40)) {
            let key = [7; KEY_LEN];
            let mut ours = Sketcher::new(&key, ids(0..10));
            let mut lies: Vec<Symbol> = bytes.iter().map(Symbol::from_bytes).collect();
            for (lie, count) in lies.iter_mut().zip(counts) {
                lie.count = count;
                lie.check = Item::new(&key, Digest::from_bytes(lie.sum)).check;
            }
            let mut peeler = Peeler::new(key);
            let n = lies.len();
            let known = peeler.push(&lies, &ours.next(n));
            prop_assert!(known.is_err() || peeler.finish().only_there.len() <= n);
        }

        #[test]
        fn symbols_survive_their_bytes(bytes: [u8; SYMBOL_LEN]) {
            prop_assert_eq!(Symbol::from_bytes(&bytes).to_bytes(), bytes);
        }
    }

    /// Both sides of different machines must place alike: fixed by the format.
    #[test]
    fn digests_are_placed_as_the_format_says() {
        let mut item = Item::new(&[0; KEY_LEN], Digest::of(b""));
        let mut places = Vec::new();
        for _ in 0..8 {
            places.push(item.next);
            item.step();
        }
        assert_eq!(places, PLACES);
        item.next = u64::MAX - 1;
        item.step();
        assert_eq!(item.next, u64::MAX, "far places are never reached");
    }

    const PLACES: [u64; 8] = [0, 3, 5, 7, 8, 19, 35, 51];
}
