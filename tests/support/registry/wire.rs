//! Connections: with TLS or without, and reset on demand.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::{Shared, serve};

/// A certificate for 127.0.0.1 and localhost, and the private authority behind it.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
    authority: String,
}

impl Tls {
    pub fn new() -> Self {
        Tls::of(&["127.0.0.1", "localhost"], false)
    }

    /// The same for these names; one that has `ended` did so long ago.
    pub fn of(names: &[&str], ended: bool) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);

        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names).unwrap();
        if ended {
            params.not_after = rcgen::date_time_ymd(2000, 1, 1);
        }
        let leaf = params.signed_by(&key, &issuer).unwrap();
        Tls::with(&leaf, &key, authority)
    }

    /// One that signs itself, as `openssl req -x509` makes it: it calls itself an authority.
    pub fn by_itself(names: &[&str], ended: bool) -> Self {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        if ended {
            params.not_after = rcgen::date_time_ymd(2000, 1, 1);
        }
        let own = params.self_signed(&key).unwrap();
        Tls::with(&own, &key, own.pem())
    }

    fn with(leaf: &rcgen::Certificate, key: &KeyPair, authority: String) -> Self {
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .unwrap();
        Tls {
            config: Arc::new(config),
            authority,
        }
    }

    /// The authority's certificate.
    pub fn ca_pem(&self) -> &str {
        &self.authority
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

/// A connection that a handler can break, or write to behind hyper's back.
#[derive(Clone)]
pub struct Wire {
    stream: Arc<TcpStream>,
    reset: Arc<AtomicBool>,
}

impl Wire {
    /// Reset, not closed, as soon as it ends.
    pub fn reset_at_end(&self) {
        self.reset.store(true, Ordering::SeqCst);
    }

    pub async fn write_raw(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.stream.writable().await?;
            match self.stream.try_write(bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(context))?;
            match self.stream.try_read(buffer.initialize_unfilled()) {
                Ok(n) => {
                    buffer.advance(n);
                    return Poll::Ready(Ok(()));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(context))?;
            match self.stream.try_write(bytes) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Dropping it closes it.
        Poll::Ready(Ok(()))
    }
}

pub async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(connection(stream, shared));
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let wire = Wire {
        stream: Arc::new(stream),
        reset: Arc::default(),
    };
    if let Some(tls) = &shared.options.tls {
        let acceptor = TlsAcceptor::from(Arc::clone(&tls.config));
        // A client that does not trust the authority ends here.
        if let Ok(stream) = acceptor.accept(wire.clone()).await {
            requests(stream, &wire, shared).await;
        }
    } else {
        requests(wire.clone(), &wire, shared).await;
    }
    if wire.reset.load(Ordering::SeqCst) {
        let _ = wire.stream.set_zero_linger();
    }
}

async fn requests<S>(stream: S, wire: &Wire, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| serve::serve(Arc::clone(&shared), wire.clone(), request));
    // An error is a client that went away, or a fault that was asked for.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}
