//! Reads a few rows out of a frame, then all of it from several threads.
//!
//! `cargo run --release -p mmh-codec --features testing --example ranges`
#![allow(clippy::print_stdout, reason = "a program for the terminal")]

use std::error::Error;
use std::thread;

use mmh_codec::samples::weights;
use mmh_codec::{BLOCK_LEN, Context, Decoder, Encoder, Hint, Settings};
use mmh_core::Dtype;

const ROW_LEN: usize = 1024;
const ROW_BYTES: usize = 2 * ROW_LEN;

fn main() -> Result<(), Box<dyn Error>> {
    let raw = weights(Dtype::BF16, ROW_LEN, 4 << 20, 1);
    let mut frame = Vec::new();
    let hint = Hint::tensor(Dtype::BF16, ROW_LEN as u64);
    Encoder::new(Settings::default()).encode(&raw, &hint, &mut frame)?;
    println!("{} bytes in a frame of {}", raw.len(), frame.len());

    // Rows 700 to 710: one block of the eight is decoded.
    let mut rows = Vec::new();
    let range = 700 * ROW_BYTES..710 * ROW_BYTES;
    Decoder::new().decode_range(&frame, &Context::default(), range.clone(), &mut rows)?;
    assert_eq!(rows, raw[range]);
    println!("ten rows are {} bytes", rows.len());

    // A thread for each part of whole blocks; none decodes what another needs.
    let part_len = 2 * 2 * BLOCK_LEN;
    let parts = thread::scope(|scope| {
        let starts = (0..raw.len()).step_by(part_len);
        let read = |start: usize| {
            let (frame, end) = (&frame, (start + part_len).min(raw.len()));
            scope.spawn(move || {
                let mut part = Vec::new();
                let context = Context::default();
                let done = Decoder::new().decode_range(frame, &context, start..end, &mut part);
                done.map(|()| part)
            })
        };
        let threads: Vec<_> = starts.map(read).collect();
        threads
            .into_iter()
            .map(|t| t.join().map_err(|_| "a thread panicked"))
            .collect::<Result<Vec<_>, _>>()
    })?;
    let parts = parts.into_iter().collect::<Result<Vec<_>, _>>()?;
    assert_eq!(parts.concat(), raw);
    println!("{} threads read the same", parts.len());
    Ok(())
}
