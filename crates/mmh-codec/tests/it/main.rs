//! What users of the crate rely on, through its public API.

mod by_hand;
mod choice;
mod deltas;
mod differential;
mod edges;
mod engines;
mod golden;
mod hostile;
mod limits;
mod model;
mod ranges;
mod round_trip;
mod service;

use mmh_codec::{Decoder, Encoder, FrameInfo, Hint, Method, Settings, frame_info};

/// Encodes, checks that the content comes back, and returns the frame.
pub(crate) fn encode(raw: &[u8], hint: &Hint) -> (Method, Vec<u8>) {
    let mut frame = Vec::new();
    let method = Encoder::new(Settings::default())
        .encode(raw, hint, &mut frame)
        .expect("the content can be coded");
    let mut back = Vec::new();
    Decoder::new()
        .decode(&frame, raw.len(), &mut back)
        .expect("the content can be coded");
    assert!(back == raw, "{method} {hint:?}");
    assert_eq!(info(&frame).method, method);
    (method, frame)
}

pub(crate) fn info(frame: &[u8]) -> FrameInfo {
    frame_info(frame).expect("the frame is whole")
}
