//! Hostile input from outside: mutated models and damaged repositories, through the program itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::compare;
use crate::corpus;
use crate::fixture::{self, Random};
use crate::mmh::Mmh;
use crate::shell::{Context as _, Failure, Outcome, Scratch};

/// Mutated files in one round.
const MUTANTS: u64 = 40;
/// Longer real files are no better at this, only slower.
const SAMPLE_LEN_MAX: u64 = 1_300_000;
/// The name under which everything is added.
const NAME: &str = "drill/hostile";

/// Runs `rounds` rounds of both trials, everything drawn from `rng_seed`.
pub(crate) fn fuzz(program: &Path, rounds: u32, rng_seed: u64) -> Outcome {
    let scratch = Scratch::new("drill-fuzz")?;
    let samples = samples(scratch.path())?;
    let mut random = Random::new(rng_seed);
    let mut damaged = Tally::default();
    for round in 0..rounds {
        let place = scratch.path().join(format!("round-{round}"));
        mutated_models(program, &place, &samples, &mut random)
            .and_then(|mmh| damaged_repository(&mmh, &place, &mut random, &mut damaged))
            .map_err(|failure| Failure {
                message: format!("round {round} of seed {rng_seed}: {failure}"),
                ..failure
            })?;
        fs::remove_dir_all(&place).context(place.display())?;
    }
    println!(
        "hostile input: {} mutants of {} files came back byte for byte; {rounds} damaged repositories \
         (seed {rng_seed}): {} commands refused, {} not hit by the damage, none wrong",
        MUTANTS * u64::from(rounds),
        samples.len(),
        damaged.refused,
        damaged.unharmed
    );
    Ok(())
}

#[derive(Debug, Default)]
struct Tally {
    refused: u32,
    unharmed: u32,
}

/// Generated containers, and small real ones where the corpus was fetched.
fn samples(scratch: &Path) -> Outcome<Vec<PathBuf>> {
    let generated = scratch.join("samples");
    fixture::tree(&generated, 11, 64 << 10)?;
    let mut samples = Vec::new();
    for folder in [generated, corpus::default_folder()] {
        collect(&folder, &mut samples)?;
    }
    samples.sort();
    Ok(samples)
}

fn collect(folder: &Path, samples: &mut Vec<PathBuf>) -> Outcome {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(());
    };
    for entry in entries {
        let path = entry.context(folder.display())?.path();
        let meta = fs::symlink_metadata(&path).context(path.display())?;
        if meta.is_dir() {
            collect(&path, samples)?;
        } else if meta.is_file() && (1..SAMPLE_LEN_MAX).contains(&meta.len()) {
            samples.push(path);
        }
    }
    Ok(())
}

/// Adds mutants of the samples; whatever a parser makes of them, they come back as they were.
fn mutated_models(
    program: &Path,
    place: &Path,
    samples: &[PathBuf],
    random: &mut Random,
) -> Outcome<Mmh> {
    let tree = place.join("mutants");
    fs::create_dir_all(&tree).context(tree.display())?;
    for number in 0..MUTANTS {
        let sample = pick(random, samples);
        let mut data = fs::read(sample).context(sample.display())?;
        mutate(&mut data, random);
        let ending = sample
            .extension()
            .map(|ending| ending.to_string_lossy().into_owned());
        let path = tree.join(format!(
            "{number}.{}",
            ending.unwrap_or_else(|| "bin".to_owned())
        ));
        fs::write(&path, data).context(path.display())?;
    }
    let mmh = Mmh::init(program, &place.join("repository"))?;
    mmh.run([
        "add".as_ref(),
        tree.as_os_str(),
        "--to".as_ref(),
        NAME.as_ref(),
    ])?;
    let restored = place.join("restored");
    mmh.run(["get".as_ref(), NAME.as_ref(), restored.as_os_str()])?;
    compare::trees(&tree, &restored)?;
    Ok(mmh)
}

