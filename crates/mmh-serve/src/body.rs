//! Bodies that come in, at least as fast as the limits say and no longer than they allow.

use axum::body::Body;
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use mmh_core::ErrorKind;
use std::time::Duration;
use tokio::time::Instant;

use crate::limits::Limits;
use crate::reply::Refusal;

/// A body on its way in.
#[derive(Debug)]
pub(crate) struct Incoming {
    body: Body,
    stall: Duration,
    rate: u64,
    began: Instant,
    len: u64,
    len_max: u64,
}

impl Incoming {
    /// A body of at most `len_max` bytes.
    pub(crate) fn new(body: Body, limits: &Limits, len_max: u64) -> Self {
        Self {
            body,
            stall: limits.stall,
            rate: limits.body_rate.max(1),
            began: Instant::now(),
            len: 0,
            len_max,
        }
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// 408 if it is too slow, 413 if it is too long, 400 if it breaks off.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        let slow = || {
            let text = "the body came too slowly";
            Refusal::with_status(StatusCode::REQUEST_TIMEOUT, ErrorKind::Unavailable, text)
        };
        loop {
            let due = self.stall + Duration::from_millis(1000 * self.len / self.rate);
            let end = (Instant::now() + self.stall).min(self.began + due);
            let frame = tokio::time::timeout_at(end, self.body.frame()).await;
            let bytes = match frame.map_err(|_| slow())? {
                None => return Ok(None),
                Some(Err(_)) => return Err(Refusal::invalid("the body broke off")),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => bytes,
                    // Trailers say nothing here.
                    Err(_) => continue,
                },
            };
            self.len += bytes.len() as u64;
            if self.len > self.len_max {
                return Err(too_long(self.len_max));
            }
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
    }

    /// The next bytes up to about `some`, and whether it ended.
    ///
    /// # Errors
    /// Those of [`Incoming::next`].
    pub(crate) async fn gather(&mut self, some: usize) -> Result<(Bytes, bool), Refusal> {
        let mut gathered = BytesMut::new();
        while gathered.len() < some {
            match self.next().await? {
                Some(bytes) => gathered.extend_from_slice(&bytes),
                None => return Ok((gathered.freeze(), true)),
            }
        }
        Ok((gathered.freeze(), false))
    }
}

/// Refuses what is longer than that.
pub(crate) fn too_long(len_max: u64) -> Refusal {
    let text = format!("the body is longer than {len_max} bytes");
    Refusal::with_status(StatusCode::PAYLOAD_TOO_LARGE, ErrorKind::Invalid, text)
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;
    use futures::StreamExt as _;

    use super::*;

    fn limits() -> Limits {
        Limits {
            stall: Duration::from_secs(10),
            body_rate: 100,
            ..Limits::default()
        }
    }

    fn status(refusal: Refusal) -> u16 {
        refusal.into_response().status().as_u16()
    }

    /// A body of so many pieces of 100 bytes, one each `every`.
    fn trickle(pieces: u64, every: Duration) -> Body {
        let piece = move |_| async move {
            tokio::time::sleep(every).await;
            Ok::<_, std::io::Error>(Bytes::from(vec![7; 100]))
        };
        Body::from_stream(futures::stream::iter(0..pieces).then(piece))
    }

    /// On a clock that jumps to the next event.
    #[tokio::test(start_paused = true)]
    async fn a_body_must_go_on_and_keep_its_pace() {
        let mut fine = Incoming::new(trickle(60, Duration::from_secs(1)), &limits(), 6000);
        let (all, ended) = fine.gather(usize::MAX).await.unwrap();
        assert_eq!((all.len(), ended), (6000, true));
        let mut stalled = Incoming::new(trickle(2, Duration::from_secs(11)), &limits(), 6000);
        assert_eq!(status(stalled.next().await.unwrap_err()), 408);
        let mut slow = Incoming::new(trickle(60, Duration::from_secs(2)), &limits(), 6000);
        let (some, ended) = slow.gather(500).await.unwrap();
        assert_eq!((some.len(), ended), (500, false));
        assert_eq!(status(slow.gather(5500).await.unwrap_err()), 408);
    }

    #[tokio::test]
    async fn a_body_ends_where_its_limit_is() {
        let mut whole = Incoming::new(Body::from(vec![1; 10]), &limits(), 10);
        assert_eq!(whole.gather(20).await.unwrap(), (vec![1; 10].into(), true));
        let mut long = Incoming::new(Body::from(vec![1; 11]), &limits(), 10);
        assert_eq!(status(long.gather(20).await.unwrap_err()), 413);
        let broken = futures::stream::iter([Ok(Bytes::from("a")), Err(std::io::Error::other("b"))]);
        let mut broken = Incoming::new(Body::from_stream(broken), &limits(), 10);
        assert_eq!(broken.next().await.unwrap(), Some("a".into()));
        assert_eq!(status(broken.next().await.unwrap_err()), 400);
    }
}
