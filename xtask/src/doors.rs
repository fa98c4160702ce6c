//! The stage `doors`: the program end to end, as a user meets it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::compare;
use crate::corpus::{self, Choice};
use crate::drill;
use crate::fixture;
use crate::mmh::Mmh;
use crate::shell::{Context as _, Failure, Outcome, Scratch, build};
use crate::stages::EVERYTHING;
use crate::table::bytes;

/// Kills in this stage; `cargo xtask drill kill` does more.
const KILLS: u32 = 12;
/// Length of the generated model.
const TREE_LEN: usize = 8 << 20;

/// Runs every scripted session.
pub(crate) fn run() -> Outcome {
    let program = build("mmh", &EVERYTHING)?;
    let scratch = Scratch::new("doors")?;
    let session = Session::begin(&program, scratch.path())?;
    session.reads_back()?;
    session.shares_equal_bytes()?;
    session.takes_back()?;
    session.travels_in_one_file()?;
    session.refuses_with_the_right_code()?;
    session.finds_damage()?;
    real_models(&program, scratch.path())?;
    drill::kill(&program, KILLS, 7)
}

/// A repository with one generated model in it.
struct Session {
    mmh: Mmh,
    place: PathBuf,
    tree: PathBuf,
}

/// The generated model's name.
const NAME: &str = "doors/tiny";

impl Session {
    fn begin(program: &Path, place: &Path) -> Outcome<Self> {
        let tree = place.join("tiny");
        fixture::tree(&tree, 5, TREE_LEN)?;
        let mmh = Mmh::init(program, &place.join("repository"))?;
        let session = Self {
            mmh,
            place: place.to_path_buf(),
            tree,
        };
        session.add(&session.tree, NAME)?;
        Ok(session)
    }

    fn add(&self, path: &Path, name: &str) -> Outcome {
        let message = format!("add {name}");
        let args = [
            "add".as_ref(),
            path.as_os_str(),
            "--to".as_ref(),
            name.as_ref(),
        ];
        self.mmh
            .run(args.into_iter().chain(["-m".as_ref(), message.as_ref()]))
            .map(drop)
    }

    /// Restores a target and compares it with what was added.
    fn restores(&self, target: &str, to: &str, like: &Path) -> Outcome {
        let restored = self.place.join("restored").join(to);
        self.mmh
            .run(["get".as_ref(), target.as_ref(), restored.as_os_str()])?;
        compare::trees(like, &restored).map(drop)
    }

    fn on_disk(&self) -> Outcome<u64> {
        let stat = self.mmh.json(["stat"])?;
        stat["on_disk"]
            .as_u64()
            .ok_or_else(|| Failure::failed("stat --json has no on_disk"))
    }

    /// Whole trees and ranges come back as they went in.
    fn reads_back(&self) -> Outcome {
        self.restores(NAME, "first", &self.tree)?;
        let file = self.tree.join("model.safetensors");
        let len = compare::size(&file)?;
        for (start, end) in [
            (0, 0),
            (8, 4095),
            (len / 2 - 3, len / 2 + 70_000),
            (len - 9, len - 1),
        ] {
            let want = usize::try_from(end - start + 1).context("range")?;
            let want = compare::range(&file, start, want)?;
            let range = format!("{start}-{end}");
            let target = format!("{NAME}:model.safetensors");
            check(
                self.mmh.run(["cat", &target, "--range", &range])? == want,
                "a range differs",
            )?;
        }
        for args in [
            &["ls"][..],
            &["ls", "-l", NAME],
            &["log"],
            &["log", NAME],
            &["show", NAME],
            &["doctor"],
        ] {
            self.mmh.json(args)?;
        }
        let inspected = self.mmh.json(["inspect".as_ref(), file.as_os_str()])?;
        check(
            inspected.to_string().contains("embedding.weight"),
            "inspect names no tensor",
        )?;
        done("trees and ranges come back byte for byte")
    }

