//! Parity: what follows a pack's trailer, and heals any part of the file from the rest.
//!
//! The pack's bytes, its *body*, are cut into blocks. A table has the CRC-32C of each, so that
//! damaged ones are found, and a Reed–Solomon code over all of them heals as many as it has
//! recovery blocks, wherever they lie. The table is coded too. Everything lies in *cells*, each
//! with a head that says what is needed to read all others, so that any of them locates the rest.
//! Bytes are taken as they are stored: healing needs no key. FORMAT.md, "Parity", has the layout.

mod cell;
mod code;
mod heal;
mod write;

pub use cell::{
    CELL_HEAD_LEN, CELL_MAGIC, PARITY_BLOCK_LEN, PARITY_BLOCK_LEN_SMALL, PARITY_BLOCKS_MAX,
    PARITY_BODY_LEN_MAX, PARITY_PERCENT_MAX, PARITY_SMALL_BODY, fuzz_parity_head,
};
pub(crate) use cell::{Geometry, end_mark};
pub(crate) use code::{Decoder, Encoder};
pub(crate) use heal::{Patches, examine, read_cells, restore};
pub(crate) use write::{append, append_for};
