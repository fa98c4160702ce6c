//! Writes the inputs from which fuzzing starts: small frames of every method, and small content.
//!
//! `cargo run -p mmh-codec --features testing --example seeds -- DIRECTORY` makes the folders `frame`
//! and `content` in it, for the fuzz bodies of `mmh_codec::hostile`.
#![allow(
    clippy::disallowed_methods,
    reason = "a program for the terminal that writes files"
)]

use std::error::Error;
use std::path::{Path, PathBuf};

use mmh_codec::hostile::base_content;
use mmh_codec::samples::{convolution, moved, quantised, weights};
use mmh_codec::{Base, Context, Encoder, Hint, Level, Settings};
use mmh_core::Dtype;

fn main() -> Result<(), Box<dyn Error>> {
    let place = std::env::args().nth(1).ok_or("usage: seeds DIRECTORY")?;
    let [frames, contents] = ["frame", "content"].map(|name| Path::new(&place).join(name));
    for folder in [&frames, &contents] {
        std::fs::create_dir_all(folder)?;
    }
    for (kind, &dtype) in (0u8..).zip(Dtype::ALL) {
        for (row, raw) in samples(dtype) {
            let name = format!("{dtype}-{row}-{}", raw.len());
            for level in Level::ALL {
                let settings = Settings {
                    level,
                    verify: true,
                };
                let put = |name: &str, raw: &[u8], base: Option<&[u8]>| {
                    let path = frames.join(format!("{name}-{level}"));
                    put_frame(
                        path,
                        &settings,
                        (raw, base),
                        &Hint::tensor(dtype, row.into()),
                    )
                };
                put(&name, &raw, None)?;
                if matches!(dtype, Dtype::BF16 | Dtype::F16 | Dtype::F32) {
                    let base = &base_content()[..raw.len()];
                    let next = moved(base, dtype, usize::from(row % 13), u64::from(row));
                    put(&format!("{name}-moved"), &next, Some(base))?;
                }
            }
            for how in [4, 5, 6, 8, 20] {
                let head = [kind, row, 0, how];
                std::fs::write(
                    contents.join(format!("{name}-{how}")),
                    [&head, &raw[..]].concat(),
                )?;
            }
        }
    }
    Ok(())
}

/// Content of a type, and the length of its rows.
fn samples(dtype: Dtype) -> Vec<(u8, Vec<u8>)> {
    let mut samples = Vec::new();
    for (row, len) in [(64, 300), (100, 1_501), (192, 4_000), (9, 640)] {
        samples.push((row, weights(dtype, row.into(), len, len as u64)));
    }
    if matches!(dtype, Dtype::BF16 | Dtype::F16 | Dtype::F32) {
        samples.push((72, convolution(dtype, [3, 3, 1], 8, 1_440, 2)));
    }
    let blocks = quantised(dtype, 12, 3);
    if !blocks.is_empty() {
        samples.push((0, blocks));
    }
    samples
}

fn put_frame(
    path: PathBuf,
    settings: &Settings,
    (raw, base): (&[u8], Option<&[u8]>),
    hint: &Hint,
) -> Result<(), Box<dyn Error>> {
    let context = Context {
        base: base.map(|raw| Base { id: [7; 32], raw }),
        ..Context::default()
    };
    let mut frame = Vec::new();
    Encoder::new(settings.clone()).encode_with(raw, hint, &context, &mut frame)?;
    std::fs::write(path, frame)?;
    Ok(())
}
