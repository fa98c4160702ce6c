//! Restoring over what is there already: nothing is lost that was not to be replaced.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;

use mmh_core::ErrorKind;
use mmh_core::ports::Progress;
use mmh_repo::{ExportOptions, Repository};

use crate::scratch::{Scratch, add, noise, read_tree, target};

const OVERWRITE: ExportOptions = ExportOptions {
    overwrite: true,
    unsafe_links: false,
};

fn export(
    repo: &Repository,
    what: &str,
    dest: &Path,
    options: ExportOptions,
) -> mmh_repo::Result<mmh_repo::ExportReport> {
    let name = what.rsplit(['/', ':']).next().unwrap();
    repo.export(&repo.node(&target(what)).unwrap(), name, dest, options)
}

/// A file where a folder must be, or a folder where a file must be, is never taken away.
#[test]
fn files_and_folders_in_each_others_way_are_kept() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    add(&repo, &scratch.files("in", &[("d/f", vec![1])]), "trees/t");
    let file = scratch.files("one", &[("d", vec![9; 10])]);
    let folder = scratch.files("two", &[("d/f/inner", vec![9; 10])]);
    for dest in [file, folder] {
        let before = read_tree(&dest);
        for options in [ExportOptions::default(), OVERWRITE] {
            let error = export(&repo, "trees/t", &dest, options).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
            assert_eq!(read_tree(&dest), before);
        }
    }
}

/// A link in a file's place is neither followed nor replaced.
#[cfg(unix)]
#[test]
fn a_link_in_a_files_place_is_not_written_through() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    add(&repo, &scratch.files("in", &[("f", vec![1; 5])]), "trees/t");
    let victim = scratch
        .files("out", &[("victim", vec![7; 5])])
        .join("victim");
    std::os::unix::fs::symlink("victim", scratch.path("out/f")).unwrap();
    let error = export(&repo, "trees/t", &scratch.path("out"), OVERWRITE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert_eq!(fs::read(victim).unwrap(), [7; 5]);
}

/// Another name of the file that is replaced keeps the old content.
#[cfg(unix)]
#[test]
fn overwriting_does_not_reach_other_names_of_a_file() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    add(&repo, &scratch.files("in", &[("f", vec![1; 5])]), "trees/t");
    let old = scratch.files("out", &[("f", vec![7; 5])]).join("f");
    fs::hard_link(&old, scratch.path("other")).unwrap();
    export(&repo, "trees/t", &scratch.path("out"), OVERWRITE).unwrap();
    assert_eq!(fs::read(&old).unwrap(), [1; 5]);
    assert_eq!(fs::read(scratch.path("other")).unwrap(), [7; 5]);
}

#[cfg(unix)]
#[test]
fn a_link_alone_cannot_be_restored_as_a_file() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    let folder = scratch.files("in", &[("f", vec![1])]);
    std::os::unix::fs::symlink("f", folder.join("link")).unwrap();
    add(&repo, &folder, "trees/t");
    let error = export(&repo, "trees/t:link", &scratch.path("out"), OVERWRITE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(
        error.to_string().contains("`f`"),
        "it says where the link leads: {error}"
    );
    assert!(!scratch.path("out").exists());
}

/// One file goes into a folder that is there, or becomes the path that is named.
#[test]
fn a_file_goes_into_a_folder_or_takes_the_name() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    add(
        &repo,
        &scratch.files("in", &[("d/f", vec![1, 2])]),
        "trees/t",
    );
    fs::create_dir(scratch.path("there")).unwrap();
    export(
        &repo,
        "trees/t:d/f",
        &scratch.path("there"),
        ExportOptions::default(),
    )
    .unwrap();
    export(
        &repo,
        "trees/t:d/f",
        &scratch.path("new"),
        ExportOptions::default(),
    )
    .unwrap();
    assert_eq!(fs::read(scratch.path("there/f")).unwrap(), [1, 2]);
    assert_eq!(fs::read(scratch.path("new")).unwrap(), [1, 2]);
    let part = export(
        &repo,
        "trees/t:d",
        &scratch.path("part"),
        ExportOptions::default(),
    )
    .unwrap();
    assert_eq!(part.written, 1);
    assert_eq!(fs::read(scratch.path("part/f")).unwrap(), [1, 2]);
}

