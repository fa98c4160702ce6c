//! Nodes on loopback, and clients that say what they like.

use std::sync::{Arc, Mutex};

use axum::Router;
use mmh_serve::{Gate, Identity, Limits, Node, Note, Role, Server, Stopped, Tokens, Watch};
use mmh_store::{Access, Backend, OpenOptions};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Remembers what a server noted.
#[derive(Debug, Default)]
pub(crate) struct Memo(pub(crate) Mutex<Vec<Note>>);

impl Watch for Memo {
    fn note(&self, note: &Note) {
        self.0.lock().unwrap().push(note.clone());
    }
}

/// How a node is set up.
pub(crate) struct Setup {
    pub(crate) backend: Backend,
    pub(crate) tokens: Tokens,
    pub(crate) read_only: bool,
    pub(crate) limits: Limits,
    pub(crate) classic: bool,
    pub(crate) identity: Identity,
    pub(crate) keys: OpenOptions,
    /// What stands between the node and the network.
    pub(crate) between: fn(Router) -> Router,
}

impl Setup {
    /// Everybody may do everything.
    pub(crate) fn open(backend: Backend) -> Self {
        Self {
            backend,
            tokens: Tokens::none(Role::Writer),
            read_only: false,
            limits: Limits::default(),
            classic: false,
            identity: Identity::ephemeral().unwrap(),
            keys: OpenOptions::default(),
            between: |router| router,
        }
    }

    pub(crate) async fn serve(self) -> Served {
        let memo = Arc::new(Memo::default());
        let watch = Arc::clone(&memo) as Arc<dyn Watch>;
        let gate = Gate::new(self.tokens, self.read_only, Arc::clone(&watch)).unwrap();
        let node = Node::new(self.backend.clone(), &gate, self.limits.clone(), self.keys);
        let server = Server::bind(
            "127.0.0.1:0".parse().unwrap(),
            Some((&self.identity, self.classic)),
            (self.between)(node.router()),
            (self.limits, watch),
        );
        let server = server.await.unwrap();
        let address = server.address();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(server.run(async { stopped.await.unwrap_or(()) }));
        Served {
            pin: hex(&self.identity.pin()),
            address: address.to_string(),
            backend: self.backend,
            cache: tempfile::tempdir().unwrap(),
            memo,
            stop,
            task,
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A node that runs.
pub(crate) struct Served {
    pub(crate) pin: String,
    pub(crate) address: String,
    /// What it serves, seen from inside.
    pub(crate) backend: Backend,
    pub(crate) cache: TempDir,
    pub(crate) memo: Arc<Memo>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Stopped>,
}

impl Served {
    /// Anybody's, in memory.
    pub(crate) async fn memory() -> Self {
        Setup::open(Backend::memory()).serve().await
    }

    pub(crate) fn place(&self) -> String {
        format!("mmhs://{}@{}", self.pin, self.address)
    }

    pub(crate) fn access(&self, variables: &[(&str, &str)]) -> Access {
        let owned = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        Access {
            variables: variables.iter().map(owned).collect(),
            cache: Some(self.cache.path().to_owned()),
            ..Access::default()
        }
    }

    /// The node as its clients see it.
    pub(crate) fn client(&self) -> Backend {
        Backend::parse(&self.place(), &self.access(&[])).unwrap()
    }

    pub(crate) fn client_with(&self, token: &str) -> Backend {
        let access = self.access(&[("MMH_NODE_TOKEN", token)]);
        Backend::parse(&self.place(), &access).unwrap()
    }

    /// A connection of a client that knows both ways to agree on a key, and likes the hybrid better.
    pub(crate) async fn connect(&self) -> TlsStream<TcpStream> {
        let mut provider = default_provider();
        provider.kx_groups = vec![kx_group::X25519MLKEM768, kx_group::X25519];
        connect(&self.address, any_certificate(provider))
            .await
            .unwrap()
    }

    /// Sends these bytes and reads until the node closes or has answered.
    pub(crate) async fn raw(&self, request: &[u8]) -> String {
        let mut stream = self.connect().await;
        // A node that has read enough closes before it has read all.
        let _closed = stream.write_all(request).await.is_err();
        read_all(&mut stream).await
    }

    /// How many answers of that status were given.
    pub(crate) fn answers(&self, of: u16) -> usize {
        let notes = self.memo.0.lock().unwrap();
        notes
            .iter()
            .filter(|note| matches!(note, Note::Answered { status, .. } if *status == of))
            .count()
    }

    pub(crate) async fn stop(self) -> Stopped {
        self.stop.send(()).unwrap();
        self.task.await.unwrap()
    }
}

/// What comes until the other side closes, however that ends.
pub(crate) async fn read_all(stream: &mut TlsStream<TcpStream>) -> String {
    let mut out = Vec::new();
    // A connection that is broken off gave what it gave.
    let _broken_off = stream.read_to_end(&mut out).await.is_err();
    String::from_utf8_lossy(&out).into_owned()
}

/// A client that takes any certificate, as long as its owner is there.
pub(crate) fn any_certificate(provider: CryptoProvider) -> ClientConfig {
    let verifier = Arc::new(Anybody(provider.clone()));
    ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth()
}

pub(crate) async fn connect(
    address: &str,
    config: ClientConfig,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

#[derive(Debug)]
struct Anybody(CryptoProvider);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
