//! Writes the inputs from which fuzzing starts.
//!
//! `cargo run -p mmh-xet --features testing --example fuzz_xet -- DIRECTORY` makes the folder `xet` in it,
//! for the fuzz body of `mmh_xet::hostile`.
#![allow(
    clippy::disallowed_methods,
    reason = "a program for the terminal that writes files"
)]

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let place = std::env::args().nth(1).ok_or("usage: seeds DIRECTORY")?;
    let folder = Path::new(&place).join("xet");
    std::fs::create_dir_all(&folder)?;
    for (name, bytes) in mmh_xet::hostile::samples() {
        std::fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}
