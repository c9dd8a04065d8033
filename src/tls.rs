//! What a target's TLS rests on: whom to trust, what to show to a server that asks who is there, and by which name to ask for it. Read once
//! from PEM files, and checked before anything is sent; keys are printed nowhere.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};

/// The largest file of certificates that is read, in bytes: those of all public authorities take a quarter of one of its megabytes.
pub const FILE_MOST: u64 = 8 << 20;

/// How connections to a target are encrypted, where they are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tls {
    pub trust: Trust,
    /// What is shown to a server that asks for it.
    pub credentials: Option<Credentials>,
    /// The name that is asked for (SNI), and that the server's certificate must have; the URL's host where there is none.
    pub server_name: Option<String>,
}

/// Whom to trust.
#[derive(Clone, Debug, PartialEq)]
pub enum Trust {
    /// The public authorities, those in the file that `SSL_CERT_FILE` names, and `extra` ones.
    Verified { extra: Option<Authorities> },
    /// Anybody, under any name.
    Insecure,
}

impl Default for Trust {
    fn default() -> Trust {
        Trust::Verified { extra: None }
    }
}

impl From<Trust> for Tls {
    fn from(trust: Trust) -> Tls {
        Tls { trust, ..Tls::default() }
    }
}

/// Certificates of those whose word counts.
#[derive(Clone, PartialEq)]
pub struct Authorities {
    file: String,
    certificates: Arc<[CertificateDer<'static>]>,
}

impl Authorities {
    /// Those of a PEM file that is called `file`.
    ///
    /// # Errors
    /// When it holds none that can be used: what is wrong, as a sentence, and the way out.
    pub fn of_pem(file: &str, bytes: &[u8]) -> Result<Authorities, Wrong> {
        let certificates = certificates(file, bytes)?;
        let mut store = RootCertStore::empty();
        let (usable, _) = store.add_parsable_certificates(certificates.iter().cloned());
        if usable == 0 {
            return Err(Wrong::new(
                format!("`{file}` holds no certificate that can be used"),
                "name the authority's certificate, as PEM",
            ));
        }
        Ok(Authorities { file: file.to_owned(), certificates: certificates.into() })
    }

    pub fn file(&self) -> &str {
        &self.file
    }

    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.certificates.len(), self.file)
    }
}

/// A certificate with the key that goes with it.
#[derive(Clone)]
pub struct Credentials {
    file: String,
    key: Arc<CertifiedKey>,
}

/// Which of two files something is wrong with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    Certificate,
    Key,
}

impl Credentials {
    /// The certificate (and those between it and its authority) of one PEM file, and the private key of another, or of the same.
    ///
    /// # Errors
    /// What is wrong with which of them.
    pub fn of_pem(certificate: (&str, &[u8]), key: (&str, &[u8])) -> Result<Credentials, (Which, Wrong)> {
        let chain = certificates(certificate.0, certificate.1).map_err(|wrong| (Which::Certificate, wrong))?;
        let private = private_key(key.0, key.1).map_err(|wrong| (Which::Key, wrong))?;
        let provider = rustls::crypto::ring::default_provider();
        let key = CertifiedKey::from_der(chain, private, &provider).map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => (
                Which::Key,
                Wrong::new(
                    format!("the key in `{}` is not that of the certificate in `{}`", key.0, certificate.0),
                    "name the key that the certificate was made for; the first certificate in its file is the client's own",
                ),
            ),
            Error::InvalidCertificate(_) => (
                Which::Certificate,
                Wrong::new(
                    format!("the first certificate in `{}` cannot be read", certificate.0),
                    "it must be an X.509 certificate",
                ),
            ),
            _ => (
                Which::Key,
                Wrong::new(
                    format!("the key in `{}` is of a kind that is not known here", key.0),
                    "use a key of RSA (2048 bits or more), ECDSA (P-256, P-384) or Ed25519",
                ),
            ),
        })?;
        Ok(Credentials { file: certificate.0.to_owned(), key: Arc::new(key) })
    }

    /// The file of the certificate.
    pub fn file(&self) -> &str {
        &self.file
    }

    pub fn key(&self) -> Arc<CertifiedKey> {
        self.key.clone()
    }
}

impl PartialEq for Credentials {
    fn eq(&self, other: &Credentials) -> bool {
        self.file == other.file && self.key.cert == other.key.cert
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "that of {}", self.file)
    }
}

/// What is wrong, and what to do about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wrong {
    pub message: String,
    pub help: String,
}

impl Wrong {
    fn new(message: impl Into<String>, help: impl Into<String>) -> Wrong {
        Wrong { message: message.into(), help: help.into() }
    }
}

