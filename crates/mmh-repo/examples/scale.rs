//! Makes repositories of scale in a store that exists, through the ports that `mmh` uses itself:
//! `scale logical REPOSITORY BYTES` stores files of so many bytes together, made of few chunks;
//! `scale log REPOSITORY N` makes N transactions. Equal arguments give equal objects.
//! `cargo xtask drill scale` calls it.
#![allow(clippy::print_stdout, reason = "a program for a terminal")]

use std::error::Error;

use mmh_codec::{Encoder, Hint, Settings};
use mmh_core::canonical::{self, Canonical};
use mmh_core::name::{RefName, Target};
use mmh_core::object::{
    ChunkRef, File, FileTag, PageRef, RefChange, Segment, SegmentPage, SegmentPageTag, Segments,
    Snapshot, SnapshotTag,
};
use mmh_core::tree::{self, Entry, Node};
use mmh_core::{ChunkId, FileId, ObjectId, SnapshotId, TreeId};
use mmh_store::{Access, Backend, ChunkSink, Commit, OpenOptions, Store, Writer};
use tokio::runtime::Runtime;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Distinct chunks of the large files.
const CHUNKS: usize = 64;
/// Length in bytes of each.
const CHUNK_LEN: u32 = 4 << 20;
/// Chunks of a file: 10 GiB.
const FILE_CHUNKS: usize = 2560;
/// Chunks of a page of a file's segments.
const PAGE_CHUNKS: usize = 1024;
/// Branches among which transactions go round.
const BRANCHES: usize = 100;

/// Bytes without structure that follow from a number.
fn noise(number: usize, len: u32) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(number as u64).to_be_bytes());
    let mut bytes = vec![0; len as usize];
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

/// Puts chunks and objects.
struct Maker<'a> {
    writer: &'a Writer,
    encoder: Encoder,
}

impl<'a> Maker<'a> {
    fn new(writer: &'a Writer) -> Self {
        let encoder = Encoder::new(Settings::default());
        Self { writer, encoder }
    }

    fn put(&mut self, raw: &[u8]) -> Outcome<ChunkId> {
        let id = self.writer.id(raw);
        if !self.writer.contains(&id)? {
            let mut frame = Vec::new();
            self.encoder.encode(raw, &Hint::bytes(), &mut frame)?;
            self.writer.put(id, u32::try_from(raw.len())?, &frame)?;
        }
        Ok(id)
    }

    fn object<T: Canonical>(&mut self, value: &T) -> Outcome<ObjectId> {
        let id = self.put(&canonical::encode(value)?)?;
        Ok(ObjectId::from_digest(*id.digest()))
    }

    fn tree(&mut self, entries: Vec<Entry>) -> Outcome<TreeId> {
        let mut put = |bytes: Vec<u8>| match self.put(&bytes) {
            Ok(id) => Ok(ObjectId::from_digest(*id.digest())),
            Err(error) => Err(mmh_core::Error::BadObject {
                what: "tree",
                reason: error.to_string(),
            }),
        };
        Ok(tree::write::<mmh_core::Error>(entries, &mut put)?)
    }

    fn snapshot(&mut self, tree: TreeId, message: &str) -> Outcome<SnapshotId> {
        let snapshot = Snapshot {
            r#type: SnapshotTag::Tag,
            tree,
            parents: Vec::new(),
            author: "scale".to_owned(),
            time_ms: 0,
            message: message.to_owned(),
        };
        Ok(SnapshotId::from_object(self.object(&snapshot)?))
    }

