//! Running other programs, with errors that say what was run and what to do next.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// Why a project command stopped, with the exit code of the product's error table.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit code: 1 failed, 2 usage, 7 something outside (network, program) is missing.
    pub(crate) code: u8,
    /// What happened, where, and what next.
    pub(crate) message: String,
}

/// The result of a project command.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A check that does not hold or a program that failed.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self {
            code: 1,
            message: message.into(),
        }
    }

    /// A command line that makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            code: 2,
            message: message.into(),
        }
    }

    /// A program or a network that is not there.
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self {
            code: 7,
            message: message.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Adds what was being done to an error of the standard library or a parser.
pub(crate) trait Context<T> {
    /// Says what failed, for example the path.
    fn context(self, what: impl fmt::Display) -> Outcome<T>;
}

impl<T, E: fmt::Display> Context<T> for Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Outcome<T> {
        self.map_err(|error| Failure::failed(format!("{what}: {error}")))
    }
}

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// The folder for downloads and scratch repositories: `MMH_DEMO_CACHE`, else `.demo` in the root.
pub(crate) fn cache() -> PathBuf {
    std::env::var_os("MMH_DEMO_CACHE").map_or_else(|| root().join(".demo"), PathBuf::from)
}

/// A folder for one run, emptied before and removed after.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// A fresh folder in the cache; `name` says whose it is.
    pub(crate) fn new(name: &str) -> Outcome<Self> {
        let path = cache()
            .join("scratch")
            .join(format!("{name}-{}", std::process::id()));
        if path.exists() {
            std::fs::remove_dir_all(&path).context(path.display())?;
        }
        std::fs::create_dir_all(&path).context(path.display())?;
        Ok(Self(path))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Best effort: what stays behind is only scratch in an ignored folder.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// The cargo that runs us, so that one toolchain does everything.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// The command as one would type it.
pub(crate) fn typed(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| {
            let word = word.to_string_lossy();
            if word.contains(' ') || word.is_empty() {
                format!("'{word}'")
            } else {
                word.into_owned()
            }
        })
        .collect::<Vec<_>>()
        .join(" ")
}

/// Shows the command, runs it with its output on the terminal, and fails unless it succeeds.
pub(crate) fn run(command: &mut Command) -> Outcome {
    println!("$ {}", typed(command));
    let status = command
        .status()
        .map_err(|error| cannot_start(command, &error))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "`{}` ended with {status}",
        typed(command)
    )))
}

/// Runs the command and returns what it wrote, whether or not it succeeded.
pub(crate) fn output(command: &mut Command) -> Outcome<Output> {
    command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| cannot_start(command, &error))
}

/// Runs the command and returns its standard output; fails with the end of its standard error.
pub(crate) fn capture(command: &mut Command) -> Outcome<String> {
    let out = output(command)?;
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
    }
    let why = last_lines(&out.stderr, 6);
    Err(Failure::failed(format!(
        "`{}` ended with {}: {why}",
        typed(command),
        out.status
    )))
}

/// The last lines of a program's output, joined.
pub(crate) fn last_lines(bytes: &[u8], count: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    lines[lines.len().saturating_sub(count)..].join("\n  ")
}

fn cannot_start(command: &Command, error: &std::io::Error) -> Failure {
    let program = command.get_program().to_string_lossy();
    Failure::unavailable(format!(
        "cannot start `{program}`: {error}; install it and try again"
    ))
}

/// How the program is built for people: optimised, from the committed lockfile.
pub(crate) const RELEASE: [&str; 4] = ["-p", "mmh-cli", "--release", "--locked"];

/// Builds one binary and returns its path. `args` choose packages, profile and features. With
/// `MMH_PROGRAM` set, that program is tried instead, for example an installed one.
pub(crate) fn build(binary: &str, args: &[&str]) -> Outcome<PathBuf> {
    if let Some(program) = std::env::var_os("MMH_PROGRAM") {
        println!(
            "using {} instead of building {binary}",
            program.to_string_lossy()
        );
        return Ok(program.into());
    }
    build_target("--bin", binary, args)
}

/// Builds one example and returns its path.
pub(crate) fn build_example(example: &str, args: &[&str]) -> Outcome<PathBuf> {
    build_target("--example", example, args)
}

fn build_target(kind: &str, name: &str, args: &[&str]) -> Outcome<PathBuf> {
    let mut command = cargo();
    let messages = "--message-format=json-render-diagnostics";
    command.args(["build", messages, kind, name]);
    command.args(args).stderr(Stdio::inherit());
    println!("$ {}", typed(&command));
    let out = output(&mut command)?;
    if !out.status.success() {
        return Err(Failure::failed(format!(
            "`{}` ended with {}",
            typed(&command),
            out.status
        )));
    }
    String::from_utf8_lossy(&out.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .ok_or_else(|| Failure::failed(format!("cargo built no program `{name}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_shown_as_typed() {
        let mut command = Command::new("mmh");
        command.args(["add", "my model", ""]);
        assert_eq!(typed(&command), "mmh add 'my model' ''");
    }

    /// A missing program is something to install (7), a failing one is a failure (1).
    #[test]
    fn a_missing_program_differs_from_a_failing_one() {
        let missing = capture(&mut Command::new("no-such-program-anywhere")).unwrap_err();
        assert_eq!(missing.code, 7);
        assert!(
            missing.message.contains("no-such-program-anywhere"),
            "{missing}"
        );
        let failing = capture(cargo().arg("no-such-subcommand-anywhere")).unwrap_err();
        assert_eq!(failing.code, 1);
        assert!(
            failing.message.contains("no-such-subcommand-anywhere"),
            "{failing}"
        );
    }

    #[test]
    fn only_the_end_of_long_output_is_quoted() {
        assert_eq!(last_lines(b"a\n\nb\nc\n", 2), "b\n  c");
        assert_eq!(last_lines(b"", 2), "");
    }

    #[test]
    fn the_root_holds_the_workspace_manifest() {
        let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[workspace]"));
    }
}
