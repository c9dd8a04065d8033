//! How a connection becomes an encrypted one. It trusts the public authorities, those that the environment or the plan adds, or, only
//! where the plan says so by name, anybody. One provider (ring), named here, so that nothing hangs on a process-wide default.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_rustls::TlsConnector;

use crate::tls::{Authorities, Tls, Trust};

/// How to turn a connection to one host into an encrypted one.
#[derive(Clone)]
pub(super) struct Encryption {
    pub(super) connector: TlsConnector,
    pub(super) name: ServerName<'static>,
}

impl Encryption {
    /// For `host`, which is also what SNI says unless `tls` has another name; `protocols` is offered by ALPN.
    pub(super) fn new(host: &str, tls: &Tls, protocols: &[&[u8]]) -> Result<Encryption> {
        let name = tls.server_name.as_deref().unwrap_or(host);
        let name =
            ServerName::try_from(name.to_owned()).with_context(|| format!("`{name}` cannot be the name of a certificate"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .context("the TLS provider supports no version of TLS")?;
        let builder = match &tls.trust {
            Trust::Verified { extra } => builder.with_root_certificates(authorities(extra.as_ref())?),
            Trust::Insecure => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider))),
        };
        let mut config = match &tls.credentials {
            None => builder.with_no_client_auth(),
            Some(credentials) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(credentials.key()))),
        };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Encryption { connector: TlsConnector::from(Arc::new(config)), name })
    }
}

fn authorities(extra: Option<&Authorities>) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    let from_environment = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()).map(PathBuf::from);
    let from_environment = from_environment.map(|path| {
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read certificates from {}", path.display()))?;
        Authorities::of_pem(&path.to_string_lossy(), &bytes).map_err(|wrong| anyhow!("{}: {}", wrong.message, wrong.help))
    });
    for authorities in from_environment.transpose()?.iter().chain(extra) {
        store.add_parsable_certificates(authorities.certificates().iter().cloned());
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
