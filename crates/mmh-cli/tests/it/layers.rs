//! Settings in layers, through real files and a real environment.

use std::fs;

use crate::support::{Ran, Scratch, ran};

/// Runs with variables set on top of those of [`Scratch::command`].
fn with(s: &Scratch, vars: &[(&str, &str)], args: &[&str]) -> Ran {
    ran(s.command(args).envs(vars.iter().copied()).output().unwrap())
}

/// What `doctor` says of the settings in force, each with its origin.
fn settings(s: &Scratch, vars: &[(&str, &str)], args: &[&str]) -> String {
    let ran = with(s, vars, &[args, &["doctor"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.err);
    let line = ran
        .out
        .lines()
        .find(|l| l.starts_with("settings "))
        .unwrap();
    line.to_owned()
}

/// File, variable, flag: each hides the one before, and `doctor` names the winner.
#[test]
fn each_layer_hides_the_one_before() {
    let s = Scratch::new();
    let file = s.write(
        ".config/mmh/config.toml",
        b"author = 'of file'\nthreads = 2\nlevel = 'archive'\n",
    );
    let of_file = settings(&s, &[], &[]);
    let file = file.display();
    assert_eq!(
        of_file,
        format!("settings threads 2 ({file}); author of file ({file}); level archive ({file})")
    );
    let vars = [
        ("MMH_THREADS", "3"),
        ("MMH_AUTHOR", "of env"),
        ("MMH_LEVEL", "fast"),
    ];
    assert_eq!(
        settings(&s, &vars, &[]),
        "settings threads 3 (environment (MMH_…)); author of env (environment (MMH_…)); \
         level fast (environment (MMH_…))"
    );
    let flags = settings(&s, &vars, &["-j", "4", "--author", "of flag"]);
    assert!(
        flags.starts_with("settings threads 4 (command line); author of flag (command line);"),
        "{flags}"
    );
}

/// An empty variable is one that is not set; it does not hide the file's value.
#[test]
fn empty_variables_are_passed_over() {
    let s = Scratch::new();
    s.write(".config/mmh/config.toml", b"author = 'of file'");
    let vars = [
        ("MMH_AUTHOR", ""),
        ("MMH_THREADS", ""),
        ("XDG_CONFIG_HOME", ""),
    ];
    assert!(settings(&s, &vars, &[]).contains("author of file ("));
}

/// `XDG_CONFIG_HOME` is read instead of `HOME/.config`, not besides it.
#[test]
fn the_user_file_is_where_the_desktop_says() {
    let s = Scratch::new();
    s.write(".config/mmh/config.toml", b"author = 'home'\nthreads = 3");
    s.write("xdg/mmh/config.toml", b"author = 'xdg'");
    let xdg = s.path("xdg").display().to_string();
    let line = settings(&s, &[("XDG_CONFIG_HOME", &xdg)], &[]);
    assert!(
        line.contains("author xdg (") && !line.contains("threads 3"),
        "{line}"
    );
    let listed = with(&s, &[("XDG_CONFIG_HOME", &xdg)], &["doctor"]).out;
    assert!(listed.contains("xdg/mmh/config.toml (read)"), "{listed}");
    assert!(!listed.contains(".config/mmh"), "{listed}");
}

/// The author of a snapshot is the one of the strongest layer, and the login name without any.
#[test]
fn the_author_is_written_into_history() {
    let s = Scratch::new();
    s.write("m/a", b"1");
    s.ok(&["add", "m", "--to", "a/one"]);
    with(&s, &[("MMH_AUTHOR", "env")], &["add", "m", "--to", "a/two"]);
    s.ok(&["add", "m", "--to", "a/three", "--author", "flag"]);
    let mut nobody = s.command(&["add", "m", "--to", "a/four"]);
    assert!(nobody.env_remove("USER").status().unwrap().success());
    let windows = [("USER", ""), ("USERNAME", "login")];
    with(&s, &windows, &["add", "m", "--to", "a/five"]);
    for (name, author) in [
        ("a/one", "tester"),
        ("a/two", "env"),
        ("a/three", "flag"),
        ("a/four", "unknown"),
        ("a/five", "login"),
    ] {
        assert_eq!(s.json(&["log", name])[0]["author"], author, "{name}");
    }
    let authors = s.json(&["log"]);
    assert_eq!(authors[0]["author"], "login", "operations have it too");
}

/// The repository: nearest folder, file, variable, flag.
#[test]
fn the_repository_is_chosen_in_layers() {
    let s = Scratch::new();
    for name in ["file", "env", "flag", "near"] {
        s.ok(&["init", name]);
        s.write("m/a", name.as_bytes());
        s.ok(&["-R", name, "add", "m", "--to", &format!("in/{name}")]);
    }
    let deep = s.path("near/deep");
    fs::create_dir(&deep).unwrap();
    let names = |vars: &[(&str, &str)], args: &[&str]| {
        let mut command = s.command(&[args, &["ls"]].concat());
        command.env_remove("MMH_REPOSITORY").current_dir(&deep);
        ran(command.envs(vars.iter().copied()).output().unwrap()).out
    };
    assert_eq!(names(&[], &[]), "in/near\n");
    let file = s.path("file");
    let text = format!("repository = '{}'", file.display());
    s.write(".config/mmh/config.toml", text.as_bytes());
    assert_eq!(names(&[], &[]), "in/file\n");
    let env = [("MMH_REPOSITORY", "../../env")];
    assert_eq!(names(&env, &[]), "in/env\n");
    assert_eq!(names(&env, &["-R", "../../flag"]), "in/flag\n");
    let url = format!("file://{}", s.path("flag").display());
    assert_eq!(names(&env, &["-R", &url]), "in/flag\n");
}

/// Bad values are refused before anything is done, with their layer named.
#[test]
fn bad_values_name_their_layer() {
    let s = Scratch::new();
    let long = "x".repeat(256);
    for (vars, args, says) in [
        (
            &[("MMH_THREADS", "many")][..],
            &["ls"][..],
            "MMH_THREADS=many",
        ),
        (&[("MMH_THREADS", "-1")], &["ls"], "MMH_THREADS=-1"),
        (&[("MMH_THREADS", "0")], &["ls"], "0 threads (environment"),
        (
            &[("MMH_THREADS", "1025")],
            &["ls"],
            "1025 threads (environment",
        ),
        (
            &[("MMH_LEVEL", "best")],
            &["ls"],
            "level `best` (environment",
        ),
        (&[("MMH_AUTHOR", &long)], &["ls"], "more than 255 bytes"),
        (&[], &["--author", &long, "ls"], "more than 255 bytes"),
        (&[], &["-j", "x", "ls"], "'--threads <N>'"),
        (&[], &["-l", "best", "ls"], "unexpected argument"),
        (&[], &["pack", "-l", "best", "a", "b"], "possible values"),
    ] {
        let ran = with(&s, vars, args);
        assert_eq!(ran.code, 2, "{vars:?} {args:?}: {}", ran.err);
        assert!(ran.err.contains(says), "{vars:?} {args:?}: {}", ran.err);
        assert_eq!(ran.out, "");
    }
    assert_eq!(with(&s, &[("MMH_THREADS", "1024")], &["ls"]).code, 0);
    assert_eq!(with(&s, &[("MMH_AUTHOR", &long[1..])], &["ls"]).code, 0);
}

/// A settings file that cannot be understood stops every command, naming file and line.
#[test]
fn bad_settings_files_are_named() {
    let s = Scratch::new();
    for (text, says) in [
        ("colour = 'red'", "unknown field `colour`"),
        ("threads = 'two'", "invalid type"),
        ("threads = -1", "line 1"),
        ("author = 'a'\nauthor = 'b'", "line 2"),
        ("level = 'best'", "use fast, default or archive"),
        ("threads = 0", "use 1 to 1024"),
        ("= 1", "line 1"),
    ] {
        s.write(".config/mmh/config.toml", text.as_bytes());
        let ran = s.run(&["ls"]);
        assert_eq!(ran.code, 2, "{text}: {}", ran.err);
        assert!(ran.err.contains(".config/mmh/config.toml"), "{}", ran.err);
        assert!(ran.err.contains(says), "{text}: {}", ran.err);
    }
    // Completions need no settings, so that a shell starts although a file is wrong.
    s.ok(&["completions", "bash"]);
    let file = s.path(".config/mmh/config.toml");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let ran = s.run(&["ls"]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains("cannot read settings file"), "{}", ran.err);
}

/// The number of threads changes how long it takes and nothing else.
#[test]
fn threads_do_not_change_what_is_stored() {
    let s = Scratch::new();
    for i in 0..4 {
        s.write(&format!("m/{i}"), &crate::support::noise(300_000, i));
    }
    let trees: Vec<_> = ["1", "2", "7"]
        .iter()
        .map(|n| {
            let name = format!("a/with-{n}");
            s.ok(&["-j", n, "add", "m", "--to", &name]);
            s.json(&["log", &name])[0]["tree"].clone()
        })
        .collect();
    assert!(trees.iter().all(|tree| *tree == trees[0]), "{trees:?}");
}

/// The level of a command wins over file and variable, and a stronger one packs no worse.
#[test]
fn the_level_of_a_command_wins() {
    let s = Scratch::new();
    let words = [
        "model", "weight", "layer", "token", "the", "of", "a", "tensor",
    ];
    let text: Vec<u8> = crate::support::noise(20_000, 1)
        .iter()
        .flat_map(|b| format!("{} {b} ", words[usize::from(b % 8)]).into_bytes())
        .collect();
    s.write("text", &text);
    let stored = |vars: &[(&str, &str)], args: &[&str]| {
        let args = [&["pack", "--json", "--force"], args, &["text", "t.mmh"]].concat();
        let ran = with(&s, vars, &args);
        let report: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        report["stored"].as_u64().unwrap()
    };
    let fast = stored(&[], &["-l", "fast"]);
    let archive = stored(&[], &["-l", "archive"]);
    assert!(archive < fast, "{archive} {fast}");
    let near = |a: u64, b: u64| a.abs_diff(b) < 64;
    assert!(near(stored(&[("MMH_LEVEL", "archive")], &[]), archive));
    assert!(near(
        stored(&[("MMH_LEVEL", "archive")], &["-l", "fast"]),
        fast
    ));
}
