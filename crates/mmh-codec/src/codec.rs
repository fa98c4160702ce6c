//! The encoder and the decoder of frames, and the choice among the methods.

mod range;

use mmh_core::limits::CHUNK_LEN_MAX;

use crate::body::{is_body_of, put_body, read_body};
use crate::cluster::Effort;
use crate::delta::{put_delta, read_delta};
use crate::entropy::{Engine, best};
use crate::error::{Error, Result, corrupt};
use crate::frame::{
    ContentId, Header, Method, References, compare_checks, put_checks, read_checks,
};
use crate::input::Input;
use crate::layout::{Layout, of_nibbles};
use crate::mix::{put_mixed, read_mixed};
use crate::plane::{Buffers, PlaneDecoder, PlaneEncoder, Scratch};
use crate::settings::{Base, Context, Hint, Level, Settings};
use crate::zstd::{Packer, Unpacker, may_pack, repeats};

/// Of chunks up to this long, all bytes are looked at to see whether zstd is worth a try.
const SHORT: usize = 16 << 10;

/// Writes frames. Keeps its buffers and contexts: make one for each thread that encodes.
#[derive(Debug)]
pub struct Encoder {
    settings: Settings,
    engine: &'static dyn Engine,
    packer: Packer,
    scratch: Scratch,
    packed: Vec<u8>,
    delta: Vec<u8>,
    decoder: Decoder,
    decoded: Vec<u8>,
}

