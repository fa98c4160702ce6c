//! Where the model's choices go: a recorder that later writes them as rANS, and a reader that
//! takes them back. Each row of a group has a state of its own, so that a processor can follow
//! several chains at once; they share one sequence of words.

use std::hint::select_unpredictable;
use std::marker::PhantomData;

use super::adaptive::{KEPT_BITS, mean_start};
use super::machine::{Machine, last_at_most};
use super::{LANES, SYMBOLS};
use crate::error::{Result, corrupt};
use crate::input::Input;

/// Bits of a probability.
pub(super) const PROB_BITS: u32 = 15;
/// The sum of the probabilities of all outcomes of a choice.
pub(super) const PROB_SCALE: i32 = 1 << PROB_BITS;
/// The least state between two choices, and the state that the recorder starts with.
const STATE_MIN: u64 = 1 << 32;

/// Takes choices from, or gives them to, the model: one text of the model serves both ways.
/// `wanted` is what an encoder knows; a decoder does not look at it.
pub(super) trait Choices {
    /// Chooses one of `N` outcomes. `starts` has the sum of the probabilities of the outcomes
    /// before each: ascending from 0, below [`PROB_SCALE`].
    fn any<const N: usize>(&mut self, lane: usize, starts: &[i32; N], wanted: usize) -> usize;

    /// Chooses a place, by the mean of two distributions, of which these are the kept sums.
    fn place(&mut self, lane: usize, sums: [&[i32; SYMBOLS]; 2], wanted: usize) -> usize;

    /// Chooses one of four outcomes by a distribution of these kept sums.
    fn quarter(&mut self, lane: usize, sums: &[i32; 4], wanted: usize) -> usize;

    /// Chooses a bit that is not set with the probability `unset`, between 0 and [`PROB_SCALE`].
    fn bit(&mut self, lane: usize, unset: i32, wanted: bool) -> bool;
}

/// A choice that was made.
#[derive(Debug, Clone, Copy)]
struct Choice {
    lane: u8,
    start: u16,
    probability: u16,
}

/// Records choices, to be written backwards.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    choices: Vec<Choice>,
}

impl Choices for Recorder {
    #[inline(always)]
    fn any<const N: usize>(&mut self, lane: usize, starts: &[i32; N], wanted: usize) -> usize {
        let end = starts.get(wanted + 1).copied().unwrap_or(PROB_SCALE);
        self.record(lane, starts[wanted], end);
        wanted
    }

    #[inline(always)]
    fn place(&mut self, lane: usize, sums: [&[i32; SYMBOLS]; 2], wanted: usize) -> usize {
        let end = if wanted + 1 < SYMBOLS {
            mean_start(sums, wanted + 1)
        } else {
            PROB_SCALE
        };
        self.record(lane, mean_start(sums, wanted), end);
        wanted
    }

    #[inline(always)]
    fn quarter(&mut self, lane: usize, sums: &[i32; 4], wanted: usize) -> usize {
        let bounds = quarters(sums);
        let wanted = wanted % 4;
        self.record(lane, bounds[wanted], bounds[wanted + 1]);
        wanted
    }

    #[inline(always)]
    fn bit(&mut self, lane: usize, unset: i32, wanted: bool) -> bool {
        let (start, end) = if wanted {
            (unset, PROB_SCALE)
        } else {
            (0, unset)
        };
        self.record(lane, start, end);
        wanted
    }
}

impl Recorder {
    /// Room for the choices of `n` numbers.
    pub(super) fn for_numbers(n: usize) -> Self {
        Self {
            choices: Vec::with_capacity(3 * n),
        }
    }

    #[inline(always)]
    fn record(&mut self, lane: usize, start: i32, end: i32) {
        debug_assert!(start >= 0 && start < end && end <= PROB_SCALE);
        let short = |x: i32| (x & 0xffff) as u16;
        self.choices.push(Choice {
            lane: u8::try_from(lane).unwrap_or(0),
            start: short(start),
            probability: short(end - start),
        });
    }

