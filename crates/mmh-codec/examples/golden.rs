//! Writes the golden frames of the current format version: run once for a version, by hand.
//!
//! `cargo run -p mmh-codec --features testing --example golden -- testdata/v1/codec`
//! An existing file is never replaced: what a version wrote is read for ever.
#![allow(
    clippy::disallowed_methods,
    reason = "a program for the terminal that writes files"
)]

use std::error::Error;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use mmh_codec::samples::{convolution, moved, weights};
use mmh_codec::{Base, Context, Encoder, Hint, Level, Settings};
use mmh_core::{Digest, Dtype};

fn main() -> Result<(), Box<dyn Error>> {
    let place = std::env::args().nth(1).ok_or("usage: golden DIRECTORY")?;
    let place = Path::new(&place);
    std::fs::create_dir_all(place)?;
    let mut manifest = String::new();
    for (name, hint, raw, base) in samples().into_iter().chain(deltas()) {
        let mut frame = Vec::new();
        let level = if name.ends_with("mixed") {
            Level::Archive
        } else {
            Level::Default
        };
        let settings = Settings {
            level,
            verify: true,
        };
        let base = base.as_ref().map(|raw| Base {
            id: *Digest::of(raw).as_bytes(),
            raw,
        });
        let context = Context { base };
        Encoder::new(settings).encode_with(&raw, &hint, &context, &mut frame)?;
        write_new(&place.join(format!("{name}.frame")), &frame)?;
        writeln!(
            manifest,
            "{name} {} {} {}",
            raw.len(),
            Digest::of(&frame),
            Digest::of(&raw)
        )?;
    }
    write_new(&place.join("MANIFEST"), manifest.as_bytes())
}

/// Name, hint, content, and a base that is the content of another sample.
type Sample = (String, Hint, Vec<u8>, Option<Vec<u8>>);

/// Content that is near that of the samples of the same types.
fn deltas() -> Vec<Sample> {
    let near = |(i, &dtype): (u64, &Dtype)| {
        let base = weights(dtype, 192, 20_003, i);
        let raw = moved(&base, dtype, 6, i);
        let name = format!("{}-delta", dtype.as_str().to_lowercase());
        (name, Hint::tensor(dtype, 192), raw, Some(base))
    };
    let floats = [Dtype::BF16, Dtype::F16, Dtype::F32];
    let all = (0u64..).zip(Dtype::ALL);
    all.filter(|(_, dtype)| floats.contains(dtype))
        .map(near)
        .collect()
}

/// Content of each element type, then of the kinds that take other paths.
fn samples() -> Vec<Sample> {
    let mut samples = Vec::new();
    for (i, &dtype) in (0u64..).zip(Dtype::ALL) {
        let raw = weights(dtype, 192, 20_003, i);
        let name = dtype.as_str().to_lowercase();
        samples.push((name, Hint::tensor(dtype, 192), raw, None));
    }
    let mut add = |name: &str, hint, raw| samples.push((name.to_owned(), hint, raw, None));
    let text = "A model is a file; a file is bytes. "
        .repeat(40)
        .into_bytes();
    add("text", Hint::bytes(), text);
    add("empty", Hint::bytes(), Vec::new());
    add("noise", Hint::bytes(), weights(Dtype::F32, 1, 500, 77));
    add("zeros", Hint::tensor(Dtype::F32, 64), vec![0; 70_000]);
    let widened = weights(Dtype::BF16, 64, 9000, 3);
    let widened = widened
        .as_chunks()
        .0
        .iter()
        .flat_map(|&[a, b]: &[u8; 2]| [0, 0, a, b])
        .collect();
    add("f32-from-bf16", Hint::tensor(Dtype::F32, 64), widened);
    let fine = weights(Dtype::F32, usize::MAX, 4 * 100_003, 5);
    add("f32-bins", Hint::tensor(Dtype::F32, 64), fine);
    let long = weights(Dtype::BF16, 640, 2 * 400_037, 4);
    add(
        "bf16-blocks",
        Hint {
            first: 64 * 7,
            ..Hint::tensor(Dtype::BF16, 640)
        },
        long,
    );
    for (dtype, sides) in [
        (Dtype::BF16, [3, 3, 1]),
        (Dtype::F32, [3, 3, 3]),
        (Dtype::F16, [1, 1, 1]),
    ] {
        let taps: usize = sides.iter().product();
        let channels = 192 / taps;
        let hint = Hint {
            first: 50,
            ..Hint::tensor(dtype, (channels * taps) as u64)
        };
        let name = format!("{}-dense{taps}", dtype.as_str().to_lowercase());
        let raw = convolution(dtype, sides, channels, 17_050, 8);
        add(&name, hint, raw[50 * dtype.block().1 as usize..].to_vec());
    }
    for dtype in [Dtype::BF16, Dtype::F16, Dtype::F32] {
        let mut raw = weights(dtype, 192, 30_003, 12);
        // A dead row in sixteen.
        for row in raw.chunks_mut(192 * dtype.block().1 as usize).step_by(16) {
            row.iter_mut().for_each(|byte| *byte &= 0x8f);
        }
        let name = format!("{}-mixed", dtype.as_str().to_lowercase());
        let hint = Hint {
            first: 100,
            ..Hint::tensor(dtype, 192)
        };
        samples.push((name, hint, raw, None));
    }
    samples
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    Ok(file.write_all(bytes)?)
}
