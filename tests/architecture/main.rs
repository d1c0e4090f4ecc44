//! The house rules, as a test: where imports may point, what a pure module may not touch, how long files and functions
//! may be, and that nothing is left over. `planted` holds a violation of each, so that the rules themselves are tested.

#![expect(clippy::expect_used, reason = "what a test's helper finds wrong fails the test")]

mod planted;
mod rules;
mod source;

use std::fs;
use std::path::Path;
use std::slice;

use source::Source;

/// Every Rust file in this folder of the package, sorted by path.
fn sources(folder: &str) -> Vec<Source> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![package.join(folder)];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of the package") {
            let path = entry.expect("an entry of a folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a Rust file in UTF-8");
                let path = path.strip_prefix(package).expect("a path inside the package");
                sources.push(Source::new(&path.to_string_lossy().replace('\\', "/"), &text));
            }
        }
    }
    sources.sort_by(|left, right| left.path.cmp(&right.path));
    sources
}

#[test]
fn the_code_keeps_the_rules_of_the_house() {
    let sources = sources("src");
    assert!(sources.iter().any(|source| source.path == "src/lib.rs"), "the files of src were not found");
    let violations = sources.iter().flat_map(rules::violations).collect::<Vec<_>>();
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn no_test_is_skipped_or_missing() {
    let sources = ["tests", "benches"].iter().flat_map(|folder| sources(folder)).collect::<Vec<_>>();
    assert!(sources.iter().any(|source| source.path == "tests/architecture/main.rs"));
    let leftovers = sources.iter().flat_map(|source| {
        let found = rules::leftovers(source).into_iter();
        found.map(|(line, what)| format!("{}:{line}: {what}", source.path))
    });
    let leftovers = leftovers.collect::<Vec<_>>();
    assert!(leftovers.is_empty(), "{}", leftovers.join("\n"));
}

#[test]
fn the_table_in_the_crate_head_is_the_map_of_the_rules() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
    let head = fs::read_to_string(path).expect("src/lib.rs");
    let mut told = Vec::new();
    for line in head.lines() {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let (Some(layer), Some(modules)) = (cells.next().and_then(|cell| cell.parse::<u8>().ok()), cells.next()) else {
            continue;
        };
        for module in modules.split(", ") {
            let (name, mark) = module.split_once(' ').unwrap_or((module, ""));
            let name = name.trim_matches('`').to_owned();
            let part = rules::part_of(slice::from_ref(&name)).expect("a module that the rules know");
            assert_eq!((part.layer, part.pure), (layer, mark == "P"), "{name} in the table of src/lib.rs");
            told.push(name);
        }
    }
    let declared = head.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    for module in declared {
        assert!(told.iter().any(|name| name == module), "{module} is not in the table of src/lib.rs");
    }
}
