//! Growing: the output of a recipe, or any range of it, from its inputs.
//!
//! Memory is bounded: what can be computed in grains is computed in windows of about a megabyte;
//! what needs all of an operand at once may need [`AT_ONCE_MAX`]. Time is bounded: a recipe whose
//! steps would be computed far more often than its output is long is refused before anything runs.

use std::sync::{Arc, Mutex, PoisonError};

use mmh_core::canonical::Canonical as _;

use crate::error::{Error, Result};
use crate::ops::{Grain, Job, Registry};
use crate::recipe::{Piece, Recipe};

/// Bytes of output that are computed at once, where an operation allows it.
pub(crate) const WINDOW: u64 = 1 << 20;
/// Most bytes that an operation may need in memory at once, operands and output together.
pub(crate) const AT_ONCE_MAX: u64 = 1 << 30;
/// Most steps that lie on one another.
pub(crate) const DEPTH_MAX: u32 = 8;
/// How many bytes may be computed or read for each byte of inputs and output.
pub(crate) const WORK_MAX: u64 = 16;
/// Work that is always allowed.
pub(crate) const WORK_FREE: u64 = 64 << 20;

/// Where the bytes of inputs come from.
pub trait Source {
    /// Reads exactly `out.len()` bytes of an input from `at`, which lie within its size.
    ///
    /// # Errors
    /// Whatever keeps the bytes from being read; growing ends with it.
    fn read(
        &self,
        input: usize,
        at: u64,
        out: &mut [u8],
    ) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>>;
}

/// Whole inputs in memory.
impl<T: AsRef<[u8]>> Source for &[T] {
    fn read(
        &self,
        input: usize,
        at: u64,
        out: &mut [u8],
    ) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let bytes = self.get(input).map(AsRef::as_ref).unwrap_or_default();
        let from = usize::try_from(at)
            .ok()
            .and_then(|at| bytes.get(at..)?.get(..out.len()));
        out.copy_from_slice(from.ok_or("an input is shorter than the recipe says")?);
        Ok(())
    }
}

/// A recipe whose operations are known and whose lengths fit, with the source of its inputs.
#[derive(Debug)]
pub struct Grower<S> {
    recipe: Recipe,
    source: S,
    steps: Vec<Ready>,
    len: u64,
    /// Outputs of steps that come only as a whole, the last ones used.
    whole: Mutex<Vec<(usize, Arc<Vec<u8>>)>>,
}

#[derive(Debug)]
struct Ready {
    job: Box<dyn Job>,
    grain: Grain,
    depth: u32,
    /// Bytes read and computed for all of it.
    work: u64,
}

impl<S: Source> Grower<S> {
    /// Checks a recipe and prepares its operations.
    ///
    /// # Errors
    /// Those of [`Recipe`]'s own check; [`Error::UnknownOp`]; [`Error::Parameter`] and
    /// [`Error::Length`] of an operation; [`Error::Recipe`] beyond the bounds of this module.
    pub fn new(recipe: Recipe, registry: &Registry, source: S) -> Result<Self> {
        recipe.check()?;
        let mut grower = Self {
            steps: Vec::with_capacity(recipe.steps.len()),
            recipe,
            source,
            len: 0,
            whole: Mutex::default(),
        };
        for idx in 0..grower.recipe.steps.len() {
            let ready = grower.prepare(idx, registry)?;
            grower.steps.push(ready);
        }
        let (len, work, _) = grower.measure(&grower.recipe.output)?;
        grower.len = len;
        let inputs = grower.recipe.inputs.iter();
        let given = inputs.fold(len, |sum, input| sum.saturating_add(input.size));
        if work > given.saturating_mul(WORK_MAX).saturating_add(WORK_FREE) {
            let reason = format!("{work} bytes of work for {len} bytes of output");
            return Err(Error::recipe(reason));
        }
        Ok(grower)
    }

