//! `sense-otel quarantine show`: one request with all that is in it.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::store::{Poison, QuarantineId};
use crate::telemetry::text::one_line;

use super::{Fault, Place, amount, code_name, content, utc};

#[derive(Debug, clap::Args)]
pub(super) struct ShowArgs {
    /// Number of the request, as the list shows it
    id: u64,
    /// Write the OTLP export request itself, protobuf bytes, to this new file instead; - is the standard output
    #[arg(long, value_name = "FILE")]
    raw: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

/// Shows a request, or writes its bytes.
pub(super) fn run(args: &ShowArgs, out: &mut impl Write) -> Result<ExitCode, Fault> {
    let id = QuarantineId(args.id);
    let poison = args.place.quarantine()?.read(id)?;
    match args.raw.as_deref() {
        Some(path) if path == Path::new("-") => {
            // Not over `out`, which takes out what looks like a colour where no terminal is listening.
            let mut out = io::stdout().lock();
            out.write_all(&poison.body).and_then(|()| out.flush()).map_err(Fault::Output)?;
        }
        Some(path) => {
            write_new(path, &poison.body).map_err(|error| Fault::Raw(path.to_owned(), error))?;
            writeln!(out, "{} bytes written to {}", poison.body.len(), path.display()).map_err(Fault::Output)?;
        }
        None => {
            about(id, &poison, out).map_err(Fault::Output)?;
            let about = &poison.about;
            let lines =
                content::lines(about.signal, &poison.body).map_err(|error| Fault::Content(id, about.signal, error))?;
            for line in lines {
                writeln!(out, "{line}").map_err(Fault::Output)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn about(id: QuarantineId, poison: &Poison, out: &mut impl Write) -> io::Result<()> {
    let about = &poison.about;
    writeln!(out, "request   {id}")?;
    writeln!(out, "given up  {}", utc(about.wall, 3))?;
    writeln!(out, "holds     {}, {} bytes", amount(about.items, about.signal), poison.body.len())?;
    writeln!(out, "code      {} ({})", code_name(about.code), about.code)?;
    writeln!(out, "reason    {}\n", one_line(&about.reason))
}

/// Makes a file that only its owner can read, for it holds personal data.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(bytes)
}
