//! Listening, shaking hands, and keeping every connection within its limits, until told to stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use axum::{Extension, Router};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::error::{Error, Result};
use crate::identity::Identity;
use crate::limits::Limits;
use crate::stall::Stall;
use crate::tls;
use crate::watch::{Note, Watch};

/// After a connection that the system could not hand over, such as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    shared: Shared,
}

#[derive(Clone)]
struct Shared {
    /// `None` speaks HTTP in the clear.
    acceptor: Option<TlsAcceptor>,
    router: Router,
    limits: Limits,
    watch: Arc<dyn Watch>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// How a server came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Connections that had to be broken off when the time for them was over.
    pub broken_off: usize,
}

/// Who asks, as handlers see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub SocketAddr);

/// How clients got here: `http` or `https`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scheme(pub &'static str);

impl Server {
    /// Listens at `address` (port 0 for any that is free) and answers with `router`: over TLS with
    /// an identity, or in the clear. `classic` lets in clients whose key exchange is without ML-KEM.
    ///
    /// # Errors
    /// Invalid, Denied or Unavailable if nobody can listen there; Invalid for TLS.
    pub async fn bind(
        address: SocketAddr,
        identity: Option<(&Identity, bool)>,
        router: Router,
        (limits, watch): (Limits, Arc<dyn Watch>),
    ) -> Result<Self> {
        let failed = |source| Error::Listen {
            address: address.to_string(),
            source,
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let acceptor = match identity {
            Some((identity, classic)) => Some(TlsAcceptor::from(tls::server(identity, classic)?)),
            None => None,
        };
        Ok(Self {
            listener,
            address,
            shared: Shared {
                acceptor,
                router,
                limits,
                watch,
            },
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is done; then takes no more connections, lets what is under way end, and
    /// breaks off what is not done in time.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Stopped {
        let places = Arc::new(Semaphore::new(self.shared.limits.connections));
        let (stopping, stopped) = watch::channel(false);
        let mut connections = JoinSet::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            let accepted = tokio::select! {
                () = &mut stop => break,
                accepted = accept(&self.listener, &places) => accepted,
            };
            // Those that have ended.
            while connections.try_join_next().is_some() {}
            match accepted {
                Some((stream, peer, place)) => {
                    let (shared, stopped) = (self.shared.clone(), stopped.clone());
                    connections.spawn(serve(shared, stream, peer, (stopped, place)));
                }
                None => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
        drop(self.listener);
        stopping.send_replace(true);
        let all = async { while connections.join_next().await.is_some() {} };
        let in_time = tokio::time::timeout(self.shared.limits.grace, all).await;
        let broken_off = match in_time {
            Ok(()) => 0,
            Err(_) => connections.len(),
        };
        connections.shutdown().await;
        Stopped { broken_off }
    }
}

/// The next connection, when there is a place for it; `None` if the system failed.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    let (stream, peer) = listener.accept().await.ok()?;
    Some((stream, peer, place))
}

/// Serves one connection; its place is free when this returns.
async fn serve(
    shared: Shared,
    stream: TcpStream,
    peer: SocketAddr,
    (mut stopping, _place): (watch::Receiver<bool>, OwnedSemaphorePermit),
) {
    let failed = |reason: String| shared.watch.note(&Note::Failed { peer, reason });
    let limits = &shared.limits;
    // Small answers go out at once; that it failed changes nothing else.
    let _slower = stream.set_nodelay(true).is_err();
    let stream = Stall::new(stream, limits.stall);
    let Some(acceptor) = &shared.acceptor else {
        if let Err(error) = speak(&shared, stream, peer, stopping).await {
            failed(format!("HTTP: {error}"));
        }
        return;
    };
    let shaken = tokio::time::timeout(limits.handshake, acceptor.accept(stream));
    let stream = tokio::select! {
        // Nothing is under way yet.
        _ = stopping.wait_for(|stop| *stop) => return,
        shaken = shaken => match shaken {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return failed(format!("TLS: {error}")),
            Err(_) => return failed("TLS: the handshake took too long".to_owned()),
        },
    };
    if let Err(error) = speak(&shared, stream, peer, stopping).await {
        failed(format!("HTTP: {error}"));
    }
}

async fn speak(
    shared: &Shared,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: SocketAddr,
    mut stopping: watch::Receiver<bool>,
) -> hyper::Result<()> {
    let scheme = Scheme(if shared.acceptor.is_some() {
        "https"
    } else {
        "http"
    });
    let router = shared
        .router
        .clone()
        .layer(Extension(Peer(peer)))
        .layer(Extension(scheme));
    let router = TowerToHyperService::new(router);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        hyper::service::Service::call(&router, request.map(Body::new))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.limits.head)
        .max_buf_size(shared.limits.head_len.max(8 << 10))
        .max_headers(shared.limits.head_fields)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        done = &mut connection => return done,
        _ = stopping.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}
