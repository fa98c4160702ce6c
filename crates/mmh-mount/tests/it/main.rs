//! Mounted folders: the file system called as the kernel does, and by the kernel.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::print_stderr, reason = "what is skipped is said")]

mod handles;
mod kernel;
mod scratch;
mod view;
mod work;
mod work_kernel;
