//! Records are made when a file is committed, and thrown away 22 days after nothing names it.
//!
//! A client that sent xorbs remembers them for 21 days, in which it refers to their chunks. So what a
//! xorb that was sent is of xorbs of files is a record too, and lasts as long as those files.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use mmh_core::FileId;
use mmh_core::name::RepoName;
use mmh_core::tree::Node;
use mmh_repo::refs::Resolved;
use mmh_repo::{Error, NoteEditor, Repository, Result};
use mmh_xet::{XORB_CHUNKS_MAX, XetHash};

use super::records::{
    Builder, DOOR, Kind, Made, OfFile, Part, Run, link_in, made_in, parts_in, put_made, put_parts,
    put_run, run_in,
};
use crate::hub::uploads::{Referred, read_list};

/// How long a file is kept after the last branch or tag had it, in days: one more than clients remember.
pub(crate) const GONE_KEPT_DAYS: u64 = 22;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// A file whose chunks are listed.
#[derive(Debug)]
pub(crate) struct Came {
    pub(crate) file: FileId,
    pub(crate) size: u64,
    /// The list.
    pub(crate) list: PathBuf,
}

/// Keeps records of files in the note of a name. `n_chunks` says how many chunks a xorb has that was
/// sent; gives those of them that are known whole now, of which nothing else need be kept.
///
/// # Errors
/// `Invalid` for lists that do not fit their files; those of storing.
pub(crate) fn keep(
    repo: &Repository,
    name: &RepoName,
    came: &[Came],
    n_chunks: &dyn Fn(&XetHash) -> Option<usize>,
    now_ms: u64,
) -> Result<Vec<XetHash>> {
    let whole = RefCell::new(Vec::new());
    repo.edit_note(name, DOOR, &|editor| {
        let mut sent: BTreeMap<XetHash, Vec<Part>> = BTreeMap::new();
        for came in came {
            let (xorbs, runs) = keep_file(editor, came)?;
            refer(&runs, &xorbs, &mut sent);
        }
        let mut known = whole.borrow_mut();
        known.clear();
        for (xorb, parts) in sent {
            if keep_parts(editor, &xorb, parts, n_chunks(&xorb), now_ms)? {
                known.push(xorb);
            }
        }
        Ok(())
    })?;
    Ok(whole.into_inner())
}

fn keep_file(editor: &mut NoteEditor<'_>, came: &Came) -> Result<(Vec<OfFile>, Vec<Referred>)> {
    let mut builder = Builder::new(editor, came.file, came.size);
    let mut failed = Ok(());
    let runs = read_list(&came.list, &mut |leaf| {
        failed = builder.push(leaf);
        match failed {
            Ok(()) => Ok(()),
            // What failed is told below.
            Err(_) => Err(std::io::ErrorKind::Other.into()),
        }
    });
    failed?;
    let runs = runs.map_err(|error| Error::Invalid(format!("a list of chunks: {error}")))?;
    Ok((builder.finish()?, runs))
}

/// Which chunks of a file's xorbs the runs are that a client made the file of.
fn refer(runs: &[Referred], xorbs: &[OfFile], sent: &mut BTreeMap<XetHash, Vec<Part>>) {
    let (mut xorbs, mut first) = (xorbs.iter(), 0);
    let mut xorb = xorbs.next();
    for run in runs {
        let mut at = run.chunks.start;
        while let Some(of_file) = xorb
            && at < run.chunks.end
        {
            let n = (run.chunks.end - at).min(of_file.n_chunks - first);
            let part = Part {
                at,
                n,
                xorb: of_file.hash,
                first,
            };
            sent.entry(run.xorb).or_default().push(part);
            (at, first) = (at + n, first + n);
            if first == of_file.n_chunks {
                (xorb, first) = (xorbs.next(), 0);
            }
        }
    }
}