/// Damages one file of the repository; every command then works rightly or refuses with a kind.
fn damaged_repository(mmh: &Mmh, place: &Path, random: &mut Random, tally: &mut Tally) -> Outcome {
    let mut files = Vec::new();
    collect(&mmh.repository, &mut files)?;
    files.sort();
    let victim = pick(random, &files);
    let mut data = fs::read(victim).context(victim.display())?;
    mutate(&mut data, random);
    fs::write(victim, data).context(victim.display())?;
    let (tree, target) = (place.join("mutants"), place.join("from-damaged"));
    let trials: [&[&std::ffi::OsStr]; 6] = [
        &["verify".as_ref()],
        &["ls".as_ref(), "-l".as_ref(), NAME.as_ref()],
        &["log".as_ref()],
        &["stat".as_ref()],
        &["get".as_ref(), NAME.as_ref(), target.as_os_str()],
        &[
            "add".as_ref(),
            tree.as_os_str(),
            "--to".as_ref(),
            NAME.as_ref(),
        ],
    ];
    for args in trials {
        let out = mmh.output(args)?;
        if ended_well(&out, args, victim)? {
            tally.unharmed += 1;
        } else {
            tally.refused += 1;
        }
        if args[0] == "get" && out.status.success() {
            compare::trees(&tree, &target)?;
        }
    }
    Ok(())
}

/// Whether the command succeeded; anything but success and a stated kind of error is a failure.
fn ended_well(out: &Output, args: &[&std::ffi::OsStr], victim: &Path) -> Outcome<bool> {
    match out.status.code() {
        Some(0) => Ok(true),
        Some(2..=8) => Ok(false),
        _ => Err(Failure::failed(format!(
            "with {} damaged, `mmh {}` ended with {}: {}",
            victim.display(),
            args[0].to_string_lossy(),
            out.status,
            crate::shell::last_lines(&out.stderr, 6)
        ))),
    }
}

fn pick<'a>(random: &mut Random, from: &'a [PathBuf]) -> &'a PathBuf {
    let count = from.len() as u64;
    &from[usize::try_from(random.below(count)).unwrap_or(0)]
}

/// Changes a few bytes, or cuts, repeats, or takes out a stretch; headers more often than not.
fn mutate(data: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(3) {
        if data.is_empty() {
            return;
        }
        let at = place(data.len(), random);
        let end = (at + place(64, random) + 1).min(data.len());
        match random.below(6) {
            0 => data.truncate(at),
            1 => drop(data.drain(at..end)),
            2 => {
                let copy = data[at..end].to_vec();
                data.splice(at..at, copy);
            }
            3 => data[at..end].fill(if random.below(2) == 0 { 0 } else { 0xff }),
            _ => data[at] ^= 1 << random.below(8),
        }
    }
}

/// A place in `len` bytes: near the beginning, near the end, or anywhere.
fn place(len: usize, random: &mut Random) -> usize {
    let near = len.min(512) as u64;
    let at = match random.below(3) {
        0 => random.below(near),
        1 => len as u64 - 1 - random.below(near),
        _ => random.below(len as u64),
    };
    usize::try_from(at).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutants_differ_and_repeat_from_their_seed() {
        let original: Vec<u8> = (0..2000u32).map(|i| (i * 7 % 251) as u8).collect();
        let mutant = |seed| {
            let mut data = original.clone();
            mutate(&mut data, &mut Random::new(seed));
            data
        };
        let changed = (0..100).filter(|seed| mutant(*seed) != original).count();
        assert!(changed > 90, "{changed}");
        assert!((0..100).all(|seed| mutant(seed) == mutant(seed)));
        let lengths: std::collections::BTreeSet<usize> =
            (0..100).map(|s| mutant(s).len()).collect();
        assert!(lengths.len() > 10, "some are cut, some grow");
        mutate(&mut Vec::new(), &mut Random::new(1));
    }

    #[test]
    fn places_are_inside_and_favour_the_ends() {
        let mut random = Random::new(4);
        let places: Vec<usize> = (0..300).map(|_| place(100_000, &mut random)).collect();
        assert!(places.iter().all(|at| *at < 100_000));
        assert!(places.iter().filter(|at| **at < 512).count() > 50);
        assert!(places.iter().filter(|at| **at >= 100_000 - 512).count() > 50);
        assert_eq!(place(1, &mut random), 0);
    }

    #[cfg(unix)]
    #[test]
    fn a_panic_is_a_failure_and_a_typed_error_is_not() {
        use std::os::unix::process::ExitStatusExt;
        let out = |raw: i32| Output {
            status: std::process::ExitStatus::from_raw(raw),
            stdout: Vec::new(),
            stderr: Vec::new(),
        };
        let judged = |raw| ended_well(&out(raw), &["get".as_ref()], Path::new("x"));
        assert!(judged(0).unwrap());
        assert!(!judged(8 << 8).unwrap());
        for bad in [101 << 8, 1 << 8, 9, 6] {
            assert!(judged(bad).is_err(), "{bad}");
        }
    }
}
