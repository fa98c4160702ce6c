//! A repository and folders that vanish after the test.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mmh_core::name::Target;
use mmh_repo::{
    AddOptions, AddReport, Components, ExportOptions, InitOptions, Repository, Settings,
};
use mmh_store::Backend;
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
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        Self {
            dir: tempfile::tempdir().unwrap(),
            runtime,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn components(&self) -> Components {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(3)
            .build()
            .unwrap();
        Components::new(self.runtime.handle().clone(), Arc::new(pool))
    }

    pub(crate) fn init(&self) -> Repository {
        self.init_at("repo", InitOptions::default())
    }

    /// A repository in a folder of this name.
    pub(crate) fn init_at(&self, name: &str, options: InitOptions) -> Repository {
        let backend = Backend::local(self.path(name)).unwrap();
        Repository::init_with(backend, options, settings(), self.components()).unwrap()
    }

    /// A repository in which damage stays.
    pub(crate) fn init_without_parity(&self) -> Repository {
        let options = InitOptions {
            parity: 0,
            ..InitOptions::default()
        };
        self.init_at("repo", options)
    }

    pub(crate) fn open(&self) -> Repository {
        self.open_with(self.components())
    }

    pub(crate) fn open_with(&self, components: Components) -> Repository {
        self.open_at("repo", components)
    }

    pub(crate) fn open_at(&self, name: &str, components: Components) -> Repository {
        let backend = Backend::local(self.path(name)).unwrap();
        Repository::open(backend, settings(), components).unwrap()
    }

    /// Writes files below a folder of this name and returns the folder.
    pub(crate) fn files(&self, folder: &str, files: &[(&str, Vec<u8>)]) -> PathBuf {
        for (name, bytes) in files {
            let path = self.path(folder).join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        self.path(folder)
    }

    /// Restores a target and reads back what was written.
    pub(crate) fn restore(&self, repo: &Repository, what: &str) -> BTreeMap<String, Vec<u8>> {
        let dest = tempfile::tempdir_in(self.dir.path()).unwrap();
        let node = repo.node(&target(what)).unwrap();
        repo.export(&node, "file", dest.path(), ExportOptions::default())
            .unwrap();
        read_tree(dest.path())
    }
}

pub(crate) fn settings() -> Settings {
    Settings {
        author: "a tester".to_owned(),
        ..Settings::default()
    }
}

pub(crate) fn add(repo: &Repository, path: &Path, to: &str) -> AddReport {
    repo.add(&[path.to_owned()], &target(to), &AddOptions::default())
        .unwrap()
}

/// Every file below a folder, by relative path.
pub(crate) fn read_tree(root: &Path) -> BTreeMap<String, Vec<u8>> {
    fn below(root: &Path, dir: &Path, all: &mut BTreeMap<String, Vec<u8>>) {
        for item in fs::read_dir(dir).unwrap() {
            let path = item.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            if meta.is_dir() {
                below(root, &path, all);
            } else if meta.is_file() {
                let name = path
                    .strip_prefix(root)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                all.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    let mut all = BTreeMap::new();
    below(root, root, &mut all);
    all
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
