//! Real mounts: what plain programs see. Skipped, and said so, where there is no FUSE.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use mmh_core::ErrorKind;
use mmh_mount::{Errno, Mount, MountOptions, Stop, View, unmount};
use mmh_repo::FileCache;

use crate::scratch::{Scratch, noise, target};

/// Mounts, or says why not.
fn mount_at(scratch: &Scratch, view: View, passthrough: bool) -> Option<Mount> {
    let place = scratch.path("mnt");
    fs::create_dir_all(&place).unwrap();
    let options = MountOptions {
        source: "a test, with a comma".to_owned(),
        writes: false,
        others: false,
        threads: 4,
        passthrough,
    };
    match Mount::new(view, &place, &options) {
        Ok(mount) => Some(mount),
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Denied) => {
            eprintln!("SKIPPED: nothing can be mounted here: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn sample() -> (Scratch, Vec<(&'static str, Vec<u8>)>) {
    let scratch = Scratch::new();
    let files = vec![
        ("config.json", b"{}".to_vec()),
        ("deep/er/small", noise(10, 2)),
        ("model.bin", noise(9_000_000, 1)),
        (
            "other.bin",
            [noise(2_000_000, 3), vec![0; 3_000_000]].concat(),
        ),
        ("empty", Vec::new()),
    ];
    scratch.add(&files, "acme/m");
    (scratch, files)
}

fn run(command: &str, args: &[&Path]) -> Option<(bool, String)> {
    let ran = Command::new(command)
        .args(args)
        .stdin(Stdio::null())
        .output();
    let Ok(ran) = ran else {
        eprintln!("SKIPPED: `{command}` is not installed");
        return None;
    };
    let text = [ran.stdout, ran.stderr].concat();
    Some((
        ran.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    ))
}

fn read_tree(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut all, mut open) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(dir) = open.pop() {
        for item in fs::read_dir(dir).unwrap() {
            let path = item.unwrap().path();
            match path.is_dir() {
                true => open.push(path),
                false => drop(all.insert(
                    path.strip_prefix(root).unwrap().to_owned(),
                    fs::read(&path).unwrap(),
                )),
            }
        }
    }
    all
}

/// Through the decoder, from the cache of the disk, and by the kernel alone: the same bytes.
#[test]
fn programs_read_every_byte() {
    let (scratch, files) = sample();
    let expected: BTreeMap<PathBuf, Vec<u8>> = files
        .iter()
        .map(|(name, bytes)| (Path::new("models/acme/m").join(name), bytes.clone()))
        .collect();
    for passthrough in [false, true] {
        let cache = Arc::new(FileCache::new(scratch.path("cache"), 1 << 30));
        let _all = cache.clear(true);
        let view = scratch.view(None, Some(Arc::clone(&cache)));
        let Some(mount) = mount_at(&scratch, view, passthrough) else {
            return;
        };
        for round in 0..3 {
            assert!(read_tree(mount.place()) == expected, "round {round}");
        }
        // What is a mebibyte and longer was kept when it had been read.
        while cache.stat().files != 2 {
            std::thread::yield_now();
        }
        drop(mount);
        assert_eq!(fs::read_dir(scratch.path("mnt")).unwrap().count(), 0);
    }
}

#[test]
fn another_program_finds_and_compares() {
    let (scratch, files) = sample();
    let folder = scratch.path("same");
    for (name, bytes) in &files {
        crate::scratch::write(&folder.join(name), bytes);
    }
    let view = scratch.view(Some("acme/m"), Some(scratch.cache()));
    let Some(mount) = mount_at(&scratch, view, true) else {
        return;
    };
    for _ in 0..2 {
        if let Some((same, said)) = run("diff", &[Path::new("-r"), &folder, mount.place()]) {
            assert!(same, "{said}");
        }
    }
    if let Some((_, said)) = run("find", &[mount.place(), Path::new("-type"), Path::new("f")]) {
        assert_eq!(said.lines().count(), files.len(), "{said}");
    }
}

/// Pages come in any order, and twice from different processes at once.
#[test]
fn mapped_memory_is_right_in_two_processes_at_once() {
    let (scratch, files) = sample();
    for cache in [None, Some(scratch.cache())] {
        let view = scratch.view(Some("acme/m"), cache);
        let Some(mount) = mount_at(&scratch, view, true) else {
            return;
        };
        let script = "import mmap,sys,hashlib\n\
                      f=open(sys.argv[1],'rb')\n\
                      m=mmap.mmap(f.fileno(),0,prot=mmap.PROT_READ)\n\
                      n=len(m); k=1048573\n\
                      order=sorted(range(0,n,k),key=lambda i:(i*7919)%n)\n\
                      parts={i:bytes(m[i:i+k]) for i in order}\n\
                      print(hashlib.sha256(b''.join(parts[i] for i in sorted(parts))).hexdigest())";
        let (name, bytes) = &files[2];
        let path = mount.place().join(name);
        let start = || {
            let mut command = Command::new("python3");
            command
                .args(["-c", script])
                .arg(&path)
                .stdout(Stdio::piped());
            command.spawn().ok()
        };
        let (Some(one), Some(two)) = (start(), start()) else {
            eprintln!("SKIPPED: `python3` is not installed");
            return;
        };
        let plain = scratch.path("plain");
        fs::write(&plain, bytes).unwrap();
        let sum = Command::new("sha256sum").arg(&plain).output().unwrap();
        let expected = String::from_utf8_lossy(&sum.stdout)[..64].to_owned();
        for child in [one, two] {
            let said = child.wait_with_output().unwrap();
            assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), expected);
        }
    }
}

