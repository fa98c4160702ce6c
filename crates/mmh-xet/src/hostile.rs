//! Every parser of this crate behind one door, for fuzzers: the first byte chooses.

use std::sync::Arc;

use mmh_core::ByteRange;

use crate::{Chunker, Plan, Scheme, Shard, Term, VirtualXorb, XetHash, Xorb};

/// The fuzz bodies, by the first byte of an input.
const BODIES: [fn(&[u8]); 4] = [fuzz_xorb, fuzz_shard, fuzz_text, fuzz_chunks];

/// Gives hostile bytes to the parser that the first of them names.
///
/// # Panics
/// If a promise of that parser is broken: that is its purpose.
pub fn fuzz_any(bytes: &[u8]) {
    if let Some((&first, rest)) = bytes.split_first() {
        BODIES[usize::from(first) % BODIES.len()](rest);
    }
}

/// Small good inputs, with their names, from which fuzzing starts.
#[must_use]
pub fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let hash = b"07060504030201000f0e0d0c0b0a090817161514131211101f1e1d1c1b1a1918";
    let behind = |body: u8, bytes: &[u8]| [&[body], bytes].concat();
    vec![
        ("none", behind(0, include_bytes!("../testdata/none.xorb"))),
        ("lz4", behind(0, include_bytes!("../testdata/lz4.xorb"))),
        ("bg4", behind(0, include_bytes!("../testdata/bg4.xorb"))),
        (
            "shard",
            behind(1, include_bytes!("../testdata/sample.shard")),
        ),
        ("hash", behind(2, hash)),
        ("content", behind(3, &[7; 100])),
    ]
}

/// A xorb that is read unpacks to what it says, and can be planned for.
fn fuzz_xorb(bytes: &[u8]) {
    let Ok(xorb) = Xorb::read(bytes) else {
        return;
    };
    let mut raw_len = 0;
    for span in xorb.spans() {
        let raw = span
            .unpack(bytes)
            .expect("it was unpacked when it was read");
        assert_eq!(raw.len(), span.raw_len as usize);
        raw_len += u64::from(span.raw_len);
    }
    let lens = xorb.spans().iter().map(|span| span.raw_len);
    let known = Arc::new(VirtualXorb::new(lens).expect("it is within the limits of a xorb"));
    let term = Term {
        xorb: xorb.hash(),
        chunks: 0..known.n_chunks(),
        raw_len,
    };
    let range = ByteRange {
        start: raw_len / 3,
        end: raw_len / 2,
    };
    let plan = Plan::new(&[term], range, &mut |_| Ok(Arc::clone(&known)));
    let covered: u64 = plan.expect("it fits").terms.iter().map(|t| t.raw_len).sum();
    assert!(covered >= range.len());
}

/// A shard that is read is written with nothing lost.
fn fuzz_shard(bytes: &[u8]) {
    let Ok(mut shard) = Shard::read(bytes) else {
        return;
    };
    let mut again = Shard::read(&shard.write()).expect("what is written is read");
    // Writing sorts.
    for shard in [&mut shard, &mut again] {
        shard
            .files
            .sort_by_key(|file| (file.hash, file.segments.len()));
        shard
            .xorbs
            .sort_by_key(|xorb| (xorb.hash, xorb.chunks.len()));
    }
    assert_eq!(shard.files.len(), again.files.len());
    assert_eq!(shard.validity, again.validity);
    for file in &shard.files {
        // Right or wrong, it ends.
        let refused = file.verify(&|hash| Err(crate::Error::UnknownXorb(*hash)));
        assert!(refused.is_err() || file.segments.is_empty());
    }
    for xorb in &shard.xorbs {
        assert!(xorb.verify().is_ok() || xorb.verify().is_err());
    }
}

fn fuzz_text(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(hash) = text.parse::<XetHash>() {
        assert_eq!(hash.to_string(), text);
    }
}

/// Chunks tile what is cut, and pack and unpack.
fn fuzz_chunks(bytes: &[u8]) {
    let (mut chunker, mut joined) = (Chunker::default(), Vec::new());
    let mut take = |chunk: &[u8]| {
        joined.extend_from_slice(chunk);
        for scheme in [Scheme::Lz4, Scheme::Bg4Lz4] {
            if let Some(packed) = scheme.pack(chunk) {
                let raw = scheme.unpack(&packed, chunk.len());
                assert_eq!(raw.as_deref(), Ok(chunk));
            }
        }
        // Anything as a packed chunk.
        drop(Scheme::Bg4Lz4.unpack(chunk, 1000));
    };
    chunker.push(bytes, &mut take);
    chunker.finish(&mut take);
    assert_eq!(joined, bytes);
}
