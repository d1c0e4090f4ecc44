//! The socket on Linux: many datagrams a system call, and the kernel's own count of what it threw away.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrStorage, recvmmsg};

use super::kernel_drops::{DropCounter, drops_in_table};
use super::socket::{READ_MAX, Slots, Socket};

#[derive(Debug)]
pub(super) struct LinuxSocket {
    socket: UdpSocket,
    counter: DropCounter,
    /// Drops seen since they were last asked for.
    drops: u64,
    /// The table of `/proc` that this socket stands in, and its inode there; `None` where `/proc` is not to be had.
    table: Option<(&'static str, String)>,
}

impl LinuxSocket {
    pub(super) fn new(socket: UdpSocket) -> Self {
        let table = inode(&socket).zip(socket.local_addr().ok()).map(|(inode, address)| {
            let path = if address.is_ipv4() { "/proc/self/net/udp" } else { "/proc/self/net/udp6" };
            (path, inode)
        });
        Self { socket, counter: DropCounter::default(), drops: 0, table }
    }

    /// Counts only what is dropped from now on, and returns what was dropped in the socket's life so far.
    pub(super) fn leave_out_earlier_drops(&mut self) -> u64 {
        let earlier = self.cumulative_drops().unwrap_or_default();
        self.counter = DropCounter::after(earlier);
        earlier.into()
    }

    fn observe_table(&mut self) {
        if let Some(cumulative) = self.cumulative_drops() {
            self.drops += self.counter.observe(cumulative);
        }
    }

    fn cumulative_drops(&self) -> Option<u32> {
        let (path, inode) = self.table.as_ref()?;
        drops_in_table(&std::fs::read_to_string(path).ok()?, inode)
    }
}

impl Socket for LinuxSocket {
    fn read(&mut self, wait: bool, slots: &mut Slots) -> io::Result<()> {
        slots.clear();
        let flags = if wait { MsgFlags::MSG_WAITFORONE } else { MsgFlags::MSG_DONTWAIT };
        // Made anew for each call although it costs an allocation: the system shortens the room for control messages in a
        // header to what it used, and the headers are not ours to mend. With used headers the drop counter, which comes
        // only after the first drop, would never be seen.
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(READ_MAX, Some(cmsg_space!(u32)));
        let mut arrived = [None; READ_MAX];
        {
            let mut vectors: Vec<_> = slots.free().map(|slot| [IoSliceMut::new(slot)]).collect();
            let messages = recvmmsg(self.socket.as_raw_fd(), &mut headers, vectors.iter_mut(), flags, None)?;
            for (message, place) in messages.zip(&mut arrived) {
                if let Some(cumulative) = drop_count(&message) {
                    self.drops += self.counter.observe(cumulative);
                }
                *place = source(&message).map(|source| (source, message.bytes));
            }
        }
        for (source, length) in arrived.into_iter().map_while(|arrival| arrival) {
            slots.push(source, length);
        }
        Ok(())
    }

    fn kernel_drops(&mut self, ask: bool) -> u64 {
        if ask {
            self.observe_table();
        }
        std::mem::take(&mut self.drops)
    }
}

fn drop_count(message: &RecvMsg<'_, '_, SockaddrStorage>) -> Option<u32> {
    message.cmsgs().ok()?.find_map(|control| match control {
        ControlMessageOwned::RxqOvfl(cumulative) => Some(cumulative),
        _ => None,
    })
}

fn source(message: &RecvMsg<'_, '_, SockaddrStorage>) -> Option<SocketAddr> {
    let address = message.address?;
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())))
}

/// The inode by which `/proc/net` knows the socket.
fn inode(socket: &UdpSocket) -> Option<String> {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).ok()?;
    Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
}
