//! Every field of every object, spoiled in every way that the second writer can write.

use mmh_core::{Error, ErrorKind};

use crate::cbor::{Value, map, text};
use crate::model::{Example, examples};

/// Fields that may be absent, and fields that may be null.
const OPTIONAL: [&str; 7] = [
    "note",
    "undoes",
    "collected",
    "tensors",
    "executable",
    "blake3",
    "sha256",
];
const NULLABLE: [&str; 2] = ["old", "new"];

/// Decodes a spoiled encoding, which must be refused as damage or as a broken rule.
fn refused(example: &Example, value: &Value, what: &str) {
    let bytes = value.encode();
    let name = example.name;
    match (example.decode)(&bytes) {
        Ok(_) => panic!("{name}: {what} was accepted"),
        Err(Error::NotCanonical { .. } | Error::BadObject { .. } | Error::BadName { .. }) => {}
        Err(other) => panic!("{name}: {what} gave {other}"),
    }
}

/// Calls `spoil` with the number and the fields of each map of an object.
fn each_map(example: &Example, mut spoil: impl FnMut(usize, &[(String, Value)])) {
    let mut value = example.value.clone();
    for n in 0..value.count() {
        if let Some(Value::Map(fields)) = value.nth(n) {
            spoil(n, &fields.clone());
        }
    }
}

/// The key under which the `n`-th value of an object stands, if it stands in a map.
fn key_of(value: &Value, n: usize) -> Option<String> {
    let marked = value.with(n, |v| *v = Value::Raw(b"mark".to_vec()));
    let mut walk = vec![&marked];
    while let Some(next) = walk.pop() {
        match next {
            Value::Map(fields) => {
                if let Some((key, _)) = fields
                    .iter()
                    .find(|(_, v)| *v == Value::Raw(b"mark".to_vec()))
                {
                    return Some(key.clone());
                }
                walk.extend(fields.iter().map(|(_, v)| v));
            }
            Value::List(items) => walk.extend(items),
            _ => {}
        }
    }
    None
}

/// A value of another kind in the place of each value, however deep: text for bytes, a list of
/// numbers for bytes, bytes for a link, null for what is not optional, floats, negative numbers.
#[test]
fn a_value_of_another_kind_is_refused_everywhere() {
    let others = [
        Value::Uint(1),
        Value::Bytes(vec![0x11; 32]),
        text("a"),
        Value::List(vec![Value::Uint(17); 32]),
        map([("a", Value::Uint(1))]),
        Value::Null,
        Value::Raw(vec![0xf4]),
        Value::Raw(vec![0xf7]),
        Value::Raw(vec![0x20]),
        Value::Raw(vec![0xfb, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0]),
        Value::Raw(vec![0xc1, 0x01]),
    ];
    for example in examples() {
        let mut value = example.value.clone();
        for n in 0..value.count() {
            let here = value.nth(n).unwrap().clone();
            let key = key_of(&value, n);
            let null_is_fine = key.is_some_and(|k| NULLABLE.contains(&k.as_str()));
            for other in &others {
                let same_kind = std::mem::discriminant(other) == std::mem::discriminant(&here);
                if same_kind || (*other == Value::Null && null_is_fine) {
                    continue;
                }
                let spoiled = value.with(n, |v| *v = other.clone());
                refused(
                    &example,
                    &spoiled,
                    &format!("{other:?} for value {n}, {here:?}"),
                );
            }
        }
    }
}

/// Each number, length, tag and count written with more bytes than it needs.
#[test]
fn each_head_has_one_width() {
    for example in examples() {
        for wide in example.value.widened() {
            let error = (example.decode)(&wide).unwrap_err();
            assert_eq!(
                error.kind(),
                ErrorKind::Corrupt,
                "{}: {error}",
                example.name
            );
        }
    }
}

#[test]
fn a_missing_field_is_refused() {
    for example in examples() {
        each_map(&example, |n, fields| {
            for i in 0..fields.len() {
                let key = fields[i].0.as_str();
                let without = example.value.with(n, |v| {
                    let mut fields = fields.to_vec();
                    fields.remove(i);
                    *v = Value::Map(fields);
                });
                // A ref of a checkpoint is not a field: fewer refs are another checkpoint.
                if OPTIONAL.contains(&key) || key.contains('@') {
                    let again = (example.decode)(&without.encode()).unwrap();
                    assert_eq!(again, without.encode(), "{}: `{key}`", example.name);
                } else {
                    refused(&example, &without, &format!("no `{key}`"));
                }
            }
        });
    }
}

#[test]
fn an_unknown_or_repeated_field_is_refused_in_every_map() {
    for example in examples() {
        each_map(&example, |n, fields| {
            for (key, value) in [("", Value::Null), ("zz", Value::Uint(0))] {
                let more = example.value.with(n, |v| {
                    let mut fields = fields.to_vec();
                    fields.push((key.to_owned(), value));
                    *v = Value::Map(fields);
                });
                refused(&example, &more, &format!("an unknown `{key}`"));
            }
            for field in fields {
                let twice = example.value.with(n, |v| {
                    let mut fields = fields.to_vec();
                    fields.push(field.clone());
                    *v = Value::Map(fields);
                });
                refused(&example, &twice, &format!("`{}` twice", field.0));
            }
        });
    }
}

#[test]
fn two_keys_in_the_wrong_order_are_refused() {
    for example in examples() {
        each_map(&example, |n, fields| {
            let mut sorted = fields.to_vec();
            sorted.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then(a.cmp(b)));
            for i in 1..sorted.len() {
                let swapped = example.value.with(n, |v| {
                    let mut fields = sorted.clone();
                    fields.swap(i - 1, i);
                    *v = Value::Unsorted(fields);
                });
                refused(&example, &swapped, &format!("`{}` too early", sorted[i].0));
            }
        });
    }
}

