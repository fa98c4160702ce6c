//! Engines beyond this process: each sits the exam on the real server, which the test starts
//! itself on loopback. A server that is not installed is said to be left out, loudly;
//! `cargo xtask engines` brings all of them.

mod logs;
mod race;
mod s3;
mod server;
