//! Chains of certificates and kinds of keys: which the relay takes, and which it refuses because no client could use
//! them.

use std::fs;
use std::process::{Command, Stdio};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};

use super::files::{Files, GOOD, RSA, RSA_CERTIFICATE, expect_said, without_breaks};
use crate::harness::{Curl, Relay};

/// A certificate authority.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

impl Authority {
    fn root(name: &str) -> Self {
        Self::new(name, IsCa::Ca(BasicConstraints::Unconstrained), None)
    }

    fn below(&self, name: &str) -> Self {
        Self::new(name, IsCa::Ca(BasicConstraints::Unconstrained), Some(self))
    }

    fn new(name: &str, is_ca: IsCa, above: Option<&Self>) -> Self {
        let (mut params, key) = (params(name), KeyPair::generate().unwrap());
        params.is_ca = is_ca;
        let made = match above {
            Some(above) => params.signed_by(&key, &above.issuer),
            None => params.self_signed(&key),
        };
        Self { pem: made.unwrap().pem(), issuer: Issuer::new(params, key) }
    }

    /// A server's certificate, made as `change` says, and its key.
    fn issue(&self, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let (mut params, key) = (params("a server"), KeyPair::generate().unwrap());
        change(&mut params);
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

#[test]
fn what_is_joined_without_a_line_break_is_served() {
    let root = Authority::root("root");
    let upper = root.below("upper");
    let lower = upper.below("lower");
    let (server, key) = lower.issue(|_| {});
    let chain = [server, lower.pem, upper.pem].map(|it| it.trim_end().to_owned()).concat();
    assert!(chain.contains("-----END CERTIFICATE----------BEGIN CERTIFICATE-----"));
    let files = Files::new(chain.as_bytes(), without_breaks(&key).as_bytes());
    fs::write(files.path("root.pem"), &root.pem).unwrap();
    let tls = ["certificate", "key"]
        .map(|name| format!("{name} = '{}'", files.path(&format!("{name}.pem")).display()));
    let listener = format!("[[listener]]\naddress = '127.0.0.1:0'\ntls = {{ {} }}", tls.join(", "));
    let relay = Relay::with(1, &[&listener]);
    // The client knows the root alone.
    let root = files.path("root.pem").display().to_string();
    let curl = Curl::new("-fsS --cacert").arg(root).arg(format!("https://{}", relay.listener(1)));
    curl.run().expect(0);
}

#[test]
fn chains_that_no_client_could_follow_are_refused() {
    let (root, other) = (Authority::root("root"), Authority::root("other"));
    let (middle, namesake) = (root.below("middle"), other.below("middle"));
    let (server, key) = middle.issue(|_| {});
    let says = |chain: &[&String], what: &str| {
        let chain: String = chain.iter().map(|it| it.as_str()).collect();
        expect_said(chain.as_bytes(), key.as_bytes(), what);
    };
    says(&[&server], GOOD);
    says(&[&server, &middle.pem], GOOD);
    says(&[&server, &middle.pem, &root.pem], GOOD);
    says(&[&middle.pem, &server], "the key belongs to certificate 2");
    says(&[&root.pem, &middle.pem, &server], "the key belongs to certificate 3");
    says(&[&server, &root.pem, &middle.pem], "certificate 2 did not issue the certificate before");
    says(&[&server, &middle.pem, &other.pem], "certificate 3 did not issue the certificate before");
    // The name is right, and the key is not.
    says(&[&server, &namesake.pem], "certificate 2 did not issue the certificate before");
    says(&[&server, &server, &middle.pem], "certificate 2 did not issue the certificate before");
    let nobody = Authority::new("nobody", IsCa::ExplicitNoCa, Some(&root));
    let (server, key) = nobody.issue(|_| {});
    let chain = server + &nobody.pem;
    expect_said(chain.as_bytes(), key.as_bytes(), "certificate 2 is not a CA certificate");
}

#[test]
fn a_certificate_that_is_not_for_servers_is_refused() {
    use ExtendedKeyUsagePurpose::{Any, ClientAuth, ServerAuth};
    let root = Authority::root("root");
    for (purposes, what) in [
        (vec![], GOOD),
        (vec![ServerAuth], GOOD),
        (vec![ClientAuth, ServerAuth], GOOD),
        (vec![Any], GOOD),
        (vec![ClientAuth], "the first certificate is not for servers"),
    ] {
        let (server, key) = root.issue(|it| it.extended_key_usages = purposes);
        expect_said(server.as_bytes(), key.as_bytes(), what);
    }
}

/// The relay does not check a certificate's time: a certificate can serve all the same, and clocks may be wrong.
#[test]
fn a_certificate_whose_time_is_over_or_yet_to_come_is_taken() {
    let root = Authority::root("root");
    for [from, to] in [[2001, 2002], [2801, 2802]] {
        let (server, key) = root.issue(|it| {
            it.not_before = date_time_ymd(from, 1, 1);
            it.not_after = date_time_ymd(to, 1, 1);
        });
        expect_said(server.as_bytes(), key.as_bytes(), GOOD);
    }
}

/// Has openssl make this: a key, a certificate of it or both.
fn openssl(files: &Files, line: &str) {
    let mut command = Command::new("openssl");
    command.args(line.split_whitespace()).current_dir(files.path(""));
    let done = command.stdin(Stdio::null()).output().expect("openssl must be installed");
    assert!(done.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn keys_of_every_kind_are_taken_or_called_by_their_name() {
    for (kind, what) in [
        ("RSA -pkeyopt rsa_keygen_bits:3072", GOOD),
        ("EC -pkeyopt ec_paramgen_curve:P-384", GOOD),
        ("EC -pkeyopt ec_paramgen_curve:P-521", GOOD),
        ("ED25519", GOOD),
        ("RSA -pkeyopt rsa_keygen_bits:1024", "an RSA key that is too short"),
        ("RSA-PSS -pkeyopt rsa_keygen_bits:2048", "an RSA key for RSA-PSS alone"),
        ("EC -pkeyopt ec_paramgen_curve:secp256k1", "an ECDSA key on another curve"),
        ("ED448", "an Ed448 key"),
    ] {
        let files = Files::new(b"", b"");
        openssl(&files, &format!("genpkey -out key.pem -algorithm {kind}"));
        openssl(&files, "req -new -x509 -key key.pem -subj /CN=localhost -out certificate.pem");
        let (code, said) = files.test();
        assert_eq!(code, if what == GOOD { 0 } else { 78 }, "{kind}: {said}");
        assert!(said.contains(what), "{kind}: {said}");
    }
    let files = Files::new(RSA_CERTIFICATE.as_bytes(), b"");
    openssl(&files, "genpkey -out key.pem -algorithm X25519");
    assert!(files.test().1.contains("an X25519 key, which cannot sign"), "{:?}", files.test());
}

#[test]
fn a_certificate_without_extensions_is_refused() {
    let files = Files::new(b"", RSA.as_bytes());
    openssl(&files, "req -new -key key.pem -subj /CN=localhost -out request.pem");
    openssl(&files, "x509 -req -in request.pem -signkey key.pem -out certificate.pem");
    let (code, said) = files.test();
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("certificate 1 has X.509 version 1"), "{said}");
}
