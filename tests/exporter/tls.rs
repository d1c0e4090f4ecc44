//! Whom the exporter talks to, and that it talks to nobody else.

use super::*;

pub(super) fn secure(addr: SocketAddr, tls: TlsConfig) -> Config {
    let endpoint = format!("https://localhost:{}", addr.port()).parse().expect("an address");
    Config { endpoint, tls, timeout: Duration::from_millis(500), ..config(addr) }
}

#[tokio::test]
async fn a_private_authority_is_trusted_from_its_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new();
    let collector = Collector::with(Options { identity: Some(authority.issue("localhost")), ..Options::default() });
    let ca_file = Some(certificates::write(folder.path(), "ca.pem", &authority.pem()));
    let rig =
        Rig::with_backlog(secure(collector.addr(), TlsConfig { ca_file, ..TlsConfig::default() }), vec![logs(0..4)]);
    rig.delivered(Signal::Logs).await;
    assert_eq!(accepted(&collector), [0, 1, 2, 3]);
    assert_eq!(rig.stop(GRACE).await.acknowledged, 4);
}

#[tokio::test]
async fn the_expected_server_name_can_be_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new();
    let identity = Some(authority.issue("collector.internal"));
    let collector = Collector::with(Options { identity, ..Options::default() });
    let ca_file = Some(certificates::write(folder.path(), "ca.pem", &authority.pem()));

    let wrong_name = TlsConfig { ca_file: ca_file.clone(), ..TlsConfig::default() };
    let rig = Rig::with_backlog(secure(collector.addr(), wrong_name), vec![logs(0..1)]);
    rig.refused_once().await;
    assert_eq!(collector.received().len(), 0, "sent to a server with another name");
    assert_eq!(rig.stop(Duration::from_millis(50)).await.acknowledged, 0);

    let server_name_override = Some("collector.internal".to_owned());
    let tls = TlsConfig { ca_file, server_name_override, ..TlsConfig::default() };
    let rig = Rig::with_backlog(secure(collector.addr(), tls), vec![logs(0..1)]);
    rig.delivered(Signal::Logs).await;
    assert_eq!(rig.stop(GRACE).await.acknowledged, 1);
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_gets_ours() {
    let folder = tempfile::tempdir().expect("a folder");
    let (servers, clients) = (Authority::new(), Authority::new());
    let options = Options {
        identity: Some(servers.issue("localhost")),
        client_authority: Some(clients.pem()),
        ..Options::default()
    };
    let collector = Collector::with(options);
    let ca_file = Some(certificates::write(folder.path(), "ca.pem", &servers.pem()));
    let without = TlsConfig { ca_file, ..TlsConfig::default() };
    let rig = Rig::with_backlog(secure(collector.addr(), without.clone()), vec![logs(0..1)]);
    rig.refused_once().await;
    assert_eq!(collector.received().len(), 0, "came in without a certificate");
    rig.stop(Duration::from_millis(50)).await;

    let own = clients.issue("sense-otel");
    let cert_file = Some(certificates::write(folder.path(), "cert.pem", &own.certificate));
    let key_file = Some(certificates::write(folder.path(), "key.pem", &own.key));
    let tls = TlsConfig { cert_file, key_file, ..without };
    let rig = Rig::with_backlog(secure(collector.addr(), tls), vec![logs(0..1)]);
    rig.delivered(Signal::Logs).await;
    assert_eq!(rig.stop(GRACE).await.acknowledged, 1);
}

#[tokio::test]
async fn an_unknown_authority_gets_nothing_until_its_file_is_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let (trusted, other) = (Authority::new(), Authority::new());
    let collector = Collector::with(Options { identity: Some(other.issue("localhost")), ..Options::default() });
    let ca_file = Some(certificates::write(folder.path(), "ca.pem", &trusted.pem()));
    let rig =
        Rig::with_backlog(secure(collector.addr(), TlsConfig { ca_file, ..TlsConfig::default() }), vec![logs(0..3)]);
    rig.refused_once().await;
    assert_eq!(collector.received().len(), 0, "sent to a server that nobody vouches for");

    certificates::write(folder.path(), "ca.pem", &other.pem());
    rig.delivered(Signal::Logs).await;
    assert_eq!(accepted(&collector), [0, 1, 2]);
    assert_eq!(rig.stop(GRACE).await.acknowledged, 3);
}

#[tokio::test]
async fn with_https_not_one_byte_goes_out_in_plain() {
    use tokio::io::AsyncReadExt;
    let folder = tempfile::tempdir().expect("a folder");
    let ca_file = Some(certificates::write(folder.path(), "ca.pem", &Authority::new().pem()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("bound");
    let headers = vec![("authorization".to_owned(), "Bearer canary".into())];
    let config = Config { headers, ..secure(addr, TlsConfig { ca_file, ..TlsConfig::default() }) };
    let rig = Rig::with_backlog(config, vec![logs(0..3)]);

    let (mut connection, _) = timeout(GRACE, listener.accept()).await.expect("a connection").expect("accepted");
    let mut bytes = Vec::new();
    let _ = timeout(Duration::from_millis(200), connection.read_to_end(&mut bytes)).await;
    assert_eq!(bytes.first(), Some(&0x16), "a TLS handshake begins so");
    for secret in [b"canary".as_slice(), b"event-", b"PRI * HTTP/2.0"] {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    }
    rig.stop(Duration::from_millis(50)).await;
}
