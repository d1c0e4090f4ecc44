//! The file that tells the names of apps: CSV of id and name, read again when it changes.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::event::{Guid, text};

/// Largest file that is read, in bytes: some hundred thousand apps.
const FILE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Names that are kept at most.
const NAMES_MAX: usize = 200_000;

/// The names of apps by their id.
pub(super) type Names = HashMap<Guid, Box<str>>;

/// Why the names could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum NamesError {
    /// The file cannot be opened or read.
    #[error("it cannot be read")]
    File(#[from] io::Error),
    /// The file is larger than 32 MiB.
    #[error("it is larger than 32 MiB")]
    TooLarge,
    /// A line is no CSV.
    #[error("it is not CSV of id,name")]
    Csv(#[from] csv::Error),
    /// There are lines, and none begins with the id of an app and has a name behind it.
    #[error("no line is an app's id and its name, with a comma, a semicolon or a TAB between them")]
    NoNames,
}

/// A names file and the state in which it was last read.
#[derive(Debug)]
pub(super) struct NamesFile {
    path: PathBuf,
    read: Option<(SystemTime, u64)>,
}

impl NamesFile {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path, read: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The names, if the file has changed since they were last read. A file that cannot be read is tried again when it
    /// changes once more.
    pub(super) fn changed(&mut self) -> Result<Option<Names>, NamesError> {
        let metadata = fs::metadata(&self.path)?;
        let state = (metadata.modified()?, metadata.len());
        if self.read == Some(state) {
            return Ok(None);
        }
        self.read = Some(state);
        if metadata.len() > FILE_BYTES_MAX {
            return Err(NamesError::TooLarge);
        }
        let mut text = Vec::new();
        // It may have grown since it was looked at.
        File::open(&self.path)?.take(FILE_BYTES_MAX).read_to_end(&mut text)?;
        parse(&text).map(Some)
    }
}

/// What is wrong with a names file.
pub(super) fn check(path: &Path) -> Result<(), NamesError> {
    NamesFile::new(path.to_owned()).changed().map(drop)
}

/// What stands between id and name: Excel writes semicolons where the comma is the sign of decimals. An id holds none of
/// them, so that the first one in the file is it.
fn delimiter(text: &[u8]) -> u8 {
    text.iter().copied().find(|byte| matches!(byte, b',' | b';' | b'\t')).unwrap_or(b',')
}

/// Lines whose first field is no app id are passed over: a heading is one of them.
fn parse(text: &[u8]) -> Result<Names, NamesError> {
    let mut builder = csv::ReaderBuilder::new();
    let mut reader =
        builder.delimiter(delimiter(text)).has_headers(false).flexible(true).trim(csv::Trim::All).from_reader(text);
    let mut names = Names::new();
    let mut has_lines = false;
    for record in reader.records() {
        let record = record?;
        has_lines = true;
        let id = record.get(0).and_then(|id| Guid::parse(id.trim_start_matches('\u{feff}').as_bytes()));
        let name = record.get(1).map(text::clean).filter(|name| !name.is_empty());
        if let (Some(id), Some(name)) = (id, name)
            && names.len() < NAMES_MAX
        {
            names.insert(id, name.as_ref().into());
        }
    }
    if has_lines && names.is_empty() { Err(NamesError::NoNames) } else { Ok(names) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALES: &str = "a99a0000-0000-4000-8000-000000000001";

    #[test]
    fn names_are_read_with_quotes_headings_and_hostile_characters() {
        let text = format!(
            "id,name\n{SALES},\"Sales, \u{202e}EMEA\"\nnothing,here\nA99A0000-0000-4000-8000-000000000002,HR\n"
        );
        let names = parse(text.as_bytes()).expect("csv");
        let sales = Guid::parse(SALES.as_bytes()).expect("a guid");
        assert_eq!(names.get(&sales).map(AsRef::as_ref), Some("Sales, EMEA"));
        assert_eq!(names.len(), 2);
    }

    #[test]
    fn semicolons_and_tabs_part_too_and_a_file_of_no_names_is_told() {
        for (text, name) in [
            (format!("App id;App name\r\n{SALES};Sales, EMEA\r\n"), "Sales, EMEA"),
            (format!("{SALES}\t\"Sales; EMEA\"\n"), "Sales; EMEA"),
        ] {
            let names = parse(text.as_bytes()).expect("csv");
            assert_eq!(names.values().map(AsRef::as_ref).collect::<Vec<&str>>(), [name]);
        }
        let swapped = format!("Sales,{SALES}\n");
        assert!(matches!(parse(swapped.as_bytes()), Err(NamesError::NoNames)));
        assert!(parse(b"").is_ok_and(|names| names.is_empty()), "not written yet");
    }

    #[test]
    fn a_file_is_read_again_when_it_changes_and_only_then() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("apps.csv");
        let mut file = NamesFile::new(path.clone());
        assert!(file.changed().is_err(), "not there yet");
        fs::write(&path, format!("{SALES},Sales\n")).expect("written");
        assert_eq!(file.changed().expect("readable").map(|names| names.len()), Some(1));
        assert!(file.changed().expect("readable").is_none());
        fs::write(&path, format!("{SALES},Sales of all\n")).expect("written");
        assert!(file.changed().expect("readable").is_some());
    }
}