/// Whether a name can be asked for.
///
/// # Errors
/// Why not.
pub fn server_name(name: &str) -> Result<(), String> {
    match ServerName::try_from(name) {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("`{name}` cannot be the name of a certificate: write a host name or an address")),
    }
}

fn certificates(file: &str, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, Wrong> {
    let found = CertificateDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| Wrong::new(format!("`{file}` is not whole: {}", broken(&error)), "copy it again"))?;
    match found.is_empty() {
        false => Ok(found),
        true => Err(Wrong::new(
            format!("`{file}` holds no certificate"),
            "it must be PEM, which begins with -----BEGIN CERTIFICATE-----; `openssl x509 -inform der -in FILE` makes it of DER",
        )),
    }
}

fn private_key(file: &str, bytes: &[u8]) -> Result<PrivateKeyDer<'static>, Wrong> {
    PrivateKeyDer::from_pem_slice(bytes).map_err(|error| match error {
        pem::Error::NoItemsFound if holds(bytes, b"ENCRYPTED PRIVATE KEY") => Wrong::new(
            format!("the key in `{file}` is encrypted, and nobody is there to be asked for its passphrase"),
            "decrypt it into a file that only you can read: `openssl pkey -in FILE -out KEY`",
        ),
        pem::Error::NoItemsFound => Wrong::new(
            format!("`{file}` holds no private key"),
            "it must be PEM, with -----BEGIN PRIVATE KEY----- (also RSA or EC)",
        ),
        error => Wrong::new(format!("`{file}` is not whole: {}", broken(&error)), "copy it again"),
    })
}

/// What is wrong with a PEM file, without a byte of what it holds.
fn broken(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no -----END line",
        pem::Error::IllegalSectionStart { .. } => "a -----BEGIN line is malformed",
        pem::Error::Base64Decode(_) => "a section is not base64",
        _ => "it is not PEM",
    }
}

fn holds(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window == word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn made() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["client".to_owned()]).expect("a certificate");
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_certificate_and_its_key_are_read_from_two_files_or_from_one() {
        let (certificate, key) = made();
        let both = format!("{key}{certificate}");
        for (one, other) in [(&certificate, &key), (&both, &both)] {
            let read = Credentials::of_pem(("c.pem", one.as_bytes()), ("k.pem", other.as_bytes())).expect("credentials");
            assert_eq!((read.file(), read.key().cert.len()), ("c.pem", 1));
            assert_eq!(format!("{read:?}"), "that of c.pem", "no key is printed");
        }
        assert_eq!(Authorities::of_pem("ca.pem", both.as_bytes()).expect("an authority").certificates().len(), 1);
    }

    #[test]
    fn what_is_wrong_is_said_of_the_right_file_with_the_way_out() {
        let ((certificate, key), (_, other)) = (made(), made());
        let says = |certificate: &str, key: &str| {
            let read = Credentials::of_pem(("c.pem", certificate.as_bytes()), ("k.pem", key.as_bytes()));
            let (which, wrong) = read.expect_err("something is wrong");
            (which, format!("{}; {}", wrong.message, wrong.help))
        };
        let cut = &certificate[..certificate.len() / 2];
        let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let hollow = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        for (certificate, key, which, words) in [
            (key.as_str(), key.as_str(), Which::Certificate, "`c.pem` holds no certificate"),
            ("", &key, Which::Certificate, "BEGIN CERTIFICATE"),
            (cut, &key, Which::Certificate, "no -----END line"),
            (hollow, &key, Which::Certificate, "cannot be read"),
            (&certificate, &certificate, Which::Key, "`k.pem` holds no private key"),
            (&certificate, locked, Which::Key, "openssl pkey"),
            (&certificate, &other, Which::Key, "not that of the certificate in `c.pem`"),
            (&certificate, "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n", Which::Key, "of a kind"),
        ] {
            let (said, text) = says(certificate, key);
            assert!(said == which && text.contains(words), "{said:?} {text}");
        }
        let wrong = Authorities::of_pem("ca.pem", hollow.as_bytes()).expect_err("nothing in it can be used");
        assert_eq!(wrong.message, "`ca.pem` holds no certificate that can be used");
        assert!(server_name("shop.example").is_ok() && server_name("127.0.0.1").is_ok() && server_name("a b").is_err());
    }

    proptest! {
        #[test]
        fn no_file_panics(bytes in any::<Vec<u8>>(), cut in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let (certificate, key) = made();
            let mut spoilt = format!("{certificate}{key}").into_bytes();
            let at = cut.index(spoilt.len());
            spoilt[at] = byte;
            for bytes in [&bytes, &spoilt] {
                let _ = Authorities::of_pem("ca.pem", bytes);
                let _ = Credentials::of_pem(("c.pem", bytes), ("k.pem", bytes));
            }
        }
    }
}
