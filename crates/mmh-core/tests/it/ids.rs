//! Ids against published digests, and against CIDs put together by hand.

use mmh_core::{
    ChunkId, Digest, Error, ErrorKind, FileId, ObjectId, PackId, RecordId, SnapshotId, TreeId,
};
use proptest::prelude::*;

/// Base32 of RFC 4648 in lower case without padding, after the multibase prefix `b`.
fn base32(bytes: &[u8]) -> String {
    let bits: Vec<u8> = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |i| byte >> i & 1))
        .collect();
    let digit = |five: &[u8]| {
        let n = (0..5).fold(0, |n, i| n << 1 | five.get(i).copied().unwrap_or(0));
        char::from(b"abcdefghijklmnopqrstuvwxyz234567"[usize::from(n)])
    };
    std::iter::once('b')
        .chain(bits.chunks(5).map(digit))
        .collect()
}

/// The text of a CIDv1.
fn cid(codec: u8, hash: u8, digest: &[u8]) -> String {
    let len = u8::try_from(digest.len()).unwrap();
    base32(&[&[1, codec, hash, len], digest].concat())
}

/// The official test vectors of BLAKE3 (its inputs count 0 to 250 again and again), and `abc`.
#[test]
fn digests_are_those_of_the_test_vectors() {
    let vectors = [
        (
            0,
            "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
        ),
        (
            1,
            "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
        ),
        (
            1023,
            "10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b28f70bd11",
        ),
        (
            1024,
            "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7",
        ),
        (
            1025,
            "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444",
        ),
        (
            2049,
            "5f4d72f40d7a5f82b15ca2b2e44b1de3c2ef86c426c95c1af0b6879522563030",
        ),
        (
            102_400,
            "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085",
        ),
    ];
    for (len, hex) in vectors {
        let input: Vec<u8> = (0u8..=250).cycle().take(len).collect();
        assert_eq!(Digest::of(&input).to_string(), hex, "{len} bytes");
    }
    assert_eq!(
        Digest::of(b"abc").to_string(),
        "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"
    );
    let debug = format!("{:?}", Digest::from_bytes([0x0a; 32]));
    assert_eq!(debug, format!("Digest({})", "0a".repeat(32)));
}

/// Computed with the Python package `blake3`, so that other tools name our chunks alike.
#[test]
fn chunks_have_the_names_that_other_tools_give() {
    for (bytes, name) in [
        (
            &b"\0"[..],
            "bafkr4ibnhlpn74i3mhyuzcdogwx2anttnxgypj2ne624cuicexiplexccm",
        ),
        (
            b"abc",
            "bafkr4ideg6z2yocgkez77nr3outtvdnvjdcvqrs5phnqh7jvtrwnlpm5qu",
        ),
    ] {
        assert_eq!(ChunkId::of(bytes).to_string(), name);
        assert_eq!(PackId::of(bytes).to_string(), name);
    }
}

/// Applies a check to each id type: its multicodec, its name, and what it does with text.
macro_rules! each_id {
    ($check:ident) => {
        $check::<ChunkId>("chunk", 0x55);
        $check::<PackId>("pack", 0x55);
        $check::<ObjectId>("object", 0x71);
        $check::<FileId>("file", 0x71);
        $check::<TreeId>("tree", 0x71);
        $check::<SnapshotId>("snapshot", 0x71);
        $check::<RecordId>("record", 0x71);
    };
}