/// Adds parts of a xorb that was sent to those that are known; says whether all of it is known now.
fn keep_parts(
    editor: &mut NoteEditor<'_>,
    xorb: &XetHash,
    new: Vec<Part>,
    n_chunks: Option<usize>,
    now_ms: u64,
) -> Result<bool> {
    // It is a xorb of a file as it is.
    if let Some(run) = run_in(editor, xorb)? {
        stay(editor, &run.file, now_ms)?;
        return Ok(true);
    }
    let old = parts_in(editor, xorb)?;
    for part in &old {
        if let Some(run) = run_in(editor, &part.xorb)? {
            stay(editor, &run.file, now_ms)?;
        }
    }
    // What is known stays as it is, so that what is not there later is so for both.
    let mut chunks: Vec<Option<(XetHash, u32)>> = vec![None; XORB_CHUNKS_MAX];
    for part in old.iter().chain(&new) {
        let places = chunks.iter_mut().skip(part.at as usize);
        for (place, first) in places.take(part.n as usize).zip(part.first..) {
            place.get_or_insert((part.xorb, first));
        }
    }
    let parts = join(&chunks);
    if parts != old {
        put_parts(editor, xorb, &parts)?;
    }
    let n_chunks = n_chunks.unwrap_or(usize::MAX);
    Ok(chunks.iter().take(n_chunks).all(Option::is_some) && n_chunks <= XORB_CHUNKS_MAX)
}

/// Parts out of single chunks.
fn join(chunks: &[Option<(XetHash, u32)>]) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for (at, chunk) in (0u32..).zip(chunks) {
        let Some((xorb, first)) = *chunk else {
            continue;
        };
        match parts.last_mut() {
            Some(last)
                if last.at + last.n == at && last.xorb == xorb && last.first + last.n == first =>
            {
                last.n += 1;
            }
            _ => parts.push(Part {
                at,
                n: 1,
                xorb,
                first,
            }),
        }
    }
    parts
}

/// A file was built on: if it is gone, its time begins again.
fn stay(editor: &mut NoteEditor<'_>, file: &FileId, now_ms: u64) -> Result<()> {
    let gone = Kind::Gone.of_file(file);
    if editor.node(&gone)?.is_some() {
        let target = now_ms.to_string();
        editor.put(gone, Node::Link { target });
    }
    Ok(())
}

/// Looks which files of the note no branch or tag has any more, and throws away what is remembered of
/// those that went [`GONE_KEPT_DAYS`] ago.
///
/// # Errors
/// Those of reading and storing.
pub(crate) fn sweep(repo: &Repository, name: &RepoName, now_ms: u64) -> Result<()> {
    let mut named = HashSet::new();
    for id in repo.tips(name)? {
        let snapshot = repo.snapshot(id)?;
        let by = None;
        let found = Resolved { id, snapshot, by };
        for listed in repo.list_in(&found, "", true)?.unwrap_or_default() {
            if let Node::File { id, .. } = listed.node {
                named.insert(id);
            }
        }
    }
    let kept = GONE_KEPT_DAYS * DAY_MS;
    repo.edit_note(name, DOOR, &|editor| {
        let mut over = Vec::new();
        for listed in editor.list(Kind::Files.folder())? {
            let Node::File { id, .. } = listed.node else {
                continue;
            };
            let gone = Kind::Gone.of_file(&id);
            let since = match editor.node(&gone)? {
                Some(Node::Link { target }) => Some(target.parse::<u64>().unwrap_or(0)),
                _ => None,
            };
            match since {
                Some(_) if named.contains(&id) => editor.remove(gone)?,
                None if !named.contains(&id) => {
                    let target = now_ms.to_string();
                    editor.put(gone, Node::Link { target });
                }
                Some(since) if since.saturating_add(kept) < now_ms => over.push(id),
                _ => {}
            }
        }
        forget(editor, &over)
    })?;
    Ok(())
}

