//! `kill -9` at random moments of `mmh add`: nothing acknowledged is lost, the next add finishes.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::compare;
use crate::fixture::{self, Random};
use crate::mmh::Mmh;
use crate::shell::{Context as _, Failure, Outcome, Scratch};

/// Length of the generated tree: long enough that an add takes a while, short enough to repeat.
const TREE_LEN: usize = 24 << 20;
/// The name that is complete before the killing starts and must stay whole.
const KEPT: &str = "drill/kept";
/// The name whose adds are killed.
const KILLED: &str = "drill/killed";

/// What the drill met.
#[derive(Debug, Default)]
struct Tally {
    killed: u32,
    too_late: u32,
    repositories: u32,
}

/// Kills `count` adds at moments drawn from `rng_seed`, checking after each one.
pub(crate) fn kill(program: &Path, count: u32, rng_seed: u64) -> Outcome {
    let scratch = Scratch::new("drill-kill")?;
    let mut random = Random::new(rng_seed);
    let mut tally = Tally::default();
    let start = Instant::now();
    while tally.killed < count {
        tally.repositories += 1;
        round(program, scratch.path(), count, &mut random, &mut tally)?;
    }
    println!(
        "kill -9: {} adds killed (seed {rng_seed}), {} ended before the kill, in {} repositories, {:.0} s; \
         each time the repository opened, `verify` passed and the next add went on",
        tally.killed,
        tally.too_late,
        tally.repositories,
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// One repository: a complete name, then adds that are killed until one gets through.
fn round(
    program: &Path,
    scratch: &Path,
    count: u32,
    random: &mut Random,
    tally: &mut Tally,
) -> Outcome {
    let place = scratch.join(tally.repositories.to_string());
    let (kept, tree) = (place.join("kept"), place.join("tree"));
    fixture::tree(&kept, random.next(), TREE_LEN / 8)?;
    fixture::tree(&tree, random.next(), TREE_LEN)?;
    let whole = measure(program, &place, &tree)?;
    let mmh = Mmh::init(program, &place.join("repository"))?;
    mmh.run([
        "add".as_ref(),
        kept.as_os_str(),
        "--to".as_ref(),
        KEPT.as_ref(),
    ])?;
    while tally.killed < count && !interrupted(&mmh, &tree, whole, random, tally)? {
        mmh.run(["ls"])?;
        mmh.run(["verify"])?;
    }
    mmh.run([
        "add".as_ref(),
        tree.as_os_str(),
        "--to".as_ref(),
        KILLED.as_ref(),
    ])?;
    for (name, source) in [(KEPT, &kept), (KILLED, &tree)] {
        let target = place.join("restored").join(name);
        mmh.run(["get".as_ref(), name.as_ref(), target.as_os_str()])?;
        compare::trees(source, &target)?;
    }
    mmh.run(["verify"])?;
    std::fs::remove_dir_all(&place).context(place.display())
}

/// How long an add of this tree takes when nobody disturbs it.
fn measure(program: &Path, place: &Path, tree: &Path) -> Outcome<Duration> {
    let mmh = Mmh::init(program, &place.join("measure"))?;
    let start = Instant::now();
    mmh.run([
        "add".as_ref(),
        tree.as_os_str(),
        "--to".as_ref(),
        KILLED.as_ref(),
    ])?;
    let whole = start.elapsed();
    std::fs::remove_dir_all(&mmh.repository).context(mmh.repository.display())?;
    Ok(whole)
}

/// Starts an add and kills it at a random moment; says whether the add was done before that.
fn interrupted(
    mmh: &Mmh,
    tree: &Path,
    whole: Duration,
    random: &mut Random,
    tally: &mut Tally,
) -> Outcome<bool> {
    let micros = u64::try_from(whole.as_micros()).unwrap_or(u64::MAX);
    let moment = Duration::from_micros(random.below(micros));
    let mut child = mmh.start([
        "add".as_ref(),
        tree.as_os_str(),
        "--to".as_ref(),
        KILLED.as_ref(),
    ])?;
    std::thread::sleep(moment);
    child.kill().context("kill")?;
    let status = child.wait().context("wait")?;
    match status.code() {
        None => tally.killed += 1,
        Some(0) => tally.too_late += 1,
        Some(_) => {
            return Err(Failure::failed(format!(
                "an add after a kill ended with {status}"
            )));
        }
    }
    Ok(status.success())
}
