//! Writes the inputs from which fuzzing starts: small frames of every method, and small content.
//!
//! `cargo run -p mmh-codec --features testing --example fuzz_frames -- DIRECTORY` makes the folders `frame`
//! and `content` in it, for the fuzz bodies of `mmh_codec::hostile`.
#![allow(
    clippy::disallowed_methods,
    reason = "a program for the terminal that writes files"
)]

use std::error::Error;
use std::path::Path;

use mmh_codec::hostile::{content_seeds, frame_seeds};

fn main() -> Result<(), Box<dyn Error>> {
    let place = std::env::args().nth(1).ok_or("usage: seeds DIRECTORY")?;
    for (folder, seeds) in [("frame", frame_seeds()), ("content", content_seeds())] {
        let folder = Path::new(&place).join(folder);
        std::fs::create_dir_all(&folder)?;
        for (name, bytes) in seeds {
            std::fs::write(folder.join(name), bytes)?;
        }
    }
    Ok(())
}
