//! Our quantisers beside those of llama.cpp: the same bytes, and how fast.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use mmh_core::Dtype;
use mmh_derive::gguf::{Contraction, Quantiser};
use mmh_derive::{Cast, NanRule, samples};

use crate::args::Args;
use crate::shell::{Context as _, Failure, Outcome, Scratch, cache, output, root, run};
use crate::table::Table;

/// A package that brings llama.cpp's libraries as its makers build them, and where they lie in it.
const PACKAGE: &str = "@node-llama-cpp/linux-x64@3.22.1";
const LIBRARY: &str = "package/bins/linux-x64/libggml-base.so";
/// Calls a library.
const SCRIPT: &str = "xtask/src/drill/quantisers.py";
/// Where golden files lie: what a library made of the first set of samples.
const GOLDEN: &str = "crates/mmh-derive/testdata";

/// Row and seed of the samples that golden files were made of, two rows of them.
const GOLDEN_SET: (usize, u64) = (512, 3);

/// Compares the bytes of every type with and without weights, for samples and real tensors.
pub(super) fn command(mut args: Args) -> Outcome {
    let install = args.flag("--install");
    let write = args.flag("--write");
    let libraries = args.values("--library")?;
    let model = args.value::<PathBuf>("--model")?;
    let sets: u64 = args.value("--sets")?.unwrap_or(20);
    args.finish()?;
    let mut given = Vec::new();
    for text in libraries {
        let (contraction, path) = text.split_once('=').unwrap_or(("off", &text));
        let contraction: Contraction = contraction.parse().context("--library")?;
        given.push((contraction, PathBuf::from(path)));
    }
    if given.is_empty() {
        given.push((Contraction::Off, stock(install)?));
    }
    let scratch = Scratch::new("drill-quantisers")?;
    let mut wrong = 0;
    for (contraction, library) in given {
        println!("{} (contraction {contraction})", library.display());
        let trial = Trial {
            shared: &library,
            contraction,
            folder: scratch.path(),
        };
        if write {
            trial.write()?;
        }
        wrong += trial.samples(sets)?;
        if let Some(model) = &model {
            wrong += trial.model(model)?;
        }
    }
    casts()?;
    if wrong > 0 {
        return Err(Failure::failed(format!("{wrong} bytes differ")));
    }
    Ok(())
}

/// Prints how fast casts are: gigabytes of the wider side in a second, the best of some runs.
#[allow(clippy::cast_precision_loss, reason = "speeds for people")]
fn casts() -> Outcome {
    const NUMBERS: usize = 1 << 20;
    let mut table = Table::new(&["cast", "GB/s"]);
    for (from, to) in [
        (Dtype::F32, Dtype::BF16),
        (Dtype::F32, Dtype::F16),
        (Dtype::F32, Dtype::F8_E4M3),
        (Dtype::BF16, Dtype::F32),
        (Dtype::F16, Dtype::F32),
        (Dtype::F8_E5M2, Dtype::F32),
        (Dtype::BF16, Dtype::F16),
    ] {
        let cast = Cast::new(from, to, NanRule::Keep, false).context(to)?;
        let (before, after) = cast.element_bytes();
        let input: Vec<u8> = (0..NUMBERS * before)
            .map(|i| u8::try_from(i * 31 % 251).unwrap_or(0))
            .collect();
        let mut out = vec![0; NUMBERS * after];
        let mut best = f64::MAX;
        for _ in 0..20 {
            let start = Instant::now();
            cast.run(&input, &mut out).context(to)?;
            best = best.min(start.elapsed().as_secs_f64());
        }
        let speed = (NUMBERS * before.max(after)) as f64 / 1e9 / best;
        table.row([format!("{from} to {to}"), format!("{speed:.1}")]);
    }
    print!("{}", table.text());
    Ok(())
}

