//! Listening, and answering each connection within its limits, until told to stop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mmh_mount::Handles;
use tokio::io::BufReader;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::{record, rpc};

/// Calls of one connection that are worked on, or whose replies wait to be sent, at the same time.
const CALLS_EACH: usize = 8;
/// After a connection that the system could not hand over, such as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bounds of a server.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at the same time; more wait until one ends. Each holds eight replies of a
    /// mebibyte at most.
    pub connections: usize,
    /// Calls that are worked on at the same time.
    pub calls: usize,
    /// Time until the next call of a connection.
    pub idle: Duration,
    /// Time for one call to arrive, and for one reply to be taken.
    pub stall: Duration,
    /// Time for what is under way when the server stops.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            calls: 32,
            idle: Duration::from_secs(15 * 60),
            stall: Duration::from_secs(30),
            grace: Duration::from_secs(20),
        }
    }
}

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    shared: Shared,
}

#[derive(Debug, Clone)]
struct Shared {
    handles: Arc<Handles>,
    limits: Limits,
    /// A place for each call that is worked on.
    calls: Arc<Semaphore>,
}

impl Server {
    /// Listens at `address` (port 0 for any that is free): for reading files and for mounting alike.
    ///
    /// # Errors
    /// Those of the system.
    pub async fn bind(address: SocketAddr, handles: Handles, limits: Limits) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let calls = Arc::new(Semaphore::new(limits.calls.max(1)));
        let handles = Arc::new(handles);
        Ok(Self {
            listener,
            address,
            shared: Shared {
                handles,
                limits,
                calls,
            },
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is done; then takes no more calls, answers those that it has, and returns
    /// how many connections had to be broken off.
    pub async fn run(self, stop: impl Future<Output = ()>) -> usize {
        let places = Arc::new(Semaphore::new(self.shared.limits.connections.max(1)));
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
                Some((stream, place)) => {
                    let (shared, stopped) = (self.shared.clone(), stopped.clone());
                    connections.spawn(serve(shared, stream, stopped, place));
                }
                None => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
        drop(self.listener);
        stopping.send_replace(true);
        let all = async { while connections.join_next().await.is_some() {} };
        let broken_off = match timeout(self.shared.limits.grace, all).await {
            Ok(()) => 0,
            Err(_) => connections.len(),
        };
        connections.shutdown().await;
        broken_off
    }
}

/// The next connection, when there is a place for it; `None` if the system failed.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    let (stream, _) = listener.accept().await.ok()?;
    Some((stream, place))
}

/// Serves one connection; its place is free when this returns. Calls are answered in any order.
async fn serve(
    shared: Shared,
    stream: TcpStream,
    mut stopping: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
) {
    // Small replies go out at once; that it failed changes nothing else.
    let _slower = stream.set_nodelay(true).is_err();
    let (read, write) = stream.into_split();
    let (mut read, write) = (BufReader::new(read), Arc::new(Mutex::new(write)));
    let own = Arc::new(Semaphore::new(CALLS_EACH));
    let mut calls = JoinSet::new();
    loop {
        let Ok(room) = Arc::clone(&own).acquire_owned().await else {
            break;
        };
        let next = tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => break,
            next = next(&mut read, &shared.limits) => next,
        };
        let Some(call) = next else {
            break;
        };
        let mut broken = false;
        while let Some(ended) = calls.try_join_next() {
            broken |= !matches!(ended, Ok(true));
        }
        if broken {
            break;
        }
        calls.spawn(answer(shared.clone(), call, Arc::clone(&write), room));
    }
    while calls.join_next().await.is_some() {}
}

/// The next call; `None` if there is none, or what came is none.
async fn next(read: &mut BufReader<OwnedReadHalf>, limits: &Limits) -> Option<Vec<u8>> {
    let mark = timeout(limits.idle, record::mark(read))
        .await
        .ok()?
        .ok()??;
    timeout(limits.stall, record::rest(read, mark))
        .await
        .ok()?
        .ok()
}

/// Answers a call, away from where connections are served. Whether more can be answered.
async fn answer(
    shared: Shared,
    call: Vec<u8>,
    write: Arc<Mutex<OwnedWriteHalf>>,
    _room: OwnedSemaphorePermit,
) -> bool {
    let Ok(place) = Arc::clone(&shared.calls).acquire_owned().await else {
        return false;
    };
    let handles = Arc::clone(&shared.handles);
    let work = move || {
        let reply = rpc::answer(&handles, &call);
        drop(place);
        reply
    };
    let Ok(Some(reply)) = tokio::task::spawn_blocking(work).await else {
        return false;
    };
    let mut write = write.lock().await;
    let sent = timeout(shared.limits.stall, record::write(&mut *write, &reply));
    matches!(sent.await, Ok(Ok(())))
}
