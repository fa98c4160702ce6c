//! A repository and folders that vanish after the test.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mmh_core::name::Target;
use mmh_core::ports::SystemClock;
use mmh_mount::{Staging, View, ViewOptions, Work};
use mmh_repo::{AddOptions, Backend, Components, FileCache, Repository, Settings};
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub(crate) struct Scratch {
    pub(crate) dir: TempDir,
    runtime: Runtime,
}

pub(crate) fn target(text: &str) -> Target {
    text.parse().unwrap()
}

impl Scratch {
    /// With an empty repository.
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let scratch = Self {
            dir: tempfile::tempdir().unwrap(),
            runtime,
        };
        let backend = Backend::local(scratch.path("repo")).unwrap();
        Repository::init(backend, Settings::default(), scratch.components()).unwrap();
        scratch
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    fn components(&self) -> Components {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build();
        let mut components =
            Components::new(self.runtime.handle().clone(), Arc::new(pool.unwrap()));
        components.clock = Arc::new(SystemClock);
        components
    }

    pub(crate) fn repo(&self) -> Arc<Repository> {
        let backend = Backend::local(self.path("repo")).unwrap();
        Arc::new(Repository::open(backend, Settings::default(), self.components()).unwrap())
    }

    /// Writes files below a folder and adds that under a name.
    pub(crate) fn add(&self, files: &[(&str, Vec<u8>)], to: &str) {
        let folder = tempfile::tempdir_in(self.dir.path()).unwrap();
        for (name, bytes) in files {
            write(&folder.path().join(name), bytes);
        }
        self.add_folder(folder.path(), to);
    }

    pub(crate) fn add_folder(&self, folder: &Path, to: &str) {
        let options = AddOptions {
            replace: true,
            ..AddOptions::default()
        };
        let paths = [folder.to_owned()];
        self.repo().add(&paths, &target(to), &options).unwrap();
    }

    pub(crate) fn cache(&self) -> Arc<FileCache> {
        Arc::new(FileCache::new(self.path("cache"), 1 << 30))
    }

    /// The workspace of a name, whose changes stay unless `discard`.
    pub(crate) fn staging(&self, name: &str, discard: bool) -> (Staging, bool) {
        let (repo, works) = (self.repo(), self.path("works"));
        let of = (repo.as_ref(), "the repository");
        let opened = Staging::open(&works, of, &target(name), discard);
        let (staging, report) = opened.unwrap();
        (staging, report.recovered)
    }

    pub(crate) fn work(&self, name: &str) -> Work {
        let (staging, _) = self.staging(name, false);
        Work::new(self.repo(), staging, 1 << 24, None).unwrap()
    }

    pub(crate) fn view(&self, what: Option<&str>, cache: Option<Arc<FileCache>>) -> View {
        let options = ViewOptions {
            target: what.map(target),
            cache,
            memory_len: 1 << 26,
            owner: (7, 8),
            now_ms: 1000,
            shown: None,
        };
        View::new(self.repo(), options).unwrap()
    }
}

pub(crate) fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Bytes from a fixed sequence: incompressible, the same for the same start.
pub(crate) fn noise(len: usize, start: u64) -> Vec<u8> {
    let mut state = start.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[4]
        })
        .collect()
}
