//! Workspaces that are mounted, beside a plain folder: the same calls end the same way and leave the
//! same. Skipped, and said so, where there is no FUSE.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use mmh_core::ErrorKind;
use mmh_mount::{Mount, MountOptions, Staging};
use proptest::prelude::*;

use crate::scratch::{Scratch, noise, write};

/// Paths that calls are about: some are there at first, some are folders, some never are.
const PATHS: [&str; 10] = [
    "model.bin",
    "d/small",
    "d/e",
    "a",
    "b",
    "d",
    "d/x",
    "d/e/y",
    "link",
    "none/z",
];

#[derive(Debug, Clone)]
enum Call {
    Write(usize, u64, usize),
    Append(usize, usize),
    Replace(usize, usize),
    Cut(usize, u64),
    Read(usize, u64, usize),
    Rename(usize, usize),
    Unlink(usize),
    MakeDir(usize),
    RemoveDir(usize),
    Link(usize, usize),
    Symlink(usize),
    Mode(usize, u32),
    Sync(usize),
}

fn call() -> impl Strategy<Value = Call> {
    let p = || 0..PATHS.len();
    let at = || prop_oneof![0u64..100, 0u64..1_600_000];
    let len = || prop_oneof![0usize..50, 0usize..300_000];
    prop_oneof![
        3 => (p(), at(), len()).prop_map(|(p, at, n)| Call::Write(p, at, n)),
        1 => (p(), len()).prop_map(|(p, n)| Call::Append(p, n)),
        1 => (p(), len()).prop_map(|(p, n)| Call::Replace(p, n)),
        2 => (p(), at()).prop_map(|(p, n)| Call::Cut(p, n)),
        3 => (p(), at(), len()).prop_map(|(p, at, n)| Call::Read(p, at, n)),
        2 => (p(), p()).prop_map(|(a, b)| Call::Rename(a, b)),
        1 => p().prop_map(Call::Unlink),
        1 => p().prop_map(Call::MakeDir),
        1 => p().prop_map(Call::RemoveDir),
        1 => (p(), p()).prop_map(|(a, b)| Call::Link(a, b)),
        1 => p().prop_map(Call::Symlink),
        1 => (p(), prop_oneof![Just(0o644), Just(0o755), Just(0o600)])
            .prop_map(|(p, mode)| Call::Mode(p, mode)),
        1 => p().prop_map(Call::Sync),
    ]
}

/// Does it below a folder; what it gave, or the number of its error.
fn run(root: &Path, call: &Call) -> Result<Vec<u8>, Option<i32>> {
    let at = |n: &usize| root.join(PATHS[*n]);
    let done = || -> io::Result<Vec<u8>> {
        match call {
            Call::Write(p, offset, len) => {
                let file = File::options()
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(at(p))?;
                file.write_all_at(&noise(*len, *offset), *offset)?;
            }
            Call::Append(p, len) => {
                use io::Write;
                File::options()
                    .append(true)
                    .open(at(p))?
                    .write_all(&noise(*len, 9))?;
            }
            Call::Replace(p, len) => fs::write(at(p), noise(*len, 11))?,
            Call::Cut(p, len) => File::options().write(true).open(at(p))?.set_len(*len)?,
            Call::Read(p, offset, len) => {
                let file = File::open(at(p))?;
                let mut bytes = vec![0; *len];
                let n = match file.metadata()?.is_dir() {
                    true => 0,
                    false => file.read_at(&mut bytes, *offset)?,
                };
                bytes.truncate(n);
                return Ok(bytes);
            }
            Call::Rename(a, b) => fs::rename(at(a), at(b))?,
            Call::Unlink(p) => fs::remove_file(at(p))?,
            Call::MakeDir(p) => fs::create_dir(at(p))?,
            Call::RemoveDir(p) => fs::remove_dir(at(p))?,
            Call::Link(a, b) => fs::hard_link(at(a), at(b))?,
            Call::Symlink(p) => symlink("d/small", at(p))?,
            Call::Mode(p, mode) => fs::set_permissions(at(p), fs::Permissions::from_mode(*mode))?,
            Call::Sync(p) => File::open(at(p))?.sync_all()?,
        }
        Ok(Vec::new())
    };
    done().map_err(|error| error.raw_os_error())
}

/// Everything below a folder: kind, mode, names it has, and bytes or target.
fn state(root: &Path) -> BTreeMap<PathBuf, (u32, u64, Vec<u8>)> {
    let (mut all, mut open) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(dir) = open.pop() {
        for item in fs::read_dir(dir).unwrap() {
            let path = item.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let (links, content) = if meta.is_dir() {
                open.push(path.clone());
                (0, Vec::new())
            } else if meta.is_symlink() {
                let target = fs::read_link(&path).unwrap();
                (meta.nlink(), target.into_os_string().into_encoded_bytes())
            } else {
                assert_eq!(meta.len(), fs::read(&path).unwrap().len() as u64);
                (meta.nlink(), fs::read(&path).unwrap())
            };
            let name = path.strip_prefix(root).unwrap().to_owned();
            all.insert(name, (meta.mode(), links, content));
        }
    }
    all
}

