//! The rules, each a function from a file to what is wrong with it.

use crate::source::{Path, Source};

/// A module or folder of `src` and its place in the house.
#[derive(Debug)]
pub(crate) struct Part {
    /// Path of the module below the crate, with `/`. It covers the file of that name and the folder.
    module: &'static str,
    /// May import only from strictly lower layers, or from its own folder.
    pub(crate) layer: u8,
    /// Whether it is pure: bytes and time go in, outputs come out.
    pub(crate) pure: bool,
}

const fn part(module: &'static str, layer: u8, pure: bool) -> Part {
    Part { module, layer, pure }
}

/// The first that covers a module is its part: files stand before their folders.
const PARTS: [Part; 18] = [
    part("cli", 6, false),
    part("config", 5, false),
    part("pipeline", 4, false),
    part("receiver", 3, false),
    part("exporter/retry", 3, true),
    part("exporter", 3, false),
    part("admin", 3, false),
    part("processor", 2, true),
    part("otlp", 2, true),
    part("simulator", 2, true),
    part("store/commit", 2, true),
    part("store/frame", 2, true),
    part("store/pieces", 2, true),
    part("store", 2, false),
    part("telemetry", 2, false),
    part("event", 1, true),
    part("signal", 1, true),
    part("time", 0, true),
];

/// What a pure module may not name, by how a path begins.
const FORBIDDEN_ROOTS: [&str; 19] = [
    "getrandom",
    "nix",
    "opentelemetry",
    "opentelemetry_otlp",
    "opentelemetry_sdk",
    "rustls",
    "socket2",
    "std::env",
    "std::fs",
    "std::io::stderr",
    "std::io::stdin",
    "std::io::stdout",
    "std::process",
    "std::thread",
    "tokio",
    "tonic::client",
    "tonic::server",
    "tonic::transport",
    "tracing",
];

/// What a pure module may not name, wherever in a path: a clock, a socket, a thread.
const FORBIDDEN_WORDS: [&str; 9] = [
    "Instant",
    "SystemTime",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "UnixDatagram",
    "UnixListener",
    "UnixStream",
    "available_parallelism",
];

/// What a pure module may not call: clocks and unseeded randomness of the crates that it may use.
const FORBIDDEN_CALLS: [&str; 5] =
    ["Timestamp::now", "Zoned::now", "TimeZone::system", "fastrand::Rng::new", "Rng::new"];

const PRINTING: [&str; 5] = ["dbg", "eprint", "eprintln", "print", "println"];

/// Lines of code in a source file, without blank lines, comments and tests.
const FILE_LINES_MAX: usize = 400;
/// Lines of code in a function, from `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;

/// All that is wrong in a file below `src`, each with file and line.
pub(crate) fn violations(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    if source.path == "src/lib.rs" {
        found.extend(code_in_the_crate_head(source));
    } else {
        let module = module_of(&source.path);
        match part_of(&module) {
            Some(part) => {
                found.extend(imports(source, &module, part));
                if part.pure {
                    found.extend(impurities(source));
                }
            }
            None => found.push((1, format!("`{}` is not in the map of parts", module.join("::")))),
        }
    }
    found.extend(sizes(source));
    found.extend(leftovers(source));
    found.sort();
    found.dedup();
    found.into_iter().map(|(line, what)| format!("{}:{line}: {what}", source.path)).collect()
}

/// Tests that are skipped and code that is missing, in any file of the package.
pub(crate) fn leftovers(source: &Source) -> Vec<(usize, String)> {
    let sequences = [["#", "[", "ignore"], ["todo", "!", "("], ["unimplemented", "!", "("]];
    let found = sequences.iter().flat_map(|tokens| {
        let offsets = source.sequences(tokens).into_iter();
        offsets.map(|offset| (source.line(offset), format!("`{}` is left over", tokens.concat())))
    });
    found.collect()
}

