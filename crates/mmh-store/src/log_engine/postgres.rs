//! The log as rows of one table in PostgreSQL, FORMAT.md, "Log elsewhere".
//!
//! A create is one `INSERT … ON CONFLICT DO NOTHING`: the primary key decides races, and the row
//! is on the disk, and on synchronous standbys, before the server answers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use mmh_core::{Digest, ErrorKind};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, NoTls, Row};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::LogEngine;
use crate::access::Access;
use crate::backend::{is_loopback, without_user};
use crate::error::{Error, Result};
use crate::objects::Listed;

/// Time to connect to one host.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for connecting to all hosts, and for one statement.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// The table. Names sort by bytes, whatever the database's language is.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS mmh_log (
    repository bytea NOT NULL,
    name text COLLATE \"C\" NOT NULL,
    bytes bytea NOT NULL,
    PRIMARY KEY (repository, name)
)";
const INSERT: &str = "INSERT INTO mmh_log (repository, name, bytes) VALUES ($1, $2, $3) \
    ON CONFLICT DO NOTHING";
const SELECT: &str = "SELECT octet_length(bytes)::int8, \
    CASE WHEN octet_length(bytes) <= $3 THEN bytes END \
    FROM mmh_log WHERE repository = $1 AND name = $2";
const LIST: &str = "SELECT name, octet_length(bytes)::int8 FROM mmh_log \
    WHERE repository = $1 AND name > $2 AND name < $3 ORDER BY name";
const DELETE: &str = "DELETE FROM mmh_log WHERE repository = $1 AND name = $2";
/// A session must not acknowledge what is not on the disk, whatever the server's default is.
const SESSION: &str = "SELECT set_config('synchronous_commit', 'on', false) \
    WHERE current_setting('synchronous_commit') IN ('off', 'local')";
const SERVER: &str =
    "SELECT current_setting('fsync') = 'on' AND current_setting('full_page_writes') = 'on'";

/// SQLSTATE of a server that is starting or recovering.
const STARTING: &str = "57P03";
/// How long such a server is left alone.
const STARTING_PAUSE: Duration = Duration::from_millis(200);
/// SQLSTATE of a table that does not exist.
const NO_TABLE: &str = "42P01";
/// SQLSTATEs of two sessions that make the same table at once.
const MADE_TWICE: [&str; 3] = ["23505", "42P07", "42710"];

/// The log of one repository in PostgreSQL.
pub(super) struct PostgresLog {
    location: String,
    repository: [u8; 32],
    config: Config,
    /// How to check whom it talks to, unless it talks in plain text.
    tls: Option<rustls::ClientConfig>,
    /// The connection; made when it is needed, made anew when it broke.
    client: Mutex<Option<Arc<Client>>>,
}

impl fmt::Debug for PostgresLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("PostgresLog");
        out.field("location", &self.location)
            .finish_non_exhaustive()
    }
}

impl PostgresLog {
    pub(super) fn new(url: &str, repository: &Digest, access: &Access) -> Result<Self> {
        let bad = |reason: String| Error::BadPlace {
            place: without_user(url),
            reason,
        };
        let mut config: Config = url.parse().map_err(|e| bad(chain(&e)))?;
        complete(&mut config, access).map_err(&bad)?;
        let here = |host: &Host| match host {
            Host::Tcp(name) => is_loopback(&bracketed(name)),
            #[cfg(unix)]
            Host::Unix(_) => true,
        };
        if !url.contains("sslmode=") {
            let stays_here = config.get_hosts().iter().all(here);
            config.ssl_mode(if stays_here {
                SslMode::Disable
            } else {
                SslMode::Require
            });
        }
        if config.get_ssl_mode() == SslMode::Prefer {
            let reason = "sslmode=prefer falls back to plain text; say `require` or `disable`";
            return Err(bad(reason.to_owned()));
        }
        config
            .connect_timeout(CONNECT_TIMEOUT)
            .application_name("mmh")
            // A standby would show an older log.
            .target_session_attrs(TargetSessionAttrs::ReadWrite);
        let tls = match config.get_ssl_mode() {
            SslMode::Disable => None,
            _ => Some(crate::tls::client().map_err(|e| bad(e.to_string()))?),
        };
        Ok(Self {
            location: location(&config),
            repository: *repository.as_bytes(),
            config,
            tls,
            client: Mutex::new(None),
        })
    }

