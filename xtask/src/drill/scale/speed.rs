//! What reading and checking a model costs: raw bytes for each second of CPU time, from and to memory.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::measure::Meter;
use crate::compare;
use crate::mmh::Mmh;
use crate::shell::{Context as _, Outcome, capture};

/// The model is added as often as makes up this many bytes, each time a little different, so that
/// starting the program does not count for much.
const COPIES_LEN: usize = 1 << 30;

/// Ways to keep the model.
const WAYS: [(&str, &[&str]); 3] = [
    ("repository", &[]),
    ("without parity", &["--parity", "off"]),
    ("sealed", &["--encrypt", "--recipients-file"]),
];

/// Measures `rounds` rounds in which all ways take turns; what is reported is the fastest of each.
pub(super) fn measure(program: &Path, memory: &Path, model: &Path, rounds: u32) -> Outcome<Value> {
    let place = memory.join(format!("mmh-speed-{}", std::process::id()));
    let _gone = super::Removed(place.clone());
    let source = place.join("source");
    copies(model, &source)?;
    let raw = compare::size(&source)?;
    let identity = place.join("identity");
    let recipients = identity_of(program, &identity)?;
    let mut results: Vec<Value> = Vec::new();
    for _ in 0..rounds {
        for (way, init) in WAYS {
            let mmh = Mmh {
                program: program.to_path_buf(),
                repository: place.join("repository"),
            };
            let mut args: Vec<&str> = [&["init"], init].concat();
            if way == "sealed" {
                args.push(&recipients);
            }
            mmh.run(&args)?;
            let measured = round(&mmh, (&source, &identity), way, raw)?;
            keep_fastest(&mut results, measured);
            fs::remove_dir_all(&mmh.repository).context(mmh.repository.display())?;
        }
        keep_fastest(&mut results, archive(program, &place, &source, raw)?);
    }
    let file = model.file_name().map(|name| name.to_string_lossy());
    Ok(json!({ "model": file, "raw": raw, "rounds": rounds, "ways": results }))
}

/// Makes an identity and returns the file with its recipient.
fn identity_of(program: &Path, identity: &Path) -> Outcome<String> {
    let mut generate = Command::new(program);
    generate.args(["--json", "key", "generate"]).arg(identity);
    let made: Value = serde_json::from_str(&capture(&mut generate)?).context("mmh key generate")?;
    let recipient = made["recipient"].as_str().unwrap_or_default();
    let path = identity.with_extension("recipients");
    fs::write(&path, format!("{recipient}\n")).context(path.display())?;
    Ok(path.display().to_string())
}

/// Copies of a model whose chunks all differ, though hardly in what they compress to.
fn copies(model: &Path, folder: &Path) -> Outcome {
    fs::create_dir_all(folder).context(folder.display())?;
    let bytes = fs::read(model).context(model.display())?;
    let header = bytes
        .first_chunk::<8>()
        .map_or(0, |len| u64::from_le_bytes(*len));
    let data = usize::try_from(header)
        .unwrap_or(0)
        .saturating_add(8)
        .min(bytes.len());
    for copy in 0..n_copies(bytes.len()) {
        let mut bytes = bytes.clone();
        // A few bits in 64 KiB.
        for at in (data..bytes.len()).step_by(64 << 10) {
            bytes[at] ^= copy;
        }
        let path = folder.join(format!("{copy}.safetensors"));
        fs::write(&path, bytes).context(path.display())?;
    }
    Ok(())
}

/// How many copies of a model of this length are made.
fn n_copies(len: usize) -> u8 {
    u8::try_from(COPIES_LEN / len.max(1)).map_or(u8::MAX, |n| n.max(1))
}

fn round(mmh: &Mmh, (source, identity): (&Path, &Path), way: &str, raw: u64) -> Outcome<Value> {
    let meter = Meter::still();
    let key: Vec<&OsStr> = match way {
        "sealed" => vec!["-i".as_ref(), identity.as_os_str()],
        _ => Vec::new(),
    };
    let to: [&OsStr; 4] = [
        "add".as_ref(),
        source.as_os_str(),
        "--to".as_ref(),
        "speed/model".as_ref(),
    ];
    let add = meter.once(mmh, to.iter().chain(&key))?;
    let stored = compare::size(&mmh.repository)?;
    let check: [&OsStr; 1] = ["verify".as_ref()];
    let verify = meter.once(mmh, check.iter().chain(&key))?;
    Ok(json!({ "way": way, "raw": raw, "stored": stored, "add": add, "verify": verify }))
}

fn archive(program: &Path, place: &Path, source: &Path, raw: u64) -> Outcome<Value> {
    let mmh = Mmh {
        program: program.to_path_buf(),
        repository: place.join("model.mmh"),
    };
    let meter = Meter::still();
    let path = mmh.repository.as_os_str();
    let add = meter.once(&mmh, ["pack".as_ref(), source.as_os_str(), path])?;
    let stored = compare::size(&mmh.repository)?;
    let verify = meter.once(&mmh, ["verify"])?;
    fs::remove_file(&mmh.repository).context(mmh.repository.display())?;
    Ok(json!({ "way": "archive", "raw": raw, "stored": stored, "add": add, "verify": verify }))
}

/// Puts a measurement beside the others; of one that was made before, the faster commands stay.
fn keep_fastest(results: &mut Vec<Value>, new: Value) {
    let Some(old) = results.iter_mut().find(|old| old["way"] == new["way"]) else {
        results.push(new);
        return;
    };
    for command in ["add", "verify"] {
        let cpu = |value: &Value| value[command]["cpu_s"].as_f64().unwrap_or(f64::MAX);
        if cpu(&new) < cpu(old) {
            old[command] = new[command].clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_fill_memory_to_a_limit() {
        assert_eq!(n_copies(1 << 40), 1);
        assert_eq!(n_copies(64 << 20), 16);
        assert_eq!(n_copies(0), u8::MAX);
    }

    #[test]
    fn the_fastest_of_each_command_stays() {
        let of = |add: f64, verify: f64| json!({ "way": "w", "add": { "cpu_s": add }, "verify": { "cpu_s": verify } });
        let mut results = Vec::new();
        for (add, verify) in [(2.0, 5.0), (3.0, 4.0), (1.0, 6.0)] {
            keep_fastest(&mut results, of(add, verify));
        }
        assert_eq!(results, [of(1.0, 4.0)]);
        keep_fastest(&mut results, json!({ "way": "other" }));
        assert_eq!(results.len(), 2);
    }

    #[test]
    fn no_copy_has_a_chunk_of_another() {
        let folder = crate::shell::Scratch::new("test-copies").unwrap();
        let model = folder.path().join("model");
        let mut bytes = 2u64.to_le_bytes().to_vec();
        bytes.extend(vec![0; 200_000]);
        fs::write(&model, &bytes).unwrap();
        copies(&model, &folder.path().join("all")).unwrap();
        let read = |n: u8| fs::read(folder.path().join(format!("all/{n}.safetensors"))).unwrap();
        assert_eq!(read(0), bytes, "the first is the model");
        let chunks = |n| {
            read(n)[10..]
                .chunks(64 << 10)
                .map(<[u8]>::to_vec)
                .collect::<Vec<_>>()
        };
        assert!(
            chunks(1)
                .iter()
                .zip(chunks(2))
                .all(|(one, two)| *one != two)
        );
    }
}
