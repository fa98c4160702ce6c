//! The log as the messages of a NATS key-value bucket, FORMAT.md, "Log elsewhere".
//!
//! A create publishes a message on the condition that the subject's last sequence number is 0:
//! JetStream's own way to say *absent*. Reads ask the stream's leader. The client is our own: one
//! connection that asks one thing at a time is all a log needs.

mod wire;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use mmh_core::{Digest, ErrorKind};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::LogEngine;
use super::url::LogUrl;
use crate::access::Access;
use crate::entropy::{Entropy, SystemEntropy};
use crate::error::{Error, Result};
use crate::objects::Listed;
use wire::{Info, Line};

/// Where NATS listens unless the URL says otherwise.
const PORT: u16 = 4222;
/// Time to connect to one server and greet it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest line of a server: its description names the other servers of the cluster.
const LINE_LEN_MAX: u64 = 256 << 10;
/// Longest answer: a page of 100,000 names is some 12 MB.
const ANSWER_LEN_MAX: usize = 64 << 20;
/// Copies that a bucket gets where there is a cluster.
const REPLICAS: u8 = 3;

/// JetStream's error: the subject's last message is another.
const WRONG_LAST_SEQUENCE: u32 = 10_071;
/// JetStream's error: there is no message of that subject.
const NO_MESSAGE: u32 = 10_037;
/// JetStream's error: the stream does not exist.
const NO_STREAM: u32 = 10_059;
/// Nobody listens to the subject: JetStream is off, or the user may not ask it.
const NO_RESPONDERS: u16 = 503;

/// The log of one repository in a bucket of NATS.
pub(super) struct NatsLog {
    url: LogUrl,
    location: String,
    bucket: String,
    /// Before every name's subject.
    prefix: String,
    connection: Mutex<Option<Connection>>,
}

impl fmt::Debug for NatsLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("NatsLog");
        out.field("location", &self.location)
            .finish_non_exhaustive()
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A greeted server that answers to a subject of our own.
struct Connection {
    stream: BufReader<Box<dyn Stream>>,
    info: Info,
    inbox: String,
    n_requests: u64,
}