    /// Appends the states, then the words.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        const TOP: u32 = 64 - PROB_BITS;
        let mut states = [STATE_MIN; LANES];
        let mut words: Vec<[u8; 4]> = Vec::with_capacity(self.choices.len() / 8);
        for choice in self.choices.iter().rev() {
            let x = &mut states[usize::from(choice.lane) % LANES];
            let probability = u64::from(choice.probability);
            if *x >= probability << TOP {
                let [a, b, c, d, ..] = x.to_le_bytes();
                words.push([a, b, c, d]);
                *x >>= 32;
            }
            *x = ((*x / probability) << PROB_BITS) + *x % probability + u64::from(choice.start);
        }
        out.reserve(8 * LANES + 4 * words.len());
        for state in states {
            out.extend_from_slice(&state.to_le_bytes());
        }
        for word in words.iter().rev() {
            out.extend_from_slice(word);
        }
    }
}

/// The starts of four outcomes, and where the last ends.
#[inline(always)]
fn quarters(sums: &[i32; 4]) -> [i32; 5] {
    let start = |i: usize, before: i32| (sums[i] >> (KEPT_BITS - PROB_BITS)) + before;
    [0, start(1, 1), start(2, 2), start(3, 3), PROB_SCALE]
}

/// Reads choices, searching as machine `M` does. Words that are missing read as zeros and are
/// complained of at the end, so that the loop over the numbers has no way out.
#[derive(Debug)]
pub(super) struct Reader<'a, M> {
    states: [u64; LANES],
    words: &'a [[u8; 4]],
    at: usize,
    machine: PhantomData<M>,
}

impl<'a, M: Machine> Reader<'a, M> {
    /// A reader of what [`Recorder::put`] wrote.
    pub(super) fn new(content: &'a [u8]) -> Result<Self> {
        let mut input = Input::new(content);
        let mut states = [0; LANES];
        for state in &mut states {
            let bytes = input.take(8)?;
            *state = bytes
                .iter()
                .rev()
                .fold(0, |x, &byte| x << 8 | u64::from(byte));
            if *state < STATE_MIN {
                return corrupt("a state is below the least");
            }
        }
        let (words, rest) = input.finish().as_chunks::<4>();
        if !rest.is_empty() {
            return corrupt("the words are not whole");
        }
        Ok(Self {
            states,
            words,
            at: 0,
            machine: PhantomData,
        })
    }

    /// Checks that no more words were asked for than there are.
    pub(super) fn check(&self) -> Result<()> {
        if self.at > self.words.len() {
            return corrupt("the choices end early");
        }
        Ok(())
    }

    /// Checks that the states are where the recorder began, and that all words are used.
    pub(super) fn finish(&self) -> Result<()> {
        if self.at != self.words.len() || self.states != [STATE_MIN; LANES] {
            return corrupt("the choices do not end where they should");
        }
        Ok(())
    }

    /// Where in the probabilities the next choice of a row lies.
    #[inline(always)]
    fn slot(&self, lane: usize) -> i32 {
        i32::try_from(self.states[lane] & ((1 << PROB_BITS) - 1)).unwrap_or(0)
    }

    /// Takes the choice that lies from `start` to `end` around its slot.
    #[inline(always)]
    fn advance(&mut self, lane: usize, start: i32, end: i32) {
        let probability = u64::from((end - start).cast_unsigned());
        let within = u64::from((self.slot(lane) - start).cast_unsigned());
        let x = probability * (self.states[lane] >> PROB_BITS) + within;
        let word = self.words.get(self.at);
        let word = word.map_or(0, |word| u32::from_le_bytes(*word));
        let refill = x < STATE_MIN;
        self.at += usize::from(refill);
        self.states[lane] = select_unpredictable(refill, x << 32 | u64::from(word), x);
    }
}

impl<M: Machine> Choices for Reader<'_, M> {
    #[inline(always)]
    fn any<const N: usize>(&mut self, lane: usize, starts: &[i32; N], _: usize) -> usize {
        let outcome = last_at_most(starts, self.slot(lane)).min(N - 1);
        let end = starts.get(outcome + 1).copied().unwrap_or(PROB_SCALE);
        self.advance(lane, starts[outcome], end);
        outcome
    }

    #[inline(always)]
    fn place(&mut self, lane: usize, sums: [&[i32; SYMBOLS]; 2], _: usize) -> usize {
        let found = M::find(sums, self.slot(lane));
        self.advance(lane, found.start, found.end);
        found.place
    }

    #[inline(always)]
    fn quarter(&mut self, lane: usize, sums: &[i32; 4], _: usize) -> usize {
        let slot = self.slot(lane);
        let bounds = quarters(sums);
        let outcome = (1..4)
            .map(|i| usize::from(slot >= bounds[i]))
            .sum::<usize>()
            % 4;
        self.advance(lane, bounds[outcome], bounds[outcome + 1]);
        outcome
    }

    #[inline(always)]
    fn bit(&mut self, lane: usize, unset: i32, _: bool) -> bool {
        let set = self.slot(lane) >= unset;
        let start = select_unpredictable(set, unset, 0);
        let end = select_unpredictable(set, PROB_SCALE, unset);
        self.advance(lane, start, end);
        set
    }
}

