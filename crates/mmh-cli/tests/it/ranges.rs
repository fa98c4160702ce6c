//! `cat --range` against a slice of the same bytes.

use crate::support::{Scratch, noise, ran};

/// What `A-B`, `A-` and `-N` select, as RFC 9110 §14.1.2 says it; `None` is refused.
fn model<'a>(bytes: &'a [u8], range: &str) -> Option<&'a [u8]> {
    let len = bytes.len() as u64;
    let (a, b) = range.split_once('-')?;
    if !(a.bytes().chain(b.bytes())).all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let (start, end) = match (a.parse::<u64>(), b.parse::<u64>()) {
        (Ok(a), Ok(b)) if a <= b => (a, b.saturating_add(1).min(len)),
        (Ok(a), Err(_)) if b.is_empty() => (a, len),
        (Err(_), Ok(n)) if a.is_empty() => (len.saturating_sub(n), len),
        _ => return None,
    };
    let part = |n: u64| usize::try_from(n).unwrap();
    (start < end).then(|| &bytes[part(start)..part(end)])
}

fn reads(s: &Scratch, name: &str, bytes: &[u8], range: &str) {
    let output = s
        .command(&["cat", name, "--range", range])
        .output()
        .unwrap();
    match model(bytes, range) {
        Some(expected) => {
            assert!(output.status.success(), "{range}: {}", ran(output).err);
            assert!(output.stdout == expected, "{range} gave other bytes");
            assert!(output.stderr.is_empty());
        }
        None => {
            let ran = ran(output);
            assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{range}");
            assert!(ran.err.contains("range"), "{range}: {}", ran.err);
        }
    }
}

/// Every form at every border of a file of several chunks.
#[test]
fn ranges_are_slices() {
    let s = Scratch::new();
    let bytes = noise(2_500_000, 7);
    s.write("m/a", &bytes);
    s.ok(&["add", "m", "--to", "a/b"]);
    let max = u64::MAX.to_string();
    let past = "18446744073709551616";
    for range in [
        "0-0",
        "0-",
        "-1",
        "0-2499999",
        "0-2500000",
        "2499999-",
        "2499999-2499999",
        "2500000-",
        "2500000-2500001",
        "-0",
        "-2500000",
        "-2500001",
        "65535-65536",
        "1048575-1048577",
        "1234567-2345678",
        "5-4",
        "-",
        "",
        "7",
        "a-b",
        "0x1-2",
        "1-2-3",
        "+1-2",
        " 1-2",
        "1-2 ",
        "1-2,4-5",
        "bytes=0-1",
        "-1-",
        "--1",
        &format!("0-{max}"),
        &format!("-{max}"),
        &format!("{max}-"),
        &format!("{max}-{max}"),
        &format!("0-{past}"),
        &format!("{past}-"),
    ] {
        reads(&s, "a/b:a", &bytes, range);
    }
    let mut state = 1u64;
    for _ in 0..20 {
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % 2_600_000
        };
        let (a, b) = (next(), next());
        reads(&s, "a/b:a", &bytes, &format!("{a}-{b}"));
    }
}

/// An empty file has no range at all, and is written whole as nothing.
#[test]
fn an_empty_file_has_no_ranges() {
    let s = Scratch::new();
    s.write("m/none", b"");
    s.write("m/one", b"x");
    s.ok(&["add", "m", "--to", "a/b"]);
    assert_eq!(s.ok(&["cat", "a/b:none"]), "");
    for range in ["0-", "0-0", "-1", "-0"] {
        reads(&s, "a/b:none", b"", range);
        reads(&s, "a/b:one", b"x", range);
    }
}

/// The flag may be written with `=`, and not twice.
#[test]
fn the_flag_is_written_as_flags_are() {
    let s = Scratch::new();
    s.write("m/a", b"0123456789");
    s.ok(&["add", "m", "--to", "a/b"]);
    assert_eq!(s.ok(&["cat", "--range=2-3", "a/b:a"]), "23");
    assert_eq!(s.ok(&["cat", "--range=-2", "a/b:a"]), "89");
    assert_eq!(s.ok(&["cat", "--range", "-2", "a/b:a"]), "89");
    let twice = s.run(&["cat", "a/b:a", "--range", "1-", "--range", "2-"]);
    assert_eq!(twice.code, 2);
    assert_eq!(s.run(&["cat", "a/b:a", "--range"]).code, 2);
}

/// A range reads only what it needs: damage elsewhere in the file does not stop it.
#[test]
fn a_range_beside_damage_is_read() {
    let s = Scratch::without_parity();
    let bytes = noise(3_000_000, 3);
    s.write("m/a", &bytes);
    s.ok(&["add", "m", "--to", "a/b"]);
    let packs = s.below("repo/mmh/packs");
    let pack = packs
        .iter()
        .max_by_key(|p| p.metadata().unwrap().len())
        .unwrap();
    let mut stored = std::fs::read(pack).unwrap();
    let needle = &bytes[1_500_000..1_500_032];
    let at = stored.windows(32).position(|w| w == needle);
    stored[at.expect("noise is stored as it is")] ^= 1;
    s.replace(pack, &stored);
    reads(&s, "a/b:a", &bytes, "0-9999");
    reads(&s, "a/b:a", &bytes, "-9999");
    let hit = s.run(&["cat", "a/b:a", "--range", "1500000-1500000"]);
    assert_eq!((hit.code, hit.out.as_str()), (8, ""), "{}", hit.err);
}
