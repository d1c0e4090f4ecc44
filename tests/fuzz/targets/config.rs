//! Any text as a configuration: it is valid, and what is printed of it means the same, or it has faults that are told.
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
            if !printed.contains("[redacted]") {
                match parse("printed.yaml", &printed, |_| None, unknown) {
                    // To print the same would not be enough: what is printed wrong would be read wrong, and printed so again.
                    Ok(again) => assert_eq!(format!("{:?}", again.pipeline), format!("{:?}", loaded.pipeline)),
                    Err(faults) => panic!("{faults}\n{printed}"),
                }
            }
        }
        Err(faults) => assert!(!faults.to_string().is_empty()),
    }
});
