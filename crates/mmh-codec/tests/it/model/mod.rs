//! A second decoder, written from FORMAT.md alone and in the plainest way: one bit, one slot and
//! one symbol at a time. `None` is any error. It shares no code with the crate.

mod bins;
mod delta;
mod dense;
mod grouped;
mod layout;
mod mixed;
mod symbols;

use layout::Layout;

/// What has not been read yet.
#[derive(Clone, Copy)]
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)
            .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
    }

    fn varint(&mut self) -> Option<usize> {
        let mut value = 0u64;
        for group in 0..5 {
            let byte = self.u8()?;
            value += u64::from(byte % 128) << (7 * group);
            if byte < 128 {
                let shortest = byte > 0 || group == 0;
                return u32::try_from(value)
                    .ok()
                    .filter(|_| shortest)
                    .map(|v| v as usize);
            }
        }
        None
    }

    fn sized(&mut self) -> Option<Self> {
        let len = self.varint()?;
        self.take(len).map(Self)
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }

    /// `n` values of `width` bits, from a whole byte on.
    fn packed(&mut self, n: usize, width: usize) -> Option<Vec<u16>> {
        let bytes = self.take((n * width).div_ceil(8))?;
        let value = |i: usize| (0..width).map(|b| bit(bytes, i * width + b) << b).sum();
        Some((0..n).map(value).collect())
    }

    /// A *list* of `n` bytes.
    fn list(&mut self, n: usize) -> Option<Vec<u8>> {
        match self.u8()? {
            9 => zstd(self.sized()?.0, n),
            code => {
                let width = usize::from(code);
                let values = self.packed(n, Some(width).filter(|&w| w <= 8)?)?;
                values
                    .into_iter()
                    .map(|value| u8::try_from(value).ok())
                    .collect()
            }
        }
    }
}

fn bit(bytes: &[u8], at: usize) -> u16 {
    u16::from(bytes[at / 8] >> (at % 8) & 1)
}

/// One zstd frame of exactly `n` bytes: the magic number is that of RFC 8878, and nothing follows.
fn zstd(frame: &[u8], n: usize) -> Option<Vec<u8>> {
    if !frame.starts_with(&0xfd2f_b528u32.to_le_bytes()) {
        return None;
    }
    let own_len = zstd::zstd_safe::find_frame_compressed_size(frame).ok()?;
    let content = zstd::bulk::decompress(frame, n).ok()?;
    (own_len == frame.len() && content.len() == n).then_some(content)
}

/// Method 5 and the bit that says that there is a base.
const DELTA: u8 = 5 | 1 << 6;

/// The content of a frame that states at most `limit` bytes.
pub(crate) fn decode(frame: &[u8], limit: usize) -> Option<Vec<u8>> {
    decode_given(frame, None, limit)
}

/// The same of a frame that may refer to a base, of which a name and the content are given.
pub(crate) fn decode_given(
    frame: &[u8],
    base: Option<(&[u8; 32], &[u8])>,
    limit: usize,
) -> Option<Vec<u8>> {
    let mut input = Bytes(frame);
    if input.u8()? != 1 {
        return None;
    }
    let method = input.u8()?;
    let raw_len = input.varint().filter(|&len| len <= limit.min(4 << 20))?;
    match method {
        0 => (input.0.len() == raw_len).then(|| input.0.to_vec()),
        1 => zstd(input.0, raw_len),
        _ => {
            let mut given: &[u8] = &[];
            if method == DELTA {
                let id = input.take(32)?;
                given = base.filter(|(name, _)| name[..] == *id)?.1;
            }
            let checks = input.take(4 * raw_len.div_ceil(256 << 10))?;
            let content = match method {
                DELTA => delta::body(input, raw_len, given)?,
                6 => mixed::body(input, raw_len)?,
                _ => body(method, input, raw_len)?,
            };
            (checks_of(&content) == checks).then_some(content)
        }
    }
}

fn checks_of(content: &[u8]) -> Vec<u8> {
    let own = content
        .chunks(256 << 10)
        .map(twox_hash::XxHash3_64::oneshot);
    own.flat_map(|h| h.to_le_bytes()[..4].to_vec()).collect()
}