fn fixture() -> (Scratch, PathBuf) {
    let scratch = Scratch::new();
    let plain = scratch.path("plain");
    write(&plain.join("model.bin"), &noise(1_500_000, 1));
    write(&plain.join("d/small"), b"small");
    fs::create_dir(plain.join("d/e")).unwrap();
    symlink("d/small", plain.join("link")).unwrap();
    scratch.add_folder(&plain, "acme/m");
    (scratch, plain)
}

fn mount(scratch: &Scratch, passthrough: bool) -> Option<Mount> {
    let place = scratch.path("mnt");
    fs::create_dir_all(&place).unwrap();
    let options = MountOptions {
        source: "work".to_owned(),
        writes: true,
        others: false,
        threads: 3,
        passthrough,
    };
    match Mount::new(scratch.work("acme/m"), &place, &options) {
        Ok(mount) => Some(mount),
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Denied) => {
            eprintln!("SKIPPED: nothing can be mounted here: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// What a commit keeps of a state: of the mode the owner's right to execute, of names each by itself.
fn kept(state: BTreeMap<PathBuf, (u32, u64, Vec<u8>)>) -> Vec<(PathBuf, u32, Vec<u8>)> {
    let mode = |mode: u32| match mode & 0o170_000 {
        0o100_000 => mode & 0o170_100,
        other => other,
    };
    let all = state.into_iter();
    all.map(|(path, (m, _, content))| (path, mode(m), content))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    /// Any calls do what they do in a plain folder, by the kernel alone or through us; what is
    /// committed is what was there.
    #[test]
    fn a_workspace_is_a_folder(
        calls in proptest::collection::vec(call(), 1..60),
        passthrough in any::<bool>(),
    ) {
        let (scratch, plain) = fixture();
        let Some(mounted) = mount(&scratch, passthrough) else { return Ok(()); };
        for call in &calls {
            let (expected, got) = (run(&plain, call), run(mounted.place(), call));
            prop_assert!(expected == got, "{call:?}: {:?} {:?}",
                expected.map(|b| b.len()), got.map(|b| b.len()));
        }
        let (expected, got) = (state(&plain), state(mounted.place()));
        prop_assert!(expected == got);
        let mut staging = Staging::of_mounted(mounted.place()).unwrap();
        staging.commit(&scratch.repo(), None).unwrap();
        drop(mounted);
        let (repo, out) = (scratch.repo(), scratch.path("out"));
        let node = repo.node(&crate::scratch::target("acme/m")).unwrap();
        let options = mmh_repo::ExportOptions { unsafe_links: true, ..Default::default() };
        repo.export(&node, "m", &out, options).unwrap();
        prop_assert!(kept(state(&out)) == kept(expected));
    }

    /// One file, read, written, cut and extended at random, beside memory: as fsx does.
    #[test]
    fn one_file_under_many_calls(
        calls in proptest::collection::vec((0u8..4, 0usize..400_000, 0usize..70_000), 1..120),
        passthrough in any::<bool>(),
    ) {
        let (scratch, _) = fixture();
        let Some(mounted) = mount(&scratch, passthrough) else { return Ok(()); };
        let mut model = noise(1_500_000, 1);
        let path = mounted.place().join("model.bin");
        let mut file = File::options().read(true).write(true).open(&path).unwrap();
        for (n, (what, at, len)) in calls.into_iter().enumerate() {
            match what {
                0 => {
                    let bytes = noise(len, n as u64);
                    file.write_all_at(&bytes, at as u64).unwrap();
                    model.resize(model.len().max(at + len), 0);
                    model[at..at + len].copy_from_slice(&bytes);
                }
                1 => {
                    file.set_len(at as u64).unwrap();
                    model.resize(at, 0);
                }
                2 => file = File::options().read(true).write(true).open(&path).unwrap(),
                _ => {
                    let mut bytes = vec![0; len];
                    let mut n = 0;
                    while n < len {
                        match file.read_at(&mut bytes[n..], (at + n) as u64).unwrap() {
                            0 => break,
                            more => n += more,
                        }
                    }
                    let end = (at + len).min(model.len());
                    prop_assert!(bytes[..n] == *model.get(at..end).unwrap_or_default());
                }
            }
            prop_assert_eq!(file.metadata().unwrap().len(), model.len() as u64);
        }
        prop_assert!(fs::read(&path).unwrap() == model);
    }
}

/// Two handles of one file see each other's writes, opened before and after it was filled.
#[test]
fn handles_of_one_file_agree() {
    let (scratch, _) = fixture();
    for passthrough in [false, true] {
        let Some(mounted) = mount(&scratch, passthrough) else {
            return;
        };
        let path = mounted.place().join("model.bin");
        let early = File::open(&path).unwrap();
        let mut bytes = [0; 4];
        early.read_exact_at(&mut bytes, 0).unwrap();
        let writer = File::options().write(true).open(&path).unwrap();
        let late = File::open(&path).unwrap();
        writer.write_all_at(b"abcd", 0).unwrap();
        writer.sync_all().unwrap();
        for reader in [&early, &late] {
            reader.read_exact_at(&mut bytes, 0).unwrap();
            assert_eq!(&bytes, b"abcd");
        }
        assert_eq!(fs::read(&path).unwrap().len(), 1_500_000);
    }
}
