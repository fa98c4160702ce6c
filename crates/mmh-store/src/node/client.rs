//! A node as an engine: its objects over HTTPS, with time-outs, retries of what may be repeated,
//! and packs that are checked block by block as they arrive.

mod difference;
mod read;
mod upload;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use mmh_core::ErrorKind;
use object_store::path::Path;
use object_store::{
    Attributes, CopyMode, CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderValue, IF_NONE_MATCH, RANGE};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};

use super::wire;
use crate::access::Access;
use crate::backend::place::Node as Place;
use crate::error::Error as StoreError;
use read::Reading;

/// Time to connect, with the TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between two pieces of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Attempts after the first, if nothing came of it.
const RETRIES_MAX: u32 = 4;
/// The pause before the second attempt; each one after doubles it.
const PAUSE: Duration = Duration::from_millis(50);
/// Deletes that are under way at the same time.
const DELETES_PARALLEL: usize = 8;

/// The variable with the token, or with `host:port=token` for each of several nodes.
const TOKEN: &str = "MMH_NODE_TOKEN";
/// The variable that allows a key exchange without ML-KEM.
const CLASSIC: &str = "MMH_NODE_CLASSIC";

/// A node that can be asked. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Node {
    http: Client,
    authority: String,
    place: String,
    token: Option<HeaderValue>,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)
    }
}

impl Node {
    /// A node at a place. Nothing is asked of it yet.
    pub(crate) fn new(place: &Place, access: &Access) -> crate::error::Result<Self> {
        let bad = |reason: String| StoreError::BadPlace {
            place: place.to_string(),
            reason,
        };
        let tls = crate::tls::node(place.pin.as_ref(), access.says(CLASSIC));
        let http = Client::builder()
            .tls_backend_preconfigured(tls.map_err(|error| bad(error.to_string()))?)
            .https_only(true)
            .http1_only()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("mmh/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .build()
            .map_err(|error| bad(chain(&error)))?;
        let authority = place.authority();
        let token = access
            .variable(TOKEN)
            .and_then(|text| token_of(text, &authority));
        let header = |token: &str| {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| bad(format!("{TOKEN} holds no token")))?;
            value.set_sensitive(true);
            Ok::<_, StoreError>(value)
        };
        Ok(Self {
            http,
            token: token.map(header).transpose()?,
            place: place.to_string(),
            authority,
        })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self
            .http
            .request(method, format!("https://{}{path}", self.authority));
        match &self.token {
            Some(token) => request.header(AUTHORIZATION, token.clone()),
            None => request,
        }
    }

    /// Sends a request that may be repeated, until it is answered or refused.
    async fn ask(&self, name: &str, request: impl Fn() -> RequestBuilder) -> Result<Response> {
        let mut failures = 0;
        loop {
            let error = match request().send().await {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) if may_pass(response.status()) => refusal(name, response).await,
                Ok(response) => return Err(refusal(name, response).await),
                Err(error) => lost(&error),
            };
            failures += 1;
            if failures > RETRIES_MAX {
                return Err(error);
            }
            pause(failures).await;
        }
    }

    /// Sends a request once: if no answer comes, nobody knows whether it was done.
    async fn ask_once(&self, name: &str, request: RequestBuilder) -> Result<Response> {
        match request.send().await {
            Ok(response) if response.status().is_success() => Ok(response),
            Ok(response) => Err(refusal(name, response).await),
            Err(error) => Err(lost(&error)),
        }
    }

    fn object(&self, method: Method, name: &str) -> RequestBuilder {
        self.request(method, &format!("{}{name}", wire::OBJECTS))
    }

    async fn head(&self, name: &str) -> Result<u64> {
        let response = self.ask(name, || self.object(Method::HEAD, name)).await?;
        header_number(&response, CONTENT_LENGTH.as_str())
    }

    async fn delete(&self, name: &Path) -> Result<()> {
        let name = served(name)?;
        let asked = self.ask(name, || self.object(Method::DELETE, name)).await;
        asked.map(drop)
    }

    fn list_below(&self, prefix: Option<&Path>, after: Option<&Path>) -> Listing {
        let prefix = prefix.map_or("mmh", |prefix| match prefix.as_ref() {
            "" => "mmh",
            prefix => prefix,
        });
        let mut path = format!("{}?prefix={prefix}", wire::LIST);
        if let Some(after) = after {
            path.push_str(&format!("&after={after}"));
        }
        let (node, prefix) = (self.clone(), prefix.to_owned());
        let open = async move {
            if !wire::is_listed(&prefix) {
                return Err(not_served(&prefix));
            }
            let response = node
                .ask(&prefix, || node.request(Method::GET, &path))
                .await?;
            let lines = Lines {
                response,
                buffer: BytesMut::new(),
                n: 0,
            };
            Ok(futures::stream::try_unfold(lines, Lines::step))
        };
        open.into_stream().try_flatten().boxed()
    }
}

