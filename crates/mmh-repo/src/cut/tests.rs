//! Cutting: every byte once, in order, and the same chunks whatever the steps of reading.

use std::collections::HashMap;

use mmh_formats::{Container, LayoutBuilder};
use proptest::prelude::*;

use super::*;

fn chunking() -> Chunking {
    Chunking::new(&ChunkerParams::default()).unwrap()
}

fn tensor(name: &str, dtype: Dtype, len: u64) -> TensorInfo {
    let elements = len / u64::from(dtype.block().1);
    TensorInfo {
        name: name.to_owned(),
        dtype,
        shape: vec![elements],
    }
}

/// Cuts everything and joins the pieces again; says how many chunks there were.
fn cut_and_join(bytes: &[u8], layout: &Layout, step: u64) -> (Vec<u8>, Vec<Vec<u8>>) {
    let source = bytes.to_vec();
    let mut cutter = Cutter::new(&source, layout, chunking()).with_digests();
    let (mut chunks, mut pieces) = (HashMap::new(), Vec::new());
    loop {
        let batch = cutter.next_batch(step).unwrap();
        if batch.jobs.is_empty() && batch.pieces.is_empty() {
            break;
        }
        for job in batch.jobs {
            assert!(!job.raw.is_empty() && job.raw.len() <= limits::CHUNK_LEN_MAX);
            assert!(
                chunks.insert(job.slot, job.raw.to_vec()).is_none(),
                "a slot is filled once"
            );
        }
        pieces.extend(batch.pieces);
    }
    let slice = |p: &Piece| chunks[&p.slot][p.start as usize..][..p.len as usize].to_vec();
    let joined = pieces.iter().flat_map(slice).collect();
    let (blake3, _) = cutter.digests().unwrap();
    assert_eq!(
        blake3,
        mmh_core::Digest::of(bytes),
        "every byte was hashed once, in order"
    );
    let mut chunks: Vec<_> = chunks.into_iter().collect();
    chunks.sort();
    (joined, chunks.into_iter().map(|(_, raw)| raw).collect())
}

#[test]
fn a_large_tensor_is_cut_from_its_first_byte() {
    let len = (8 << 20) + 12;
    let bytes = vec![7u8; 1000 + len];
    let mut builder = LayoutBuilder::new(Container::Npy, bytes.len() as u64);
    builder
        .tensor(1000, len as u64, tensor("w", Dtype::F32, len as u64))
        .unwrap();
    let (joined, chunks) = cut_and_join(&bytes, &builder.finish().unwrap(), 1 << 20);
    assert_eq!(joined, bytes);
    let lens: Vec<_> = chunks.iter().map(Vec::len).collect();
    assert_eq!(lens, [1000, 4 << 20, 4 << 20, 12]);
}

#[test]
fn blocks_are_not_torn() {
    let block = u64::from(Dtype::Q4_K.block().1);
    let len = block * 80_000;
    let bytes = vec![3u8; usize::try_from(len).unwrap()];
    let info = TensorInfo {
        name: "q".to_owned(),
        dtype: Dtype::Q4_K,
        shape: vec![80_000 * 256],
    };
    let mut builder = LayoutBuilder::new(Container::Gguf, len);
    builder.tensor(0, len, info).unwrap();
    let (joined, chunks) = cut_and_join(&bytes, &builder.finish().unwrap(), 1 << 20);
    assert_eq!(joined, bytes);
    assert!(chunks.len() > 2);
    assert!(
        chunks
            .iter()
            .all(|c| (c.len() as u64).is_multiple_of(block))
    );
}

#[test]
fn small_parts_of_one_kind_share_a_chunk() {
    let bytes: Vec<u8> = (0..100u8).cycle().take(40 * 100).collect();
    let mut builder = LayoutBuilder::new(Container::TorchZip, bytes.len() as u64);
    for i in 0..20u64 {
        let dtype = if i % 2 == 0 { Dtype::F32 } else { Dtype::I64 };
        builder
            .tensor(i * 200 + 100, 80, tensor(&i.to_string(), dtype, 80))
            .unwrap();
    }
    let (joined, chunks) = cut_and_join(&bytes, &builder.finish().unwrap(), 1 << 20);
    assert_eq!(joined, bytes);
    assert_eq!(chunks.len(), 3, "plain bytes, F32, I64");
}

