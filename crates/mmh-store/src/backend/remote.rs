//! Engines beyond this machine: built from a place and the variables that are usual for it, with
//! time-outs, retries, a bound on requests in flight, and no plain HTTP unless it stays here.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::limit::LimitStore;
use object_store::prefix::PrefixStore;

use super::place::{Engine, Node, Place};
use crate::access::Access;
use crate::error::{Error, Result};

/// Requests to one engine that are under way at the same time.
const REQUESTS_MAX: usize = 32;

/// Builds the engine of a bucket.
pub(super) fn build(place: &Place, access: &Access) -> Result<Arc<dyn ObjectStore>> {
    let (engine, bucket, prefix) = match place {
        Place::Bucket {
            engine,
            bucket,
            prefix,
        } => (engine, bucket, prefix),
        Place::Node(node) => return Ok(Arc::new(node_engine(node, access)?)),
        Place::Folder(_) => {
            let what = format!("{place} is no bucket");
            return Err(Error::Internal { what });
        }
    };
    let built = match engine {
        Engine::S3 => s3(bucket, endpoint(place, access), access)?,
        Engine::Gcs => gcs(bucket, endpoint(place, access), access)?,
        Engine::Azure => azure(bucket, endpoint(place, access), access)?,
    };
    let built = built.map_err(|error| Error::BadPlace {
        place: place.to_string(),
        reason: error.to_string(),
    })?;
    let limited = LimitStore::new(built, REQUESTS_MAX);
    Ok(if prefix.is_empty() {
        Arc::new(limited)
    } else {
        Arc::new(PrefixStore::new(limited, prefix.as_str()))
    })
}

#[cfg(feature = "node")]
pub(super) use crate::node::client::Node as NodeEngine;

/// The engine that asks a node, of which so many requests are under way at the same time.
#[cfg(feature = "node")]
pub(super) fn node_engine(node: &Node, access: &Access) -> Result<LimitStore<NodeEngine>> {
    Ok(LimitStore::new(
        NodeEngine::new(node, access)?,
        REQUESTS_MAX,
    ))
}

#[cfg(not(feature = "node"))]
fn node_engine(node: &Node, _: &Access) -> Result<object_store::memory::InMemory> {
    Err(left_out(&node.to_string(), "node"))
}

/// Where the engine of a place is, if a variable says so instead of the vendor.
pub(super) fn endpoint<'a>(place: &Place, access: &'a Access) -> Option<&'a str> {
    let Place::Bucket { engine, .. } = place else {
        return None;
    };
    let variables: &[&str] = match engine {
        Engine::S3 => &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"],
        Engine::Gcs => &["GOOGLE_BASE_URL"],
        Engine::Azure => &["AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"],
    };
    variables.iter().find_map(|name| access.variable(name))
}

type Built = object_store::Result<Arc<dyn ObjectStore>>;

/// A variable's name as the engines' own settings spell it, if it is theirs.
#[allow(
    dead_code,
    reason = "a build without engines elsewhere has no settings"
)]
fn settings<'a, K: std::str::FromStr>(
    access: &'a Access,
    start: &'a str,
) -> impl Iterator<Item = (K, &'a str)> {
    let ours = move |(name, value): (&'a String, &'a String)| {
        let known = name.starts_with(start) && !value.is_empty();
        let key = known.then(|| name.to_ascii_lowercase().parse().ok())??;
        Some((key, value.as_str()))
    };
    access.variables.iter().filter_map(ours)
}

