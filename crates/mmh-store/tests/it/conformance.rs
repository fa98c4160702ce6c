//! Every backend of this crate sits the exam.

use std::sync::Arc;

use mmh_store::conformance::exam;
use mmh_store::{Backend, LocalStaging, MemoryStaging};
use object_store::memory::InMemory;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_passes() {
    exam(Backend::memory).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_that_publishes_by_itself_passes() {
    let fresh = || {
        let objects = Arc::new(InMemory::new());
        let staging = MemoryStaging::publishing_into(Arc::clone(&objects) as _);
        Backend::custom("renaming memory", objects, Arc::new(staging))
    };
    exam(fresh).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_passes() {
    let dir = tempfile::tempdir().unwrap();
    let n = std::sync::atomic::AtomicU32::new(0);
    let fresh = || {
        let n = n.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Backend::local(dir.path().join(n.to_string())).unwrap()
    };
    exam(fresh).await;
}

/// Staging in a local folder for an engine elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_with_a_local_staging_folder_passes() {
    let dir = tempfile::tempdir().unwrap();
    let n = std::sync::atomic::AtomicU32::new(0);
    let fresh = || {
        let n = n.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let staging = LocalStaging::in_folder(&dir.path().join(n.to_string()));
        Backend::custom("engine", Arc::new(InMemory::new()), Arc::new(staging))
    };
    exam(fresh).await;
}
