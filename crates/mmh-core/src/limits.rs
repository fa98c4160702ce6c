//! Limits on everything that comes from outside. FORMAT.md lists them; a test ties the two.

/// Largest raw chunk. Readers hold at most a few of these.
pub const CHUNK_LEN_MAX: usize = 4 << 20;
/// Length of a tensor chunk (the last one of a tensor may be shorter).
pub const TENSOR_CHUNK_LEN: usize = 4 << 20;
/// Largest canonical object; larger collections are split into pages.
pub const OBJECT_LEN_MAX: usize = 4 << 20;
/// Most chunks or tensors in one page of a file object.
pub const FILE_PAGE_ITEMS_MAX: usize = 4096;
/// Most pages of one kind in a file object: at 1 MiB chunks, 128 TiB.
pub const FILE_PAGES_MAX: usize = 32_768;
/// Most entries in one page of a tree.
pub const TREE_PAGE_ENTRIES_MAX: usize = 4096;
/// Deepest nesting of tree pages.
pub const TREE_PAGE_DEPTH_MAX: usize = 8;
/// Deepest nesting of directories.
pub const TREE_DEPTH_MAX: usize = 64;
/// Longest file or directory name, in bytes of UTF-8.
pub const NAME_LEN_MAX: usize = 255;
/// Longest path inside a tree, in bytes of UTF-8.
pub const PATH_LEN_MAX: usize = 4096;
/// Longest commit message or statement text, in bytes.
pub const MESSAGE_LEN_MAX: usize = 1 << 20;
/// Most parents of a snapshot.
pub const PARENTS_MAX: usize = 64;
/// Most ref changes in one operation.
pub const CHANGES_MAX: usize = 16_384;
/// Most packs that one operation takes away.
pub const COLLECTED_MAX: usize = 65_536;
/// Most dimensions of a tensor.
pub const TENSOR_RANK_MAX: usize = 64;
/// Longest tensor name, in bytes of UTF-8.
pub const TENSOR_NAME_LEN_MAX: usize = 1024;
/// Most tensors found in one file; a file with more is stored as bytes.
pub const TENSORS_MAX: usize = 1 << 20;
/// Largest container header that a parser reads (the limit of the safetensors library).
pub const HEADER_LEN_MAX: u64 = 100 << 20;
