//! Where the store meets the codec: what a frame says of itself, and decoding to verified bytes.

use bytes::Bytes;
use mmh_codec::{Decoder, frame_info};
use mmh_core::{ChunkId, ErrorKind, Verified, limits};

/// Longest frame of a chunk that is stored or read, in bytes: a raw chunk and its frame's head.
pub const FRAME_LEN_MAX: usize = limits::CHUNK_LEN_MAX + 4096;

/// Length of the chunk, and the frame's second byte: method, and which references it has.
pub(crate) fn head(frame: &[u8]) -> Result<(u32, u8), String> {
    let info = frame_info(frame).map_err(|e| e.to_string())?;
    let raw_len = u32::try_from(info.raw_len).map_err(|_| "the chunk is too long".to_owned())?;
    Ok((raw_len, frame[1]))
}

/// Decodes a frame of a chunk of at most [`limits::CHUNK_LEN_MAX`] bytes.
pub(crate) fn decode(frame: &[u8]) -> Result<Vec<u8>, String> {
    let mut raw = Vec::new();
    Decoder::new()
        .decode(frame, limits::CHUNK_LEN_MAX, &mut raw)
        .map_err(|e| e.to_string())?;
    Ok(raw)
}

/// What the codec says of a frame that it cannot read because a newer version wrote it; `None` if
/// that is not what is wrong with it.
pub(crate) fn unknown(frame: &[u8]) -> Option<String> {
    let decoded = Decoder::new().decode(frame, limits::CHUNK_LEN_MAX, &mut Vec::new());
    let error = decoded.err()?;
    (error.kind() == ErrorKind::Unsupported).then(|| error.to_string())
}

/// Decodes a frame and compares the bytes with the id.
pub(crate) fn verified(frame: &[u8], id: &ChunkId) -> Result<Verified<Bytes>, String> {
    Verified::chunk(id, decode(frame)?.into()).map_err(|e| e.to_string())
}
