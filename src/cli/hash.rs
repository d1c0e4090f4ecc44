//! `sense-otel hash`: what a user is called where `privacy.user` is `hash`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use thiserror::Error;

use crate::config;
use crate::event::User;
use crate::pipeline::key::{self, KeyError};
use crate::processor::filter::{Handling, Identities};
use crate::processor::ids::Ids;

use super::report;

const EXAMPLES: &str = "\
Examples:
  sense-otel hash --config sense-otel.yaml \"LAB\\anna.berg\"
      The user.hash of Anna Berg: search the backend for it when she asks what
      is stored of her.

Needs the key that the receiver hashes with: privacy.key, or the file that the
first start has put into the folder of the store. Exit codes: 0 done, 1 there
is no key, 2 usage.";

/// Print the hash that stands for a user where privacy.user is `hash`
///
/// The way back, from a hash to the user, does not exist.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct HashArgs {
    /// Users as `DIRECTORY\USER`, in upper or lower case
    #[arg(value_name = "USER", required = true)]
    users: Vec<String>,
    /// Configuration file (YAML) of the receiver; without it every key has its default
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of the store, in place of store.directory in the configuration
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// Why there is no hash.
#[derive(Debug, Error)]
enum HashError {
    #[error("the configuration cannot be used\n{0}")]
    Config(String),
    #[error("there is no key of the receiver; --directory or store.directory says where its store is")]
    Key(#[from] KeyError),
    #[error("cannot write to the standard output")]
    Output(#[source] io::Error),
}

/// Prints the hash of each user, one a line.
pub(crate) fn run(args: &HashArgs) -> ExitCode {
    match hash(args, &mut anstream::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

fn hash(args: &HashArgs, out: &mut impl Write) -> Result<(), HashError> {
    let sections = &["privacy", "store"];
    let loaded = config::load_sections(args.config.as_deref(), sections, config::environment, config::addresses_of)
        .map_err(|faults| HashError::Config(faults.render(true)))?
        .pipeline;
    let key = match loaded.key {
        Some(key) => key,
        None => key::load(args.directory.as_ref().unwrap_or(&loaded.store.directory))?,
    };
    let (ids, mut identities) = (Ids::new(&key), Identities::new(usize::MAX));
    for user in &args.users {
        let (directory, name) = user.split_once('\\').map_or((None, user.as_str()), |(dir, name)| (Some(dir), name));
        let user = User { directory: directory.map(Into::into), name: name.into() };
        let recent = identities.identify(&ids, Handling::Hash, &user);
        writeln!(out, "{}", recent.identity.user_hash().unwrap_or_default()).map_err(HashError::Output)?;
    }
    Ok(())
}
