//! How fast files come back through the doors: by HTTP beside nginx, and from a mounted folder beside the
//! plain file. Who reads are tools that everybody has: curl, dd, Python's safetensors, fio and find.

mod doors;
mod report;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use crate::args::Args;
use crate::bench::derived::{self, Cast};
use crate::compare;
use crate::corpus::{self, Choice};
use crate::engines;
use crate::mmh::Mmh;
use crate::shell::{Context as _, Failure, Outcome, RELEASE, build, cache, output, typed};
use doors::{Mounted, Nginx};

/// The model is so many times a BF16 cast of all-MiniLM-L6-v2: 545 MB.
const COPIES: u8 = 12;
/// Clients at once.
const CLIENTS: usize = 64;
/// Bytes that each of them asks for, from the beginning.
const CLIENT_LEN: u64 = 100_000_000;
/// Small files of the folder that is walked through, and how many of them a folder has.
const SMALL_FILES: u64 = 100_000;
const FOLDER_FILES: u64 = 1000;
/// Seconds of random reads.
const RANDOM_S: u32 = 3;

/// The published model, for numpy, which knows no BF16.
const SINGLE: &str = "single.safetensors";
/// Loads all tensors of a file.
const LOAD: &str = "\
import sys, time
from safetensors import safe_open
began = time.perf_counter()
with safe_open(sys.argv[1], 'np') as f:
    for name in f.keys():
        f.get_tensor(name).sum()
print(time.perf_counter() - began)
";

/// What is read, and how.
struct Trial {
    program: PathBuf,
    /// A folder of our own, in memory.
    place: PathBuf,
    rounds: usize,
}

/// `cargo xtask drill reading [--rounds N] [--memory DIR] [--save]`
pub(crate) fn command(mut args: Args) -> Outcome {
    let rounds = args.value("--rounds")?.unwrap_or(5);
    let memory = args
        .value("--memory")?
        .unwrap_or_else(|| PathBuf::from("/dev/shm"));
    let save = args.flag("--save");
    args.finish()?;
    let trial = Trial {
        program: build("mmh", &RELEASE)?,
        place: memory.join(format!("mmh-reading-{}", std::process::id())),
        rounds,
    };
    let results = trial.run();
    // What is not removed lies in a folder for scratch.
    drop(fs::remove_dir_all(&trial.place));
    let results = results?;
    report::write(&results, save)?;
    report::judge(&results)
}

impl Trial {
    fn run(&self) -> Outcome<Value> {
        let plain = self.place.join("plain/model.safetensors");
        make_model(&plain)?;
        let mmh = Mmh::init(&self.program, &self.place.join("repository"))?;
        let add = |folder: &Path, name: &str| {
            let args = ["add".as_ref(), folder.as_os_str(), "--to".as_ref()];
            mmh.run(args.into_iter().chain([name.as_ref()])).map(drop)
        };
        add(&self.place.join("plain"), "reading/model")?;
        let small = self.place.join("small");
        super::scale::small_files(&small, SMALL_FILES, FOLDER_FILES)?;
        add(&small, "reading/small")?;
        fs::remove_dir_all(&small).context(small.display())?;
        let len = compare::size(&plain)?;
        Ok(json!({
            "len": len,
            "rounds": self.rounds,
            "http": self.by_http(&mmh, &plain, len)?,
            "clients": self.many_clients(&mmh, len)?,
            "mounted": self.mounted(&mmh, &plain, len)?,
        }))
    }

    /// `mmh` on the repository, with a cache of its own in the given folder of the place.
    fn mmh(&self, mmh: &Mmh, cache: &str) -> Command {
        let mut command = mmh.command(None::<&str>);
        command.env("XDG_CACHE_HOME", self.place.join(cache));
        command
    }

    /// The whole file to one client: by nginx, from the cache, and decoded on the way.
    fn by_http(&self, mmh: &Mmh, plain: &Path, len: u64) -> Outcome<Value> {
        let mut prefetch = self.mmh(mmh, "kept");
        succeed(prefetch.args(["prefetch", "reading/model"]))?;
        let mut kept = self.mmh(mmh, "kept");
        let kept = doors::serve(kept.args(["serve", "--doors", "hub"]))?;
        let mut decoded = self.mmh(mmh, "none");
        decoded.args(["serve", "--doors", "hub", "--cache-size", "off"]);
        let decoded = doors::serve(&mut decoded)?;
        let nginx = match engines::find("nginx") {
            Some(program) => Some(Nginx::start(Command::new(program), plain, &self.place)?),
            None => None,
        };
        let path = "reading/model/resolve/main/model.safetensors";
        let mut urls = vec![
            ("mmh, kept in the cache", format!("{}/{path}", kept.http)),
            (
                "mmh, decoded on the way",
                format!("{}/{path}", decoded.http),
            ),
        ];
        if let Some(nginx) = &nginx {
            urls.insert(0, ("nginx, the plain file", nginx.url.clone()));
        }
        let each = |(_, url): &(&str, String)| self.get(url, len);
        self.in_turns("HTTP", &urls, len, each)
    }

