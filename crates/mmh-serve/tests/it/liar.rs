//! Nodes that lie: a client notices within a group, asks again from there, and gives up in the end.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, map_response};
use axum::response::Response;
use futures::{StreamExt as _, TryStreamExt as _};
use http_body_util::BodyExt as _;
use mmh_core::ErrorKind;
use mmh_store::node::slice::{GROUP_LEN, NODE_LEN};
use mmh_store::{Backend, OpenOptions, Store};
use object_store::ObjectStoreExt as _;
use object_store::path::Path;

use crate::common::{Served, Setup};
use crate::sliced::with_pack;

/// Serves a pack of some groups through a liar; gives its name and bytes too.
async fn lying(between: fn(Router) -> Router) -> (Served, Path, Vec<u8>) {
    let mut setup = Setup::open(Backend::memory());
    let (name, bytes) = with_pack(&setup.backend, 1 << 20).await;
    setup.between = between;
    (setup.serve().await, Path::from(name), bytes)
}

/// What a client gets of a pack before it knows better.
async fn read(node: &Served, path: &Path) -> (Vec<u8>, Option<object_store::Error>) {
    let mut stream = match node.client().objects().get(path).await {
        Ok(got) => got.into_stream(),
        Err(error) => return (Vec::new(), Some(error)),
    };
    let mut all = Vec::new();
    loop {
        match stream.try_next().await {
            Ok(Some(bytes)) => all.extend_from_slice(&bytes),
            Ok(None) => return (all, None),
            Err(error) => return (all, Some(error)),
        }
    }
}

fn is_slice(request: &Request) -> bool {
    request.uri().path().starts_with("/mmh/v1/slices/")
}

/// Changes the bodies of slices.
async fn with_body(request: Request, next: Next, change: fn(Vec<u8>) -> Vec<u8>) -> Response {
    let slice = is_slice(&request);
    let response = next.run(request).await;
    if !slice {
        return response;
    }
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes().to_vec();
    Response::from_parts(parts, Body::from(change(bytes)))
}

/// A bit that is wrong whenever it is asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_ends_the_transfer_in_its_group() {
    let flip = |router: Router| {
        router.layer(from_fn(|request, next| {
            with_body(request, next, |mut bytes| {
                // Answers that begin later do not reach so far.
                if let Some(byte) = bytes.get_mut(600_000) {
                    *byte ^= 4;
                }
                bytes
            })
        }))
    };
    let (node, path, bytes) = lying(flip).await;
    let (got, error) = read(&node, &path).await;
    // The first lie is noticed there; asked again from there, the liar's next answer is shorter
    // than its lie is far, so that the rest comes whole.
    assert!(error.is_none(), "{error:?}");
    assert_eq!(got, bytes);
    assert!(node.answers(200) >= 2, "it was asked again");
}

/// A group that is wrong however it is asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_goes_on_lying_is_given_up() {
    let flip = |router: Router| {
        router.layer(from_fn(|request, next| {
            with_body(request, next, |mut bytes| {
                if let Some(last) = bytes.last_mut() {
                    *last ^= 1;
                }
                bytes
            })
        }))
    };
    let (node, path, bytes) = lying(flip).await;
    let (got, error) = read(&node, &path).await;
    let error = mmh_store::Error::Engine {
        place: "x".to_owned(),
        source: error.unwrap(),
    };
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(
        got.len() < bytes.len() && bytes.starts_with(&got),
        "only what was proved"
    );
    assert!(
        bytes.len() - got.len() < 200_000,
        "all groups before the last came"
    );
    assert!(node.answers(200) <= 4, "it is not asked for ever");
}

/// Which byte of a slice is flipped next, for the test below.
static AT: AtomicU64 = AtomicU64::new(0);