/// Throws away what is remembered of files. Records that other files need too become those of others.
fn forget(editor: &mut NoteEditor<'_>, files: &[FileId]) -> Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    let gone: HashSet<FileId> = files.iter().copied().collect();
    let heirs = heirs(editor, &gone)?;
    let mut xorbs: BTreeMap<XetHash, FileId> = BTreeMap::new();
    for file in files {
        let hashes = Kind::Hashes.of_file(file);
        if let Some(hash) = link_in(editor, &hashes)?
            && let Some(made) = made_in(editor, &hash)?
            && made.file == *file
        {
            xorbs.extend(made.xorbs.iter().map(|xorb| (xorb.hash, *file)));
            match heirs.get(&hash) {
                Some(heir) => put_made(
                    editor,
                    &hash,
                    &Made {
                        file: *heir,
                        ..made
                    },
                )?,
                None => editor.remove(Kind::Made.of(&hash))?,
            }
        }
        for path in [hashes, Kind::Files.of_file(file), Kind::Gone.of_file(file)] {
            editor.remove(path)?;
        }
    }
    inherit(editor, &heirs, &mut xorbs)?;
    let mut lost = HashSet::new();
    for (hash, file) in xorbs {
        let Some(run) = run_in(editor, &hash)?.filter(|run| run.file == file) else {
            continue;
        };
        // The first may be that of the file.
        let shared = run.leaves.iter().enumerate();
        let shared = shared.filter(|(i, (chunk, _))| *i == 0 || chunk.is_shared());
        for (_, (chunk, _)) in shared {
            let path = Kind::Shared.of(chunk);
            if link_in(editor, &path)? == Some(hash) {
                editor.remove(path)?;
            }
        }
        editor.remove(Kind::Xorbs.of(&hash))?;
        lost.insert(hash);
    }
    forget_parts(editor, &lost)
}

/// Files that stay, by their hashes.
fn heirs(editor: &NoteEditor<'_>, gone: &HashSet<FileId>) -> Result<BTreeMap<XetHash, FileId>> {
    let mut heirs = BTreeMap::new();
    for listed in editor.list(Kind::Files.folder())? {
        if let Node::File { id, .. } = listed.node
            && !gone.contains(&id)
            && let Some(hash) = link_in(editor, &Kind::Hashes.of_file(&id))?
        {
            heirs.insert(hash, id);
        }
    }
    Ok(heirs)
}

/// Gives xorbs to files that have them too, and takes them out of those that are lost.
fn inherit(
    editor: &mut NoteEditor<'_>,
    heirs: &BTreeMap<XetHash, FileId>,
    xorbs: &mut BTreeMap<XetHash, FileId>,
) -> Result<()> {
    for hash in heirs.keys() {
        if xorbs.is_empty() {
            break;
        }
        let Some(made) = made_in(editor, hash)? else {
            continue;
        };
        let mut at = 0;
        for xorb in &made.xorbs {
            if xorbs.remove(&xorb.hash).is_some()
                && let Some(run) = run_in(editor, &xorb.hash)?
            {
                let file = made.file;
                put_run(editor, &xorb.hash, &Run { file, at, ..run })?;
            }
            at += u64::from(xorb.raw_len);
        }
    }
    Ok(())
}

