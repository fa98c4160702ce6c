//! The encoder and the decoder of frames, and the choice among the methods.

use mmh_core::limits::CHUNK_LEN_MAX;

use crate::error::{Error, Result, corrupt};
use crate::frame::{Header, Method};
use crate::input::Input;
use crate::settings::{Hint, Settings};
use crate::zstd::{Packer, Unpacker};

/// Writes frames. Keeps its buffers and contexts: make one for each thread that encodes.
#[derive(Debug)]
pub struct Encoder {
    settings: Settings,
    packer: Packer,
    packed: Vec<u8>,
    decoder: Decoder,
    decoded: Vec<u8>,
}

impl Encoder {
    /// An encoder with these settings.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            packer: Packer::new(settings.level.zstd()),
            settings,
            packed: Vec::new(),
            decoder: Decoder::new(),
            decoded: Vec::new(),
        }
    }

    /// Replaces the content of `out` with the frame of `raw`, and says how it is coded. The same
    /// content, hint and settings give the same frame on every machine; it exceeds `raw` by at
    /// most [`crate::FRAME_OVERHEAD_MAX`] bytes.
    ///
    /// # Errors
    /// Invalid when `raw` exceeds [`CHUNK_LEN_MAX`]; Internal when the frame does not decode to
    /// `raw`, a fault of this crate.
    pub fn encode(&mut self, raw: &[u8], hint: &Hint, out: &mut Vec<u8>) -> Result<Method> {
        if raw.len() > CHUNK_LEN_MAX {
            return Err(Error::ChunkTooLarge {
                len: raw.len() as u64,
                limit: CHUNK_LEN_MAX as u64,
            });
        }
        let method = self.choose(raw, hint, out)?;
        if self.settings.verify && method != Method::Raw {
            self.decoder.decode(out, raw.len(), &mut self.decoded)?;
            if self.decoded != raw {
                return Err(Error::VerifyFailed {
                    method,
                    len: raw.len() as u64,
                });
            }
        }
        Ok(method)
    }

    fn choose(&mut self, raw: &[u8], _hint: &Hint, out: &mut Vec<u8>) -> Result<Method> {
        self.packer.pack(raw, &mut self.packed)?;
        let (method, body) = if self.packed.len() < raw.len() {
            (Method::Zstd, &self.packed[..])
        } else {
            (Method::Raw, raw)
        };
        out.clear();
        Header {
            method,
            raw_len: raw.len(),
        }
        .put(out);
        out.extend_from_slice(body);
        Ok(method)
    }
}

/// Reads frames. Keeps its buffers and contexts: make one for each thread that decodes.
#[derive(Debug, Default)]
pub struct Decoder {
    unpacker: Unpacker,
}

impl Decoder {
    /// A decoder.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces the content of `out` with the content of `frame`, which may state at most
    /// `raw_len_max` bytes. When it fails, `out` is empty.
    ///
    /// # Errors
    /// Corrupt, or Unsupported when a newer version wrote the frame.
    pub fn decode(&mut self, frame: &[u8], raw_len_max: usize, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        let result = self.decode_into(frame, raw_len_max, out);
        if result.is_err() {
            out.clear();
        }
        result
    }

    fn decode_into(&mut self, frame: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<()> {
        let mut input = Input::new(frame);
        let Header { method, raw_len } = Header::read(&mut input)?;
        if raw_len > limit.min(CHUNK_LEN_MAX) {
            return Err(Error::FrameTooLarge {
                raw_len: raw_len as u64,
                limit: limit as u64,
            });
        }
        let body = input.finish();
        match method {
            Method::Raw if body.len() == raw_len => out.extend_from_slice(body),
            Method::Raw => return corrupt("raw content has another length than stated"),
            Method::Zstd => {
                out.resize(raw_len, 0);
                self.unpacker.unpack(body, out)?;
            }
            _ => {
                return Err(Error::UnknownCode {
                    what: "method",
                    code: method.code(),
                });
            }
        }
        Ok(())
    }
}