fn check_text<T>(what: &str, codec: u8)
where
    T: std::str::FromStr<Err = Error> + std::fmt::Display + std::fmt::Debug,
{
    let digest: Vec<u8> = (0..32).collect();
    let right = cid(codec, 0x1e, &digest);
    let id: T = right.parse().unwrap();
    assert_eq!(id.to_string(), right);
    assert!(
        format!("{id:?}").ends_with(&format!("Id({right})")),
        "{id:?}"
    );
    let other = if codec == 0x55 { 0x71 } else { 0x55 };
    let long: Vec<u8> = (0..33).collect();
    // The last digit holds three bits of the digest and two that must be zero.
    let loose = format!("{}{}", &right[..right.len() - 1], "l");
    let refused = [
        cid(other, 0x1e, &digest),
        cid(0x70, 0x1e, &digest),
        cid(codec, 0x12, &digest),
        cid(codec, 0x00, &digest),
        cid(codec, 0x1e, &digest[..31]),
        cid(codec, 0x1e, &digest[..20]),
        cid(codec, 0x1e, &long),
        base32(&[&[2, codec, 0x1e, 32], &digest[..]].concat()),
        base32(&[&[1, codec | 0x80, 0, 0x1e, 32], &digest[..]].concat()),
        base32(&[&[1, codec, 0x1e, 32], &digest[..], &[0]].concat()),
        right.to_uppercase(),
        format!("B{}", &right[1..]),
        format!("{right}="),
        format!(" {right}"),
        format!("{right}\n"),
        format!("/ipfs/{right}"),
        right[..right.len() - 1].to_owned(),
        right[1..].to_owned(),
        format!("f01{codec:02x}1e20{}", "00".repeat(32)),
        "00".repeat(32),
        loose,
        String::new(),
        "b".to_owned(),
        "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n".to_owned(),
        right.repeat(1000),
    ];
    for text in refused {
        let error = text.parse::<T>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let Error::BadId { what: said, .. } = &error else {
            panic!("{text}: {error}")
        };
        assert_eq!(*said, what, "{text}");
        assert!(error.to_string().len() < 1000, "the message is bounded");
    }
}

#[test]
fn each_id_has_one_spelling() {
    each_id!(check_text);
}

fn check_debug_names<T>(what: &str, codec: u8)
where
    T: std::str::FromStr<Err = Error> + std::fmt::Debug,
{
    let id: T = cid(codec, 0x1e, &[0; 32]).parse().unwrap();
    let shown = format!("{id:?}").to_lowercase();
    assert!(shown.starts_with(&format!("{what}id(b")), "{shown}");
}

/// A debug message says which kind of id it shows.
#[test]
fn debug_output_names_the_kind() {
    each_id!(check_debug_names);
}

/// Giving up and claiming the type keeps the digest, and an object is stored as its chunk.
#[test]
fn conversions_keep_the_digest() {
    let digest = Digest::of(b"object");
    let object = ObjectId::from_digest(digest);
    assert_eq!(object.chunk(), ChunkId::of(b"object"));
    assert_eq!(ObjectId::from(FileId::from_object(object)), object);
    assert_eq!(TreeId::from_object(object).object(), object);
    assert_eq!(SnapshotId::from_object(object).digest(), &digest);
    assert_eq!(RecordId::from_object(object).as_bytes(), digest.as_bytes());
}

/// Ids are ordered as their bytes are, which the sorted tables of the store rely on.
#[test]
fn ids_are_ordered_by_bytes() {
    let id = |first, last| {
        let mut bytes = [0; 32];
        (bytes[0], bytes[31]) = (first, last);
        ChunkId::from_digest(Digest::from_bytes(bytes))
    };
    let sorted = [
        id(0, 0),
        id(0, 255),
        id(1, 0),
        id(127, 9),
        id(128, 0),
        id(255, 255),
    ];
    assert!(sorted.is_sorted_by(|a, b| a < b));
}

proptest! {
    /// Any digest under any codec prints as the CID put together by hand.
    #[test]
    fn ids_print_as_cids(bytes: [u8; 32]) {
        let digest = Digest::from_bytes(bytes);
        prop_assert_eq!(ChunkId::from_digest(digest).to_string(), cid(0x55, 0x1e, &bytes));
        prop_assert_eq!(RecordId::from_digest(digest).to_string(), cid(0x71, 0x1e, &bytes));
    }

    /// One letter exchanged gives another id or none, never the same.
    #[test]
    fn a_changed_letter_is_another_id(bytes: [u8; 32], at in 0usize..59, letter in "[a-z2-7A-Z0]") {
        let id = TreeId::from_digest(Digest::from_bytes(bytes));
        let mut text = id.to_string();
        text.replace_range(at..=at, &letter);
        if let Ok(other) = text.parse::<TreeId>() {
            prop_assert_eq!(other == id, text == id.to_string());
        }
    }
}
