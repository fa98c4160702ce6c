//! Ranges against a model that lists the bytes one by one, and the spellings that are refused.

use bytes::Bytes;
use mmh_core::range::RangeSpec;
use mmh_core::{ByteRange, ChunkId, Error, ErrorKind, Verified};

/// The bytes of `len` that a range selects, one by one, as RFC 9110 §14.1.2 describes them.
fn selected(spec: RangeSpec, len: u64) -> Vec<u64> {
    let is_in = |at: &u64| match spec {
        RangeSpec::Bounded(first, last) => first <= *at && *at <= last,
        RangeSpec::From(first) => first <= *at,
        RangeSpec::Suffix(n) => *at + n >= len,
    };
    (0..len).filter(is_in).collect()
}

/// Every small range on every small length: the same bytes, and an error where there are none.
#[test]
fn ranges_select_what_the_model_selects() {
    for len in 0..7 {
        let bounded = (0..9).flat_map(|a| (a..9).map(move |b| RangeSpec::Bounded(a, b)));
        let open = (0..9).flat_map(|n| [RangeSpec::From(n), RangeSpec::Suffix(n)]);
        for spec in bounded.chain(open) {
            let bytes = selected(spec, len);
            match spec.resolve(len) {
                Ok(range) => {
                    assert_eq!(
                        (range.start..range.end).collect::<Vec<_>>(),
                        bytes,
                        "{spec}"
                    );
                    assert_eq!(range.len(), bytes.len() as u64);
                }
                Err(error) => {
                    assert!(bytes.is_empty(), "{spec} of {len}");
                    let said = format!("range {spec} does not fit a length of {len} bytes");
                    assert_eq!(error.to_string(), said);
                    assert_eq!(error.kind(), ErrorKind::Invalid);
                }
            }
        }
    }
}

#[test]
fn ranges_at_the_end_of_numbers_do_not_wrap() {
    let most = u64::MAX;
    let of = |spec: RangeSpec, len| spec.resolve(len).ok().map(|r| (r.start, r.end));
    assert_eq!(of(RangeSpec::Bounded(0, most), most), Some((0, most)));
    assert_eq!(of(RangeSpec::Bounded(most, most), most), None);
    assert_eq!(
        of(RangeSpec::Bounded(most - 1, most), most),
        Some((most - 1, most))
    );
    assert_eq!(of(RangeSpec::From(most - 1), most), Some((most - 1, most)));
    assert_eq!(of(RangeSpec::Suffix(most), most), Some((0, most)));
    assert_eq!(of(RangeSpec::Suffix(most), 3), Some((0, 3)));
    assert_eq!(of(RangeSpec::Bounded(5, 4), 10), None);
}

#[test]
fn ranges_within_a_length() {
    let within = |start, end, len| ByteRange { start, end }.within(len).is_ok();
    assert!(within(0, 0, 0) && within(3, 3, 3) && within(0, 3, 3) && within(2, 3, 3));
    assert!(within(0, u64::MAX, u64::MAX));
    assert!(!within(0, 1, 0) && !within(0, 4, 3) && !within(4, 4, 3) && !within(2, 1, 3));
    assert!(!within(u64::MAX, 0, u64::MAX));
    // A reversed range is empty rather than enormous.
    let reversed = ByteRange { start: 2, end: 1 };
    assert_eq!((reversed.len(), reversed.is_empty()), (0, true));
    assert_eq!(ByteRange::all(9).within(9).unwrap().len(), 9);
}

/// Digits only: what `u64::from_str` takes beyond them (a plus sign) is no range.
#[test]
fn ranges_are_written_in_digits() {
    for (text, spec) in [
        ("0-0", RangeSpec::Bounded(0, 0)),
        ("007-8", RangeSpec::Bounded(7, 8)),
        ("18446744073709551615-", RangeSpec::From(u64::MAX)),
        ("-0", RangeSpec::Suffix(0)),
    ] {
        assert_eq!(text.parse::<RangeSpec>().unwrap(), spec);
    }
    for text in [
        "+1-2",
        "1-+2",
        "-+3",
        "+1-",
        "1--2",
        "--1",
        "1 -2",
        "1- 2",
        "1-2 ",
        "0x1-2",
        "1_0-20",
        "1-2,4-5",
        "bytes=1-2",
        "18446744073709551616-",
        "-18446744073709551616",
        "١-٢",
        "1–2",
        "1e3-",
        "1.0-2",
        "5-4",
        "*",
        "-\0",
    ] {
        let error = text.parse::<RangeSpec>().unwrap_err();
        assert!(
            matches!(error, Error::BadName { what: "range", .. }),
            "{text}"
        );
    }
}

/// Slices of slices are still what the whole was compared with; bounds are those of the slice.
#[test]
fn verified_bytes_are_cut_as_slices_are() {
    let bytes = Bytes::from_static(b"0123456789");
    let all = Verified::chunk(&ChunkId::of(&bytes), bytes.clone()).unwrap();
    for start in 0..=11 {
        for end in 0..=11 {
            let cut = all.slice(start..end).ok().map(Verified::into_inner);
            assert_eq!(cut.as_deref(), bytes.get(start..end), "{start}..{end}");
        }
    }
    let middle = all.slice(2..8).unwrap();
    assert_eq!(&**middle.slice(1..3).unwrap(), b"34");
    let outside = middle.slice(5..7).unwrap_err();
    assert!(
        matches!(outside, Error::BadRange { len: 6, .. }),
        "{outside}"
    );
    assert!(middle.slice(usize::MAX..usize::MAX).is_err());
}

/// Each flipped bit, each missing byte and each byte too many is noticed, and the message names
/// both ids.
#[test]
fn no_other_bytes_become_verified() {
    let right = b"weights".to_vec();
    let id = ChunkId::of(&right);
    let mut wrong: Vec<Vec<u8>> = (0..right.len()).map(|n| right[..n].to_vec()).collect();
    wrong.extend((0..right.len() * 8).map(|bit| {
        let mut bytes = right.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    }));
    wrong.push([&right[..], b"\0"].concat());
    for bytes in wrong {
        let actual = ChunkId::of(&bytes);
        let error = Verified::chunk(&id, bytes.into()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        let said = format!("digest mismatch for chunk {id}: the bytes hash to {actual}");
        assert_eq!(error.to_string(), said);
    }
}