    /// A file of 10 GiB, whose chunks come in an order of its own.
    fn file(&mut self, number: usize, chunks: &[ChunkId]) -> Outcome<(FileId, u64)> {
        let place = |i: usize| (i * (2 * number + 1) + number) % chunks.len();
        let all: Vec<ChunkRef> = (0..FILE_CHUNKS)
            .map(|i| ChunkRef(chunks[place(i)], 0, CHUNK_LEN))
            .collect();
        let mut pages = Vec::new();
        for chunks in all.chunks(PAGE_CHUNKS) {
            let len = chunks.len() as u64 * u64::from(CHUNK_LEN);
            let page = SegmentPage {
                r#type: SegmentPageTag::Tag,
                segments: vec![Segment {
                    len,
                    tensors: Vec::new(),
                    chunks: chunks.to_vec(),
                }],
            };
            pages.push(PageRef(self.object(&page)?, len));
        }
        let size = FILE_CHUNKS as u64 * u64::from(CHUNK_LEN);
        let file = File {
            r#type: FileTag::Tag,
            size,
            blake3: None,
            sha256: None,
            container: "unknown".to_owned(),
            note: None,
            segments: Segments::Pages(pages),
        };
        Ok((FileId::from_object(self.object(&file)?), size))
    }
}

fn branch(name: &str) -> Outcome<RefName> {
    let target: Target = name.parse()?;
    Ok(RefName::branch(target.repo, "main")?)
}

fn change(name: &str, old: Option<SnapshotId>, new: SnapshotId) -> Outcome<Commit> {
    let change = RefChange {
        r#ref: branch(name)?,
        old,
        new: Some(new),
    };
    Ok(Commit {
        changes: vec![change],
        author: "scale".to_owned(),
        command: format!("add {name}"),
        ..Commit::default()
    })
}

/// Files of `len` bytes together under the name `scale/logical`.
fn logical(writer: &Writer, len: u64) -> Outcome {
    let mut maker = Maker::new(writer);
    let chunks: Vec<ChunkId> = (0..CHUNKS)
        .map(|number| maker.put(&noise(number, CHUNK_LEN)))
        .collect::<Outcome<_>>()?;
    let (mut entries, mut sum) = (Vec::new(), 0);
    while sum < len {
        let (id, size) = maker.file(entries.len(), &chunks)?;
        sum += size;
        entries.push(Entry {
            name: format!("{:06}.bin", entries.len()),
            node: Node::File {
                id,
                size,
                executable: false,
            },
        });
    }
    let n = entries.len();
    let tree = maker.tree(entries)?;
    let tip = maker.snapshot(tree, "logical")?;
    writer.commit(change("scale/logical", None, tip)?)?;
    println!("{n} files of {sum} bytes in {CHUNKS} chunks");
    Ok(())
}

/// `n` transactions, each of which moves one of many branches.
fn log(runtime: &Runtime, store: &Store, writer: &Writer, n: usize) -> Outcome {
    let mut maker = Maker::new(writer);
    let tree = maker.tree(Vec::new())?;
    let tips = [maker.snapshot(tree, "even")?, maker.snapshot(tree, "odd")?];
    writer.flush()?;
    for i in 0..n {
        let round = i / BRANCHES;
        let old = (round > 0).then(|| tips[(round + 1) % 2]);
        let name = format!("scale/log-{:02}", i % BRANCHES);
        runtime.block_on(store.commit(change(&name, old, tips[round % 2])?))?;
    }
    println!("{n} transactions over {BRANCHES} branches");
    Ok(())
}

fn main() -> Outcome {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [what, place, number] = &args[..] else {
        return Err("usage: scale logical REPOSITORY BYTES | scale log REPOSITORY N".into());
    };
    let runtime = Runtime::new()?;
    let backend = Backend::parse_existing(place, &Access::default())?;
    let store = runtime.block_on(Store::open(backend, OpenOptions::default()))?;
    let writer = runtime.block_on(store.writer(runtime.handle().clone()))?;
    match what.as_str() {
        "logical" => logical(&writer, number.parse()?)?,
        "log" => log(&runtime, &store, &writer, number.parse()?)?,
        _ => return Err(format!("`{what}` is neither `logical` nor `log`").into()),
    }
    writer.finish()?;
    Ok(())
}