#[test]
fn a_small_file_of_one_part_is_its_own_chunk() {
    let bytes = b"{}".to_vec();
    let layout = Layout::bytes(Container::Text, 2);
    assert_eq!(cut_and_join(&bytes, &layout, 1).1, [b"{}".to_vec()]);
}

#[test]
fn parameters_that_the_chunker_does_not_take_are_refused() {
    let good = ChunkerParams::default();
    let bad = [
        ChunkerParams {
            algorithm: "rabin".to_owned(),
            ..good.clone()
        },
        ChunkerParams {
            min_len: 1,
            ..good.clone()
        },
        ChunkerParams {
            average_len: 1,
            ..good.clone()
        },
        ChunkerParams {
            max_len: 100,
            ..good.clone()
        },
        ChunkerParams {
            max_len: u32::MAX,
            ..good.clone()
        },
        ChunkerParams {
            tensor_len: 0,
            ..good.clone()
        },
        ChunkerParams {
            tensor_len: u32::MAX,
            ..good
        },
    ];
    for params in bad {
        let error = Chunking::new(&params).unwrap_err();
        assert_eq!(error.kind(), mmh_core::ErrorKind::Unsupported, "{params:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Any layout, read in steps of any size, joins to the file.
    #[test]
    fn pieces_join_to_the_file(
        parts in prop::collection::vec((0u64..3000, 0u64..9000, any::<bool>()), 0..30),
        tail in 0u64..300_000,
        step in 1u64..200_000,
    ) {
        let len = parts.iter().map(|p| p.0 + p.1 / 4 * 4).sum::<u64>() + tail;
        let bytes: Vec<u8> = (0..len).map(|i| ((i * i) >> 7).to_le_bytes()[0]).collect();
        let mut builder = LayoutBuilder::new(Container::Npz, len);
        let mut at = 0;
        for (i, (gap, n, float)) in parts.into_iter().enumerate() {
            let dtype = if float { Dtype::F32 } else { Dtype::U8 };
            at += gap;
            builder.tensor(at, n / 4 * 4, tensor(&i.to_string(), dtype, n / 4 * 4)).unwrap();
            at += n / 4 * 4;
        }
        let (joined, _) = cut_and_join(&bytes, &builder.finish().unwrap(), step);
        prop_assert!(joined == bytes);
    }
}

/// Raw bytes and hint of each slot.
type Chunks = BTreeMap<Slot, (Vec<u8>, Hint)>;

/// All pieces and, by slot, all chunks, read in steps of `step` bytes.
fn cut_all(bytes: &[u8], layout: &Layout, chunking: Chunking, step: u64) -> (Vec<Piece>, Chunks) {
    let source = bytes.to_vec();
    let mut cutter = Cutter::new(&source, layout, chunking);
    let (mut pieces, mut chunks) = (Vec::new(), BTreeMap::new());
    loop {
        let batch = cutter.next_batch(step).unwrap();
        if batch.jobs.is_empty() && batch.pieces.is_empty() {
            return (pieces, chunks);
        }
        pieces.extend(batch.pieces);
        chunks.extend(
            batch
                .jobs
                .into_iter()
                .map(|j| (j.slot, (j.raw.to_vec(), j.hint))),
        );
    }
}

fn with_tensor_len(tensor_len: u32) -> Chunking {
    let params = ChunkerParams {
        tensor_len,
        ..ChunkerParams::default()
    };
    Chunking::new(&params).unwrap()
}

/// Plain bytes are read through a window; where it ends must not show in the cuts.
#[test]
fn plain_bytes_are_cut_as_if_they_were_read_at_once() {
    let mut bytes: Vec<u8> = (0..9_000_000u64)
        .map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40).to_le_bytes()[0])
        .collect();
    bytes[2_000_000..6_500_000].fill(0);
    let layout = Layout::bytes(Container::Unknown, bytes.len() as u64);
    let chunking = chunking();
    let Chunking {
        min, average, max, ..
    } = chunking;
    let whole = FastCDC::with_level(&bytes, min, average, max, Normalization::Level1);
    let expected: Vec<_> = whole.map(|c| c.length).collect();
    for step in [1, 1 << 20, u64::MAX] {
        let (pieces, _) = cut_all(&bytes, &layout, chunking, step);
        let lens: Vec<_> = pieces.iter().map(|p| p.len as usize).collect();
        assert_eq!(lens, expected, "in steps of {step}");
    }
    assert!(
        expected.contains(&max),
        "the run of zeros has the longest chunks"
    );
}

