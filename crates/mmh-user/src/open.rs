//! Where a repository is, and opening what lies there.

use std::path::Path;

use mmh_core::ErrorKind;
use mmh_repo::{Access, Backend, Components, Repository, Settings};

use crate::config::{Config, Setting};
use crate::error::{Error, Result};

/// Where the repository is: as set, else the nearest folder at or above `here` that holds one.
///
/// # Errors
/// NotFound if there is none.
pub fn place(config: &Config, here: &Path) -> Result<Setting<String>> {
    if let Some(setting) = &config.repository {
        return Ok(setting.clone());
    }
    let holds = |dir: &&Path| dir.join("mmh/config").is_file() || dir.join("mmh/stripe").is_dir();
    match here.ancestors().find(holds) {
        Some(dir) => Ok(Setting {
            value: dir.display().to_string(),
            origin: "nearest folder above".to_owned(),
        }),
        None => {
            let what = format!(
                "no repository in {} or above; make one with `mmh init`, or name one with `-R`",
                here.display()
            );
            Err(Error::Other(ErrorKind::NotFound, what))
        }
    }
}

/// Opens what lies in a place: a file is an archive, everything else a store.
///
/// # Errors
/// NotFound, Unsupported, Corrupt; Denied without the key that opens it.
pub fn open(
    place: &str,
    access: &Access,
    settings: Settings,
    components: Components,
) -> mmh_repo::Result<Repository> {
    let path = Path::new(place);
    if path.is_file() {
        return Repository::open_archive(path, settings, components);
    }
    let backend = Backend::parse_existing(place, access)?;
    Repository::open(backend, settings, components)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::*;
    use crate::config::Flags;

    fn config(repository: Option<&str>) -> Config {
        let flags = Flags {
            repository: repository.map(str::to_owned),
            ..Flags::default()
        };
        Config::load(&flags, &BTreeMap::new()).unwrap()
    }

    #[test]
    fn the_nearest_folder_above_is_found_unless_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("a/b");
        fs::create_dir_all(&below).unwrap();
        let missing = place(&config(None), &below).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
        for (mark, is_file) in [("mmh/config", true), ("a/mmh/stripe", false)] {
            let mark = dir.path().join(mark);
            if is_file {
                fs::create_dir_all(mark.parent().unwrap()).unwrap();
                fs::write(&mark, "").unwrap();
            } else {
                fs::create_dir_all(&mark).unwrap();
            }
            let found = place(&config(None), &below).unwrap();
            let holder = mark.parent().unwrap().parent().unwrap();
            assert_eq!(found.value, holder.display().to_string());
        }
        let named = place(&config(Some("s3://b/x")), &below).unwrap();
        assert_eq!(named.value, "s3://b/x");
    }

    fn components() -> (tokio::runtime::Runtime, Components) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(1)
            .build()
            .unwrap();
        let components = Components::new(runtime.handle().clone(), pool.into());
        (runtime, components)
    }

    #[test]
    fn stores_and_archives_are_opened_and_what_is_neither_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let (_runtime, components) = components();
        let opened = |place: &str| {
            let (settings, access) = (Settings::default(), Access::default());
            open(place, &access, settings, components.clone())
        };
        assert_eq!(
            opened(&at("store")).unwrap_err().kind(),
            ErrorKind::NotFound
        );
        let backend = Backend::parse(&at("store"), &Access::default()).unwrap();
        Repository::init(backend, Settings::default(), components.clone()).unwrap();
        assert!(opened(&at("store")).unwrap().store().is_ok());
        fs::write(at("plain"), "words").unwrap();
        let input = dir.path().join("plain");
        let packed = dir.path().join("packed.mmh");
        let options = mmh_repo::PackOptions::default();
        let settings = Settings::default();
        mmh_repo::pack(&input, &packed, &options, settings, components.clone()).unwrap();
        let archive = opened(&at("packed.mmh")).unwrap();
        assert_eq!(archive.store().unwrap_err().kind(), ErrorKind::Denied);
        assert!(opened(&at("plain")).is_err());
    }
}
