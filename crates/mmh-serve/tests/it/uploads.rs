//! Long objects on their way in: in order, whole or not at all, and refused where they must be.

use futures::future::join_all;
use mmh_core::ErrorKind;
use mmh_serve::{Role, Tokens, new_token};
use mmh_store::conformance::noise;
use mmh_store::{Backend, Error};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt as _};

use crate::common::{Served, Setup, read_all};
use crate::sliced::with_pack;

/// A name under which long objects that are no packs lie.
const RUN: &str = "mmh/index/00-run";

fn kind(source: object_store::Error) -> ErrorKind {
    let place = "x".to_owned();
    Error::Engine { place, source }.kind()
}

async fn begin(client: &Backend, name: &str) -> Box<dyn MultipartUpload> {
    client
        .objects()
        .put_multipart(&Path::from(name))
        .await
        .unwrap()
}

async fn stored(node: &Served, name: &str) -> Option<Vec<u8>> {
    let got = node.backend.objects().get(&Path::from(name)).await.ok()?;
    Some(got.bytes().await.unwrap().to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_arrive_in_the_order_of_the_calls() {
    let node = Served::memory().await;
    let client = node.client();
    let parts: Vec<Vec<u8>> = (0..7).map(|n| noise(n, 300_000)).collect();
    let mut upload = begin(&client, RUN).await;
    let sent: Vec<_> = parts
        .iter()
        .map(|part| upload.put_part(part.clone().into()))
        .collect();
    // Whoever waits for the last first still gets the first first.
    for done in join_all(sent.into_iter().rev()).await {
        done.unwrap();
    }
    assert_eq!(stored(&node, RUN).await, None, "not before it is whole");
    upload.complete().await.unwrap();
    assert_eq!(stored(&node, RUN).await.unwrap(), parts.concat());
    let got = client
        .objects()
        .get(&Path::from(RUN))
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    assert_eq!(got, parts.concat());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_given_up_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::open(Backend::local(dir.path()).unwrap())
        .serve()
        .await;
    let client = node.client();
    let mut aborted = begin(&client, RUN).await;
    aborted.put_part(noise(1, 3 << 20).into()).await.unwrap();
    aborted.abort().await.unwrap();
    let mut dropped = begin(&client, RUN).await;
    dropped.put_part(noise(2, 3 << 20).into()).await.unwrap();
    drop(dropped);
    let mut empty = begin(&client, "mmh/index/00-empty").await;
    empty.complete().await.unwrap();
    assert_eq!(stored(&node, "mmh/index/00-empty").await.unwrap(), b"");
    assert_eq!(stored(&node, RUN).await, None);
    // The node has noticed when it has stopped.
    let backend = node.backend.clone();
    assert_eq!(node.stop().await.broken_off, 0);
    assert!(backend.staging().orphans().unwrap().is_empty());
    let staged = std::fs::read_dir(dir.path().join("mmh/staging"));
    assert_eq!(staged.map_or(0, Iterator::count), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pack_in_parts_is_compared_with_its_name() {
    let from = Backend::memory();
    let (name, bytes) = with_pack(&from, 9 << 20).await;
    let node = Served::memory().await;
    let client = node.client();
    for (flip, parts) in [(true, 3), (false, 3), (true, 1), (false, 1)] {
        let mut bytes = bytes.clone();
        if flip {
            bytes[5_000_000] ^= 1;
        }
        let mut upload = begin(&client, &name).await;
        for part in bytes.chunks(bytes.len().div_ceil(parts)) {
            upload.put_part(part.to_vec().into()).await.unwrap();
        }
        let done = upload.complete().await;
        if flip {
            let error = done.unwrap_err();
            assert!(error.to_string().contains("not the pack"), "{error}");
        } else {
            done.unwrap();
            assert_eq!(stored(&node, &name).await.unwrap(), bytes);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_uploads_of_one_name_end_with_one_of_them() {
    let node = Served::memory().await;
    let client = node.client();
    let whole = |n: u64| noise(n, 2_500_000);
    let upload = |n: u64| {
        let client = client.clone();
        async move {
            let mut upload = begin(&client, RUN).await;
            for part in whole(n).chunks(1 << 20) {
                upload.put_part(part.to_vec().into()).await.unwrap();
            }
            upload.complete().await.unwrap();
        }
    };
    join_all((0..4).map(upload)).await;
    let kept = stored(&node, RUN).await.unwrap();
    assert!((0..4).any(|n| whole(n) == kept), "no mixture");
}

/// The node's refusal is what is said, not that the connection ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_without_the_right_to_it_is_denied() {
    let (token, line) = new_token(Role::Reader, &[], "r").unwrap();
    let mut setup = Setup::open(Backend::memory());
    setup.tokens = Tokens::parse(&line, "f", Role::Nobody).unwrap();
    let node = setup.serve().await;
    let client = node.client_with(&token);
    let put = client.objects().put(&Path::from("mmh/x"), "x".into()).await;
    assert_eq!(kind(put.unwrap_err()), ErrorKind::Denied);
    let mut upload = begin(&client, RUN).await;
    // It may be taken by the connection before the answer comes.
    let _sent = upload.put_part(noise(1, 1000).into()).await.is_ok();
    let error = upload.complete().await.unwrap_err();
    let text = error.to_string();
    let kind = kind(error);
    assert!(
        [ErrorKind::Denied, ErrorKind::Unavailable].contains(&kind),
        "{text}"
    );
    assert_eq!(stored(&node, RUN).await, None);
}

/// A node that is gone while a part is under way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_to_a_node_that_goes_away_fails() {
    let mut setup = Setup::open(Backend::memory());
    setup.limits.grace = std::time::Duration::ZERO;
    let node = setup.serve().await;
    let client = node.client();
    let mut upload = begin(&client, RUN).await;
    upload.put_part(noise(1, 1000).into()).await.unwrap();
    let backend = node.backend.clone();
    node.stop().await;
    let error = upload.complete().await.unwrap_err();
    assert_eq!(kind(error), ErrorKind::Unavailable);
    let got = backend.objects().head(&Path::from(RUN)).await;
    assert!(got.is_err());
    let mut late = begin(&client, RUN).await;
    let error = late.complete().await.unwrap_err();
    assert_eq!(kind(error), ErrorKind::Unavailable);
}

/// A body whose length is not said is taken if it ends as it should, and only then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_in_chunks_end_with_the_last_one() {
    use tokio::io::AsyncWriteExt as _;
    let node = Served::memory().await;
    let head = format!(
        "PUT /mmh/v1/objects/{RUN} HTTP/1.1\r\nhost: n\r\nconnection: close\r\n\
         transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"
    );
    let mut cut = node.connect().await;
    cut.write_all(head.as_bytes()).await.unwrap();
    cut.shutdown().await.unwrap();
    let answer = read_all(&mut cut).await;
    assert!(!answer.contains("201"), "{answer}");
    assert_eq!(stored(&node, RUN).await, None);
    let whole = node.raw(format!("{head}0\r\n\r\n").as_bytes()).await;
    assert!(whole.starts_with("HTTP/1.1 201"), "{whole}");
    assert_eq!(stored(&node, RUN).await.unwrap(), b"hello");
    let bad = node.raw(format!("{head}zz\r\n").as_bytes()).await;
    assert!(!bad.contains("201"), "{bad}");
}
