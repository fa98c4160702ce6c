//! A file far larger than memory: added and restored within a bound.

use std::path::Path;

use crate::compare;
use crate::fixture;
use crate::mmh::{Mmh, Watched};
use crate::shell::{Failure, Outcome, Scratch};
use crate::table::{Table, bytes, seconds};

/// The bound of memory for a file of any size, apart from blocks in flight.
const RSS_MAX: u64 = 256 << 20;
/// What one worker may hold in flight: a few chunks of at most 4 MiB.
const IN_FLIGHT_PER_THREAD: u64 = 16 << 20;

/// Adds and restores a file of `len` bytes and compares memory with the bound.
pub(crate) fn large(program: &Path, len: u64) -> Outcome {
    let scratch = Scratch::new("drill-large")?;
    let folder = scratch.path().join("model");
    std::fs::create_dir_all(&folder)
        .map_err(|error| Failure::failed(format!("{}: {error}", folder.display())))?;
    fixture::sparse_model(&folder.join("large.safetensors"), 1, len)?;
    let mmh = Mmh::init(program, &scratch.path().join("repository"))?;
    let name = "drill/large";
    let add = mmh.watch([
        "add".as_ref(),
        folder.as_os_str(),
        "--to".as_ref(),
        name.as_ref(),
    ])?;
    let stored = compare::size(&mmh.repository)?;
    let restored = scratch.path().join("restored");
    let get = mmh.watch(["get".as_ref(), name.as_ref(), restored.as_os_str()])?;
    let verify = mmh.watch(["verify"])?;
    let equal = compare::trees(&folder, &restored)?;

    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let bound = RSS_MAX + threads * IN_FLIGHT_PER_THREAD;
    let mut table = Table::new(&["command", "time", "peak memory", "bound"]);
    let mut worst = Some(0);
    for (command, watched) in [("add", add), ("get", get), ("verify", verify)] {
        let Watched { time, peak_rss } = watched;
        let peak = peak_rss.map_or_else(|| "not measured".to_owned(), bytes);
        table.row([command.to_owned(), seconds(time), peak, bytes(bound)]);
        worst = worst.max(peak_rss);
    }
    print!("{}", table.text());
    println!(
        "{} restored byte for byte, {} stored",
        bytes(equal.bytes),
        bytes(stored)
    );
    match worst {
        Some(peak) if peak > bound => Err(Failure::failed("memory is over the bound")),
        Some(0) | None => Err(Failure::unavailable(
            "this system does not tell a program's memory",
        )),
        Some(_) => Ok(()),
    }
}
