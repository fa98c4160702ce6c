//! Settings in layers: defaults, system, user, environment, flags; each value knows its origin.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use mmh_core::ErrorKind;
use mmh_repo::{Access, CACHE_LEN_DEFAULT, entropy};
use serde::Deserialize;

use crate::error::Error;

/// A value and where it came from.
#[derive(Debug, Clone)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// Where it came from, for people.
    pub origin: String,
}

/// The settings in force.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the repository is, if that is set.
    pub repository: Option<Setting<String>>,
    /// Who makes snapshots and operations.
    pub author: Setting<String>,
    /// Threads for computation: 1 to 1024.
    pub threads: Setting<usize>,
    /// How hard to compress.
    pub level: Setting<mmh_repo::Level>,
    /// The entropy coder's engine, which this machine has.
    pub engine: Setting<&'static str>,
    /// Where the log lives if not beside the packs; may hold a password.
    pub log: Option<Setting<String>>,
    /// The folder for what is staged for, and read from, repositories elsewhere.
    pub cache: Option<Setting<PathBuf>>,
    /// What the cache of one repository elsewhere may hold, in GiB.
    pub cache_gib: Setting<u64>,
    /// The user's folder for settings, signing keys and rules of trust.
    pub folder: Option<PathBuf>,
    /// The variables of engines elsewhere.
    pub variables: BTreeMap<String, String>,
}

/// A settings file. Unknown keys are errors.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    repository: Option<String>,
    author: Option<String>,
    threads: Option<usize>,
    level: Option<String>,
    engine: Option<String>,
    log: Option<String>,
    cache: Option<PathBuf>,
    cache_gib: Option<u64>,
}

/// The variables that are read, each of one setting.
const VARIABLES: [&str; 8] = [
    "MMH_REPOSITORY",
    "MMH_AUTHOR",
    "MMH_THREADS",
    "MMH_LEVEL",
    "MMH_ENGINE",
    "MMH_LOG",
    "MMH_CACHE",
    "MMH_CACHE_GIB",
];

/// The beginnings of the variables that engines elsewhere are known to read.
const ELSEWHERE: [&str; 7] = [
    "AWS_",
    "AZURE_",
    "GOOGLE_",
    "PG",
    "ETCD_",
    "NATS_",
    "MMH_NODE_",
];

/// Largest bound of a cache in GiB: 1 PiB.
const CACHE_GIB_MAX: u64 = 1 << 20;

/// What the strongest layer is called.
const TYPED: &str = "command line";

/// How the system says that there is no settings file.
const ABSENT: [io::ErrorKind; 2] = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];

/// What was typed, or handed in by a program: the strongest layer.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// Where the repository is.
    pub repository: Option<String>,
    /// Who makes snapshots and operations.
    pub author: Option<String>,
    /// Threads for computation.
    pub threads: Option<usize>,
    /// The entropy coder's engine, by name.
    pub engine: Option<String>,
    /// Where the log lives if not beside the packs.
    pub log: Option<String>,
    /// How hard to compress.
    pub level: Option<mmh_repo::Level>,
}

/// What the process's environment says; handed in, so that tests decide it.
pub trait Environment {
    /// A variable that is set and not empty.
    fn var(&self, name: &str) -> Option<String>;

    /// All variables whose names begin with one of these.
    fn starting(&self, starts: &[&str]) -> BTreeMap<String, String>;
}

impl Environment for BTreeMap<String, String> {
    fn var(&self, name: &str) -> Option<String> {
        self.get(name).filter(|value| !value.is_empty()).cloned()
    }

    fn starting(&self, starts: &[&str]) -> Self {
        let owned = |(name, value): (&String, &String)| (name.clone(), value.clone());
        let wanted = |(name, _): &(&String, &String)| starts.iter().any(|s| name.starts_with(s));
        self.iter().filter(wanted).map(owned).collect()
    }
}

/// This user's folder for settings, signing keys and rules of trust.
#[must_use]
pub fn config_folder(env: &dyn Environment) -> Option<PathBuf> {
    let home = || env.var("HOME").map(|home| Path::new(&home).join(".config"));
    let folder = env.var("XDG_CONFIG_HOME").map(PathBuf::from).or_else(home);
    let folder = folder.or_else(|| env.var("APPDATA").map(PathBuf::from));
    folder.map(|folder| folder.join("mmh"))
}

