//! The encoder and the decoder of frames, and the choice among the methods.

mod range;

use mmh_core::limits::CHUNK_LEN_MAX;

use crate::body::{each_piece, put_body, read_body};
use crate::cluster::Effort;
use crate::delta::{put_delta, read_delta};
use crate::entropy::{Engine, best};
use crate::error::{Error, Result, corrupt};
use crate::frame::{
    CHECK_LEN, ContentId, Header, Method, References, compare_checks, put_checks, read_checks,
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
            let same = self.decoder.is_frame_of(out, context, raw);
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
    /// For what is decoded and not kept.
    room: Vec<u8>,
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
            room: Vec::new(),
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
        out.truncate(*result.as_ref().unwrap_or(&0));
        result.map(drop)
    }

    /// As [`Self::decode_with`], but into the beginning of `room`, which grows as it must and is not cut:
    /// for many frames of different lengths, one after the other, as what is overwritten need not be
    /// cleared.
    ///
    /// # Errors
    /// As [`Self::decode_with`].
    pub fn decode_in<'a>(
        &mut self,
        frame: &[u8],
        context: &Context<'_>,
        raw_len_max: usize,
        room: &'a mut Vec<u8>,
    ) -> Result<&'a [u8]> {
        let len = self.decode_into(frame, context, raw_len_max, room)?;
        Ok(&room[..len])
    }

    /// As [`Self::decode_with`], but hands the content to `each` in pieces, in their order, and keeps
    /// no more of it than a piece, of about [`crate::BLOCK_LEN`] numbers where these are floats. Only if
    /// there is no error in the end was it the content.
    ///
    /// # Errors
    /// As [`Self::decode_with`].
    pub fn decode_pieces(
        &mut self,
        frame: &[u8],
        context: &Context<'_>,
        raw_len_max: usize,
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<()> {
        let mut room = std::mem::take(&mut self.room);
        let mut aligned = true;
        let by_pieces = self.pieces(frame, raw_len_max, &mut room, &mut |piece, checked| {
            aligned &= checked;
            each(piece);
        });
        let done = by_pieces.and_then(|by_pieces| {
            if by_pieces && aligned {
                return Ok(());
            }
            let len = self.decode_into(frame, context, raw_len_max, &mut room)?;
            if !by_pieces {
                each(&room[..len]);
            }
            Ok(())
        });
        self.room = room;
        done
    }

    /// Decodes a frame of floats that refers to nothing piece by piece, and tells of each whether its
    /// checks were compared; those of pieces that begin elsewhere than the checks are not. `false`,
    /// and nothing is handed on, if the frame is another.
    fn pieces(
        &mut self,
        frame: &[u8],
        limit: usize,
        room: &mut Vec<u8>,
        each: &mut dyn FnMut(&[u8], bool),
    ) -> Result<bool> {
        let mut input = Input::new(frame);
        let Header {
            method,
            raw_len,
            references,
        } = read_header(&mut input, limit)?;
        if method != Method::Float || references.base.is_some() {
            return Ok(false);
        }
        let checks = read_checks(raw_len, &mut input)?;
        let mut decoder = PlaneDecoder {
            engine: self.engine,
            unpacker: &mut self.unpacker,
            buffers: &mut self.buffers,
        };
        let (body, kernels) = (input.finish(), self.engine.kernels());
        let mut sound = Ok(());
        each_piece(
            &mut decoder,
            (method, body),
            raw_len,
            room,
            &mut |at, piece| {
                let end = at + piece.len();
                let checked = at % CHECK_LEN == 0 && (end % CHECK_LEN == 0 || end == raw_len);
                if checked && sound.is_ok() {
                    sound = compare_checks(piece, &checks[at / CHECK_LEN..], &kernels);
                }
                each(piece, checked || piece.is_empty());
            },
        )?;
        sound.map(|()| true)
    }

    /// Whether a frame decodes to `raw`.
    fn is_frame_of(&mut self, frame: &[u8], context: &Context<'_>, raw: &[u8]) -> Result<bool> {
        let (mut at, mut same) = (0, true);
        self.decode_pieces(frame, context, raw.len(), &mut |piece| {
            let end = at + piece.len();
            same &= raw.get(at..end) == Some(piece);
            at = end;
        })?;
        Ok(same && at == raw.len())
    }

    /// Overwrites what `room` begins with, which need not be cleared for it, and says how much.
    fn decode_into(
        &mut self,
        frame: &[u8],
        context: &Context<'_>,
        limit: usize,
        room: &mut Vec<u8>,
    ) -> Result<usize> {
        let mut input = Input::new(frame);
        let Header {
            method,
            raw_len,
            references,
        } = read_header(&mut input, limit)?;
        let base = find("base", references.base, context.base)?;
        let checks = if method.has_checks() {
            read_checks(raw_len, &mut input)?
        } else {
            &[]
        };
        let body = input.finish();
        if method == Method::Raw && body.len() != raw_len {
            return corrupt("raw content has another length than stated");
        }
        if method != Method::Delta && room.len() < raw_len {
            room.resize(raw_len, 0);
        }
        let mut decoder = PlaneDecoder {
            engine: self.engine,
            unpacker: &mut self.unpacker,
            buffers: &mut self.buffers,
        };
        match (method, base) {
            (Method::Raw, _) => room[..raw_len].copy_from_slice(body),
            (Method::Zstd, _) => decoder.unpacker.unpack(body, &mut room[..raw_len])?,
            (_, Some(base)) => {
                let all = (raw_len, 0..raw_len);
                read_delta(&mut decoder, body, base.raw, all, room)?;
            }
            (Method::Mixed, None) => read_mixed(&mut decoder, body, &mut room[..raw_len])?,
            (_, None) => read_body(&mut decoder, method, body, &mut room[..raw_len])?,
        }
        if method.has_checks() {
            compare_checks(&room[..raw_len], checks, &self.engine.kernels())?;
        }
        Ok(raw_len)
    }
}