    fn failed(&self, name: &str) -> impl Fn(tokio_postgres::Error) -> Error {
        let place = self.place(name);
        move |error| failure(place.clone(), &error)
    }

    fn late(&self, name: &str) -> Error {
        Error::Log {
            place: self.place(name),
            kind: ErrorKind::Unavailable,
            source: format!("no answer within {} s", STATEMENT_TIMEOUT.as_secs()).into(),
        }
    }

    /// A connection that works as far as is known.
    async fn client(&self) -> Result<Arc<Client>> {
        let mut held = self.client.lock().await;
        if let Some(client) = held.as_ref().filter(|client| !client.is_closed()) {
            return Ok(Arc::clone(client));
        }
        let connected = timeout(STATEMENT_TIMEOUT, self.connect_when_ready()).await;
        let client = Arc::new(connected.map_err(|_| self.late(""))??);
        *held = Some(Arc::clone(&client));
        Ok(client)
    }

    /// Waits for a server that is just starting.
    async fn connect_when_ready(&self) -> Result<Client> {
        loop {
            match self.connect().await {
                Err(error) if state(&error) == STARTING => sleep(STARTING_PAUSE).await,
                Err(error) => return Err(failure(self.place(""), &error)),
                Ok(client) => return Ok(client),
            }
        }
    }

    async fn connect(&self) -> std::result::Result<Client, tokio_postgres::Error> {
        let client = if let Some(tls) = &self.tls {
            let tls = MakeRustlsConnect::new(tls.clone());
            let (client, connection) = self.config.connect(tls).await?;
            tokio::spawn(connection);
            client
        } else {
            let (client, connection) = self.config.connect(NoTls).await?;
            tokio::spawn(connection);
            client
        };
        client.query_typed(SESSION, &[]).await?;
        Ok(client)
    }

    /// Runs a query within its time. A connection that is late is not used again.
    async fn query(&self, name: &str, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>> {
        let client = self.client().await?;
        match timeout(STATEMENT_TIMEOUT, client.query_typed(sql, values)).await {
            Ok(done) => done.map_err(self.failed(name)),
            Err(_) => {
                *self.client.lock().await = None;
                Err(self.late(name))
            }
        }
    }

    /// Reads until it works twice: the connection may have broken since it was last used.
    async fn ask(&self, name: &str, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>> {
        match self.query(name, sql, values).await {
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                self.query(name, sql, values).await
            }
            other => other,
        }
    }

    /// Changes rows and tells how many.
    async fn change(&self, name: &str, sql: &str, values: &[Value<'_>]) -> Result<u64> {
        let client = self.client().await?;
        match timeout(STATEMENT_TIMEOUT, client.execute_typed(sql, values)).await {
            Ok(done) => done.map_err(self.failed(name)),
            Err(_) => {
                *self.client.lock().await = None;
                Err(self.late(name))
            }
        }
    }
}

type Value<'a> = (&'a (dyn ToSql + Sync), Type);

#[async_trait]
impl LogEngine for PostgresLog {
    fn place(&self, name: &str) -> String {
        format!("{}/{name}", self.location)
    }

    async fn prepare(&self) -> Result<()> {
        let row = self.ask("", SERVER, &[]).await?;
        if !row.first().is_some_and(|row| row.get(0)) {
            return Err(Error::BadPlace {
                place: self.location.clone(),
                reason: "the server runs with fsync or full_page_writes off, so that it loses \
                         what it has confirmed"
                    .to_owned(),
            });
        }
        let client = self.client().await?;
        match client.batch_execute(TABLE).await {
            Err(error) if MADE_TWICE.contains(&state(&error)) => Ok(()),
            other => other.map_err(self.failed("")),
        }
    }