/// The settings files, weakest first.
#[must_use]
pub fn files(env: &dyn Environment) -> Vec<PathBuf> {
    let system = Path::new("/etc/mmh").to_owned();
    let folders = [Some(system), config_folder(env)].into_iter().flatten();
    folders.map(|dir| dir.join("config.toml")).collect()
}

/// The folder for what may be lost, such as how far a scrub has come.
#[must_use]
pub fn cache_folder(env: &dyn Environment) -> Option<PathBuf> {
    let home = || env.var("HOME").map(|home| Path::new(&home).join(".cache"));
    let folder = env.var("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    let folder = folder.or_else(|| env.var("LOCALAPPDATA").map(PathBuf::from));
    folder.map(|folder| folder.join("mmh"))
}

/// The folder for what must not be lost, such as workspaces that were not committed.
#[must_use]
pub fn state_folder(env: &dyn Environment) -> Option<PathBuf> {
    let home = || {
        env.var("HOME")
            .map(|home| Path::new(&home).join(".local/state"))
    };
    let folder = env.var("XDG_STATE_HOME").map(PathBuf::from).or_else(home);
    folder.map(|folder| folder.join("mmh"))
}

impl Config {
    /// Merges all layers.
    ///
    /// # Errors
    /// Invalid for a malformed file or value, naming it.
    pub fn load(flags: &Flags, env: &dyn Environment) -> Result<Self, Error> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let author = env.var("USER").or_else(|| env.var("USERNAME"));
        let default = |value| Setting {
            value,
            origin: "default".to_owned(),
        };
        let mut config = Self {
            repository: None,
            author: default(author.unwrap_or_else(|| "unknown".to_owned())),
            threads: Setting {
                value: cores,
                origin: "cores of this machine".to_owned(),
            },
            level: Setting {
                value: mmh_repo::Level::Default,
                origin: "default".to_owned(),
            },
            engine: Setting {
                value: entropy::best().name(),
                origin: "fastest of this machine".to_owned(),
            },
            log: None,
            cache: default_cache(env).map(|value| Setting {
                value,
                origin: "default".to_owned(),
            }),
            cache_gib: Setting {
                value: CACHE_LEN_DEFAULT >> 30,
                origin: "default".to_owned(),
            },
            folder: config_folder(env),
            variables: env.starting(&ELSEWHERE),
        };
        for path in files(env) {
            let text = match std::fs::read_to_string(&path) {
                Ok(text) => text,
                Err(e) if ABSENT.contains(&e.kind()) => continue,
                Err(e) => {
                    let what = format!("cannot read settings file {}: {e}", path.display());
                    return Err(Error::Other(ErrorKind::of_io(&e), what));
                }
            };
            let file: File = toml::from_str(&text)
                .map_err(|e| Error::invalid(format!("settings file {}: {e}", path.display())))?;
            config.apply(file, &path.display().to_string())?;
        }
        let [
            repository,
            author,
            threads,
            level,
            engine,
            log,
            cache,
            cache_gib,
        ] = VARIABLES.map(|name| env.var(name));
        let threads = threads
            .map(|text| number("MMH_THREADS", &text))
            .transpose()?;
        let cache_gib = cache_gib
            .map(|text| number("MMH_CACHE_GIB", &text))
            .transpose()?;
        config.apply(
            File {
                repository,
                author,
                threads,
                level,
                engine,
                log,
                cache: cache.map(PathBuf::from),
                cache_gib,
            },
            "environment (MMH_…)",
        )?;
        let typed = File {
            repository: flags.repository.clone(),
            author: flags.author.clone(),
            threads: flags.threads,
            level: None,
            engine: flags.engine.clone(),
            log: flags.log.clone(),
            cache: None,
            cache_gib: None,
        };
        config.apply(typed, TYPED)?;
        if let Some(value) = flags.level {
            config.level = Setting {
                value,
                origin: TYPED.to_owned(),
            };
        }
        Ok(config)
    }

    fn apply(&mut self, file: File, origin: &str) -> Result<(), Error> {
        let origin = || origin.to_owned();
        if let Some(value) = file.repository {
            self.repository = Some(Setting {
                value,
                origin: origin(),
            });
        }
        if let Some(value) = file.author {
            if value.len() > 255 {
                return Err(Error::invalid(
                    "the author has more than 255 bytes".to_owned(),
                ));
            }
            self.author = Setting {
                value,
                origin: origin(),
            };
        }
        if let Some(value) = file.threads {
            if !(1..=1024).contains(&value) {
                let what = format!("{value} threads ({}): use 1 to 1024", origin());
                return Err(Error::invalid(what));
            }
            self.threads = Setting {
                value,
                origin: origin(),
            };
        }
        if let Some(name) = file.engine {
            let found = entropy::by_name(&name)
                .map_err(|e| Error::invalid(format!("{e} ({})", origin())))?;
            self.engine = Setting {
                value: found.name(),
                origin: origin(),
            };
        }
        self.apply_elsewhere(file.log, file.cache, file.cache_gib, &origin())?;
        if let Some(text) = file.level {
            let value = text.parse().map_err(|_| {
                let from = origin();
                Error::invalid(format!(
                    "level `{text}` ({from}): use fast, default or archive"
                ))
            })?;
            self.level = Setting {
                value,
                origin: origin(),
            };
        }
        Ok(())
    }
}

