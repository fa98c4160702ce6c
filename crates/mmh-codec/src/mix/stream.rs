//! Where the model's choices go: a recorder that later writes them as rANS, and a reader that
//! takes them back. Four states, one for each kind of choice, share one sequence of words.

use crate::error::{Result, corrupt};
use crate::input::Input;

/// Bits of a probability.
pub(super) const PROB_BITS: u32 = 15;
/// The sum of the probabilities of all outcomes of a choice.
pub(super) const PROB_SCALE: i32 = 1 << PROB_BITS;
/// The least state between two choices, and the state that the recorder starts with.
const STATE_MIN: u64 = 1 << 32;

/// The kinds of choices, each with a state of its own so that a processor can follow several
/// chains at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The exponent and top bit of the mantissa, and what escapes them.
    Symbol,
    /// The next bits of the mantissa.
    Mantissa,
    /// The sign.
    Sign,
    /// Whether a number is far below its neighbours.
    Far,
}

/// Number of [`Kind`]s.
const KINDS: usize = 4;

/// Takes choices from, or gives them to, the model: one text of the model serves both ways.
pub(super) trait Choices {
    /// Chooses one of `N` outcomes. `starts` has the sum of the probabilities of the outcomes
    /// before each: ascending from 0, below [`PROB_SCALE`]. `wanted` is what an encoder knows; a
    /// decoder does not look at it.
    fn pick<const N: usize>(&mut self, kind: Kind, starts: &[i32; N], wanted: usize) -> usize;
}

/// Records choices, to be written backwards.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    /// `kind << 30 | start << 15 | probability − 1`.
    choices: Vec<u32>,
}

impl Choices for Recorder {
    #[inline(always)]
    fn pick<const N: usize>(&mut self, kind: Kind, starts: &[i32; N], wanted: usize) -> usize {
        let start = starts[wanted];
        let end = starts.get(wanted + 1).copied().unwrap_or(PROB_SCALE);
        debug_assert!(start >= 0 && start < end && end <= PROB_SCALE);
        let choice = (kind as u32) << 30 | start.cast_unsigned() << 15;
        self.choices
            .push(choice | (end - start - 1).cast_unsigned());
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

    /// Appends the states, then the words.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        const TOP: u32 = 64 - PROB_BITS;
        let mut states = [STATE_MIN; KINDS];
        let mut words: Vec<[u8; 4]> = Vec::with_capacity(self.choices.len() / 8);
        for choice in self.choices.iter().rev() {
            let x = &mut states[(choice >> 30) as usize];
            let start = u64::from(choice >> 15 & 0x7fff);
            let probability = u64::from(choice & 0x7fff) + 1;
            if *x >= probability << TOP {
                let [a, b, c, d, ..] = x.to_le_bytes();
                words.push([a, b, c, d]);
                *x >>= 32;
            }
            *x = ((*x / probability) << PROB_BITS) + *x % probability + start;
        }
        out.reserve(8 * KINDS + 4 * words.len());
        for state in states {
            out.extend_from_slice(&state.to_le_bytes());
        }
        for word in words.iter().rev() {
            out.extend_from_slice(word);
        }
    }
}

/// Reads choices. Words that are missing read as zeros and are complained of at the end, so that
/// the loop over the numbers has no way out.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    states: [u64; KINDS],
    words: &'a [[u8; 4]],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A reader of what [`Recorder::put`] wrote.
    pub(super) fn new(content: &'a [u8]) -> Result<Self> {
        let mut input = Input::new(content);
        let mut states = [0; KINDS];
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
        if self.at != self.words.len() || self.states != [STATE_MIN; KINDS] {
            return corrupt("the choices do not end where they should");
        }
        Ok(())
    }
}

impl Choices for Reader<'_> {
    #[inline(always)]
    fn pick<const N: usize>(&mut self, kind: Kind, starts: &[i32; N], _: usize) -> usize {
        let x = self.states[kind as usize];
        let slot = i32::try_from(x & ((1 << PROB_BITS) - 1)).unwrap_or(0);
        let outcome = last_at_most(starts, slot).min(N - 1);
        let start = starts[outcome];
        let end = starts.get(outcome + 1).copied().unwrap_or(PROB_SCALE);
        let probability = u64::from((end - start).cast_unsigned());
        let mut x = probability * (x >> PROB_BITS) + u64::from((slot - start).cast_unsigned());
        if x < STATE_MIN {
            let word = self
                .words
                .get(self.at)
                .map_or(0, |word| u32::from_le_bytes(*word));
            self.at += 1;
            x = x << 32 | u64::from(word);
        }
        self.states[kind as usize] = x;
        outcome
    }
}

