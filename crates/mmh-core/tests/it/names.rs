//! Names, refs, paths and targets: a table for every rule of FORMAT.md §4, and a second, plainer
//! reading of the rules to compare with.

use mmh_core::name::{
    FAMILIES, RefKind, RefName, RepoName, Target, check_file_name, check_path, check_rev,
};
use mmh_core::{Error, ErrorKind};
use proptest::prelude::*;

fn full(text: &str) -> Option<String> {
    let name: RepoName = text.parse().ok()?;
    Some(name.as_str().to_owned())
}

/// FORMAT.md §4 in other words, for full names.
fn is_repo_name(text: &str) -> bool {
    let Some((family, rest)) = text.split_once('/') else {
        return false;
    };
    let most = match family {
        "models" | "datasets" | "spaces" => 2,
        "trees" => 8,
        _ => return false,
    };
    let edge = |c: char| c == '-' || c == '.';
    let inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let parts: Vec<&str> = rest.split('/').collect();
    parts.len() <= most
        && parts.iter().all(|part| {
            (1..=96).contains(&part.len())
                && part.chars().all(inner)
                && !part.starts_with(edge)
                && !part.ends_with(edge)
                && !part.contains("..")
        })
}

#[test]
fn each_family_has_its_number_of_parts() {
    for family in FAMILIES {
        let most = if family == "trees" { 8 } else { 2 };
        for n in 1..=9 {
            let text = format!("{family}{}", "/p".repeat(n));
            let expected = (n <= most).then(|| text.clone());
            assert_eq!(full(&text), expected, "{n} parts");
        }
    }
    // The word alone is a name like any other.
    assert_eq!(full("trees").as_deref(), Some("models/trees"));
    assert_eq!(full("Models/x").as_deref(), Some("models/Models/x"));
    assert_eq!(full("x/y/z"), None);
}

#[test]
fn a_part_has_at_most_96_characters_of_a_few_kinds() {
    for fits in ["a", "_", "0", "_a_", "a.b-c_D9", &"x".repeat(96)] {
        assert_eq!(full(fits), Some(format!("models/{fits}")), "{fits}");
        assert_eq!(
            full(&format!("trees/t/{fits}")),
            Some(format!("trees/t/{fits}"))
        );
    }
    let long = "x".repeat(97);
    for part in [
        "", ".", "-", "a.", ".a", "a-", "-a", "a..b", "a b", "a\\b", "a:b", "a@b", "a\n", "ａ",
        "a%2f", "~", &long,
    ] {
        for text in [
            part.to_owned(),
            format!("models/{part}"),
            format!("trees/t/{part}/u"),
        ] {
            let error = text.parse::<RepoName>().unwrap_err();
            assert!(
                matches!(error, Error::BadName { what: "name", .. }),
                "{text:?}"
            );
            assert_eq!(error.kind(), ErrorKind::Invalid);
        }
    }
}

/// The short form must not become the name of something else: `models/datasets/x` is a model.
#[test]
fn the_short_form_names_the_same_repository() {
    for (long, short) in [
        ("models/acme/minilm", "acme/minilm"),
        ("models/gpt2", "gpt2"),
        ("models/trees", "trees"),
        ("models/datasets/x", "models/datasets/x"),
        ("models/models/x", "models/models/x"),
        ("models/models", "models"),
        ("models/treeshop/x", "treeshop/x"),
        ("datasets/squad", "datasets/squad"),
        ("trees/models/x", "trees/models/x"),
    ] {
        let name: RepoName = long.parse().unwrap();
        assert_eq!(name.short(), short);
        assert_eq!(short.parse::<RepoName>().unwrap(), name);
        assert_eq!(name.to_string(), long);
        assert_eq!(Some(name.family()), long.split('/').next());
    }
}

#[test]
fn revisions_follow_a_table() {
    let long = "r".repeat(255);
    for fits in [
        "main",
        "v1.0",
        "feature/x",
        "a/b/c",
        "_",
        "x-",
        "a/-b",
        "1",
        "A.b_c-d",
        &long,
    ] {
        assert!(check_rev(fits).is_ok(), "{fits}");
    }
    let longer = "r".repeat(256);
    for refused in [
        "", "/", "/a", "a/", "a//b", ".", "..", "a/..", "a/.b", "a./b", "a..b", "-a", ".a", "a.",
        "a b", "a@b", "a:b", "a~1", "a^", "a\\b", "ä", "a\0", "a\n", &longer,
    ] {
        let error = check_rev(refused).unwrap_err();
        assert!(
            matches!(
                error,
                Error::BadName {
                    what: "revision",
                    ..
                }
            ),
            "{refused:?}"
        );
    }
}

#[test]
fn file_names_follow_a_table() {
    let long = "é".repeat(127);
    for fits in [
        "a", "...", ".git", "-", " ", "a b", "名前", "a:b", "con", "a\u{301}", "\u{a0}", &long,
    ] {
        assert!(check_file_name(fits).is_ok(), "{fits:?}");
    }
    let longer = "é".repeat(128);
    for refused in [
        "",
        ".",
        "..",
        "/",
        "a/b",
        "a\\b",
        "a\0",
        "\t",
        "a\nb",
        "\r",
        "\u{1b}[1m",
        "\u{7f}",
        "\u{85}",
        "\u{9b}",
        &longer,
    ] {
        let error = check_file_name(refused).unwrap_err();
        assert!(
            matches!(
                error,
                Error::BadName {
                    what: "file name",
                    ..
                }
            ),
            "{refused:?}"
        );
    }
}

