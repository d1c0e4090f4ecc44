//! Datagrams on their way, with as few system calls as may be: for the two commands that send load.

use std::net::{SocketAddr, UdpSocket};

/// Sends datagrams with as few system calls as may be. Returns how many were sent; one that fails is passed over.
#[cfg(target_os = "linux")]
pub(super) fn send(socket: &UdpSocket, target: SocketAddr, datagrams: &[Vec<u8>]) -> usize {
    use std::io::IoSlice;
    use std::os::fd::AsRawFd;

    use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};

    let addresses = vec![Some(SockaddrStorage::from(target)); datagrams.len()];
    let slices: Vec<_> = datagrams.iter().map(|datagram| [IoSlice::new(datagram)]).collect();
    let mut rest = slices.as_slice();
    let mut sent = 0;
    while !rest.is_empty() {
        let mut headers = MultiHeaders::preallocate(rest.len(), None);
        let outcome = sendmmsg(socket.as_raw_fd(), &mut headers, rest, &addresses, [], MsgFlags::empty());
        let taken = outcome.map_or(0, Iterator::count);
        sent += taken;
        rest = rest.get(taken.max(1)..).unwrap_or_default();
    }
    sent
}

#[cfg(not(target_os = "linux"))]
pub(super) fn send(socket: &UdpSocket, target: SocketAddr, datagrams: &[Vec<u8>]) -> usize {
    datagrams.iter().filter(|datagram| socket.send_to(datagram, target).is_ok()).count()
}
