//! Shards: there and back, lies, limits, cuts and flips.

use proptest::prelude::*;

use super::*;
use crate::error::Error;

fn chunk(n: u8, raw_len: u32) -> Chunk {
    let hash = XetHash::of_chunk(&[n]);
    let shared = n.is_multiple_of(2);
    Chunk {
        hash,
        raw_len,
        shared,
    }
}

fn xorb(chunks: Vec<Chunk>) -> XorbInfo {
    let mut xorb = XorbInfo {
        hash: XetHash::default(),
        chunks,
        packed_len: 77,
    };
    xorb.hash = xorb_hash(&xorb.leaves());
    xorb
}

fn segment(xorb: &XorbInfo, chunks: Range<u32>) -> Segment {
    let run = &xorb.leaves()[chunks.start as usize..chunks.end as usize];
    Segment {
        xorb: xorb.hash,
        chunks,
        raw_len: u32::try_from(run.iter().map(|l| l.1).sum::<u64>()).unwrap(),
        range_hash: Some(range_hash(run.iter().map(|l| &l.0))),
    }
}

fn sample() -> Shard {
    let one = xorb(vec![chunk(1, 10), chunk(2, 20), chunk(3, 30)]);
    let two = xorb(vec![chunk(4, 8)]);
    let leaves = [one.leaves()[1..].to_vec(), two.leaves()].concat();
    let file = FileInfo {
        hash: crate::file_hash(&leaves),
        segments: vec![segment(&one, 1..3), segment(&two, 0..1)],
        sha256: Some([3; 32]),
    };
    let empty = FileInfo {
        hash: XetHash::default(),
        segments: Vec::new(),
        sha256: None,
    };
    let mut xorbs = vec![one, two];
    xorbs.sort_by_key(|x| x.hash.order());
    Shard {
        files: vec![empty, file],
        xorbs,
        validity: None,
    }
}

fn verify(shard: &Shard, file: &FileInfo) -> Result<()> {
    let leaves: Vec<_> = shard.xorbs.iter().map(|x| (x.hash, x.leaves())).collect();
    file.verify(&|hash| {
        let found = leaves.iter().find(|(known, _)| known == hash);
        let leaves = found.map(|(_, leaves)| leaves.as_slice());
        leaves.ok_or(Error::UnknownXorb(*hash))
    })
}

#[test]
fn what_is_written_is_read() {
    let mut shard = sample();
    for validity in [
        None,
        Some(Validity {
            created_s: 5,
            expires_s: 9,
        }),
    ] {
        shard.validity = validity;
        let bytes = shard.write();
        assert_eq!(Shard::read(&bytes).unwrap(), shard);
    }
    assert_eq!(shard.files[1].len(), 58);
    assert!(shard.files[0].is_empty());
    for file in &shard.files {
        verify(&shard, file).unwrap();
    }
    shard.xorbs.iter().for_each(|xorb| xorb.verify().unwrap());
}

#[test]
fn lies_are_found() {
    let shard = sample();
    let lie = |change: &dyn Fn(&mut FileInfo)| {
        let mut file = shard.files[1].clone();
        change(&mut file);
        verify(&shard, &file).unwrap_err()
    };
    let other = XetHash::of_chunk(b"other");
    let wrong = |error: &Error| matches!(error, Error::WrongHash { .. });
    assert!(wrong(&lie(&|f| f.hash = other)));
    assert!(wrong(&lie(&|f| f.segments[0].range_hash = Some(other))));
    assert!(wrong(&lie(&|f| f.segments.swap(0, 1))));
    let malformed = |error: &Error| matches!(error, Error::Malformed { .. });
    assert!(malformed(&lie(&|f| f.segments[0].raw_len += 1)));
    assert!(malformed(&lie(&|f| f.segments[0].chunks.end += 1)));
    let unknown = lie(&|f| f.segments[0].xorb = other);
    assert_eq!(unknown, Error::UnknownXorb(other));
    let mut xorb = shard.xorbs[0].clone();
    xorb.chunks[0].raw_len += 1;
    assert!(wrong(&xorb.verify().unwrap_err()));
}

/// Without tables and footer a shard has an end of its own, so every cut is found.
#[test]
fn cuts_are_found() {
    let mut shard = sample();
    let bytes = shard.write();
    for len in 0..bytes.len() {
        Shard::read(&bytes[..len]).unwrap_err();
    }
    shard.validity = Some(Validity {
        created_s: 0,
        expires_s: 1,
    });
    let bytes = shard.write();
    for len in 0..bytes.len() {
        // Tables are not read, so that the footer may be taken from elsewhere.
        let read = Shard::read(&bytes[..len]);
        assert!(read.is_err() || read.unwrap() != shard, "{len}");
    }
}

