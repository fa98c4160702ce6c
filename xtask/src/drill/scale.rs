//! Repositories of a million files, of terabytes and of many transactions: how long they take to open,
//! to check and to collect, and how much memory that needs.

mod measure;
mod report;
mod speed;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::args::Args;
use crate::compare;
use crate::fixture::Random;
use crate::mmh::Mmh;
use crate::shell::{Context as _, Outcome, RELEASE, Scratch, build, build_example, capture};
use measure::Meter;

/// Length in bytes of a small file.
const SMALL_LEN: usize = 100;
/// Small files in a folder, unless all are in one.
const FOLDER_FILES: u64 = 1000;
/// A folder in memory, if the system has it there.
const MEMORY: &str = "/dev/shm";
/// The example that makes repositories.
const EXAMPLE: [&str; 4] = ["-p", "mmh-repo", "--release", "--locked"];

/// What is made and measured.
struct Options {
    files: u64,
    terabytes: u64,
    transactions: u64,
    /// Rounds of the measurement of speed.
    rounds: u32,
    /// The model whose bytes are read and written for speed.
    model: Option<PathBuf>,
    /// The folder of repositories for speed, in memory.
    memory: PathBuf,
    /// Whether the tables go into the documents.
    save: bool,
}

/// `cargo xtask drill scale [--files N] [--tb N] [--transactions N] [--rounds N] [--model FILE]
/// [--memory DIR] [--save]`
pub(crate) fn command(mut args: Args) -> Outcome {
    let memory = Path::new(MEMORY);
    let folder = if memory.is_dir() {
        memory.to_path_buf()
    } else {
        std::env::temp_dir()
    };
    let options = Options {
        files: args.value("--files")?.unwrap_or(1_000_000),
        terabytes: args.value("--tb")?.unwrap_or(2),
        transactions: args.value("--transactions")?.unwrap_or(100_000),
        rounds: args.value("--rounds")?.unwrap_or(3),
        model: args.value("--model")?,
        memory: args.value("--memory")?.unwrap_or(folder),
        save: args.flag("--save"),
    };
    args.finish()?;
    let program = build("mmh", &RELEASE)?;
    let results = measure_all(&program, &options)?;
    report::write(&results, options.save)?;
    report::judge(&results)
}

fn measure_all(program: &Path, options: &Options) -> Outcome<Value> {
    let scratch = Scratch::new("drill-scale")?;
    let (mut rows, meter) = (Vec::new(), Meter::new());
    for (n, flat) in sizes(options.files) {
        rows.push(files(
            program,
            (scratch.path(), options),
            (n, flat),
            &meter,
        )?);
    }
    if options.terabytes > 0 || options.transactions > 0 {
        let maker = build_example("scale", &EXAMPLE)?;
        if options.terabytes > 0 {
            let len = options.terabytes * 1_000_000_000_000;
            let name = format!("{} TB in files of 10 GiB", options.terabytes);
            let made = (&*maker, "logical", len);
            rows.push(made_up(program, scratch.path(), (&name, made), &meter)?);
        }
        if options.transactions > 0 {
            let name = format!("{} transactions", report::thousands(options.transactions));
            let made = (&*maker, "log", options.transactions);
            rows.push(made_up(program, scratch.path(), (&name, made), &meter)?);
        }
    }
    let speed = match &options.model {
        Some(model) => speed::measure(program, &options.memory, model, options.rounds)?,
        None => Value::Null,
    };
    Ok(json!({ "cold": meter.cold_method(), "rows": rows, "speed": speed }))
}

/// 10^4, 10^5 and so on below `most`, then `most`, also in one folder.
fn sizes(most: u64) -> Vec<(u64, bool)> {
    let smaller = (4..).map(|e| 10u64.pow(e)).take_while(|n| *n < most);
    let all: Vec<(u64, bool)> = smaller.map(|n| (n, false)).collect();
    let last = [(most, false), (most, true)];
    all.into_iter()
        .chain(last)
        .filter(|(n, _)| *n > 0)
        .collect()
}

