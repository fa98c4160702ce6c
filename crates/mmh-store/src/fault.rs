//! The lying disk: decorators of the two ports of a backend that fail at the n-th operation.
//!
//! One counter counts the operations of engine and staging area together, so that a test can run
//! a scenario once for every n and see whether what was acknowledged is still there.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::backend::Backend;
use crate::staging::{StagedFile, Staging};

/// What happens at the chosen operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is not done and says so; later ones work.
    Fail,
    /// It is done, but its reply is lost; later ones work.
    LostReply,
    /// The process dies before it: nothing works from here on.
    Crash,
    /// The process dies after it.
    CrashAfter,
    /// The process dies in the middle: half of what is appended is written.
    Torn,
    /// The device reports an error (EIO); later ones work.
    Io,
    /// The disk is full from here on (ENOSPC): everything reads, nothing is written.
    Full,
    /// It is mounted read-only from here on (EROFS).
    ReadOnly,
    /// The right to write was taken away before it (EACCES).
    Denied,
}

impl Fault {
    /// All faults.
    pub const ALL: [Self; 5] = [
        Self::Fail,
        Self::LostReply,
        Self::Crash,
        Self::CrashAfter,
        Self::Torn,
    ];

    /// What a system says of its disk: one error, or one for every write from here on.
    pub const OF_DISK: [Self; 4] = [Self::Io, Self::Full, Self::ReadOnly, Self::Denied];

    fn lasts(self) -> bool {
        matches!(self, Self::Full | Self::ReadOnly | Self::Denied)
    }

    /// What the system says.
    fn said(self) -> io::Error {
        let kind = match self {
            // The kind that EIO has in the library is not to be named.
            Self::Io => return io::Error::from_raw_os_error(5),
            Self::ReadOnly => io::ErrorKind::ReadOnlyFilesystem,
            Self::Denied => io::ErrorKind::PermissionDenied,
            _ => io::ErrorKind::StorageFull,
        };
        io::Error::new(kind, "planned fault")
    }
}

/// The plan, shared by all decorators of one backend. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<Plan>>);

#[derive(Debug, Default)]
struct Plan {
    count: u64,
    at: Option<(u64, Fault)>,
    dead: bool,
    sync_lies: bool,
    lists: BTreeMap<String, VecDeque<Vec<ObjectMeta>>>,
    vanished: Option<String>,
    /// An object that is not there yet when it is read next.
    late: Option<String>,
}

/// What a decorator does with one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Go,
    Refuse(Fault),
    GoAndFail,
    Half,
}

