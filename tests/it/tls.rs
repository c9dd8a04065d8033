//! Goal: who trusts whom, and who is asked for what, is as the plan says, and what goes wrong with it has a cause of its own. How: an
//! authority made for the test, servers in this process that ask for certificates, and clients with good, bad and no ones.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ResolvesServerCertUsingSni, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use squall::plan::Protocol;
use squall::protocol::{Tls, Trust};
use squall::recording::History;
use squall::recording::sink::Measure;
use squall::tls::{Authorities, Credentials};
use tokio_rustls::TlsAcceptor;

use crate::command::Squall;
use crate::fake_target::{Dial, FakeTarget, Timing};
use crate::load::{Drive, Ran};

/// Someone who vouches for others.
pub struct Authority {
    params: CertificateParams,
    key: KeyPair,
    pem: String,
    der: CertificateDer<'static>,
}

/// A certificate as PEM and as it is, and its key.
pub struct Made {
    pem: String,
    der: CertificateDer<'static>,
    key: KeyPair,
}

/// When a certificate is good.
#[derive(Clone, Copy, PartialEq)]
pub enum Good {
    Now,
    Long,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        // Of two with one name, neither would be the wrong one.
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        let made = params.self_signed(&key).expect("a certificate");
        Authority { params, key, pem: made.pem(), der: made.der().clone() }
    }

    fn signs(&self, name: &str, usage: ExtendedKeyUsagePurpose, good: Good) -> Made {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.extended_key_usages = vec![usage];
        if good == Good::Long {
            (params.not_before, params.not_after) = (rcgen::date_time_ymd(2001, 1, 1), rcgen::date_time_ymd(2002, 1, 1));
        }
        let key = KeyPair::generate().expect("a key");
        let made = params.signed_by(&key, &Issuer::from_params(&self.params, &self.key)).expect("a certificate");
        Made { pem: made.pem(), der: made.der().clone(), key }
    }

    pub fn server(&self, name: &str, good: Good) -> Made {
        self.signs(name, ExtendedKeyUsagePurpose::ServerAuth, good)
    }

    pub fn client(&self, good: Good) -> Made {
        self.signs("squall", ExtendedKeyUsagePurpose::ClientAuth, good)
    }

    fn trusted(&self) -> Trust {
        Trust::Verified { extra: Some(Authorities::of_pem("ca.pem", self.pem.as_bytes()).expect("an authority")) }
    }
}

impl Made {
    fn shown(&self) -> Option<Credentials> {
        let key = self.key.serialize_pem();
        Some(Credentials::of_pem(("client.pem", self.pem.as_bytes()), ("client.key", key.as_bytes())).expect("credentials"))
    }

    fn secret(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.serialize_der().into())
    }
}

/// A server that shows `made` to whoever asks for `name`, and, where there is an authority for them, wants to see who comes.
pub fn acceptor(
    made: &Made,
    name: &str,
    clients: Option<&Authority>,
    versions: &[&'static SupportedProtocolVersion],
) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .expect("ring supports the usual versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.der.clone()).expect("an authority");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
            builder.with_client_cert_verifier(verifier.expect("it has a root"))
        }
    };
    let key = CertifiedKey::from_der(vec![made.der.clone()], made.secret(), &provider).expect("a key");
    let mut by_name = ResolvesServerCertUsingSni::new();
    by_name.add(name, key).expect("a name");
    let mut config = builder.with_cert_resolver(Arc::new(by_name));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

pub fn serving(acceptor: TlsAcceptor) -> FakeTarget {
    FakeTarget::start_encrypted(Dial::good(Timing::AtOnce), acceptor)
}

fn run(target: &FakeTarget, tls: Tls, protocol: Protocol) -> Ran {
    let url = format!("https://localhost:{}/", target.address.port());
    Drive { tls, protocol, timeout: Duration::from_secs(10), ..Drive::at(url) }.run()
}

pub const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

#[test]
fn a_server_that_asks_who_is_there_is_shown_it() {
    let (authority, stranger) = (Authority::new("ours"), Authority::new("theirs"));
    let server = authority.server("localhost", Good::Now);
    for version in BOTH {
        let target = serving(acceptor(&server, "localhost", Some(&authority), &[version]));
        let with = |credentials| Tls { trust: authority.trusted(), credentials, server_name: None };
        for (shown, cause) in [
            (authority.client(Good::Now).shown(), None),
            (None, Some("certificate required by the server")),
            (stranger.client(Good::Now).shown(), Some("our certificate refused by the server")),
            (authority.client(Good::Long).shown(), Some("our certificate refused by the server")),
        ] {
            let ran = run(&target, with(shown), Protocol::Http1);
            match cause {
                None => assert_eq!(ran.counts.ok, 25, "{version:?}: {:?}", ran.causes),
                Some(cause) => assert_eq!((ran.cause(cause), ran.counts.failed), (25, 25), "{version:?}: {:?}", ran.causes),
            }
        }
    }
    // Who speaks HTTP/2 hears it on the connection, before any stream.
    let target = serving(acceptor(&server, "localhost", Some(&authority), BOTH));
    let ran = run(&target, authority.trusted().into(), Protocol::Http2);
    assert_eq!(ran.cause("certificate required by the server"), 25, "{:?}", ran.causes);
}

