//! Which base a tensor gets: by name, by likeness, never too far from whole content.

use mmh_codec::{Encoder, Hint, Method, Settings};
use mmh_core::ports::{Cancel, Silent};
use mmh_formats::{Container, LayoutBuilder};
use mmh_store::ChunkerParams;
use proptest::prelude::*;

use super::*;
use crate::ingest::{Ingest, context};
use crate::memory::Memory;
use crate::recycle::Encoders;

const ROWS: u64 = 40;
const ROW: u64 = 64;
const LEN: u64 = ROWS * ROW * 2;
/// Three chunks to a tensor.
const CHUNK: u32 = 2048;

/// BF16 weights; another `n` is another training, `steps` is how far it was tuned.
fn weights(n: u64, steps: u64) -> Vec<u8> {
    let bits = |i: u64, salt: u64| {
        let mut x = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ salt.wrapping_mul(0xd1b5_4a32);
        for _ in 0..3 {
            x = (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        }
        x >> 17
    };
    let number = |i| {
        // The exponent falls off as that of normal numbers does.
        let exponent = 0x7a - u16::try_from(bits(i, n).trailing_zeros().min(9)).unwrap();
        let low = u16::from(bits(i, n + 1000).to_le_bytes()[0] & 0x7f);
        let sign = u16::from(bits(i, n + 2000).to_le_bytes()[0] & 1);
        let moved = (0..steps).map(|s| u16::from(bits(i, 3000 + s) % 16 >= 14));
        (sign << 15 | exponent << 7 | low) + moved.sum::<u16>()
    };
    let numbers = (0..ROWS * ROW).map(number);
    numbers.flat_map(u16::to_le_bytes).collect()
}

fn info(name: &str) -> TensorInfo {
    TensorInfo {
        name: name.to_owned(),
        dtype: Dtype::BF16,
        shape: vec![ROWS, ROW],
    }
}

fn chunking() -> Chunking {
    let params = ChunkerParams {
        tensor_len: CHUNK,
        ..ChunkerParams::default()
    };
    Chunking::new(&params).unwrap()
}

fn layout_of(names: &[&str]) -> Layout {
    let mut builder = LayoutBuilder::new(Container::Npz, LEN * names.len() as u64);
    for (i, name) in names.iter().enumerate() {
        builder.tensor(i as u64 * LEN, LEN, info(name)).unwrap();
    }
    builder.finish().unwrap()
}

/// Stores a file of tensors, with bases from `sets`, and gives it as a candidate.
fn store(memory: &Memory, tensors: &[(&str, Vec<u8>)], sets: &[Arc<BaseSet>]) -> Arc<BaseSet> {
    let names: Vec<&str> = tensors.iter().map(|(name, _)| *name).collect();
    let bytes: Vec<u8> = tensors.iter().flat_map(|(_, raw)| raw.clone()).collect();
    let encoders = Encoders::new(Settings::default(), mmh_codec::entropy::best());
    let done = Ingest {
        sink: memory,
        encoders: &encoders,
        progress: &Silent,
        cancel: &Cancel::default(),
        chunking: chunking(),
        gear: None,
        take_len: 5000,
        digests: true,
        bases: Some((memory, &|| Ok(sets.to_vec()))),
    }
    .source(&bytes, &layout_of(&names), false)
    .unwrap();
    let mut set = BaseSet::default();
    set.add_file(memory, done.id).unwrap();
    Arc::new(set)
}

/// What the first chunk of some content refers to.
fn base_of(memory: &Memory, raw: &[u8]) -> Option<ContentId> {
    let first = ChunkId::of(&raw[..CHUNK as usize]);
    memory.references(&first).unwrap().base
}

fn first(raw: &[u8]) -> Option<ContentId> {
    Some(*ChunkId::of(&raw[..CHUNK as usize]).digest().as_bytes())
}

#[test]
fn a_stored_file_gives_its_tensors_with_all_their_chunks() {
    let memory = Memory::default();
    let set = store(&memory, &[("a", weights(1, 0)), ("b", weights(2, 0))], &[]);
    assert_eq!(set.tensors.len(), 2);
    for (tensor, n) in set.tensors.iter().zip([1, 2]) {
        let raw = weights(n, 0);
        let expected: Vec<_> = raw
            .chunks(CHUNK as usize)
            .map(|c| (ChunkId::of(c), u32::try_from(c.len()).unwrap()))
            .collect();
        assert_eq!(tensor.chunks, expected);
    }
}

#[test]
fn a_tensor_of_the_same_name_is_the_base_and_comes_back() {
    let memory = Memory::default();
    let old = store(&memory, &[("w", weights(1, 0))], &[]);
    let (before, raw) = (weights(1, 0), weights(1, 1));
    store(&memory, &[("w", raw.clone())], &[old]);
    assert_eq!(base_of(&memory, &raw), first(&before));
    for chunk in raw.chunks(CHUNK as usize) {
        let id = ChunkId::of(chunk);
        assert!(memory.references(&id).unwrap().base.is_some());
        assert_eq!(&memory.get(&id).unwrap()[..], chunk);
    }
}

/// Renamed, the tensor is found among others of its shape; what is like none of them has no base.
#[test]
fn a_renamed_tensor_is_found_by_its_exponents() {
    let memory = Memory::default();
    let all = [
        ("a", weights(1, 0)),
        ("b", weights(2, 0)),
        ("c", weights(3, 0)),
    ];
    let old = store(&memory, &all, &[]);
    let raw = weights(2, 1);
    store(&memory, &[("layer.2", raw.clone())], &[Arc::clone(&old)]);
    assert_eq!(base_of(&memory, &raw), first(&all[1].1));
    let stranger = weights(9, 0);
    store(&memory, &[("layer.9", stranger.clone())], &[old]);
    assert_eq!(base_of(&memory, &stranger), None);
}

/// A name that fits says nothing when it names other weights: the codec refuses what does not pay.
#[test]
fn a_base_that_does_not_pay_costs_nothing() {
    let (alone, memory) = (Memory::default(), Memory::default());
    let stranger = weights(9, 0);
    store(&alone, &[("w", stranger.clone())], &[]);
    let old = store(&memory, &[("w", weights(1, 0))], &[]);
    store(&memory, &[("w", stranger.clone())], &[old]);
    assert_eq!(base_of(&memory, &stranger), None);
    for chunk in stranger.chunks(CHUNK as usize) {
        let id = ChunkId::of(chunk);
        assert_eq!(memory.frame(&id), alone.frame(&id));
    }
}

/// Each version is the base of the next, but no chunk is more than two differences away from whole
/// content.
#[test]
fn a_chain_of_versions_stays_short() {
    let memory = Memory::default();
    let mut sets = Vec::new();
    for steps in 0..6 {
        let set = store(&memory, &[("w", weights(1, steps))], &sets);
        sets = vec![set];
    }
    let depth = |steps| {
        let mut id = ChunkId::of(&weights(1, steps)[..CHUNK as usize]);
        let mut depth = 0;
        while let Some(base) = memory.references(&id).unwrap().base {
            id = ChunkId::from_digest(Digest::from_bytes(base));
            depth += 1;
        }
        depth
    };
    let depths: Vec<i32> = (0..6).map(depth).collect();
    assert_eq!(depths, [0, 1, 2, 2, 2, 2]);
}

/// What is damaged or gone of an old version never keeps a new one out.
#[test]
fn a_base_that_is_gone_is_none() {
    let memory = Memory::default();
    let old = store(&memory, &[("w", weights(1, 0))], &[]);
    assert!(memory.lose(&ChunkId::of(&weights(1, 0)[..CHUNK as usize])));
    let raw = weights(1, 1);
    store(&memory, &[("w", raw.clone())], &[Arc::clone(&old)]);
    assert_eq!(base_of(&memory, &raw), None);
    let second = ChunkId::of(&raw[CHUNK as usize..2 * CHUNK as usize]);
    assert!(memory.references(&second).unwrap().base.is_some());
    // Its sketch cannot be made either.
    store(&memory, &[("renamed", weights(1, 2))], &[old]);
    assert_eq!(base_of(&memory, &weights(1, 2)), None);
}

/// A frame is made once: content that is there keeps the frame it has.
#[test]
fn what_is_there_already_is_not_coded_again() {
    let memory = Memory::default();
    let raw = weights(1, 1);
    store(&memory, &[("w", raw.clone())], &[]);
    let old = store(&memory, &[("w", weights(1, 0))], &[]);
    store(&memory, &[("w", raw.clone())], &[old]);
    assert_eq!(base_of(&memory, &raw), None);
}

/// Shapes and types must fit, whatever the name says.
#[test]
fn other_shapes_and_types_have_no_base() {
    let mut set = BaseSet::default();
    set.push(info("w"), Vec::new());
    let mut other = info("w");
    assert_eq!(set.named(&other), Some(0));
    other.shape = vec![ROW, ROWS];
    assert_eq!(set.named(&other), None);
    other = info("w");
    other.dtype = Dtype::F16;
    assert_eq!(set.named(&other), None);
    let mut codes = info("codes");
    codes.dtype = Dtype::U8;
    set.push(codes, Vec::new());
    assert_eq!(
        set.tensors.len(),
        1,
        "integers are not coded as differences"
    );
}

#[test]
fn a_base_makes_a_frame_that_names_it() {
    let (before, raw) = (weights(1, 0), weights(1, 1));
    let id = ChunkId::of(&before);
    let found = Match {
        id: *id.digest().as_bytes(),
        raw: Verified::chunk(&id, before.into()).unwrap(),
        tensor: info("w"),
    };
    let mut frame = Vec::new();
    let hint = Hint::tensor(Dtype::BF16, ROW);
    let method = Encoder::new(Settings::default())
        .encode_with(&raw, &hint, &context(Some(&found)), &mut frame)
        .unwrap();
    assert_eq!(method, Method::Delta);
    assert_eq!(mmh_codec::references(&frame).unwrap().base, Some(found.id));
    assert!(context(None).base.is_none());
}

proptest! {
    #[test]
    fn sketches_of_any_bytes_have_few_values_and_agree_with_themselves(
        raw in prop::collection::vec(any::<u8>(), 0..9000),
    ) {
        for (dtype, most) in [(Dtype::BF16, 0xff), (Dtype::F16, 0x1f), (Dtype::F32, 0xff)] {
            let sketch = sketch(dtype, &raw);
            prop_assert!(sketch.len() <= SKETCH_LEN);
            prop_assert!(sketch.iter().all(|e| *e <= most));
            prop_assert_eq!(agreement(&sketch, &sketch), sketch.len());
        }
        prop_assert!(sketch(Dtype::U8, &raw).is_empty());
        prop_assert_eq!(agreement(&[1, 2], &[1]), 0);
    }
}