/// The coder wants to know where in its row a chunk begins, in elements.
#[test]
fn hints_say_where_in_the_tensor_a_chunk_begins() {
    for (dtype, shape, per_chunk) in [
        (Dtype::F16, vec![50, 3000], 2048u64),
        (Dtype::I64, vec![20_000], 512),
        (Dtype::Q4_K, vec![64, 1024], 28 * 256),
    ] {
        let info = TensorInfo {
            name: "w".to_owned(),
            dtype,
            shape: shape.clone(),
        };
        let len = info.bytes().unwrap();
        let mut builder = LayoutBuilder::new(Container::Gguf, len + 600);
        builder.tensor(600, len, info).unwrap();
        let layout = builder.finish().unwrap();
        let bytes = vec![1; usize::try_from(len).unwrap() + 600];
        let (_, chunks) = cut_all(&bytes, &layout, with_tensor_len(4096), u64::MAX);
        let hints: Vec<_> = chunks.values().map(|(_, hint)| *hint).collect();
        assert_eq!(hints[0], Hint::bytes(), "what lies before the tensor");
        for (i, hint) in (0u64..).zip(&hints[1..]) {
            let first = i * per_chunk;
            let row_len = *shape.last().unwrap();
            let expected = Hint {
                dtype: Some(dtype),
                row_len,
                first,
            };
            assert_eq!(*hint, expected);
        }
    }
}

/// A block that is longer than a chunk should be is a chunk; else nothing would ever be read.
#[test]
fn a_block_longer_than_a_chunk_is_one() {
    let block = usize::try_from(Dtype::Q4_K.block().1).unwrap();
    let len = block as u64 * 8;
    let mut builder = LayoutBuilder::new(Container::Gguf, len);
    builder
        .tensor(
            0,
            len,
            TensorInfo {
                name: "q".to_owned(),
                dtype: Dtype::Q4_K,
                shape: vec![8 * 256],
            },
        )
        .unwrap();
    let layout = builder.finish().unwrap();
    for tensor_len in [1, 10, u32::try_from(block).unwrap() - 1] {
        let (_, chunks) = cut_all(&vec![5; block * 8], &layout, with_tensor_len(tensor_len), 1);
        assert_eq!(chunks.len(), 8);
        assert!(chunks.values().all(|(raw, _)| raw.len() == block));
    }
}

#[test]
fn parts_share_a_chunk_up_to_the_length_that_the_format_names() {
    for (len, place) in [
        (SMALL_PART_LEN - 4, Place::Pooled),
        (SMALL_PART_LEN, Place::Begins),
    ] {
        let mut builder = LayoutBuilder::new(Container::Npz, 2 * len);
        for i in 0..2 {
            let info = tensor(&i.to_string(), Dtype::F32, len);
            builder.tensor(i * len, len, info).unwrap();
        }
        let bytes: Vec<u8> = (0..=255)
            .cycle()
            .take(2 * usize::try_from(len).unwrap())
            .collect();
        let (pieces, chunks) = cut_all(&bytes, &builder.finish().unwrap(), chunking(), 1);
        assert!(pieces.iter().all(|p| p.place == place), "{pieces:?}");
        assert_eq!(chunks.len(), if place == Place::Pooled { 1 } else { 2 });
    }
}

