//! Models made from others, as the command line adds, packs and shows them; engines by name.

use std::fs;

use mmh_formats::samples::{SampleTensor, safetensors};

use crate::support::{Scratch, noise};

/// A model of one BF16 tensor; `tuned` steps away from where its training ended.
fn model(name: &str, tuned: u64) -> Vec<u8> {
    let mut tensor = SampleTensor::new(name, mmh_core::Dtype::BF16, &[200, 300]);
    let moves: Vec<_> = (0..tuned).map(|s| noise(60_000, 70 + s)).collect();
    let seeds = noise(120_000, 5);
    let number = |i: usize| {
        let below = u16::try_from((u16::from(seeds[2 * i]) | 0x100).trailing_zeros()).unwrap();
        let value = (0x7a - below) << 7 | u16::from(seeds[2 * i + 1] & 0x7f);
        value + moves.iter().map(|m| u16::from(m[i] < 20)).sum::<u16>()
    };
    tensor.data = (0..60_000).flat_map(|i| number(i).to_le_bytes()).collect();
    safetensors::file(&[tensor])
}

fn family() -> Scratch {
    let s = Scratch::new();
    s.write("base.safetensors", &model("w", 0));
    s.write("tuned.safetensors", &model("v", 1));
    s
}

fn share(report: &serde_json::Value) -> u64 {
    let of = |key: &str| report[key].as_u64().unwrap();
    100 * of("new_stored") / of("new_raw")
}

#[test]
fn a_tuned_model_is_added_on_its_base() {
    let s = family();
    let alone = s.json(&["add", "base.safetensors", "--to", "a/base"]);
    let add = [
        "add",
        "tuned.safetensors",
        "--to",
        "a/tuned",
        "--base",
        "a/base",
    ];
    let tuned = s.json(&add);
    assert!(share(&alone) > 40 && share(&tuned) < 20, "{tuned}");
    let stat = s.json(&["stat", "a/tuned"]);
    assert!(stat["total"]["delta"].as_u64().unwrap() > 90_000, "{stat}");
    assert!(s.ok(&["stat"]).contains("deltas"));
    s.ok(&["verify"]);
    s.ok(&["get", "a/tuned:tuned.safetensors", "back"]);
    assert_eq!(fs::read(s.path("back")).unwrap(), model("v", 1));
    let none = s.run(&[
        "add",
        "tuned.safetensors",
        "--to",
        "a/x",
        "--base",
        "a/none",
    ]);
    assert_eq!(none.code, 3, "{}", none.err);
}

#[test]
fn a_file_packed_on_a_base_asks_for_it() {
    let s = family();
    let base = ["--base", "base.safetensors"];
    let pack = [&["pack"], &base[..], &["tuned.safetensors", "t.mmh"]].concat();
    let report = s.json(&pack);
    let of = |key: &str| report[key].as_u64().unwrap();
    assert!(of("stored") * 5 < of("raw"), "{report}");
    assert_eq!(s.run(&pack).code, 6, "it exists");
    let alone = s.run(&["unpack", "t.mmh", "out"]);
    assert_eq!(alone.code, 3, "{}", alone.err);
    assert!(alone.err.contains("base.safetensors") && alone.err.contains("--base"));
    assert!(!s.path("out").exists());
    let verified = s.run(&["-R", "t.mmh", "verify"]);
    assert_eq!(verified.code, 8, "what it needs is not there");
    s.ok(&["unpack", "--base", "base.safetensors", "t.mmh", "out"]);
    assert_eq!(fs::read(s.path("out")).unwrap(), model("v", 1));
    let shown = s.json(&["inspect", "--base", "base.safetensors", "tuned.safetensors"]);
    assert_eq!(shown["parts"][0]["base"], "w", "{shown}");
    assert_eq!(shown["parts"][0]["method"], "delta");
}

/// Whatever engine wrote a file, every other reads it, and writes the same.
#[test]
fn engines_are_chosen_by_name_and_agree() {
    let s = family();
    let doctor = s.json(&["doctor"]);
    let engines = doctor["engines"].as_array().unwrap();
    assert!(engines.contains(&"reference".into()) && engines.contains(&doctor["engine"]));
    let mut frames = Vec::new();
    for engine in engines {
        let name = engine.as_str().unwrap();
        let ran = s.json(&["doctor", "--engine", name]);
        assert_eq!(ran["engine"], name);
        let inspect = ["inspect", "--engine", name, "base.safetensors"];
        frames.push(s.json(&inspect)["coded"].clone());
        s.ok(&[
            "pack",
            "--force",
            "base.safetensors",
            "b.mmh",
            "--engine",
            name,
        ]);
        for other in engines {
            let other = other.as_str().unwrap();
            s.ok(&["-R", "b.mmh", "verify", "--engine", other]);
        }
    }
    assert!(frames.iter().all(|coded| *coded == frames[0]));
    let wrong = s.run(&["doctor", "--engine", "abacus"]);
    assert_eq!(wrong.code, 2);
    assert!(wrong.err.contains("reference"), "{}", wrong.err);
}
