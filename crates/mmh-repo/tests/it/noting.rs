//! Notes: what doors remember of a name, and what becomes of it when the name is moved, removed, sent,
//! collected and undone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mmh_core::ErrorKind;
use mmh_core::name::{RefKind, RepoName};
use mmh_core::ports::Clock;
use mmh_core::tree::Node;
use mmh_repo::{GcOptions, Keep, NoteEditor, Repository, SyncOptions};

use crate::scratch::{Scratch, add, noise, target};

const HOUR: u64 = 60 * 60 * 1000;

#[derive(Debug)]
struct Turned(Arc<AtomicU64>);

impl Clock for Turned {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

fn name() -> RepoName {
    "acme/m".parse().unwrap()
}

fn link(target: &str) -> Node {
    let target = target.to_owned();
    Node::Link { target }
}

/// A repository with a name of one file.
fn with_name(scratch: &Scratch) -> Repository {
    let repo = scratch.init();
    let path = scratch.files("in", &[("w.bin", noise(100_000, 1))]);
    add(&repo, &path, "acme/m");
    repo
}

fn put(repo: &Repository, path: &str, text: &str) -> bool {
    let edit = |editor: &mut NoteEditor<'_>| {
        editor.put(path.to_owned(), link(text));
        Ok(())
    };
    repo.edit_note(&name(), "door", &edit).unwrap()
}

fn notes(repo: &Repository) -> Vec<String> {
    let refs = repo.refs().unwrap();
    let notes = refs.refs.keys().filter(|name| name.kind == RefKind::Note);
    notes.map(ToString::to_string).collect()
}

#[test]
fn records_are_written_read_listed_and_removed() {
    let scratch = Scratch::new();
    let repo = with_name(&scratch);
    assert_eq!(repo.note(&name(), "door").unwrap(), None);
    let long = noise(300_000, 2);
    let first = |editor: &mut NoteEditor<'_>| {
        assert_eq!(editor.node("a/x").unwrap(), None);
        editor.write("a/x".to_owned(), long.clone())?;
        assert_eq!(editor.record("a/x").unwrap(), Some(long.clone()));
        editor.put("a/y".to_owned(), link("text"));
        assert_eq!(editor.node("a/y").unwrap(), Some(link("text")));
        editor.put("b".to_owned(), link("gone"));
        editor.remove("b".to_owned())?;
        assert_eq!(editor.list("a").unwrap(), [], "not before it is done");
        editor.remove("nothing/there".to_owned())
    };
    assert!(repo.edit_note(&name(), "door", &first).unwrap());
    let note = repo.note(&name(), "door").unwrap().unwrap();
    assert_eq!(repo.note_record(&note, "a/x").unwrap(), Some(long));
    assert_eq!(repo.note_record(&note, "a/y").unwrap(), None, "a link");
    assert_eq!(repo.note_node(&note, "a/y").unwrap(), Some(link("text")));
    assert_eq!(repo.note_node(&note, "b").unwrap(), None);
    let listed = repo.note_list(&note, "a").unwrap();
    let paths: Vec<_> = listed.iter().map(|l| l.path.as_str()).collect();
    assert_eq!(paths, ["a/x", "a/y"]);
    assert_eq!(repo.note_list(&note, "none").unwrap(), []);
    assert_eq!(repo.note(&name(), "other").unwrap(), None);

    assert!(!put(&repo, "a/y", "text"), "nothing changed");
    assert_eq!(repo.note(&name(), "door").unwrap(), Some(note));
    let second = |editor: &mut NoteEditor<'_>| {
        assert_eq!(editor.list("a").unwrap().len(), 2);
        editor.remove("a/x".to_owned())?;
        assert_eq!(editor.node("a/x").unwrap(), None);
        editor.remove("a/y".to_owned())
    };
    assert!(repo.edit_note(&name(), "door", &second).unwrap());
    let empty = repo.note(&name(), "door").unwrap().unwrap();
    assert_eq!(repo.note_list(&empty, "a").unwrap(), []);
    assert!(repo.check_all().unwrap().is_clean());
}

#[test]
fn what_cannot_be_noted_is_refused() {
    let scratch = Scratch::new();
    let repo = with_name(&scratch);
    let nothing = |_: &mut NoteEditor<'_>| Ok(());
    let missing: RepoName = "acme/none".parse().unwrap();
    let error = repo.edit_note(&missing, "door", &nothing).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let error = repo.edit_note(&name(), "../x", &nothing).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let long = |editor: &mut NoteEditor<'_>| editor.write("x".to_owned(), vec![0; (16 << 20) + 1]);
    let error = repo.edit_note(&name(), "door", &long).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(notes(&repo), [""; 0]);
}

