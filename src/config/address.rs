//! Addresses as they are written: `host:port`, networks, the URL of an OTLP server.

use std::net::{IpAddr, Ipv6Addr};

use http::Uri;
use ipnet::IpNet;

/// What is wrong with an address: the end of a sentence that begins with it, and what to write instead.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) predicate: &'static str,
    pub(super) suggestion: Option<String>,
}

impl Refusal {
    fn new(predicate: &'static str) -> Self {
        Self { predicate, suggestion: None }
    }

    fn suggesting(predicate: &'static str, suggestion: String) -> Self {
        Self { predicate, suggestion: Some(suggestion) }
    }
}

/// Takes `host:port` apart; the host of `[::1]:80` is `::1`.
pub(super) fn split_host_port(text: &str) -> Result<(&str, u16), Refusal> {
    if text.contains("://") {
        return Err(Refusal::new("is a URL; only `host:port` belongs here"));
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(Refusal::suggesting("has no port", format!("put the address in brackets: `[{text}]:port`")));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(Refusal::new("has no port; write `host:port`"));
    };
    let Some(port) = parse_port(port) else {
        return Err(Refusal::new("has no valid port; a port is a number from 0 to 65535"));
    };
    if host.is_empty() {
        return Err(Refusal::suggesting(
            "has no host",
            format!("for all addresses write `\"[::]:{port}\"`, with the quotes"),
        ));
    }
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_valid = match bracketed {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => is_host(host),
    };
    if !is_valid {
        return Err(Refusal::new("has no valid host before the port"));
    }
    Ok((bracketed.unwrap_or(host), port))
}

/// A port without a sign, which `parse` alone would take.
fn parse_port(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// An IPv4 address or a host name.
pub(super) fn is_host(text: &str) -> bool {
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        // Resolvers read `10.0.1` as 10.0.0.1, which nobody means.
        return text.parse::<std::net::Ipv4Addr>().is_ok();
    }
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    text.len() <= 253 && text.strip_suffix('.').unwrap_or(text).split('.').all(is_label)
}

/// Whether a host is this machine, without asking anyone.
pub(super) fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = host.strip_suffix('.').unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || host.to_ascii_lowercase().ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// One entry of `allowed_sources`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Source<'a> {
    Network(IpNet),
    HostName(&'a str),
}

/// Reads a network, an address or a host name.
pub(super) fn parse_source(text: &str) -> Result<Source<'_>, Refusal> {
    if let Ok(network) = text.parse::<IpNet>() {
        return Ok(Source::Network(network.trunc()));
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Source::Network(IpNet::from(address.to_canonical())));
    }
    if text.contains('/') {
        return Err(Refusal::new("is no network; one is written `10.0.0.0/8` or `fd00::/8`"));
    }
    if is_host(text) {
        return Ok(Source::HostName(text));
    }
    Err(Refusal::new("is neither a network nor an address nor a host name"))
}

/// Reads the URL of an OTLP/gRPC server.
pub(super) fn parse_url(text: &str) -> Result<Uri, Refusal> {
    const NO_URL: &str = "is no URL of an OTLP/gRPC server";
    let example = || Refusal::suggesting(NO_URL, "write for example `http://localhost:4317`".to_owned());
    if text.contains('@') {
        // Said without the text: what stands before the `@` is a secret.
        return Err(Refusal::new("has a user name in it; credentials belong in `exporter.headers`"));
    }
    if !text.contains("://") {
        return Err(match split_host_port(text) {
            Ok(_) => {
                Refusal::suggesting("has no scheme", format!("write `http://{text}`, or `https://{text}` for TLS"))
            }
            Err(_) => example(),
        });
    }
    let uri: Uri = text.parse().map_err(|_| example())?;
    let (Some(scheme), Some(host)) = (uri.scheme_str(), uri.host()) else { return Err(example()) };
    if !matches!(scheme, "http" | "https") {
        let suggestion = "write `http://` or `https://`; gRPC goes over both".to_owned();
        return Err(Refusal::suggesting("has a scheme that is not understood", suggestion));
    }
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if !bracketed.map_or_else(|| is_host(host), |address| address.parse::<Ipv6Addr>().is_ok()) {
        return Err(example());
    }
    if uri.path() != "/" || uri.query().is_some() || text.contains('#') {
        let suggestion = format!("write `{scheme}://{}`", uri.authority().map_or("", |authority| authority.as_str()));
        return Err(Refusal::suggesting("has a path, which OTLP over gRPC does not use", suggestion));
    }
    let has_port = uri.authority().is_some_and(|authority| authority.as_str() != host);
    match uri.port_u16() {
        Some(0) => Err(Refusal::new("has the port 0, which nothing can be sent to")),
        None if has_port => Err(Refusal::new("has no valid port; a port is a number from 1 to 65535")),
        None if scheme == "http" => Err(Refusal::suggesting("has no port", format!("write `http://{host}:4317`"))),
        _ => Ok(uri),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_are_taken_apart() {
        for (text, expected) in [
            ("localhost:9997", ("localhost", 9997)),
            ("[::]:9997", ("::", 9997)),
            ("0.0.0.0:0", ("0.0.0.0", 0)),
            ("sense_1.example.com.:65535", ("sense_1.example.com.", 65_535)),
        ] {
            assert_eq!(split_host_port(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            ":9997",
            "localhost",
            "::1",
            "[::1]",
            "localhost:",
            "localhost:65536",
            "localhost:+1",
            "a b:1",
            "-a:1",
            "[x]:1",
            "10.1:1",
            "http://a:1",
            "a..b:1",
        ] {
            assert!(split_host_port(text).is_err(), "{text}");
        }
    }

    #[test]
    fn this_machine_is_recognised() {
        for host in [
            "localhost",
            "LOCALHOST",
            "localhost.",
            "a.localhost",
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "[::1]",
            "::ffff:127.0.0.1",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["", "0.0.0.0", "::", "notlocalhost", "10.0.0.1", "localhost.example.com"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn sources_are_networks_or_names() {
        for (text, expected) in [
            ("10.1.2.3/8", Source::Network("10.0.0.0/8".parse().unwrap())),
            ("10.1.2.3", Source::Network("10.1.2.3/32".parse().unwrap())),
            ("::ffff:10.1.2.3", Source::Network("10.1.2.3/32".parse().unwrap())),
            ("fd00::/8", Source::Network("fd00::/8".parse().unwrap())),
            ("sense1", Source::HostName("sense1")),
        ] {
            assert_eq!(parse_source(text), Ok(expected), "{text}");
        }
        for text in ["", "10.0.0.0/33", "10.0.0", "a b", "sense1/24", "*"] {
            assert!(parse_source(text).is_err(), "{text}");
        }
    }

    #[test]
    fn urls_name_a_grpc_server() {
        for text in ["http://localhost:4317", "https://api.example.com", "https://[::1]:4317/", "http://10.0.0.1:80"] {
            assert!(parse_url(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "localhost:4317",
            "http://",
            "http://a",
            "http://a:0",
            "http://a:99999",
            "http://a:x",
            "ftp://a:1",
            "http://u:p@a:1",
            "http://a:1/v1/traces",
            "http://a:1?x",
            "http://a:1/#x",
            "http://a b:1",
            "http://10.1:1",
            "https://a:",
            "//a:1",
        ] {
            assert!(parse_url(text).is_err(), "{text}");
        }
    }
}