/// The defaults of optional fields have one spelling: absence.
#[test]
fn an_absent_field_spelled_out_is_refused() {
    let defaults = [
        ("note", Value::Null),
        ("undoes", Value::Null),
        ("collected", Value::Null),
        ("tensors", Value::List(Vec::new())),
        ("executable", Value::Raw(vec![0xf4])),
    ];
    let mut met = Vec::new();
    for example in examples() {
        for n in 0..example.value.clone().count() {
            let Some(key) = key_of(&example.value, n) else {
                continue;
            };
            if let Some((key, default)) = defaults.iter().find(|(k, _)| *k == key) {
                let spelled = example.value.with(n, |v| *v = default.clone());
                refused(&example, &spelled, &format!("`{key}` as {default:?}"));
                met.push(*key);
            }
        }
    }
    defaults
        .iter()
        .for_each(|(key, _)| assert!(met.contains(key), "{key}"));
}

/// A link names its kind of thing, with one hash of one length, in one spelling.
#[test]
fn a_link_of_another_kind_is_refused_everywhere() {
    for example in examples() {
        for n in 0..example.value.clone().count() {
            let mut value = example.value.clone();
            let Some(Value::Link(cid)) = value.nth(n).cloned() else {
                continue;
            };
            let other_codec = if cid[1] == 0x55 { 0x71 } else { 0x55 };
            let with = |at: usize, bytes: &[u8]| {
                let mut cid = cid.clone();
                cid.splice(at..=at, bytes.iter().copied());
                cid
            };
            let mut sha1 = vec![1, cid[1], 0x11, 20];
            sha1.extend_from_slice(&cid[4..24]);
            let spoiled = [
                ("another codec", with(1, &[other_codec])),
                ("dag-pb", with(1, &[0x70])),
                ("SHA-256", with(2, &[0x12])),
                ("SHA-1", sha1),
                ("version 2", with(0, &[2])),
                ("a long varint", with(1, &[cid[1] | 0x80, 0])),
                ("a length of 31", with(3, &[31])),
                ("a length of 33", with(3, &[33])),
                ("a length of 2^32", with(3, &[0x80, 0x80, 0x80, 0x80, 0x10])),
                ("a digest cut short", cid[..35].to_vec()),
                ("a byte too many", [&cid[..], &[0]].concat()),
                ("nothing", Vec::new()),
                ("CIDv0", [&[0x12, 32], &cid[4..]].concat()),
            ];
            for (what, cid) in spoiled {
                refused(&example, &value.with(n, |v| *v = Value::Link(cid)), what);
            }
            // Without the tag, and without the zero that begins the byte string.
            refused(
                &example,
                &value.with(n, |v| *v = Value::Bytes(cid.clone())),
                "no tag",
            );
            let no_zero = [&[0xd8, 42, 0x58, 36], &cid[..]].concat();
            refused(
                &example,
                &value.with(n, |v| *v = Value::Raw(no_zero)),
                "no zero",
            );
        }
    }
}

/// Lengths that promise more than there is must not be believed before it is read.
#[test]
fn a_length_beyond_the_end_is_refused() {
    for example in examples() {
        let mut value = example.value.clone();
        for n in 0..value.count() {
            let major = match value.nth(n).unwrap() {
                Value::Bytes(_) => 2,
                Value::Text(_) => 3,
                Value::List(_) => 4,
                Value::Map(_) => 5,
                _ => continue,
            };
            for len in [1u64 << 31, 1 << 62, u64::MAX] {
                let mut head = vec![major << 5 | 27];
                head.extend_from_slice(&len.to_be_bytes());
                let spoiled = value.with(n, |v| *v = Value::Raw(head));
                refused(&example, &spoiled, &format!("value {n} of length {len}"));
            }
            // Of indefinite length, with nothing in it.
            let spoiled = value.with(n, |v| *v = Value::Raw(vec![major << 5 | 31, 0xff]));
            refused(&example, &spoiled, &format!("value {n} without a length"));
        }
    }
}

/// Text is UTF-8; what is not is refused, as a value and as a key.
#[test]
fn text_that_is_not_utf8_is_refused() {
    for example in examples() {
        let mut value = example.value.clone();
        for n in 0..value.count() {
            if !matches!(value.nth(n), Some(Value::Text(_))) {
                continue;
            }
            for bytes in [
                &[0xff][..],
                &[0xc0, 0x80],
                &[0xed, 0xa0, 0x80],
                &[0xe2, 0x82],
            ] {
                let len = u8::try_from(bytes.len()).unwrap();
                let raw = [&[0x60 | len], bytes].concat();
                refused(
                    &example,
                    &value.with(n, |v| *v = Value::Raw(raw)),
                    "not UTF-8",
                );
            }
        }
    }
}

/// Text and bytes of the same content differ in one bit and in nothing else, not even in length.
#[test]
fn bytes_spelled_as_text_are_refused_and_the_other_way_round() {
    for example in examples() {
        let mut value = example.value.clone();
        for n in 0..value.count() {
            let other = match value.nth(n).unwrap() {
                Value::Bytes(bytes) => Value::Text(String::from_utf8(bytes.clone()).unwrap()),
                Value::Text(text) => Value::Bytes(text.clone().into_bytes()),
                _ => continue,
            };
            let what = format!("value {n} as {other:?}");
            refused(&example, &value.with(n, |v| *v = other), &what);
        }
    }
}
