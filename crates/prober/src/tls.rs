//! TLS without verification: a probe asks whether the container answers, not who it is.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A TLS connection to a probed container.
pub(crate) type Stream = TlsStream<FirstBytes<TcpStream>>;

/// Why no TLS session came about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// The peer speaks plain HTTP. The words are matched on by the lifecycle hook's fall-back.
    #[error("http: server gave HTTP response to HTTPS client")]
    PlainHttp,
    /// The name cannot be asked for.
    #[error("tls: invalid server name")]
    ServerName,
    /// TLS cannot be used at all in this process.
    #[error("tls: {0}")]
    Config(String),
    /// The peer went away or the two found no common ground.
    #[error("{}", handshake_text(.0))]
    Handshake(#[source] io::Error),
}

/// What the two ends agree to speak on top of TLS.
#[derive(Clone, Copy)]
pub(crate) enum Alpn {
    /// HTTP/2 or HTTP/1.1.
    Http,
    /// HTTP/2 only.
    Http2,
}

/// Performs the handshake on a fresh connection.
pub(crate) async fn connect(tcp: TcpStream, host: &str, alpn: Alpn) -> Result<Stream, TlsError> {
    let configs = CONFIGS.as_ref().map_err(|error| TlsError::Config(error.clone()))?;
    let config = match alpn {
        Alpn::Http => &configs.http,
        Alpn::Http2 => &configs.http2,
    };
    let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsError::ServerName)?;
    let connecting = TlsConnector::from(config.clone()).connect(name, FirstBytes::new(tcp)).into_fallible();
    connecting.await.map_err(|(error, opening)| {
        if opening.bytes == *b"HTTP/" { TlsError::PlainHttp } else { TlsError::Handshake(error) }
    })
}

fn handshake_text(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
        _ if error.raw_os_error().is_some() => crate::text::errno(error),
        _ => format!("tls: {error}"),
    }
}

struct Configs {
    http: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
}

/// Built once: a configuration costs more than the rest of a probe together.
static CONFIGS: LazyLock<Result<Configs, String>> = LazyLock::new(|| {
    let build = |protocols: &[&[u8]]| {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AcceptAnyCertificate))
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
        // Sessions are never resumed: the next attempt is to find the same conditions as this.
        config.resumption = rustls::client::Resumption::disabled();
        Ok::<_, String>(Arc::new(config))
    };
    Ok(Configs { http: build(&[b"h2", b"http/1.1"])?, http2: build(&[b"h2"])? })
});

/// Accepts whatever the peer shows, expired and malformed certificates included.
#[derive(Debug)]
struct AcceptAnyCertificate;

impl ServerCertVerifier for AcceptAnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ECDSA_NISTP384_SHA384,
            SignatureScheme::ECDSA_NISTP521_SHA512,
            SignatureScheme::ED25519,
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::RSA_PSS_SHA384,
            SignatureScheme::RSA_PSS_SHA512,
            SignatureScheme::RSA_PKCS1_SHA256,
            SignatureScheme::RSA_PKCS1_SHA384,
            SignatureScheme::RSA_PKCS1_SHA512,
            SignatureScheme::RSA_PKCS1_SHA1,
            SignatureScheme::ECDSA_SHA1_Legacy,
        ]
    }
}

/// A stream that remembers the first five bytes it read, to tell a plain HTTP server from a
/// broken TLS one.
#[derive(Debug)]
pub(crate) struct FirstBytes<S> {
    inner: S,
    bytes: [u8; 5],
    len: usize,
}

impl<S> FirstBytes<S> {
    fn new(inner: S) -> Self {
        Self { inner, bytes: [0; 5], len: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FirstBytes<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let poll = Pin::new(&mut this.inner).poll_read(cx, buf);
        for byte in buf.filled().iter().skip(before) {
            let Some(slot) = this.bytes.get_mut(this.len) else { break };
            *slot = *byte;
            this.len += 1;
        }
        poll
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FirstBytes<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}