/// The library as it is published, from the cache or the registry.
fn stock(install: bool) -> Outcome<PathBuf> {
    let folder = cache().join("llama.cpp");
    let library = folder.join(LIBRARY);
    if library.is_file() {
        return Ok(library);
    }
    if !install {
        return Err(Failure::unavailable(format!(
            "{} is not there: run it once with --install",
            library.display()
        )));
    }
    std::fs::create_dir_all(&folder).context(folder.display())?;
    let mut npm = Command::new("npm");
    let packed = output(npm.args(["pack", "--silent", PACKAGE]).current_dir(&folder))?;
    let name = String::from_utf8_lossy(&packed.stdout).trim().to_owned();
    run(Command::new("tar")
        .args(["xzf", &name])
        .current_dir(&folder))?;
    Ok(library)
}

/// One library.
struct Trial<'a> {
    shared: &'a Path,
    contraction: Contraction,
    folder: &'a Path,
}

/// Bytes, and the seconds that they took.
type Made = (Vec<u8>, f64);

/// What was seen of one type, plain or weighted.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    source: usize,
    bytes: usize,
    differ: usize,
    ours: f64,
    theirs: f64,
}

impl Trial<'_> {
    /// Many sets of samples: small, with every corner.
    fn samples(&self, sets: u64) -> Outcome<usize> {
        let mut seen = Report::default();
        for seed in 1..=sets {
            let row = [512, 256, 1024, 2304][usize::try_from(seed % 4).unwrap_or(0)];
            let mut x = samples::numbers(row * 400, seed);
            if self.contraction == Contraction::On {
                // Of a block of subnormals alone the reciprocal of the scale is infinite, and C does
                // not say what follows. GCC on x86-64 and we agree; Clang does something else.
                x.iter_mut()
                    .filter(|x| x.is_subnormal())
                    .for_each(|x| *x = 0.0);
            }
            self.compare(&x, row, &samples::importance(row, seed), &mut seen)?;
        }
        seen.print("samples")
    }

    /// The two-dimensional F32 tensors of a model.
    fn model(&self, path: &Path) -> Outcome<usize> {
        let bytes = std::fs::read(path).context(path.display())?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let layout = mmh_formats::probe(&bytes, &name).context(path.display())?;
        let mut seen = Report::default();
        for (part, info) in layout.tensors() {
            let row = usize::try_from(info.shape.last().copied().unwrap_or(0)).unwrap_or(0);
            if info.dtype != Dtype::F32 || info.shape.len() != 2 || !row.is_multiple_of(32) {
                continue;
            }
            let range = usize::try_from(part.offset).unwrap_or(0);
            let len = usize::try_from(part.len).unwrap_or(0);
            let numbers = bytes[range..range + len].as_chunks().0.iter();
            let x: Vec<f32> = numbers.map(|&bytes| f32::from_le_bytes(bytes)).collect();
            // Rows for types whose blocks have 256 numbers: as many as make whole blocks.
            let row = if row.is_multiple_of(256) {
                row
            } else {
                row * 2
            };
            if !row.is_multiple_of(256) || !x.len().is_multiple_of(row) {
                continue;
            }
            self.compare(&x, row, &samples::importance(row, 7), &mut seen)?;
        }
        seen.print(&name)
    }

    /// Quantises by both, and adds to what was seen.
    fn compare(&self, x: &[f32], row: usize, weights: &[f32], seen: &mut Report) -> Outcome {
        let theirs = self.theirs(x, row, weights)?;
        for (to, pair) in Quantiser::TYPES.into_iter().zip(theirs) {
            for (kind, (theirs, time)) in pair.into_iter().enumerate() {
                let weights = (kind == 1).then_some(weights);
                let quantiser = Quantiser::new(to, row, self.contraction).context(to)?;
                let mut ours = vec![0; theirs.len()];
                let start = Instant::now();
                quantiser.rows(x, weights, &mut ours).context(to)?;
                let seen = seen.of(to, kind);
                seen.ours += start.elapsed().as_secs_f64();
                seen.theirs += time;
                seen.source += size_of_val(x);
                seen.bytes += ours.len();
                let differ = ours.iter().zip(&theirs).filter(|(a, b)| a != b);
                seen.differ += differ.count();
            }
        }
        Ok(())
    }

    /// What the library makes, for each type plain and weighted, and its seconds.
    fn theirs(&self, x: &[f32], row: usize, weights: &[f32]) -> Outcome<Vec<[Made; 2]>> {
        let file = |name: &str, numbers: &[f32]| {
            let path = self.folder.join(name);
            let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
            std::fs::write(&path, bytes).context(path.display())?;
            Ok::<_, Failure>(path)
        };
        let (numbers, importance) = (file("numbers", x)?, file("importance", weights)?);
        let mut python = Command::new("python3");
        python
            .arg(root().join(SCRIPT))
            .arg(self.shared)
            .arg(numbers);
        python.arg(row.to_string()).arg(importance).arg(self.folder);
        python.args(Quantiser::TYPES.map(Dtype::as_str));
        let said = output(&mut python)?;
        if !said.status.success() {
            let said = String::from_utf8_lossy(&said.stderr);
            return Err(Failure::unavailable(format!("{SCRIPT}: {said}")));
        }
        let said = String::from_utf8_lossy(&said.stdout);
        let seconds: Vec<f64> = said
            .lines()
            .filter_map(|line| line.split(' ').nth(2)?.parse().ok())
            .collect();
        let mut all = Vec::new();
        for (idx, to) in Quantiser::TYPES.into_iter().enumerate() {
            let read = |kind: &str, at: usize| {
                let path = self.folder.join(format!("{to}.{kind}"));
                let bytes = std::fs::read(&path).context(path.display())?;
                Ok::<_, Failure>((bytes, seconds.get(at).copied().unwrap_or(0.0)))
            };
            all.push([read("plain", 2 * idx)?, read("weighted", 2 * idx + 1)?]);
        }
        Ok(all)
    }

    /// Writes what the library makes of the golden samples: types in order, plain, then weighted.
    fn write(&self) -> Outcome {
        let (row, seed) = GOLDEN_SET;
        let x = samples::numbers(row * 2, seed);
        let theirs = self.theirs(&x, row, &samples::importance(row, seed))?;
        let all: Vec<u8> = theirs
            .into_iter()
            .flatten()
            .flat_map(|(bytes, _)| bytes)
            .collect();
        let path = root()
            .join(GOLDEN)
            .join(format!("quantised-{}.bin", self.contraction));
        std::fs::write(&path, all).context(path.display())
    }
}