/// What can be wrong with a request below JetStream: the kind, and the server's words or ours.
type Wrong = (ErrorKind, String);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    error: Option<ApiError>,
    message: Option<Message>,
    state: State,
    total: u64,
    config: StreamConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ApiError {
    err_code: u32,
    description: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message {
    data: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct State {
    subjects: Option<std::collections::BTreeMap<String, u64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StreamConfig {
    storage: String,
}

impl NatsLog {
    pub(super) fn new(url: &str, repository: &Digest, access: &Access) -> Result<Self> {
        let mut url = LogUrl::parse(url, PORT)?;
        if url.user.is_none()
            && let Some(user) = access.variable("NATS_USER")
        {
            let password = access.variable("NATS_PASSWORD").unwrap_or_default();
            url.user = Some((user.to_owned(), password.to_owned()));
        }
        let bucket = if url.name.is_empty() {
            "mmh"
        } else {
            &url.name
        }
        .to_owned();
        Ok(Self {
            location: url.location("nats"),
            prefix: format!("$KV.{bucket}.{repository}"),
            bucket,
            url,
            connection: Mutex::new(None),
        })
    }

    fn error(&self, name: &str, (kind, reason): Wrong) -> Error {
        Error::Log {
            place: self.place(name),
            kind,
            source: reason.into(),
        }
    }

    /// Names have slashes where subjects have dots.
    fn subject(&self, name: &str) -> Result<String> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-_".contains(&b);
        if name.is_empty() || !name.bytes().all(plain) {
            let what = format!("`{name}` cannot be the name of a log's object");
            return Err(Error::Internal { what });
        }
        Ok(format!("{}.{}", self.prefix, name.replace('/', ".")))
    }

    fn api(&self, method: &str) -> String {
        format!("$JS.API.STREAM.{method}.KV_{}", self.bucket)
    }

    /// Sends one request and waits for its answer. A connection that fails is not used again.
    async fn request(
        &self,
        name: &str,
        (subject, last): (&str, Option<u64>),
        payload: &[u8],
    ) -> Result<Answer> {
        let mut held = self.connection.lock().await;
        let mut connection = match held.take() {
            Some(connection) => connection,
            None => self.connect(name).await?,
        };
        let asked = connection.ask(subject, last, payload);
        let answer = match timeout(REQUEST_TIMEOUT, asked).await {
            Ok(answer) => answer.map_err(|wrong| self.error(name, wrong))?,
            Err(_) => {
                let late = format!("no answer within {} s", REQUEST_TIMEOUT.as_secs());
                return Err(self.error(name, (ErrorKind::Unavailable, late)));
            }
        };
        *held = Some(connection);
        drop(held);
        serde_json::from_slice(&answer).map_err(|error| {
            let what = format!("NATS's answer is not understood: {error}");
            self.error(name, (ErrorKind::Unavailable, what))
        })
    }

    /// Asks what changes nothing; again if the connection broke since it was last used.
    async fn query(&self, name: &str, method: &str, body: &Value) -> Result<Answer> {
        let (subject, body) = (self.api(method), body.to_string());
        match self.request(name, (&subject, None), body.as_bytes()).await {
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                self.request(name, (&subject, None), body.as_bytes()).await
            }
            other => other,
        }
    }

    /// Connects to the first server that can be had.
    async fn connect(&self, name: &str) -> Result<Connection> {
        let mut failure = (ErrorKind::Unavailable, "no server was asked".to_owned());
        for host in &self.url.hosts {
            let greeted = timeout(CONNECT_TIMEOUT, Connection::open(host, &self.url)).await;
            let late = || (ErrorKind::Unavailable, format!("{host} does not answer"));
            match greeted.map_err(|_| late()).and_then(|greeted| greeted) {
                Ok(connection) => return Ok(connection),
                Err(wrong) => failure = wrong,
            }
        }
        Err(self.error(name, failure))
    }

    fn refused(&self, name: &str, error: &ApiError) -> Error {
        let (kind, hint) = match error.err_code {
            NO_STREAM => (ErrorKind::NotFound, "; it holds no log of mmh"),
            _ => (ErrorKind::Unavailable, ""),
        };
        let text = format!("NATS refused: {}{hint}", error.description);
        self.error(name, (kind, text))
    }
}

#[async_trait]
impl LogEngine for NatsLog {
    fn place(&self, name: &str) -> String {
        format!("{}/{name}", self.location)
    }

    async fn prepare(&self) -> Result<()> {
        let mut answer = self.query("", "INFO", &json!({})).await?;
        if answer
            .error
            .as_ref()
            .is_some_and(|error| error.err_code == NO_STREAM)
        {
            let held = self.connection.lock().await;
            let clustered = held.as_ref().is_some_and(|c| !c.info.cluster.is_empty());
            drop(held);
            let config = json!({
                "name": format!("KV_{}", self.bucket),
                "subjects": [format!("$KV.{}.>", self.bucket)],
                "max_msgs_per_subject": 1,
                "storage": "file",
                "discard": "new",
                "num_replicas": if clustered { REPLICAS } else { 1 },
                "deny_delete": true,
                "allow_rollup_hdrs": true,
                "allow_direct": true,
            });
            answer = self.query("", "CREATE", &config).await?;
        }
        match answer.error {
            Some(error) => Err(self.refused("", &error)),
            None if answer.config.storage == "file" => Ok(()),
            None => Err(Error::BadPlace {
                place: self.location.clone(),
                reason: format!("the bucket `{}` lies in memory, not in files", self.bucket),
            }),
        }
    }

    async fn read(&self, name: &str, len_max: usize) -> Result<Option<Bytes>> {
        let body = json!({ "last_by_subj": self.subject(name)? });
        let answer = self.query(name, "MSG.GET", &body).await?;
        let data = match (answer.error, answer.message) {
            (Some(error), _) if error.err_code == NO_MESSAGE => return Ok(None),
            (Some(error), _) => return Err(self.refused(name, &error)),
            (None, message) => message.unwrap_or_default().data,
        };
        let corrupt = |reason: String| Error::Corrupt {
            object: name.to_owned(),
            reason,
        };
        let bytes = BASE64_STANDARD
            .decode(data)
            .map_err(|e| corrupt(e.to_string()))?;
        if bytes.len() > len_max {
            return Err(corrupt(format!(
                "{} bytes, more than {len_max}",
                bytes.len()
            )));
        }
        Ok(Some(bytes.into()))
    }

    async fn create(&self, name: &str, bytes: Bytes) -> Result<bool> {
        let subject = self.subject(name)?;
        let answer = self.request(name, (&subject, Some(0)), &bytes).await?;
        match answer.error {
            None => Ok(true),
            Some(error) if error.err_code == WRONG_LAST_SEQUENCE => Ok(false),
            Some(error) => Err(self.refused(name, &error)),
        }
    }

    /// The leader shows only what it has stored, and its followers with it.
    async fn confirm(&self, name: &str, bytes: Bytes) -> Result<()> {
        super::confirm_by_reading(self, name, &bytes).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<Listed>> {
        let filter = format!("{}.>", self.subject(prefix)?);
        let start = format!("{}.", self.prefix);
        let mut names = Vec::new();
        loop {
            let body = json!({ "subjects_filter": filter, "offset": names.len() });
            let answer = self.query(prefix, "INFO", &body).await?;
            if let Some(error) = answer.error {
                return Err(self.refused(prefix, &error));
            }
            let page = answer.state.subjects.unwrap_or_default();
            let n_before = names.len();
            let rests = page
                .keys()
                .filter_map(|subject| subject.strip_prefix(&start));
            names.extend(rests.map(|rest| (rest.replace('.', "/"), 0)));
            if names.len() == n_before || names.len() as u64 >= answer.total {
                break;
            }
        }
        names.retain(|(name, _)| after.is_none_or(|after| name.as_str() > after));
        names.sort_unstable();
        Ok(names)
    }

    async fn delete(&self, name: &str) -> Result<()> {
        let body = json!({ "filter": self.subject(name)? });
        let answer = self.query(name, "PURGE", &body).await?;
        match answer.error {
            None => Ok(()),
            Some(error) => Err(self.refused(name, &error)),
        }
    }
}

fn broken(error: impl fmt::Display) -> Wrong {
    (
        ErrorKind::Unavailable,
        format!("the connection failed: {error}"),
    )
}

impl Connection {
    /// Connects, greets and subscribes to a subject of its own.
    async fn open(host: &str, url: &LogUrl) -> std::result::Result<Self, Wrong> {
        let tcp = TcpStream::connect(host).await.map_err(broken)?;
        tcp.set_nodelay(true).map_err(broken)?;
        let mut stream: BufReader<Box<dyn Stream>> = BufReader::new(Box::new(tcp));
        let line = wire::parse(&read_line(&mut stream).await?);
        let info = match line {
            Ok(Line::Info(info)) => info,
            other => return Err(broken(format!("{host} is no NATS server: {other:?}"))),
        };
        if info.tls_required && !url.tls {
            let what = "the server wants TLS; add ?tls=on to the URL".to_owned();
            return Err((ErrorKind::Invalid, what));
        }
        if url.tls {
            stream = BufReader::new(encrypted(stream, host).await?);
        }
        let name = SystemEntropy.draw().map_err(broken)?.to_string();
        let inbox = format!("_INBOX.{}", &name[..32]);
        let mut connection = Self {
            stream,
            info,
            inbox,
            n_requests: 0,
        };
        connection.greet(url).await?;
        Ok(connection)
    }

    async fn greet(&mut self, url: &LogUrl) -> std::result::Result<(), Wrong> {
        if !self.info.headers {
            let what = "the server is too old: it knows no headers".to_owned();
            return Err((ErrorKind::Unsupported, what));
        }
        let mut options = json!({
            "verbose": false,
            "pedantic": false,
            "headers": true,
            "no_responders": true,
            "name": "mmh",
            "lang": "rust",
            "version": env!("CARGO_PKG_VERSION"),
            "protocol": 1,
        });
        match &url.user {
            // A name alone is a token, as other clients of NATS have it.
            Some((token, password)) if password.is_empty() => options["auth_token"] = json!(token),
            Some((user, password)) => {
                options["user"] = json!(user);
                options["pass"] = json!(password);
            }
            None => {}
        }
        let greeting = format!("CONNECT {options}\r\nSUB {}.* 1\r\nPING\r\n", self.inbox);
        self.send(greeting.as_bytes()).await?;
        loop {
            match self.line().await? {
                Line::Pong => return Ok(()),
                Line::Info(_) | Line::Ok => {}
                other => return Err(broken(format!("an unexpected {other:?}"))),
            }
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> std::result::Result<(), Wrong> {
        self.stream.write_all(bytes).await.map_err(broken)?;
        self.stream.flush().await.map_err(broken)
    }

    /// The next line, with pings answered and refusals as errors.
    async fn line(&mut self) -> std::result::Result<Line, Wrong> {
        loop {
            let line = read_line(&mut self.stream).await?;
            match wire::parse(&line).map_err(broken)? {
                Line::Ping => self.send(b"PONG\r\n").await?,
                Line::Err(text) => {
                    let lower = text.to_lowercase();
                    let denied = ["authorization", "authentication", "permissions"];
                    if !denied.iter().any(|word| lower.contains(word)) {
                        return Err(broken(text));
                    }
                    let hint = "user and password come from the URL of --log, or NATS_USER and \
                                NATS_PASSWORD";
                    return Err((ErrorKind::Denied, format!("NATS refused: {text}; {hint}")));
                }
                other => return Ok(other),
            }
        }
    }

    /// Sends a request and returns its answer's payload.
    async fn ask(
        &mut self,
        subject: &str,
        last: Option<u64>,
        payload: &[u8],
    ) -> std::result::Result<Vec<u8>, Wrong> {
        if payload.len() > self.info.max_payload {
            let (len, most) = (payload.len(), self.info.max_payload);
            let what = format!("{len} bytes; this server takes {most} (its max_payload)");
            return Err((ErrorKind::Unsupported, what));
        }
        self.n_requests += 1;
        let reply = format!("{}.{}", self.inbox, self.n_requests);
        self.send(&wire::publish(subject, &reply, last, payload))
            .await?;
        loop {
            let Line::Message {
                subject,
                headers_len,
                len,
            } = self.line().await?
            else {
                continue;
            };
            if len > ANSWER_LEN_MAX {
                return Err(broken(format!("an answer of {len} bytes")));
            }
            let mut bytes = vec![0; len + 2];
            self.stream.read_exact(&mut bytes).await.map_err(broken)?;
            bytes.truncate(len);
            if subject != reply {
                continue;
            }
            let answer = bytes.split_off(headers_len);
            return match wire::status(&bytes) {
                Some(NO_RESPONDERS) => {
                    let what = "nobody answers: JetStream is off, or not for this user";
                    Err((ErrorKind::Unsupported, what.to_owned()))
                }
                _ => Ok(answer),
            };
        }
    }
}

async fn read_line(stream: &mut BufReader<Box<dyn Stream>>) -> std::result::Result<Vec<u8>, Wrong> {
    let mut line = Vec::new();
    let mut bounded = stream.take(LINE_LEN_MAX);
    bounded.read_until(b'\n', &mut line).await.map_err(broken)?;
    if line.is_empty() {
        return Err(broken("the server has hung up"));
    }
    Ok(line)
}

/// Goes on in TLS, with the server's certificate checked against its name.
async fn encrypted(
    stream: BufReader<Box<dyn Stream>>,
    host: &str,
) -> std::result::Result<Box<dyn Stream>, Wrong> {
    let config = crate::tls::client().map_err(broken)?;
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let name = name
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let name = rustls::pki_types::ServerName::try_from(name).map_err(broken)?;
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let tls = connector.connect(name, stream.into_inner()).await;
    Ok(Box::new(tls.map_err(broken)?))
}

#[cfg(test)]
mod tests;