#[cfg(test)]
mod tests {
    use super::super::adaptive::Bank;
    use super::super::machine::Portable;
    use super::*;
    use crate::samples::Noise;

    type Plain<'a> = Reader<'a, Portable>;

    /// Choices of every kind and number of outcomes.
    fn choose<C: Choices>(choices: &mut C, n: usize, rng_seed: u64) -> Vec<usize> {
        let noise = &mut Noise::new(rng_seed);
        let mut places = Bank::<SYMBOLS, 2>::even(16);
        let mut quarters = Bank::<4, 1>::even(16);
        let mut outcomes = Vec::new();
        for i in 0..n {
            let lane = usize::from(noise.below(8));
            let wanted = usize::from(noise.below(200));
            let least = i32::from(noise.below(200)) + 1;
            outcomes.push(match i % 5 {
                0 => usize::from(choices.bit(lane, least, wanted % 2 == 1)),
                1 => choices.any(lane, &[0, least, 2 * least, PROB_SCALE - 1], wanted % 4),
                2 => {
                    let quarter = choices.quarter(lane, quarters.sums(0), wanted % 4);
                    quarters.learn(0, quarter);
                    quarter
                }
                3 => {
                    let sums = [places.sums(0), places.sums(1)];
                    let place = choices.place(lane, sums, wanted % 32);
                    places.learn(lane % 2, place);
                    place
                }
                _ => {
                    let mut starts = [0; 16];
                    (0..)
                        .zip(&mut starts)
                        .for_each(|(i, start)| *start = i * least);
                    choices.any(lane, &starts, wanted % 16)
                }
            });
        }
        outcomes
    }

    #[test]
    fn choices_come_back_in_their_order() {
        for n in [0, 1, 2, 100, 20_000] {
            let mut recorder = Recorder::for_numbers(n);
            let wanted = choose(&mut recorder, n, 3);
            let mut content = Vec::new();
            recorder.put(&mut content);
            let mut reader = Plain::new(&content).unwrap();
            assert!(choose(&mut reader, n, 3) == wanted);
            reader.check().unwrap();
            reader.finish().unwrap();
        }
    }

    /// A bit that is nearly certain costs nearly nothing, one that was not expected much.
    #[test]
    fn what_is_likely_is_short() {
        let len = |set: bool| {
            let mut recorder = Recorder::default();
            for _ in 0..8000 {
                recorder.bit(0, PROB_SCALE - 32, set);
            }
            let mut content = Vec::new();
            recorder.put(&mut content);
            content.len()
        };
        assert!((64..80).contains(&len(false)), "{}", len(false));
        let rare = len(true);
        assert!((10_000..10_080).contains(&rare), "10 bits each: {rare}");
    }

    #[test]
    fn words_that_are_missing_or_left_over_are_noticed() {
        let mut recorder = Recorder::default();
        let n = 3000;
        choose(&mut recorder, n, 4);
        let mut content = Vec::new();
        recorder.put(&mut content);
        for cut in (0..content.len()).filter(|cut| *cut < 72 || cut % 61 == 0) {
            let whole = Plain::new(&content[..cut]).is_ok_and(|mut reader| {
                choose(&mut reader, n, 4);
                reader.check().is_ok() && reader.finish().is_ok()
            });
            assert!(!whole, "{cut}");
        }
        content.extend_from_slice(&[0; 4]);
        let mut reader = Plain::new(&content).unwrap();
        choose(&mut reader, n, 4);
        assert!(reader.check().is_ok() && reader.finish().is_err());
        content[4..8].fill(0);
        assert!(Plain::new(&content).is_err(), "a state below the least");
    }
}
