//! Work that many threads do at once and whose results are wanted one after the other.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rayon::ThreadPool;

use crate::error::{Error, Result};

/// Hands an item with its weight to the workers; waits while too much is on its way.
pub(crate) type Feed<'a, I> = &'a mut dyn FnMut(I, u64) -> Result<()>;
/// Takes results in the order of their items.
pub(crate) type Take<'a, O> = &'a mut (dyn FnMut(O) -> Result<()> + Send);

/// Runs `feed`, whose items go through `work` in all threads of `pool`; the results go to `take` in
/// the order of the items, in whichever thread has the next one. Items on their way never weigh more
/// than `most` and one of them. In a thread of the pool everything is done there, one by one.
///
/// # Errors
/// The first of `feed`, `work` or `take`; nothing more is begun after it.
pub(crate) fn in_order<I: Send, O: Send>(
    pool: &ThreadPool,
    most: u64,
    feed: impl FnOnce(Feed<'_, I>) -> Result<()>,
    work: &(dyn Fn(I) -> Result<O> + Sync),
    take: Take<'_, O>,
) -> Result<()> {
    if pool.current_thread_index().is_some() {
        return feed(&mut |item, _| take(work(item)?));
    }
    let line = Line {
        state: Mutex::new(State::new(take)),
        more: Condvar::new(),
        room: Condvar::new(),
    };
    let fed = pool.in_place_scope(|scope| {
        scope.spawn_broadcast(|_, _| line.run(work));
        let _end = End(&line);
        feed(&mut |item, weight| line.put(item, weight, most))
    });
    let state = line.state.into_inner();
    match state.unwrap_or_else(PoisonError::into_inner).failure {
        Some(failure) => Err(failure),
        None => fed,
    }
}

struct Line<'a, I, O> {
    state: Mutex<State<'a, I, O>>,
    /// There is an item, or there will be none.
    more: Condvar,
    /// A result was taken, or none will be.
    room: Condvar,
}

struct State<'a, I, O> {
    waiting: VecDeque<Queued<I>>,
    /// Results whose turn has not come, by number, with their weights.
    done: BTreeMap<u64, (O, u64)>,
    /// Number of the next item, and of the next result to be taken.
    next_in: u64,
    next_out: u64,
    /// Weight of what came in and was not taken.
    weight: u64,
    /// Away while a thread takes.
    take: Option<Take<'a, O>>,
    failure: Option<Error>,
    /// Nothing more will come, or is wanted.
    ended: bool,
}

struct Queued<I> {
    number: u64,
    item: I,
    weight: u64,
}

/// Lets the workers go, also when the thread that feeds them or one of them panics.
struct End<'a, 'b, I, O>(&'a Line<'b, I, O>);

impl<I, O> Drop for End<'_, '_, I, O> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.ended = true;
        drop(state);
        self.0.wake();
    }
}

impl<'a, I, O> State<'a, I, O> {
    fn new(take: Take<'a, O>) -> Self {
        Self {
            waiting: VecDeque::new(),
            done: BTreeMap::new(),
            next_in: 0,
            next_out: 0,
            weight: 0,
            take: Some(take),
            failure: None,
            ended: false,
        }
    }
}

