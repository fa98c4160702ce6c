//! The codec's engine for 64-bit ARM on machines that are none: linted with a cross compiler, and
//! tested in an emulator.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::compare;
use crate::shell::{Failure, Outcome, Scratch, capture, cargo, run};

const TARGET: &str = "aarch64-unknown-linux-gnu";
const CODEC: [&str; 4] = ["-p", "mmh-codec", "--all-features", "--locked"];
/// It compiles the C of dependencies too, where the build of these looks for it by this name.
const COMPILER: &str = "aarch64-linux-gnu-gcc";
const EMULATORS: [&str; 2] = ["qemu-aarch64", "qemu-aarch64-static"];
/// Where Debian and Ubuntu have the libraries of the target.
const LIBRARIES: &str = "/usr/aarch64-linux-gnu";
/// What has all of these in Debian and Ubuntu.
const PACKAGES: [&str; 3] = [
    "gcc-aarch64-linux-gnu",
    "libc6-dev-arm64-cross",
    "qemu-user",
];

/// On such a machine the ordinary checks are those of the engine.
const AT_HOME: bool = cfg!(all(target_arch = "aarch64", target_endian = "little"));

/// What this machine has for the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tools {
    standard_library: bool,
    compiler: bool,
    emulator: Option<&'static str>,
    libraries: bool,
}

impl Tools {
    /// Looks for them, and has rustup bring the standard library if it is there to do so.
    fn find() -> Self {
        let standard_library = has_standard_library()
            || (starts("rustup")
                && run(Command::new("rustup").args(["target", "add", TARGET])).is_ok());
        Self {
            standard_library,
            compiler: starts(COMPILER),
            emulator: EMULATORS.into_iter().find(|emulator| starts(emulator)),
            libraries: Path::new(LIBRARIES).is_dir(),
        }
    }

    /// What is missing for linting, and what for testing.
    fn missing(self, to_test: bool) -> Vec<String> {
        let mut missing = Vec::new();
        if !self.standard_library {
            missing.push(format!(
                "Rust's library for it (rustup target add {TARGET})"
            ));
        }
        if !self.compiler {
            missing.push(format!("{COMPILER} ({})", PACKAGES[0]));
        }
        if to_test && self.emulator.is_none() {
            missing.push(format!("{} ({})", EMULATORS[0], PACKAGES[2]));
        }
        if to_test && !self.libraries {
            missing.push(format!("{LIBRARIES} ({})", PACKAGES[1]));
        }
        missing
    }

    /// Cargo with `arguments` for the codec alone, set up to link and run programs of the target.
    fn cargo(self, arguments: &[&str]) -> Command {
        let variable = |what| {
            let target = TARGET.to_uppercase().replace('-', "_");
            format!("CARGO_TARGET_{target}_{what}")
        };
        let mut command = cargo();
        command
            .args(arguments)
            .args(CODEC)
            .args(["--target", TARGET])
            .env(variable("LINKER"), COMPILER);
        if let Some(emulator) = self.emulator {
            let runner = format!("{emulator} -L {LIBRARIES}");
            command.env(variable("RUNNER"), runner);
        }
        command
    }
}

fn starts(program: &str) -> bool {
    let mut version = Command::new(program);
    version
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    version.status().is_ok_and(|status| status.success())
}

fn has_standard_library() -> bool {
    let mut place = Command::new("rustc");
    place.args(["--print", "target-libdir", "--target", TARGET]);
    capture(&mut place).is_ok_and(|folder| Path::new(folder.trim()).is_dir())
}

/// Clippy on the codec for ARM; says so where the machine cannot.
pub(crate) fn lint() -> Outcome {
    if AT_HOME {
        return Ok(());
    }
    let tools = Tools::find();
    let missing = tools.missing(false);
    if !missing.is_empty() {
        println!(
            "SKIPPED: the codec for {TARGET} is not linted; missing: {}",
            missing.join(", ")
        );
        return Ok(());
    }
    let mut clippy = tools.cargo(&["clippy", "--all-targets"]);
    run(clippy.args(["--", "-D", "warnings"]))
}

/// All tests of the codec on ARM, in an emulator where the machine is none. `install`: brings what
/// is missing with apt-get, as root.
pub(crate) fn test(install: bool) -> Outcome {
    if AT_HOME {
        return run(cargo().arg("test").args(CODEC));
    }
    let mut tools = Tools::find();
    if install && !tools.missing(true).is_empty() {
        run(Command::new("apt-get").arg("update"))?;
        run(Command::new("apt-get")
            .args(["install", "--yes", "--no-install-recommends"])
            .args(PACKAGES))?;
        tools = Tools::find();
    }
    let missing = tools.missing(true);
    if !missing.is_empty() {
        return Err(Failure::unavailable(format!(
            "missing: {}; on Debian and Ubuntu, `--install` as root brings it",
            missing.join(", ")
        )));
    }
    run(&mut tools.cargo(&["test", "--lib", "--tests", "--no-fail-fast"]))?;
    let frames = same_frames(tools)?;
    println!(
        "on {TARGET}, emulated: all tests of the codec passed, and {frames} samples were written as \
         here, byte for byte; of speed this says nothing"
    );
    Ok(())
}

/// Writes the samples of the golden frames here and there, and compares them.
fn same_frames(tools: Tools) -> Outcome<u64> {
    let scratch = Scratch::new("drill-neon")?;
    let (here, there) = (scratch.path().join("here"), scratch.path().join("there"));
    let example = ["run", "--example", "golden"];
    let mut native = cargo();
    native.args(example).args(CODEC).arg("--").arg(&here);
    run(&mut native)?;
    run(tools.cargo(&example).arg("--").arg(&there))?;
    compare::trees(&here, &there).map(|equal| equal.files)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Tools = Tools {
        standard_library: true,
        compiler: true,
        emulator: Some("qemu-aarch64"),
        libraries: true,
    };

    #[test]
    fn what_is_missing_is_named_with_what_brings_it() {
        assert!(ALL.missing(true).is_empty());
        let lint_only = Tools {
            emulator: None,
            libraries: false,
            ..ALL
        };
        assert!(lint_only.missing(false).is_empty());
        let missing = lint_only.missing(true).join(" ");
        assert!(missing.contains("qemu-user"), "{missing}");
        assert!(missing.contains("libc6-dev-arm64-cross"), "{missing}");
        let nothing = Tools {
            standard_library: false,
            compiler: false,
            ..lint_only
        };
        assert_eq!(nothing.missing(false).len(), 2);
        assert_eq!(nothing.missing(true).len(), 4);
    }

    #[test]
    fn cargo_is_told_how_to_link_and_how_to_run() {
        let command = ALL.cargo(&["test"]);
        let value = |name: &str| {
            let mut all = command.get_envs();
            let found = all.find_map(|(key, value)| (key == name).then_some(value));
            found.flatten().and_then(|value| value.to_str())
        };
        let linker = value("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER");
        assert_eq!(linker, Some(COMPILER));
        let runner = value("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER");
        assert_eq!(runner, Some("qemu-aarch64 -L /usr/aarch64-linux-gnu"));
        assert!(!starts("no-such-program-anywhere"));
    }
}
