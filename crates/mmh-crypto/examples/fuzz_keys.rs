//! Writes the inputs from which fuzzing starts.
//!
//! `cargo run -p mmh-crypto --features testing --example fuzz_keys -- DIRECTORY` makes the folder `crypto`
//! in it, for the fuzz body of `mmh_crypto::hostile`.
#![allow(
    clippy::disallowed_methods,
    reason = "a program for the terminal that writes files"
)]

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let place = std::env::args().nth(1).ok_or("usage: seeds DIRECTORY")?;
    let folder = Path::new(&place).join("crypto");
    std::fs::create_dir_all(&folder)?;
    for (name, bytes) in mmh_crypto::hostile::samples()? {
        std::fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}
