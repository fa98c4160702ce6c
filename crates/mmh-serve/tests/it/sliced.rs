//! Packs that come in slices: checked on the way, whole in the end.

use mmh_core::ErrorKind;
use mmh_store::conformance::{noise, put as put_chunk};
use mmh_store::node::{Arrival, outline};
use mmh_store::{Backend, InitOptions, OpenOptions, Store};
use object_store::path::Path;
use object_store::{GetRange, ObjectStoreExt as _};
use tokio::runtime::Handle;

use crate::common::{Served, Setup};

/// A store with a pack of about `len` bytes; the pack's name and bytes.
pub(crate) async fn with_pack(backend: &Backend, len: usize) -> (String, Vec<u8>) {
    let store = Store::init(backend.clone(), InitOptions::default())
        .await
        .unwrap();
    fill(&store, 0, len).await;
    let listed: Vec<_> = {
        use futures::TryStreamExt as _;
        let prefix = Path::from("mmh/packs");
        backend
            .objects()
            .list(Some(&prefix))
            .try_collect()
            .await
            .unwrap()
    };
    assert_eq!(listed.len(), 1);
    let path = listed[0].location.clone();
    let bytes = backend
        .objects()
        .get(&path)
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    (path.to_string(), bytes.to_vec())
}

/// Puts noise into a store, in chunks of up to 1 MiB.
pub(crate) async fn fill(store: &Store, seed: u64, len: usize) {
    let writer = store.writer(Handle::current()).await.unwrap();
    let work = move || {
        for (n, start) in (0..len).step_by(1 << 20).enumerate() {
            let raw = noise(seed + n as u64, (len - start).min(1 << 20));
            put_chunk(&writer, &raw).unwrap();
        }
        writer.finish().unwrap();
    };
    tokio::task::spawn_blocking(work).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pack_comes_whole_and_in_parts() {
    let node = Served::memory().await;
    let (name, bytes) = with_pack(&node.backend, 9 << 20).await;
    let client = node.client();
    let path = Path::from(name.as_str());
    let got = client.objects().get(&path).await.unwrap();
    assert_eq!(got.meta.size, bytes.len() as u64);
    assert_eq!(got.bytes().await.unwrap(), bytes);
    let len = bytes.len() as u64;
    // Short ones come as they are, long ones in slices; some begin or end in the parity.
    for range in [
        0..1,
        5..70_000,
        1..len,
        100_001..len - 1,
        len - 9..len,
        77..(8 << 20) + 80,
    ] {
        let got = client
            .objects()
            .get_range(&path, range.clone())
            .await
            .unwrap();
        let at = |n: u64| usize::try_from(n).unwrap();
        assert_eq!(got, bytes[at(range.start)..at(range.end)], "{range:?}");
    }
    let options = object_store::GetOptions::new().with_range(Some(GetRange::Suffix(1000)));
    let got = client.objects().get_opts(&path, options).await.unwrap();
    assert_eq!(got.range, len - 1000..len);
    assert_eq!(got.bytes().await.unwrap(), bytes[bytes.len() - 1000..]);
    let paths: Vec<String> = node.paths();
    assert!(
        paths.iter().any(|path| path.starts_with("/mmh/v1/slices/")),
        "{paths:?}"
    );
}

/// What has rotted on the node is not sent as if it were whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pack_that_is_not_its_name_is_not_sliced() {
    let node = Served::memory().await;
    let (name, mut bytes) = with_pack(&node.backend, 200_000).await;
    bytes[100_000] ^= 1;
    let path = Path::from(name.as_str());
    node.backend
        .objects()
        .put(&path, bytes.clone().into())
        .await
        .unwrap();
    let error = node.client().objects().get(&path).await.unwrap_err();
    assert!(
        error.to_string().contains("digest that names it"),
        "{error}"
    );
    let got = node
        .client()
        .objects()
        .get_range(&path, 99_999..100_002)
        .await
        .unwrap();
    assert_eq!(
        got,
        bytes[99_999..100_002],
        "short reads are checked by their readers"
    );
    let pack = mmh_store::node::wire::pack_of(&name).unwrap();
    assert_eq!(
        outline(&node.backend, pack).await.unwrap_err().kind(),
        ErrorKind::Corrupt
    );
    for len in [0, 1, 40, bytes.len() / 2] {
        node.backend
            .objects()
            .put(&path, bytes[..len].to_vec().into())
            .await
            .unwrap();
        let error = outline(&node.backend, pack).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{len}: {error}");
    }
    node.backend.objects().delete(&path).await.unwrap();
    assert_eq!(
        outline(&node.backend, pack).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

/// Flipped anywhere, or cut anywhere, content or parity: it does not get its name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_pack_is_not_taken_in() {
    let from = Backend::memory();
    let (name, bytes) = with_pack(&from, 30_000).await;
    let to = Backend::memory();
    let send = |bytes: Vec<u8>| {
        let (to, name) = (to.clone(), name.clone());
        async move {
            let arrival = Arrival::begin(&to, &name).unwrap();
            arrival.append(&bytes.into()).unwrap();
            arrival.publish().await
        }
    };
    for at in (0..bytes.len()).step_by(211) {
        let mut bad = bytes.clone();
        bad[at] ^= 0x10;
        let error = send(bad).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{at}: {error}");
        let error = send(bytes[..at].to_vec()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "cut to {at}: {error}");
    }
    assert!(to.staging().orphans().unwrap().is_empty());
    send(bytes.clone()).await.unwrap();
    let got = to.objects().get(&Path::from(name.as_str())).await.unwrap();
    assert_eq!(got.bytes().await.unwrap(), bytes);
}

/// A pack and an index run that are longer than one piece, through the client's uploads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_packs_go_up_and_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::open(Backend::local(dir.path()).unwrap())
        .serve()
        .await;
    let store = Store::init(node.client(), InitOptions::default())
        .await
        .unwrap();
    fill(&store, 7, 20 << 20).await;
    let inside = Store::open(node.backend.clone(), OpenOptions::default())
        .await
        .unwrap();
    let stats = inside.stats().await.unwrap();
    assert_eq!(stats.chunks, 20, "{stats:?}");
    let options = mmh_store::VerifyOptions::default();
    let silent = mmh_core::ports::Silent;
    let report = inside
        .verify(options, &silent, &mmh_core::ports::Cancel::default())
        .await;
    assert!(report.unwrap().is_clean());
}

impl Served {
    fn paths(&self) -> Vec<String> {
        let notes = self.memo.0.lock().unwrap();
        let path = |note: &mmh_serve::Note| match note {
            mmh_serve::Note::Answered { path, .. } => Some(path.clone()),
            _ => None,
        };
        notes.iter().filter_map(path).collect()
    }
}