/// The part that covers a module.
pub(crate) fn part_of(module: &[String]) -> Option<&'static Part> {
    let module = module.join("/");
    PARTS
        .iter()
        .find(|part| module.strip_prefix(part.module).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

/// The module that a file below `src` is. `main.rs` counts as one of `cli`, for it does nothing but call it.
fn module_of(path: &str) -> Vec<String> {
    let path = path.strip_prefix("src/").unwrap_or(path);
    let path = if path == "main.rs" { "cli/main.rs" } else { path };
    let path = path.strip_suffix(".rs").unwrap_or(path);
    path.strip_suffix("/mod").unwrap_or(path).split('/').map(str::to_owned).collect()
}

fn code_in_the_crate_head(source: &Source) -> Vec<(usize, String)> {
    let code = source.lines().filter(|(_, line)| {
        let module = line.trim_start_matches("pub ").strip_prefix("mod ").is_some_and(|rest| rest.ends_with(';'));
        !module && !line.starts_with('#')
    });
    code.map(|(line, _)| (line, "the crate head holds only attributes and `mod` lines".to_owned())).collect()
}

/// Imports that do not point strictly down, nor into the own folder; and from pure into impure modules.
fn imports(source: &Source, module: &[String], part: &Part) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for path in source.paths() {
        let Some(target) = target(source, module, &path) else {
            continue;
        };
        let name = target.join("::");
        let line = source.line(path.offset);
        match part_of(&target) {
            None => found.push((line, format!("`{}` is in no part of the map", path.segments.join("::")))),
            Some(other) if target[0] != module[0] && other.layer >= part.layer => {
                found.push((line, format!("layer {} imports `{name}` of layer {}", part.layer, other.layer)));
            }
            Some(other) if part.pure && !other.pure && !source.is_test(path.offset) => {
                found.push((line, format!("a pure module imports `{name}`, which is not pure")));
            }
            Some(_) => {}
        }
    }
    found
}

/// What a path names, from the crate's root; `None` if it does not begin there or at the own module.
fn target(source: &Source, module: &[String], path: &Path) -> Option<Vec<String>> {
    let (first, mut rest) = path.segments.split_first()?;
    let mut target = Vec::new();
    match first.as_str() {
        "crate" | "sense_otel" => {}
        "super" | "self" if path.segments.len() > 1 || first == "super" => {
            target = module.to_vec();
            target.extend(source.inline_modules_at(path.offset).map(str::to_owned));
            if first == "super" {
                target.pop();
            }
            while let Some((_, after)) = rest.split_first().filter(|(segment, _)| *segment == "super") {
                target.pop();
                rest = after;
            }
        }
        _ => return None,
    }
    target.extend_from_slice(rest);
    Some(target)
}

fn impurities(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for path in source.paths() {
        if source.is_test(path.offset) {
            continue;
        }
        let name = path.segments.join("::");
        let begins = |root: &str| name.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
        let calls = |call: &&str| name == **call || name.ends_with(&format!("::{call}"));
        if FORBIDDEN_ROOTS.iter().any(|root| begins(root))
            || path.segments.iter().any(|segment| FORBIDDEN_WORDS.contains(&segment.as_str()))
            || FORBIDDEN_CALLS.iter().any(calls)
            || name.strip_prefix("fastrand::").is_some_and(|rest| rest.starts_with(char::is_lowercase))
        {
            found.push((source.line(path.offset), format!("a pure module names `{name}`")));
        }
    }
    for name in PRINTING {
        let offsets = source.sequences(&[name, "!"]).into_iter().filter(|&offset| !source.is_test(offset));
        found.extend(offsets.map(|offset| (source.line(offset), format!("a pure module prints with `{name}!`"))));
    }
    found
}

fn sizes(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let lines = source.code_lines(source.whole());
    if lines > FILE_LINES_MAX {
        found.push((1, format!("{lines} lines of code, more than {FILE_LINES_MAX}")));
    }
    for function in source.functions() {
        let line = source.line(function.span.start);
        let lines = source.code_lines(function.span);
        if lines > FUNCTION_LINES_MAX {
            found.push((line, format!("`{}` has {lines} lines, more than {FUNCTION_LINES_MAX}", function.name)));
        }
    }
    found
}
