//! Names of a repository as folders that plain programs read.
//!
//! [`Files`] is what a file system is to us, [`View`] the repository as one, [`Work`] a name that is
//! being changed, and [`Mount`] shows one
//! of them at a folder by way of the kernel (FUSE). All but the last works without a kernel, which is
//! how it is tested. Linux only.

#![cfg(target_os = "linux")]

mod error;
mod files;
mod handles;
mod kernel;
mod mount;
mod names;
mod view;
mod workspace;

pub use error::{Error, Result};
pub use files::{Answer, Attr, Change, Entry, Files, Kind, Listed, New, Opened, Space, Who};
pub use handles::{HANDLE_LEN_MAX, Handles, Page, Seat};
pub use mount::{Mount, MountOptions, Stop, unmount};
pub use rustix::io::Errno;
pub use view::{Shown, View, ViewOptions};
pub use workspace::{Staging, Work, WorkReport};
