//! The store in simulated worlds, one for each seed: crates/mmh-store/src/sim.rs.

use std::process::Command;

use crate::shell::{Outcome, build_example, run};

/// Builds the simulator with these arguments of cargo, and runs it with `words`.
pub(crate) fn simulate(args: &[&str], words: &[String]) -> Outcome {
    let program = build_example("simulate", args)?;
    run(Command::new(program).args(words))
}