/// Sizes on both sides of where files are restored one by one, with their chunks in parallel.
#[test]
fn files_around_the_length_of_a_large_one_are_restored() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    let large = 4 << 20;
    let files = [
        ("none", Vec::new()),
        ("less", noise(large - 1, 1)),
        ("just", noise(large, 2)),
        ("more", noise(large + 1, 3)),
    ];
    let folder = scratch.files("in", &files);
    add(&repo, &folder, "trees/t");
    let dest = scratch.path("out");
    let first = export(&repo, "trees/t", &dest, ExportOptions::default()).unwrap();
    assert_eq!(
        (first.written, first.kept, first.bytes),
        (4, 0, 3 * large as u64)
    );
    assert!(read_tree(&dest) == read_tree(&folder));
    let again = export(&repo, "trees/t", &dest, ExportOptions::default()).unwrap();
    assert_eq!(
        (again.written, again.kept, again.bytes),
        (0, 4, 3 * large as u64)
    );
}

#[derive(Debug, Default)]
struct Heard(Mutex<Vec<String>>);

impl Progress for Heard {
    fn begin(&self, stage: &str, total: Option<u64>) {
        self.0.lock().unwrap().push(format!("{stage} {total:?}"));
    }

    fn advance(&self, bytes: u64) {
        self.0.lock().unwrap().push(bytes.to_string());
    }

    fn item(&self, _name: &str) {}

    fn end(&self) {
        self.0.lock().unwrap().push("end".to_owned());
    }
}

/// Whether files are written or found to be there: the bytes heard of add up to the total, and
/// every stage that begins ends, also when it fails.
#[test]
fn progress_adds_up_to_the_total() {
    let scratch = Scratch::new();
    add(
        &scratch.init(),
        &scratch.files("in", &[("a", noise(50_000, 1)), ("b", noise(70, 2))]),
        "trees/t",
    );
    let heard = Arc::new(Heard::default());
    let mut components = scratch.components();
    components.progress = Arc::clone(&heard) as Arc<dyn Progress>;
    let repo = scratch.open_with(components);
    let dest = scratch.path("out");
    let listen = |fails: bool| {
        heard.0.lock().unwrap().clear();
        assert_eq!(
            export(&repo, "trees/t", &dest, ExportOptions::default()).is_err(),
            fails
        );
        heard.0.lock().unwrap().clone()
    };
    for _ in 0..2 {
        let lines = listen(false);
        assert_eq!(lines.first().unwrap(), "restoring Some(50070)");
        assert_eq!(lines.last().unwrap(), "end");
        let bytes = lines
            .iter()
            .filter_map(|l| l.parse::<u64>().ok())
            .sum::<u64>();
        assert_eq!(bytes, 50_070);
    }
    fs::write(dest.join("a"), "other").unwrap();
    assert_eq!(listen(true).last().unwrap(), "end");
}

/// A restoration that is stopped leaves whole files or none.
#[test]
fn a_stopped_restoration_leaves_no_part_of_a_file() {
    let scratch = Scratch::new();
    add(
        &scratch.init(),
        &scratch.files("in", &[("a", noise(50_000, 1))]),
        "trees/t",
    );
    let components = scratch.components();
    let cancel = components.cancel.clone();
    let repo = scratch.open_with(components);
    let node = repo.node(&target("trees/t:a")).unwrap();
    cancel.cancel();
    let dest = scratch.path("out");
    let error = repo
        .export(&node, "a", &dest, ExportOptions::default())
        .unwrap_err();
    assert!(error.is_cancelled());
    assert!(!dest.exists());
}
