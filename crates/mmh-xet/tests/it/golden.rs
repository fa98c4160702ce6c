//! Vectors of `xet-core-structures` 1.8.0 and `hf_xet` 1.8.0: `crates/mmh-xet/testdata/README.md` says how
//! they were made.

use mmh_xet::{
    Chunker, Leaf, Scheme, Shard, Validity, XetHash, Xorb, XorbWriter, file_hash, range_hash,
    xorb_hash,
};

/// Xorbs of the same three chunks, packed by each scheme.
const XORBS: [(Scheme, &[u8]); 3] = [
    (Scheme::None, include_bytes!("../../testdata/none.xorb")),
    (Scheme::Lz4, include_bytes!("../../testdata/lz4.xorb")),
    (Scheme::Bg4Lz4, include_bytes!("../../testdata/bg4.xorb")),
];
/// A shard of that xorb and two files of its chunks.
pub(crate) const SHARD: &[u8] = include_bytes!("../../testdata/sample.shard");

const XORB: &str = "d7486f2b8295fc28cb0f0d94a06793d56d0512fbcbf8acb264868efcdc6bcfa5";
const CHUNKS: [&str; 3] = [
    "126f08de6eaa72988b029367a086902052bff6573c2e04cbe6a53fa925ea55fe",
    "18486074ce6bf0a612585596ba9d9a9ef3f9d411c97b20c07c7fd1ab338b3976",
    "85b0ff64bc95162794d650825c5d52a6d53a4a4c2c8bc32a76ba8deaa9f8a0a6",
];
const FILE: &str = "7c033f7544244c046d58de7e415b2d32afa43b6be03aab0149f59c1d77a946f9";
const TURNED_FILE: &str = "f436a0f6b16ef459725120e21647820e8f474a81df13b19b5a04fefd92163b59";
/// Over the last two chunks.
const RANGE: &str = "899bf7ef4bb6b48d0693b3781ca46579a69ce2cf56d3406ea410c473317a19b5";

/// Number of leaves, xorb hash, file hash; leaf i is the chunk of i in eight bytes, of length i + 1.
const TREES: [(u64, &str, &str); 6] = [
    (
        2,
        "0a38ecdd2ffb0c2387c1791da0a0eb9e33ce927dead341a7497a39b445bcbe14",
        "e36f6cf33049ce36838d1043704e69f49689d36ba590478b2bf404ddf596325f",
    ),
    (
        3,
        "3decdc8207d52e8206533694509a28bdcd85e4184c36e22c3a83483e6a5eafae",
        "b92627b385881ca2cc33e086a676744d1d9c22970129d79fb2bef9627de247c0",
    ),
    (
        9,
        "91afaa5919aa0f00c6fd89c85b02c4d48d89bcc49903ea34b6733d1b5e166d87",
        "02c174159e2d6a4338a2359a232c7d584b78a488c719984e42eaa32a0f78926a",
    ),
    (
        10,
        "1c94ad83e1bb52c9c7b61544607d68e390b2f63049799a05573187d7a25012a7",
        "e0fa168bb14c2edc054ac88773bd043f600c0faef1abb5fab3103e5f168eaf9a",
    ),
    (
        100,
        "4c8352dbfbdfe53e9223393c5fd76aa7fcb827c58a653acf9bd60495cd431a23",
        "a383c339948efd193d0e3f6d555b1a96687e904271bd36a66294ef92956aef85",
    ),
    (
        1000,
        "9b2ee59d82ca8cec9bf69faa2aee4bc749e69b72141d4d37f61fac3b53936260",
        "bd99e3cfe233a04a8caef487a6b44f08f5836c7e45fb49886e439fa1bfa92918",
    ),
];

fn hash(text: &str) -> XetHash {
    text.parse().unwrap()
}

/// Runs of equal bytes, small floats, noise.
fn chunks() -> [Vec<u8>; 3] {
    let runs = (0..300u32).map(|i| (i / 7).to_le_bytes()[0]);
    let floats = (0..100u16).flat_map(|i| f32::from(i).to_le_bytes());
    [runs.collect(), floats.collect(), noise(1, 64)]
}

pub(crate) fn noise(mut state: u64, len: usize) -> Vec<u8> {
    let next = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    (0..len).map(next).collect()
}

fn leaves() -> Vec<Leaf> {
    let leaf = |raw: Vec<u8>| (XetHash::of_chunk(&raw), raw.len() as u64);
    chunks().map(leaf).to_vec()
}

#[test]
fn hashes_are_those_of_the_library() {
    let leaves = leaves();
    assert_eq!(
        leaves.iter().map(|l| l.0).collect::<Vec<_>>(),
        CHUNKS.map(hash)
    );
    assert_eq!(xorb_hash(&leaves), hash(XORB));
    assert_eq!(file_hash(&leaves), hash(FILE));
    assert_eq!(range_hash(leaves[1..].iter().map(|l| &l.0)), hash(RANGE));
    for (n, xorb, file) in TREES {
        let leaf = |i: u64| (XetHash::of_chunk(&i.to_le_bytes()), i + 1);
        let leaves: Vec<Leaf> = (0..n).map(leaf).collect();
        assert_eq!(
            (xorb_hash(&leaves), file_hash(&leaves)),
            (hash(xorb), hash(file))
        );
    }
}

