//! Any text as a configuration: it is valid and can be printed, or it has faults that are told.
#![no_main]

use std::io;

use libfuzzer_sys::fuzz_target;
use sense_otel::config::parse;

fuzz_target!(|text: &str| {
    // No variable is set and no name is known: a fuzzer asks nobody.
    let unknown = |_: &str| Err(io::Error::from(io::ErrorKind::NotFound));
    match parse("sense-otel.yaml", text, |_| None, unknown) {
        Ok(loaded) => {
            let printed = loaded.to_yaml();
            assert!(!printed.is_empty());
        }
        Err(faults) => assert!(!faults.to_string().is_empty()),
    }
});