/// A pool is closed by the part that fills it, and the next part opens another.
#[test]
fn a_full_pool_becomes_a_chunk() {
    let (each, n) = (256u64, POOL_LEN as u64 / 256 + 1);
    let mut builder = LayoutBuilder::new(Container::Npz, each * n);
    for i in 0..n {
        let info = tensor(&i.to_string(), Dtype::F32, each);
        builder.tensor(i * each, each, info).unwrap();
    }
    let bytes: Vec<u8> = (0..each * n).map(|i| (i / 256).to_le_bytes()[0]).collect();
    let (pieces, chunks) = cut_all(&bytes, &builder.finish().unwrap(), chunking(), u64::MAX);
    let lens: Vec<_> = chunks.values().map(|(raw, _)| raw.len()).collect();
    assert_eq!(lens, [POOL_LEN, 256]);
    let last = pieces.last().unwrap();
    assert_eq!((last.slot, last.start, last.len), (1, 0, 256));
}

/// Each bound of the parameters is met exactly: the last good value passes, the next does not.
#[test]
fn parameters_are_accepted_up_to_their_bounds() {
    let bounds = |min: u32, average: u32, max: u32, tensor_len: u32| ChunkerParams {
        min_len: min,
        average_len: average,
        max_len: max,
        tensor_len,
        ..ChunkerParams::default()
    };
    let n = |n: usize| u32::try_from(n).unwrap();
    let longest = n(limits::CHUNK_LEN_MAX);
    let (least, most) = (n(v2020::MINIMUM_MIN), n(v2020::MINIMUM_MAX));
    let (average_least, average_most) = (n(v2020::AVERAGE_MIN), n(v2020::AVERAGE_MAX));
    for good in [
        bounds(least, average_least, n(v2020::MAXIMUM_MIN), 1),
        bounds(most, average_most, longest, longest),
        bounds(least, average_most, longest, 1),
    ] {
        assert!(Chunking::new(&good).is_ok(), "{good:?}");
    }
    for bad in [
        bounds(least - 1, average_least, longest, 1),
        bounds(most + 1, average_most, longest, 1),
        bounds(least, average_least - 1, longest, 1),
        bounds(least, average_most + 1, longest, 1),
        bounds(least, average_least, n(v2020::MAXIMUM_MIN) - 1, 1),
        bounds(least, average_most, longest + 1, 1),
        bounds(least, average_most, longest, longest + 1),
        bounds(4096, 2048, 8192, 1),
        bounds(1024, 16_384, 8192, 1),
    ] {
        assert!(Chunking::new(&bad).is_err(), "{bad:?}");
    }
}

/// A layout may say more than there is, when a file shrinks after it was parsed.
#[test]
fn a_source_that_ends_early_is_an_error_of_reading() {
    let source = vec![0u8; 5000];
    let tensor = {
        let mut builder = LayoutBuilder::new(Container::Npy, 8000);
        builder
            .tensor(0, 8000, tensor("w", Dtype::F32, 8000))
            .unwrap();
        builder.finish().unwrap()
    };
    for layout in [Layout::bytes(Container::Unknown, 5001), tensor] {
        let error = Cutter::new(&source, &layout, chunking())
            .next_batch(u64::MAX)
            .unwrap_err();
        let Error::Formats(mmh_formats::Error::Io { source, .. }) = &error else {
            panic!("{error:?}")
        };
        assert_eq!(source.kind(), std::io::ErrorKind::UnexpectedEof);
    }
}

