//! Why something is lost. Each reason is a metric label and a kind of log line.

/// Why a datagram was dropped although it may have been good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The channel to the core was full.
    ChannelFull,
    /// Larger than `receiver.udp.max_datagram_size`.
    Oversize,
    /// The sender is not in `receiver.allowed_sources`.
    DeniedSource,
    /// The sender exceeded `receiver.rate_limit.per_source`.
    RateLimited,
    /// A stock datagram of a node that sends the extended format.
    Superseded,
    /// The store could not take the frame.
    StoreFull,
}

impl DropReason {
    /// Every reason, in the order of the enum.
    pub const ALL: [Self; 6] =
        [Self::ChannelFull, Self::Oversize, Self::DeniedSource, Self::RateLimited, Self::Superseded, Self::StoreFull];

    /// The reason as a metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ChannelFull => "channel_full",
            Self::Oversize => "oversize",
            Self::DeniedSource => "denied_source",
            Self::RateLimited => "rate_limited",
            Self::Superseded => "superseded",
            Self::StoreFull => "store_full",
        }
    }

    /// Whether something is missing for it: a denied source was unwanted, a superseded datagram came twice.
    #[must_use]
    pub const fn is_loss(self) -> bool {
        match self {
            Self::ChannelFull | Self::Oversize | Self::RateLimited | Self::StoreFull => true,
            Self::DeniedSource | Self::Superseded => false,
        }
    }
}

/// Why the live page did not answer somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PageRefusal {
    /// As many as may ask at the same time already did.
    Connections,
    /// As many pages as may listen already did.
    Viewers,
    /// It was asked for under a name that is not its own.
    Host,
    /// Another web page asked.
    Origin,
    /// It was asked to do more than to answer.
    Method,
    /// Whoever asked took too long to ask, or to take the answer.
    Slow,
}

impl PageRefusal {
    /// Every reason, in the order of the enum.
    pub const ALL: [Self; 6] = [Self::Connections, Self::Viewers, Self::Host, Self::Origin, Self::Method, Self::Slow];

    /// The reason as a metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Viewers => "viewers",
            Self::Host => "host",
            Self::Origin => "origin",
            Self::Method => "method",
            Self::Slow => "slow",
        }
    }
}
