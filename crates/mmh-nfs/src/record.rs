//! Records on a stream (RFC 5531, chapter 11): fragments, each with its length before it.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Most bytes of a call. Only calls that write are longer than some hundreds, and those are refused.
pub(crate) const CALL_LEN_MAX: usize = 128 << 10;
/// Most fragments of a call.
const FRAGMENTS_MAX: usize = 64;
/// Set in the mark of the last fragment.
const LAST: u32 = 1 << 31;

/// The first mark of a record; `None` at the end of the stream.
pub(crate) async fn mark(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<u32>> {
    match stream.read_u32().await {
        Ok(mark) => Ok(Some(mark)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// The rest of a record whose first mark was read. Memory grows with what has arrived, not with what
/// a mark promises.
pub(crate) async fn rest(
    stream: &mut (impl AsyncRead + Unpin),
    mut mark: u32,
) -> io::Result<Vec<u8>> {
    let mut record = Vec::new();
    for _ in 0..FRAGMENTS_MAX {
        let len = u64::from(mark & !LAST);
        if len + record.len() as u64 > CALL_LEN_MAX as u64 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let read = (&mut *stream).take(len).read_to_end(&mut record).await?;
        if (read as u64) < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if mark & LAST != 0 {
            return Ok(record);
        }
        mark = stream.read_u32().await?;
    }
    Err(io::ErrorKind::InvalidData.into())
}

/// Writes a record as one fragment.
pub(crate) async fn write(stream: &mut (impl AsyncWrite + Unpin), record: &[u8]) -> io::Result<()> {
    let len = u32::try_from(record.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    stream.write_u32(len | LAST).await?;
    stream.write_all(record).await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(mut bytes: &[u8]) -> io::Result<Vec<u8>> {
        let first = mark(&mut bytes).await?.ok_or(io::ErrorKind::NotFound)?;
        rest(&mut bytes, first).await
    }

    #[tokio::test]
    async fn fragments_are_joined() {
        let bytes = [&[0, 0, 0, 2][..], b"ab", &[0x80, 0, 0, 1], b"c"].concat();
        assert_eq!(read(&bytes).await.unwrap(), b"abc");
        let mut out = Vec::new();
        write(&mut out, b"abc").await.unwrap();
        assert_eq!(read(&out).await.unwrap(), b"abc");
    }

    #[tokio::test]
    async fn marks_that_promise_too_much_are_refused() {
        let huge = [0xff, 0xff, 0xff, 0xff, 1, 2];
        let kind = |read: io::Result<Vec<u8>>| read.unwrap_err().kind();
        assert_eq!(kind(read(&huge).await), io::ErrorKind::InvalidData);
        let many = [[0, 0, 0, 0]; FRAGMENTS_MAX + 1].concat();
        assert_eq!(kind(read(&many).await), io::ErrorKind::InvalidData);
        let cut = [0x80, 0, 0, 9, 1, 2];
        assert_eq!(kind(read(&cut).await), io::ErrorKind::UnexpectedEof);
        assert_eq!(kind(read(&[]).await), io::ErrorKind::NotFound);
    }
}
