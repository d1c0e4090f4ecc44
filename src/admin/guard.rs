//! Who may ask, and what a browser may do with an answer.
//!
//! The page needs no password, so another web page must not be able to read it through an administrator's browser. Such a
//! page gives itself away: by its own name in `Host` where its name was made to lead to our address (DNS rebinding), by
//! its own name in `Origin` or the browser's word in `Sec-Fetch-Site` where it asks us directly.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::uri::Authority;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::telemetry::{PageRefusal, Telemetry};

use super::Config;

/// Nothing but our own script and style, nothing from elsewhere, no frame around it, and no HTML made by a script.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                                       connect-src 'self'; base-uri 'none'; form-action 'none'; \
                                       frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// With every answer.
const HEADERS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::CACHE_CONTROL, "no-store"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// The names under which we may be asked.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    names: Arc<[String]>,
    allow_remote: bool,
    telemetry: Telemetry,
}

impl Guard {
    pub(super) fn new(config: &Config, telemetry: Telemetry) -> Self {
        let endpoint = config.endpoint.parse::<Authority>().ok().map(|authority| authority.host().to_owned());
        let names = ["localhost".to_owned()].into_iter().chain(endpoint).chain(config.allowed_hosts.iter().cloned());
        Self { names: names.map(|name| plain(&name)).collect(), allow_remote: config.allow_remote, telemetry }
    }

    fn check(&self, request: &Request) -> Result<(), PageRefusal> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Err(PageRefusal::Method);
        }
        let headers = request.headers();
        let host = only(headers, &header::HOST).ok_or(PageRefusal::Host)?;
        let host: Authority = host.parse().map_err(|_| PageRefusal::Host)?;
        let asked = [Some(&host), request.uri().authority()];
        if !asked.into_iter().flatten().all(|authority| self.is_ours(authority)) {
            return Err(PageRefusal::Host);
        }
        if headers.contains_key(header::ORIGIN) {
            let origin = only(headers, &header::ORIGIN).and_then(|origin| origin.split_once("://"));
            // A proxy with TLS before us changes the scheme and nothing else.
            if !origin.is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host.as_str())) {
                return Err(PageRefusal::Origin);
            }
        }
        match headers.get("sec-fetch-site").map(HeaderValue::as_bytes) {
            None | Some(b"same-origin" | b"none") => Ok(()),
            // Somebody followed a link to the page, which shows nothing to where the link stands.
            Some(_) if headers.get("sec-fetch-mode").is_some_and(|mode| mode == "navigate") => Ok(()),
            Some(_) => Err(PageRefusal::Origin),
        }
    }

    fn is_ours(&self, authority: &Authority) -> bool {
        if authority.as_str().contains('@') {
            return false;
        }
        let host = plain(authority.host());
        match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            // An address belongs to nobody's name, so that no name server can make it lead here.
            Ok(address) => self.allow_remote || address.to_canonical().is_loopback(),
            Err(_) => self.names.contains(&host),
        }
    }
}

/// Lets a request pass that may be answered, and says to the browser what it may do with the answer.
pub(super) async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let mut response = match guard.check(&request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => {
            guard.telemetry.page_refused(refusal);
            refusal.into_response()
        }
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

impl IntoResponse for PageRefusal {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::Host => (
                StatusCode::FORBIDDEN,
                "This receiver does not answer under that name. Use localhost or its address, or add the name to \
                 admin.allowed_hosts in its configuration.\n",
            ),
            Self::Origin => (StatusCode::FORBIDDEN, "Other web pages may not ask this receiver.\n"),
            Self::Method => {
                (StatusCode::METHOD_NOT_ALLOWED, "There is nothing to change here: only GET is answered.\n")
            }
            Self::Viewers => (StatusCode::SERVICE_UNAVAILABLE, "Too many pages are open already.\n"),
            Self::Connections => (StatusCode::SERVICE_UNAVAILABLE, "Too many ask at the same time.\n"),
            Self::Slow => (StatusCode::REQUEST_TIMEOUT, "That took too long.\n"),
        };
        let mut response = (status, text).into_response();
        if self == Self::Method {
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        response
    }
}

/// The value of a header that is there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.to_str().ok()).flatten()
}

/// A name in the form that is compared.
fn plain(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn check(config: &Config, headers: &[(&str, &str)]) -> Result<(), PageRefusal> {
        let mut request = Request::builder().uri("/api/sessions");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Guard::new(config, Telemetry::default()).check(&request.body(Body::empty()).expect("a request"))
    }

    #[test]
    fn only_names_and_addresses_of_our_own_are_answered() {
        let local = Config::at("localhost:13133");
        for host in ["localhost:13133", "LOCALHOST", "localhost.", "127.0.0.1:1", "127.1.2.3", "[::1]:13133", "[::1]"] {
            assert_eq!(check(&local, &[("host", host)]), Ok(()), "{host}");
        }
        let foreign = [
            "evil.example",
            "localhost.evil.example",
            "evil.example:13133",
            "10.0.0.1",
            "[fd00::1]:1",
            "a@localhost",
            "",
        ];
        for host in foreign {
            assert_eq!(check(&local, &[("host", host)]), Err(PageRefusal::Host), "{host}");
        }
        assert_eq!(check(&local, &[]), Err(PageRefusal::Host));
        assert_eq!(check(&local, &[("host", "localhost"), ("host", "localhost")]), Err(PageRefusal::Host));

        let remote =
            Config { allow_remote: true, allowed_hosts: vec!["Sense1.Example.com".to_owned()], ..Config::at("[::]:1") };
        for host in ["sense1.example.com", "10.0.0.1:13133", "[fd00::1]:1", "localhost"] {
            assert_eq!(check(&remote, &[("host", host)]), Ok(()), "{host}");
        }
        assert_eq!(check(&remote, &[("host", "evil.example")]), Err(PageRefusal::Host));
        let named = Config { allow_remote: true, ..Config::at("sense1:13133") };
        assert_eq!(check(&named, &[("host", "sense1:13133")]), Ok(()));
    }

    #[test]
    fn a_page_from_elsewhere_is_refused() {
        let local = Config::at("localhost:13133");
        let host = ("host", "localhost:13133");
        assert_eq!(check(&local, &[host, ("origin", "http://localhost:13133")]), Ok(()));
        assert_eq!(check(&local, &[host, ("origin", "https://localhost:13133")]), Ok(()));
        for origin in
            ["http://evil.example", "http://localhost:8080", "null", "http://localhost:13133.evil.example", ""]
        {
            assert_eq!(check(&local, &[host, ("origin", origin)]), Err(PageRefusal::Origin), "{origin}");
        }
        for (site, mode, expected) in [
            ("same-origin", "cors", Ok(())),
            ("none", "navigate", Ok(())),
            ("cross-site", "navigate", Ok(())),
            ("cross-site", "no-cors", Err(PageRefusal::Origin)),
            ("same-site", "cors", Err(PageRefusal::Origin)),
        ] {
            let headers = [host, ("sec-fetch-site", site), ("sec-fetch-mode", mode)];
            assert_eq!(check(&local, &headers), expected, "{site} {mode}");
        }
    }
}
