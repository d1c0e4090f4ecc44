//! From `host:port` to sockets that are ready to be read.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};

use socket2::{Domain, Protocol, Type};
use thiserror::Error;

use super::Config;
use super::socket::RECEIVE_TIMEOUT;

/// Tries to find a port that is free on every address, where the port is left to the system.
const FREE_PORT_TRIES: usize = 16;

/// Sockets that a service manager may pass at most.
pub(super) const PASSED_MAX: usize = 64;

/// No buffer smaller than this is asked for when a system refuses a larger one.
const RECEIVE_BUFFER_MIN: usize = 64 * 1024;

/// The system's number for an address of a family it does not know; the standard library has no name for it.
const ADDRESS_FAMILY_NOT_SUPPORTED: i32 = if cfg!(windows) {
    10_047
} else if cfg!(target_os = "linux") {
    97
} else {
    47
};

/// Sockets that receive already: what arrives before [`super::run`] waits in their buffers.
#[derive(Debug)]
pub struct Bound {
    pub(super) sockets: Vec<UdpSocket>,
    pub(super) receive_buffer: usize,
    /// Whether a service manager made them, and goes on holding them when this process is gone.
    pub(super) passed: bool,
    ipv4_only: bool,
}

/// Why there is nothing to receive on. Every text says what to do.
#[derive(Debug, Error)]
pub enum BindError {
    /// The endpoint names no address.
    #[error(
        "cannot find an address for {endpoint}: {error}; write it as host:port, for example [::]:9997 or 0.0.0.0:9997"
    )]
    Unresolvable {
        /// The endpoint as configured.
        endpoint: String,
        /// What the resolver said.
        error: io::Error,
    },
    /// Another socket has the port.
    #[error(
        "{address} is in use: stop the other receiver (Butler SOS listens on the same port) or choose another port"
    )]
    AddressInUse {
        /// What was to be bound.
        address: SocketAddr,
    },
    /// The system does not let this user have the port.
    #[error("not permitted to listen on {address}: choose a port above 1023, or give the service the right to bind it")]
    NotPermitted {
        /// What was to be bound.
        address: SocketAddr,
    },
    /// The address belongs to another machine.
    #[error("{address} is no address of this machine: listen on one of its own, or on all with [::] or 0.0.0.0")]
    NotLocal {
        /// What was to be bound.
        address: SocketAddr,
    },
    /// What a service manager passed cannot be received on.
    #[error(
        "file descriptor {number}, passed by the service manager, is no UDP socket that can be received on ({error}): \
         in the .socket unit write ListenDatagram= with a port or an address and port"
    )]
    Passed {
        /// Its number.
        number: usize,
        /// What is wrong with it.
        error: io::Error,
    },
    /// More descriptors than anybody passes.
    #[error("LISTEN_FDS={count} is no number of sockets: at most {PASSED_MAX} are taken")]
    TooManyPassed {
        /// What the variable says.
        count: String,
    },
    /// Anything else.
    #[error("cannot listen on {address}: {error}")]
    Failed {
        /// What was to be bound.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
}

impl Bound {
    /// Sockets of which the first thing to do is to add one.
    pub(super) const fn none_yet(passed: bool) -> Self {
        Self { sockets: Vec::new(), receive_buffer: usize::MAX, passed, ipv4_only: false }
    }

    pub(super) fn add(&mut self, socket: UdpSocket, receive_buffer: usize) {
        self.receive_buffer = self.receive_buffer.min(receive_buffer);
        self.sockets.push(socket);
    }

    /// The sockets themselves, for whoever wants to read them in another way. Their reads wait 100 ms at most.
    #[must_use]
    pub fn into_sockets(self) -> Vec<UdpSocket> {
        self.sockets
    }

    /// Where it listens, with the real port where the configured one is 0.
    #[must_use]
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }

    /// The smallest receive buffer granted, in bytes as they are asked for.
    #[must_use]
    pub fn receive_buffer(&self) -> usize {
        self.receive_buffer
    }

    /// Whether `[::]` was asked for on a machine without IPv6, so that it listens on `0.0.0.0` instead.
    #[must_use]
    pub fn fell_back_to_ipv4(&self) -> bool {
        self.ipv4_only
    }
}

