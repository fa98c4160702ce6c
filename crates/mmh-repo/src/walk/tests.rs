//! What a walk finds, refuses and leaves out.

use super::*;

fn names(paths: &[PathBuf], follow: bool) -> Result<Vec<String>> {
    let (found, _) = walk(paths, WalkOptions { follow })?;
    Ok(found.into_iter().map(|f| f.name.to_string()).collect())
}

#[test]
fn one_folder_gives_its_content_and_two_give_themselves() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("a/sub")).unwrap();
    fs::create_dir_all(dir.path().join("b/empty")).unwrap();
    fs::write(dir.path().join("a/x"), "x").unwrap();
    fs::write(dir.path().join("a/sub/y"), "y").unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    assert_eq!(
        names(std::slice::from_ref(&a), false).unwrap(),
        ["sub/y", "x"]
    );
    assert_eq!(
        names(&[a.clone(), b], false).unwrap(),
        ["a/sub/y", "a/x", "b/empty"]
    );
    assert_eq!(names(&[a.join("x")], false).unwrap(), ["x"]);
}

/// What was found lies where the paths that were named and its name say.
#[test]
fn paths_lead_to_what_was_found() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("a/sub")).unwrap();
    for file in ["top", "a/x", "a/sub/y"] {
        fs::write(dir.path().join(file), file).unwrap();
    }
    for paths in [
        vec![""],
        vec!["a", "top"],
        vec!["a/"],
        vec!["a/sub/../x"],
        vec!["a/sub"],
    ] {
        let paths: Vec<PathBuf> = paths.iter().map(|path| dir.path().join(path)).collect();
        let (found, _) = walk(&paths, WalkOptions::default()).unwrap();
        assert!(!found.is_empty());
        for f in found {
            let content = fs::read_to_string(f.path()).unwrap();
            assert!(content.ends_with(&*f.name), "{} is {content}", f.name);
        }
    }
}

#[test]
fn two_paths_of_one_name_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for d in ["a", "b"] {
        fs::create_dir(dir.path().join(d)).unwrap();
        fs::write(dir.path().join(d).join("x"), d).unwrap();
    }
    let paths = [dir.path().join("a/x"), dir.path().join("b/x")];
    assert!(matches!(names(&paths, false), Err(Error::Invalid(_))));
}

#[cfg(unix)]
#[test]
fn circles_of_links_are_kept_as_links_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(".", dir.path().join("loop")).unwrap();
    let root = [dir.path().to_owned()];
    assert_eq!(names(&root, false).unwrap(), ["loop"]);
    let error = names(&root, true).unwrap_err();
    assert!(error.to_string().contains("circle"), "{error}");
}

#[cfg(unix)]
#[test]
fn names_that_are_not_text_are_refused_by_path() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join(std::ffi::OsStr::from_bytes(b"bad\xff")),
        "x",
    )
    .unwrap();
    let error = names(&[dir.path().to_owned()], false).unwrap_err();
    assert!(error.to_string().contains("UTF-8"), "{error}");
}

#[test]
fn a_missing_path_is_not_found() {
    let error = names(&[PathBuf::from("/no/such/path")], false).unwrap_err();
    assert_eq!(error.kind(), mmh_core::ErrorKind::NotFound);
}

#[cfg(unix)]
fn found(root: &Path, follow: bool) -> Vec<(String, Kind)> {
    let (found, _) = walk(&[root.to_owned()], WalkOptions { follow }).unwrap();
    found
        .into_iter()
        .map(|f| (f.name.to_string(), f.kind))
        .collect()
}

/// Links are what they are unless told to follow; then they are what they point to.
#[cfg(unix)]
#[test]
fn links_are_kept_as_they_are_or_followed() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("real")).unwrap();
    fs::write(dir.path().join("real/file"), "four").unwrap();
    symlink("real/file", dir.path().join("one")).unwrap();
    symlink("real", dir.path().join("two")).unwrap();
    let file = Kind::File {
        len: 4,
        executable: false,
    };
    let link = |target: &str| Kind::Link {
        target: target.to_owned(),
    };
    let of = |list: &[(&str, Kind)]| -> Vec<_> {
        list.iter()
            .map(|(n, k)| ((*n).to_owned(), k.clone()))
            .collect()
    };
    let kept = of(&[
        ("one", link("real/file")),
        ("real/file", file.clone()),
        ("two", link("real")),
    ]);
    assert_eq!(found(dir.path(), false), kept);
    let followed = of(&[
        ("one", file.clone()),
        ("real/file", file.clone()),
        ("two/file", file),
    ]);
    assert_eq!(
        found(dir.path(), true),
        followed,
        "a folder reached twice is no circle"
    );
}

