//! The cache of whole files: what is wrong, too much, pinned, unfinished or shared.

use std::io::Write as _;

use super::*;
use crate::files::content::write_all_at;

fn digest(bytes: &[u8]) -> Digest {
    Digest::of(bytes)
}

fn content(n: u8, len: usize) -> Vec<u8> {
    (0..=250).cycle().take(len).map(|i: u8| i ^ n).collect()
}

fn put(cache: &FileCache, bytes: &[u8]) -> bool {
    let Some(partial) = cache.begin(digest(bytes), bytes.len() as u64) else {
        return false;
    };
    write_all_at(partial.file(), bytes, 0).unwrap();
    cache.publish(partial, None)
}

fn get(cache: &FileCache, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut file = cache.open(&digest(bytes), bytes.len() as u64)?;
    let mut read = Vec::new();
    file.read_to_end(&mut read).unwrap();
    Some(read)
}

/// Sets when a file was used last, in seconds.
fn used(cache: &FileCache, bytes: &[u8], at: u64) {
    let file = File::open(cache.path(&digest(bytes))).unwrap();
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(at);
    file.set_times(FileTimes::new().set_accessed(then)).unwrap();
}

#[test]
fn a_file_is_kept_and_another_process_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let cache = FileCache::new(dir.path().join("made"), 1 << 20);
    let bytes = content(1, 10_000);
    assert_eq!(get(&cache, &bytes), None);
    assert!(put(&cache, &bytes) && cache.holds(&digest(&bytes)));
    assert_eq!(get(&cache, &bytes).as_ref(), Some(&bytes));
    let other = FileCache::new(dir.path().join("made"), 1 << 20);
    assert_eq!(get(&other, &bytes), Some(bytes));
    let stat = other.stat();
    assert_eq!((stat.files, stat.bytes, stat.partial_bytes), (1, 10_000, 0));
}

/// Each bit, each length: what is not what its name says is a miss, and goes.
#[test]
fn a_wrong_file_is_never_handed_out() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(2, 40);
    let path = FileCache::new(dir.path().to_owned(), 1 << 20).path(&digest(&bytes));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let flips = (0..bytes.len() * 8).map(|bit| {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        bad
    });
    let cuts = (0..bytes.len()).map(|len| bytes[..len].to_vec());
    let longer = [&bytes[..], b"x"].concat();
    for bad in flips.chain(cuts).chain([longer]) {
        fs::write(&path, bad).unwrap();
        let cache = FileCache::new(dir.path().to_owned(), 1 << 20);
        assert_eq!(get(&cache, &bytes), None);
        assert!(!path.exists());
    }
    fs::write(&path, &bytes).unwrap();
    let cache = FileCache::new(dir.path().to_owned(), 1 << 20);
    assert_eq!(get(&cache, &bytes), Some(bytes));
}

/// What was found right is hashed again when it looks otherwise.
#[test]
fn a_file_that_was_changed_since_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let cache = FileCache::new(dir.path().to_owned(), 1 << 20);
    let bytes = content(3, 100);
    assert!(put(&cache, &bytes));
    let path = cache.path(&digest(&bytes));
    let mut bad = bytes.clone();
    bad[50] ^= 1;
    // As another program would: the same file, rewritten.
    fs::remove_file(&path).unwrap();
    fs::write(&path, &bad).unwrap();
    assert_eq!(get(&cache, &bytes), None);
    assert!(put(&cache, &bytes));
    assert_eq!(get(&cache, &bytes), Some(bytes));
}

#[test]
fn what_is_not_what_it_was_to_be_gets_no_name() {
    let dir = tempfile::tempdir().unwrap();
    let cache = FileCache::new(dir.path().to_owned(), 1 << 20);
    let bytes = content(4, 100);
    let partial = cache.begin(digest(&bytes), 100).unwrap();
    write_all_at(partial.file(), &bytes[..99], 0).unwrap();
    assert!(!cache.publish(partial, None));
    let partial = cache.begin(digest(&bytes), 100).unwrap();
    write_all_at(partial.file(), &bytes, 0).unwrap();
    assert!(!cache.publish(partial, Some(digest(b"other"))));
    assert_eq!(cache.stat(), CacheStat::default());
    assert!(!put(&cache, b""), "nothing is kept of nothing");
}

