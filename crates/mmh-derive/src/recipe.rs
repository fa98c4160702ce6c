//! The recipe: how bytes grow from other bytes. FORMAT.md, "Recipes", gives each field.
//!
//! Values are numbered: inputs first, then literals, then the outputs of steps. A step takes
//! values with smaller numbers only, so that no recipe goes in a circle.

use mmh_core::Digest;
use mmh_core::canonical::Canonical;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::ops::Params;

/// The rules of arithmetic that operations keep (docs/decisions/0031-derivations.md): IEEE 754
/// binary32, nothing flushed, nothing fused but where an operation says so.
pub const NUMERICS: u32 = 1;
/// Most steps of a recipe.
pub const STEPS_MAX: usize = 65_536;
/// Most slices that a recipe lists.
pub const PIECES_MAX: usize = 262_144;

/// The value `"recipe"` of the `type` field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum RecipeTag {
    /// The only value.
    #[default]
    #[serde(rename = "recipe")]
    Tag,
}

/// Bytes of a value: `(number, start, len)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece(pub u32, pub u64, pub u64);

/// Bytes that a recipe starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// BLAKE3 of the content.
    pub blake3: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Name of the operation.
    pub op: String,
    /// Version of the operation.
    pub version: u32,
    /// Its parameters.
    pub params: Params,
    /// What it takes: for each operand the pieces that it consists of.
    pub operands: Vec<Vec<Piece>>,
}

/// How bytes grow from other bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Says that this is a recipe.
    #[serde(rename = "type")]
    pub tag: RecipeTag,
    /// The rules of arithmetic: [`NUMERICS`].
    pub numerics: u32,
    /// What it starts from.
    pub inputs: Vec<Input>,
    /// Bytes that it brings along, such as headers.
    pub literals: Vec<ByteBuf>,
    /// Operations, in order.
    pub steps: Vec<Step>,
    /// The pieces that the output consists of.
    pub output: Vec<Piece>,
}

impl Recipe {
    /// A recipe that makes nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            tag: RecipeTag::Tag,
            numerics: NUMERICS,
            inputs: Vec::new(),
            literals: Vec::new(),
            steps: Vec::new(),
            output: Vec::new(),
        }
    }

    /// The number of the first literal.
    #[must_use]
    pub fn first_literal(&self) -> usize {
        self.inputs.len()
    }

    /// The number of the first step's output.
    #[must_use]
    pub fn first_step(&self) -> usize {
        self.inputs.len() + self.literals.len()
    }

    fn pieces(&self) -> impl Iterator<Item = (usize, &Piece)> {
        let first = self.first_step();
        let steps = self.steps.iter().enumerate();
        let taken = steps.flat_map(move |(idx, step)| {
            step.operands
                .iter()
                .flatten()
                .map(move |piece| (first + idx, piece))
        });
        let last = first + self.steps.len();
        taken.chain(self.output.iter().map(move |piece| (last, piece)))
    }
}

impl Default for Recipe {
    fn default() -> Self {
        Self::new()
    }
}

impl Canonical for Recipe {
    const WHAT: &'static str = "recipe";

    /// Checks what needs no operations: limits, numbers of values, bounds of inputs and literals.
    fn check(&self) -> mmh_core::Result<()> {
        let bad = |reason: String| {
            Err(mmh_core::Error::BadObject {
                what: "recipe",
                reason,
            })
        };
        if self.numerics != NUMERICS {
            return bad(format!(
                "rules of arithmetic {} are not known",
                self.numerics
            ));
        }
        if self.steps.len() > STEPS_MAX {
            return bad(format!("more than {STEPS_MAX} steps"));
        }
        let mut count = 0;
        for (limit, &Piece(value, start, len)) in self.pieces() {
            count += 1;
            if count > PIECES_MAX {
                return bad(format!("more than {PIECES_MAX} pieces"));
            }
            let number = value as usize;
            if number >= limit {
                return bad(format!("value {value} is used before it is made"));
            }
            let Some(end) = start.checked_add(len).filter(|_| len > 0) else {
                return bad(format!("{len} bytes from {start} of value {value}"));
            };
            let size = match self.inputs.get(number) {
                Some(input) => Some(input.size),
                None => self
                    .literals
                    .get(number - self.inputs.len())
                    .map(|l| l.len() as u64),
            };
            if size.is_some_and(|size| end > size) {
                return bad(format!(
                    "bytes {start}..{end} of value {value} are not there"
                ));
            }
        }
        Ok(())
    }
}