impl Encoder {
    /// An encoder with these settings.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self::with_engine(settings, best())
    }

    /// An encoder with an engine of the caller's choice; each writes the same frames.
    #[must_use]
    pub fn with_engine(settings: Settings, engine: &'static dyn Engine) -> Self {
        Self {
            packer: Packer::new(settings.level.zstd()),
            settings,
            engine,
            scratch: Scratch::default(),
            packed: Vec::new(),
            delta: Vec::new(),
            decoder: Decoder::with_engine(engine),
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
        self.encode_with(raw, hint, &Context::default(), out)
    }

    /// As [`Self::encode`], with content that the frame may refer to; it does when that is shorter.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_with(
        &mut self,
        raw: &[u8],
        hint: &Hint,
        context: &Context<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Method> {
        if raw.len() > CHUNK_LEN_MAX {
            return Err(Error::ChunkTooLarge {
                len: raw.len() as u64,
                limit: CHUNK_LEN_MAX as u64,
            });
        }
        let method = self.choose(raw, hint, context, out)?;
        if self.settings.verify {
            let decoded = &mut self.decoded;
            let same = self.decoder.is_frame_of(out, context, raw, decoded);
            if same != Ok(true) {
                return Err(Error::VerifyFailed {
                    method,
                    len: raw.len() as u64,
                });
            }
        }
        Ok(method)
    }

    /// Writes the shortest of the frames worth trying.
    fn choose(
        &mut self,
        raw: &[u8],
        hint: &Hint,
        context: &Context<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Method> {
        let planes = hint
            .dtype
            .and_then(|dtype| Some((Layout::of(dtype)?, dtype)));
        out.clear();
        let mut method = Method::Raw;
        let mut best = raw.len();
        if let Some((layout, dtype)) = planes.filter(|_| !raw.is_empty()) {
            let nibbles = of_nibbles(layout, raw, hint);
            let layout = nibbles.map_or(layout, |_| Layout::Nibbles);
            let hint = &nibbles.unwrap_or(*hint);
            method = layout.method();
            // At once, so that nothing moves while the frame grows.
            out.reserve(raw.len());
            let start = put_header(method, raw, References::default(), out);
            put_checks(raw, &self.engine.kernels(), out);
            let mut encoder = PlaneEncoder {
                engine: self.engine,
                packer: &mut self.packer,
                scratch: &mut self.scratch,
                effort: effort(self.settings.level),
                dense: self.settings.level != Level::Fast,
            };
            put_body(&mut encoder, (layout, dtype), raw, hint, out)?;
            best = out.len() - start;
            if self.settings.level == Level::Archive {
                let mut mixed = Vec::new();
                let start = put_header(Method::Mixed, raw, References::default(), &mut mixed);
                put_checks(raw, &self.engine.kernels(), &mut mixed);
                let written = put_mixed(&mut encoder, (layout, dtype), raw, hint, &mut mixed)?;
                if written && mixed.len() - start < best {
                    method = Method::Mixed;
                    best = mixed.len() - start;
                    *out = mixed;
                }
            }
        }
        let bytes = planes.is_none_or(|(layout, _)| layout.sequential());
        let short = raw.len() <= SHORT && may_pack(raw, best);
        if bytes || short || repeats(raw) {
            self.packer.pack(raw, &mut self.packed)?;
            if self.packed.len() < best {
                method = Method::Zstd;
                best = self.packed.len();
                out.clear();
                put_header(method, raw, References::default(), out);
                out.extend_from_slice(&self.packed);
            }
        }
        if method == Method::Raw || best >= raw.len() {
            method = Method::Raw;
            out.clear();
            put_header(method, raw, References::default(), out);
            out.extend_from_slice(raw);
        }
        if let Some(base) = context.base
            && self.put_delta(raw, hint, base)?
            && self.delta.len() < out.len()
        {
            method = Method::Delta;
            std::mem::swap(&mut self.delta, out);
        }
        Ok(method)
    }

    /// Makes the frame that codes `raw` as its difference from a base, unless it does not pay.
    fn put_delta(&mut self, raw: &[u8], hint: &Hint, base: Base<'_>) -> Result<bool> {
        let layout = hint.dtype.and_then(Layout::of);
        let Some(layout @ Layout::Float(format)) = layout else {
            return Ok(false);
        };
        if base.raw.len() != raw.len() || raw.is_empty() {
            return Ok(false);
        }
        let references = References {
            base: Some(base.id),
        };
        self.delta.clear();
        put_header(Method::Delta, raw, references, &mut self.delta);
        put_checks(raw, &self.engine.kernels(), &mut self.delta);
        let mut encoder = PlaneEncoder {
            engine: self.engine,
            packer: &mut self.packer,
            scratch: &mut self.scratch,
            effort: effort(self.settings.level),
            dense: false,
        };
        let pair = (raw, base.raw);
        put_delta(&mut encoder, (layout, format), pair, hint, &mut self.delta)
    }
}

fn put_header(method: Method, raw: &[u8], references: References, out: &mut Vec<u8>) -> usize {
    Header {
        method,
        raw_len: raw.len(),
        references,
    }
    .put(out);
    out.len()
}

fn effort(level: Level) -> Effort {
    match level {
        Level::Fast => Effort {
            classes_max: 4,
            rounds: 2,
        },
        Level::Default => Effort {
            classes_max: 32,
            rounds: 3,
        },
        Level::Archive => Effort {
            classes_max: 32,
            rounds: 8,
        },
    }
}

/// Reads frames. Keeps its contexts: make one for each thread that decodes. Beside the content
/// it holds at most 32 bytes for each byte of content, and for floats at most 8.
#[derive(Debug)]
pub struct Decoder {
    engine: &'static dyn Engine,
    unpacker: Unpacker,
    buffers: Buffers,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::with_engine(best())
    }
}

impl Decoder {
    /// A decoder.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A decoder with an engine of the caller's choice; each reads the same content.
    #[must_use]
    pub fn with_engine(engine: &'static dyn Engine) -> Self {
        Self {
            engine,
            unpacker: Unpacker::default(),
            buffers: Buffers::default(),
        }
    }

    /// Replaces the content of `out` with the content of `frame`, which may state at most
    /// `raw_len_max` bytes. When it fails, `out` is empty.
    ///
    /// # Errors
    /// Corrupt, or Unsupported when a newer version wrote the frame.
    pub fn decode(&mut self, frame: &[u8], raw_len_max: usize, out: &mut Vec<u8>) -> Result<()> {
        self.decode_with(frame, &Context::default(), raw_len_max, out)
    }