/// The client's hash of a file of 2 MiB is that of the same chunks, so it cuts where we do.
#[test]
fn files_are_cut_where_the_client_cuts() {
    let whole = |bytes: &[u8]| {
        let (mut chunker, mut leaves) = (Chunker::default(), Vec::new());
        let mut take = |chunk: &[u8]| leaves.push((XetHash::of_chunk(chunk), chunk.len() as u64));
        chunker.push(bytes, &mut take);
        chunker.finish(&mut take);
        file_hash(&leaves)
    };
    let noise = noise(11, 2 << 20);
    for (bytes, expected) in [
        (
            &noise[..],
            "1ea4a0b43a34b68a871a54d84caeed04cee67337dc5ea07b1eb5c60633526285",
        ),
        (
            &noise[..8191],
            "7d8a468823f31ec876d790221ee8f2da814fd6b1e92c02bb49c3154a9ac1b0f9",
        ),
        (
            &vec![0xff; 3 * (128 << 10) + 10],
            "225d3653b69d9a713093b7fdb24410bcd4688cc157574fda80f04f9d3cc31277",
        ),
        (
            &[],
            "0000000000000000000000000000000000000000000000000000000000000000",
        ),
    ] {
        assert_eq!(whole(bytes), hash(expected));
    }
}

#[test]
fn xorbs_of_the_library_are_read_and_written_alike() {
    for (scheme, bytes) in XORBS {
        let xorb = Xorb::read_claimed(bytes, hash(XORB)).unwrap();
        let raw: Vec<_> = xorb
            .spans()
            .iter()
            .map(|s| s.unpack(bytes).unwrap())
            .collect();
        assert_eq!(raw, chunks());
        let mut writer = XorbWriter::default();
        for chunk in chunks() {
            assert!(writer.push(&chunk, scheme));
        }
        let (made, written) = writer.finish(true);
        assert_eq!(made, xorb);
        assert_eq!(written, bytes, "{scheme:?}");
    }
}

#[test]
fn shards_of_the_library_are_read_and_written_alike() {
    let shard = Shard::read(SHARD).unwrap();
    let never = Validity {
        created_s: 0,
        expires_s: u64::MAX,
    };
    assert_eq!(shard.validity, Some(never));
    let [xorb] = shard.xorbs.as_slice() else {
        panic!("one xorb");
    };
    xorb.verify().unwrap();
    assert_eq!((xorb.hash, xorb.packed_len), (hash(XORB), 700));
    assert_eq!(
        xorb.chunks.iter().map(|c| c.shared).collect::<Vec<_>>(),
        [true, false, false]
    );
    let leaves = xorb.leaves();
    assert_eq!(shard.files.len(), 2);
    for file in &shard.files {
        file.verify(&|_| Ok(&leaves)).unwrap();
        match file.sha256 {
            // Of the text `abc`, whatever the content is.
            Some(sha256) => {
                assert_eq!(file.hash, hash(FILE));
                assert_eq!(sha256[..4], [0xba, 0x78, 0x16, 0xbf]);
                assert_eq!(sha256[28..], [0xf2, 0x00, 0x15, 0xad]);
            }
            None => {
                assert_eq!(file.hash, hash(TURNED_FILE));
                assert_eq!(file.segments.len(), 2);
            }
        }
    }
    assert_eq!(shard.write(), SHARD);
}

/// What the client 1.8.0 sends: no tables, no footer, one xorb with all chunks.
#[test]
fn an_uploaded_shard_is_held_against_the_file() {
    let sent = include_bytes!("../../testdata/uploaded.shard");
    let floats = (0..200_000u32).flat_map(|i| {
        #[allow(clippy::cast_precision_loss, reason = "less than 2^24")]
        (i as f32).to_le_bytes()
    });
    let bytes: Vec<u8> = floats.chain(noise(11, 2 << 20)).collect();
    let (mut chunker, mut leaves) = (Chunker::default(), Vec::new());
    let mut take = |chunk: &[u8]| leaves.push((XetHash::of_chunk(chunk), chunk.len() as u64));
    chunker.push(&bytes, &mut take);
    chunker.finish(&mut take);
    let shard = Shard::read(sent).unwrap();
    assert_eq!((shard.files.len(), shard.xorbs.len()), (1, 1));
    shard.xorbs[0].verify().unwrap();
    assert_eq!(shard.xorbs[0].leaves(), leaves);
    let file = &shard.files[0];
    file.verify(&|_| Ok(&leaves)).unwrap();
    assert_eq!(file.hash, file_hash(&leaves));
    assert_eq!((file.len(), file.segments.len()), (bytes.len() as u64, 1));
    assert!(file.segments[0].range_hash.is_some());
    assert_eq!(file.sha256.unwrap()[..4], [0xa6, 0x35, 0xa4, 0xca]);
    assert_eq!(shard.validity, None);
    assert_eq!(shard.write(), sent);
}