    async fn read(&self, name: &str, len_max: usize) -> Result<Option<Bytes>> {
        let repository = &self.repository[..];
        let most = i32::try_from(len_max).unwrap_or(i32::MAX);
        let values: [Value<'_>; 3] = [
            (&repository, Type::BYTEA),
            (&name, Type::TEXT),
            (&most, Type::INT4),
        ];
        let rows = self.ask(name, SELECT, &values).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let bytes: Option<&[u8]> = row.get(1);
        match bytes {
            Some(bytes) => Ok(Some(Bytes::copy_from_slice(bytes))),
            None => Err(Error::Corrupt {
                object: name.to_owned(),
                reason: format!("{} bytes, more than {len_max}", row.get::<_, i64>(0)),
            }),
        }
    }

    async fn create(&self, name: &str, bytes: Bytes) -> Result<bool> {
        let (repository, bytes) = (&self.repository[..], &bytes[..]);
        let values: [Value<'_>; 3] = [
            (&repository, Type::BYTEA),
            (&name, Type::TEXT),
            (&bytes, Type::BYTEA),
        ];
        Ok(self.change(name, INSERT, &values).await? == 1)
    }

    /// A row that can be seen was committed, and a commit is on the disk before it can be seen.
    async fn confirm(&self, name: &str, bytes: Bytes) -> Result<()> {
        super::confirm_by_reading(self, name, &bytes).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<Listed>> {
        let repository = &self.repository[..];
        let (first, end) = super::bounds(prefix);
        let after = after.filter(|after| **after > *first).unwrap_or(&first);
        let values: [Value<'_>; 3] = [
            (&repository, Type::BYTEA),
            (&after, Type::TEXT),
            (&end, Type::TEXT),
        ];
        let rows = self.ask(prefix, LIST, &values).await?;
        let listed = |row: &Row| (row.get(0), row.get::<_, i64>(1).unsigned_abs());
        Ok(rows.iter().map(listed).collect())
    }

    async fn delete(&self, name: &str) -> Result<()> {
        let repository = &self.repository[..];
        let values: [Value<'_>; 2] = [(&repository, Type::BYTEA), (&name, Type::TEXT)];
        self.change(name, DELETE, &values).await.map(drop)
    }
}

/// Fills in what the URL leaves out from the variables of PostgreSQL's own programs.
fn complete(config: &mut Config, access: &Access) -> std::result::Result<(), String> {
    if config.get_user().is_none()
        && let Some(user) = access.variable("PGUSER")
    {
        config.user(user);
    }
    if config.get_password().is_none()
        && let Some(password) = access.variable("PGPASSWORD")
    {
        config.password(password);
    }
    if config.get_dbname().is_none()
        && let Some(name) = access.variable("PGDATABASE")
    {
        config.dbname(name);
    }
    if config.get_hosts().is_empty() {
        let host = access.variable("PGHOST");
        config.host(host.ok_or("it names no host, and PGHOST is not set")?);
    }
    if config.get_ports().is_empty()
        && let Some(port) = access.variable("PGPORT")
    {
        config.port(
            port.parse()
                .map_err(|_| format!("PGPORT={port} is no port"))?,
        );
    }
    Ok(())
}

/// The URL without user, password and settings.
fn location(config: &Config) -> String {
    let ports = config.get_ports();
    let port = |idx: usize| match ports {
        [] => 5432,
        [one] => *one,
        many => many.get(idx).copied().unwrap_or(5432),
    };
    let hosts = config.get_hosts().iter().enumerate();
    let hosts: Vec<String> = hosts
        .map(|(idx, host)| match host {
            Host::Tcp(name) => format!("{}:{}", bracketed(name), port(idx)),
            #[cfg(unix)]
            Host::Unix(path) => {
                format!(
                    "{}:{}",
                    path.display().to_string().replace('/', "%2F"),
                    port(idx)
                )
            }
        })
        .collect();
    let dbname = config.get_dbname().or(config.get_user());
    format!(
        "postgres://{}/{}",
        hosts.join(","),
        dbname.unwrap_or_default()
    )
}

/// A host as it stands in a URL.
fn bracketed(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

fn state(error: &tokio_postgres::Error) -> &str {
    error.code().map_or("", |code| code.code())
}

/// An error with all its causes: the outermost alone says `db error`.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn failure(place: String, error: &tokio_postgres::Error) -> Error {
    let (kind, hint) = match state(error) {
        NO_TABLE => (ErrorKind::NotFound, "; it holds no log of mmh"),
        // Class 28 is authorization, 42501 a lack of privilege, 3D000 an unknown database.
        code if code.starts_with("28") || code == "42501" => (
            ErrorKind::Denied,
            "; user and password come from the URL of --log, or PGUSER and PGPASSWORD",
        ),
        "3D000" => (ErrorKind::NotFound, "; make it with `createdb`"),
        _ => (ErrorKind::Unavailable, ""),
    };
    Error::Log {
        place,
        kind,
        source: format!("{}{hint}", chain(error)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(variables: &[(&str, &str)]) -> Access {
        let pairs = variables
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Access {
            variables: pairs.collect(),
            ..Access::default()
        }
    }

    fn open(url: &str, variables: &[(&str, &str)]) -> Result<PostgresLog> {
        PostgresLog::new(url, &Digest::of(b"r"), &access(variables))
    }

    #[test]
    fn the_place_has_hosts_and_database_but_no_secret() {
        for (url, place) in [
            ("postgres://u:hush@h/d", "postgres://h:5432/d"),
            ("postgresql://u:hush@h:1,i:2/d", "postgres://h:1,i:2/d"),
            ("postgres://u@[::1]:7/d", "postgres://[::1]:7/d"),
            (
                "postgres://u@%2Frun%2Fpg/d",
                "postgres://%2Frun%2Fpg:5432/d",
            ),
            ("postgres://u@h", "postgres://h:5432/u"),
        ] {
            let log = open(url, &[]).unwrap();
            assert_eq!(log.place("mmh/log/1"), format!("{place}/mmh/log/1"));
            assert!(!format!("{log:?}").contains("hush"));
            // What a configuration records opens again.
            let again = open(place, &[("PGUSER", "u")]).unwrap();
            assert_eq!(again.location, place);
        }
    }

    #[test]
    fn variables_fill_in_what_the_url_leaves_out() {
        let variables = [
            ("PGHOST", "127.0.0.1"),
            ("PGPORT", "77"),
            ("PGUSER", "u"),
            ("PGPASSWORD", "hush"),
            ("PGDATABASE", "d"),
        ];
        let log = open("postgres://", &variables).unwrap();
        assert_eq!(log.location, "postgres://127.0.0.1:77/d");
        assert_eq!(log.config.get_password(), Some(&b"hush"[..]));
        let log = open("postgres://v:own@h:78/e", &variables).unwrap();
        assert_eq!(log.location, "postgres://h:78/e");
        assert_eq!(log.config.get_password(), Some(&b"own"[..]));
        for (url, variables) in [
            ("postgres://", &[][..]),
            ("postgres://", &[("PGHOST", "h"), ("PGPORT", "x")]),
            ("postgres://h/d?nonsense=1", &[]),
        ] {
            assert_eq!(
                open(url, variables).unwrap_err().kind(),
                ErrorKind::Invalid,
                "{url}"
            );
        }
    }

    #[test]
    fn what_leaves_this_machine_is_encrypted_unless_the_url_says_otherwise() {
        let mode = |url| open(url, &[]).unwrap().config.get_ssl_mode();
        for (url, expected) in [
            ("postgres://u@127.0.0.1/d", SslMode::Disable),
            ("postgres://u@%2Frun%2Fpg/d", SslMode::Disable),
            ("postgres://u@[::1]/d", SslMode::Disable),
            ("postgres://u@db.example/d", SslMode::Require),
            ("postgres://u@localhost,db.example/d", SslMode::Require),
            (
                "postgres://u@db.example/d?sslmode=disable",
                SslMode::Disable,
            ),
            ("postgres://u@127.0.0.1/d?sslmode=require", SslMode::Require),
        ] {
            assert_eq!(mode(url), expected, "{url}");
        }
        let error = open("postgres://u@h/d?sslmode=prefer", &[]).unwrap_err();
        assert!(error.to_string().contains("sslmode"), "{error}");
    }

    /// Nobody listens: an error that names the place, at once.
    #[tokio::test]
    async fn a_server_that_is_not_there_is_unavailable() {
        let log = open("postgres://u:hush@127.0.0.1:1/d", &[]).unwrap();
        let error = log.read("mmh/log/1", 10).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let text = error.to_string();
        assert!(
            text.contains("127.0.0.1:1") && !text.contains("hush"),
            "{text}"
        );
    }
}