    /// A tensor in two containers, and the whole model under a second name, cost nothing again.
    fn shares_equal_bytes(&self) -> Outcome {
        let saved = &self.mmh.json(["stat", NAME])?["total"]["duplicates"];
        let array = compare::size(&self.tree.join("embedding.npy"))?;
        let floor = array - array / 8;
        check(
            saved.as_u64() >= Some(floor),
            "a tensor in two containers is not stored once",
        )?;
        let before = self.on_disk()?;
        self.add(&self.tree, "doors/again")?;
        let growth = self.on_disk()? - before;
        check(
            growth < 64 << 10,
            &format!("the same tree again took {}", bytes(growth)),
        )?;
        self.restores("doors/again", "again", &self.tree)?;
        done("equal tensors and trees are stored once")
    }

    /// Branches and tags keep what they name; `undo` takes back.
    fn takes_back(&self) -> Outcome {
        let changed = self.place.join("changed");
        fs::create_dir_all(&changed).context(changed.display())?;
        fs::write(changed.join("README.md"), "changed\n").context("README.md")?;
        self.mmh.run(["tag", NAME, "v1"])?;
        self.mmh.run(["branch", NAME, "trial"])?;
        self.add(&changed, &format!("{NAME}@trial"))?;
        self.mmh
            .json(["diff", &format!("{NAME}@v1"), &format!("{NAME}@trial")])?;
        self.restores(&format!("{NAME}@v1"), "tagged", &self.tree)?;
        self.mmh.run(["undo"])?;
        self.restores(&format!("{NAME}@trial"), "undone", &self.tree)?;
        self.mmh.run(["rm", NAME])?;
        self.mmh.run(["undo"])?;
        self.restores(NAME, "removed", &self.tree)?;
        done("branches, tags, rm and undo keep what they should")
    }

    /// One `.mmh` file holds a model.
    fn travels_in_one_file(&self) -> Outcome {
        let (packed, restored) = (self.place.join("tiny.mmh"), self.place.join("unpacked"));
        self.mmh
            .run(["pack".as_ref(), self.tree.as_os_str(), packed.as_os_str()])?;
        self.mmh
            .run(["unpack".as_ref(), packed.as_os_str(), restored.as_os_str()])?;
        compare::trees(&self.tree, &restored)?;
        check(
            compare::size(&packed)? < compare::size(&self.tree)?,
            "the packed file is larger",
        )?;
        done("pack and unpack")
    }

    /// Mistakes end with the exit code that the error table says.
    fn refuses_with_the_right_code(&self) -> Outcome {
        let missing = self.place.join("missing");
        let trials: [(&[&str], i32); 5] = [
            (&["get", "doors/none", "x"], 3),
            (&["ls", "doors/none"], 3),
            (
                &["cat", "doors/tiny:model.safetensors", "--range", "9-1"],
                2,
            ),
            (&["no-such-command"], 2),
            (&["init"], 2),
        ];
        for (args, code) in trials {
            self.ends_with(&self.mmh, args, code)?;
        }
        let none = Mmh {
            repository: missing,
            ..self.mmh.clone()
        };
        self.ends_with(&none, &["ls"], 3)?;
        done("mistakes end with the exit codes of the error table")
    }

    fn ends_with(&self, mmh: &Mmh, args: &[&str], code: i32) -> Outcome {
        let out = mmh.output(args)?;
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        check(
            out.status.code() == Some(code) && !said.trim().is_empty(),
            &format!(
                "`mmh {}` ended with {}, not {code}: {said}",
                args.join(" "),
                out.status
            ),
        )
    }

    /// A flipped byte in a pack is found, and never handed out.
    fn finds_damage(&self) -> Outcome {
        let copy = self.place.join("damaged");
        copy_folder(&self.mmh.repository, &copy)?;
        let pack = largest(&copy)?.ok_or_else(|| Failure::failed("the repository is empty"))?;
        let mut data = fs::read(&pack).context(pack.display())?;
        let middle = data.len() / 2;
        data[middle] ^= 0x10;
        fs::write(&pack, data).context(pack.display())?;
        let damaged = Mmh {
            repository: copy,
            ..self.mmh.clone()
        };
        let out = damaged.output(["--json", "verify"])?;
        let found: Value = serde_json::from_slice(&out.stdout).context("output of mmh verify")?;
        let findings = found["findings"].as_array().map_or(0, Vec::len);
        check(
            out.status.code() == Some(8) && findings > 0,
            &format!(
                "verify of a damaged pack ended with {} and {findings} findings",
                out.status
            ),
        )?;
        let target = self.place.join("from-damaged");
        let out = damaged.output(["get".as_ref(), NAME.as_ref(), target.as_os_str()])?;
        if out.status.success() {
            // The flip hit something this name does not use; then what came must be right.
            compare::trees(&self.tree, &target)?;
        } else {
            check(
                out.status.code() == Some(8),
                "get from a damaged pack is not exit 8",
            )?;
        }
        done("damage is found and never handed out")
    }
}

