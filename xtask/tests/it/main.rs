//! The project's commands as they are typed: usage errors, exit codes and what is said.

use std::process::{Command, Output};

fn xtask(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(args).env("MMH_PROGRAM", "/no/such/program");
    command
        .output()
        .expect("the binary was built for this test")
}

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

#[test]
fn help_names_every_command() {
    let out = xtask(&[]);
    assert!(out.status.success());
    let help = String::from_utf8_lossy(&out.stdout).into_owned();
    for command in ["test", "tidy", "demo", "corpus", "bench", "drill"] {
        assert!(
            help.contains(&format!("\n  {command} ")),
            "{command} is missing:\n{help}"
        );
    }
}

/// Mistakes end with exit code 2 and name what is wrong, before anything is built or fetched.
#[test]
fn mistakes_are_usage_errors() {
    for (args, word) in [
        (&["tets"][..], "no such command"),
        (&["test", "lnt"], "lnt"),
        (&["tidy", "--fast"], "--fast"),
        (&["corpus"], "--small"),
        (&["corpus", "--small", "--all"], "choose one"),
        (&["corpus", "--set"], "--set needs a value"),
        (&["drill"], "kill"),
        (&["drill", "kill", "-n", "many"], "many"),
        (&["bench", "--rounds", "x"], "--rounds"),
    ] {
        let out = xtask(args);
        assert_eq!(out.status.code(), Some(2), "{args:?}: {}", said(&out));
        assert!(said(&out).contains(word), "{args:?}: {}", said(&out));
    }
}

#[test]
fn a_missing_path_is_not_found() {
    let out = xtask(&["demo", "/no/such/model"]);
    assert_eq!(out.status.code(), Some(3), "{}", said(&out));
    assert!(said(&out).contains("/no/such/model"));
}

/// A program that cannot be started is something to install, not a failed check.
#[test]
fn a_missing_program_is_unavailable() {
    let cache = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command
        .args(["drill", "kill", "-n", "1"])
        .env("MMH_PROGRAM", "/no/such/program");
    let out = command
        .env("MMH_DEMO_CACHE", cache.path())
        .output()
        .expect("the binary starts");
    assert_eq!(out.status.code(), Some(7), "{}", said(&out));
    assert!(said(&out).contains("/no/such/program"));
}

/// Without Python the corpus cannot come; the message says what to install and nothing is made up.
#[test]
fn a_missing_python_is_unavailable() {
    let cache = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command
        .args(["corpus", "--small"])
        .env("PYTHON", "/no/such/python");
    let out = command
        .env("MMH_DEMO_CACHE", cache.path())
        .output()
        .expect("the binary starts");
    assert_eq!(out.status.code(), Some(7), "{}", said(&out));
    assert!(said(&out).contains("Python 3 with pip"));
}