/// A path that the user names is followed always, one found below only when told to.
#[cfg(unix)]
#[test]
fn a_named_path_that_is_a_link_is_followed() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("real")).unwrap();
    fs::write(dir.path().join("real/x"), "x").unwrap();
    symlink("real", dir.path().join("link")).unwrap();
    symlink("real/x", dir.path().join("file")).unwrap();
    let (link, file) = (dir.path().join("link"), dir.path().join("file"));
    assert_eq!(names(std::slice::from_ref(&link), false).unwrap(), ["x"]);
    assert_eq!(names(&[link, file], false).unwrap(), ["file", "link/x"]);
}

/// A link to nothing can be kept, but there is nothing to follow it to.
#[cfg(unix)]
#[test]
fn a_dangling_link_is_kept_and_cannot_be_followed() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("nowhere", dir.path().join("link")).unwrap();
    let root = [dir.path().to_owned()];
    assert_eq!(names(&root, false).unwrap(), ["link"]);
    let error = names(&root, true).unwrap_err();
    assert_eq!(error.kind(), mmh_core::ErrorKind::NotFound);
    assert!(error.to_string().contains("link"), "{error}");
    let named = names(&[dir.path().join("link")], false).unwrap_err();
    assert_eq!(named.kind(), mmh_core::ErrorKind::NotFound);
}

/// Whoever may not execute it himself does not make a file executable for others.
#[cfg(unix)]
#[test]
fn a_file_is_executable_if_its_owner_may_execute_it() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    fs::write(&path, "x").unwrap();
    for (mode, expected) in [
        (0o644, false),
        (0o744, true),
        (0o500, true),
        (0o611, false),
        (0o455, false),
    ] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let kind = Kind::File {
            len: 1,
            executable: expected,
        };
        assert_eq!(
            found(dir.path(), false),
            [("f".to_owned(), kind)],
            "{mode:o}"
        );
    }
}

/// A socket cannot be stored; the rest of the folder is, and the user hears of it.
#[cfg(unix)]
#[test]
fn what_is_no_file_is_left_out_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
    fs::write(dir.path().join("file"), "x").unwrap();
    let (found, skipped) = walk(&[dir.path().to_owned()], WalkOptions::default()).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(skipped.len(), 1);
    assert!(skipped[0].contains("socket"), "{skipped:?}");
}

/// A folder that is not empty for the file system but has nothing to keep is no empty folder.
#[cfg(unix)]
#[test]
fn a_folder_of_sockets_is_not_an_empty_folder() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(dir.path().join("sub/s")).unwrap();
    let (found, skipped) = walk(&[dir.path().to_owned()], WalkOptions::default()).unwrap();
    assert_eq!((found.len(), skipped.len()), (0, 1));
}

#[test]
fn folders_are_walked_down_to_the_limit_and_no_further() {
    let dir = tempfile::tempdir().unwrap();
    // The root itself counts, so that the deepest file has as many parts as a path may have.
    let deep = dir
        .path()
        .join(vec!["d"; limits::TREE_DEPTH_MAX - 1].join("/"));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("f"), "x").unwrap();
    let root = [dir.path().to_owned()];
    let all = names(&root, false).unwrap();
    assert_eq!(all[0].split('/').count(), limits::TREE_DEPTH_MAX);
    fs::create_dir(deep.join("e")).unwrap();
    let error = names(&root, false).unwrap_err();
    assert!(error.to_string().contains("too deep"), "{error}");
}

/// Names that could not be restored on every system are refused before anything is read.
#[cfg(unix)]
#[test]
fn names_that_trees_cannot_hold_are_refused() {
    for name in ["back\\slash", "new\nline", "bell\u{7}"] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(name), "x").unwrap();
        for paths in [dir.path().to_owned(), dir.path().join(name)] {
            let error = names(&[paths], false).unwrap_err();
            assert_eq!(error.kind(), mmh_core::ErrorKind::Invalid, "{name:?}");
        }
    }
}

/// `.` and `..` stand for folders that have names; the root of all has none.
#[test]
fn relative_paths_take_the_names_of_what_they_mean() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("a/b")).unwrap();
    fs::write(dir.path().join("a/x"), "x").unwrap();
    let (up, other) = (dir.path().join("a/b/.."), dir.path().join("a/x"));
    assert_eq!(names(&[up, other], false).unwrap(), ["a/b", "a/x", "x"]);
    let root = [PathBuf::from("/"), dir.path().join("a/x")];
    let error = names(&root, false).unwrap_err();
    assert!(error.to_string().contains("no name"), "{error}");
}

#[test]
fn the_order_is_of_whole_paths_by_their_bytes() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["b", "a-b", "a/z", "a.b", "a0", "é", "Z"] {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
    let sorted = ["Z", "a-b", "a.b", "a/z", "a0", "b", "é"];
    assert_eq!(names(&[dir.path().to_owned()], false).unwrap(), sorted);
}

#[test]
fn one_path_named_twice_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("x"), "x").unwrap();
    let x = dir.path().join("x");
    let error = names(&[x.clone(), x], false).unwrap_err();
    assert!(error.to_string().contains("would both be `x`"), "{error}");
}
