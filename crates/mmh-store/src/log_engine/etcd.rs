//! The log as keys of etcd, through its JSON gateway, FORMAT.md, "Log elsewhere".
//!
//! A create is a transaction that compares the key's creation revision with 0: etcd's own way to
//! say *absent*. Reads are linearizable, as the gateway does them unless asked otherwise.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use mmh_core::{Digest, ErrorKind};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::LogEngine;
use super::url::LogUrl;
use crate::access::Access;
use crate::error::{Error, Result};
use crate::objects::Listed;

/// Where etcd listens unless the URL says otherwise.
const PORT: u16 = 2379;
/// Time to connect to one member.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// Keys of one page of a list.
const PAGE_KEYS: u64 = 1000;
/// Longest answer that is read for what has no length of its own: a page of keys, an error.
const ANSWER_LEN_MAX: usize = 1 << 20;
/// The gateway's status for a token that is missing or too old (gRPC's UNAUTHENTICATED).
const UNAUTHENTICATED: i64 = 16;
/// The gateway's status for a user who may not (gRPC's PERMISSION_DENIED).
const PERMISSION_DENIED: i64 = 7;
/// The gateway's status for a wrong password (gRPC's INVALID_ARGUMENT).
const INVALID_ARGUMENT: i64 = 3;

/// The log of one repository in etcd.
pub(super) struct EtcdLog {
    url: LogUrl,
    location: String,
    /// Before every name.
    prefix: String,
    client: reqwest::Client,
    /// Proves who asks, where etcd wants to know.
    token: Mutex<Option<String>>,
}