    /// As [`Self::decode`], for a frame that refers to other content.
    ///
    /// # Errors
    /// As [`Self::decode`]; `NotFound` when the frame refers to what `context` does not have.
    pub fn decode_with(
        &mut self,
        frame: &[u8],
        context: &Context<'_>,
        raw_len_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let result = self.decode_into(frame, context, raw_len_max, out);
        if result.is_err() {
            out.clear();
        }
        result
    }

    /// Whether a frame decodes to `raw`, with `room` for what is decoded.
    fn is_frame_of(
        &mut self,
        frame: &[u8],
        context: &Context<'_>,
        raw: &[u8],
        room: &mut Vec<u8>,
    ) -> Result<bool> {
        let mut input = Input::new(frame);
        let header = Header::read(&mut input)?;
        if header.method != Method::Float {
            self.decode_into(frame, context, raw.len(), room)?;
            return Ok(room == raw);
        }
        let checks = read_checks(header.raw_len, &mut input)?;
        let mut decoder = PlaneDecoder {
            engine: self.engine,
            unpacker: &mut self.unpacker,
            buffers: &mut self.buffers,
        };
        let same = is_body_of(&mut decoder, header.method, input.finish(), raw, room)?;
        compare_checks(raw, checks, &self.engine.kernels())?;
        Ok(same && header.raw_len == raw.len())
    }

    /// Overwrites what `out` has, which need not be cleared for it.
    fn decode_into(
        &mut self,
        frame: &[u8],
        context: &Context<'_>,
        limit: usize,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let mut input = Input::new(frame);
        let Header {
            method,
            raw_len,
            references,
        } = Header::read(&mut input)?;
        let limit = limit.min(CHUNK_LEN_MAX);
        if raw_len > limit {
            return Err(Error::FrameTooLarge {
                raw_len: raw_len as u64,
                limit: limit as u64,
            });
        }
        let base = find("base", references.base, context.base)?;
        let checks = if method.has_checks() {
            read_checks(raw_len, &mut input)?
        } else {
            &[]
        };
        let body = input.finish();
        match method {
            Method::Raw if body.len() == raw_len => {
                out.clear();
                out.extend_from_slice(body);
            }
            Method::Raw => return corrupt("raw content has another length than stated"),
            Method::Zstd => {
                out.resize(raw_len, 0);
                self.unpacker.unpack(body, out)?;
            }
            Method::Float | Method::Integer | Method::Block | Method::Delta | Method::Mixed => {
                if method != Method::Delta {
                    out.resize(raw_len, 0);
                }
                let mut decoder = PlaneDecoder {
                    engine: self.engine,
                    unpacker: &mut self.unpacker,
                    buffers: &mut self.buffers,
                };
                match (base, method) {
                    (Some(base), _) => {
                        let all = (raw_len, 0..raw_len);
                        read_delta(&mut decoder, body, base.raw, all, out)?;
                    }
                    (None, Method::Mixed) => read_mixed(&mut decoder, body, out)?,
                    (None, _) => read_body(&mut decoder, method, body, out)?,
                }
                compare_checks(out, checks, &self.engine.kernels())?;
            }
        }
        Ok(())
    }
}

/// The content that a frame refers to, if it refers to any.
fn find<'a>(
    what: &'static str,
    wanted: Option<ContentId>,
    given: Option<Base<'a>>,
) -> Result<Option<Base<'a>>> {
    match (wanted, given) {
        (None, _) => Ok(None),
        (Some(id), Some(base)) if base.id == id => Ok(Some(base)),
        (Some(id), _) => Err(Error::MissingReference { what, id }),
    }
}

#[cfg(test)]
mod tests {
    use mmh_core::Dtype;