/// Makes the checks of a damaged delta right, if it has any content.
pub(crate) fn mend_delta(frame: &mut [u8], base: &[u8]) -> Option<()> {
    let mut input = Bytes(frame.get(2..)?);
    let raw_len = input.varint()?;
    input.take(32)?;
    let at = frame.len() - input.0.len();
    let n_checks = input.take(4 * raw_len.div_ceil(256 << 10))?.len();
    let checks = checks_of(&delta::body(input, raw_len, base)?);
    frame[at..at + n_checks].copy_from_slice(&checks);
    Some(())
}

fn body(method: u8, mut input: Bytes<'_>, raw_len: usize) -> Option<Vec<u8>> {
    let layout = Layout::of(input.u8()?).filter(|layout| layout.method == method)?;
    let head_len = input.varint()?;
    let n = raw_len.checked_sub(head_len)? / layout.unit;
    let mut units = vec![0u8; n * layout.unit];
    let mut planes: Vec<Vec<u16>> = Vec::new();
    for plane in &layout.planes {
        let per_unit = plane.symbols.len();
        let width = plane.symbols[0].len();
        let values = if input.0.first() == Some(&8) {
            input.u8()?;
            let mut content = input.sized()?;
            let keys = grouped::keys(layout.kind?, &planes, n * per_unit)?;
            let values = grouped::read(&mut content, width, n * per_unit, &keys)?;
            content.end()?;
            values
        } else if layout.in_bins && planes.is_empty() {
            input.u8().filter(|&coder| coder == 9)?;
            let mut content = input.sized()?;
            let values = bins::read(&mut content, n)?;
            content.end()?;
            values
        } else {
            record(&mut input, width, n * per_unit, Within::Frame)?
        };
        planes.push(values.clone());
        for (i, value) in values.into_iter().enumerate() {
            let unit = &mut units[i / per_unit * layout.unit..][..layout.unit];
            let value = value ^ u16::from(plane.inverted) << (width - 1);
            for (b, &place) in plane.symbols[i % per_unit].iter().enumerate() {
                unit[place / 8] |= u8::from(value >> b & 1 == 1) << (place % 8);
            }
        }
    }
    let head = input.take(head_len)?;
    let tail = input.take(raw_len - head_len - units.len())?;
    input.end()?;
    Some([head, &units, tail].concat())
}

/// Where a plane record stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    Frame,
    Bytes,
    Split,
}

fn record(input: &mut Bytes<'_>, width: usize, n: usize, within: Within) -> Option<Vec<u16>> {
    let coder = input.u8()?;
    let mut content = input.sized()?;
    let values = match coder {
        0 => vec![content.u16()?; n],
        1 => packed(&mut content, n)?,
        2 => ranked(&mut content, n)?,
        3 if within != Within::Split => split(&mut content, width, n)?,
        5 if within == Within::Frame && width > 8 => {
            let upper = record(&mut content, width - 8, n, Within::Bytes)?;
            let lower = record(&mut content, 8, n, Within::Bytes)?;
            upper.iter().zip(lower).map(|(u, l)| u * 256 + l).collect()
        }
        7 if within == Within::Frame => dense::read(&mut content, width, n)?,
        6 if width <= 8 => zstd_values(&mut content, n, 1)?,
        6 => zstd_values(&mut content, n, 2)?,
        _ => return None,
    };
    content.end()?;
    let fits = values.iter().all(|&value| usize::from(value) < 1 << width);
    fits.then_some(values)
}

fn zstd_values(content: &mut Bytes<'_>, n: usize, each: usize) -> Option<Vec<u16>> {
    let bytes = zstd(content.take(content.0.len())?, each * n)?;
    let value = |b: &[u8]| u16::from(b[0]) + 256 * b.get(1).copied().map_or(0, u16::from);
    Some(bytes.chunks(each).map(value).collect())
}

/// `first` and `len` of segments, in groups.
#[derive(Clone, Copy)]
struct Segments(usize, usize);

