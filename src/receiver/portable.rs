//! The socket of the standard library: what every system can do. Its tests run on Linux too.

use std::io::{self, ErrorKind};
use std::net::UdpSocket;

use super::socket::{Slots, Socket};

#[derive(Debug)]
pub(super) struct PortableSocket(UdpSocket);

impl PortableSocket {
    pub(super) fn new(socket: UdpSocket) -> Self {
        Self(socket)
    }

    /// Nothing is known of drops here, neither earlier nor later ones.
    #[cfg(not(target_os = "linux"))]
    pub(super) const fn leave_out_earlier_drops(&mut self) -> u64 {
        0
    }

    fn receive_one(&self, slots: &mut Slots) -> io::Result<()> {
        let Some(slot) = slots.free().next() else { return Ok(()) };
        let (length, source) = self.0.recv_from(slot)?;
        slots.push(source, length);
        Ok(())
    }

    fn receive_what_is_there(&self, slots: &mut Slots) -> io::Result<()> {
        while !slots.is_full() {
            match self.receive_one(slots) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                outcome => outcome?,
            }
        }
        Ok(())
    }
}

impl Socket for PortableSocket {
    fn read(&mut self, wait: bool, slots: &mut Slots) -> io::Result<()> {
        slots.clear();
        if wait {
            self.receive_one(slots)?;
        }
        self.0.set_nonblocking(true)?;
        let received = self.receive_what_is_there(slots);
        self.0.set_nonblocking(false)?;
        received?;
        if slots.len() == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(()) }
    }

    fn kernel_drops(&mut self, _ask: bool) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::super::socket::{READ_MAX, RECEIVE_TIMEOUT};
    use super::*;

    fn pair() -> (PortableSocket, UdpSocket) {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        socket.set_read_timeout(Some(RECEIVE_TIMEOUT)).expect("a timeout");
        let sender = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        sender.connect(socket.local_addr().expect("an address")).expect("a destination");
        (PortableSocket::new(socket), sender)
    }

    #[test]
    fn one_read_takes_what_is_there_up_to_its_limit() {
        let (mut socket, sender) = pair();
        for number in 0..READ_MAX + 3 {
            sender.send(number.to_string().as_bytes()).expect("a datagram on its way");
        }
        let mut slots = Slots::new();
        socket.read(true, &mut slots).expect("datagrams");
        let texts: Vec<_> = slots.iter().map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned()).collect();
        assert_eq!(texts, (0..READ_MAX).map(|number| number.to_string()).collect::<Vec<_>>());
        assert!(slots.iter().all(|(source, _)| source == sender.local_addr().expect("an address")));

        socket.read(false, &mut slots).expect("the rest");
        assert_eq!(slots.len(), 3);
    }

    #[test]
    fn nothing_there_is_no_failure_and_waits_only_when_told() {
        let (mut socket, sender) = pair();
        let mut slots = Slots::new();
        let at_once = socket.read(false, &mut slots).expect_err("nothing there");
        assert_eq!(at_once.kind(), ErrorKind::WouldBlock);
        let after_waiting = socket.read(true, &mut slots).expect_err("nothing there");
        assert!(matches!(after_waiting.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));

        // The timeout is still in force afterwards, and so is the socket.
        sender.send(b"late").expect("a datagram on its way");
        socket.read(true, &mut slots).expect("a datagram");
        assert_eq!(slots.iter().map(|(_, bytes)| bytes.to_vec()).collect::<Vec<_>>(), [b"late".to_vec()]);
    }

    #[test]
    fn the_largest_datagram_is_not_cut_off() {
        let (mut socket, sender) = pair();
        let largest: Vec<u8> = (0..65_507_u32).map(|position| position as u8).collect();
        sender.send(&largest).expect("a datagram on its way");
        let mut slots = Slots::new();
        socket.read(true, &mut slots).expect("a datagram");
        assert_eq!(slots.iter().next().expect("one").1, largest);
    }
}