impl Config {
    /// Settings of repositories beyond this machine.
    fn apply_elsewhere(
        &mut self,
        log: Option<String>,
        cache: Option<PathBuf>,
        cache_gib: Option<u64>,
        origin: &str,
    ) -> Result<(), Error> {
        let origin = || origin.to_owned();
        if let Some(value) = log {
            self.log = Some(Setting {
                value,
                origin: origin(),
            });
        }
        if let Some(value) = cache {
            self.cache = Some(Setting {
                value,
                origin: origin(),
            });
        }
        if let Some(value) = cache_gib {
            if value > CACHE_GIB_MAX {
                let what = format!(
                    "a cache of {value} GiB ({}): use 0 to {CACHE_GIB_MAX}",
                    origin()
                );
                return Err(Error::invalid(what));
            }
            self.cache_gib = Setting {
                value,
                origin: origin(),
            };
        }
        Ok(())
    }

    /// What places beyond this machine need that their URL does not say.
    #[must_use]
    pub fn access(&self) -> Access {
        Access {
            variables: self.variables.clone(),
            cache: self.cache.as_ref().map(|cache| cache.value.clone()),
            cache_len_max: self.cache_gib.value << 30,
            log: self.log.as_ref().map(|log| log.value.clone()),
        }
    }
}

