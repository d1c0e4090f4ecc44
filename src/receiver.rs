//! UDP socket(s) to batches of datagrams.

use ipnet::IpNet;

/// How datagrams are received.
#[derive(Clone, Debug)]
pub struct Config {
    /// `host:port` to listen on; `[::]:9997` is dual stack.
    pub endpoint: String,
    /// `SO_RCVBUF` to ask for, in bytes.
    pub receive_buffer: usize,
    /// A larger datagram is dropped, in bytes, 1 to 65,507.
    pub max_datagram_size: usize,
    /// Who may send; empty is anyone. Host names are resolved already.
    pub allowed_sources: Vec<IpNet>,
    /// Datagrams per second and source address; 0 is no limit.
    pub rate_limit_per_source: u32,
}
