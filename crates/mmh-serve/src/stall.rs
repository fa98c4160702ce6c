//! A connection that gives up on a peer that takes nothing: without it, whoever asks for much and
//! reads none of it would hold a place for ever.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// Fails if writing does not go on for so long. Reading has its bounds where it is known what is
/// waited for.
#[derive(Debug)]
pub(crate) struct Stall<T> {
    inner: T,
    limit: Duration,
    /// When the write fails that waits now.
    deadline: Pin<Box<Sleep>>,
    waits: bool,
}

impl<T> Stall<T> {
    pub(crate) fn new(inner: T, limit: Duration) -> Self {
        Self {
            inner,
            limit,
            deadline: Box::pin(sleep_until(Instant::now())),
            waits: false,
        }
    }

    /// Passes on what a write came to, or the end of patience.
    fn bound<R>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if done.is_ready() {
            self.waits = false;
            return done;
        }
        if !self.waits {
            self.waits = true;
            self.deadline.as_mut().reset(Instant::now() + self.limit);
        }
        ready!(self.deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Stall<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Stall<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.bound(cx, done)
    }

    /// Without it the pieces of an answer would be copied together before they are sent.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.bound(cx, done)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.inner).poll_flush(cx);
        self.bound(cx, done)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.bound(cx, done)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    /// On a clock that jumps to the next event, so that nothing waits.
    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up() {
        let (ours, mut theirs) = duplex(16);
        let mut ours = Stall::new(ours, Duration::from_secs(30));
        ours.write_all(&[1; 16]).await.unwrap();
        let error = ours.write_all(&[1; 1]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        theirs.read_exact(&mut [0; 16]).await.unwrap();
        ours.write_all(&[1; 16]).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn pieces_that_nobody_takes_are_given_up_too() {
        let (ours, mut theirs) = duplex(16);
        let mut ours = Stall::new(ours, Duration::from_secs(30));
        assert!(ours.is_write_vectored());
        let pieces = || [io::IoSlice::new(&[1; 8]), io::IoSlice::new(&[2; 8])];
        assert_eq!(ours.write_vectored(&pieces()).await.unwrap(), 16);
        let error = ours.write_vectored(&pieces()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let mut read = [0; 16];
        theirs.read_exact(&mut read).await.unwrap();
        assert_eq!(read, [[1; 8], [2; 8]].concat()[..]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_peer_is_waited_for_and_reading_is_not_bounded() {
        let (ours, theirs) = duplex(4);
        let mut ours = Stall::new(ours, Duration::from_secs(30));
        let slow = tokio::spawn(async move {
            let mut theirs = theirs;
            for _ in 0..4 {
                tokio::time::sleep(Duration::from_secs(29)).await;
                theirs.read_exact(&mut [0; 4]).await.unwrap();
            }
            tokio::time::sleep(Duration::from_secs(3600)).await;
            theirs.write_all(b"done").await.unwrap();
        });
        ours.write_all(&[1; 16]).await.unwrap();
        let mut read = [0; 4];
        ours.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"done");
        slow.await.unwrap();
        ours.shutdown().await.unwrap();
    }
}