type Listing = BoxStream<'static, Result<ObjectMeta>>;

/// A list on its way.
struct Lines {
    response: Response,
    buffer: BytesMut,
    n: u64,
}

impl Lines {
    /// The next object, or the end if that was said.
    async fn step(mut self) -> Result<Option<(ObjectMeta, Self)>> {
        loop {
            if let Some(at) = self.buffer.iter().position(|b| *b == b'\n') {
                let line = self.buffer.split_to(at + 1);
                let text = std::str::from_utf8(&line[..at]).ok();
                return match text.and_then(wire::parse_line) {
                    Some(wire::Line::Object(name, len)) => {
                        self.n += 1;
                        Ok(Some((meta(&Path::from(name), len), self)))
                    }
                    Some(wire::Line::End(n)) if n == self.n => Ok(None),
                    _ => Err(generic("a list with a line that is none".to_owned())),
                };
            }
            if self.buffer.len() > wire::NAME_LEN_MAX + 32 {
                return Err(generic("a list with a line that is too long".to_owned()));
            }
            match self.response.chunk().await {
                Ok(Some(more)) => self.buffer.extend_from_slice(&more),
                Ok(None) => return Err(generic("a list that ends too early".to_owned())),
                Err(error) => return Err(lost(&error)),
            }
        }
    }
}

#[async_trait]
impl ObjectStore for Node {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let name = served(location)?;
        let body = bytes::Bytes::from(payload);
        match opts.mode {
            PutMode::Overwrite => {
                let put = || self.object(Method::PUT, name).body(body.clone());
                self.ask(name, put).await?;
            }
            // Not repeated: the second attempt would find what the first has made.
            PutMode::Create => {
                let put = self.object(Method::PUT, name).header(IF_NONE_MATCH, "*");
                self.ask_once(name, put.body(body)).await?;
            }
            PutMode::Update(_) => return Err(not_implemented("conditional updates")),
        }
        Ok(put_result())
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let name = served(location)?;
        Ok(Box::new(upload::begin(self.clone(), name.to_owned())))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let name = served(location)?;
        if options.head {
            let meta = meta(location, self.head(name).await?);
            options.check_preconditions(&meta)?;
            return Ok(GetResult {
                payload: GetResultPayload::Stream(futures::stream::empty().boxed()),
                range: 0..0,
                meta,
                attributes: Attributes::default(),
                extensions: object_store::Extensions::default(),
            });
        }
        let reading = Reading::begin(self.clone(), name.to_owned(), options.range.as_ref()).await?;
        let meta = meta(location, reading.object_len());
        options.check_preconditions(&meta)?;
        Ok(GetResult {
            range: reading.range(),
            payload: GetResultPayload::Stream(reading.into_stream()),
            meta,
            attributes: Attributes::default(),
            extensions: object_store::Extensions::default(),
        })
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let node = self.clone();
        let delete = move |location: Result<Path>| {
            let node = node.clone();
            async move {
                let location = location?;
                node.delete(&location).await?;
                Ok(location)
            }
        };
        locations.map(delete).buffered(DELETES_PARALLEL).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> Listing {
        self.list_below(prefix, None)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> Listing {
        self.list_below(prefix, Some(offset))
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(not_implemented("lists of folders"))
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let (from, to) = (served(from)?, served(to)?);
        let path = format!("{}?from={from}&to={to}", wire::COPY);
        match options.mode {
            CopyMode::Overwrite => self.ask(from, || self.request(Method::POST, &path)).await?,
            CopyMode::Create => return Err(not_implemented("conditional copies")),
        };
        Ok(())
    }
}

/// The token for a node out of the variable's value: one for all, or `host:port=token` for each.
fn token_of<'a>(text: &'a str, authority: &str) -> Option<&'a str> {
    if !text.contains('=') {
        return Some(text);
    }
    let mut pairs = text
        .split(',')
        .filter_map(|pair| pair.trim().split_once('='));
    pairs
        .find(|(node, _)| *node == authority)
        .map(|(_, token)| token)
}

