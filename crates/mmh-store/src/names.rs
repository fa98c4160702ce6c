//! Object names of a repository, made and parsed in one place. FORMAT.md, "Store", lists them.

use mmh_core::{Digest, PackId};

use crate::keys::SLOT_NAME_LEN_MAX;

/// The configuration.
pub const CONFIG: &str = "mmh/config";
/// Before every pack.
pub const PACKS: &str = "mmh/packs";
/// Before every pack that a repair set aside.
pub const DAMAGED: &str = "mmh/damaged";
/// Before every index run.
pub const INDEX: &str = "mmh/index";
/// Before every log entry.
pub const LOG: &str = "mmh/log";
/// Before every checkpoint.
pub const CHECKPOINTS: &str = "mmh/checkpoint";
/// Before every key slot.
pub const KEYS: &str = "mmh/keys";

/// Before every boundary marker.
pub const BOUNDARIES: &str = "mmh/boundary";
/// Before every lease.
pub const LEASES: &str = "mmh/leases";
/// Before every tomb.
pub const TOMBS: &str = "mmh/tombs";
/// Before every list of pruned snapshots.
pub const PRUNED: &str = "mmh/pruned";

/// Before every note of a store that is part of a stripe.
pub const STRIPES: &str = "mmh/stripe";
/// Before every shard that such a store holds.
pub const SHARDS: &str = "mmh/shards";

/// Before the name that `init` tries conditions on.
pub const PROBE: &str = "mmh/probe";

/// `mmh/packs/<aa>/<id>`, with the id in 64 hexadecimal digits and `<aa>` its first two.
pub(crate) fn pack(id: &PackId) -> String {
    let hex = id.digest().to_string();
    format!("{PACKS}/{}/{hex}", &hex[..2])
}

/// `mmh/damaged/<id>`: a pack that could not be healed, which nobody reads.
pub(crate) fn damaged(id: &PackId) -> String {
    format!("{DAMAGED}/{}", id.digest())
}

/// The pack that was set aside under that name, if it is the name of one.
pub(crate) fn parse_damaged(name: &str) -> Option<PackId> {
    let hex = name.strip_prefix(DAMAGED)?.strip_prefix('/')?;
    parse_hex(hex).map(PackId::from_digest)
}

/// `mmh/tombs/damaged-<id>`: the tomb of a pack that was set aside.
pub(crate) fn damaged_tomb(pack: &PackId) -> String {
    format!("{TOMBS}/damaged-{}", pack.digest())
}

/// The pack of that name, if it is the name of one.
pub(crate) fn parse_pack(name: &str) -> Option<PackId> {
    let (folder, hex) = name
        .strip_prefix(PACKS)?
        .strip_prefix('/')?
        .split_once('/')?;
    let id = PackId::from_digest(parse_hex(hex)?);
    (folder.len() == 2 && hex.starts_with(folder)).then_some(id)
}

/// `mmh/index/<generation>-<id>`, the generation in two hexadecimal digits.
pub(crate) fn run(generation: u8, id: &Digest) -> String {
    format!("{INDEX}/{generation:02x}-{id}")
}

/// The generation and id of the index run of that name, if it is the name of one.
pub(crate) fn parse_run(name: &str) -> Option<(u8, Digest)> {
    let (generation, hex) = name
        .strip_prefix(INDEX)?
        .strip_prefix('/')?
        .split_once('-')?;
    let id = parse_hex(hex)?;
    let generation = u8::from_str_radix(generation, 16).ok()?;
    (run(generation, &id) == name).then_some((generation, id))
}

/// `mmh/log/<seq>`, in 20 decimal digits.
pub(crate) fn entry(seq: u64) -> String {
    format!("{LOG}/{seq:020}")
}

/// `mmh/checkpoint/<seq>`, in 20 decimal digits.
pub(crate) fn checkpoint(seq: u64) -> String {
    format!("{CHECKPOINTS}/{seq:020}")
}

/// `mmh/keys/<slot>`; `None` unless the slot's name has 1 to 64 letters, digits, `-`, `_` or `.`
/// and begins and ends with a letter or digit.
pub(crate) fn slot(name: &str) -> Option<String> {
    let inside = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let ends = [name.bytes().next()?, name.bytes().next_back()?];
    let fits = name.len() <= SLOT_NAME_LEN_MAX
        && name.bytes().all(inside)
        && ends.iter().all(u8::is_ascii_alphanumeric);
    fits.then(|| format!("{KEYS}/{name}"))
}

/// The slot's name, if the object's is one of a slot.
pub(crate) fn parse_slot(object: &str) -> Option<&str> {
    let name = object.strip_prefix(KEYS)?.strip_prefix('/')?;
    slot(name).map(|_| name)
}

