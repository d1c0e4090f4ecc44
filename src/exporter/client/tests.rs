use std::error::Error;

use super::*;
use crate::exporter::RetryConfig;

fn config(endpoint: &str) -> Config {
    Config {
        endpoint: endpoint.parse().expect("a URI"),
        signals: vec![Signal::Logs],
        headers: Vec::new(),
        tls: TlsConfig::default(),
        compression: Compression::Gzip,
        timeout: Duration::from_secs(1),
        retry: RetryConfig { initial_interval: Duration::from_secs(1), max_interval: Duration::from_secs(30) },
    }
}

fn with_header(name: &str, value: &str) -> Config {
    Config { headers: vec![(name.to_owned(), value.to_owned().into())], ..config("http://localhost:4317") }
}

fn build_error(tls: TlsConfig) -> BuildError {
    channel(&Config { tls, ..config("https://localhost:4317") }).expect_err("not usable")
}

#[test]
fn headers_become_sensitive_metadata() {
    let metadata = metadata(&with_header("authorization", "Bearer canary")).expect("legal");
    let value = metadata.get("authorization").expect("there");
    assert_eq!(value, "Bearer canary");
    assert!(value.is_sensitive());
    assert!(!format!("{metadata:?}").contains("canary"));
}

#[test]
fn headers_that_cannot_be_sent_are_named_without_their_value() {
    for (name, value) in [
        ("no spaces", "canary"),
        ("", "canary"),
        ("te", "canary"),
        ("content-type", "canary"),
        ("grpc-timeout", "canary"),
        ("x-line", "canary\nx: y"),
        ("x-token-bin", "canary is no base64"),
        ("X-Token-Bin", "canary is no base64"),
    ] {
        let error = metadata(&with_header(name, value)).expect_err(name);
        assert!(matches!(error, BuildError::HeaderName { .. } | BuildError::HeaderValue { .. }), "{name}");
        assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
    }
}

#[tokio::test]
async fn an_endpoint_needs_a_scheme_that_we_speak_and_a_host() {
    for endpoint in ["ftp://localhost:4317", "localhost:4317", "/path"] {
        assert!(matches!(channel(&config(endpoint)), Err(BuildError::Endpoint)), "{endpoint}");
    }
    for endpoint in ["http://localhost:4317", "http://[::1]:4317", "https://127.0.0.1:4317"] {
        let authority = tempfile::NamedTempFile::new().expect("a file");
        let pem = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a name").cert.pem();
        fs::write(authority.path(), pem).expect("written");
        let tls = TlsConfig { ca_file: Some(authority.path().to_owned()), ..TlsConfig::default() };
        assert!(channel(&Config { tls, ..config(endpoint) }).is_ok(), "{endpoint}");
    }
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("written");
        path
    };
    let good = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a name");
    let cert = write("cert.pem", &good.cert.pem());
    let key = write("key.pem", &good.signing_key.serialize_pem());
    let other_key = write("other.pem", &rcgen::KeyPair::generate().expect("a key").serialize_pem());
    let empty = write("empty.pem", "");
    let hollow = write("hollow.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let missing = folder.path().join("missing.pem");
    let authorities = |path: &Path| TlsConfig { ca_file: Some(path.to_owned()), ..TlsConfig::default() };
    let identity = |cert: &Path, key: &Path| TlsConfig {
        cert_file: Some(cert.to_owned()),
        key_file: Some(key.to_owned()),
        ..authorities(&folder.path().join("cert.pem"))
    };

    assert!(matches!(build_error(authorities(&missing)), BuildError::Read { path, .. } if path == missing));
    assert!(matches!(build_error(authorities(&empty)), BuildError::Certificate { path } if path == empty));
    assert!(matches!(build_error(authorities(&hollow)), BuildError::Certificate { path } if path == hollow));
    assert!(matches!(build_error(identity(&empty, &key)), BuildError::Certificate { path } if path == empty));
    assert!(matches!(build_error(identity(&cert, &empty)), BuildError::Key { path } if path == empty));
    assert!(matches!(build_error(identity(&missing, &key)), BuildError::Read { path, .. } if path == missing));
    assert!(matches!(build_error(identity(&cert, &other_key)), BuildError::Tls(_)), "a key of another certificate");
    let half = TlsConfig { key_file: None, ..identity(&cert, &key) };
    assert!(matches!(build_error(half), BuildError::HalfIdentity));
}

#[test]
fn a_mistaken_key_is_not_quoted() {
    let folder = tempfile::tempdir().expect("a folder");
    let good = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a name");
    let cert = folder.path().join("cert.pem");
    let key = folder.path().join("key.pem");
    fs::write(&cert, good.cert.pem()).expect("written");
    fs::write(&key, "-----BEGIN PRIVATE KEY-----\nY2FuYXJ5\n-----END PRIVATE KEY-----\n").expect("written");
    let ca_file = Some(cert.clone());
    let tls = TlsConfig { ca_file, cert_file: Some(cert), key_file: Some(key), ..TlsConfig::default() };
    let error = build_error(tls);
    let source = error.source().map(|source| format!("{source} {source:?}")).unwrap_or_default();
    let text = format!("{error} {error:?} {source}");
    assert!(!text.contains("canary") && !text.contains("Y2FuYXJ5"), "{text}");
}

#[test]
fn parts_are_written_one_behind_the_other() {
    let parts = ["stored", "", "as", "it was"].map(Bytes::from);
    let encoder = Concatenation { length: 14 };
    let body = EncodeBody::new_client(encoder, stream::iter([Ok(parts.to_vec())]), None, None);
    let mut body = std::pin::pin!(body);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let frame = match tonic::codegen::Body::poll_frame(body.as_mut(), &mut context) {
        std::task::Poll::Ready(Some(Ok(frame))) => frame.into_data().expect("data"),
        _ => panic!("nothing was written"),
    };
    assert_eq!(&frame[..], b"\0\0\0\0\x0estoredasit was");
}