/// The index of the last of ascending `starts`, the first being 0, that is at most `slot`.
#[inline(always)]
fn last_at_most<const N: usize>(starts: &[i32; N], slot: i32) -> usize {
    let (quads, rest) = starts.as_chunks::<4>();
    let mut counts = [0i32; 4];
    for quad in quads {
        for (count, &start) in counts.iter_mut().zip(quad) {
            *count += i32::from(start <= slot);
        }
    }
    let rest: i32 = rest.iter().map(|&start| i32::from(start <= slot)).sum();
    let count = counts.iter().sum::<i32>() + rest;
    (count - 1).cast_unsigned() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::Noise;

    const KINDS_ALL: [Kind; KINDS] = [Kind::Symbol, Kind::Mantissa, Kind::Sign, Kind::Far];

    /// Choices of every kind and number of outcomes, as `starts` and outcome.
    fn choose<C: Choices>(choices: &mut C, n: usize, rng_seed: u64) -> Vec<usize> {
        let noise = &mut Noise::new(rng_seed);
        let mut outcomes = Vec::new();
        for i in 0..n {
            let kind = KINDS_ALL[usize::from(noise.below(4))];
            let wanted = usize::from(noise.below(200));
            let least = i32::from(noise.below(200)) + 1;
            outcomes.push(match i % 3 {
                0 => choices.pick(kind, &[0, least], wanted % 2),
                1 => choices.pick(kind, &[0, least, 2 * least, PROB_SCALE - 1], wanted % 4),
                _ => {
                    let mut starts = [0; 32];
                    (0..)
                        .zip(&mut starts)
                        .for_each(|(i, start)| *start = i * least);
                    choices.pick(kind, &starts, wanted % 32)
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
            let mut reader = Reader::new(&content).unwrap();
            assert!(choose(&mut reader, n, 3) == wanted);
            reader.check().unwrap();
            reader.finish().unwrap();
        }
    }

    /// A bit that is nearly certain costs nearly nothing, one that was not expected much.
    #[test]
    fn what_is_likely_is_short() {
        let len = |probable: usize| {
            let mut recorder = Recorder::default();
            for _ in 0..8000 {
                recorder.pick(Kind::Sign, &[0, PROB_SCALE - 32], probable);
            }
            let mut content = Vec::new();
            recorder.put(&mut content);
            content.len()
        };
        assert!((32..48).contains(&len(0)), "{}", len(0));
        let rare = len(1);
        assert!((10_000..10_050).contains(&rare), "10 bits each: {rare}");
    }

    #[test]
    fn words_that_are_missing_or_left_over_are_noticed() {
        let mut recorder = Recorder::default();
        let n = 3000;
        choose(&mut recorder, n, 4);
        let mut content = Vec::new();
        recorder.put(&mut content);
        for cut in (0..content.len()).filter(|cut| *cut < 40 || cut % 61 == 0) {
            let whole = Reader::new(&content[..cut]).is_ok_and(|mut reader| {
                choose(&mut reader, n, 4);
                reader.check().is_ok() && reader.finish().is_ok()
            });
            assert!(!whole, "{cut}");
        }
        content.extend_from_slice(&[0; 4]);
        let mut reader = Reader::new(&content).unwrap();
        choose(&mut reader, n, 4);
        assert!(reader.check().is_ok() && reader.finish().is_err());
        content[4..8].fill(0);
        assert!(Reader::new(&content).is_err(), "a state below the least");
    }

    #[test]
    fn the_last_start_at_most_a_slot_is_found() {
        let starts = [0, 5, 6, 100, 101, 4000];
        for slot in 0..5000 {
            let expected = starts.iter().rposition(|&start| start <= slot).unwrap();
            assert_eq!(last_at_most(&starts, slot), expected);
        }
    }
}