impl fmt::Debug for EtcdLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("EtcdLog");
        out.field("location", &self.location)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Range {
    kvs: Vec<KeyValue>,
    more: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct KeyValue {
    key: String,
    value: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Txn {
    succeeded: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Authenticated {
    token: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Refusal {
    error: String,
    message: String,
    code: i64,
}

impl EtcdLog {
    pub(super) fn new(url: &str, repository: &Digest, access: &Access) -> Result<Self> {
        let mut url = LogUrl::parse(url, PORT)?;
        if url.user.is_none()
            && let Some(user) = access.variable("ETCD_USER")
        {
            let password = access.variable("ETCD_PASSWORD").unwrap_or_default();
            url.user = Some((user.to_owned(), password.to_owned()));
        }
        let location = url.location("etcd");
        let root = if url.name.is_empty() {
            "mmh"
        } else {
            &url.name
        };
        let prefix = format!("{root}/{repository}/");
        crate::tls::provide();
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .build()
            .map_err(|error| Error::BadPlace {
                place: location.clone(),
                reason: chain(&error),
            })?;
        Ok(Self {
            url,
            location,
            prefix,
            client,
            token: Mutex::new(None),
        })
    }

    fn error(&self, name: &str, kind: ErrorKind, reason: impl Into<String>) -> Error {
        Error::Log {
            place: self.place(name),
            kind,
            source: reason.into().into(),
        }
    }

    fn key(&self, name: &str) -> String {
        BASE64_STANDARD.encode(format!("{}{name}", self.prefix))
    }

    /// Asks the members one after the other until one answers, with a token if etcd wants one.
    /// `len_max` bounds the answer.
    async fn call<T: for<'de> Deserialize<'de>>(
        &self,
        name: &str,
        (method, body): (&str, &Value),
        len_max: usize,
    ) -> Result<T> {
        let mut token = self.token.lock().await.clone();
        if token.is_none() && self.url.user.is_some() {
            token = Some(self.authenticate(name).await?);
        }
        match self
            .post(name, (method, body), token.as_deref(), len_max)
            .await?
        {
            Ok(answer) => Ok(answer),
            // The token was too old, or the member that gave it has restarted.
            Err(refusal) if refusal.code == UNAUTHENTICATED && self.url.user.is_some() => {
                let token = self.authenticate(name).await?;
                let again = self
                    .post(name, (method, body), Some(&token), len_max)
                    .await?;
                again.map_err(|refusal| self.refused(name, &refusal))
            }
            Err(refusal) => Err(self.refused(name, &refusal)),
        }
    }

    async fn authenticate(&self, name: &str) -> Result<String> {
        let Some((user, password)) = &self.url.user else {
            return Err(self.error(name, ErrorKind::Denied, "etcd asks for a user"));
        };
        let body = json!({ "name": user, "password": password });
        let asked = ("auth/authenticate", &body);
        let answer = self.post(name, asked, None, ANSWER_LEN_MAX).await?;
        let answer: Authenticated = answer.map_err(|refusal| self.refused(name, &refusal))?;
        *self.token.lock().await = Some(answer.token.clone());
        Ok(answer.token)
    }

    fn refused(&self, name: &str, refusal: &Refusal) -> Error {
        let (kind, hint) = match refusal.code {
            UNAUTHENTICATED | PERMISSION_DENIED | INVALID_ARGUMENT => (
                ErrorKind::Denied,
                "; user and password come from the URL of --log, or ETCD_USER and ETCD_PASSWORD",
            ),
            _ => (ErrorKind::Unavailable, ""),
        };
        let text = if refusal.message.is_empty() {
            &refusal.error
        } else {
            &refusal.message
        };
        self.error(name, kind, format!("etcd refused: {text}{hint}"))
    }

    /// One request, to the first member that can be connected to.
    async fn post<T: for<'de> Deserialize<'de>>(
        &self,
        name: &str,
        (method, body): (&str, &Value),
        token: Option<&str>,
        len_max: usize,
    ) -> Result<std::result::Result<T, Refusal>> {
        let scheme = if self.url.tls { "https" } else { "http" };
        let mut failure = self.error(name, ErrorKind::Unavailable, "no member was asked");
        for host in &self.url.hosts {
            let request = self
                .client
                .post(format!("{scheme}://{host}/v3/{method}"))
                .header(CONTENT_TYPE, "application/json")
                .body(body.to_string());
            let request = match token {
                Some(token) => request.header(AUTHORIZATION, token),
                None => request,
            };
            match request.send().await {
                Ok(response) => return self.answer(name, response, len_max).await,
                // Nothing was sent, so that asking another member asks once.
                Err(error) if error.is_connect() => {
                    failure = self.error(name, ErrorKind::Unavailable, chain(&error));
                }
                Err(error) => {
                    return Err(self.error(name, ErrorKind::Unavailable, chain(&error)));
                }
            }
        }
        Err(failure)
    }

    async fn answer<T: for<'de> Deserialize<'de>>(
        &self,
        name: &str,
        mut response: reqwest::Response,
        len_max: usize,
    ) -> Result<std::result::Result<T, Refusal>> {
        let status = response.status();
        let mut body = Vec::new();
        loop {
            let chunk = response.chunk().await;
            let chunk = chunk.map_err(|e| self.error(name, ErrorKind::Unavailable, chain(&e)))?;
            let Some(chunk) = chunk else { break };
            if body.len() + chunk.len() > len_max {
                let what = format!("etcd answered more than {len_max} bytes");
                return Err(self.error(name, ErrorKind::Corrupt, what));
            }
            body.extend_from_slice(&chunk);
        }
        if status.is_success() {
            let parsed = serde_json::from_slice(&body);
            let what = |e| format!("etcd's answer is not understood: {e}");
            return parsed
                .map(Ok)
                .map_err(|e| self.error(name, ErrorKind::Unavailable, what(e)));
        }
        let refusal = serde_json::from_slice(&body).unwrap_or_else(|_| Refusal {
            error: format!("status {status}"),
            ..Refusal::default()
        });
        Ok(Err(refusal))
    }
}

#[async_trait]
impl LogEngine for EtcdLog {
    fn place(&self, name: &str) -> String {
        format!("{}/{name}", self.location)
    }

    async fn read(&self, name: &str, len_max: usize) -> Result<Option<Bytes>> {
        let body = json!({ "key": self.key(name) });
        let answer_len_max = len_max.saturating_mul(2).saturating_add(ANSWER_LEN_MAX);
        let range: Range = self.call(name, ("kv/range", &body), answer_len_max).await?;
        let Some(found) = range.kvs.first() else {
            return Ok(None);
        };
        let corrupt = |reason: String| Error::Corrupt {
            object: name.to_owned(),
            reason,
        };
        let bytes = BASE64_STANDARD
            .decode(&found.value)
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
        let key = self.key(name);
        let body = json!({
            "compare": [{
                "key": key,
                "target": "CREATE",
                "result": "EQUAL",
                "create_revision": "0",
            }],
            "success": [{
                "request_put": { "key": key, "value": BASE64_STANDARD.encode(&bytes) },
            }],
        });
        let done: Txn = self.call(name, ("kv/txn", &body), ANSWER_LEN_MAX).await?;
        Ok(done.succeeded)
    }

    /// A linearizable read shows only what a majority has on the disk.
    async fn confirm(&self, name: &str, bytes: Bytes) -> Result<()> {
        super::confirm_by_reading(self, name, &bytes).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<Listed>> {
        let (first, end) = super::bounds(prefix);
        let mut after = after
            .filter(|after| **after > *first)
            .unwrap_or(&first)
            .to_owned();
        let mut listed = Vec::new();
        loop {
            let body = json!({
                // The next key after another is that with a zero byte behind.
                "key": self.key(&format!("{after}\0")),
                "range_end": self.key(&end),
                "limit": PAGE_KEYS,
                "keys_only": true,
            });
            let page: Range = self
                .call(prefix, ("kv/range", &body), ANSWER_LEN_MAX)
                .await?;
            for found in &page.kvs {
                let key = BASE64_STANDARD.decode(&found.key).unwrap_or_default();
                let name = String::from_utf8(key).unwrap_or_default();
                if let Some(name) = name.strip_prefix(&self.prefix) {
                    listed.push((name.to_owned(), 0));
                }
            }
            match listed.last() {
                Some((last, _)) if page.more && *last > after => after.clone_from(last),
                _ => return Ok(listed),
            }
        }
    }

    async fn delete(&self, name: &str) -> Result<()> {
        let body = json!({ "key": self.key(name) });
        let _deleted: Value = self
            .call(name, ("kv/deleterange", &body), ANSWER_LEN_MAX)
            .await?;
        Ok(())
    }
}

/// An error with all its causes, without the URL, which the place names already.
fn chain(error: &reqwest::Error) -> String {
    let mut text = String::from("no answer");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A member that gives these answers, one a connection, and tells what it was asked.
    async fn member(answers: Vec<(&'static str, String)>) -> (EtcdLog, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&asked);
        tokio::spawn(async move {
            for (status, body) in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut text = Vec::new();
                while !complete(&text) {
                    assert_ne!(stream.read_buf(&mut text).await.unwrap(), 0);
                }
                heard.lock().await.push(String::from_utf8(text).unwrap());
                let head = format!(
                    "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                // The client hangs up on an answer that is too long.
                let _hung_up = stream
                    .write_all(format!("{head}{body}").as_bytes())
                    .await
                    .is_err();
            }
        });
        let url = format!("etcd://u:hush@127.0.0.1:1,127.0.0.1:{port}");
        let log = EtcdLog::new(&url, &Digest::of(b"r"), &Access::default()).unwrap();
        (log, asked)
    }

    /// Whether a request has arrived whole.
    fn complete(text: &[u8]) -> bool {
        let text = String::from_utf8_lossy(text);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            return false;
        };
        let len = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        body.len() >= len.map_or(0, |len| len.parse().unwrap())
    }

    use std::sync::Arc;

    fn ok(body: &Value) -> (&'static str, String) {
        ("200 OK", body.to_string())
    }

    /// A token that is too old is asked for again, once; the first member is not there at all.
    #[tokio::test]
    async fn an_old_token_is_renewed() {
        let old = json!({ "error": "etcdserver: invalid auth token", "code": 16 });
        let value = BASE64_STANDARD.encode("entry");
        let (log, asked) = member(vec![
            ok(&json!({ "token": "first" })),
            ("401 Unauthorized", old.to_string()),
            ok(&json!({ "token": "second" })),
            ok(&json!({ "kvs": [{ "key": "", "value": value }] })),
        ])
        .await;
        let read = log.read("mmh/log/1", 5).await.unwrap();
        assert_eq!(read.as_deref(), Some(&b"entry"[..]));
        let asked = asked.lock().await;
        assert!(asked[0].contains("hush") && asked[0].contains("/v3/auth/authenticate"));
        assert!(asked[1].contains("authorization: first"), "{}", asked[1]);
        assert!(asked[3].contains("authorization: second"), "{}", asked[3]);
    }

    #[tokio::test]
    async fn refusals_have_kinds_and_advice() {
        for (status, code, kind) in [
            ("400 Bad Request", 3, ErrorKind::Denied),
            ("403 Forbidden", 7, ErrorKind::Denied),
            ("503 Service Unavailable", 14, ErrorKind::Unavailable),
        ] {
            let body = json!({ "error": "no", "message": "no, thank you", "code": code });
            let (log, _) = member(vec![(status, body.to_string())]).await;
            let error = log.create("mmh/log/1", "x".into()).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            let text = error.to_string();
            assert!(
                text.contains("no, thank you") && !text.contains("hush"),
                "{text}"
            );
            assert_eq!(text.contains("ETCD_PASSWORD"), kind == ErrorKind::Denied);
        }
    }

    #[tokio::test]
    async fn answers_that_are_none_are_errors() {
        let token = ok(&json!({ "token": "t" }));
        let long = "x".repeat(2 * ANSWER_LEN_MAX + 100);
        let bad = json!({ "kvs": [{ "key": "", "value": "!" }] });
        let longer = json!({ "kvs": [{ "key": "", "value": BASE64_STANDARD.encode("12345") }] });
        for (answer, kind) in [
            (("200 OK", "not json".to_owned()), ErrorKind::Unavailable),
            (
                ("500 Internal Server Error", "<html>".to_owned()),
                ErrorKind::Unavailable,
            ),
            (("200 OK", long), ErrorKind::Corrupt),
            (ok(&bad), ErrorKind::Corrupt),
            (ok(&longer), ErrorKind::Corrupt),
        ] {
            let (log, _) = member(vec![token.clone(), answer]).await;
            let error = log.read("mmh/log/1", 4).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
        }
    }

    #[tokio::test]
    async fn nobody_there_is_unavailable() {
        let url = "etcd://127.0.0.1:1,127.0.0.1:2/team";
        let log = EtcdLog::new(url, &Digest::of(b"r"), &Access::default()).unwrap();
        let error = log.read("mmh/log/1", 4).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().starts_with(url), "{error}");
    }
}