impl<'a, I, O> Line<'a, I, O> {
    fn lock(&self) -> MutexGuard<'_, State<'a, I, O>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        self.more.notify_all();
        self.room.notify_all();
    }

    /// Queues an item once there is room for it.
    fn put(&self, item: I, weight: u64, most: u64) -> Result<()> {
        let full = |state: &mut State<'_, I, O>| {
            state.weight >= most && state.next_out < state.next_in && !state.ended
        };
        let mut state = self
            .room
            .wait_while(self.lock(), full)
            .unwrap_or_else(PoisonError::into_inner);
        if state.ended {
            return Err(mmh_core::Error::Cancelled.into());
        }
        let number = state.next_in;
        state.next_in += 1;
        state.weight += weight;
        state.waiting.push_back(Queued {
            number,
            item,
            weight,
        });
        drop(state);
        self.more.notify_one();
        Ok(())
    }

    /// Does items until there are none.
    fn run(&self, work: &(dyn Fn(I) -> Result<O> + Sync)) {
        let _end = End(self);
        let none = |state: &mut State<'_, I, O>| state.waiting.is_empty() && !state.ended;
        loop {
            let mut state = self
                .more
                .wait_while(self.lock(), none)
                .unwrap_or_else(PoisonError::into_inner);
            let next = state.waiting.pop_front();
            let Some(Queued {
                number,
                item,
                weight,
            }) = next.filter(|_| state.failure.is_none())
            else {
                return;
            };
            drop(state);
            if let Err(failure) = work(item).and_then(|done| self.finish(number, done, weight)) {
                self.lock().failure.get_or_insert(failure);
                return;
            }
        }
    }

    /// Takes a result and all that waited for it, if their turn has come and no other thread does.
    fn finish(&self, number: u64, done: O, weight: u64) -> Result<()> {
        let mut state = self.lock();
        state.done.insert(number, (done, weight));
        let Some(take) = state.take.take() else {
            return Ok(());
        };
        loop {
            let next = state.next_out;
            let Some((done, weight)) = state.done.remove(&next) else {
                state.take = Some(take);
                return Ok(());
            };
            drop(state);
            take(done)?;
            state = self.lock();
            state.next_out += 1;
            state.weight -= weight;
            self.room.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use proptest::prelude::*;

    use super::*;

    fn pool(threads: usize) -> ThreadPool {
        let builder = rayon::ThreadPoolBuilder::new().num_threads(threads);
        builder.build().unwrap()
    }

    /// Squares numbers and returns them in the order in which they were taken.
    fn squares(pool: &ThreadPool, items: &[u64], most: u64) -> Result<Vec<u64>> {
        let mut taken = Vec::new();
        let feed = |put: Feed<'_, u64>| items.iter().try_for_each(|n| put(*n, n % 7));
        let work = |n: u64| {
            if n.is_multiple_of(5) {
                std::thread::yield_now();
            }
            Ok(n * n)
        };
        let mut take = |n| {
            taken.push(n);
            Ok(())
        };
        in_order(pool, most, feed, &work, &mut take)?;
        Ok(taken)
    }

    proptest! {
        #[test]
        fn results_are_taken_in_the_order_of_their_items(
            items in prop::collection::vec(0u64..1000, 0..200),
            threads in 1usize..5,
            most in 0u64..50,
        ) {
            let wanted: Vec<u64> = items.iter().map(|n| n * n).collect();
            let pool = pool(threads);
            prop_assert_eq!(&squares(&pool, &items, most).unwrap(), &wanted);
            let inside = pool.install(|| squares(&pool, &items, most)).unwrap();
            prop_assert_eq!(&inside, &wanted, "in a thread of the pool");
        }
    }

    #[test]
    fn no_more_is_on_its_way_than_may_be() {
        let (on_way, highest) = (AtomicU64::new(0), AtomicU64::new(0));
        let feed = |put: Feed<'_, u64>| {
            (0..500).try_for_each(|n| {
                let now = on_way.fetch_add(1, Ordering::SeqCst) + 1;
                highest.fetch_max(now, Ordering::SeqCst);
                put(n, 1)
            })
        };
        let mut take = |_| {
            on_way.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        };
        in_order(&pool(3), 8, feed, &Ok, &mut take).unwrap();
        // One of them waits at the door.
        assert!(highest.into_inner() <= 9);
    }

    #[test]
    fn the_first_failure_ends_everything() {
        let failed = |at: &'static str| {
            let fail = move |place, n: u64| match n {
                100 if place == at => Err(Error::Invalid(at.to_owned())),
                _ => Ok(n),
            };
            let mut taken = 0;
            let result = in_order(
                &pool(4),
                10,
                |put| (0..100_000).try_for_each(|n| put(fail("feed", n)?, 1)),
                &move |n| fail("work", n),
                &mut |n| {
                    taken += 1;
                    fail("take", n).map(drop)
                },
            );
            (result.unwrap_err(), taken)
        };
        for at in ["feed", "work", "take"] {
            let (error, taken) = failed(at);
            assert!(
                matches!(&error, Error::Invalid(what) if what == at),
                "{error}"
            );
            assert!(taken <= 101, "{at}: {taken}");
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_leaves_nobody_waiting() {
        let run = || {
            let work = |n: u64| {
                assert_ne!(n, 50, "on purpose");
                Ok(n)
            };
            in_order(
                &pool(3),
                4,
                |put| (0..10_000).try_for_each(|n| put(n, 1)),
                &work,
                &mut |_| Ok(()),
            )
        };
        assert!(std::panic::catch_unwind(run).is_err());
    }
}
