//! The package for Python, laid out as pip would install it, and its tests in `tests/python`.

#![cfg(test)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

#[allow(
    clippy::disallowed_methods,
    reason = "tests are told where stock tools are"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Python with what the package works with, where `cargo xtask engines` brought it. Where
/// `MMH_ENGINES=all`, as in CI, it has to be there.
fn python() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cache = variable("MMH_DEMO_CACHE").map_or_else(|| root.join(".demo"), PathBuf::from);
    let python = cache.join("engines/binding/bin/python");
    if python.is_file() {
        return Some(python);
    }
    let missing = "numpy and fsspec are not installed; `cargo xtask engines` brings them";
    assert_ne!(variable("MMH_ENGINES").as_deref(), Some("all"), "{missing}");
    // Not captured, so that it is seen in a run that passes.
    writeln!(std::io::stderr(), "\nLEFT OUT: {missing}\n").unwrap();
    None
}

/// The module beside this program: cargo built it for it.
fn module() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let name = format!(
        "{}mmh_python{}",
        std::env::consts::DLL_PREFIX,
        std::env::consts::DLL_SUFFIX
    );
    let module = own.parent().unwrap().join(name);
    assert!(module.is_file(), "{}", module.display());
    module
}

/// The program, if it was built together with this one.
fn program() -> Option<PathBuf> {
    let own = std::env::current_exe().unwrap();
    let name = format!("mmh{}", std::env::consts::EXE_SUFFIX);
    let program = own.ancestors().nth(2)?.join(name);
    program.is_file().then_some(program)
}

/// Runs one file of tests with the package on the path, and nothing of this user's.
fn passes(tests: &str) {
    let arguments = [
        "-W",
        "error::ResourceWarning",
        "-m",
        "unittest",
        "-v",
        tests,
    ];
    runs(&arguments, "\nOK");
}

/// Python succeeds, and says so.
fn runs(arguments: &[&str], success: &str) {
    let Some(python) = python() else {
        return;
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python");
    let scratch = tempfile::tempdir().unwrap();
    let site = scratch.path().join("site");
    let laid = Command::new(&python)
        .arg(folder.join("dev.py"))
        .args([site.as_path(), module().as_path()])
        .arg(env!("CARGO_PKG_VERSION"))
        .status()
        .unwrap();
    assert!(laid.success());
    let mut command = Command::new(&python);
    if let Some(program) = program() {
        command.env("MMH_BUILT_PROGRAM", program);
    }
    let ran = command
        .args(arguments)
        .current_dir(&folder)
        .env("PYTHONPATH", &site)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("HOME", scratch.path())
        .env("XDG_CONFIG_HOME", scratch.path().join("config"))
        .env("TMPDIR", scratch.path())
        .env_remove("MMH_REPOSITORY")
        .output()
        .unwrap();
    let said = [ran.stdout, ran.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(ran.status.success(), "{said}");
    assert!(said.contains(success), "{said}");
}

#[test]
fn repositories_are_used_from_python() {
    passes("test_repository");
}

#[test]
fn everything_else_that_can_be_asked_is_answered() {
    passes("test_more");
}

#[test]
fn tensors_are_read_by_name() {
    passes("test_tensors");
}

#[test]
fn fsspec_reads_and_writes() {
    passes("test_fs");
}

#[test]
fn hostile_repositories_and_files_raise() {
    passes("test_hostile");
}

#[test]
fn keys_archives_and_the_program_fit_together() {
    passes("test_keys");
}

#[test]
fn random_operations_answer_as_a_model_does() {
    passes("test_model");
}

#[test]
fn a_node_is_a_place_like_any_other() {
    passes("test_node");
}

/// The tests that fsspec has for every file system.
#[test]
fn fsspec_finds_a_file_system_as_it_wants_one() {
    let quiet = [
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-W",
        "ignore",
    ];
    runs(&[&quiet[..], &["conform.py"]].concat(), " passed");
}
