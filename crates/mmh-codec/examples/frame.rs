//! Codes a file of bare elements in chunks and prints size and speed (of one core, in the time
//! that the thread ran).
//!
//! `cargo run --release -p mmh-codec --example frame -- DTYPE FILE [ROW_LEN] [LEVEL] [ROUNDS] [CHUNK_LEN] [BASE_FILE]`
#![allow(clippy::print_stdout, reason = "a program for the terminal")]

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use mmh_codec::{Base, Context, Decoder, Encoder, Hint, Level, Settings, frame_info};
use mmh_core::Dtype;
use mmh_core::limits::TENSOR_CHUNK_LEN;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dtype, file, rest @ ..] = &args[..] else {
        return Err(
            "usage: frame DTYPE FILE [ROW_LEN] [LEVEL] [ROUNDS] [CHUNK_LEN] [BASE_FILE]".into(),
        );
    };
    let dtype = if dtype == "bytes" {
        None
    } else {
        Some(dtype.parse::<Dtype>()?)
    };
    let row_len = rest.first().map_or(Ok(0), |row| row.parse())?;
    let level = rest
        .get(1)
        .map_or(Ok(Level::Default), |level| level.parse())?;
    let rounds = rest.get(2).map_or(Ok(1), |rounds| rounds.parse::<u32>())?;
    let content = std::fs::read(file)?;
    let (elements, unit) = dtype.map_or((1, 1), Dtype::block);
    let chunk_len = rest
        .get(3)
        .map_or(Ok(TENSOR_CHUNK_LEN), |len| len.parse())?;
    let chunk_len = chunk_len / unit as usize * unit as usize;
    let base_file = rest.get(4).map_or(Ok(Vec::new()), std::fs::read)?;
    // One name for every chunk: what is given here is what the frames were made with.
    let context_of = |i: usize| Context {
        base: base_file
            .chunks(chunk_len)
            .nth(i)
            .map(|raw| Base { id: [0; 32], raw }),
    };

    let mut encoders = [false, true].map(|verify| Encoder::new(Settings { level, verify }));
    let mut frames = Vec::new();
    let mut encoding = [Duration::MAX; 2];
    for round in 0..2 * rounds as usize {
        frames.clear();
        let encoder = &mut encoders[round % 2];
        let (mut frame, mut time) = (Vec::new(), Duration::ZERO);
        for (i, chunk) in content.chunks(chunk_len).enumerate() {
            let hint = Hint {
                dtype,
                row_len,
                first: (i * chunk_len / unit as usize * elements as usize) as u64,
            };
            let context = context_of(i);
            let start = now();
            encoder.encode_with(chunk, &hint, &context, &mut frame)?;
            time += now().saturating_sub(start);
            frames.push(frame.clone());
        }
        encoding[round % 2] = time.min(encoding[round % 2]);
    }

    let mut decoder = Decoder::new();
    let mut decoding = Duration::MAX;
    for _ in 0..rounds {
        let (mut back, mut time) = (Vec::new(), Duration::ZERO);
        for (i, (frame, chunk)) in frames.iter().zip(content.chunks(chunk_len)).enumerate() {
            let context = context_of(i);
            let start = now();
            decoder.decode_with(frame, &context, chunk.len(), &mut back)?;
            time += now().saturating_sub(start);
            assert_eq!(back, chunk, "a frame must decode to its content");
        }
        decoding = decoding.min(time);
    }

    let coded: usize = frames.iter().map(Vec::len).sum();
    let speed = |time: Duration| content.len() as f64 / 1e6 / time.as_secs_f64();
    let percent = |len: usize| 100.0 * len as f64 / content.len() as f64;
    println!(
        "{:.3} %  encode {:.0} MB/s  verified {:.0} MB/s  decode {:.0} MB/s  {file}",
        percent(coded),
        speed(encoding[0]),
        speed(encoding[1]),
        speed(decoding)
    );
    let mut parts: BTreeMap<(&str, &str, &str), (usize, usize)> = BTreeMap::new();
    for frame in &frames {
        let info = frame_info(frame)?;
        let whole = parts.entry((info.method.as_str(), "", "")).or_default();
        *whole = (whole.0 + 1, whole.1 + frame.len());
        for plane in info.planes {
            let part = parts
                .entry((info.method.as_str(), plane.name, plane.coder))
                .or_default();
            *part = (part.0 + 1, part.1 + plane.coded_len);
        }
    }
    for ((method, plane, coder), (n, len)) in parts {
        println!(
            "  {method:8} {plane:10} {coder:10} {n:6} times {:8.3} %",
            percent(len)
        );
    }
    Ok(())
}

/// The time that this thread ran, where the system tells; else the time that passed.
fn now() -> Duration {
    #[cfg(target_os = "linux")]
    {
        let ran = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::try_from(ran).unwrap_or_default()
    }
    #[cfg(not(target_os = "linux"))]
    {
        static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        START.get_or_init(std::time::Instant::now).elapsed()
    }
}