#[test]
fn what_was_used_longest_ago_goes_first_and_what_is_pinned_stays() {
    let dir = tempfile::tempdir().unwrap();
    let cache = FileCache::new(dir.path().to_owned(), 400);
    let files: Vec<_> = (0..6).map(|n| content(n, 100)).collect();
    cache.pin(&digest(&files[0])).unwrap();
    for (n, bytes) in files[..4].iter().enumerate() {
        assert!(put(&cache, bytes));
        used(&cache, bytes, 1000 + n as u64);
    }
    // That marks it as used now.
    assert!(get(&cache, &files[1]).is_some());
    assert!(put(&cache, &files[4]));
    let there = |n: usize| cache.holds(&digest(&files[n]));
    assert_eq!([0, 1, 2, 3, 4].map(there), [true, true, false, true, true]);
    let stat = cache.stat();
    assert_eq!(
        (stat.bytes, stat.pinned_files, stat.pinned_bytes),
        (400, 1, 100)
    );
    // Unpinned, it is the oldest.
    assert!(cache.unpin(&digest(&files[0])).unwrap());
    assert!(!cache.unpin(&digest(&files[0])).unwrap());
    assert!(put(&cache, &files[5]));
    assert!(!there(0) && there(5));
}

#[test]
fn the_bound_holds_whoever_filled_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..20 {
        let other = FileCache::new(dir.path().to_owned(), u64::MAX);
        assert!(put(&other, &content(n, 100)));
    }
    let cache = FileCache::new(dir.path().to_owned(), 500);
    assert!(put(&cache, &content(77, 100)));
    assert!(cache.stat().bytes <= 500);
    assert!(!put(&cache, &content(78, 501)), "it never fits");
    assert!(cache.stat().bytes > 0, "so nothing goes for it");
    let off = FileCache::new(dir.path().to_owned(), 0);
    assert!(!put(&off, &content(79, 1)));
}

/// Room that is promised to a file that is being written counts.
#[test]
fn unfinished_files_count_and_go_with_who_writes_them() {
    let dir = tempfile::tempdir().unwrap();
    let cache = FileCache::new(dir.path().to_owned(), 250);
    let bytes = content(1, 200);
    let partial = cache.begin(digest(&bytes), 200).unwrap();
    assert_eq!(cache.stat().partial_bytes, 200);
    assert!(!put(&cache, &content(2, 100)));
    drop(partial);
    assert!(put(&cache, &content(2, 100)));
    // What a process that died left has no lock.
    let left = dir.path().join("ab").join(format!("{PARTIAL}1-1"));
    fs::create_dir_all(left.parent().unwrap()).unwrap();
    File::create(&left).unwrap().write_all(&[0; 5000]).unwrap();
    assert!(put(&cache, &content(3, 100)));
    assert!(!left.exists());
}

#[test]
fn clear_leaves_pins_unless_told() {
    let dir = tempfile::tempdir().unwrap();
    let cache = FileCache::new(dir.path().to_owned(), 1 << 20);
    let files: Vec<_> = (0..3).map(|n| content(n, 100)).collect();
    cache.pin(&digest(&files[1])).unwrap();
    assert!(files.iter().all(|bytes| put(&cache, bytes)));
    let removed = cache.clear(false);
    assert_eq!((removed.files, removed.bytes), (2, 200));
    assert!(get(&cache, &files[1]).is_some());
    let removed = cache.clear(true);
    assert_eq!((removed.files, removed.pinned_files), (1, 1));
    assert_eq!(cache.stat(), CacheStat::default());
    assert!(!cache.unpin(&digest(&files[1])).unwrap());
}

#[test]
fn what_is_open_stays_whole_when_it_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let cache = FileCache::new(dir.path().to_owned(), 1 << 20);
    let bytes = content(1, 5000);
    assert!(put(&cache, &bytes));
    let mut open = cache.open(&digest(&bytes), 5000).unwrap();
    assert_eq!(cache.clear(false).files, 1);
    let mut read = Vec::new();
    open.read_to_end(&mut read).unwrap();
    assert_eq!(read, bytes);
}

#[test]
fn failures_are_misses() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("file");
    fs::write(&place, b"in the way").unwrap();
    let nowhere = FileCache::new(place, 1 << 20);
    assert!(!put(&nowhere, b"abc"));
    assert_eq!(get(&nowhere, b"abc"), None);
    assert_eq!(nowhere.stat(), CacheStat::default());
    assert!(nowhere.pin(&digest(b"abc")).is_err());
}

#[cfg(unix)]
#[test]
fn others_cannot_look_in() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let cache = FileCache::new(dir.path().join("cache"), 1 << 20);
    assert!(put(&cache, b"abc"));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(cache.folder()) & 0o077, 0);
    assert_eq!(mode(&cache.path(&digest(b"abc"))) & 0o777, 0o400);
}

/// Many at once, in threads as in processes: whole or not there.
#[test]
fn many_may_fill_and_read_the_same_folder() {
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let cache = FileCache::new(dir.path().to_owned(), 3000);
                for n in 0..40 {
                    let bytes = content(n % 7, 1000);
                    if let Some(read) = get(&cache, &bytes) {
                        assert_eq!(read, bytes);
                    } else {
                        put(&cache, &bytes);
                    }
                }
            });
        }
    });
    let stat = FileCache::new(dir.path().to_owned(), 3000).stat();
    assert_eq!(stat.partial_bytes, 0);
}