/// Vectors from FIPS 180-2 and from the BLAKE3 paper's test vectors.
#[test]
fn both_digests_are_those_of_the_standards() {
    let digests = |text: &str| {
        let source = text.as_bytes().to_vec();
        let layout = Layout::bytes(Container::Text, source.len() as u64);
        let mut cutter = Cutter::new(&source, &layout, chunking()).with_digests();
        while !cutter.next_batch(1).unwrap().pieces.is_empty() {}
        let (blake3, sha256) = cutter.digests().unwrap();
        (blake3.to_string(), sha256.to_string())
    };
    let layout = Layout::bytes(Container::Text, 0);
    let nothing = Vec::new();
    let cutter = Cutter::new(&nothing, &layout, chunking());
    assert_eq!(cutter.digests(), None, "only if they are asked for");
    let (blake3, sha256) = digests("");
    assert_eq!(
        blake3,
        "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    );
    assert_eq!(
        sha256,
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
    let (blake3, sha256) = digests("abc");
    assert_eq!(
        blake3,
        "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"
    );
    assert_eq!(
        sha256,
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Steps are how much memory there is; they must not show in what is stored.
    #[test]
    fn chunks_do_not_depend_on_the_steps(
        parts in prop::collection::vec((0u64..2000, 0u64..3000, 0usize..3), 0..40),
        step in 1u64..9000,
    ) {
        let len = parts.iter().map(|p| p.0 + p.1 / 8 * 8).sum::<u64>() + 1;
        let bytes: Vec<u8> = (0..len).map(|i| ((i * i) >> 5).to_le_bytes()[0]).collect();
        let mut builder = LayoutBuilder::new(Container::Npz, len);
        let mut at = 0;
        for (i, (gap, n, which)) in parts.into_iter().enumerate() {
            let (dtype, n) = ([Dtype::F32, Dtype::U8, Dtype::BF16][which], n / 8 * 8);
            at += gap;
            builder.tensor(at, n, tensor(&i.to_string(), dtype, n)).unwrap();
            at += n;
        }
        let layout = builder.finish().unwrap();
        let chunking = with_tensor_len(700);
        let (some, all) = (cut_all(&bytes, &layout, chunking, step), cut_all(&bytes, &layout, chunking, u64::MAX));
        let place = |p: &Piece| (p.slot, p.start, p.len, p.place, p.begins.clone());
        prop_assert_eq!(
            some.0.iter().map(place).collect::<Vec<_>>(),
            all.0.iter().map(place).collect::<Vec<_>>()
        );
        prop_assert_eq!(some.1, all.1);
    }
}

/// Chunks of tensors may be read by whoever codes them: they are the same chunks, and only those that
/// are cut by content or pooled were read before.
#[test]
fn chunks_that_are_read_later_are_the_same() {
    let (small, large) = (100, (4 << 20) + 8);
    let bytes: Vec<u8> = (0..1000 + small + large).map(|i| (i % 251) as u8).collect();
    let mut builder = LayoutBuilder::new(Container::Npy, bytes.len() as u64);
    let at = 1000 + small as u64;
    builder
        .tensor(1000, small as u64, tensor("a", Dtype::F32, small as u64))
        .unwrap();
    builder
        .tensor(at, large as u64, tensor("b", Dtype::F32, large as u64))
        .unwrap();
    let layout = builder.finish().unwrap();
    let (_, at_once) = cut_and_join(&bytes, &layout, 1 << 20);
    let mut cutter = Cutter::new(&bytes, &layout, chunking()).leaving_unread();
    let (mut later, mut unread) = (Vec::new(), 0);
    loop {
        let batch = cutter.next_batch(1 << 20).unwrap();
        if batch.jobs.is_empty() && batch.pieces.is_empty() {
            break;
        }
        for mut job in batch.jobs {
            unread += usize::from(job.raw.is_empty());
            job.read(&bytes).unwrap();
            let whole = job.raw.to_vec();
            job.read(&bytes).unwrap();
            assert_eq!(*job.raw, whole, "it is read once");
            later.push((job.slot, whole));
        }
    }
    later.sort();
    let later: Vec<Vec<u8>> = later.into_iter().map(|(_, raw)| raw).collect();
    assert_eq!(
        (later, unread),
        (at_once, 2),
        "two chunks of the large tensor"
    );
    let mut short = Cutter::new(&bytes, &layout, chunking()).leaving_unread();
    let jobs = short.next_batch(u64::MAX).unwrap().jobs;
    let cut_off = bytes[..2000].to_vec();
    let read = |mut job: Job| job.read(&cut_off);
    assert!(jobs.into_iter().map(read).any(|read| read.is_err()));
}

/// Digests take the file in its order, so that nothing is left for later with them.
#[test]
fn nothing_is_left_unread_when_digests_are_wanted() {
    let bytes = vec![1u8; 1 << 20];
    let mut builder = LayoutBuilder::new(Container::Npy, bytes.len() as u64);
    builder
        .tensor(0, 1 << 20, tensor("w", Dtype::F32, 1 << 20))
        .unwrap();
    let layout = builder.finish().unwrap();
    let cutter = Cutter::new(&bytes, &layout, chunking()).with_digests();
    let mut cutter = cutter.leaving_unread();
    let batch = cutter.next_batch(1).unwrap();
    assert!(batch.jobs.iter().all(|job| !job.raw.is_empty()));
}
