//! The header that every frame begins with, and what can be told of a frame without decoding it.

use std::fmt;

use crate::body::planes_info;
use crate::error::{Error, Result, corrupt};
use crate::input::{Input, put_varint};
use crate::kernel::Kernels;
use crate::mix::mixed_info;
use crate::plane::Coder;

/// Version of the frame format, the first byte of every frame.
pub const FRAME_VERSION: u8 = 1;
/// Most bytes by which a frame exceeds its content.
pub const FRAME_OVERHEAD_MAX: usize = 16;
/// Bytes of content that one check covers.
pub const CHECK_LEN: usize = 256 << 10;

/// The bits of the second byte that are the method's code; the others say which references follow.
pub const METHOD_BITS: u8 = 0x1f;
/// Kept free.
const RESERVED_BITS: u8 = 0xa0;
const BASE_BIT: u8 = 0x40;

/// The name under which a caller keeps content that frames refer to, such as its digest.
pub type ContentId = [u8; 32];

/// The content that a frame needs besides itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct References {
    /// The content that this one differs from.
    pub base: Option<ContentId>,
}

impl References {
    /// Whether the frame needs nothing but itself.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.base.is_none()
    }

    /// Every id, in the order in which the frame has them.
    pub fn iter(&self) -> impl Iterator<Item = &ContentId> {
        self.base.iter()
    }

    fn bits(&self) -> u8 {
        if self.base.is_some() { BASE_BIT } else { 0 }
    }

    fn read(bits: u8, input: &mut Input<'_>) -> Result<Self> {
        if bits & RESERVED_BITS != 0 {
            return Err(Error::UnknownCode {
                what: "reference",
                code: bits & RESERVED_BITS,
            });
        }
        let base = if bits & BASE_BIT == 0 {
            None
        } else {
            input.take(32)?.first_chunk().copied()
        };
        Ok(Self { base })
    }
}

/// Reads what a frame refers to. The first [`HEADER_LEN_MAX`] bytes of it are enough.
///
/// # Errors
/// Corrupt, or Unsupported when a newer version wrote it.
pub fn references(frame: &[u8]) -> Result<References> {
    Ok(Header::read(&mut Input::new(frame))?.references)
}

/// The same frame, referring to the same content by other names: for a place where names are made
/// in another way. Nothing is decoded.
///
/// # Errors
/// As [`references`]; Invalid if there are more or fewer names than the frame has.
pub fn with_references(frame: &[u8], names: &References) -> Result<Vec<u8>> {
    let mut input = Input::new(frame);
    let header = Header::read(&mut input)?;
    if header.references.bits() != names.bits() {
        return Err(Error::OtherReferences);
    }
    let mut out = Vec::with_capacity(frame.len());
    let references = *names;
    Header {
        references,
        ..header
    }
    .put(&mut out);
    out.extend_from_slice(input.finish());
    Ok(out)
}

/// Bytes of the longest header: version, method, length and a reference.
pub const HEADER_LEN_MAX: usize = 2 + 5 + 32;

/// How the content of a frame is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Method {
    /// The content itself.
    Raw,
    /// One zstd frame.
    Zstd,
    /// Floating point numbers split into exponents and mantissas.
    Float,
    /// Integers, small floats and packed codes split into planes of bytes or symbols.
    Integer,
    /// Blocks of quantised weights split by field.
    Block,
    /// Floating point numbers as differences from a base.
    Delta,
    /// Floating point numbers, each predicted from those before it.
    Mixed,
}

impl Method {
    /// Every method.
    pub const ALL: [Self; 7] = [
        Self::Raw,
        Self::Zstd,
        Self::Float,
        Self::Integer,
        Self::Block,
        Self::Delta,
        Self::Mixed,
    ];

    /// The code in a frame's header. Codes 7 to 31 are reserved.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Zstd => 1,
            Self::Float => 2,
            Self::Integer => 3,
            Self::Block => 4,
            Self::Delta => 5,
            Self::Mixed => 6,
        }
    }

    /// The name as it is written in output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Zstd => "zstd",
            Self::Float => "float",
            Self::Integer => "integer",
            Self::Block => "block",
            Self::Delta => "delta",
            Self::Mixed => "mixed",
        }
    }
}

impl Method {
    /// Whether the content is divided into planes, and so has checks.
    pub(crate) const fn has_checks(self) -> bool {
        match self {
            Self::Raw | Self::Zstd => false,
            Self::Float | Self::Integer | Self::Block | Self::Delta | Self::Mixed => true,
        }
    }

