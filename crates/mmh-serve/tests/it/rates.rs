//! Clients that ask too often.

use std::num::NonZeroU32;
use std::sync::Arc;

use mmh_serve::{Gate, Role, Silent, Tokens, new_token};

use crate::home::Home;

/// Each client has a bucket of its own; whoever asks whether the server lives needs none.
#[test]
fn who_asks_too_often_waits() {
    let (token, line) = new_token(Role::Admin, &[], "ana").unwrap();
    let tokens = Tokens::parse(&line, "f", Role::Reader).unwrap();
    let most = NonZeroU32::new(3);
    let gate = Gate::with_rate(tokens, false, Arc::new(Silent), most).unwrap();
    let home = Home::behind(gate);
    for left in ["r=2", "r=1", "r=0"] {
        let answer = home.get("/api/models");
        assert_eq!(answer.status, 200);
        assert!(
            answer.header("ratelimit").unwrap().contains(left),
            "{answer:?}"
        );
        assert!(answer.header("retry-after").is_none());
    }
    let refused = home.get("/api/models");
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("retry-after"), Some("20"));
    assert_eq!(
        refused.header("ratelimit-policy"),
        Some("\"requests\";q=3;w=60")
    );
    let wrong = home.ask("GET", "/api/models", &[("authorization", "Bearer x")], b"");
    assert_eq!(wrong.status, 429, "who guesses tokens is counted too");
    let bearer = format!("Bearer {token}");
    let known = home.ask("GET", "/api/models", &[("authorization", &bearer)], b"");
    assert_eq!(known.status, 200);
    assert_eq!(home.get("/healthz").status, 200);
}

/// Without a rate nothing is counted, and nothing is said of it.
#[test]
fn without_a_rate_nobody_is_counted() {
    let gate = Gate::new(Tokens::none(Role::Admin), false, Arc::new(Silent)).unwrap();
    let home = Home::behind(gate);
    for _ in 0..5 {
        let answer = home.get("/api/models");
        assert_eq!(answer.status, 200);
        for name in ["ratelimit", "ratelimit-policy", "retry-after"] {
            assert!(answer.header(name).is_none(), "{name}");
        }
    }
}