/// A flip is refused, or changes what is said, or is in a field that means nothing here.
#[test]
fn flips_never_break_the_reader() {
    let shard = sample();
    let mut bytes = shard.write();
    let mut silent = 0;
    for at in 0..bytes.len() {
        for bit in 0..8 {
            bytes[at] ^= 1 << bit;
            if let Ok(read) = Shard::read(&bytes) {
                silent += usize::from(read == shard);
                for file in &read.files {
                    let holds = verify(&read, file).is_ok();
                    assert!(!holds || shard.files.iter().any(|f| f.hash == file.hash));
                }
            }
            bytes[at] ^= 1 << bit;
        }
    }
    // What nobody reads of two files (one of which is empty: hashes of no segments), two segments,
    // three records with a hash alone, two ends, two xorbs and four chunks.
    let silent_bits = 2 * (64 + 30) + 1 + 2 * 32 + 3 * 128 + 2 * 128 + 2 * 32 + 4 * (31 + 32);
    assert_eq!(silent, silent_bits);
}

#[test]
fn limits_hold() {
    let shard = sample();
    let plain = shard.write();
    let patched = |at: usize, value: u32| {
        let mut bytes = plain.clone();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        Shard::read(&bytes)
    };
    // The number of the first file's records, and of the second's.
    for at in [48 + 36, 96 + 36] {
        let error = patched(at, u32::MAX).unwrap_err();
        assert!(error.to_string().contains("have room"), "{error}");
    }
    let error = Shard::read(&vec![0; SHARD_LEN_MAX + 1]).unwrap_err();
    assert!(error.to_string().contains("longer"), "{error}");
    // Versions, and the length of the footer.
    for at in [32, 40] {
        let error = patched(at, 7).unwrap_err();
        assert_eq!(error.kind(), mmh_core::ErrorKind::Unsupported);
    }
}

#[test]
fn keyed_hashes_are_not_taken_for_plain_ones() {
    let mut shard = sample();
    shard.validity = Some(Validity {
        created_s: 0,
        expires_s: u64::MAX,
    });
    let mut bytes = shard.write();
    let key_at = bytes.len() - FOOTER_LEN + 9 * 8;
    bytes[key_at] = 1;
    let error = Shard::read(&bytes).unwrap_err();
    assert_eq!(error.kind(), mmh_core::ErrorKind::Unsupported);
}

fn any_hash() -> impl Strategy<Value = XetHash> {
    any::<[u8; 32]>().prop_map(XetHash::from_bytes)
}

prop_compose! {
    fn any_xorb()(
        hash in any_hash(),
        packed_len: u32,
        chunks in prop::collection::vec((any_hash(), 1u32..1 << 17, any::<bool>()), 1..20),
    ) -> XorbInfo {
        let chunk = |(hash, raw_len, shared)| Chunk { hash, raw_len, shared };
        let chunks = chunks.into_iter().map(chunk).collect();
        XorbInfo { hash, chunks, packed_len }
    }
}

prop_compose! {
    fn any_file()(
        hash in any_hash(),
        with_ranges: bool,
        sha256: Option<[u8; 32]>,
        segments in prop::collection::vec((any_hash(), 0u32..8000, 1u32..100, 1u32..1 << 26), 0..10),
    ) -> FileInfo {
        let segment = |(xorb, start, n, raw_len)| Segment {
            xorb,
            chunks: start..start + n,
            raw_len,
            range_hash: with_ranges.then_some(xorb),
        };
        let segments = segments.into_iter().map(segment).collect();
        FileInfo { hash, segments, sha256 }
    }
}

prop_compose! {
    fn any_shard()(
        mut files in prop::collection::vec(any_file(), 0..6),
        mut xorbs in prop::collection::vec(any_xorb(), 0..6),
        validity: Option<(u64, u64)>,
    ) -> Shard {
        files.sort_by_key(|file| file.hash.order());
        xorbs.sort_by_key(|xorb| xorb.hash.order());
        let validity = validity.map(|(created_s, expires_s)| Validity { created_s, expires_s });
        Shard { files, xorbs, validity }
    }
}

proptest! {
    #[test]
    fn any_shard_comes_back(shard in any_shard()) {
        prop_assert_eq!(&Shard::read(&shard.write()).unwrap(), &shard);
    }

    /// Tables lead to what they name: the protocol's own reader searches them.
    #[test]
    fn tables_lead_to_records(shard in any_shard()) {
        let shard = Shard {
            validity: Some(Validity { created_s: 1, expires_s: 2 }),
            ..shard
        };
        let bytes = shard.write();
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let footer = bytes.len() - FOOTER_LEN;
        let field = |i: usize| usize::try_from(number(footer + 8 * i)).unwrap();
        prop_assert_eq!(field(24), footer);
        let row = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let sizes = [shard.files.len(), shard.xorbs.len()];
        for (table, section) in [(3, 1), (5, 2)] {
            prop_assert_eq!(field(table + 1), sizes[section - 1]);
            for entry in (field(table)..).step_by(12).take(field(table + 1)) {
                let record = field(section) + RECORD_LEN * row(entry + 8);
                prop_assert_eq!(number(record), number(entry));
            }
        }
        let (mut before, n_chunks) = (0, field(8));
        prop_assert_eq!(n_chunks, shard.xorbs.iter().map(|x| x.chunks.len()).sum::<usize>());
        for entry in (field(7)..).step_by(16).take(n_chunks) {
            let rows = row(entry + 8) + 1 + row(entry + 12);
            prop_assert_eq!(number(field(2) + RECORD_LEN * rows), number(entry));
            prop_assert!(before <= number(entry));
            before = number(entry);
        }
    }
}