/// The head of a frame that states at most `limit` bytes of content.
fn read_header(input: &mut Input<'_>, limit: usize) -> Result<Header> {
    let header = Header::read(input)?;
    let limit = limit.min(CHUNK_LEN_MAX);
    if header.raw_len > limit {
        return Err(Error::FrameTooLarge {
            raw_len: header.raw_len as u64,
            limit: limit as u64,
        });
    }
    Ok(header)
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

    /// Pieces join to what decoding gives, and a frame that is not right is as wrong in pieces.
    #[test]
    fn pieces_are_the_content() {
        let none = Context::default();
        let floats = weights(Dtype::BF16, 1000, 1_000_000, 3);
        let odd = [&weights(Dtype::F32, 100, 9000, 3)[..], b"end"].concat();
        let quantised = crate::samples::quantised(Dtype::Q8_0, 900, 3);
        for (raw, dtype, n_pieces) in [
            (&floats, Dtype::BF16, 2),
            (&odd, Dtype::F32, 2),
            (&quantised, Dtype::Q8_0, 1),
            (&b"plain bytes".to_vec(), Dtype::U8, 1),
        ] {
            let mut frame = Vec::new();
            let hint = Hint::tensor(dtype, 1000);
            let mut encoder = Encoder::new(Settings::default());
            encoder.encode(raw, &hint, &mut frame).unwrap();
            let mut decoder = Decoder::new();
            let mut pieces_of = |frame: &[u8], limit| {
                let mut pieces = Vec::new();
                let each = &mut |piece: &[u8]| pieces.push(piece.to_vec());
                let done = decoder.decode_pieces(frame, &none, limit, each);
                done.map(|()| pieces)
            };
            let pieces = pieces_of(&frame, raw.len()).unwrap();
            assert!(pieces.concat() == *raw, "{dtype:?}");
            let n_full = pieces.iter().filter(|piece| !piece.is_empty()).count();
            assert_eq!(n_full, n_pieces, "{dtype:?}");
            assert!(pieces_of(&frame, raw.len() - 1).is_err(), "over the limit");
            for at in (0..frame.len()).step_by(frame.len().div_ceil(16)) {
                let (mut bad, mut out) = (frame.clone(), Vec::new());
                bad[at] ^= 1 << (at % 8);
                let decoded = Decoder::new().decode(&bad, raw.len(), &mut out);
                let pieces = pieces_of(&bad, raw.len()).map(|pieces| pieces.concat());
                assert_eq!(pieces, decoded.map(|()| out), "byte {at} of {dtype:?}");
                assert!(pieces_of(&frame[..at], raw.len()).is_err(), "cut at {at}");
            }
        }
    }

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
            let mut out = Vec::new();
            let mut of =
                |frame: &[u8], raw: &[u8]| decoder.is_frame_of(frame, &none, raw) == Ok(true);
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
