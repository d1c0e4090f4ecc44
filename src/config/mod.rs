//! YAML as written -> each part's own configuration; all faults at once, each with its place.
//!
//! ```text
//!  text ──yaml──> nodes ──variables──> nodes ──deserialize──> Spec ──check──> pipeline::Config
//!                 with positions       with ${env:..} and     as written      as used
//!                                      OTEL_* put in
//! ```
//!
//! What the user wrote and what the program uses are two types: `spec` is the only place that derives `Deserialize`,
//! and the parts know nothing of YAML. Every step reports its faults to the `document::Document` and goes on, so that
//! one run tells everything that is wrong.
//!
//! Precedence of a value: the file, then the environment variable of the OpenTelemetry specification, then the default.

use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, ToSocketAddrs};
use std::path::Path;

use crate::pipeline;

mod address;
mod check;
mod deserialize;
mod document;
mod emit;
mod fault;
mod key_path;
mod node;
mod quantity;
mod reference;
mod scalar;
mod spec;
mod suggestion;
mod variables;
mod yaml;

pub use fault::{Fault, Faults, Place};
pub use reference::{json_schema, markdown, reference_yaml};

use document::Document;
use spec::Spec;
use yaml::FILE_SIZE_MAX;

/// What the configuration is called where there is no file.
const BUILT_IN: &str = "built-in defaults";

/// A configuration without a fault.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Every part's own configuration.
    pub pipeline: pipeline::Config,
    /// What is allowed, but hardly meant; one line each, with its place.
    pub warnings: Vec<String>,
    spec: Spec,
    sources: Vec<variables::Source>,
}

impl Loaded {
    /// The configuration in effect as YAML: every key, defaults filled in, values from the environment with the name of
    /// their variable behind them, secrets as `[redacted]`. It can be loaded again once the secrets are back.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        emit::effective(&self.spec, &self.sources)
    }
}

/// Loads the file, or the built-in defaults if there is none.
///
/// `env` gives the value of an environment variable, and `resolve` the addresses of a host name; see [`environment`]
/// and [`addresses_of`].
///
/// # Errors
/// Everything that is wrong.
pub fn load(
    path: Option<&Path>,
    env: impl Fn(&str) -> Option<String>,
    resolve: impl Fn(&str) -> io::Result<Vec<IpAddr>>,
) -> Result<Loaded, Faults> {
    load_part(path, None, env, resolve)
}

/// Loads some sections of the file, for a command that needs no more. The others need not be right, and the variables in
/// them, which may be secrets that only the service knows, need not be set.
///
/// # Errors
/// Everything that is wrong with these sections, and what keeps the file from being YAML.
pub fn load_sections(
    path: Option<&Path>,
    sections: &[&str],
    env: impl Fn(&str) -> Option<String>,
    resolve: impl Fn(&str) -> io::Result<Vec<IpAddr>>,
) -> Result<Loaded, Faults> {
    load_part(path, Some(sections), env, resolve)
}

fn load_part(
    path: Option<&Path>,
    sections: Option<&[&str]>,
    env: impl Fn(&str) -> Option<String>,
    resolve: impl Fn(&str) -> io::Result<Vec<IpAddr>>,
) -> Result<Loaded, Faults> {
    let Some(path) = path else { return parse_part(BUILT_IN, "", sections, env, resolve) };
    let name = path.display().to_string();
    let bytes = read_file(path)
        .map_err(|error| Faults::of_file(&name, None, format!("the file cannot be read: {error}"), None))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > FILE_SIZE_MAX) {
        let message = "the file is larger than 1MiB; a configuration never is".to_owned();
        return Err(Faults::of_file(&name, None, message, None));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => parse_part(&name, text, sections, env, resolve),
        Err(error) => Err(not_utf8(&name, &bytes, error.valid_up_to())),
    }
}

/// Reads the configuration called `name` from its text.
///
/// # Errors
/// Everything that is wrong.
pub fn parse(
    name: &str,
    text: &str,
    env: impl Fn(&str) -> Option<String>,
    resolve: impl Fn(&str) -> io::Result<Vec<IpAddr>>,
) -> Result<Loaded, Faults> {
    parse_part(name, text, None, env, resolve)
}

fn parse_part(
    name: &str,
    text: &str,
    sections: Option<&[&str]>,
    env: impl Fn(&str) -> Option<String>,
    resolve: impl Fn(&str) -> io::Result<Vec<IpAddr>>,
) -> Result<Loaded, Faults> {
    let mut document = Document::read(name, text)
        .map_err(|fault| Faults::of_file(name, fault.place, fault.message, fault.suggestion))?;
    if let Some(sections) = sections {
        document.keep_only(sections);
    }
    variables::expand(&mut document, &env);
    variables::fill_in(&mut document, &env);
    let spec: Option<Spec> = deserialize::collect(&mut document);
    let built = spec.map(|spec| {
        let pipeline = check::build(&spec, &mut document, &resolve);
        (pipeline, variables::sources(&document), spec)
    });
    let warnings = document.finish()?;
    match built {
        Some((pipeline, sources, spec)) => Ok(Loaded { pipeline, warnings, spec, sources }),
        None => Err(Faults::of_file(name, None, "the file cannot be understood".to_owned(), None)),
    }
}

/// An environment variable of this process; `None` if it is not set or not UTF-8.
#[must_use]
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The addresses of a host name, as the operating system's resolver knows them.
///
/// # Errors
/// Those of the resolver.
pub fn addresses_of(host: &str) -> io::Result<Vec<IpAddr>> {
    Ok((host, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
}

/// Reads a file, but not much more than is allowed of it, whatever it is.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_SIZE_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn not_utf8(name: &str, bytes: &[u8], valid_up_to: usize) -> Faults {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        let message = "the file is UTF-16".to_owned();
        return Faults::of_file(name, None, message, Some("save it as UTF-8; in Notepad: Save as, Encoding"));
    }
    let valid = bytes.get(..valid_up_to).map(String::from_utf8_lossy).unwrap_or_default();
    let lines = yaml::lines(&valid);
    let column = lines.last().map_or(0, |line| line.chars().count()) + 1;
    let place = Place { line: lines.len(), column };
    Faults::of_file(name, Some(place), "the file is not UTF-8".to_owned(), Some("save it as UTF-8"))
}