/// Takes xorbs that are lost out of what is known of those that were sent.
fn forget_parts(editor: &mut NoteEditor<'_>, lost: &HashSet<XetHash>) -> Result<()> {
    if lost.is_empty() {
        return Ok(());
    }
    for listed in editor.list(Kind::Parts.folder())? {
        let Some(Ok(sent)) = listed.path.rsplit('/').next().map(str::parse::<XetHash>) else {
            continue;
        };
        let mut parts = parts_in(editor, &sent)?;
        let before = parts.len();
        parts.retain(|part| !lost.contains(&part.xorb));
        if parts.len() < before {
            put_parts(editor, &sent, &parts)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u32) -> XetHash {
        XetHash::of_chunk(&n.to_le_bytes())
    }

    fn of_file(n: u32, n_chunks: u32) -> OfFile {
        OfFile {
            hash: hash(n),
            n_chunks,
            raw_len: n_chunks,
        }
    }

    fn referred(n: u32, chunks: std::ops::Range<u32>) -> Referred {
        let xorb = hash(n);
        Referred { xorb, chunks }
    }

    /// A file of two xorbs of 5 chunks is referred to by runs that end elsewhere.
    #[test]
    fn runs_are_parts_of_the_xorbs_of_a_file() {
        let runs = [referred(7, 2..5), referred(8, 0..6), referred(7, 0..1)];
        let mut sent = BTreeMap::new();
        refer(&runs, &[of_file(1, 5), of_file(2, 5)], &mut sent);
        let part = |at, n, of: u32, first| Part {
            at,
            n,
            xorb: hash(of),
            first,
        };
        assert_eq!(sent[&hash(7)], [part(2, 3, 1, 0), part(0, 1, 2, 4)]);
        assert_eq!(sent[&hash(8)], [part(0, 2, 1, 3), part(2, 4, 2, 0)]);
        // More is said than there is.
        refer(&[referred(9, 0..9)], &[of_file(1, 2)], &mut sent);
        assert_eq!(sent[&hash(9)], [part(0, 2, 1, 0)]);
    }

    #[test]
    fn chunks_that_follow_one_another_are_one_part() {
        let chunks = [
            Some((hash(1), 3)),
            Some((hash(1), 4)),
            None,
            Some((hash(1), 6)),
            Some((hash(2), 7)),
            Some((hash(2), 7)),
        ];
        let ats: Vec<_> = join(&chunks).iter().map(|p| (p.at, p.n, p.first)).collect();
        assert_eq!(ats, [(0, 2, 3), (3, 1, 6), (4, 1, 7), (5, 1, 7)]);
        assert_eq!(join(&[None, None]), []);
    }

    /// A name with one file of that many bytes, each of which is a chunk; they need not be right here.
    struct Place {
        repo: std::sync::Arc<Repository>,
        name: RepoName,
        folder: tempfile::TempDir,
        _runtime: tokio::runtime::Runtime,
    }

    const LEN: u32 = 20_000;

    impl Place {
        fn new() -> Self {
            let (runtime, repo) = crate::hub::tests::memory();
            let place = Self {
                repo,
                name: "acme/m".parse().unwrap(),
                folder: tempfile::tempdir().unwrap(),
                _runtime: runtime,
            };
            place.change(&[("w.bin", 1), ("x.bin", 2)], &[]);
            place
        }

        fn change(&self, files: &[(&str, u8)], removed: &[&str]) {
            let folder = tempfile::tempdir().unwrap();
            for (path, byte) in files {
                std::fs::write(folder.path().join(path), vec![*byte; LEN as usize]).unwrap();
            }
            let branch = mmh_core::name::RefName::branch(self.name.clone(), "main").unwrap();
            let onto = match self.repo.tips(&self.name).unwrap().is_empty() {
                true => mmh_repo::Onto::Nothing,
                false => mmh_repo::Onto::Any,
            };
            let change = mmh_repo::Change {
                folder: Some(folder.path().to_owned()),
                removed: removed.iter().map(|path| (*path).to_owned()).collect(),
                onto,
                ..mmh_repo::Change::default()
            };
            self.repo.change(&branch, &change).unwrap();
        }

        fn file(&self, path: &str) -> FileId {
            let target = format!("acme/m:{path}").parse().unwrap();
            match self.repo.node(&target).unwrap() {
                Node::File { id, .. } => id,
                node => panic!("{node:?}"),
            }
        }

        /// Keeps records of a file whose chunks have the hashes of numbers from `first` on.
        fn keep(&self, path: &str, first: u32, runs: &[Referred], now_ms: u64) -> Vec<XetHash> {
            self.keep_with(path, &|n| first + n, runs, now_ms)
        }

        fn keep_with(
            &self,
            path: &str,
            number: &dyn Fn(u32) -> u32,
            runs: &[Referred],
            now_ms: u64,
        ) -> Vec<XetHash> {
            use crate::hub::uploads::LeavesWriter;
            let list = self
                .folder
                .path()
                .join(format!("{path}-{}-{now_ms}", number(0)));
            let removed = crate::hub::uploads::Removed(list.clone());
            let mut writer = LeavesWriter::create(removed, Some(runs)).unwrap();
            for n in 0..LEN {
                writer.leaf(&(hash(number(n)), 1)).unwrap();
            }
            let _list = writer.finish().unwrap();
            let came = Came {
                file: self.file(path),
                size: u64::from(LEN),
                list,
            };
            let n_chunks = |xorb: &XetHash| (*xorb == hash(7)).then_some(8100);
            keep(&self.repo, &self.name, &[came], &n_chunks, now_ms).unwrap()
        }

        fn records(&self) -> super::super::Records<'_> {
            let records = super::super::Records::of(&self.repo, &self.name);
            records.unwrap().unwrap()
        }
    }

    #[test]
    fn records_say_what_a_file_is_made_of() {
        let place = Place::new();
        let runs = [
            referred(7, 100..8000),
            referred(8, 0..8000),
            referred(9, 0..4100),
        ];
        let whole = place.keep("w.bin", 0, &runs, 5);
        assert_eq!(whole, [], "part of it is missing");
        let file = place.file("w.bin");
        let hash_of = place.records().hash_of(&file).unwrap().unwrap();
        let made = place.records().made(&hash_of).unwrap().unwrap();
        assert_eq!((made.file, made.size), (file, u64::from(LEN)));
        let lens: Vec<u32> = made.xorbs.iter().map(|xorb| xorb.n_chunks).collect();
        assert_eq!(lens, [8192, 8192, 3616]);
        let second = place.records().run(&made.xorbs[1].hash).unwrap().unwrap();
        assert_eq!((second.file, second.at), (file, 8192));
        assert_eq!(second.leaves[0], (hash(8192), 1));
        let parts = |n: u32| -> Vec<(u32, u32, u32)> {
            let parts = place.records().parts(&hash(n)).unwrap().unwrap();
            parts.iter().map(|p| (p.at, p.n, p.first)).collect()
        };
        assert_eq!(parts(7), [(100, 7900, 0)]);
        assert_eq!(parts(8), [(0, 292, 7900), (292, 7708, 0)]);
        // The first chunk of a file may be asked for, and one in a thousand.
        let shared = place.records().shared(&hash(0)).unwrap();
        assert_eq!(shared, Some(made.xorbs[0].hash));
        let one = (1..LEN).find(|n| hash(*n).is_shared()).unwrap();
        assert!(place.records().shared(&hash(one)).unwrap().is_some());
        let other = (1..LEN).find(|n| !hash(*n).is_shared()).unwrap();
        assert_eq!(place.records().shared(&hash(other)).unwrap(), None);
        // Another file brings the rest of it.
        let runs = [referred(7, 0..100), referred(7, 8000..8100)];
        assert_eq!(place.keep("x.bin", 50_000, &runs, 6), [hash(7)]);
        assert_eq!(parts(7), [(0, 100, 0), (100, 7900, 0), (8000, 100, 100)]);
    }

    #[test]
    fn what_nothing_names_is_remembered_for_22_days() {
        let day = DAY_MS;
        let place = Place::new();
        let (w, x) = (place.file("w.bin"), place.file("x.bin"));
        place.keep("w.bin", 0, &[referred(7, 0..9)], 0);
        place.keep("x.bin", 50_000, &[referred(7, 9..20), referred(8, 0..5)], 0);
        let sweep = |at: u64| sweep(&place.repo, &place.name, at).unwrap();
        sweep(0);
        place.change(&[], &["w.bin"]);
        let known = |file: &FileId| place.records().hash_of(file).unwrap();
        let w_hash = known(&w).unwrap();
        let w_made = place.records().made(&w_hash).unwrap().unwrap();
        sweep(day);
        sweep(23 * day);
        assert!(known(&w).is_some());
        // A commit builds on a xorb that it was part of: its time begins again.
        place.change(&[("y.bin", 3)], &[]);
        place.keep("y.bin", 90_000, &[referred(7, 3..5)], 23 * day);
        sweep(45 * day);
        assert!(known(&w).is_some());
        // It comes back, and goes again.
        place.change(&[("w.bin", 1)], &[]);
        sweep(60 * day);
        place.change(&[], &["w.bin"]);
        sweep(61 * day);
        sweep(83 * day);
        assert!(known(&w).is_some());
        sweep(83 * day + 1);
        assert_eq!(known(&w), None);
        let records = place.records();
        assert_eq!(records.made(&w_hash).unwrap(), None);
        assert_eq!(records.run(&w_made.xorbs[0].hash).unwrap(), None);
        assert_eq!(records.shared(&hash(0)).unwrap(), None);
        let parts = records.parts(&hash(7)).unwrap().unwrap();
        let ends: Vec<_> = parts.iter().map(|p| (p.at, p.n)).collect();
        assert_eq!(ends, [(9, 11)], "what the other file has of it is there");
        assert!(known(&x).is_some());
        let left = place.repo.note_list(records.note(), "gone").unwrap();
        assert_eq!(left, []);
        sweep(200 * day);
        assert!(place.records().shared(&hash(50_000)).unwrap().is_some());
    }

    /// The newer of two files that begin alike goes; the older one is whole, and so is a third with
    /// the same content.
    #[test]
    fn what_other_files_need_is_not_thrown_away() {
        let day = DAY_MS;
        let place = Place::new();
        place.change(&[("y.bin", 3)], &[]);
        let (w, x) = (place.file("w.bin"), place.file("x.bin"));
        place.keep("w.bin", 0, &[], 0);
        place.keep("y.bin", 0, &[], 0);
        let longer = |n: u32| if n < 8192 { n } else { n + 100_000 };
        place.keep_with("x.bin", &longer, &[], 0);
        let hash_of = |file: &FileId| place.records().hash_of(file).unwrap();
        let made = |file: &FileId| {
            let hash = hash_of(file).unwrap();
            place.records().made(&hash).unwrap().unwrap()
        };
        let (of_w, of_x) = (made(&w), made(&x));
        assert_eq!(of_w.xorbs[0], of_x.xorbs[0]);
        assert_eq!(
            of_w.file,
            place.file("y.bin"),
            "the newer of two that are alike"
        );
        let run = |xorb: &OfFile| place.records().run(&xorb.hash).unwrap();
        assert_eq!(run(&of_w.xorbs[0]).unwrap().file, x);
        place.change(&[], &["x.bin", "y.bin"]);
        for at in [day, 30 * day] {
            sweep(&place.repo, &place.name, at).unwrap();
        }
        assert_eq!((hash_of(&x), made(&w).file), (None, w));
        for (n, xorb) in of_w.xorbs.iter().enumerate() {
            let run = run(xorb).unwrap();
            assert_eq!((run.file, run.at), (w, 8192 * n as u64));
        }
        assert_eq!(run(&of_x.xorbs[1]), None);
        let shared = place.records().shared(&hash(0)).unwrap();
        assert_eq!(shared, Some(of_w.xorbs[0].hash));
    }

    #[test]
    fn lists_that_do_not_fit_are_refused() {
        let place = Place::new();
        let list = place.folder.path().join("list");
        let keep = |bytes: &[u8]| {
            std::fs::write(&list, bytes).unwrap();
            let came = Came {
                file: place.file("w.bin"),
                size: u64::from(LEN),
                list: list.clone(),
            };
            keep(&place.repo, &place.name, &[came], &|_| None, 0).unwrap_err();
        };
        keep(b"");
        keep(&[0; 3]);
        keep(&[0; 4]);
        keep(&[1, 0, 0, 0]);
        keep(&[0; 4 + 36]);
        let records = super::super::Records::of(&place.repo, &place.name);
        assert!(records.unwrap().is_none(), "nothing is kept of them");
    }
}