    /// The recipe.
    #[must_use]
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Bytes of the output.
    #[must_use]
    #[allow(
        clippy::len_without_is_empty,
        reason = "a length in bytes, not a collection"
    )]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Grows the bytes from `at` that fill `out`. Ranges may be grown side by side.
    ///
    /// # Errors
    /// [`Error::Length`] for a range beyond the output; [`Error::Source`]; what operations return.
    pub fn read(&self, at: u64, out: &mut [u8]) -> Result<()> {
        let end = at.checked_add(out.len() as u64);
        if end.is_none_or(|end| end > self.len) {
            return Err(Error::Length {
                what: "range",
                actual: end.unwrap_or(u64::MAX),
                expected: self.len,
            });
        }
        self.pieces(&self.recipe.output, at, out)
    }

    fn prepare(&self, idx: usize, registry: &Registry) -> Result<Ready> {
        let step = &self.recipe.steps[idx];
        let mut lens = Vec::with_capacity(step.operands.len());
        let (mut work, mut depth) = (0u64, 0);
        for pieces in &step.operands {
            let (len, more, below) = self.measure(pieces)?;
            lens.push(len);
            work = work.saturating_add(more);
            depth = depth.max(below);
        }
        let job = registry
            .find(&step.op, step.version)?
            .prepare(&step.params, &lens)?;
        let grain = job.grain();
        let len = job.output_len();
        if depth >= DEPTH_MAX {
            return Err(Error::recipe(format!(
                "more than {DEPTH_MAX} steps on one another"
            )));
        }
        let at_once = at_once(&grain, &lens);
        if grain.output == 0 || !len.is_multiple_of(grain.output) || at_once > AT_ONCE_MAX {
            let reason = format!("step {idx} needs {at_once} bytes at once");
            return Err(Error::recipe(reason));
        }
        Ok(Ready {
            job,
            grain,
            depth: depth + 1,
            work: work.saturating_add(len),
        })
    }

    /// Length, work and depth of pieces. Any piece of a step counts as all of it.
    fn measure(&self, pieces: &[Piece]) -> Result<(u64, u64, u32)> {
        let (mut sum, mut work, mut depth) = (0u64, 0u64, 0);
        for &Piece(value, start, len) in pieces {
            let more = match (value as usize).checked_sub(self.recipe.first_step()) {
                None => len,
                Some(idx) => {
                    let ready = &self.steps[idx];
                    let size = ready.job.output_len();
                    if start.checked_add(len).is_none_or(|end| end > size) {
                        let reason = format!("{len} bytes from {start} of {size} of value {value}");
                        return Err(Error::recipe(reason));
                    }
                    depth = depth.max(ready.depth);
                    ready.work
                }
            };
            work = work.saturating_add(more);
            let total = sum.checked_add(len);
            sum = total.ok_or_else(|| Error::recipe("lengths exceed 64 bits"))?;
        }
        Ok((sum, work, depth))
    }

    /// Reads from what pieces make up.
    fn pieces(&self, pieces: &[Piece], mut at: u64, mut out: &mut [u8]) -> Result<()> {
        for &Piece(value, start, len) in pieces {
            if at >= len {
                at -= len;
                continue;
            }
            if out.is_empty() {
                break;
            }
            let here = usize::try_from(len - at)
                .unwrap_or(usize::MAX)
                .min(out.len());
            let (now, later) = out.split_at_mut(here);
            self.value(value as usize, start + at, now)?;
            out = later;
            at = 0;
        }
        Ok(())
    }

    fn value(&self, value: usize, at: u64, out: &mut [u8]) -> Result<()> {
        if value < self.recipe.first_literal() {
            return self.source.read(value, at, out).map_err(Error::Source);
        }
        let Some(step) = value.checked_sub(self.recipe.first_step()) else {
            let literal = &self.recipe.literals[value - self.recipe.first_literal()];
            out.copy_from_slice(slice(literal, at, out.len())?);
            return Ok(());
        };
        let ready = &self.steps[step];
        if ready.grain.output == ready.job.output_len() && ready.grain.output > WINDOW {
            let whole = self.whole(step)?;
            out.copy_from_slice(slice(&whole, at, out.len())?);
            return Ok(());
        }
        self.windows(step, at, out)
    }

    /// Computes the grains that a range touches, window by window.
    fn windows(&self, step: usize, at: u64, out: &mut [u8]) -> Result<()> {
        let Ready { job, grain, .. } = &self.steps[step];
        let operands = &self.recipe.steps[step].operands;
        let mut bytes: Vec<Vec<u8>> = Vec::with_capacity(operands.len());
        for (pieces, each) in operands.iter().zip(&grain.operands) {
            let mut whole = Vec::new();
            if each.is_none() {
                whole = self.buffer(self.measure(pieces)?.0)?;
                self.pieces(pieces, 0, &mut whole)?;
            }
            bytes.push(whole);
        }
        let end = at + out.len() as u64;
        let at_once = (WINDOW / grain.output).max(1);
        let (mut first, last) = (at / grain.output, end.div_ceil(grain.output));
        let mut rest = out;
        while first < last {
            let n = at_once.min(last - first);
            for ((pieces, each), bytes) in operands.iter().zip(&grain.operands).zip(&mut bytes) {
                if let Some(each) = each {
                    bytes.clear();
                    *bytes = self.buffer(n * each)?;
                    self.pieces(pieces, first * each, bytes)?;
                }
            }
            let operands: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
            let start = first * grain.output;
            let skip = at.saturating_sub(start);
            let here = ((first + n) * grain.output).min(end) - start - skip;
            let here = usize::try_from(here).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at_mut(here);
            if here as u64 == n * grain.output {
                job.run(&operands, now)?;
            } else {
                let mut window = self.buffer(n * grain.output)?;
                job.run(&operands, &mut window)?;
                now.copy_from_slice(slice(&window, skip, here)?);
            }
            rest = later;
            first += n;
        }
        Ok(())
    }

    /// The whole output of a step, kept for the next piece of it.
    fn whole(&self, step: usize) -> Result<Arc<Vec<u8>>> {
        let lock = || self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, whole)) = lock().iter().find(|(kept, _)| *kept == step) {
            return Ok(Arc::clone(whole));
        }
        let mut whole = self.buffer(self.steps[step].job.output_len())?;
        self.windows(step, 0, &mut whole)?;
        let whole = Arc::new(whole);
        let mut kept = lock();
        kept.push((step, Arc::clone(&whole)));
        let total = |kept: &[(usize, Arc<Vec<u8>>)]| {
            kept.iter()
                .fold(0, |sum: u64, (_, whole)| sum + whole.len() as u64)
        };
        while kept.len() > 1 && total(&kept) > AT_ONCE_MAX {
            kept.remove(0);
        }
        Ok(whole)
    }

    /// Room for bytes whose number was compared with [`AT_ONCE_MAX`], or that fill a window.
    fn buffer(&self, len: u64) -> Result<Vec<u8>> {
        let fits = usize::try_from(len).ok().filter(|_| len <= AT_ONCE_MAX);
        let len = fits.ok_or_else(|| Error::recipe(format!("{len} bytes at once")))?;
        Ok(vec![0; len])
    }
}

/// Bytes that one window takes in memory.
fn at_once(grain: &Grain, lens: &[u64]) -> u64 {
    let grains = (WINDOW / grain.output.max(1)).max(1);
    let operands = grain
        .operands
        .iter()
        .zip(lens)
        .map(|(each, &len)| match each {
            Some(each) => each.saturating_mul(grains),
            None => len,
        });
    operands.fold(grain.output.saturating_mul(grains), u64::saturating_add)
}

fn slice(bytes: &[u8], at: u64, len: usize) -> Result<&[u8]> {
    let found = usize::try_from(at)
        .ok()
        .and_then(|at| bytes.get(at..)?.get(..len));
    found.ok_or_else(|| Error::length("value", bytes.len(), len))
}

#[cfg(test)]
mod tests;