/// `mmh/boundary/<seq>`, in 20 decimal digits.
pub(crate) fn boundary(seq: u64) -> String {
    format!("{BOUNDARIES}/{seq:020}")
}

/// `mmh/leases/<random>`.
pub(crate) fn lease(id: &Digest) -> String {
    format!("{LEASES}/{id}")
}

/// `mmh/tombs/<pack>`, the pack's id in 64 hexadecimal digits.
pub(crate) fn tomb(pack: &PackId) -> String {
    format!("{TOMBS}/{}", pack.digest())
}

/// The pack of that tomb, if it is the name of one.
pub(crate) fn parse_tomb(name: &str) -> Option<PackId> {
    let hex = name.strip_prefix(TOMBS)?.strip_prefix('/')?;
    parse_hex(hex).map(PackId::from_digest)
}

/// `mmh/pruned/<digest>`, the digest of what it lists.
pub(crate) fn pruned(id: &Digest) -> String {
    format!("{PRUNED}/{id}")
}

/// `mmh/stripe/<epoch>`, in 20 decimal digits.
pub(crate) fn stripe(epoch: u64) -> String {
    format!("{STRIPES}/{epoch:020}")
}

/// The number at the end of the name of a log entry, checkpoint, boundary or stripe note.
pub(crate) fn parse_seq(name: &str) -> Option<u64> {
    let digits = name.rsplit('/').next()?;
    let all_digits = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    if all_digits {
        digits.parse().ok()
    } else {
        None
    }
}

/// Reads 64 hexadecimal digits, small letters only.
pub(crate) fn parse_hex(text: &str) -> Option<Digest> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(Digest::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_have_the_shape_of_the_format() {
        let id = PackId::of(b"");
        let hex = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(pack(&id), format!("mmh/packs/af/{hex}"));
        assert_eq!(run(10, id.digest()), format!("mmh/index/0a-{hex}"));
        assert_eq!(entry(7), "mmh/log/00000000000000000007");
        assert_eq!(checkpoint(64), "mmh/checkpoint/00000000000000000064");
    }

    #[test]
    fn foreign_names_are_nothing() {
        let hex = "a".repeat(64);
        for name in [
            String::new(),
            "mmh/packs".to_owned(),
            format!("mmh/packs/bb/{hex}"),
            format!("mmh/packs/aa/{hex}0"),
            format!("mmh/packs/aa/{}", hex.to_uppercase()),
            format!("mmh/index/0-{hex}"),
            format!("mmh/index/+1-{hex}"),
            format!("mmh/index/00-{hex}#1"),
        ] {
            assert_eq!(
                (parse_pack(&name), parse_run(&name)),
                (None, None),
                "{name}"
            );
        }
        for name in [
            "mmh/log/1",
            "mmh/log/+0000000000000000001",
            "mmh/log/99999999999999999999",
        ] {
            assert_eq!(parse_seq(name), None);
        }
    }

    #[test]
    fn a_slot_is_named_by_a_plain_word() {
        assert_eq!(slot("alice-2").as_deref(), Some("mmh/keys/alice-2"));
        assert_eq!(parse_slot("mmh/keys/alice-2"), Some("alice-2"));
        for bad in ["", ".", "-a", "a.", "a/b", "a b", "é", &"a".repeat(65)] {
            assert_eq!(slot(bad), None, "{bad}");
            assert_eq!(parse_slot(&format!("mmh/keys/{bad}")), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn names_parse_back(bytes: [u8; 32], generation: u8, seq: u64) {
            let digest = Digest::from_bytes(bytes);
            let id = PackId::from_digest(digest);
            prop_assert_eq!(parse_pack(&pack(&id)), Some(id));
            prop_assert_eq!(parse_run(&run(generation, &digest)), Some((generation, digest)));
            prop_assert_eq!(parse_seq(&entry(seq)), Some(seq));
            prop_assert_eq!(parse_seq(&checkpoint(seq)), Some(seq));
            prop_assert_eq!(parse_seq(&boundary(seq)), Some(seq));
            prop_assert_eq!(parse_tomb(&tomb(&id)), Some(id));
            prop_assert_eq!(parse_tomb(&pack(&id)), None);
            prop_assert!(lease(&digest).starts_with("mmh/leases/"));
            prop_assert!(pruned(&digest).starts_with("mmh/pruned/"));
        }

        #[test]
        fn any_name_is_parsed_without_panic(name in "[mh/packsindexlog0-9a-f#é-]{0,90}") {
            let _ = (parse_pack(&name), parse_run(&name), parse_seq(&name));
        }
    }
}
