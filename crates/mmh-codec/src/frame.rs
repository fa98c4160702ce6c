//! The header that every frame begins with, and what can be told of a frame without decoding it.

use std::fmt;

use crate::body::planes_info;
use crate::error::{Error, Result};
use crate::input::{Input, put_varint};

/// Version of the frame format, the first byte of every frame.
pub const FRAME_VERSION: u8 = 1;
/// Most bytes by which a frame exceeds its content.
pub const FRAME_OVERHEAD_MAX: usize = 16;

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
}

impl Method {
    /// Every method.
    pub const ALL: [Self; 5] = [
        Self::Raw,
        Self::Zstd,
        Self::Float,
        Self::Integer,
        Self::Block,
    ];

    /// The code in a frame's header. Codes 5 to 31 are reserved for deltas, shared codebooks and
    /// denser coders.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Zstd => 1,
            Self::Float => 2,
            Self::Integer => 3,
            Self::Block => 4,
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
        }
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
}

impl Header {
    pub(crate) fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[FRAME_VERSION, self.method.code()]);
        put_varint(out, self.raw_len);
    }

    pub(crate) fn read(input: &mut Input<'_>) -> Result<Self> {
        let version = input.u8()?;
        if version != FRAME_VERSION {
            return Err(Error::UnknownVersion {
                found: version,
                newest: FRAME_VERSION,
            });
        }
        let method = Method::try_from(input.u8()?)?;
        let raw_len = input.varint()?;
        Ok(Self { method, raw_len })
    }
}

/// What a frame says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FrameInfo {
    /// Bytes of content.
    pub raw_len: usize,
    /// How it is coded.
    pub method: Method,
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
    let Header { method, raw_len } = Header::read(&mut input)?;
    let planes = match method {
        Method::Raw | Method::Zstd => Vec::new(),
        Method::Float | Method::Integer | Method::Block => planes_info(method, input.finish())?,
    };
    Ok(FrameInfo {
        raw_len,
        method,
        planes,
    })
}
