//! What a dummy says of checksums: of those of the packets that it receives, and who computes those of the packets that
//! it sends.

use std::collections::BTreeMap;

use ferrovs_packet::buffer::{Checksum, IpChecksum, Packet};
use ferrovs_packet::miniflow::MiniflowBuf;
use ferrovs_packet::{edit, gso};

use crate::Capabilities;

/// What is said of a received checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Good,
    /// Not worth more than an unknown one: whoever changes what it covers lets it follow.
    Bad,
    /// Still to be computed.
    Partial,
}

#[derive(Clone, Copy, Debug)]
enum Says {
    ReceivedIp(Mark),
    ReceivedTransport(Mark),
    /// The device computes it.
    Does(Capabilities),
    /// It leaves the bytes as they are nevertheless; behind what says that it does it.
    Leaves(Capabilities),
}

const TRANSPORT: Capabilities = Capabilities::TCP_CSUM.union(Capabilities::UDP_CSUM);

/// The options, which are true or not.
const OPTIONS: [(&str, Says); 12] = [
    ("ol_ip_rx_csum_set_good", Says::ReceivedIp(Mark::Good)),
    ("ol_ip_rx_csum_set_bad", Says::ReceivedIp(Mark::Bad)),
    ("ol_ip_rx_csum_set_partial", Says::ReceivedIp(Mark::Partial)),
    ("ol_ip_tx_csum", Says::Does(Capabilities::IP_CSUM)),
    (
        "ol_ip_tx_csum_disabled",
        Says::Leaves(Capabilities::IP_CSUM),
    ),
    (
        "ol_l4_rx_csum_set_good",
        Says::ReceivedTransport(Mark::Good),
    ),
    ("ol_l4_rx_csum_set_bad", Says::ReceivedTransport(Mark::Bad)),
    (
        "ol_l4_rx_csum_set_partial",
        Says::ReceivedTransport(Mark::Partial),
    ),
    ("ol_l4_tx_csum", Says::Does(TRANSPORT)),
    ("ol_l4_tx_csum_disabled", Says::Leaves(TRANSPORT)),
    // Outer headers are complete before a device sees them.
    ("ol_out_ip_tx_csum", Says::Does(Capabilities::OUTER_IP_CSUM)),
    (
        "ol_out_udp_tx_csum",
        Says::Does(Capabilities::OUTER_UDP_CSUM),
    ),
];

#[derive(Clone, Copy, Debug)]
pub struct Offloads {
    ip: Option<Mark>,
    transport: Option<Mark>,
    pub does: Capabilities,
    leaves: Capabilities,
    /// Which options are set.
    set: [bool; OPTIONS.len()],
}

impl Default for Offloads {
    fn default() -> Offloads {
        Offloads::read(&BTreeMap::new())
    }
}

impl Offloads {
    pub fn read(options: &BTreeMap<String, String>) -> Offloads {
        let is_set = |(name, _): (&str, Says)| options.get(name).is_some_and(|v| v == "true");
        let mut offloads = Offloads {
            ip: None,
            transport: None,
            does: Capabilities::empty(),
            leaves: Capabilities::empty(),
            set: OPTIONS.map(is_set),
        };
        for (set, (_, says)) in offloads.set.iter_mut().zip(OPTIONS) {
            match says {
                _ if !*set => {}
                Says::ReceivedIp(mark) => offloads.ip = Some(mark),
                Says::ReceivedTransport(mark) => offloads.transport = Some(mark),
                Says::Does(what) => offloads.does |= what,
                Says::Leaves(what) if offloads.does.contains(what) => offloads.leaves |= what,
                // It cannot leave what it does not do.
                Says::Leaves(_) => *set = false,
            }
        }
        offloads
    }

    /// The options that are set, as they are shown.
    pub fn config(&self) -> impl Iterator<Item = (String, String)> {
        let set = self.set.into_iter().zip(OPTIONS).filter(|(set, _)| *set);
        set.map(|(_, (name, _))| (name.to_owned(), "true".to_owned()))
    }

    /// Says it of a packet.
    pub fn mark(&self, packet: &mut Packet) {
        if (self.ip, self.transport) == (None, None) {
            return;
        }
        // It finds the headers.
        MiniflowBuf::new().extract(packet);
        match self.ip {
            Some(Mark::Good) => packet.md.ip_checksum = IpChecksum::Claimed,
            Some(Mark::Partial) => packet.md.ip_checksum = IpChecksum::Open,
            Some(Mark::Bad) | None => {}
        }
        match self.transport {
            Some(Mark::Good) => packet.offload.checksum = Checksum::Claimed,
            Some(Mark::Partial) => _ = edit::open_transport(packet),
            Some(Mark::Bad) | None => {}
        }
    }

    /// A packet as it is sent, if the device has anything to do with it.
    pub fn complete(&self, packet: &Packet) -> Option<Packet> {
        let ip = packet.md.ip_checksum == IpChecksum::Open;
        let transport = matches!(packet.offload.checksum, Checksum::Partial { .. });
        if !ip && !transport {
            return None;
        }
        let mut packet = packet.duplicate();
        if !self.leaves.contains(Capabilities::IP_CSUM) {
            gso::complete_ip_checksum(&mut packet);
        }
        if !self.leaves.contains(TRANSPORT) {
            gso::complete_checksum(&mut packet);
        }
        Some(packet)
    }
}