#[cfg(feature = "s3")]
fn s3(bucket: &str, endpoint: Option<&str>, access: &Access) -> Result<Built> {
    use object_store::aws::AmazonS3Builder;
    const CREDENTIALS: [&str; 6] = [
        "AWS_ACCESS_KEY_ID",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_METADATA_ENDPOINT",
        "AWS_SKIP_SIGNATURE",
    ];
    let place = || format!("s3://{bucket}");
    if !CREDENTIALS
        .iter()
        .any(|name| access.variable(name).is_some())
    {
        let hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; AWS_SKIP_SIGNATURE=true for \
                    a public bucket; or AWS_METADATA_ENDPOINT=http://169.254.169.254 for the role \
                    of an EC2 machine (credential files of the AWS tools are not read)";
        let (place, hint) = (place(), hint.to_owned());
        return Err(Error::NoCredentials { place, hint });
    }
    let http = plain_http(&place(), endpoint, access, "AWS_ALLOW_HTTP")?;
    let mut builder = AmazonS3Builder::new()
        .with_client_options(requests::client_options())
        .with_retry(requests::retries());
    for (key, value) in settings(access, "AWS_") {
        builder = builder.with_config(key, value);
    }
    let built = builder
        .with_bucket_name(bucket)
        .with_allow_http(http)
        .build();
    Ok(built.map(|engine| Arc::new(engine) as _))
}

#[cfg(not(feature = "s3"))]
fn s3(bucket: &str, _: Option<&str>, _: &Access) -> Result<Built> {
    Err(left_out(&format!("s3://{bucket}"), "s3"))
}

#[cfg(feature = "gcs")]
fn gcs(bucket: &str, endpoint: Option<&str>, access: &Access) -> Result<Built> {
    use object_store::gcp::GoogleCloudStorageBuilder;
    let place = format!("gs://{bucket}");
    let http = plain_http(&place, endpoint, access, "GOOGLE_ALLOW_HTTP")?;
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_client_options(requests::client_options().with_allow_http(http))
        .with_retry(requests::retries());
    for (key, value) in settings(access, "GOOGLE_") {
        builder = builder.with_config(key, value);
    }
    let built = builder.with_bucket_name(bucket).build();
    Ok(built.map(|engine| Arc::new(engine) as _))
}

#[cfg(not(feature = "gcs"))]
fn gcs(bucket: &str, _: Option<&str>, _: &Access) -> Result<Built> {
    Err(left_out(&format!("gs://{bucket}"), "gcs"))
}

#[cfg(feature = "azure")]
fn azure(container: &str, endpoint: Option<&str>, access: &Access) -> Result<Built> {
    use object_store::azure::MicrosoftAzureBuilder;
    let place = format!("az://{container}");
    let http = plain_http(&place, endpoint, access, "AZURE_ALLOW_HTTP")?;
    let mut builder = MicrosoftAzureBuilder::new()
        .with_client_options(requests::client_options())
        .with_retry(requests::retries());
    for (key, value) in settings(access, "AZURE_") {
        builder = builder.with_config(key, value);
    }
    let built = builder
        .with_container_name(container)
        .with_allow_http(http)
        .build();
    Ok(built.map(|engine| Arc::new(engine) as _))
}

#[cfg(not(feature = "azure"))]
fn azure(container: &str, _: Option<&str>, _: &Access) -> Result<Built> {
    Err(left_out(&format!("az://{container}"), "azure"))
}

#[allow(dead_code, reason = "a build with all engines leaves none out")]
fn left_out(place: &str, feature: &str) -> Error {
    Error::UnsupportedBackend {
        place: place.to_owned(),
        reason: format!("this build was made without the feature `{feature}`"),
    }
}

/// How requests to buckets are made.
#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
mod requests {
    use std::time::Duration;

    use object_store::{BackoffConfig, ClientOptions, RetryConfig};

    /// Time to connect.
    const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
    /// Time between two pieces of an answer.
    const READ_TIMEOUT: Duration = Duration::from_secs(30);
    /// Time for one request: a part of 8 MiB at 100 kB/s is still through.
    const REQUEST_TIMEOUT: Duration = Duration::from_secs(90);
    /// Attempts after the first, with growing pauses between.
    const RETRIES_MAX: usize = 6;
    /// Time for all attempts of one request. The engine's documentation asks for less than 5 minutes.
    const RETRY_TIMEOUT: Duration = Duration::from_secs(180);

