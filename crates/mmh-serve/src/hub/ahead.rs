//! How far ahead of the socket files are decoded. Pieces that wait to be sent lie in memory, so all
//! clients share what there is: a lone one has enough to keep every core busy, many have one piece each.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::stream::{self, FuturesOrdered};
use futures::{Stream, StreamExt as _, TryStreamExt as _};

/// Pieces for all clients together, where there are not more clients than that; each has up to 4 MiB.
const PIECES_MAX: usize = 64;
/// Pieces for one of them: what goes to one connection takes a few threads to decode, however many
/// there are.
const EACH_MAX: usize = 16;

/// Whoever is sent a file.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    clients: AtomicUsize,
}

/// The part of one of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    ahead: Arc<Ahead>,
    most: usize,
}

impl Ahead {
    /// The share of a client more. Each of so many threads is to have a piece to decode while another
    /// waits to be sent.
    pub(crate) fn share(self: &Arc<Self>, threads: usize) -> Share {
        self.clients.fetch_add(1, Ordering::Relaxed);
        Share {
            ahead: Arc::clone(self),
            most: (2 * threads + 1).min(EACH_MAX),
        }
    }
}

impl Share {
    /// How many pieces it is at this moment.
    fn pieces(&self) -> usize {
        let clients = self.ahead.clients.load(Ordering::Relaxed).max(1);
        (PIECES_MAX / clients).clamp(1, self.most)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.ahead.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Does jobs, as many at once as the share allows, and gives what comes of them in the order of the jobs.
pub(crate) fn in_order<T, F>(
    jobs: impl Stream<Item = io::Result<F>> + Send + 'static,
    share: Share,
) -> impl Stream<Item = io::Result<T>> + Send + 'static
where
    T: Send + 'static,
    F: Future<Output = io::Result<T>> + Send + 'static,
{
    let begun = (jobs.boxed().fuse(), FuturesOrdered::new(), share);
    stream::try_unfold(begun, async |(mut jobs, mut waiting, share)| {
        while !jobs.is_done() && waiting.len() < share.pieces() {
            match jobs.try_next().await? {
                Some(job) => waiting.push_back(job),
                None => break,
            }
        }
        let done = waiting.next().await.transpose()?;
        Ok(done.map(|done| (done, (jobs, waiting, share))))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_lone_client_has_enough_and_many_have_one_piece_each() {
        let ahead = Arc::<Ahead>::default();
        let lone = ahead.share(2);
        assert_eq!(lone.pieces(), 5);
        assert_eq!(ahead.share(100).pieces(), EACH_MAX);
        let others: Vec<Share> = (0..31).map(|_| ahead.share(2)).collect();
        assert_eq!(lone.pieces(), 2);
        let more: Vec<Share> = (0..200).map(|_| ahead.share(2)).collect();
        assert!(others.iter().chain(&more).all(|share| share.pieces() == 1));
        drop((others, more));
        assert_eq!(lone.pieces(), 5, "what ends is shared again");
    }

    /// On a clock that jumps: the later jobs are done first, and never more than the share allows.
    #[tokio::test(start_paused = true)]
    async fn what_is_done_early_waits_for_its_turn() {
        let ahead = Arc::<Ahead>::default();
        let running = Arc::<Mutex<(usize, usize)>>::default();
        let counted = Arc::clone(&running);
        let jobs = stream::iter(0..40u64).map(move |n| {
            let running = Arc::clone(&counted);
            Ok(async move {
                let enter = |running: &mut (usize, usize)| {
                    running.0 += 1;
                    running.1 = running.1.max(running.0);
                };
                enter(&mut running.lock().unwrap());
                tokio::time::sleep(Duration::from_millis(100 - 2 * n)).await;
                running.lock().unwrap().0 -= 1;
                Ok(n)
            })
        });
        let all = in_order(jobs, ahead.share(1)).try_collect::<Vec<_>>();
        assert_eq!(all.await.unwrap(), (0..40).collect::<Vec<_>>());
        assert_eq!(running.lock().unwrap().1, 3);
        assert_eq!(ahead.clients.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn the_first_error_is_the_end() {
        let ahead = Arc::<Ahead>::default();
        let jobs = stream::iter(0..9).map(|n| {
            Ok(async move {
                if n == 2 {
                    return Err(io::Error::other("damaged"));
                }
                Ok(n)
            })
        });
        let mut sent = Box::pin(in_order(jobs, ahead.share(1)));
        for n in 0..2 {
            assert_eq!(sent.next().await.unwrap().unwrap(), n);
        }
        assert!(sent.next().await.unwrap().is_err());
        assert!(sent.next().await.is_none());
    }
}
