//! Frames written by earlier versions are read for ever. `examples/golden.rs` writes them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use mmh_codec::entropy::engines;
use mmh_codec::{Base, Context, Decoder, Method, frame_info, references};
use mmh_core::Digest;
use mmh_core::limits::CHUNK_LEN_MAX;

fn place() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/v1/codec")
}

/// Each line of the manifest: name, bytes of content, digest of the frame, digest of the content. A
/// delta's base is the content of a line before, known by its digest. Every engine reads them all.
#[test]
fn golden_frames_decode_to_what_they_held() {
    let manifest = std::fs::read_to_string(place().join("MANIFEST")).unwrap();
    let mut methods = Vec::new();
    for &engine in engines() {
        let mut contents: HashMap<[u8; 32], Vec<u8>> = HashMap::new();
        for line in manifest.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let [name, raw_len, frame_digest, raw_digest] = fields[..] else {
                panic!("{line}")
            };
            let frame = std::fs::read(place().join(format!("{name}.frame"))).unwrap();
            assert_eq!(
                Digest::of(&frame).to_string(),
                frame_digest,
                "{name} was changed"
            );
            let mut raw = Vec::new();
            let base = references(&frame).unwrap().base.map(|id| Base {
                id,
                raw: &contents[&id],
            });
            let context = Context { base };
            Decoder::with_engine(engine)
                .decode_with(&frame, &context, CHUNK_LEN_MAX, &mut raw)
                .unwrap();
            assert_eq!(raw.len().to_string(), raw_len, "{name}");
            assert_eq!(Digest::of(&raw).to_string(), raw_digest, "{name}");
            methods.push(frame_info(&frame).unwrap().method);
            contents.insert(*Digest::of(&raw).as_bytes(), raw);
        }
    }
    assert!(manifest.lines().count() > 50, "the manifest is whole");
    for method in Method::ALL {
        assert!(methods.contains(&method), "no golden frame is {method}");
    }
}

#[test]
fn no_golden_frame_is_missing_from_the_manifest() {
    let manifest = std::fs::read_to_string(place().join("MANIFEST")).unwrap();
    for entry in std::fs::read_dir(place()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(stem) = name.strip_suffix(".frame") {
            assert!(
                manifest
                    .lines()
                    .any(|line| line.starts_with(&format!("{stem} "))),
                "{name}"
            );
        }
    }
}
