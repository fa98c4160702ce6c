//! Restoring: which links may leave, and names for files that are not whole yet.

use std::io::Write as _;

use super::*;

#[test]
fn links_that_leave_are_recognised() {
    for (target, depth) in [
        ("/etc", 0),
        ("..", 0),
        ("a/../..", 0),
        ("../../x", 1),
        ("a\\b", 0),
        ("a/../b", 0),
        ("x/x/../..", 0),
        ("../x/..", 1),
    ] {
        assert!(leaves(target, depth), "{target}");
    }
    for (target, depth) in [
        ("a", 0),
        ("../a", 1),
        ("..", 1),
        ("./a/b", 0),
        ("./../a", 1),
    ] {
        assert!(!leaves(target, depth), "{target}");
    }
}

#[test]
fn a_name_for_what_is_not_whole_lies_beside_and_is_used_once() {
    for path in ["a", "dir/a", "/abs/dir/a"] {
        let path = Path::new(path);
        let (one, two) = (partial_name(path), partial_name(path));
        assert_ne!(one, two);
        assert_eq!(one.parent(), path.parent());
        assert!(
            one.file_name().unwrap().len() < 64,
            "it fits wherever a name fits"
        );
    }
}

/// What a process that died left behind is replaced; through a link nothing is written.
#[cfg(unix)]
#[test]
fn a_new_file_is_never_written_through_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let (path, victim) = (dir.path().join("partial"), dir.path().join("victim"));
    fs::write(&victim, "dear").unwrap();
    std::os::unix::fs::symlink(&victim, &path).unwrap();
    create_new(&path).unwrap().write_all(b"new").unwrap();
    assert_eq!(fs::read(&victim).unwrap(), b"dear");
    assert_eq!(fs::read(&path).unwrap(), b"new");
    create_new(&path).unwrap();
    assert!(
        fs::read(&path).unwrap().is_empty(),
        "what was left there is gone"
    );
}

/// Execution follows reading: a file that only its owner may read is not opened to all.
#[cfg(unix)]
#[test]
fn whoever_may_read_may_execute() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let file = create_new(&path).unwrap();
    for (before, after) in [
        (0o600, 0o700),
        (0o640, 0o750),
        (0o644, 0o755),
        (0o444, 0o555),
    ] {
        file.set_permissions(fs::Permissions::from_mode(before))
            .unwrap();
        set_executable(&file, true).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, after);
        set_executable(&file, false).unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(
            mode, after,
            "modes that the user has set are not taken away"
        );
    }
}

proptest::proptest! {
    /// Walks each target part by part. Once a name was passed the walk may be anywhere inside,
    /// so that a single step up may lead out.
    #[test]
    fn links_stay_inside_exactly_if_no_step_can_lead_out(
        target in "(\\.\\.|\\.|a|b|)(/(\\.\\.|\\.|a|)){0,5}",
        depth in 0usize..4,
    ) {
        let (mut left, mut may_leave) = (Some(depth), target.starts_with('/'));
        for part in target.split('/') {
            match (part, left) {
                ("" | ".", _) => {}
                ("..", Some(n)) if n > 0 => left = Some(n - 1),
                ("..", _) => may_leave = true,
                _ => left = None,
            }
        }
        proptest::prop_assert_eq!(leaves(&target, depth), may_leave, "{}", target);
    }
}
