//! Whom a TLS connection trusts: the public authorities, those that the environment or the plan adds, or, only where the plan
//! says so by name, anybody. One provider (ring), named here, so that nothing hangs on a process-wide default.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_rustls::TlsConnector;

/// Whom to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The public authorities, those in the file that `SSL_CERT_FILE` names, and those in `extra_authorities` (PEM).
    Verified { extra_authorities: Option<PathBuf> },
    /// Anybody, under any name.
    Insecure,
}

impl Default for Trust {
    fn default() -> Trust {
        Trust::Verified { extra_authorities: None }
    }
}

/// How to turn a connection to one host into an encrypted one.
#[derive(Clone)]
pub(super) struct Encryption {
    pub(super) connector: TlsConnector,
    pub(super) name: ServerName<'static>,
}

impl Encryption {
    /// For `host`, which is also what SNI says; `protocols` is offered by ALPN.
    pub(super) fn new(host: &str, trust: &Trust, protocols: &[&[u8]]) -> Result<Encryption> {
        let name =
            ServerName::try_from(host.to_owned()).with_context(|| format!("`{host}` cannot be the name of a certificate"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .context("the TLS provider supports no version of TLS")?;
        let mut config = match trust {
            Trust::Verified { extra_authorities } => builder.with_root_certificates(authorities(extra_authorities.as_deref())?),
            Trust::Insecure => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider))),
        }
        .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Encryption { connector: TlsConnector::from(Arc::new(config)), name })
    }
}

fn authorities(extra: Option<&Path>) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    let from_environment = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()).map(PathBuf::from);
    for path in from_environment.as_deref().into_iter().chain(extra) {
        let certificates = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .with_context(|| format!("cannot read certificates from {}", path.display()))?;
        let (added, _) = store.add_parsable_certificates(certificates);
        ensure!(added > 0, "{} holds no certificate that can be used: it must be PEM", path.display());
    }
    Ok(store)
}

/// Accepts every certificate; signatures are still checked, so that the peer at least holds the key that it shows.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
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
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
