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

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(bar: &Bar) -> Option<(u64, Option<u64>, String, String)> {
        let guard = bar.0.lock().unwrap();
        let bar = guard.as_ref()?;
        Some((bar.position(), bar.length(), bar.prefix(), bar.message()))
    }

    /// Both templates are well formed; a wrong one would silently show another bar.
    #[test]
    fn templates_are_understood() {
        for template in [KNOWN, UNKNOWN] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }

    /// The bar counts bytes, names the file at hand, and is gone at the end.
    #[test]
    fn a_stage_counts_and_ends() {
        let bar = Bar::default();
        bar.begin("adding", Some(10));
        bar.item("a.bin");
        bar.advance(3);
        bar.advance(4);
        let expected = (7, Some(10), "adding".to_owned(), "a.bin".to_owned());
        assert_eq!(shown(&bar), Some(expected));
        bar.end();
        assert_eq!(shown(&bar), None);
    }

    /// A stage that begins replaces the one before; one of unknown length has no end to reach.
    #[test]
    fn stages_replace_each_other() {
        let bar = Bar::default();
        bar.begin("first", Some(10));
        bar.advance(10);
        bar.begin("second", None);
        bar.advance(u64::MAX);
        let (position, length, prefix, _) = shown(&bar).unwrap();
        assert_eq!((position, length), (u64::MAX, None));
        assert_eq!(prefix, "second");
        bar.end();
    }

    /// Reports outside any stage, as of work that was stopped, change nothing.
    #[test]
    fn reports_without_a_stage_are_passed_over() {
        let bar = Bar::default();
        bar.advance(5);
        bar.item("x");
        bar.end();
        assert_eq!(shown(&bar), None);
        bar.begin("adding", Some(0));
        assert_eq!(shown(&bar).unwrap().0, 0);
    }

    /// Threads advance one bar together without losing a byte.
    #[test]
    fn threads_share_a_bar() {
        let bar = Bar::default();
        bar.begin("adding", Some(4000));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| bar.advance(1)));
            }
        });
        assert_eq!(shown(&bar).unwrap().0, 4000);
        bar.end();
    }
}