/// Real files of many containers, if they are in the cache or can be fetched.
fn real_models(program: &Path, place: &Path) -> Outcome {
    let folder = corpus::default_folder();
    let sets = match corpus::fetch(&folder, &Choice::Small) {
        Ok(sets) => sets,
        Err(failure) if failure.code == 7 => {
            println!("  LEFT OUT, no real models: {failure}");
            return Ok(());
        }
        Err(failure) => return Err(failure),
    };
    let mmh = Mmh::init(program, &place.join("real"))?;
    for set in &sets {
        let (source, name) = (folder.join(&set.name), format!("real/{}", set.name));
        let restored = place.join("real-restored").join(&set.name);
        mmh.run([
            "add".as_ref(),
            source.as_os_str(),
            "--to".as_ref(),
            name.as_ref(),
        ])?;
        mmh.run(["get".as_ref(), name.as_ref(), restored.as_os_str()])?;
        compare::trees(&source, &restored)?;
    }
    mmh.run(["verify"])?;
    let stat = mmh.json(["stat", "--files"])?;
    no_file_grows(&stat)?;
    done(&format!("{} sets of real models", sets.len()))
}

/// No file may take more than its length, 0.1 % and 4 KiB.
pub(crate) fn no_file_grows(stat: &Value) -> Outcome {
    let files = stat["files"]
        .as_array()
        .ok_or_else(|| Failure::failed("stat lists no files"))?;
    for file in files {
        let size = |key: &str| file["saving"][key].as_u64();
        let (Some(raw), Some(stored)) = (size("raw"), size("stored")) else {
            return Err(Failure::failed(format!(
                "stat states no sizes of {}",
                file["path"]
            )));
        };
        let bound = raw + raw / 1000 + 4096;
        check(
            stored <= bound,
            &format!("{} takes {stored} of {raw} bytes", file["path"]),
        )?;
    }
    Ok(())
}

fn check(holds: bool, otherwise: &str) -> Outcome {
    if holds {
        Ok(())
    } else {
        Err(Failure::failed(otherwise))
    }
}

fn done(what: &str) -> Outcome {
    println!("  ok: {what}");
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) -> Outcome {
    fs::create_dir_all(to).context(to.display())?;
    for entry in fs::read_dir(from).context(from.display())? {
        let entry = entry.context(from.display())?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_folder(&source, &target)?;
        } else {
            fs::copy(&source, &target).context(source.display())?;
        }
    }
    Ok(())
}

/// The largest file below a folder.
fn largest(folder: &Path) -> Outcome<Option<PathBuf>> {
    let mut best: Option<(u64, PathBuf)> = None;
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).context(folder.display())? {
            let path = entry.context(folder.display())?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let found = (compare::size(&path)?, path);
            best = best.max(Some(found));
        }
    }
    Ok(best.map(|(_, path)| path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_grows_is_found() {
        let stat = |raw: u64, stored: u64| serde_json::json!({ "files": [{ "path": "x", "saving": { "raw": raw, "stored": stored } }] });
        assert!(no_file_grows(&stat(1_000_000, 1_005_096)).is_ok());
        assert!(no_file_grows(&stat(1_000_000, 1_005_097)).is_err());
        assert!(no_file_grows(&serde_json::json!({ "files": [{ "path": "x" }] })).is_err());
        assert!(no_file_grows(&Value::Null).is_err());
    }

    #[test]
    fn the_largest_file_of_a_copy_is_that_of_the_original() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        fixture::tree(&a, 1, 50_000).unwrap();
        copy_folder(&a, &b).unwrap();
        assert_eq!(compare::trees(&a, &b).unwrap().files, 7);
        assert_eq!(largest(&b).unwrap().unwrap(), b.join("model.safetensors"));
        fs::create_dir(folder.path().join("none")).unwrap();
        assert_eq!(largest(&folder.path().join("none")).unwrap(), None);
    }
}