/// Binds every address of `config.endpoint`: `localhost` is usually 127.0.0.1 and ::1, and a sender may use either.
///
/// `[::]` is dual stack and receives IPv4 as well. Where the port is 0 the system chooses one, the same on every address.
///
/// # Errors
///
/// An endpoint without an address, and an address that cannot be bound. Of several addresses those that this machine
/// does not have are left out, as long as there is one: `localhost` may name ::1 where IPv6 is switched off.
pub fn bind(config: &Config) -> Result<Bound, BindError> {
    let addresses = resolve(&config.endpoint)?;
    let mut tries = 0;
    loop {
        tries += 1;
        match bind_all(&addresses, config.receive_buffer) {
            Err(BindError::AddressInUse { .. }) if chosen_port_may_clash(&addresses) && tries < FREE_PORT_TRIES => {}
            outcome => return outcome,
        }
    }
}

fn resolve(endpoint: &str) -> Result<Vec<SocketAddr>, BindError> {
    let unresolvable = |error| BindError::Unresolvable { endpoint: endpoint.to_owned(), error };
    let mut addresses = Vec::new();
    for address in endpoint.to_socket_addrs().map_err(unresolvable)? {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(unresolvable(ErrorKind::NotFound.into()));
    }
    Ok(addresses)
}

/// A port that is free on the first address may be taken on the second.
fn chosen_port_may_clash(addresses: &[SocketAddr]) -> bool {
    addresses.len() > 1 && addresses.iter().all(|address| address.port() == 0)
}

fn bind_all(addresses: &[SocketAddr], receive_buffer: usize) -> Result<Bound, BindError> {
    let mut bound = Bound::none_yet(false);
    let mut missing = None;
    let mut port = None;
    for &address in addresses {
        let wanted = SocketAddr::new(address.ip(), port.unwrap_or_else(|| address.port()));
        let opened = open(wanted, receive_buffer).or_else(|error| {
            if !is_missing(&error) || wanted.ip() != Ipv6Addr::UNSPECIFIED {
                return Err(error);
            }
            bound.ipv4_only = true;
            open(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), wanted.port()), receive_buffer)
        });
        match opened {
            Ok((socket, effective)) => {
                port = port.or_else(|| socket.local_addr().ok().map(|local| local.port()));
                bound.add(socket, effective);
            }
            Err(error) if is_missing(&error) => missing = Some(explain(wanted, error)),
            Err(error) => return Err(explain(wanted, error)),
        }
    }
    match missing {
        Some(error) if bound.sockets.is_empty() => Err(error),
        _ => Ok(bound),
    }
}

fn open(address: SocketAddr, receive_buffer: usize) -> io::Result<(UdpSocket, usize)> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    enlarge_buffer(&socket, receive_buffer);
    prepare(&socket)?;
    socket.bind(&address.into())?;
    let effective = effective_buffer(&socket)?;
    Ok((socket.into(), effective))
}

/// What the receiver expects of a socket.
pub(super) fn prepare(socket: &socket2::Socket) -> io::Result<()> {
    count_kernel_drops(socket);
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(RECEIVE_TIMEOUT))
}

/// The size of the receive buffer, in bytes as it is asked for.
pub(super) fn effective_buffer(socket: &socket2::Socket) -> io::Result<usize> {
    // Linux doubles what is asked for, for its own bookkeeping, and reports it doubled.
    Ok(socket.recv_buffer_size()? / if cfg!(target_os = "linux") { 2 } else { 1 })
}

/// Asks for the buffer; what was granted is read back. A smaller buffer than wanted is reported, never fatal.
fn enlarge_buffer(socket: &socket2::Socket, wanted: usize) {
    #[cfg(target_os = "linux")]
    if nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::RcvBufForce, &wanted).is_ok() {
        return;
    }
    // Linux grants what it may; other systems refuse too large a number altogether.
    let mut size = wanted;
    while socket.set_recv_buffer_size(size).is_err() && size > RECEIVE_BUFFER_MIN {
        size /= 2;
    }
}

/// Has the kernel send its count of drops along. Where it cannot, the table in `/proc` still tells.
fn count_kernel_drops(socket: &socket2::Socket) {
    #[cfg(target_os = "linux")]
    let _ = nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::RxqOvfl, &1);
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
}

/// Whether the machine has no such address, or not even its family.
fn is_missing(error: &io::Error) -> bool {
    error.raw_os_error() == Some(ADDRESS_FAMILY_NOT_SUPPORTED) || error.kind() == ErrorKind::AddrNotAvailable
}

fn explain(address: SocketAddr, error: io::Error) -> BindError {
    match error.kind() {
        ErrorKind::AddrInUse => BindError::AddressInUse { address },
        ErrorKind::PermissionDenied => BindError::NotPermitted { address },
        ErrorKind::AddrNotAvailable => BindError::NotLocal { address },
        _ => BindError::Failed { address, error },
    }
}