    use super::*;
    use crate::entropy::Reference;
    use crate::samples::weights;

    /// Comparing block by block says what decoding and comparing all says, of whole frames and of
    /// flipped ones.
    #[test]
    fn frames_are_of_what_they_decode_to_and_of_nothing_else() {
        let (mut encoder, mut decoder) = (Encoder::new(Settings::default()), Decoder::new());
        let like = crate::samples::convolution(Dtype::BF16, [3, 3, 1], 32, 1 << 15, 1);
        let odd = [&weights(Dtype::F32, 100, 9000, 3)[..], b"end"].concat();
        let long = weights(Dtype::BF16, 1000, 600_000, 3);
        let none = Context::default();
        for (raw, dtype, row_len, step) in [
            (&like, Dtype::BF16, 288, 211),
            (&odd, Dtype::F32, 100, 97),
            (&long, Dtype::BF16, 1000, 300_007),
        ] {
            let (hint, mut frame) = (Hint::tensor(dtype, row_len), Vec::new());
            let method = encoder.encode(raw, &hint, &mut frame).unwrap();
            assert_eq!(method, Method::Float);
            let (mut room, mut out) = (Vec::new(), Vec::new());
            let mut of = |frame: &[u8], raw: &[u8]| {
                decoder.is_frame_of(frame, &none, raw, &mut room) == Ok(true)
            };
            assert!(of(&frame, raw));
            assert!(!of(&frame, &raw[1..]) && !of(&frame, &raw[..raw.len() - 1]));
            for at in [0, raw.len() / 2, raw.len() - 1] {
                let mut other = raw.clone();
                other[at] ^= 1;
                assert!(!of(&frame, &other), "byte {at} of the content");
            }
            for at in (0..frame.len()).step_by(step) {
                let mut bad = frame.clone();
                bad[at] ^= 1 << (at % 8);
                let decoded = Decoder::new().decode(&bad, raw.len(), &mut out);
                let same = decoded.is_ok() && out == *raw;
                assert_eq!(of(&bad, raw), same, "byte {at} of the frame");
                assert!(!of(&frame[..at], raw), "cut at {at}");
            }
        }
    }

    /// A decoder that gives other bytes is a fault to be reported, never a frame to be kept.
    #[test]
    fn a_frame_that_decodes_to_other_bytes_is_never_handed_out() {
        #[derive(Debug)]
        struct Faulty;
        impl Engine for Faulty {
            fn name(&self) -> &'static str {
                "faulty"
            }
            fn encode(
                &self,
                set: &crate::entropy::EncodeSet,
                classes: crate::entropy::Classes<'_>,
                symbols: &[u8],
                out: &mut Vec<u8>,
            ) -> Result<()> {
                let mut symbols = symbols.to_vec();
                let other = symbols.iter().position(|&symbol| symbol != symbols[0]);
                symbols.swap(0, other.filter(|&i| i < 64).unwrap());
                Reference.encode(set, classes, &symbols, out)
            }
            fn decode(
                &self,
                set: &crate::entropy::DecodeSet,
                classes: crate::entropy::Classes<'_>,
                block: &[u8],
                symbols: &mut [u8],
            ) -> Result<()> {
                Reference.decode(set, classes, block, symbols)
            }
        }
        let raw = weights(Dtype::BF16, 128, 1 << 16, 2);
        let (hint, mut frame) = (Hint::tensor(Dtype::BF16, 128), Vec::new());
        let mut encoder = Encoder::new(Settings::default());
        encoder.encode(&raw, &hint, &mut frame).unwrap();
        encoder.engine = &Faulty;
        let error = encoder.encode(&raw, &hint, &mut frame).unwrap_err();
        let len = raw.len() as u64;
        assert_eq!(
            error,
            Error::VerifyFailed {
                method: Method::Float,
                len
            }
        );
        assert_eq!(error.kind(), mmh_core::ErrorKind::Internal);
    }
}