#[test]
fn a_path_has_at_most_64_parts_and_4096_bytes() {
    let parts = |n: usize| vec!["a"; n].join("/");
    assert!(check_path(&parts(64)).is_ok());
    assert!(check_path(&parts(65)).is_err());
    let name = "x".repeat(255);
    let long = vec![name.as_str(); 16].join("/");
    assert_eq!(long.len(), 4095);
    assert!(check_path(&long).is_ok());
    // 4096 bytes, then 4097, of names that are each short enough.
    let (head, _) = long.split_at(4095 - 200);
    assert!(check_path(&format!("{head}/{}", "y".repeat(200))).is_ok());
    assert!(check_path(&format!("{head}/{}", "y".repeat(201))).is_err());
    // The message holds a bounded part of what was given.
    let error = check_path(&"x".repeat(1 << 20)).unwrap_err();
    assert!(error.to_string().len() < 200);
}

#[test]
fn refs_have_one_spelling() {
    let repo: RepoName = "trees/backup/2026".parse().unwrap();
    let branch = RefName::branch(repo.clone(), "a/b").unwrap();
    let tag = RefName::tag(repo.clone(), "a/b").unwrap();
    let note = RefName::note(repo.clone(), "a/b").unwrap();
    assert_ne!(branch, tag);
    assert!(branch.is_by_people() && tag.is_by_people() && !note.is_by_people());
    assert!(note.is_note("a/b") && !note.is_note("a") && !tag.is_note("a/b"));
    for (name, kind, text) in [
        (branch, RefKind::Branch, "trees/backup/2026@heads/a/b"),
        (tag, RefKind::Tag, "trees/backup/2026@tags/a/b"),
        (note, RefKind::Note, "trees/backup/2026@notes/a/b"),
    ] {
        assert_eq!(name.to_string(), text);
        assert_eq!((name.kind, name.rev(), &name.repo), (kind, "a/b", &repo));
        assert_eq!(text.parse::<RefName>().unwrap(), name);
    }
    for made in [RefName::branch, RefName::tag, RefName::note] {
        assert!(made(repo.clone(), "a//b").is_err());
    }
    for refused in [
        "",
        "@",
        "models/a",
        "models/a@",
        "models/a@heads",
        "models/a@heads/",
        "models/a@Heads/x",
        "models/a@remotes/x",
        "models/a@heads/x@y",
        "models/a@@heads/x",
        "a@heads/x",
        "models/a/b/c@heads/x",
        "@heads/x",
        "models/a@/x",
        " models/a@heads/x",
    ] {
        assert!(refused.parse::<RefName>().is_err(), "{refused:?}");
    }
}

/// Targets: the first colon begins the path, and slashes around it do not count.
#[test]
fn targets_follow_a_table() {
    let cases: [(&str, &str, Option<&str>, Option<&str>); 9] = [
        ("a", "models/a", None, None),
        ("a@v1", "models/a", Some("v1"), None),
        ("a:x", "models/a", None, Some("x")),
        ("a:/x/", "models/a", None, Some("x")),
        ("a:x:y@z", "models/a", None, Some("x:y@z")),
        ("a:", "models/a", None, None),
        ("a@f/g:h/i", "models/a", Some("f/g"), Some("h/i")),
        ("datasets/d@v:p", "datasets/d", Some("v"), Some("p")),
        ("models/spaces/s@v", "models/spaces/s", Some("v"), None),
    ];
    for (text, repo, rev, path) in cases {
        let target: Target = text.parse().unwrap();
        assert_eq!(target.repo.as_str(), repo, "{text}");
        assert_eq!((target.rev.as_deref(), target.path.as_deref()), (rev, path));
        let again: Target = target.to_string().parse().unwrap();
        assert_eq!(again, target, "{text}");
    }
    for refused in [
        "", ":", "@", "a@", "@v:x", ":x", "a@v@w", "a:x//y", "a:../x", "a@.:x", "a b",
    ] {
        assert!(refused.parse::<Target>().is_err(), "{refused:?}");
    }
}

proptest! {
    /// The parser against the plain reading of the rules, on text that comes close to them.
    #[test]
    fn names_agree_with_the_plain_rules(
        text in "(models|datasets|spaces|trees|x)(/[a-zA-Z0-9_.-]{0,3}){1,9}"
    ) {
        let parsed = full(&text);
        if FAMILIES.iter().any(|f| text.split('/').next() == Some(f)) {
            prop_assert_eq!(parsed.is_some(), is_repo_name(&text), "{}", text);
        }
        if let Some(name) = parsed {
            prop_assert!(is_repo_name(&name), "{}", name);
            let name: RepoName = name.parse().unwrap();
            prop_assert_eq!(name.short().parse::<RepoName>().unwrap(), name);
        }
    }

    /// Joined and split again, no path escapes: no part is empty, a dot, or two.
    #[test]
    fn accepted_paths_stay_inside(text in "[a./\\\\\u{0}]{0,12}") {
        let inside = text.split('/').all(|p| {
            !p.is_empty() && p != "." && p != ".." && !p.contains(['\\', '\0'])
        });
        prop_assert_eq!(check_path(&text).is_ok(), inside);
    }
}
