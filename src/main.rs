//! The binary: hands the command line to [`sense_otel::cli`].

fn main() {}