    /// Whether frames of this method may have these references.
    fn may_refer(self, references: &References) -> bool {
        references.base.is_some() == (self == Self::Delta)
    }
}

impl TryFrom<u8> for Method {
    type Error = Error;

    fn try_from(code: u8) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|method| method.code() == code);
        found.ok_or(Error::UnknownCode {
            what: "method",
            code,
        })
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The first bytes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) method: Method,
    pub(crate) raw_len: usize,
    pub(crate) references: References,
}

impl Header {
    pub(crate) fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[FRAME_VERSION, self.method.code() | self.references.bits()]);
        put_varint(out, self.raw_len);
        for id in self.references.iter() {
            out.extend_from_slice(id);
        }
    }

    pub(crate) fn read(input: &mut Input<'_>) -> Result<Self> {
        let version = input.u8()?;
        if version != FRAME_VERSION {
            return Err(Error::UnknownVersion {
                found: version,
                newest: FRAME_VERSION,
            });
        }
        let code = input.u8()?;
        let method = Method::try_from(code & METHOD_BITS)?;
        let raw_len = input.varint()?;
        let references = References::read(code, input)?;
        if !method.may_refer(&references) {
            return corrupt("the method does not use what the frame refers to");
        }
        Ok(Self {
            method,
            raw_len,
            references,
        })
    }
}

/// Appends a check for each [`CHECK_LEN`] bytes of content: the low half of their XXH3 (64 bits).
pub(crate) fn put_checks(raw: &[u8], kernels: &Kernels, out: &mut Vec<u8>) {
    out.extend(raw.chunks(CHECK_LEN).flat_map(|part| check(part, kernels)));
}

/// Takes the checks of `raw_len` bytes of content.
pub(crate) fn read_checks<'a>(raw_len: usize, input: &mut Input<'a>) -> Result<&'a [[u8; 4]]> {
    Ok(input.take(4 * raw_len.div_ceil(CHECK_LEN))?.as_chunks().0)
}

/// Compares content, which begins at a multiple of [`CHECK_LEN`], with the checks from there on.
/// Not where a fuzzer is to see what damage makes of the content: no mutant would have right checks.
pub(crate) fn compare_checks(raw: &[u8], checks: &[[u8; 4]], kernels: &Kernels) -> Result<()> {
    let mut pairs = raw.chunks(CHECK_LEN).zip(checks);
    if cfg!(fuzzing) || pairs.all(|(part, stated)| check(part, kernels) == *stated) {
        Ok(())
    } else {
        corrupt("the content is not what its checks say")
    }
}

fn check(part: &[u8], kernels: &Kernels) -> [u8; 4] {
    let [a, b, c, d, ..] = (kernels.xxh3)(part).to_le_bytes();
    [a, b, c, d]
}

/// What a frame says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FrameInfo {
    /// Bytes of content.
    pub raw_len: usize,
    /// How it is coded.
    pub method: Method,
    /// What else is needed to decode it.
    pub references: References,
    /// The planes of the methods that split the content, in their order; empty for the others.
    pub planes: Vec<PlaneInfo>,
}

/// What is known of one plane of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlaneInfo {
    /// What the plane holds, such as `exponent`.
    pub name: &'static str,
    /// How it is coded, such as `rans`.
    pub coder: &'static str,
    /// Bytes in the frame.
    pub coded_len: usize,
}

/// Reads what a frame says of itself, without decoding its content.
///
/// # Errors
/// Corrupt, or Unsupported when a newer version wrote it.
pub fn frame_info(frame: &[u8]) -> Result<FrameInfo> {
    let mut input = Input::new(frame);
    let Header {
        method,
        raw_len,
        references,
    } = Header::read(&mut input)?;
    let planes = match method {
        Method::Raw | Method::Zstd => Vec::new(),
        Method::Mixed => {
            read_checks(raw_len, &mut input)?;
            mixed_info(input.finish())?
        }
        Method::Float | Method::Integer | Method::Block => {
            read_checks(raw_len, &mut input)?;
            planes_info(method, input.finish())?
        }
        Method::Delta => {
            read_checks(raw_len, &mut input)?;
            vec![PlaneInfo {
                name: "difference",
                coder: Coder::Context.as_str(),
                coded_len: input.len(),
            }]
        }
    };
    Ok(FrameInfo {
        raw_len,
        method,
        references,
        planes,
    })
}
