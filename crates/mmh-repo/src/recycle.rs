//! Encoders handed from task to task, so that their buffers and contexts are made once a thread.

use std::fmt;
use std::sync::Mutex;

use mmh_codec::entropy::Engine;
use mmh_codec::{Encoder, Settings};

use crate::error::Result;

/// A stack of idle encoders, each with a buffer for its frames.
pub(crate) struct Encoders {
    settings: Settings,
    engine: &'static dyn Engine,
    idle: Mutex<Vec<(Encoder, Vec<u8>)>>,
}

impl Encoders {
    pub(crate) fn new(settings: Settings, engine: &'static dyn Engine) -> Self {
        Self {
            settings,
            engine,
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Runs `work` with an encoder and an empty buffer.
    pub(crate) fn with<T>(
        &self,
        work: impl FnOnce(&mut Encoder, &mut Vec<u8>) -> Result<T>,
    ) -> Result<T> {
        let idle = self.idle.lock().map_or(None, |mut idle| idle.pop());
        let new = || Encoder::with_engine(self.settings.clone(), self.engine);
        let (mut encoder, mut frame) = idle.unwrap_or_else(|| (new(), Vec::new()));
        frame.clear();
        let result = work(&mut encoder, &mut frame);
        if let Ok(mut idle) = self.idle.lock() {
            idle.push((encoder, frame));
        }
        result
    }
}

impl fmt::Debug for Encoders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoders")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