/// Nodes, groups, borders: whatever is flipped, not one wrong byte is handed out, and what is
/// handed out ends before the group with the flip.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flip_anywhere_lets_no_wrong_byte_through() {
    let flip = |router: Router| {
        router.layer(from_fn(|request, next| {
            with_body(request, next, |mut bytes| {
                let at = usize::try_from(AT.load(Ordering::Relaxed)).unwrap();
                let at = at % bytes.len();
                bytes[at] ^= 0x80;
                bytes
            })
        }))
    };
    let (node, path, bytes) = lying(flip).await;
    let group = usize::try_from(GROUP_LEN).unwrap();
    for at in (0..1 << 20)
        .step_by(61_111)
        .chain([0, 63, 64, NODE_LEN * 6 + group])
    {
        AT.store(at as u64, Ordering::Relaxed);
        let (got, error) = read(&node, &path).await;
        assert!(bytes.starts_with(&got), "{at}");
        assert!(error.is_some() || got == bytes, "{at}: {error:?}");
        // Each of three answers brings at most what comes before the flip.
        assert!(
            error.is_none() || got.len() <= 3 * at,
            "{at}: {}",
            got.len()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_answer_is_asked_for_again_and_a_long_one_is_cut() {
    /// The first answer is cut, the others are not.
    static CUT: AtomicU64 = AtomicU64::new(0);
    let cut = |router: Router| {
        router.layer(from_fn(|request: Request, next: Next| async {
            let slice = is_slice(&request);
            let response = next.run(request).await;
            if !slice || CUT.fetch_add(1, Ordering::Relaxed) > 0 {
                return response;
            }
            let (parts, body) = response.into_parts();
            let mut left = 500_000;
            let stream = body.into_data_stream().map(move |bytes| {
                let bytes = bytes.unwrap();
                if bytes.len() > left {
                    return Err(std::io::Error::other("broken off"));
                }
                left -= bytes.len();
                Ok::<Bytes, _>(bytes)
            });
            Response::from_parts(parts, Body::from_stream(stream))
        }))
    };
    let (node, path, bytes) = lying(cut).await;
    let (got, error) = read(&node, &path).await;
    assert!(error.is_none() && got == bytes, "{error:?}");
    assert_eq!(
        CUT.load(Ordering::Relaxed),
        2,
        "from where it broke off, once"
    );

    let long = |router: Router| {
        router.layer(from_fn(|request: Request, next: Next| async {
            let mut response = next.run(request).await;
            response.headers_mut().remove(header::CONTENT_LENGTH);
            let body = std::mem::take(response.body_mut());
            let more = futures::stream::iter([Ok(Bytes::from(vec![7; 100_000]))]);
            *response.body_mut() = Body::from_stream(body.into_data_stream().chain(more));
            response
        }))
    };
    let (node, path, bytes) = lying(long).await;
    let (got, error) = read(&node, &path).await;
    assert!(
        error.is_none_or(|_| bytes.starts_with(&got)),
        "what is too much is not taken"
    );
    let got = node.client().objects().get_range(&path, 0..10).await;
    assert!(got.is_err() || got.unwrap() == bytes[..10]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_lengths_ranges_and_statuses_are_noticed() {
    let betweens: [fn(Router) -> Router; 7] = [
        |r| with_header(r, "mmh-content-len", "100000"),
        |r| with_header(r, "mmh-content-len", "x"),
        |r| with_header(r, "mmh-object-len", "9999999999999999"),
        |r| with_header(r, "mmh-object-len", "1"),
        |r| with_status(r, StatusCode::FOUND),
        |r| with_status(r, StatusCode::INTERNAL_SERVER_ERROR),
        |r| {
            with_header(
                with_status(r, StatusCode::NO_CONTENT),
                "mmh-content-len",
                "",
            )
        },
    ];
    for (n, between) in betweens.into_iter().enumerate() {
        let (node, path, bytes) = lying(between).await;
        let (got, error) = read(&node, &path).await;
        assert!(error.is_some(), "{n}");
        assert!(bytes.starts_with(&got), "{n}: nothing wrong is handed out");
    }
    let other = |r| with_header(r, "content-range", "bytes 5-14/1000");
    let (node, path, _) = lying(other).await;
    let error = node
        .client()
        .objects()
        .get_range(&path, 0..10)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("another range"), "{error}");
}

/// Every answer with this header.
fn with_header(router: Router, name: &'static str, value: &'static str) -> Router {
    router.layer(map_response(move |mut response: Response| async move {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
        response
    }))
}

/// Every answer with this status, and a place to go instead.
fn with_status(router: Router, status: StatusCode) -> Router {
    let router = with_header(router, "location", "/mmh/v1/list");
    router.layer(map_response(move |mut response: Response| async move {
        *response.status_mut() = status;
        response
    }))
}

/// A list without its last line is not a list: what it lacks would pass for deleted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_lacks_lines_is_an_error() {
    async fn changed(request: Request, next: Next, change: fn(&str) -> String) -> Response {
        let list = request.uri().path() == "/mmh/v1/list";
        let response = next.run(request).await;
        if !list {
            return response;
        }
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        Response::new(Body::from(change(std::str::from_utf8(&bytes).unwrap())))
    }
    let betweens: [fn(Router) -> Router; 5] = [
        |r| {
            r.layer(from_fn(|q, n| {
                changed(q, n, |text| text[..text.len() / 2].to_owned())
            }))
        },
        |r| {
            r.layer(from_fn(|q, n| {
                changed(q, n, |text| text.split_once('\n').unwrap().1.to_owned())
            }))
        },
        |r| r.layer(from_fn(|q, n| changed(q, n, |_| String::new()))),
        |r| {
            r.layer(from_fn(|q, n| {
                changed(q, n, |_| "7 mmh/../x\nend 1\n".to_owned())
            }))
        },
        |r| r.layer(from_fn(|q, n| changed(q, n, |_| "x".repeat(1 << 20)))),
    ];
    for between in betweens {
        let (node, _, _) = lying(between).await;
        let error = Store::open(node.client(), OpenOptions::default()).await;
        let error = match error {
            Ok(store) => store.stats().await.map(drop).unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("list"), "{error}");
    }
}
