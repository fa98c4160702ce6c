//! The client against servers that say what each test wants; the real one sits the exam in
//! `tests/it/engines`.

use tokio::net::TcpListener;

use super::*;

/// A server that greets and then sends these bytes after each request line that arrives.
async fn server(info: &'static str, replies: Vec<String>) -> NatsLog {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            stream.write_all(info.as_bytes()).await.unwrap();
            let mut replies = replies.iter();
            let mut line = String::new();
            while stream.read_line(&mut line).await.unwrap_or(0) > 0 {
                if line.starts_with("PING") {
                    stream.write_all(b"PING\r\nPONG\r\n").await.unwrap();
                }
                let mut words = line.split(' ');
                if let (Some("PUB" | "HPUB"), Some(reply)) = (words.next(), words.nth(1)) {
                    let Some(text) = replies.next() else { break };
                    let text = text.replace("REPLY", reply);
                    stream.write_all(text.as_bytes()).await.unwrap();
                }
                line.clear();
            }
        }
    });
    let url = format!("nats://u:hush@127.0.0.1:1,127.0.0.1:{port}/team");
    NatsLog::new(&url, &Digest::of(b"r"), &Access::default()).unwrap()
}

/// An answer of JetStream.
fn answer(body: &str) -> String {
    format!("MSG REPLY 1 {}\r\n{body}\r\n", body.len())
}

const INFO: &str = "INFO {\"headers\":true,\"max_payload\":100}\r\n";

#[tokio::test]
async fn answers_to_others_are_passed_over() {
    let others = "PING\r\n+OK\r\nMSG other 1 3\r\n{x}\r\n".to_owned();
    let log = server(INFO, vec![others + &answer("{\"seq\": 17}")]).await;
    assert!(log.create("mmh/log/1", "x".into()).await.unwrap());
    assert!(log.place("mmh/log/1").ends_with("/team/mmh/log/1"));
    assert!(!format!("{log:?} {}", log.place("")).contains("hush"));
}

#[tokio::test]
async fn a_name_that_is_taken_is_told_from_other_refusals() {
    let error = |code, text| {
        let body = json!({ "error": { "err_code": code, "description": text } });
        answer(&body.to_string())
    };
    let replies = vec![error(10_071, ""), error(10_077, "full"), error(10_059, "")];
    let log = server(INFO, replies).await;
    assert!(!log.create("mmh/log/1", "x".into()).await.unwrap());
    let error = log.create("mmh/log/1", "x".into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("full"), "{error}");
    let error = log.create("mmh/log/1", "x".into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

#[tokio::test]
async fn refusals_and_nonsense_have_kinds() {
    for (reply, kind) in [
        ("-ERR 'Authorization Violation'\r\n", ErrorKind::Denied),
        (
            "-ERR 'Permissions Violation for Publish'\r\n",
            ErrorKind::Denied,
        ),
        ("-ERR 'Slow Consumer'\r\n", ErrorKind::Unavailable),
        (
            "HMSG REPLY 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n",
            ErrorKind::Unsupported,
        ),
        ("MSG REPLY 1 3\r\n{x}\r\n", ErrorKind::Unavailable),
        ("MSG REPLY 1 99999999999\r\n", ErrorKind::Unavailable),
        ("MSG REPLY 1 x\r\n", ErrorKind::Unavailable),
        ("\u{fffd}\r\n", ErrorKind::Unavailable),
    ] {
        let log = server(INFO, vec![reply.to_owned()]).await;
        let error = log.create("mmh/log/1", "x".into()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{reply:?}: {error}");
        assert!(!error.to_string().contains("hush"), "{error}");
    }
}

#[tokio::test]
async fn what_the_server_cannot_take_is_not_sent() {
    let log = server(INFO, vec![]).await;
    let error = log
        .create("mmh/log/1", vec![0; 101].into())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("max_payload"), "{error}");
    for name in ["", "mmh/log/*", "mmh.log", "mmh/log/>"] {
        let error = log.read(name, 10).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal, "{name}");
    }
}

#[tokio::test]
async fn servers_that_do_not_fit_are_refused_by_name() {
    for (info, kind) in [
        ("INFO {\"headers\":false}\r\n", ErrorKind::Unsupported),
        (
            "INFO {\"headers\":true,\"tls_required\":true}\r\n",
            ErrorKind::Invalid,
        ),
        ("HTTP/1.1 400 Bad Request\r\n", ErrorKind::Unavailable),
        ("\r\n", ErrorKind::Unavailable),
    ] {
        let log = server(info, vec![]).await;
        let error = log.read("mmh/log/1", 10).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{info:?}: {error}");
    }
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let log = NatsLog::new("nats://127.0.0.1:1", &Digest::of(b"r"), &Access::default()).unwrap();
    let error = log.read("mmh/log/1", 10).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(
        error.to_string().starts_with("nats://127.0.0.1:1/"),
        "{error}"
    );
}
