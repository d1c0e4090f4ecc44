//! What an operator can do about a reason, in one place for log lines and for `decode`.

use crate::event::RejectReason;
use crate::signal::ExpiryReason;

use super::{DropReason, PageRefusal};

/// What to do about datagrams that are lost before we see them.
pub(super) const BUFFER: &str = "raise receiver.udp.receive_buffer, and on Linux the limit net.core.rmem_max";

/// Where missing events are lost.
pub(super) const GAP: &str = "the last such one is named: lost between the proxy and here";

/// What to do about items that the backend refused for good.
pub(super) const QUARANTINED: &str =
    "the backend would never take them; `sense-otel quarantine` shows them and sends them again";

/// What to know about items that were given up.
pub(super) const fn expired(reason: ExpiryReason) -> &'static str {
    match reason {
        ExpiryReason::Size => "oldest first, the outbox is over store.max_size",
        ExpiryReason::Age => "oldest first, the outbox is over store.max_age",
        ExpiryReason::Memory => "oldest first, the disk of the store fails and the memory is full",
        ExpiryReason::Damaged => "what the disk of the store gives back is not what was written",
        ExpiryReason::Unreadable => "the disk of the store does not give it back",
        ExpiryReason::Unwritten => "the disk of the store did not take it before the end",
        ExpiryReason::Superseded => "the next ones stand for them",
    }
}

/// What to know about requests to the live page that were not answered.
pub(super) const fn page(reason: PageRefusal) -> &'static str {
    match reason {
        PageRefusal::Connections => "64 connections are open already",
        PageRefusal::Viewers => "16 pages are open already",
        PageRefusal::Host => "it was asked for under another name; add it to admin.allowed_hosts if it is yours",
        PageRefusal::Origin => "another web page asked, through the browser of somebody here",
        PageRefusal::Method => "only GET is answered, there is nothing to change",
        PageRefusal::Slow => "whoever asked was too slow to ask, or to take the answer",
    }
}

/// Why a datagram is no event, and what to do about it. One line, no full stop.
#[must_use]
pub const fn rejected(reason: RejectReason) -> &'static str {
    match reason {
        RejectReason::Empty => "the datagram holds no text; something other than log4net sends to this port",
        RejectReason::Utf16 => "the text is UTF-16; set <encoding value=\"utf-8\" /> in the appender on the proxy node",
        RejectReason::UnknownType => {
            "the first field is no message type of ours; another appender or program sends to this port, or the pattern \
             of the appender was changed; compare it with the output of `sense-otel appender`"
        }
        RejectReason::TooFewFields => {
            "fields are missing; the datagram was cut off on its way, or the pattern of the appender was changed"
        }
        RejectReason::NoCommand => "the Command field is empty; check %property{Command} in the appender's pattern",
        RejectReason::UnknownCommand => {
            "the Command is none of Start session, Stop session, Open connection, Close connection; check the appender's \
             filters"
        }
        RejectReason::NoHost => "the host field is empty; check %hostname in the appender's pattern",
        RejectReason::NoUser => {
            "the user id is empty; the proxy logged an event without a user, or %property{UserId} is missing in the \
             appender's pattern"
        }
        RejectReason::Ambiguous => {
            "a separator inside a value leaves more than one reading; the extended format (`sense-otel appender`) has TAB \
             for one, which hardly any value holds"
        }
        RejectReason::TooManyNodes => {
            "more proxy nodes than limits.nodes; raise it, or restrict receiver.allowed_sources if these are not yours"
        }
    }
}

/// Why a datagram was given up, and what to do about it. One line, no full stop.
#[must_use]
pub const fn dropped(reason: DropReason) -> &'static str {
    match reason {
        DropReason::ChannelFull => "they arrive faster than they are processed; this machine is too busy",
        DropReason::Oversize => "larger than receiver.udp.max_datagram_size",
        DropReason::DeniedSource => "the sender is not in receiver.allowed_sources",
        DropReason::RateLimited => "a sender exceeds receiver.rate_limit.per_source",
        DropReason::Superseded => {
            "a node sends the stock and the extended format; remove the stock appender to save the traffic"
        }
        DropReason::StoreFull => "the store does not keep up with what arrives; check its disk",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_one_line() {
        let texts = RejectReason::ALL.map(rejected).into_iter().chain(DropReason::ALL.map(dropped));
        for text in texts {
            assert!(!text.contains('\n') && !text.contains("  ") && !text.ends_with('.'), "{text}");
        }
    }
}
