//! Encodes a new version of a tensor as what changed since the old one.
//!
//! `cargo run --release -p mmh-codec --features testing --example references`
#![allow(clippy::print_stdout, reason = "a program for the terminal")]

use std::error::Error;

use mmh_codec::samples::weights;
use mmh_codec::{
    Base, Context, Decoder, Encoder, HEADER_LEN_MAX, Hint, Settings, frame_info, references,
};
use mmh_core::{Digest, Dtype};

fn main() -> Result<(), Box<dyn Error>> {
    // The old version, and a new one in which a third of the numbers moved a little.
    let old = weights(Dtype::BF16, 1024, 1 << 20, 1);
    let mut new = old.clone();
    for number in new.as_chunks_mut::<2>().0.iter_mut().step_by(3) {
        *number = (u16::from_le_bytes(*number) ^ 1).to_le_bytes();
    }

    // Any 32 bytes may name it; a digest names content for everyone.
    let id = *Digest::of(&old).as_bytes();
    let context = Context {
        base: Some(Base { id, raw: &old }),
    };
    let hint = Hint::tensor(Dtype::BF16, 1024);
    let mut encoder = Encoder::new(Settings::default());
    let (mut alone, mut frame) = (Vec::new(), Vec::new());
    encoder.encode(&new, &hint, &mut alone)?;
    let method = encoder.encode_with(&new, &hint, &context, &mut frame)?;
    println!(
        "{} bytes: alone {}, {method} {}",
        new.len(),
        alone.len(),
        frame.len()
    );

    // A reader asks the frame what it needs before it decodes it.
    let needed = references(&frame[..frame.len().min(HEADER_LEN_MAX)])?;
    assert_eq!(needed.base, Some(id));
    let (mut decoder, mut back) = (Decoder::new(), Vec::new());
    decoder.decode_with(&frame, &context, new.len(), &mut back)?;
    assert_eq!(back, new);

    // Without it there is an error that names it.
    let missing = decoder.decode(&frame, new.len(), &mut back).err();
    println!("{}", missing.ok_or("a base is needed")?);
    for plane in frame_info(&frame)?.planes {
        println!(
            "  {:10} {:8} {} bytes",
            plane.name, plane.coder, plane.coded_len
        );
    }
    Ok(())
}
