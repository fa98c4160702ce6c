//! A real process is killed while it adds; what it had acknowledged is there, and the next
//! writer goes on from where it was.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use mmh_store::conformance::{noise, put, small_store};
use mmh_store::{Backend, ChunkSink, ChunkSource, OpenOptions, Result, Store, Writer};
use tokio::runtime::Handle;

use crate::common::{runtime, verify};

/// Its presence in the working directory makes the child test a child.
const MARKER: &str = "kill-me";
/// The repository beside the marker.
const REPOSITORY: &str = "repository";

fn chunk(seed: u64) -> Vec<u8> {
    noise(seed, 2000)
}

/// Adds chunks and says after each flush how many are sure.
fn add(writer: &Writer, seeds: std::ops::Range<u64>, mut sure: impl FnMut(u64)) -> Result<()> {
    for seed in seeds {
        put(writer, &chunk(seed))?;
        if seed % 10 == 9 {
            writer.flush()?;
            sure(seed + 1);
        }
    }
    Ok(())
}

/// Run by `kill_at_any_moment` as a process of its own; otherwise a short version of itself.
#[test]
fn a_process_that_may_be_killed() {
    let runtime = runtime();
    if !Path::new(MARKER).exists() {
        let store = runtime.block_on(small_store(Backend::memory()));
        let writer = runtime
            .block_on(store.writer(runtime.handle().clone()))
            .unwrap();
        let mut flushed = 0;
        add(&writer, 0..30, |n| flushed = n).unwrap();
        assert_eq!(flushed, 30);
        return;
    }
    let open = Store::open(Backend::local(REPOSITORY).unwrap(), OpenOptions::default());
    let store = runtime.block_on(open).unwrap();
    let writer = runtime
        .block_on(store.writer(runtime.handle().clone()))
        .unwrap();
    add(&writer, 0..100_000, |n| println!("sure {n}")).unwrap();
}

/// Starts the child in `dir`, kills it when it has flushed `flushes` times, and returns how many
/// chunks it had acknowledged.
fn kill_after(dir: &Path, flushes: usize) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "kill::a_process_that_may_be_killed",
            "--nocapture",
        ])
        .current_dir(dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut sure = 0;
    let mut seen = 0;
    while seen < flushes {
        let line = lines
            .next()
            .expect("the child goes on until it is killed")
            .unwrap();
        // The harness may write before the first line of ours.
        if let Some((_, n)) = line.split_once("sure ") {
            sure = n.trim().parse().unwrap();
            seen += 1;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What it still managed to say before it died was acknowledged too.
    for line in lines.map_while(std::result::Result::ok) {
        if let Some(n) = line
            .split_once("sure ")
            .and_then(|(_, n)| n.trim().parse().ok())
        {
            sure = n;
        }
    }
    sure
}

#[test]
fn kill_at_any_moment() {
    let runtime = runtime();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(MARKER), b"").unwrap();
    let backend = Backend::local(dir.path().join(REPOSITORY)).unwrap();
    runtime.block_on(async {
        small_store(backend.clone()).await;
        for round in 1..=8 {
            let sure = kill_after(dir.path(), 2 * round);
            let store = Store::open(backend.clone(), OpenOptions::default())
                .await
                .unwrap();
            let report = verify(&store).await;
            assert!(report.is_clean(), "round {round}: {report:?}");
            let reader = store.reader(Handle::current());
            for seed in 0..sure {
                let raw = chunk(seed);
                let got = reader.get(&mmh_core::ChunkId::of(&raw));
                assert_eq!(
                    &got.unwrap_or_else(|e| panic!("round {round}, {seed}: {e}"))[..],
                    raw
                );
            }
        }
        let store = Store::open(backend, OpenOptions::default()).await.unwrap();
        let writer = store.writer(Handle::current()).await.unwrap();
        assert!(writer.contains(&mmh_core::ChunkId::of(&chunk(0))).unwrap());
        add(&writer, 0..300, |_| ()).unwrap();
        writer.finish().unwrap();
        let report = verify(&store).await;
        assert!(
            report.is_clean() && report.unindexed_packs.is_empty(),
            "{report:?}"
        );
        let staging = dir.path().join(REPOSITORY).join("mmh/staging");
        assert_eq!(std::fs::read_dir(staging).unwrap().count(), 0);
    });
}
