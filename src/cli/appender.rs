//! `sense-otel appender`: prints the log4net configuration that makes a proxy node send its events here.
//!
//! Only converters that Qlik documents or that log4net brings along are used, and each of Qlik's is registered with the
//! layout that uses it: an unregistered one would print its own name into every datagram.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use clap::ValueEnum;
use serde::Serialize;
use thiserror::Error;

use crate::event::Format;

/// Longest host name of DNS, and longest part of one, in characters.
const HOST_LENGTH_MAX: usize = 253;
const LABEL_LENGTH_MAX: usize = 63;

const START_AND_STOP: [&str; 2] = ["Start session for user", "Stop session for user"];
const OPENED_AND_CLOSED: [&str; 2] = ["connection Opened for session", "connection Closed for session"];

/// The fields of the extended format, as `event::extended` reads them. A TAB stands between them, because `;` occurs in
/// values; it is written as a character reference, because a TAB itself would become a space when the attribute is read.
const EXTENDED_PATTERN: [&str; 14] = [
    "/sense-otel/1/",
    "%rownum{2147483647}",
    "%utcdate{yyyy-MM-ddTHH:mm:ss.fffZ}",
    "%hostname",
    "%property{ProxySessionId}",
    "%property{Command}",
    "%property{Result}",
    "%property{UserDirectory}",
    "%property{UserId}",
    "%property{Origin}",
    "%property{ObjectId}",
    "%property{ObjectName}",
    "%property{Context}",
    "%message",
];

/// The fields of the stock format after the type.
const STOCK_PATTERN: [&str; 7] = [
    "%hostname",
    "%property{Command}",
    "%property{UserDirectory}",
    "%property{UserId}",
    "%property{Origin}",
    "%property{Context}",
    "%message",
];

const ROWNUM: Converter = Converter { name: "rownum", class: "CounterPatternConverter" };
const HOSTNAME: Converter = Converter { name: "hostname", class: "HostNamePatternConverter" };

/// Print a LocalLogConfig.xml for the proxy nodes
#[derive(Debug, clap::Args)]
pub(crate) struct AppenderArgs {
    /// Where the proxy nodes reach sense-otel: an address or a name, and the UDP port
    #[arg(long, value_name = "HOST:PORT")]
    to: Target,

    /// File to write it to; otherwise it goes to the standard output
    ///
    /// On Windows better than `>`, with which PowerShell writes UTF-16 into a file that says of itself that it is UTF-8.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    /// What the datagrams carry
    #[arg(long, value_enum, default_value_t = WireFormat::Extended)]
    format: WireFormat,
}

/// A wire format as it is named on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WireFormat {
    /// Sequence, time and session id: lost datagrams are known, sessions are told apart
    Extended,
    /// What Butler SOS uses
    Stock,
}

impl Display for WireFormat {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Extended => "extended",
            Self::Stock => "stock",
        })
    }
}

impl From<WireFormat> for Format {
    fn from(format: WireFormat) -> Self {
        match format {
            WireFormat::Extended => Self::Extended,
            WireFormat::Stock => Self::Stock,
        }
    }
}

/// Prints the configuration.
pub(crate) fn run(args: &AppenderArgs) -> ExitCode {
    if args.to.is_loopback() {
        anstream::eprintln!(
            "warning: {} is the proxy node itself, from its point of view: right only if sense-otel runs there",
            args.to.host
        );
    }
    let text = render(&args.to, args.format);
    let Some(path) = &args.output else {
        anstream::print!("{text}");
        return ExitCode::SUCCESS;
    };
    match fs::write(path, text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("error: cannot write {}: {error}", path.display());
            ExitCode::FAILURE
        }
    }
}

/// The host and the port of a receiver, not resolved. Nothing in it needs escaping in XML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    host: String,
    port: u16,
}

/// Why a text is no [`Target`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum TargetError {
    #[error("a port is missing: write host:port, or [address]:port for IPv6")]
    NoPort,
    #[error("the port is a number from 1 to 65535")]
    Port,
    #[error("the host is an IPv4 address, an IPv6 address in brackets, or a name of letters, digits, dots and hyphens")]
    Host,
    #[error(
        "that stands for every address of a machine, and nothing can be sent to it; name the machine of sense-otel"
    )]
    Unspecified,
}

impl Target {
    fn is_loopback(&self) -> bool {
        let address = self.host.parse::<IpAddr>();
        address.map_or_else(|_| self.host.eq_ignore_ascii_case("localhost"), |address| address.is_loopback())
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let (host, port) = text.rsplit_once(':').ok_or(TargetError::NoPort)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or(TargetError::Port)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_valid = match bracketed {
            Some(inner) => matches!(inner.parse(), Ok(IpAddr::V6(_))),
            None => is_host_name(host),
        };
        if !is_valid {
            return Err(TargetError::Host);
        }
        let host = bracketed.unwrap_or(host);
        if host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified()) {
            return Err(TargetError::Unspecified);
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

/// Whether it is a name that DNS could know; an IPv4 address is one in form.
fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=LABEL_LENGTH_MAX).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= HOST_LENGTH_MAX && text.split('.').all(is_label)
}