/// What was seen, by type and kind.
#[derive(Debug, Default)]
struct Report(Vec<(Dtype, [Seen; 2])>);

impl Report {
    fn of(&mut self, to: Dtype, kind: usize) -> &mut Seen {
        let at = self.0.iter().position(|(dtype, _)| *dtype == to);
        let at = at.unwrap_or_else(|| {
            self.0.push((to, Default::default()));
            self.0.len() - 1
        });
        &mut self.0[at].1[kind]
    }

    /// Prints a table, and returns how many bytes differ.
    #[allow(clippy::cast_precision_loss, reason = "speeds for people")]
    fn print(&self, what: &str) -> Outcome<usize> {
        let mut table = Table::new(&["type", "weights", "bytes", "differ", "MB/s", "llama.cpp"]);
        let mut wrong = 0;
        for (to, kinds) in &self.0 {
            for (kind, seen) in ["no", "yes"].into_iter().zip(kinds) {
                let speed = |seconds: f64| format!("{:.0}", seen.source as f64 / 1e6 / seconds);
                table.row([
                    to.to_string(),
                    kind.to_owned(),
                    seen.bytes.to_string(),
                    seen.differ.to_string(),
                    speed(seen.ours),
                    speed(seen.theirs),
                ]);
                wrong += seen.differ;
            }
        }
        println!("{what}");
        print!("{}", table.text());
        Ok(wrong)
    }
}