/// Two who change a note at the same moment both have their way.
#[test]
fn changes_that_race_are_all_there() {
    let scratch = Scratch::new();
    let repo = with_name(&scratch);
    std::thread::scope(|scope| {
        for n in 0..4 {
            let repo = &repo;
            scope.spawn(move || assert!(put(repo, &format!("x/{n}"), "y")));
        }
    });
    let note = repo.note(&name(), "door").unwrap().unwrap();
    assert_eq!(repo.note_list(&note, "x").unwrap().len(), 4);
}

#[test]
fn notes_go_with_their_name_and_are_no_revision() {
    let scratch = Scratch::new();
    let repo = with_name(&scratch);
    put(&repo, "x", "y");
    assert_eq!(notes(&repo), ["models/acme/m@notes/door"]);
    assert_eq!(repo.tips(&name()).unwrap().len(), 1);
    assert_eq!(repo.names().unwrap()[0].branches.len(), 1);
    let error = repo.resolve(&target("acme/m@door")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    // Nobody asked for it, so nobody takes it back: what is undone is the addition before it.
    let undone = repo.undo().unwrap();
    assert!(undone.command.contains("add"), "{}", undone.command);
    let seq = repo.operations(1).unwrap()[0].seq;
    repo.undo_operation(seq - 1).unwrap_err();
    let scratch = Scratch::new();
    let repo = with_name(&scratch);
    put(&repo, "x", "y");
    let to: RepoName = "acme/n".parse().unwrap();
    repo.rename(&name(), &to).unwrap();
    assert_eq!(notes(&repo), ["models/acme/n@notes/door"]);
    repo.undo().unwrap();
    assert_eq!(notes(&repo), ["models/acme/m@notes/door"]);
    repo.remove(&target("acme/m")).unwrap();
    assert_eq!(notes(&repo), [""; 0]);
    repo.undo().unwrap();
    assert_eq!(notes(&repo), ["models/acme/m@notes/door"]);
}

#[test]
fn notes_are_not_sent_elsewhere() {
    let scratch = Scratch::new();
    let repo = with_name(&scratch);
    put(&repo, "x", "y");
    let there = scratch.init_at("there", mmh_repo::InitOptions::default());
    for options in [
        SyncOptions::default(),
        SyncOptions {
            names: vec![target("acme/m")],
            prune: true,
            ..SyncOptions::default()
        },
    ] {
        repo.send(&there, &options).unwrap();
        assert_eq!(notes(&there), [""; 0]);
    }
    put(&there, "x", "theirs");
    let prune = SyncOptions {
        prune: true,
        ..SyncOptions::default()
    };
    repo.send(&there, &prune).unwrap();
    assert_eq!(notes(&there).len(), 1, "not removed either");
}

/// A file that a note names is there for as long, whatever became of the branch.
#[test]
fn a_file_that_is_noted_outlives_collection() {
    let scratch = Scratch::new();
    drop(with_name(&scratch));
    let clock = Arc::new(AtomicU64::new(1_700_000_000_000));
    let mut components = scratch.components();
    components.clock = Arc::new(Turned(Arc::clone(&clock)));
    let repo = scratch.open_with(components);
    let path = scratch.files("more", &[("other.bin", noise(100_000, 3))]);
    add(&repo, &path, "acme/m");
    let node = repo.node(&target("acme/m:other.bin")).unwrap();
    let Node::File { id, size, .. } = node.clone() else {
        panic!("{node:?}");
    };
    let edit = |editor: &mut NoteEditor<'_>| {
        editor.put("files/one".to_owned(), node.clone());
        Ok(())
    };
    repo.edit_note(&name(), "door", &edit).unwrap();
    repo.remove(&target("acme/m:other.bin")).unwrap();
    let main = "models/acme/m@heads/main".parse().unwrap();
    repo.squash(&main, "one state", None).unwrap();
    let gc = || {
        let options = GcOptions {
            grace_ms: 0,
            undo_ms: 0,
            ..GcOptions::default()
        };
        repo.gc(&Keep::default(), &options).unwrap();
        clock.fetch_add(3 * HOUR, Ordering::SeqCst);
    };
    let read = || {
        let reader = repo.open_file(id)?;
        let (range, mut all) = (mmh_core::ByteRange::all(size), Vec::new());
        repo.read_range(&reader, range, &mut |piece| {
            all.extend_from_slice(&piece);
            Ok(())
        })?;
        Ok::<_, mmh_repo::Error>(all)
    };
    (0..3).for_each(|_| gc());
    assert_eq!(read().unwrap(), noise(100_000, 3));
    let forget = |editor: &mut NoteEditor<'_>| editor.remove("files/one".to_owned());
    repo.edit_note(&name(), "door", &forget).unwrap();
    (0..3).for_each(|_| gc());
    let repo = scratch.open();
    let error = repo.open_file(id).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(repo.check_all().unwrap().is_clean());
}
