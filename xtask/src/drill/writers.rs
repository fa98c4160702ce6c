//! Eight writers with 500 transactions each on every engine: all there, no gap, and how fast.

use crate::engines;
use crate::shell::{Outcome, cargo, run};

/// Runs the tests of engines with so many transactions a writer. They print the rates.
pub(crate) fn writers(transactions: u64) -> Outcome {
    for missing in engines::provide() {
        println!("LEFT OUT: {missing}");
    }
    let mut test = cargo();
    test.args([
        "test",
        "--locked",
        "-p",
        "mmh-store",
        "--all-features",
        "--test",
        "it",
    ]);
    test.args(["--", "--nocapture", "--test-threads=1", "engines::"]);
    run(test.env("MMH_TRANSACTIONS", transactions.to_string()))
}
