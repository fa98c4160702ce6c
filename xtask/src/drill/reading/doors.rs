//! What serves while others read: `mmh serve`, `mmh mount`, and nginx with a plain file.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::mmh::Serving;
use crate::shell::{Context as _, Failure, Outcome, typed};

/// How long a server may take to begin.
const BEGINS: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

/// Starts `mmh serve`, on a port that is free.
pub(super) fn serve(command: &mut Command) -> Outcome<Serving> {
    Serving::start(command.args(["--json", "--http", "127.0.0.1:0"]))
}

/// `mmh mount` while it runs.
pub(super) struct Mounted {
    child: Child,
    folder: PathBuf,
}

impl Mounted {
    /// Mounts a name at a folder, which is made, and waits until it is there.
    pub(super) fn start(mut command: Command, folder: &Path, name: &str) -> Outcome<Self> {
        fs::create_dir_all(folder).context(folder.display())?;
        command.arg(folder).arg(name).stdout(Stdio::null());
        let child = command.spawn().context(typed(&command))?;
        let mut mounted = Self {
            child,
            folder: folder.to_path_buf(),
        };
        let began = Instant::now();
        while !mounted.is_there()? {
            let ended = mounted.child.try_wait().context(typed(&command))?;
            if ended.is_some() || began.elapsed() > BEGINS {
                let what = format!("`{}` did not mount anything", typed(&command));
                return Err(Failure::failed(what));
            }
            std::thread::sleep(PAUSE);
        }
        Ok(mounted)
    }

    fn is_there(&self) -> Outcome<bool> {
        let mounts = fs::read_to_string("/proc/self/mounts").context("/proc/self/mounts")?;
        let folder = self.folder.display().to_string();
        Ok(mounts
            .lines()
            .any(|line| line.split(' ').nth(1) == Some(folder.as_str())))
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to unmount.
        drop(Command::new("umount").arg(&self.folder).output());
        drop(self.child.wait());
    }
}

/// nginx with one folder.
pub(super) struct Nginx {
    child: Child,
    /// Where the file is.
    pub(super) url: String,
}

impl Nginx {
    /// Serves the folder of a file, with the settings that suit large files.
    pub(super) fn start(mut program: Command, file: &Path, place: &Path) -> Outcome<Self> {
        let port = free_port()?;
        let root = file.parent().unwrap_or(file).display();
        let (pid, errors) = (place.join("nginx.pid"), place.join("nginx.log"));
        let config = format!(
            "worker_processes 2;\ndaemon off;\npid {};\nerror_log {};\nevents {{}}\n\
             http {{\naccess_log off;\nsendfile on;\ntcp_nopush on;\n\
             server {{ listen 127.0.0.1:{port}; root {root}; }}\n}}\n",
            pid.display(),
            errors.display(),
        );
        let path = place.join("nginx.conf");
        fs::write(&path, config).context(path.display())?;
        program.arg("-c").arg(&path).arg("-e").arg(&errors);
        let child = program.stdout(Stdio::null()).spawn().context("nginx")?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let nginx = Self {
            child,
            url: format!("http://127.0.0.1:{port}/{name}"),
        };
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if began.elapsed() > BEGINS {
                return Err(Failure::failed("nginx does not answer"));
            }
            std::thread::sleep(PAUSE);
        }
        Ok(nginx)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Asked kindly, it ends its workers too.
        let id = self.child.id().to_string();
        drop(Command::new("kill").args(["-TERM", &id]).status());
        drop(self.child.wait());
    }
}

/// A port that nobody listens on.
fn free_port() -> Outcome<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("a free port")?;
    Ok(listener.local_addr().context("a free port")?.port())
}