    /// Measures all ways in each round; the medians as bytes a second.
    fn in_turns<W>(
        &self,
        what: &str,
        ways: &[(&'static str, W)],
        len: u64,
        each: impl Fn(&(&'static str, W)) -> Outcome<f64>,
    ) -> Outcome<Value> {
        let mut times = vec![Vec::new(); ways.len()];
        // The first round does not count.
        for round in 0..=self.rounds {
            for (way, times) in ways.iter().zip(&mut times) {
                let seconds = each(way)?;
                if round > 0 {
                    times.push(seconds);
                }
            }
        }
        let rows = ways.iter().zip(&mut times).map(|((name, _), times)| {
            let rate = rate(len, median(times));
            println!("{what}: {name} {:.2} GB/s", rate / 1e9);
            json!({ "way": name, "rate": rate })
        });
        Ok(rows.collect())
    }

    /// Seconds for a whole file by curl.
    fn get(&self, url: &str, len: u64) -> Outcome<f64> {
        let mut curl = Command::new("curl");
        curl.args([
            "-sS",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code} %{size_download}",
            url,
        ]);
        let began = Instant::now();
        let said = succeed(&mut curl)?;
        let seconds = began.elapsed().as_secs_f64();
        if said == format!("200 {len}") {
            return Ok(seconds);
        }
        Err(Failure::failed(format!("{url} answered {said}")))
    }

    /// Many clients at once, each with the same part of the file, decoded on the way.
    fn many_clients(&self, mmh: &Mmh, len: u64) -> Outcome<Value> {
        let mut serve = self.mmh(mmh, "none");
        let served = doors::serve(serve.args(["serve", "--doors", "hub", "--cache-size", "off"]))?;
        let url = format!(
            "{}/reading/model/resolve/main/model.safetensors",
            served.http
        );
        let each = CLIENT_LEN.min(len);
        let began = Instant::now();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let mut curl = Command::new("curl");
                curl.args(["-sS", "-o", "/dev/null", "-r", &format!("0-{}", each - 1)]);
                curl.args(["-w", "%{http_code} %{size_download} %{time_total}", &url]);
                let child = curl.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
                child.context(typed(&curl))
            })
            .collect::<Outcome<_>>()?;
        let (mut times, mut failed) = (Vec::new(), 0);
        for client in clients {
            let out = client.wait_with_output().context("curl")?;
            let said = String::from_utf8_lossy(&out.stdout).into_owned();
            match said.strip_prefix(&format!("206 {each} ")).map(str::parse) {
                Some(Ok(seconds)) => times.push(seconds),
                _ => failed += 1,
            }
        }
        let all = began.elapsed().as_secs_f64();
        times.sort_by(f64::total_cmp);
        let total = each * times.len() as u64;
        println!(
            "{CLIENTS} clients: {:.2} GB/s, {failed} failed",
            rate(total, all) / 1e9
        );
        Ok(json!({
            "n": CLIENTS, "len": each, "failed": failed, "rate": rate(total, all),
            "fastest_s": times.first(), "slowest_s": times.last(), "peak": served.peak(),
        }))
    }

    fn mounted(&self, mmh: &Mmh, plain: &Path, len: u64) -> Outcome<Value> {
        let cold = |cache: &str, more: &[&str]| -> Outcome<f64> {
            drop(fs::remove_dir_all(self.place.join(cache)));
            let mut mount = self.mmh(mmh, cache);
            mount.arg("mount").args(more);
            let mounted = Mounted::start(mount, &self.place.join("mount"), "reading/model")?;
            self.copy(&mounted.file("model.safetensors"))
        };
        let ways = [
            (
                "cold, nothing kept on the disk",
                &["--cache-size", "off"][..],
            ),
            ("cold, filling the cache", &[]),
        ];
        let cold = self.in_turns("mounted", &ways, len, |(_, more)| cold("filled", more))?;
        let mut mount = self.mmh(mmh, "kept");
        mount.arg("mount");
        let mounted = Mounted::start(mount, &self.place.join("mount"), "reading/model")?;
        let kept = mounted.file("model.safetensors");
        let ways = [
            ("the plain file", plain.to_owned()),
            (
                "the cache's own file",
                of_length(&self.place.join("kept"), len)?,
            ),
            ("kept in the cache", kept),
        ];
        let warm = self.in_turns("mounted", &ways, len, |(_, file)| self.copy(file))?;
        let python = cache().join("engines/hub/bin/python");
        let load = match python.is_file() {
            true => {
                let each = |(_, file): &(&str, PathBuf)| {
                    let mut load = Command::new(&python);
                    load.args(["-c", LOAD]).arg(file.with_file_name(SINGLE));
                    succeed(&mut load)?.trim().parse().context("safetensors")
                };
                let len = compare::size(&plain.with_file_name(SINGLE))?;
                let [plain, _, kept] = ways.clone();
                self.in_turns("safetensors", &[plain, kept], len, each)?
            }
            false => Value::Null,
        };
        let random = match engines::find("fio") {
            Some(fio) => ways
                .iter()
                .map(|(name, file)| {
                    let each_s = self.random(&fio, file)?;
                    println!("random 4 KiB: {name} {each_s:.0} a second");
                    Ok(json!({ "way": name, "reads_a_second": each_s }))
                })
                .collect::<Outcome<Value>>()?,
            None => Value::Null,
        };
        drop(mounted);
        Ok(
            json!({ "cold": cold, "warm": warm, "load": load, "random": random, "find_s": self.walk(mmh)? }),
        )
    }

    /// Seconds for reading a file in pieces of 1 MiB.
    fn copy(&self, file: &Path) -> Outcome<f64> {
        let mut dd = Command::new("dd");
        dd.arg(format!("if={}", file.display()));
        dd.args(["of=/dev/null", "bs=1M", "status=none"]);
        let began = Instant::now();
        succeed(&mut dd)?;
        Ok(began.elapsed().as_secs_f64())
    }

    /// Random reads of 4 KiB a second, one at a time.
    fn random(&self, fio: &Path, file: &Path) -> Outcome<f64> {
        let mut command = Command::new(fio);
        command.args([
            "--name=r",
            "--rw=randread",
            "--bs=4k",
            "--readonly",
            "--time_based",
        ]);
        command.args(["--ioengine=psync", "--output-format=json", "--randseed=1"]);
        command.arg(format!("--runtime={RANDOM_S}"));
        command.arg(format!("--filename={}", file.display()));
        let said: Value = serde_json::from_str(&succeed(&mut command)?).context("fio")?;
        let reads = said["jobs"][0]["read"]["iops"].as_f64();
        reads.ok_or_else(|| Failure::failed("fio does not say how many reads it did"))
    }

    /// Seconds to find all small files.
    fn walk(&self, mmh: &Mmh) -> Outcome<f64> {
        let mut mount = self.mmh(mmh, "kept");
        mount.arg("mount");
        let mounted = Mounted::start(mount, &self.place.join("mount"), "reading/small")?;
        let mut find = Command::new("find");
        find.arg(mounted.folder())
            .args(["-type", "f", "-size", "+0"]);
        let began = Instant::now();
        let found = succeed(&mut find)?.lines().count() as u64;
        let seconds = began.elapsed().as_secs_f64();
        println!("find: {found} files in {seconds:.1} s");
        if found == SMALL_FILES {
            return Ok(seconds);
        }
        Err(Failure::failed(format!(
            "find saw {found} files of {SMALL_FILES}"
        )))
    }
}

/// The model, made of a published one, which lies beside it.
fn make_model(target: &Path) -> Outcome {
    let folder = corpus::default_folder();
    corpus::fetch(&folder, &Choice::Named(vec!["minilm".to_owned()]))?;
    let published = folder.join("minilm/model.safetensors");
    let half = cache().join("derived/minilm-bf16.safetensors");
    derived::derive(&published, &half, Cast::Bf16, u64::MAX)?;
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder).context(folder.display())?;
    }
    derived::enlarge(&half, target, COPIES)?;
    fs::copy(&published, target.with_file_name(SINGLE)).context(published.display())?;
    Ok(())
}

/// The file of that length in a folder, or in one below it.
fn of_length(folder: &Path, len: u64) -> Outcome<PathBuf> {
    let mut find = Command::new("find");
    find.arg(folder)
        .args(["-type", "f", "-size", &format!("{len}c")]);
    let found = succeed(&mut find)?;
    let first = found.lines().next().map(PathBuf::from);
    first.ok_or_else(|| Failure::failed(format!("{}: no such file", folder.display())))
}

/// What a command prints when it succeeds.
fn succeed(command: &mut Command) -> Outcome<String> {
    let out = output(command)?;
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
    }
    let why = String::from_utf8_lossy(&out.stderr).into_owned();
    Err(Failure::failed(format!(
        "`{}` ended with {}: {why}",
        typed(command),
        out.status
    )))
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Bytes a second.
#[allow(
    clippy::cast_precision_loss,
    reason = "lengths of files are far below 2^53"
)]
fn rate(len: u64, seconds: f64) -> f64 {
    len as f64 / seconds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_times_counts() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(rate(10, 2.0), 5.0);
        assert!(median(&mut []).is_nan());
    }
}