/// Adds `n` small files and measures what follows.
fn files(
    program: &Path,
    (scratch, options): (&Path, &Options),
    (n, flat): (u64, bool),
    meter: &Meter,
) -> Outcome<Value> {
    let count = report::thousands(n);
    let name = match flat {
        true => format!("{count} files in one folder"),
        false => format!("{count} files"),
    };
    println!("{name}");
    // The source is not what is measured: it lies in memory, if there is room for it.
    let source = options
        .memory
        .join(format!("mmh-scale-{}", std::process::id()));
    let _gone = Removed(source.clone());
    small_files(&source, n, if flat { n } else { FOLDER_FILES })?;
    let mmh = Mmh::init(program, &scratch.join("repository"))?;
    let add = [
        "add".as_ref(),
        source.as_os_str(),
        "--to".as_ref(),
        "scale/files".as_ref(),
    ];
    let add = meter.once(&mmh, add)?;
    fs::remove_dir_all(&source).context(source.display())?;
    let middle = small_path(n / 2, if flat { n } else { FOLDER_FILES });
    let mut row = examine(&mmh, &format!("scale/files:{middle}"), meter)?;
    row["name"] = name.into();
    row["files"] = n.into();
    row["flat"] = flat.into();
    row["add"] = add;
    Ok(row)
}

/// Removes a folder at the end, whatever happens.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        // Most often it is gone already.
        drop(fs::remove_dir_all(&self.0));
    }
}

/// The path of the small file number `i`.
fn small_path(i: u64, per_folder: u64) -> String {
    format!("{:06}/{i:09}.bin", i / per_folder)
}

pub(super) fn small_files(folder: &Path, n: u64, per_folder: u64) -> Outcome {
    for i in 0..n {
        let path = folder.join(small_path(i, per_folder));
        if i % per_folder == 0
            && let Some(parent) = path.parent()
        {
            fs::create_dir_all(parent).context(parent.display())?;
        }
        let bytes = Random::new(i).bytes(SMALL_LEN);
        fs::write(&path, bytes).context(path.display())?;
    }
    Ok(())
}

/// Has the example make a repository, and measures what follows.
fn made_up(
    program: &Path,
    scratch: &Path,
    (name, (maker, what, number)): (&str, (&Path, &str, u64)),
    meter: &Meter,
) -> Outcome<Value> {
    println!("{name}");
    let mmh = Mmh::init(program, &scratch.join("repository"))?;
    let mut make = std::process::Command::new(maker);
    make.arg(what).arg(&mmh.repository).arg(number.to_string());
    let made = capture(&mut make)?;
    print!("  {made}");
    let target = match what {
        "logical" => "scale/logical:000000.bin",
        _ => "scale/log-00",
    };
    let mut row = examine(&mmh, target, meter)?;
    row["name"] = name.into();
    row["made"] = made.trim().into();
    Ok(row)
}

/// Opens, checks and collects a repository, then removes it.
fn examine(mmh: &Mmh, target: &str, meter: &Meter) -> Outcome<Value> {
    let stored = compare::size(&mmh.repository)?;
    let open = ["ls", target];
    let cold = meter.cold(mmh, open)?;
    let warm = meter.best(mmh, open)?;
    let verify = meter.once(mmh, ["verify"])?;
    let gc = meter.once(mmh, ["gc"])?;
    fs::remove_dir_all(&mmh.repository).context(mmh.repository.display())?;
    Ok(json!({
        "stored": stored,
        "cold": cold,
        "warm": warm,
        "verify": verify,
        "gc": gc,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_grow_tenfold_and_end_with_one_folder() {
        let n = |most| sizes(most).into_iter().map(|(n, _)| n).collect::<Vec<_>>();
        assert_eq!(n(1_000_000), [10_000, 100_000, 1_000_000, 1_000_000]);
        assert_eq!(n(25_000), [10_000, 25_000, 25_000]);
        assert_eq!(n(0), [0u64; 0]);
        assert_eq!(sizes(500), [(500, false), (500, true)]);
    }

    #[test]
    fn small_files_are_where_their_paths_say_and_all_differ() {
        let folder = Scratch::new("test-small-files").unwrap();
        small_files(folder.path(), 25, 10).unwrap();
        let read = |i| fs::read(folder.path().join(small_path(i, 10))).unwrap();
        assert_eq!(read(24).len(), SMALL_LEN);
        assert_ne!(read(3), read(4));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }
}
