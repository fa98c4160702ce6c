//! What work runs on: a runtime and a pool for each open repository, and how a thread of Python
//! waits for work that it can stop.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use mmh_core::ErrorKind;
use mmh_core::ports::{Cancel, Progress, SystemClock};
use mmh_repo::{Components, entropy};
use mmh_user::Config;
use pyo3::prelude::*;
use tokio::runtime::{Builder, Runtime};

use crate::failure::{Failure, Result};
use crate::keys::Keys;

/// How often a waiting thread looks for Ctrl-C and tells how far the work is.
const TICK: Duration = Duration::from_millis(50);

/// Threads, and the flag that stops what runs on them.
#[derive(Debug)]
pub(crate) struct Machine {
    runtime: Option<Runtime>,
    components: Components,
    tally: Arc<Tally>,
}

impl Drop for Machine {
    /// Without waiting for requests that nobody needs any more.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Machine {
    /// Starts threads as the settings say.
    ///
    /// # Errors
    /// Unavailable if the system gives none.
    pub(crate) fn start(config: &Config, keys: Keys) -> Result<Arc<Self>> {
        let failed = |what: String| Failure::Other(ErrorKind::Unavailable, what);
        let threads = config.threads.value;
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads.clamp(1, 8))
            .enable_all()
            .build()
            .map_err(|e| failed(format!("cannot start the runtime: {e}")))?;
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .map_err(|e| failed(format!("cannot start {threads} threads: {e}")))?;
        let tally = Arc::new(Tally::default());
        let components = Components {
            runtime: runtime.handle().clone(),
            pool: Arc::new(pool),
            progress: Arc::clone(&tally) as Arc<dyn Progress>,
            cancel: Cancel::default(),
            clock: Arc::new(SystemClock),
            engine: entropy::by_name(config.engine.value)
                .map_err(|e| Failure::invalid(e.to_string()))?,
            key: Arc::new(keys),
            trust: Arc::default(),
        };
        Ok(Arc::new(Self {
            runtime: Some(runtime),
            components,
            tally,
        }))
    }

    pub(crate) fn components(&self) -> Components {
        self.components.clone()
    }

    /// Does work on a thread of its own and waits for it without Python's lock. `told` is called
    /// with stage, bytes done, bytes in all (or `None`) and item, some twenty times a second; when it
    /// raises, or Ctrl-C is typed, the work is stopped at the next safe point.
    ///
    /// # Errors
    /// Those of the work; the exception that stopped it.
    pub(crate) fn run<T: Send>(
        &self,
        py: Python<'_>,
        told: Option<&Bound<'_, PyAny>>,
        work: impl FnOnce() -> Result<T> + Send,
    ) -> Result<T> {
        thread::scope(|scope| {
            let (send, mut receive) = mpsc::channel();
            let worker = scope.spawn(move || send.send(work()));
            let mut stopped = None;
            loop {
                let wait = &mut receive;
                let answer = py.detach(move || wait.recv_timeout(TICK));
                // What is done is told once more, at its end.
                let news = py.check_signals().and_then(|()| self.tell(told));
                if let (Err(error), None) = (news, &stopped) {
                    self.components.cancel.cancel();
                    stopped = Some(error);
                }
                let done = match answer {
                    Err(RecvTimeoutError::Timeout) => continue,
                    Ok(done) => done,
                    Err(RecvTimeoutError::Disconnected) => Err(broken()),
                };
                // A panic that was noticed here is not raised again by the scope.
                let _noticed = worker.join().is_err();
                return match stopped {
                    Some(error) => {
                        self.components.cancel.clear();
                        Err(error.into())
                    }
                    None => done,
                };
            }
        })
    }

    fn tell(&self, told: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let Some(told) = told else {
            return Ok(());
        };
        let (stage, total, item) = {
            let now = self.tally.now();
            (now.stage.clone(), now.total, now.item.clone())
        };
        let done = self.tally.done.load(Ordering::Relaxed);
        told.call1((stage, done, total, item)).map(drop)
    }
}

fn broken() -> Failure {
    Failure::Other(
        ErrorKind::Internal,
        "a thread ended in the middle of its work".to_owned(),
    )
}

/// How far the work is that runs now. Work of two threads on one repository is counted together.
#[derive(Debug, Default)]
struct Tally {
    done: AtomicU64,
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    stage: String,
    total: Option<u64>,
    item: String,
}

impl Tally {
    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for Tally {
    fn begin(&self, stage: &str, total: Option<u64>) {
        self.done.store(0, Ordering::Relaxed);
        *self.now() = Now {
            stage: stage.to_owned(),
            total,
            item: String::new(),
        };
    }

    fn advance(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    fn item(&self, name: &str) {
        name.clone_into(&mut self.now().item);
    }

    fn end(&self) {}
}
