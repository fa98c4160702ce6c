//! Progress bars on standard error, for people who watch.

use std::sync::Mutex;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use mmh_core::ports::Progress;

/// One bar at a time.
#[derive(Debug, Default)]
pub(crate) struct Bar(Mutex<Option<ProgressBar>>);

const KNOWN: &str = "{prefix:>10} {bar:24} {percent:>3} % {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left  {wide_msg:.dim}";
const UNKNOWN: &str = "{prefix:>10} {spinner} {bytes}, {bytes_per_sec}  {wide_msg:.dim}";

impl Bar {
    fn with(&self, work: impl FnOnce(&ProgressBar)) {
        if let Ok(guard) = self.0.lock()
            && let Some(bar) = guard.as_ref()
        {
            work(bar);
        }
    }
}

impl Progress for Bar {
    fn begin(&self, stage: &str, total: Option<u64>) {
        let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        let template = if total.is_some() { KNOWN } else { UNKNOWN };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━━─"));
        }
        bar.set_prefix(stage.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        if let Ok(mut guard) = self.0.lock()
            && let Some(old) = guard.replace(bar)
        {
            old.finish_and_clear();
        }
    }

    fn advance(&self, bytes: u64) {
        self.with(|bar| bar.inc(bytes));
    }

    fn item(&self, name: &str) {
        self.with(|bar| bar.set_message(name.to_owned()));
    }

    fn end(&self) {
        if let Ok(mut guard) = self.0.lock()
            && let Some(bar) = guard.take()
        {
            bar.finish_and_clear();
        }
    }
}