impl Faults {
    fn plan<T>(&self, f: impl FnOnce(&mut Plan) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Plans a fault at the `n`-th operation from now, counted from 1.
    pub fn strike(&self, n: u64, fault: Fault) {
        self.plan(|plan| {
            *plan = Plan {
                at: Some((n, fault)),
                sync_lies: plan.sync_lies,
                ..Plan::default()
            };
        });
    }

    /// Makes every sync of a staged file return without having done anything.
    pub fn let_sync_lie(&self) {
        self.plan(|plan| plan.sync_lies = true);
    }

    /// Answers the next lists of this prefix with these, one after the other: old or short ones.
    pub fn let_lists_lie(&self, prefix: &str, lists: impl IntoIterator<Item = Vec<ObjectMeta>>) {
        let lists = lists.into_iter().collect();
        self.plan(|plan| plan.lists.insert(prefix.to_owned(), lists));
    }

    /// Makes every object whose name begins with `prefix` vanish after its length was asked for.
    pub fn let_vanish(&self, prefix: &str) {
        self.plan(|plan| plan.vanished = Some(prefix.to_owned()));
    }

    /// Answers the next read of this object as somebody was answered who came before it was made.
    pub fn let_be_late(&self, name: &str) {
        self.plan(|plan| plan.late = Some(name.to_owned()));
    }

    /// Whether the object is not there for this read.
    fn is_away(&self, name: &Path) -> bool {
        self.plan(|plan| {
            let vanished = plan.vanished.as_ref();
            let late = plan.late.take_if(|late| name.as_ref() == late.as_str());
            late.is_some() || vanished.is_some_and(|p| name.as_ref().starts_with(p.as_str()))
        })
    }

    fn next_list(&self, prefix: Option<&Path>) -> Option<Vec<ObjectMeta>> {
        self.plan(|plan| plan.lists.get_mut(prefix?.as_ref())?.pop_front())
    }

    /// Operations since the last [`Faults::strike`].
    #[must_use]
    pub fn count(&self) -> u64 {
        self.plan(|plan| plan.count)
    }

    /// A backend whose every operation goes through this plan.
    #[must_use]
    pub fn decorate(&self, backend: &Backend) -> Backend {
        let objects = Arc::clone(backend.objects());
        let staging = Arc::clone(backend.staging());
        let store = FaultyStore {
            inner: objects,
            faults: self.clone(),
        };
        let staging = FaultyStaging {
            inner: staging,
            faults: self.clone(),
        };
        Backend::custom("faulty", Arc::new(store), Arc::new(staging))
    }

    fn next(&self, writes: bool) -> Verdict {
        self.plan(|plan| {
            if plan.dead {
                return Verdict::Refuse(Fault::Crash);
            }
            plan.count += 1;
            if let Some((n, fault)) = plan.at.filter(|(_, fault)| fault.lasts()) {
                return match writes && plan.count >= n {
                    true => Verdict::Refuse(fault),
                    false => Verdict::Go,
                };
            }
            let Some((_, fault)) = plan.at.filter(|(n, _)| *n == plan.count) else {
                return Verdict::Go;
            };
            plan.dead = matches!(fault, Fault::Crash | Fault::CrashAfter | Fault::Torn);
            match fault {
                Fault::LostReply | Fault::CrashAfter => Verdict::GoAndFail,
                Fault::Torn => Verdict::Half,
                fault => Verdict::Refuse(fault),
            }
        })
    }

    /// Runs a file operation that writes under the plan; `half` is what a torn one does.
    fn file<T>(&self, whole: impl FnOnce() -> io::Result<T>, half: impl FnOnce()) -> io::Result<T> {
        let fault = match self.next(true) {
            Verdict::Go => return whole(),
            Verdict::Refuse(fault) => fault,
            Verdict::GoAndFail => {
                drop(whole()?);
                Fault::Fail
            }
            Verdict::Half => {
                half();
                Fault::Fail
            }
        };
        Err(fault.said())
    }

    /// The same for one that reads.
    fn look<T>(&self, whole: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match self.next(false) {
            Verdict::Go => whole(),
            Verdict::Refuse(fault) => Err(fault.said()),
            Verdict::GoAndFail => whole().and_then(|_| Err(Fault::Fail.said())),
            Verdict::Half => Err(Fault::Fail.said()),
        }
    }
}

fn planned() -> object_store::Error {
    refused(Fault::Fail)
}

fn refused(fault: Fault) -> object_store::Error {
    let source = Box::new(fault.said());
    match fault {
        Fault::Denied => object_store::Error::PermissionDenied {
            path: String::new(),
            source,
        },
        Fault::Io | Fault::Full | Fault::ReadOnly => object_store::Error::Generic {
            store: "faulty",
            source,
        },
        _ => object_store::Error::Generic {
            store: "faulty",
            source: "planned fault".into(),
        },
    }
}

#[derive(Debug)]
struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    faults: Faults,
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faulty {}", self.inner)
    }
}

