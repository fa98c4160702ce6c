//! A node sits the exam of engines, whatever lies behind it.

use std::sync::Mutex;

use mmh_store::Backend;
use mmh_store::conformance::exam;

use crate::common::{Served, Setup};

/// As many as the exam has questions that want an empty place.
const PLACES: usize = 8;

async fn exam_over(behind: impl Fn() -> Backend) {
    let mut nodes = Vec::new();
    for _ in 0..PLACES {
        nodes.push(Setup::open(behind()).serve().await);
    }
    let (left, taken) = (Mutex::new(nodes), Mutex::new(Vec::<Served>::new()));
    let fresh = || {
        let node = left.lock().unwrap().pop().expect("the exam asks for fewer");
        let client = node.client();
        taken.lock().unwrap().push(node);
        client
    };
    exam(fresh).await;
    let asked = taken.into_inner().unwrap();
    assert!(
        asked.iter().all(|node| node.answers(200) > 0),
        "it was asked over the network"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_over_memory_passes() {
    exam_over(Backend::memory).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_over_a_directory_passes() {
    let dir = tempfile::tempdir().unwrap();
    let n = std::sync::atomic::AtomicU32::new(0);
    exam_over(|| {
        let n = n.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Backend::local(dir.path().join(n.to_string())).unwrap()
    })
    .await;
}