#[test]
fn whom_the_client_does_not_trust_it_sends_nothing() {
    let (authority, stranger) = (Authority::new("ours"), Authority::new("theirs"));
    let server = |made: &Made, name: &str| serving(acceptor(made, name, None, BOTH));
    let good = authority.server("localhost", Good::Now);
    for (target, trust, cause) in [
        (server(&good, "localhost"), authority.trusted(), None),
        (server(&good, "localhost"), stranger.trusted(), Some("certificate not trusted")),
        (server(&good, "localhost"), Trust::Insecure, None),
        (server(&authority.server("localhost", Good::Long), "localhost"), authority.trusted(), Some("certificate expired")),
        (server(&authority.server("localhost", Good::Long), "localhost"), Trust::Insecure, None),
    ] {
        let ran = run(&target, trust.into(), Protocol::Http1);
        match cause {
            None => {
                assert_eq!(ran.counts.ok, 25, "{:?}", ran.causes);
                let opened: u64 = ran.history.windows.values().map(|tally| tally.opened).sum();
                assert!(opened >= 1);
                assert_eq!(ran.histogram(Measure::Tls).len(), opened, "what TLS took is known of each connection");
            }
            Some(cause) => {
                assert_eq!((ran.cause(cause), ran.counts.sent), (25, 0), "{:?}", ran.causes);
                assert_eq!(ran.histogram(Measure::Tls).len(), 0);
            }
        }
    }
}

/// Goal: a server is asked for by another name than the URL's, and must have that one. How: one that knows no other.
#[test]
fn a_server_is_asked_for_by_the_name_that_the_plan_gives() {
    let authority = Authority::new("ours");
    let target = serving(acceptor(&authority.server("shop.example", Good::Now), "shop.example", None, BOTH));
    let asked = |name: Option<&str>| Tls { server_name: name.map(str::to_owned), ..authority.trusted().into() };
    let ran = run(&target, asked(Some("shop.example")), Protocol::Http1);
    assert_eq!(ran.counts.ok, 25, "{:?}", ran.causes);
    assert!(target.seen().request.contains("Host: localhost:"), "the request says what it said: {}", target.seen().request);
    let ran = run(&target, asked(None), Protocol::Http1);
    assert_eq!(ran.cause("tls handshake failed"), 25, "{:?}", ran.causes);

    let misnamed = serving(acceptor(&authority.server("other.example", Good::Now), "other.example", None, BOTH));
    let asked = |name: &str| Tls { server_name: Some(name.to_owned()), trust: authority.trusted(), credentials: None };
    assert_eq!(run(&misnamed, asked("other.example"), Protocol::Http1).counts.ok, 25);
}

/// The files of a test, in a folder of their own.
pub fn written(squall: &Squall, authority: &Authority, client: &Made) {
    std::fs::create_dir(squall.path("tls")).expect("a folder");
    squall.file("tls/ca.pem", &authority.pem);
    squall.file("tls/client.pem", &client.pem);
    squall.file("tls/client.key", &client.key.serialize_pem());
}

#[test]
fn a_plan_names_its_files_beside_it_and_a_command_line_where_it_stands() {
    let squall = Squall::new();
    let authority = Authority::new("ours");
    let server = authority.server("shop.example", Good::Now);
    let target = serving(acceptor(&server, "shop.example", Some(&authority), BOTH));
    written(&squall, &authority, &authority.client(Good::Now));
    let url = format!("https://localhost:{}/", target.address.port());
    let load = ["load", url.as_str(), "--rate", "50/s", "--for", "1s", "--available", "10%"];
    let flags = ["--ca", "tls/ca.pem", "--cert", "tls/client.pem", "--key", "tls/client.key", "--server-name", "shop.example"];
    squall.run(&[&load[..], &flags[..], &["--out", "by-flags"]].concat()).expect(0).saying("tls p50");

    let plan = |tls: &str| {
        format!(
            "plan: p\nclaim: c\ntarget: {{url: \"{url}\", tls: {{{tls}}}}}\nphases: [{{name: a, for: 1s}}]\n\
             load: [{{name: l, rate: 50/s, request: {{get: /}}}}]\nassert: [{{name: answered, slo: {{available: 10%}}}}]\n"
        )
    };
    squall.file("tls/plan.yaml", &plan("ca: ca.pem, cert: client.pem, key: client.key, server_name: shop.example"));
    squall.run(&["check", "--explain", "tls/plan.yaml"]).expect(0).saying("asked for as shop.example");
    squall.run(&["run", "tls/plan.yaml", "--out", "by-plan"]).expect(0);
    let history = History::load(&squall.path("by-plan")).expect("a recording");
    let recorded = std::fs::read_to_string(squall.path("by-plan/plan.yaml")).expect("the plan of the run");
    assert!(recorded.contains("client.key") && !recorded.contains("PRIVATE KEY"), "{recorded}");
    assert!(history.windows.values().map(|tally| tally.opened).sum::<u64>() >= 1);

    // What a server wants and does not get is said before anything is sent, with the way out.
    squall.file("tls/plan.yaml", &plan("ca: ca.pem, server_name: shop.example"));
    squall
        .run(&["run", "tls/plan.yaml", "--out", "shown-nothing"])
        .expect(4)
        .saying("certificate required by the server; name one");
    squall.file("tls/plan.yaml", &plan("server_name: shop.example"));
    squall.run(&["run", "tls/plan.yaml", "--out", "trusting-nobody"]).expect(4).saying("name its authority");
    // Whoever accepts anybody is still to show who it is.
    squall.file("tls/plan.yaml", &plan("insecure: true, cert: client.pem, key: client.key, server_name: shop.example"));
    squall.run(&["run", "tls/plan.yaml", "--out", "insecure"]).expect(0);
    // A key of somebody else's.
    squall.file("tls/other.key", &authority.client(Good::Now).key.serialize_pem());
    squall.file("tls/plan.yaml", &plan("ca: ca.pem, cert: client.pem, key: other.key"));
    squall.run(&["check", "tls/plan.yaml"]).expect(2).saying("is not that of the certificate in `client.pem`");
}
