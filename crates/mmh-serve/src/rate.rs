//! How many requests a client may send: a bucket for each, that fills again as time goes by. What is
//! left it tells in the fields of the IETF's draft `ratelimit-headers`, which clients of hubs read.

use std::net::{IpAddr, Ipv6Addr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use lru::LruCache;
use tokio::time::Instant;

/// What is left, and when more is.
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// What a client has in all.
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// The time in which a bucket fills, in seconds.
const WINDOW_S: u64 = 60;
/// Clients that are remembered; those that were quiet longest begin anew.
const CLIENTS_MAX: NonZeroUsize = NonZeroUsize::new(1 << 16).expect("not zero");
/// A request in the unit that buckets are filled in, so that slow ones fill too.
const REQUEST: u64 = 1_000_000;

/// Who shares a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Client {
    /// Bearers of tokens of that name.
    Token(Arc<str>),
    /// Everybody at an address; with version 6 in a network of 64 bits, of which one client has all.
    Address(IpAddr),
}

impl Client {
    /// Who asks from an address without a token.
    pub(crate) fn at(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(v6) => {
                let network = u128::from(v6) >> 64 << 64;
                IpAddr::V6(Ipv6Addr::from(network))
            }
            v4 => v4,
        })
    }
}

/// Buckets of all clients.
#[derive(Debug)]
pub(crate) struct Rates {
    /// Requests in a window.
    most: NonZeroU32,
    buckets: Mutex<LruCache<Client, Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// In units.
    left: u64,
    at: Instant,
}

/// What a client has left after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Left {
    most: NonZeroU32,
    requests: u64,
    /// Until the bucket is full, or, with nothing left, until there is one request again; in seconds,
    /// rounded up.
    wait_s: u64,
    /// Whether this request may be answered.
    pub(crate) is_within: bool,
}

impl Rates {
    /// So many requests a minute for each client.
    pub(crate) fn new(most: NonZeroU32) -> Self {
        Self {
            most,
            buckets: Mutex::new(LruCache::new(CLIENTS_MAX)),
        }
    }

    /// Takes a request out of a client's bucket, if there is one in it.
    pub(crate) fn take(&self, client: &Client, now: Instant) -> Left {
        let most = u64::from(self.most.get());
        let full = most * REQUEST;
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Bucket {
            left: full,
            at: now,
        };
        let bucket = buckets.get_or_insert_mut(client.clone(), fresh);
        // A minute fills it, whatever was left.
        let passed = now.saturating_duration_since(bucket.at).as_micros();
        let passed = u64::try_from(passed)
            .unwrap_or(u64::MAX)
            .min(WINDOW_S * 1_000_000);
        let filled = passed * most / WINDOW_S;
        if filled > 0 {
            bucket.left = full.min(bucket.left + filled);
            bucket.at = now;
        }
        let is_within = bucket.left >= REQUEST;
        bucket.left -= if is_within { REQUEST } else { 0 };
        let missing = match is_within {
            true => full - bucket.left,
            false => REQUEST - bucket.left,
        };
        Left {
            most: self.most,
            requests: bucket.left / REQUEST,
            wait_s: missing.saturating_mul(WINDOW_S).div_ceil(full),
            is_within,
        }
    }
}

impl Left {
    /// Tells a client.
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        let (r, t, q) = (self.requests, self.wait_s, self.most);
        let mut say = |name: HeaderName, text: String| {
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.insert(name, value);
            }
        };
        say(RATE_LIMIT, format!("\"requests\";r={r};t={t}"));
        say(
            RATE_LIMIT_POLICY,
            format!("\"requests\";q={q};w={WINDOW_S}"),
        );
        if !self.is_within {
            say(RETRY_AFTER, t.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn rates(most: u32) -> Rates {
        Rates::new(NonZeroU32::new(most).unwrap())
    }

    fn ana() -> Client {
        Client::Token("ana".into())
    }

    #[test]
    fn a_bucket_empties_and_fills() {
        let (rates, start) = (rates(30), Instant::now());
        for n in 1..=30 {
            let left = rates.take(&ana(), start);
            assert!(left.is_within && left.requests == 30 - n, "{left:?}");
        }
        let left = rates.take(&ana(), start);
        assert_eq!((left.is_within, left.requests, left.wait_s), (false, 0, 2));
        let other = Client::at([127, 0, 0, 1].into());
        assert!(rates.take(&other, start).is_within, "others have their own");
        let later = start + Duration::from_millis(1999);
        assert!(!rates.take(&ana(), later).is_within);
        assert!(rates.take(&ana(), start + Duration::from_secs(2)).is_within);
        let much_later = start + Duration::from_secs(1 << 40);
        assert_eq!(rates.take(&ana(), much_later).requests, 29);
        assert!(
            rates.take(&ana(), start).is_within,
            "a clock that goes back is no harm"
        );
    }

    #[test]
    fn clients_are_told_what_they_read() {
        let (rates, now) = (rates(1), Instant::now());
        let told = |left: Left| {
            let mut headers = HeaderMap::new();
            left.tell(&mut headers);
            let text = |name: &HeaderName| Some(headers.get(name)?.to_str().unwrap().to_owned());
            (
                text(&RATE_LIMIT).unwrap(),
                text(&RATE_LIMIT_POLICY).unwrap(),
                text(&RETRY_AFTER),
            )
        };
        let policy = "\"requests\";q=1;w=60".to_owned();
        let full = "\"requests\";r=0;t=60".to_owned();
        let first = told(rates.take(&ana(), now));
        assert_eq!(first, (full.clone(), policy.clone(), None));
        let second = told(rates.take(&ana(), now));
        assert_eq!(second, (full, policy, Some("60".to_owned())));
    }

    #[test]
    fn one_network_is_one_client() {
        let at = |text: &str| Client::at(text.parse().unwrap());
        assert_eq!(at("2001:db8::1"), at("2001:db8::ffff:1"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
        assert_eq!(at("::ffff:192.0.2.1"), at("192.0.2.1"));
        assert_ne!(at("192.0.2.1"), at("192.0.2.2"));
    }

    proptest! {
        /// Whatever the pauses, nobody gets more than a full bucket and what filled meanwhile.
        #[test]
        fn nobody_gets_more(most in 1u32..50, pauses in prop::collection::vec(0u64..5000, 1..200)) {
            let (rates, start) = (rates(most), Instant::now());
            let (mut at, mut got) = (0, 0u64);
            for pause in pauses {
                at += pause;
                let left = rates.take(&ana(), start + Duration::from_millis(at));
                got += u64::from(left.is_within);
                prop_assert!(got * 60_000 <= u64::from(most) * (60_000 + at));
            }
        }
    }
}
