//! `cargo xtask drill`: long trials of what must never happen.

mod fuzz;
#[cfg(unix)]
mod garage;
mod guided;
mod hub_suite;
mod kill;
mod laptop;
mod large;
mod quantisers;
#[cfg(target_os = "linux")]
mod reading;
mod sanitizer;
mod scale;
mod simulate;
mod writers;

use crate::args::Args;
use crate::arm;
use crate::shell::{Failure, Outcome, RELEASE, build};

pub(crate) use fuzz::fuzz;
pub(crate) use kill::kill;
pub(crate) use simulate::simulate;

/// `cargo xtask drill kill|fuzz [-n N] [--seed S]`, `cargo xtask drill large [--gb N]`,
/// `cargo xtask drill simulate [--seeds N] [--from SEED] [--seed S] [--trace]`,
/// `cargo xtask drill guided [--minutes N] [--only TARGET]`, `cargo xtask drill asan`,
/// `cargo xtask drill neon [--install]`, `cargo xtask drill writers [-n N]`,
/// `cargo xtask drill garage [--install]`, `cargo xtask drill scale [--files N] [--save]`,
/// `cargo xtask drill hub-suite [--only TEXT] [--program FILE]`, `cargo xtask drill laptop`,
/// `cargo xtask drill reading [--rounds N] [--memory DIR] [--save]` and
/// `cargo xtask drill quantisers [--install] [--library CONTRACTION=FILE]… [--model FILE] [--write]`
pub(crate) fn command(mut args: Args) -> Outcome {
    let which = args.positional().unwrap_or_default();
    match which.as_str() {
        "kill" => {
            let count = args.value("-n")?.unwrap_or(200);
            let rng_seed = args.value("--seed")?.unwrap_or(1);
            args.finish()?;
            kill(&build("mmh", &RELEASE)?, count, rng_seed)
        }
        "fuzz" => {
            let rounds = args.value("-n")?.unwrap_or(200);
            let rng_seed = args.value("--seed")?.unwrap_or(1);
            args.finish()?;
            fuzz(&build("mmh", &RELEASE)?, rounds, rng_seed)
        }
        "large" => {
            let len = args.value::<u64>("--gb")?.unwrap_or(20) * 1_000_000_000;
            args.finish()?;
            large::large(&build("mmh", &RELEASE)?, len)
        }
        "laptop" => {
            args.finish()?;
            laptop::laptop()
        }
        "scale" => scale::command(args),
        "hub-suite" => {
            let only = args.value::<String>("--only")?;
            let program = args.value::<std::path::PathBuf>("--program")?;
            args.finish()?;
            let program = match program {
                Some(program) => program,
                None => build("mmh", &RELEASE)?,
            };
            hub_suite::hub_suite(&program, only.as_deref())
        }
        "guided" => {
            let minutes = args.value("--minutes")?.unwrap_or(60);
            let only = args.value::<String>("--only")?;
            args.finish()?;
            guided::guided(minutes, only.as_deref())
        }
        "asan" => {
            args.finish()?;
            sanitizer::asan()
        }
        "simulate" => {
            let release = [
                "-p",
                "mmh-store",
                "--features",
                "testing",
                "--release",
                "--locked",
            ];
            simulate(&release, &args.rest())
        }
        "neon" => {
            let install = args.flag("--install");
            args.finish()?;
            arm::test(install)
        }
        "writers" => {
            let transactions = args.value("-n")?.unwrap_or(500);
            args.finish()?;
            writers::writers(transactions)
        }
        "quantisers" => quantisers::command(args),
        #[cfg(target_os = "linux")]
        "reading" => reading::command(args),
        #[cfg(unix)]
        "garage" => {
            let install = args.flag("--install");
            args.finish()?;
            garage::garage(&build("mmh", &RELEASE)?, install)
        }
        _ => Err(Failure::usage(
            "say which drill: kill, fuzz, simulate, guided, asan, neon, large, scale, writers, garage, \
             hub-suite, laptop, reading or quantisers",
        )),
    }
}