impl FaultyStore {
    /// Runs an operation under the plan. Engines are atomic: a torn operation is not done.
    async fn under<T>(
        &self,
        writes: bool,
        operation: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        match self.faults.next(writes) {
            Verdict::Go => operation.await,
            Verdict::Refuse(fault) => Err(refused(fault)),
            Verdict::Half => Err(planned()),
            Verdict::GoAndFail => operation.await.and_then(|_| Err(planned())),
        }
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        self.under(true, self.inner.put_opts(location, payload, opts))
            .await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.under(true, self.inner.put_multipart_opts(location, opts))
            .await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if !options.head && self.faults.is_away(location) {
            return Err(object_store::Error::NotFound {
                path: location.to_string(),
                source: "planned fault".into(),
            });
        }
        self.under(false, self.inner.get_opts(location, options))
            .await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.under(false, self.inner.get_ranges(location, ranges))
            .await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        match self.faults.next(true) {
            Verdict::Go => self.inner.delete_stream(locations),
            Verdict::Refuse(fault) => failing(refused(fault)),
            Verdict::Half => failing(planned()),
            Verdict::GoAndFail => {
                let done = self.inner.delete_stream(locations);
                done.map(|result| result.and_then(|_| Err(planned())))
                    .boxed()
            }
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.faults.next(false) {
            Verdict::Go => {}
            Verdict::Refuse(fault) => return failing(refused(fault)),
            _ => return failing(planned()),
        }
        match self.faults.next_list(prefix) {
            Some(names) => futures::stream::iter(names.into_iter().map(Ok)).boxed(),
            None => self.inner.list(prefix),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.under(false, self.inner.list_with_delimiter(prefix))
            .await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.under(true, self.inner.copy_opts(from, to, options))
            .await
    }
}

fn failing<T: Send + 'static>(error: object_store::Error) -> BoxStream<'static, Result<T>> {
    futures::stream::iter([Err(error)]).boxed()
}

#[derive(Debug)]
struct FaultyStaging {
    inner: Arc<dyn Staging>,
    faults: Faults,
}

impl FaultyStaging {
    fn wrap(&self, inner: Box<dyn StagedFile>) -> Box<dyn StagedFile> {
        Box::new(FaultyFile {
            inner,
            faults: self.faults.clone(),
        })
    }
}

impl Staging for FaultyStaging {
    fn create(&self) -> io::Result<Box<dyn StagedFile>> {
        self.faults
            .file(|| self.inner.create(), || ())
            .map(|file| self.wrap(file))
    }

    fn orphans(&self) -> io::Result<Vec<Box<dyn StagedFile>>> {
        let files = self.faults.look(|| self.inner.orphans())?;
        Ok(files.into_iter().map(|file| self.wrap(file)).collect())
    }

    fn settle(&self, object: &str) -> io::Result<()> {
        self.faults.look(|| self.inner.settle(object))
    }
}

#[derive(Debug)]
struct FaultyFile {
    inner: Box<dyn StagedFile>,
    faults: Faults,
}

impl StagedFile for FaultyFile {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn append(&self, parts: &[&[u8]]) -> io::Result<()> {
        let half = || {
            let whole = parts.concat();
            let _torn = self.inner.append(&[&whole[..whole.len() / 2]]).is_err();
        };
        self.faults.file(|| self.inner.append(parts), half)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.faults.look(|| self.inner.read_at(offset, buf))
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.faults.file(|| self.inner.truncate(len), || ())
    }

    fn sync(&self) -> io::Result<()> {
        let lies = self.faults.plan(|plan| plan.sync_lies);
        self.faults
            .file(|| if lies { Ok(()) } else { self.inner.sync() }, || ())
    }

    fn publish(&self, object: &str) -> io::Result<bool> {
        self.faults.file(|| self.inner.publish(object), || ())
    }

    fn discard(&self) -> io::Result<()> {
        self.faults.file(|| self.inner.discard(), || ())
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;

    use super::*;

    fn faulty(n: u64, fault: Fault) -> (Backend, Backend, Faults) {
        let inner = Backend::memory();
        let faults = Faults::default();
        let outer = faults.decorate(&inner);
        faults.strike(n, fault);
        (inner, outer, faults)
    }

    #[tokio::test]
    async fn the_nth_operation_fails_and_only_that() {
        let (inner, outer, faults) = faulty(2, Fault::Fail);
        outer.write("a", &b"1"[..]).await.unwrap();
        outer.write("b", &b"2"[..]).await.unwrap_err();
        outer.write("c", &b"3"[..]).await.unwrap();
        assert_eq!(faults.count(), 3);
        assert_eq!(inner.len("b").await.unwrap(), None);
        assert_eq!(inner.len("c").await.unwrap(), Some(1));
    }

    #[tokio::test]
    async fn a_lost_reply_hides_a_done_operation() {
        let (inner, outer, _) = faulty(1, Fault::LostReply);
        outer.write("a", &b"1"[..]).await.unwrap_err();
        assert_eq!(inner.len("a").await.unwrap(), Some(1));
    }

    #[tokio::test]
    async fn after_a_crash_nothing_works() {
        for (fault, done) in [(Fault::Crash, false), (Fault::CrashAfter, true)] {
            let (inner, outer, _) = faulty(1, fault);
            outer.write("a", &b"1"[..]).await.unwrap_err();
            assert_eq!(inner.len("a").await.unwrap().is_some(), done);
            outer.len("a").await.unwrap_err();
            outer.list("").await.unwrap_err();
            outer.delete("a").await.unwrap_err();
            assert!(outer.staging().create().is_err());
            assert!(outer.staging().orphans().is_err());
            assert!(
                outer
                    .objects()
                    .copy(&"a".into(), &"b".into())
                    .await
                    .is_err()
            );
            assert!(outer.objects().put_multipart(&"a".into()).await.is_err());
            assert!(outer.objects().list_with_delimiter(None).await.is_err());
        }
    }

    #[tokio::test]
    async fn a_list_lies_as_often_as_it_was_told() {
        let (inner, outer, faults) = faulty(99, Fault::Fail);
        inner.write("a/b", &b"1"[..]).await.unwrap();
        faults.let_lists_lie("a", [Vec::new()]);
        assert_eq!(outer.list("a").await.unwrap(), []);
        assert_eq!(outer.list("a").await.unwrap().len(), 1);
    }

    #[test]
    fn a_torn_append_writes_half() {
        let (_, outer, faults) = faulty(99, Fault::Fail);
        let file = outer.staging().create().unwrap();
        faults.strike(1, Fault::Torn);
        file.append(&[b"abcd", b"efgh"]).unwrap_err();
        assert_eq!(file.len(), 4);
        assert!(file.sync().is_err(), "the process is dead");
    }

    #[test]
    fn staged_files_go_through_the_plan() {
        let (_, outer, faults) = faulty(99, Fault::Fail);
        let file = outer.staging().create().unwrap();
        file.append(&[b"abc"]).unwrap();
        file.read_at(0, &mut [0; 3]).unwrap();
        file.truncate(1).unwrap();
        file.sync().unwrap();
        assert!(!file.publish("x").unwrap());
        file.discard().unwrap();
        assert_eq!(
            (faults.count(), file.len()),
            (7, 1),
            "who holds it reads on"
        );
        let error = {
            faults.strike(1, Fault::Fail);
            file.sync().unwrap_err()
        };
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
