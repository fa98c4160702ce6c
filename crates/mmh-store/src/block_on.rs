//! Waiting for a future on a thread of a computing pool.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use tokio::runtime::Handle;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls the future on this thread until it is ready; its timers, sockets and blocking calls run
/// on the runtime of `handle`. Unlike the runtime's own function it never panics inside a task:
/// it then only holds up that worker.
pub(crate) fn block_on<F: Future>(handle: &Handle, future: F) -> F::Output {
    let _inside = handle.enter();
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    // Inside a task, the runtime's budget would never be refilled, and from its end on every
    // future would say that it is not ready.
    let mut future = pin!(tokio::task::unconstrained(future));
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn works_beside_and_inside_a_runtime() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let handle = runtime.handle().clone();
        let job = || async { tokio::task::spawn_blocking(|| 7).await.unwrap() };
        assert_eq!(block_on(&handle, job()), 7);
        let inner = handle.clone();
        assert_eq!(runtime.block_on(async move { block_on(&inner, job()) }), 7);
    }

    /// A task has a budget of steps after which the runtime's futures pretend not to be ready.
    #[test]
    fn many_waits_inside_one_task_do_not_starve() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let handle = runtime.handle().clone();
        runtime.block_on(async {
            for n in 0..1000 {
                let job = async { tokio::task::spawn_blocking(move || n).await.unwrap() };
                assert_eq!(block_on(&handle, job), n);
            }
        });
    }
}