/// Where systems keep what can be had again.
fn default_cache(env: &dyn Environment) -> Option<PathBuf> {
    let folder = env
        .var("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| env.var("HOME").map(|home| Path::new(&home).join(".cache")))
        .or_else(|| env.var("LOCALAPPDATA").map(PathBuf::from))?;
    Some(folder.join("mmh"))
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, Error> {
    let bad = |_| Error::invalid(format!("{name}={text}: not a number"));
    text.parse().map_err(bad)
}

impl<T: fmt::Display> fmt::Display for Setting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.value, self.origin)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    impl Environment for HashMap<&str, String> {
        fn var(&self, name: &str) -> Option<String> {
            self.get(name).cloned()
        }

        fn starting(&self, starts: &[&str]) -> BTreeMap<String, String> {
            let owned = |(name, value): (&&str, &String)| ((*name).to_owned(), value.clone());
            let all = self.iter().map(owned);
            all.filter(|(name, _)| starts.iter().any(|s| name.starts_with(s)))
                .collect()
        }
    }

    /// What engines elsewhere need comes together from all layers.
    #[test]
    fn access_to_places_elsewhere_is_put_together() {
        let (_dir, mut env) = home("log = \"nats://h\"\ncache = \"/fast\"\ncache_gib = 3");
        env.insert("AWS_REGION", "here".to_owned());
        env.insert("PATH", "/bin".to_owned());
        let access = Config::load(&Flags::default(), &env).unwrap().access();
        assert_eq!(access.log.as_deref(), Some("nats://h"));
        assert_eq!(access.cache.as_deref(), Some(Path::new("/fast")));
        assert_eq!(access.cache_len_max, 3 << 30);
        let names: Vec<&String> = access.variables.keys().collect();
        assert_eq!(names, ["AWS_REGION"]);

        env.insert("MMH_CACHE", "/faster".to_owned());
        env.insert("MMH_LOG", "etcd://h".to_owned());
        env.insert("MMH_CACHE_GIB", "0".to_owned());
        let flags = Flags {
            log: Some("postgres://h/d".to_owned()),
            ..Flags::default()
        };
        let access = Config::load(&flags, &env).unwrap().access();
        assert_eq!(access.log.as_deref(), Some("postgres://h/d"));
        assert_eq!(access.cache.as_deref(), Some(Path::new("/faster")));
        assert_eq!(access.cache_len_max, 0);
        for bad in ["x", "-1", "1048577"] {
            env.insert("MMH_CACHE_GIB", bad.to_owned());
            let failure = Config::load(&Flags::default(), &env).unwrap_err();
            assert_eq!(failure.kind(), ErrorKind::Invalid, "{bad}");
        }
    }

    #[test]
    fn the_cache_lies_where_systems_keep_such_things() {
        let cache = |vars: &[(&'static str, &str)]| {
            let env = vars.iter().map(|(k, v)| (*k, (*v).to_owned()));
            default_cache(&env.collect::<HashMap<_, _>>())
        };
        assert_eq!(cache(&[]), None);
        assert_eq!(cache(&[("HOME", "/h")]), Some("/h/.cache/mmh".into()));
        let both = [("HOME", "/h"), ("XDG_CACHE_HOME", "/x")];
        assert_eq!(cache(&both), Some("/x/mmh".into()));
        assert_eq!(cache(&[("LOCALAPPDATA", "/l")]), Some("/l/mmh".into()));
    }

    fn home(text: &str) -> (tempfile::TempDir, HashMap<&'static str, String>) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("mmh")).unwrap();
        std::fs::write(dir.path().join("mmh/config.toml"), text).unwrap();
        let env = HashMap::from([("XDG_CONFIG_HOME", dir.path().display().to_string())]);
        (dir, env)
    }

    #[test]
    fn later_layers_win_and_say_so() {
        let (_dir, mut env) = home("author = \"file\"\nthreads = 3\nlevel = \"fast\"");
        env.insert("MMH_THREADS", "4".to_owned());
        let flags = Flags {
            author: Some("flag".to_owned()),
            ..Flags::default()
        };
        let config = Config::load(&flags, &env).unwrap();
        assert_eq!(
            (config.author.value.as_str(), config.author.origin.as_str()),
            ("flag", "command line")
        );
        assert_eq!(
            (config.threads.value, config.threads.origin.contains("MMH")),
            (4, true)
        );
        assert!(config.level.origin.ends_with("config.toml"));
    }

    #[test]
    fn a_settings_file_that_cannot_be_read_is_not_passed_over() {
        let (dir, env) = home("");
        let path = dir.path().join("mmh/config.toml");
        std::fs::write(&path, b"author = \"\xff\"").unwrap();
        let failure = Config::load(&Flags::default(), &env).unwrap_err();
        assert!(failure.to_string().contains("config.toml"));
        std::fs::remove_file(&path).unwrap();
        assert!(Config::load(&Flags::default(), &env).is_ok());
    }

    #[test]
    fn unknown_keys_and_bad_values_are_errors() {
        for text in [
            "colour = 1",
            "threads = 0",
            "level = \"best\"",
            "threads = \"x\"",
            "engine = \"abacus\"",
            "[",
        ] {
            let (_dir, env) = home(text);
            let error = Config::load(&Flags::default(), &env).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
        }
    }

    /// Without anything set, each setting has a default that says where it is from.
    #[test]
    fn defaults_are_named() {
        let env = HashMap::from([("HOME", "/nonexistent".to_owned())]);
        let config = Config::load(&Flags::default(), &env).unwrap();
        assert!(config.repository.is_none());
        assert_eq!(config.author.to_string(), "unknown (default)");
        assert_eq!(config.level.to_string(), "default (default)");
        assert_eq!(config.threads.origin, "cores of this machine");
        assert!((1..=1024).contains(&config.threads.value));
    }

    /// Where the user's file is looked for, on each kind of system; the system's comes first.
    #[test]
    fn files_are_looked_for_where_systems_keep_them() {
        let user = |vars: &[(&'static str, &str)]| {
            let env: HashMap<&str, String> = vars
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned()))
                .collect();
            files(&env)
                .iter()
                .map(|f| f.display().to_string())
                .collect::<Vec<_>>()
        };
        let system = "/etc/mmh/config.toml";
        assert_eq!(user(&[]), [system]);
        assert_eq!(
            user(&[("HOME", "/h")]),
            [system, "/h/.config/mmh/config.toml"]
        );
        assert_eq!(
            user(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/x"), ("APPDATA", "/a")]),
            [system, "/x/mmh/config.toml"]
        );
        assert_eq!(user(&[("APPDATA", "/a")]), [system, "/a/mmh/config.toml"]);
    }

    /// The borders of what is accepted, in a layer of each kind.
    #[test]
    fn borders_of_values() {
        for (threads, good) in [(0, false), (1, true), (1024, true), (1025, false)] {
            let flags = Flags {
                threads: Some(threads),
                ..Flags::default()
            };
            let loaded = Config::load(&flags, &HashMap::new());
            assert_eq!(loaded.is_ok(), good, "{threads}");
            let env = HashMap::from([("MMH_THREADS", threads.to_string())]);
            assert_eq!(
                Config::load(&Flags::default(), &env).is_ok(),
                good,
                "{threads}"
            );
        }
        for (len, good) in [(0, true), (255, true), (256, false)] {
            let env = HashMap::from([("MMH_AUTHOR", "x".repeat(len))]);
            assert_eq!(Config::load(&Flags::default(), &env).is_ok(), good, "{len}");
        }
    }

    /// Every engine of this machine can be named in every layer; another is an error.
    #[test]
    fn an_engine_is_chosen_by_name() {
        for engine in entropy::engines() {
            let env = HashMap::from([("MMH_ENGINE", engine.name().to_owned())]);
            let config = Config::load(&Flags::default(), &env).unwrap();
            assert_eq!(config.engine.value, engine.name());
            let flags = Flags {
                engine: Some("reference".to_owned()),
                ..Flags::default()
            };
            let config = Config::load(&flags, &env).unwrap();
            assert_eq!(config.engine.to_string(), "reference (command line)");
        }
        let env = HashMap::from([("MMH_ENGINE", "abacus".to_owned())]);
        let failure = Config::load(&Flags::default(), &env).unwrap_err();
        assert_eq!(failure.kind(), ErrorKind::Invalid);
        let message = failure.to_string();
        assert!(
            message.contains("reference") && message.contains("MMH_"),
            "{message}"
        );
    }

    /// A level given to a command wins; a command without one leaves the layers alone.
    #[test]
    fn the_level_of_a_command_wins() {
        use mmh_repo::Level;
        let env = HashMap::from([("MMH_LEVEL", "fast".to_owned())]);
        let config = Config::load(&Flags::default(), &env).unwrap();
        assert_eq!(config.level.value, Level::Fast);
        for level in [Level::Fast, Level::Default, Level::Archive] {
            let flags = Flags {
                level: Some(level),
                ..Flags::default()
            };
            let chosen = Config::load(&flags, &env).unwrap().level;
            assert_eq!((chosen.value, chosen.origin.as_str()), (level, TYPED));
        }
    }

    /// A program hands its environment in as a map.
    #[test]
    fn a_map_is_an_environment() {
        let map: BTreeMap<String, String> = [
            ("AWS_REGION", "here"),
            ("AWS_KEY", ""),
            ("HOME", "/h"),
            ("MMH_AUTHOR", "me"),
            ("MMH_LEVEL", ""),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        assert_eq!(map.var("MMH_AUTHOR").as_deref(), Some("me"));
        assert_eq!((map.var("MMH_LEVEL"), map.var("PATH")), (None, None));
        let of_amazon = map.starting(&["AWS_", "PG"]);
        let names: Vec<&String> = of_amazon.keys().collect();
        assert_eq!(names, ["AWS_KEY", "AWS_REGION"]);
        let config = Config::load(&Flags::default(), &map).unwrap();
        assert_eq!(config.author.to_string(), "me (environment (MMH_…))");
        assert_eq!(config.folder, Some("/h/.config/mmh".into()));
        assert_eq!(config.access().variables, of_amazon);
        assert_eq!(cache_folder(&map), Some("/h/.cache/mmh".into()));
        assert_eq!(state_folder(&map), Some("/h/.local/state/mmh".into()));
    }

    /// A bad value is an error although a stronger layer would hide it: it is a mistake anyway.
    #[test]
    fn hidden_mistakes_are_found() {
        let (_dir, mut env) = home("threads = 0");
        env.insert("MMH_THREADS", "4".to_owned());
        let failure = Config::load(&Flags::default(), &env).unwrap_err();
        assert!(failure.to_string().contains("config.toml"));
    }
}