    pub(super) fn client_options() -> ClientOptions {
        crate::tls::provide();
        let agent = concat!("mmh/", env!("CARGO_PKG_VERSION"));
        ClientOptions::new()
            .with_user_agent(agent.parse().expect("it has visible characters only"))
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_read_timeout(READ_TIMEOUT)
            .with_timeout(REQUEST_TIMEOUT)
    }

    pub(super) fn retries() -> RetryConfig {
        RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: RETRIES_MAX,
            retry_timeout: RETRY_TIMEOUT,
        }
    }
}

/// Whether plain HTTP is used: on this machine, or because a variable says so.
#[allow(dead_code, reason = "a build without engines elsewhere asks nobody")]
fn plain_http(
    place: &str,
    endpoint: Option<&str>,
    access: &Access,
    variable: &str,
) -> Result<bool> {
    let allowed = access.says(variable);
    match endpoint.and_then(|url| url.strip_prefix("http://")) {
        Some(rest) if !allowed && !is_loopback(rest) => Err(Error::BadPlace {
            place: place.to_owned(),
            reason: format!(
                "its endpoint is plain HTTP, which everybody on the way can read; use https://, \
                 or set {variable}=true"
            ),
        }),
        Some(_) => Ok(true),
        None => Ok(allowed),
    }
}

/// Whether a URL's part after `//` names this machine.
pub(crate) fn is_loopback(rest: &str) -> bool {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let address = host.parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(all(test, feature = "s3", feature = "gcs", feature = "azure"))]
mod tests {
    use mmh_core::ErrorKind;

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

    fn built(place: &str, variables: &[(&str, &str)]) -> Result<String> {
        let engine = build(&Place::parse(place)?, &access(variables))?;
        Ok(format!("{engine}"))
    }

    const KEYS: [(&str, &str); 2] = [
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "hush"),
    ];

    #[test]
    fn buckets_are_built_from_their_usual_variables() {
        let text = built("s3://models/a/b", &KEYS).unwrap();
        assert!(text.contains("a/b") && !text.contains("hush"), "{text}");
        let azure = [
            ("AZURE_STORAGE_ACCOUNT_NAME", "acme"),
            ("AZURE_STORAGE_ACCOUNT_KEY", "aHVzaA=="),
        ];
        assert!(built("az://models", &azure).unwrap().contains("acme"));
        let google = [("GOOGLE_SKIP_SIGNATURE", "true")];
        assert!(built("gs://models", &google).unwrap().contains("models"));
    }

    #[test]
    fn missing_credentials_are_denied_and_the_message_says_which() {
        let error = built("s3://models", &[("AWS_ACCESS_KEY_ID", "")]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(
            error.to_string().contains("AWS_SECRET_ACCESS_KEY"),
            "{error}"
        );
        let error = built("az://models", &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(
            error.to_string().starts_with("cannot use `az://models`"),
            "{error}"
        );
    }

    #[test]
    fn plain_http_stays_on_this_machine_unless_a_variable_allows_it() {
        let with = |url, allow| {
            let mut all = KEYS.to_vec();
            all.extend([("AWS_ENDPOINT_URL", url), ("AWS_ALLOW_HTTP", allow)]);
            built("s3://models", &all)
        };
        for url in [
            "http://127.0.0.1:9000",
            "http://localhost",
            "http://[::1]:1/x",
        ] {
            with(url, "").unwrap();
        }
        let error = with("http://store.example:9000", "false").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("AWS_ALLOW_HTTP"), "{error}");
        with("http://store.example:9000", "true").unwrap();
        with("https://store.example", "").unwrap();
    }

    #[test]
    fn hosts_of_this_machine_are_known() {
        for rest in [
            "localhost",
            "127.1.2.3:80/x",
            "u:p@127.0.0.1",
            "[::1]:5432/d",
        ] {
            assert!(is_loopback(rest), "{rest}");
        }
        for rest in [
            "",
            "10.0.0.1",
            "localhost.example",
            "127.0.0.1.example",
            "[::2]",
        ] {
            assert!(!is_loopback(rest), "{rest}");
        }
    }
}