/// One of Qlik's pattern converters.
#[derive(Clone, Copy, Debug)]
struct Converter {
    name: &'static str,
    class: &'static str,
}

/// One `appender` element.
#[derive(Debug)]
struct Appender<'a> {
    name: &'static str,
    target: &'a Target,
    phrases: &'a [&'static str],
    converters: &'a [Converter],
    pattern: String,
}

impl Display for Appender<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        writeln!(out, r#"    <appender name="{}" type="log4net.Appender.UdpAppender">"#, self.name)?;
        for phrase in self.phrases {
            writeln!(out, r#"        <filter type="log4net.Filter.StringMatchFilter">"#)?;
            writeln!(out, r#"            <param name="stringToMatch" value="{phrase}"/>"#)?;
            writeln!(out, "        </filter>")?;
        }
        writeln!(out, r#"        <filter type="log4net.Filter.DenyAllFilter"/>"#)?;
        writeln!(out, r#"        <param name="remoteAddress" value="{}"/>"#, self.target.host)?;
        writeln!(out, r#"        <param name="remotePort" value="{}"/>"#, self.target.port)?;
        writeln!(out, r#"        <param name="encoding" value="utf-8"/>"#)?;
        writeln!(out, r#"        <layout type="log4net.Layout.PatternLayout">"#)?;
        for Converter { name, class } in self.converters {
            writeln!(out, "            <converter>")?;
            writeln!(out, r#"                <param name="name" value="{name}"/>"#)?;
            writeln!(
                out,
                r#"                <param name="type" value="Qlik.Sense.Logging.log4net.Layout.Pattern.{class}"/>"#
            )?;
            writeln!(out, "            </converter>")?;
        }
        writeln!(out, r#"            <param name="conversionpattern" value="{}"/>"#, self.pattern)?;
        writeln!(out, "        </layout>")?;
        writeln!(out, "    </appender>")
    }
}

/// The whole file. The target stands in attributes only, never in a comment: a name may hold two hyphens, which end one.
fn render(target: &Target, format: WireFormat) -> String {
    let stock = |name, kind, phrases| Appender {
        name,
        target,
        phrases,
        converters: &[HOSTNAME],
        pattern: format!("/qseow-proxy-{kind}/;{}", STOCK_PATTERN.join(";")),
    };
    let every_phrase = [START_AND_STOP, OPENED_AND_CLOSED].concat();
    let appenders = match format {
        WireFormat::Extended => vec![Appender {
            name: "SenseOtel",
            target,
            phrases: &every_phrase,
            converters: &[ROWNUM, HOSTNAME],
            pattern: EXTENDED_PATTERN.join("&#9;"),
        }],
        WireFormat::Stock => vec![
            stock("SenseOtelSession", "session", &START_AND_STOP),
            stock("SenseOtelConnection", "connection", &OPENED_AND_CLOSED),
        ],
    };
    let elements: Vec<_> = appenders.iter().map(Appender::to_string).collect();
    let references: String =
        appenders.iter().map(|appender| format!("        <appender-ref ref=\"{}\"/>\n", appender.name)).collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{ADVICE}<configuration>\n{}\n    \
         <logger name=\"AuditActivity.Proxy\">\n{references}    </logger>\n</configuration>\n",
        elements.join("\n")
    )
}

const ADVICE: &str = r#"<!--
    Sends what users do, as it happens, to sense-otel by UDP: one datagram for each start and stop of a session and for
    each opening and closing of a connection. What Qlik Sense writes to its own log files stays as it is.

    1. Put this file on every proxy node, under exactly this name:
           C:\ProgramData\Qlik\Sense\Proxy\LocalLogConfig.xml
       Where there is one already (Butler SOS has one), add the appender and the appender-ref lines to it instead.
    2. In the QMC, under Proxies, Logging: set the audit activity log level of every proxy to Basic or higher. At Off
       nothing is sent.
    3. The proxy usually reads the file by itself after a while; if it does not, restart the Qlik Sense Proxy Service.
    4. Let UDP through from every proxy node to the address and port below.

    remoteAddress may be a host name, but log4net looks it up only once, when it reads this file, and takes the first
    address, IPv4 or IPv6. If the name cannot be looked up then, nothing is ever sent, without a word in any log file; if
    its address changes later, save this file again or restart the proxy.
-->
"#;

#[cfg(test)]
mod tests;
