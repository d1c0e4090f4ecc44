//! One stage of the core, so many rounds of it and nothing else: `instructions STAGE ROUNDS`, to be run by valgrind. The
//! difference between two runs is what a round takes, whatever was done before it. `.ci/instructions` does that.

#![allow(clippy::expect_used, clippy::panic, reason = "whoever calls it wrongly is told")]

use std::env;
use std::hint::black_box;

use sense_otel::event;
use sense_otel::otlp::{Encoder, Limits};
use sense_otel::store::Records;

use support::{Encoding, FRAME_DATAGRAMS, Nowhere, SESSIONS, feed, processor_with, round, stock};

mod support;

/// Rounds that are made in any case, before the first is run.
const ROUNDS_MAX: u32 = 16;

fn main() {
    let mut arguments = env::args().skip(1).filter(|argument| argument != "--bench");
    let (Some(stage), Some(rounds)) = (arguments.next(), arguments.next()) else {
        // `cargo bench` and `cargo test` run every bench: this one has nothing to say without its arguments.
        return;
    };
    let rounds: usize = rounds.parse().expect("a number of rounds");
    let made: Vec<_> = (0..ROUNDS_MAX).map(|number| round(number * SESSIONS)).collect();
    let made = made.get(..rounds).expect("not more rounds than are made");
    match stage.as_str() {
        "decode-extended" => made.iter().flatten().for_each(|datagram| drop(black_box(event::decode(datagram)))),
        "decode-stock" => {
            let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
            // All of them, whatever the number of rounds, as above.
            let all: Vec<Vec<u8>> = (0..ROUNDS_MAX)
                .flat_map(|number| round(number * SESSIONS))
                .map(|bytes| stock(&text(&bytes)).into_bytes())
                .collect();
            all.iter()
                .take(rounds * 4 * SESSIONS as usize)
                .for_each(|datagram| drop(black_box(event::decode(datagram))));
        }
        "processor" => {
            let mut processor = processor_with(0);
            made.iter().for_each(|datagrams| feed(&mut processor, datagrams, &mut Nowhere));
        }
        "core" => {
            let (mut processor, mut output) = (processor_with(0), Encoding(Encoder::new("0", Limits::default())));
            for datagrams in made {
                feed(&mut processor, datagrams, &mut output);
                black_box(output.0.finish());
            }
        }
        "core-durable" => {
            let (mut processor, mut output) = (processor_with(0), Encoding(Encoder::new("0", Limits::default())));
            let mut size = 0;
            for datagrams in made {
                for frame in datagrams.chunks(FRAME_DATAGRAMS) {
                    feed(&mut processor, frame, &mut output);
                    let mut records = Records::with_capacity(size + size / 8);
                    processor.changes(&mut |key: &[u8], value: Option<&[u8]>| records.set(key, value));
                    size = black_box(records).size();
                }
                black_box(output.0.finish());
            }
        }
        other => panic!("there is no stage {other}"),
    }
}