/// The object's name, if nodes serve it.
fn served(location: &Path) -> Result<&str> {
    let name = location.as_ref();
    wire::is_served(name)
        .then_some(name)
        .ok_or_else(|| not_served(name))
}

fn not_served(name: &str) -> object_store::Error {
    object_store::Error::NotSupported {
        source: format!("nodes have no object `{}`", mmh_core::error::shorten(name)).into(),
    }
}

fn not_implemented(what: &str) -> object_store::Error {
    object_store::Error::NotImplemented {
        operation: what.to_owned(),
        implementer: "a node".to_owned(),
    }
}

fn put_result() -> PutResult {
    PutResult {
        e_tag: None,
        version: None,
        extensions: object_store::Extensions::default(),
    }
}

/// Nothing of ours asks when an object was written; nodes do not say.
fn meta(location: &Path, size: u64) -> ObjectMeta {
    ObjectMeta {
        location: location.clone(),
        last_modified: Default::default(),
        size,
        e_tag: None,
        version: None,
    }
}

async fn pause(failures: u32) {
    tokio::time::sleep(PAUSE * 2u32.saturating_pow(failures.saturating_sub(1))).await;
}

/// Whether the same request may be answered otherwise in a moment.
fn may_pass(status: StatusCode) -> bool {
    status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS
}

fn header_text<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

fn header_number(response: &Response, name: &str) -> Result<u64> {
    let number = header_text(response, name).and_then(|text| text.parse().ok());
    number.ok_or_else(|| generic(format!("an answer without `{name}`")))
}

fn generic(what: String) -> object_store::Error {
    object_store::Error::Generic {
        store: "node",
        source: what.into(),
    }
}

/// What came is not what it has to be.
fn corrupt(what: impl fmt::Display) -> object_store::Error {
    object_store::Error::Generic {
        store: "node",
        source: Box::new(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            what.to_string(),
        )),
    }
}

/// No answer, or not all of it. As text, so that no cause inside passes for damage of a file.
fn lost(error: &reqwest::Error) -> object_store::Error {
    generic(chain(error))
}

/// An error with its causes; the library's own text names the last place only.
fn chain(error: &dyn std::error::Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// What a refusal means to whoever asked for `name`.
async fn refusal(name: &str, mut response: Response) -> object_store::Error {
    use object_store::Error as E;
    let status = response.status();
    let kind = header_text(&response, wire::KIND).map(str::to_owned);
    let mut text = Vec::new();
    while let Ok(Some(more)) = response.chunk().await {
        text.extend_from_slice(&more);
        if text.len() >= wire::REFUSAL_LEN_MAX {
            text.truncate(wire::REFUSAL_LEN_MAX);
            break;
        }
    }
    let said = String::from_utf8_lossy(&text);
    let line: String = said.trim().chars().filter(|c| !c.is_control()).collect();
    let text = if line.is_empty() {
        status.to_string()
    } else {
        format!("the node says: {line}")
    };
    let (path, source) = (name.to_owned(), text.clone().into());
    match status {
        StatusCode::NOT_FOUND => E::NotFound { path, source },
        StatusCode::PRECONDITION_FAILED => E::AlreadyExists { path, source },
        StatusCode::CONFLICT => E::Precondition { path, source },
        StatusCode::UNAUTHORIZED => E::Unauthenticated { path, source },
        StatusCode::FORBIDDEN => E::PermissionDenied { path, source },
        StatusCode::NOT_IMPLEMENTED | StatusCode::METHOD_NOT_ALLOWED => E::NotSupported { source },
        _ if kind.as_deref() == Some(ErrorKind::Corrupt.as_str()) => corrupt(text),
        _ => generic(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A token of one node is not told to another.
    #[test]
    fn tokens_are_for_all_nodes_or_each_for_its_own() {
        assert_eq!(token_of("hf_a", "h:1"), Some("hf_a"));
        let several = "h:1=hf_a, [::1]:2=hf_b";
        assert_eq!(token_of(several, "h:1"), Some("hf_a"));
        assert_eq!(token_of(several, "[::1]:2"), Some("hf_b"));
        assert_eq!(token_of(several, "h:2"), None);
    }

    #[test]
    fn names_that_nodes_do_not_serve_are_not_asked_for() {
        let error = served(&Path::from("mmh/staging/x")).unwrap_err();
        assert!(
            matches!(error, object_store::Error::NotSupported { .. }),
            "{error}"
        );
        assert_eq!(served(&Path::from("mmh/config")).unwrap(), "mmh/config");
    }
}
