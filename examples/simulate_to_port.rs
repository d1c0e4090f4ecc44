//! A day at a simulated Sense site, sent to a UDP port in a minute: the simulator as a library.
//!
//! ```sh
//! cargo run --example simulate_to_port -- 127.0.0.1:9997
//! ```

use std::error::Error;
use std::net::UdpSocket;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use sense_otel::event::Format;
use sense_otel::simulator::{Config, Pace, Simulator};
use sense_otel::time::Timestamp;

const DAY: Duration = Duration::from_secs(8 * 3600);

/// The day passes so many times faster.
const SPEED: u32 = 480;

fn main() -> Result<(), Box<dyn Error>> {
    let target = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9997".to_owned());

    // The day ends now, so that no event time lies in the future.
    let now = Timestamp::EPOCH + SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let start = now.before(DAY);
    let mut simulator = Simulator::new(Config::new(Format::Extended, start, Pace::Day(DAY)));

    // Each node has a socket of its own, as each proxy's log4net appender has.
    let sockets: Vec<_> = simulator.nodes().iter().map(|_| UdpSocket::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let began = Instant::now();
    for emission in &mut simulator {
        let due = emission.at.since(start) / SPEED;
        sleep(due.saturating_sub(began.elapsed()));
        sockets[emission.node].send_to(&emission.bytes, &target)?;
    }

    let truth = simulator.truth();
    let open = truth.sessions.iter().filter(|session| session.end.is_none()).count();
    anstream::println!("{} events of {} sessions, {open} of them still open", truth.events.len(), truth.sessions.len());
    Ok(())
}
