//! Packs: the immutable files that hold frames. FORMAT.md, "Packs", has the layout.

mod build;
mod format;
mod source;

pub(crate) use build::{Growing, publish, publish_as};
pub use format::{
    ARCHIVE_ENTRY_LEN, FILE_MAGIC, FILE_VERSION, HEADER_LEN, PACK_ENTRY_LEN, PACK_RECORDS_MAX,
    PACK_SALT_LEN, RECORD_HEAD_LEN, TRAILER_LEN, TRAILER_MAGIC, fuzz_pack_tail,
};
pub(crate) use format::{
    Entry, Flaw, Kind, Record, Trailer, digest_at, encode_header, encode_record_head, parse_header,
    u32_at, u64_at,
};
pub(crate) use source::{Source, read_footer, rescue, salvage};