#[test]
fn many_files_are_found_with_stable_numbers() {
    let scratch = Scratch::new();
    let files: Vec<(String, Vec<u8>)> = (0..1500)
        .map(|n| (format!("d{}/f{n}", n % 40), format!("{n}").into_bytes()))
        .collect();
    let list: Vec<_> = files.iter().map(|(p, b)| (p.as_str(), b.clone())).collect();
    scratch.add(&list, "datasets/many");
    let mut numbers = Vec::new();
    for _ in 0..2 {
        let view = scratch.view(Some("datasets/many"), None);
        let Some(mount) = mount_at(&scratch, view, true) else {
            return;
        };
        let mut all: Vec<(String, u64, i64)> = Vec::new();
        for (name, bytes) in &files {
            let meta = fs::metadata(mount.place().join(name)).unwrap();
            assert_eq!(meta.len(), bytes.len() as u64);
            all.push((name.clone(), meta.ino(), meta.mtime()));
        }
        assert_eq!(read_tree(mount.place()).len(), files.len());
        numbers.push(all);
    }
    assert_eq!(numbers[0], numbers[1]);
    let mut inodes: Vec<u64> = numbers[0].iter().map(|n| n.1).collect();
    inodes.sort_unstable();
    inodes.dedup();
    assert_eq!(inodes.len(), files.len());
}

#[test]
fn the_kernel_refuses_changes_and_shows_attributes() {
    let (scratch, _) = sample();
    let view = scratch.view(Some("acme/m"), None);
    let Some(mount) = mount_at(&scratch, view, true) else {
        return;
    };
    let refused = fs::write(mount.place().join("new"), b"x").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(Errno::ROFS.raw_os_error()));
    let mut value = [0; 100];
    let path = mount.place().join("model.bin");
    let n = rustix::fs::getxattr(&path, "user.mmh.id", &mut value).unwrap();
    let repo = scratch.repo();
    let node = repo.node(&target("acme/m:model.bin")).unwrap();
    let mmh_core::tree::Node::File { id, .. } = node else {
        panic!("it is a file")
    };
    assert_eq!(String::from_utf8_lossy(&value[..n]), id.to_string());
    let space = rustix::fs::statvfs(mount.place()).unwrap();
    assert!(space.f_blocks > 0 && space.f_bavail == 0);
}

#[test]
fn it_ends_when_it_is_unmounted_or_asked() {
    let (scratch, _) = sample();
    let view = scratch.view(Some("acme/m"), None);
    let Some(mount) = mount_at(&scratch, view, true) else {
        return;
    };
    let place = mount.place().to_owned();
    // Two do not fit over each other.
    let other = scratch.view(Some("acme/m"), None);
    let options = MountOptions {
        source: "x".to_owned(),
        writes: false,
        others: false,
        threads: 1,
        passthrough: false,
    };
    let refused = Mount::new(other, &place, &options).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    let open = fs::File::open(place.join("model.bin")).unwrap();
    assert_eq!(
        unmount(&place, false).unwrap_err().kind(),
        ErrorKind::Conflict
    );
    drop(open);
    unmount(&place, false).unwrap();
    let stop = scratch.block_on(mount.wait(std::future::pending(), || panic!("nobody asked")));
    assert_eq!(stop.unwrap(), Stop::Unmounted);
    let view = scratch.view(Some("acme/m"), None);
    let mount = mount_at(&scratch, view, true).unwrap();
    let stop = scratch.block_on(mount.wait(std::future::ready(()), || panic!("nobody is in it")));
    assert_eq!(stop.unwrap(), Stop::Asked);
    assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
}

/// What is open when it is asked to stop can be read to its end.
#[test]
fn what_is_in_use_ends_with_its_use() {
    use std::io::Read as _;
    let (scratch, files) = sample();
    let view = scratch.view(Some("acme/m"), None);
    let Some(mount) = mount_at(&scratch, view, false) else {
        return;
    };
    let mut open = fs::File::open(mount.place().join("model.bin")).unwrap();
    let mut bytes = Vec::new();
    let busy = || {
        open.read_to_end(&mut bytes).unwrap();
        drop(open);
    };
    let stop = scratch.block_on(mount.wait(std::future::ready(()), busy));
    assert_eq!(stop.unwrap(), Stop::Asked);
    assert!(bytes == files[2].1);
}