impl Segments {
    fn read(input: &mut Bytes<'_>) -> Option<Self> {
        let (first, len) = (input.varint()?, input.varint()?);
        (1 <= first && first <= len && len <= 256).then_some(Self(first, len))
    }

    /// The segment of the value at index `i`.
    fn of(self, i: usize) -> usize {
        let group = i / 64;
        if group < self.0 {
            0
        } else {
            1 + (group - self.0) / self.1
        }
    }

    fn count(self, n: usize) -> usize {
        n.checked_sub(1).map_or(0, |last| self.of(last) + 1)
    }
}

fn packed(input: &mut Bytes<'_>, n: usize) -> Option<Vec<u16>> {
    let base = input.u16()?;
    let width = usize::from(input.u8()?);
    if width > 16 || u32::from(base) & ((1 << width) - 1) != 0 {
        return None;
    }
    let part = |input: &mut Bytes<'_>, n: usize, z: u8| {
        let left = width.checked_sub(usize::from(z))?;
        let whole = |v: u16| base | u16::try_from(u32::from(v) << z).expect("at most 16 bits");
        Some(
            input
                .packed(n, left)?
                .into_iter()
                .map(whole)
                .collect::<Vec<_>>(),
        )
    };
    match input.u8()? {
        0 => {
            let zeros = input.u8()?;
            part(input, n, zeros)
        }
        1 => {
            let segments = Segments::read(input)?;
            let mut values = Vec::new();
            for (segment, z) in input.list(segments.count(n))?.into_iter().enumerate() {
                let len = (0..n).filter(|&i| segments.of(i) == segment).count();
                values.extend(part(input, len, z)?);
            }
            Some(values)
        }
        _ => None,
    }
}

fn ranked(input: &mut Bytes<'_>, n: usize) -> Option<Vec<u16>> {
    let head = input.u8()?;
    let (count, contiguous) = (usize::from(head / 2), head % 2 == 1);
    if !(1..=32).contains(&count) {
        return None;
    }
    let mut table = vec![u16::try_from(input.varint()?).ok()?];
    for _ in 1..count {
        let skipped = if contiguous { 0 } else { input.varint()? };
        let next = usize::from(*table.last()?) + 1 + skipped;
        table.push(u16::try_from(next).ok()?);
    }
    let exceptions = exceptions(input, n)?;
    let alphabet = if count <= 16 { 16 } else { 32 };
    let symbols = symbols::read(input, alphabet, n, None)?;
    let value = |&symbol: &u16| table.get(usize::from(symbol)).copied();
    let mut values: Vec<u16> = symbols.iter().map(value).collect::<Option<_>>()?;
    for (at, value) in exceptions {
        *values.get_mut(at)? = value;
    }
    Some(values)
}

/// Places and values.
fn exceptions(input: &mut Bytes<'_>, n: usize) -> Option<Vec<(usize, u16)>> {
    let mut exceptions = Vec::new();
    let n_exceptions = input.varint().filter(|&count| count <= n)?;
    if n_exceptions > 0 {
        let mut gaps = input.sized()?;
        let values = input.list(2 * n_exceptions)?;
        let mut at = 0;
        for pair in values.chunks(2) {
            at += gaps.varint()?;
            exceptions.push((at, u16::from_le_bytes([pair[0], pair[1]])));
            at += 1;
        }
        gaps.end()?;
    }
    Some(exceptions)
}

fn split(input: &mut Bytes<'_>, width: usize, n: usize) -> Option<Vec<u16>> {
    let lower_width = usize::from(input.u8()?);
    if !(1..=5).contains(&lower_width) || width > lower_width + 5 {
        return None;
    }
    let upper = record(input, width.saturating_sub(lower_width), n, Within::Split)?;
    let lower = if input.0.first() == Some(&4) {
        input.u8()?;
        let mut content = input.sized()?;
        let alphabet = if lower_width == 5 { 32 } else { 16 };
        let symbols = symbols::read(&mut content, alphabet, n, Some(&upper))?;
        content.end()?;
        symbols
    } else {
        record(input, lower_width, n, Within::Split)?
    };
    let joined = upper.iter().zip(lower).map(|(u, l)| (u << lower_width) + l);
    Some(joined.collect())
}
