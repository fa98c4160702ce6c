//! The entropy coder: 64 interleaved rANS states over alias tables small enough for registers.
//!
//! The format (FORMAT.md, "Coded blocks") names no instruction set. A symbol at index
//! `64 g + 4 i + j` of a block belongs to state `16 j + i`, so that four vectors of 16 states
//! yield 64 symbols in order by shifts alone.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
mod model;
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
mod neon;
mod pieces;
mod reference;
mod select;
mod states;
mod tables;
mod vector;

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
pub use model::{
    Alphabet, DecodeTable, EncodeTable, FREQ_MAX, LEVEL_MAX, LEVEL_STEPS, Levels, PROB_BITS,
    PROB_SCALE, SYMBOLS_MAX,
};
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
pub use neon::Neon;
use pieces::Pieces;
pub use reference::Reference;
pub use select::{best, by_name, engines};
pub(crate) use tables::{put_tables, read_tables, tables_cost};

use std::fmt;

use crate::error::Result;
pub use crate::kernel::Kernels;

/// Interleaved states.
pub const LANES: usize = 64;
/// The least state between two symbols, and the state that an encoder starts with.
pub const STATE_MIN: u32 = 1 << 16;
/// Most distributions in one set.
pub const CLASSES_MAX: usize = 32;
/// About the bytes of the states at the head of a block.
pub const STATES_LEN: usize = 220;

/// Which distribution of a set codes which symbol.
#[derive(Debug, Clone, Copy)]
pub enum Classes<'a> {
    /// One class for each group of 64 symbols (the last group may be shorter).
    Groups(&'a [u8]),
    /// One class for each symbol.
    Symbols(&'a [u8]),
}

/// A block whose symbols have a class each, and where these go.
#[derive(Debug)]
pub struct EachBlock<'a> {
    /// The class of each symbol.
    pub classes: &'a [u8],
    /// The block, which must be used up exactly.
    pub coded: &'a [u8],
    /// What is filled.
    pub symbols: &'a mut [u8],
}

/// Up to 32 distributions over one alphabet, ready for encoding.
#[derive(Debug, Clone)]
pub struct EncodeSet {
    /// The common alphabet.
    pub alphabet: Alphabet,
    /// One table for each class.
    pub tables: Vec<EncodeTable>,
    /// The slots of each class, [`PROB_SCALE`] of them, and one more that vectors may read.
    pub slots: Vec<u16>,
    /// The same as pieces, where all classes have few enough close together.
    pub(crate) pieces: Option<Vec<Pieces>>,
}

/// Up to 32 distributions over one alphabet, ready for decoding.
#[derive(Debug, Clone)]
pub struct DecodeSet {
    /// The common alphabet.
    pub alphabet: Alphabet,
    /// One table for each class.
    pub tables: Vec<DecodeTable>,
}

impl EncodeSet {
    /// The tables of a set of distributions.
    #[must_use]
    pub fn new(levels: &[Levels], alphabet: Alphabet) -> Self {
        let mut slots = Vec::with_capacity(levels.len() * PROB_SCALE as usize + 1);
        let tables = levels
            .iter()
            .map(|levels| EncodeTable::new(levels, alphabet, &mut slots))
            .collect();
        slots.push(0);
        let pieces = levels.iter().map(|levels| Pieces::new(levels, alphabet));
        let pieces = pieces.collect();
        Self {
            alphabet,
            tables,
            slots,
            pieces,
        }
    }
}

impl DecodeSet {
    /// The tables of a set of distributions.
    #[must_use]
    pub fn new(levels: &[Levels], alphabet: Alphabet) -> Self {
        let tables = levels
            .iter()
            .map(|levels| DecodeTable::new(levels, alphabet))
            .collect();
        Self { alphabet, tables }
    }
}

/// The inner loops of the entropy coder. Every implementation gives the same bytes as
/// [`Reference`]; the module `conformance` (feature `testing`) examines that.
pub trait Engine: fmt::Debug + Send + Sync {
    /// A short name for output.
    fn name(&self) -> &'static str;

    /// The other loops of encoders, which go with the engine.
    fn kernels(&self) -> Kernels {
        Kernels::PORTABLE
    }

    /// Appends one block that codes `symbols`.
    ///
    /// # Errors
    /// Internal when a class is not in the set, or a symbol has no frequency in its class.
    fn encode(
        &self,
        set: &EncodeSet,
        classes: Classes<'_>,
        symbols: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<()>;

    /// Fills `symbols` from one block, which must be used up exactly.
    ///
    /// # Errors
    /// Corrupt when the block is not what an encoder writes for so many symbols.
    fn decode(
        &self,
        set: &DecodeSet,
        classes: Classes<'_>,
        block: &[u8],
        symbols: &mut [u8],
    ) -> Result<()>;

    /// Fills the symbols of two blocks as [`decode`](Self::decode) would, one after the other.
    ///
    /// # Errors
    /// Those of `decode` for either block; what symbols are then is left open.
    fn decode_two(&self, set: &DecodeSet, blocks: [EachBlock<'_>; 2]) -> Result<()> {
        blocks.into_iter().try_for_each(|block| {
            let classes = Classes::Symbols(block.classes);
            self.decode(set, classes, block.coded, block.symbols)
        })
    }
}
