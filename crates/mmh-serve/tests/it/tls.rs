//! Handshakes: with ML-KEM or not at all, and only with the node that was meant.

use std::process::Command;

use mmh_core::ErrorKind;
use mmh_serve::Identity;
use mmh_store::{Backend, OpenOptions, Store};
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::{NamedGroup, ProtocolVersion};

use crate::common::{Served, Setup, any_certificate, connect, hex};

async fn head(client: Backend) -> Result<Store, mmh_store::Error> {
    Store::open(client, OpenOptions::default()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_agrees_on_the_hybrid_key_and_an_ml_dsa_certificate() {
    let node = Served::memory().await;
    let stream = node.connect().await;
    let (_, session) = stream.get_ref();
    let group = session.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, NamedGroup::X25519MLKEM768);
    assert_eq!(session.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    let certificates = session.peer_certificates().unwrap();
    assert_eq!(certificates.len(), 1);
    // The algorithm's identifier stands in it for the key and twice for the signature.
    let ml_dsa_65 = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 0x12];
    let found = certificates[0]
        .windows(9)
        .filter(|w| *w == ml_dsa_65)
        .count();
    assert_eq!(found, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_ml_kem_is_refused_unless_it_is_let_in() {
    for classic in [false, true] {
        let mut setup = Setup::open(Backend::memory());
        setup.classic = classic;
        let node = setup.serve().await;
        let mut provider = default_provider();
        provider.kx_groups = vec![kx_group::X25519];
        let config = any_certificate(provider);
        match connect(&node.address, config).await {
            Ok(stream) => {
                let group = stream.get_ref().1.negotiated_key_exchange_group();
                assert!(classic && group.unwrap().name() == NamedGroup::X25519);
            }
            Err(error) => assert!(!classic, "{error}"),
        }
        // Who knows both takes the hybrid one.
        let stream = node.connect().await;
        let group = stream.get_ref().1.negotiated_key_exchange_group();
        assert_eq!(group.unwrap().name(), NamedGroup::X25519MLKEM768);
    }
}

/// A server of our own protocol that knows X25519 only: the client does not fall back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_client_refuses_a_classic_server_unless_a_variable_allows_it() {
    let mut setup = Setup::open(Backend::memory());
    setup.classic = true;
    let node = setup.serve().await;
    let address = classic_only(&node.address).await;
    let place = format!("mmhs://{}@{address}", node.pin);
    let at = |variables: &[(&str, &str)]| Backend::parse(&place, &node.access(variables)).unwrap();
    let error = head(at(&[])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let error = head(at(&[("MMH_NODE_CLASSIC", "true")])).await.unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::NotFound,
        "it was reached, and is empty: {error}"
    );
}

/// Listens, and passes everything on, but for the client's share of ML-KEM: a hello that offers
/// only the hybrid group is refused, as a classic server would.
async fn classic_only(to: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, to) = (listener.local_addr().unwrap(), to.to_owned());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = tokio::net::TcpStream::connect(&to).await.unwrap();
            let mut hello = vec![0; 4096];
            let len = client.read(&mut hello).await.unwrap();
            // 0x001D, X25519, in the list of groups (RFC 8446, section 4.2.7).
            let classic = hello[..len].windows(6).any(|w| w == [0, 10, 0, 6, 0, 4]);
            if !classic {
                // Alert: fatal, handshake failure.
                let _gone = client.write_all(&[21, 3, 3, 0, 2, 2, 40]).await.is_err();
                continue;
            }
            server.write_all(&hello[..len]).await.unwrap();
            let _ended = copy_bidirectional(&mut client, &mut server).await.is_err();
        }
    });
    address.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_node_with_the_same_address_is_not_talked_to() {
    let node = Served::memory().await;
    let other = hex(&Identity::ephemeral().unwrap().pin());
    for pin in [format!("{other}@"), String::new()] {
        let place = format!("mmhs://{pin}{}", node.address);
        let client = match Backend::parse(&place, &node.access(&[])) {
            Ok(client) => client,
            // A system without root certificates cannot do without a pin.
            Err(error) => {
                assert!(
                    pin.is_empty() && error.to_string().contains("root"),
                    "{error}"
                );
                continue;
            }
        };
        let error = head(client).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("certificate"), "{error}");
    }
    assert_eq!(node.answers(404), 0, "nothing was asked");
    let error = head(node.client()).await.unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::NotFound,
        "the pin that was shown: {error}"
    );
}

/// An OpenSSL that knows no ML-KEM is refused; a newer one is let in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openssl_is_let_in_only_with_ml_kem() {
    let Ok(version) = Command::new("openssl").arg("version").output() else {
        eprintln!("SKIPPED: openssl is not installed");
        return;
    };
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let new = ["OpenSSL 3.5", "OpenSSL 3.6", "OpenSSL 4"]
        .iter()
        .any(|v| version.starts_with(v));
    let node = Served::memory().await;
    let address = node.address.clone();
    let run = move || {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-tls1_3", "-connect", &address]);
        command.stdin(std::process::Stdio::null()).output()
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(said.contains("X25519MLKEM768"), new, "{version}: {said}");
    assert_eq!(said.contains("BEGIN CERTIFICATE"), new, "{version}: {said}");
}
