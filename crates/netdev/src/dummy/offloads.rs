//! What a dummy says of checksums and trains: of those of the packets that it receives, and who computes and cuts those
//! of the packets that it sends.

use std::collections::BTreeMap;

use ferrovs_packet::buffer::{Checksum, Gso, GsoType, IpChecksum, NO_OFFSET, Packet};
use ferrovs_packet::edit;
use ferrovs_packet::gso::{self, MAX_SEGMENTS};
use ferrovs_packet::miniflow::MiniflowBuf;
use ferrovs_packet::types::ip_proto;

use crate::Capabilities;
use crate::offload::userspace_tso;

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
const OPTIONS: [(&str, Says); 14] = [
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
    ("ol_out_ip_tx_csum", Says::Does(Capabilities::OUTER_IP_CSUM)),
    (
        "ol_out_ip_tx_csum_disabled",
        Says::Leaves(Capabilities::OUTER_IP_CSUM),
    ),
    (
        "ol_out_udp_tx_csum",
        Says::Does(Capabilities::OUTER_UDP_CSUM),
    ),
    (
        "ol_out_udp_tx_csum_disabled",
        Says::Leaves(Capabilities::OUTER_UDP_CSUM),
    ),
];
/// Where there are trains: the length of the segments that received ones stand for. The device takes trains then.
const SEGMENT_SIZE: &str = "ol_tso_segsz";
const TRAINS: Capabilities = Capabilities::TCP_SEG.union(Capabilities::TCP_CSUM);

#[derive(Clone, Copy, Debug)]
pub struct Offloads {
    ip: Option<Mark>,
    transport: Option<Mark>,
    pub does: Capabilities,
    leaves: Capabilities,
    /// 0 if there are no trains.
    segment_size: i64,
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
        let is_set = |(name, _): (&str, Says)| {
            options
                .get(name)
                .is_some_and(|v| v.eq_ignore_ascii_case("true"))
        };
        let mut offloads = Offloads {
            ip: None,
            transport: None,
            does: Capabilities::empty(),
            leaves: Capabilities::empty(),
            segment_size: match userspace_tso() {
                true => super::int(options, SEGMENT_SIZE, 0),
                false => 0,
            },
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
        if offloads.segment_size != 0 {
            offloads.does |= TRAINS;
        }
        offloads
    }

    /// The options that are set, as they are shown.
    pub fn config(&self) -> impl Iterator<Item = (String, String)> {
        let set = self.set.into_iter().zip(OPTIONS).filter(|(set, _)| *set);
        let size = (self.segment_size != 0).then(|| self.segment_size.to_string());
        set.map(|(_, (name, _))| (name.to_owned(), "true".to_owned()))
            .chain(size.map(|size| (SEGMENT_SIZE.to_owned(), size)))
    }

    /// Says it of a packet.
    pub fn mark(&self, packet: &mut Packet) {
        if (self.ip, self.transport, self.segment_size) == (None, None, 0) {
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
        if let Some(train) = u16::try_from(self.segment_size)
            .ok()
            .and_then(|size| train(packet, size))
            && edit::open_transport(packet)
        {
            packet.offload.gso = Some(train);
        }
    }

    /// A packet as it is sent, if the device has anything to do with it.
    pub fn complete(&self, packet: &Packet) -> Option<Packet> {
        let ip = packet.md.ip_checksum == IpChecksum::Open;
        let transport = match packet.offload.checksum {
            Checksum::Partial { start, .. } => Some(start),
            _ => None,
        };
        if !ip && transport.is_none() {
            return None;
        }
        let mut packet = packet.duplicate();
        // What is open in a packet of a tunnel opens the outer header to a device that does those.
        if transport.is_some_and(|start| packet.l4 != NO_OFFSET && start > packet.l4) {
            self.leave_outer(&mut packet);
        }
        if !self.leaves.contains(Capabilities::IP_CSUM) {
            gso::complete_ip_checksum(&mut packet);
        }
        if !self.leaves.contains(TRANSPORT) {
            gso::complete_checksum(&mut packet);
        }
        Some(packet)
    }

    /// Shows outer checksums as they are before a device computes them.
    fn leave_outer(&self, packet: &mut Packet) {
        let (l3, l4) = (usize::from(packet.l3), usize::from(packet.l4));
        let data = packet.data_mut();
        let version = data.get(l3).map_or(0, |b| b >> 4);
        let proto = match version {
            4 => data.get(l3 + 9),
            _ => data.get(l3 + 6),
        };
        let is_udp = proto == Some(&ip_proto::UDP);
        if version == 4 && self.leaves.contains(Capabilities::OUTER_IP_CSUM) {
            data[l3 + 10..l3 + 12].fill(0);
        }
        if let Some(sum) = data.get_mut(l4 + 6..l4 + 8)
            && is_udp
            && *sum != [0; 2]
            && self.leaves.contains(Capabilities::OUTER_UDP_CSUM)
        {
            sum.fill(0xff);
        }
    }
}

/// The train of segments of `size` bytes that a packet whose headers are known is, if it is one.
fn train(packet: &Packet, size: u16) -> Option<Gso> {
    let (l3, l4) = (packet.l3_data(), packet.l4_data());
    let (kind, proto) = match l3.first()? >> 4 {
        4 => (GsoType::Tcp4, l3.get(9)?),
        _ => (GsoType::Tcp6, l3.get(6)?),
    };
    let header = usize::from(l4.get(12)? >> 4) * 4;
    let payload = l4.len().checked_sub(header)?;
    let many = payload > usize::from(size) && payload.div_ceil(usize::from(size)) <= MAX_SEGMENTS;
    (*proto == ip_proto::TCP && header >= 20 && many).then(|| Gso {
        kind,
        size,
        hdr_len: packet.l4 + header as u16,
        ecn: false,
    })
}
