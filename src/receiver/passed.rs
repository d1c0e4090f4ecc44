//! Sockets that a service manager opened and passed on, as systemd does for a `.socket` unit.
//!
//! The kernel's queue of such a socket outlives us: what is sent while no process of ours runs waits in it, through a
//! restart, an upgrade and a crash. Its address and its buffer are the service manager's.

use std::env;
use std::net::UdpSocket;

use listenfd::ListenFd;
use socket2::Protocol;

use super::bind::{BindError, Bound, PASSED_MAX, effective_buffer, prepare};

/// The first descriptor that is passed, by the protocol of systemd.
const FIRST: usize = 3;

/// The sockets that the environment says were passed to this process (`LISTEN_FDS`, `LISTEN_PID`), ready to be read;
/// `None` if there are none.
///
/// To be called once and first of all: it takes the two variables out of the environment, so that no child takes our
/// sockets for its own, and that must happen while there is one thread. The sockets are closed in children.
///
/// # Errors
///
/// A passed descriptor that is no UDP socket with an address.
pub fn passed() -> Result<Option<Bound>, BindError> {
    if let Ok(count) = env::var("LISTEN_FDS")
        && count.parse().is_ok_and(|count: i64| !(0..=PASSED_MAX as i64).contains(&count))
    {
        return Err(BindError::TooManyPassed { count });
    }
    let mut descriptors = ListenFd::from_env();
    let mut bound = Bound::none_yet(true);
    for index in 0..descriptors.len() {
        let failed = |error| BindError::Passed { number: FIRST + index, error };
        if let Some(socket) = descriptors.take_udp_socket(index).map_err(failed)? {
            let (socket, receive_buffer) = adopt(socket).map_err(failed)?;
            bound.add(socket, receive_buffer);
        }
    }
    Ok((!bound.sockets.is_empty()).then_some(bound))
}

fn adopt(socket: UdpSocket) -> std::io::Result<(UdpSocket, usize)> {
    let socket = socket2::Socket::from(socket);
    // UDP-Lite and ping sockets are datagram sockets of the same families.
    if socket.protocol()? != Some(Protocol::UDP) {
        return Err(std::io::Error::other("it is a datagram socket of another protocol"));
    }
    if socket.local_addr()?.as_socket().is_none_or(|address| address.port() == 0) {
        return Err(std::io::Error::other("it is not bound to a port"));
    }
    prepare(&socket)?;
    let receive_buffer = effective_buffer(&socket)?;
    Ok((socket.into(), receive_buffer))
}
