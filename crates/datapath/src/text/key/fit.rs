//! Whether the attributes of a key fit together, and what such a key stands for.

use ferrovs_packet::buffer::Packet;
use ferrovs_packet::compose::{Payload, compose};
use ferrovs_packet::flow::{
    FLOW_MAX_MPLS_LABELS, Flow, Match, NW_FRAG_MASK, VLAN_CFI, VlanHdr, packet_type,
};
use ferrovs_packet::parse::vlan_limit;
use ferrovs_packet::types::{eth_type, ip_proto};

use super::{ATTRIBUTES, ParsedKey, Presence, attr, is_vlan, parse};
use crate::errno::Errno;

/// Why a key is not that of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// It says something that no packet can have.
    Wrong(String),
    /// It lacks an attribute.
    TooLittle,
    /// It has an attribute that does not belong to the packet.
    TooMuch,
}

impl ParsedKey {
    /// What no packet can have.
    fn wrong(&self) -> Option<String> {
        let f = &self.flow;
        let has = |attr| self.seen & attr != 0;
        let no_cfi = || {
            let mut tags = f.vlans.iter().take(self.encaps).map(|v| v.tci.get());
            tags.find(|&tci| tci != 0 && tci & VLAN_CFI == 0)
        };
        let reason = if let Some(name) = &self.repeated {
            format!("duplicate {name} attribute in flow key")
        } else if has(attr::TUNNEL) && self.wc.masks.tunnel.ip_ttl == 0 {
            // The outer header of a packet from a tunnel has one.
            "tunnel options missing TTL".to_owned()
        } else if let Some(tci) = no_cfi() {
            format!("OVS_KEY_ATTR_VLAN {tci:#06x} is nonzero but CFI bit is not set")
        } else if has(attr::ETHERTYPE) && f.dl_type.get() < eth_type::MIN {
            format!("invalid Ethertype {} in flow key", f.dl_type.get())
        } else if let Some(op) = self.unknown_arp {
            format!("unsupported ARP opcode {op} in flow key")
        } else {
            return None;
        };
        let key = &self.written;
        Some(format!("{reason}; the flow key in error is: {key}"))
    }

    /// Whether the key has the attributes of a packet.
    pub fn fit(&self) -> Result<(), Misfit> {
        if let Some(wrong) = self.wrong() {
            return Err(Misfit::Wrong(wrong));
        }
        let mut key = self.clone();
        key.without_ethernet();
        key.check()
    }

    /// Which attributes must be there for the packet that the key describes, and which may be.
    fn check(&self) -> Result<(), Misfit> {
        let f = &self.flow;
        if let Some(wrong) = self.wrong() {
            return Err(Misfit::Wrong(wrong));
        }
        let tags = f.vlans.iter().take(self.encaps);
        let tagged = self.seen & attr::VLAN != 0;
        if tagged && f.vlans[0].tpid.get() == 0 {
            return Err(Misfit::TooMuch);
        }
        if tagged != (self.encaps > 0)
            || self.encaps == 0 && is_vlan(f.dl_type.get())
            || tags.clone().any(|v| v.tci.get() & VLAN_CFI == 0)
        {
            return Err(Misfit::TooLittle);
        }
        let (mut must, mut may, mut protocols) = (0, 0, 0);
        for a in ATTRIBUTES.iter().filter(|a| a.presence != Presence::Free) {
            protocols |= a.bit;
            match a.presence {
                _ if !(a.of)(f) => {}
                Presence::Must => must |= a.bit,
                _ => may |= a.bit,
            }
        }
        // A label stack that the key does not end.
        if must & attr::MPLS != 0 {
            let n = f.mpls_lse.iter().take_while(|l| l.get() != 0).count();
            if n < FLOW_MAX_MPLS_LABELS && !f.mpls_lse.iter().any(|l| l.get() & 0x100 != 0) {
                return Err(Misfit::TooLittle);
            }
        }
        let have = self.seen & protocols;
        if have & must != must {
            return Err(Misfit::TooLittle);
        }
        if have & !(must | may) != 0 {
            return Err(Misfit::TooMuch);
        }
        Ok(())
    }

    /// The key of one packet, as `ofproto/trace` takes it: masks do not count, and what its protocol needs may be
    /// missing.
    pub fn into_flow(mut self) -> Result<Flow, String> {
        if let Some(wrong) = self.wrong() {
            return Err(wrong);
        }
        self.drop_misplaced_tags();
        if self.encaps > 0 && self.flow.vlans[0].tci.get() == 0 {
            // A tag that is not there encloses nothing.
            self.flow.vlans = Default::default();
            self.flow.dl_type = 0.into();
        }
        if self.seen & attr::ETHERNET != 0 {
            self.flow.packet_type = 0.into();
        }
        let given = self.seen & attr::ETHERTYPE != 0 || self.encaps > 0;
        self.imply_type(&[(attr::IPV4, eth_type::IP), (attr::IPV6, eth_type::IPV6)]);
        if given || self.flow.packet_type.get() != 0 {
            self.without_ethernet();
        }
        let flow = &mut self.flow;
        // Tags beyond those that packets' keys hold are payload.
        let limit = vlan_limit();
        if let Some(first) = flow.vlans.get(limit).filter(|v| v.tpid.get() != 0) {
            flow.dl_type = first.tpid;
            flow.vlans[limit..].fill(VlanHdr::default());
        } else if self.encaps == 0 && (is_vlan(flow.dl_type.get()) || flow.n_vlans() > 0) {
            flow.dl_type = 0.into();
        }
        self.drop_other_headers();
        self.drop_other_ports();
        Ok(self.flow)
    }

    /// A key and its mask for a datapath flow. No attributes at all mean the empty key, matched exactly.
    pub fn into_match(mut self) -> Result<Match, Errno> {
        let m = &mut self.wc.masks;
        if self.seen == 0 {
            (m.skb_priority, m.pkt_mark, m.dp_hash) = (u32::MAX, u32::MAX, u32::MAX);
            (m.ct_state, m.ct_zone, m.ct_mark) = (0xff, u16::MAX, u32::MAX);
            m.ct_label = [0xff; 16];
            m.packet_type = u32::MAX.into();
            m.dl_src = ferrovs_packet::types::MacAddr::BROADCAST;
            m.dl_dst = m.dl_src;
            m.dl_type = u16::MAX.into();
        } else {
            self.without_ethernet();
            let has = |attr| self.seen & attr != 0;
            if !has(attr::ETHERTYPE) || !self.has_exact_port() || self.encaps > vlan_limit() {
                return Err(Errno::EINVAL);
            }
        }
        self.check().map_err(|_| Errno::EINVAL)?;
        let m = &mut self.wc.masks;
        // What every flow of the datapath matches.
        m.recirc_id = u32::MAX;
        m.in_port = u32::MAX;
        if self.encaps == 0 {
            m.vlans[0].tci = u16::MAX.into();
        }
        m.nw_frag &= NW_FRAG_MASK;
        Ok(Match {
            flow: self.flow,
            wc: self.wc,
        })
    }

    /// A key without `eth()` is that of a packet that begins with the header of its type.
    fn without_ethernet(&mut self) {
        if self.seen & attr::ETHERNET != 0 {
            return;
        }
        let (f, m) = (&mut self.flow, &mut self.wc.masks);
        if self.seen & attr::ETHERTYPE == 0 && f.packet_type.get() >> 16 == 1 {
            f.dl_type = (f.packet_type.get() as u16).into();
            m.dl_type = u16::MAX.into();
            self.seen |= attr::ETHERTYPE;
        }
        let ty = match self.encaps {
            0 => f.dl_type.get(),
            _ => f.vlans[0].tpid.get(),
        };
        f.packet_type = packet_type(1, ty).into();
        (f.vlans, m.vlans) = Default::default();
        self.seen &= !attr::VLAN;
        self.encaps = 0;
    }

    /// A tag that its EtherType does not announce is not there, nor is what it encloses.
    fn drop_misplaced_tags(&mut self) {
        let first = self.flow.vlans[0];
        if self.seen & attr::VLAN == 0 || is_vlan(first.tpid.get()) {
            return;
        }
        self.flow.vlans = Default::default();
        self.encaps = 0;
        self.seen &= !attr::ETHERTYPE;
        self.flow.dl_type = eth_type::NOT_ETH.into();
        if first.tpid.get() != 0 {
            self.flow.dl_type = first.tpid;
            self.seen |= attr::ETHERTYPE;
        }
    }

    /// The EtherType of a key that has none follows from the attribute of its network header.
    fn imply_type(&mut self, implied: &[(u64, u16)]) {
        if self.seen & attr::ETHERTYPE == 0
            && let Some((_, ty)) = implied.iter().find(|(attr, _)| self.seen & attr != 0)
        {
            self.flow.dl_type = (*ty).into();
            self.seen |= attr::ETHERTYPE;
        }
    }

    /// Headers of another type than the packet's are none.
    fn drop_other_headers(&mut self) {
        let f = &mut self.flow;
        let network = match f.dl_type.get() {
            eth_type::IP => attr::IPV4,
            eth_type::IPV6 => attr::IPV6,
            eth_type::ARP => attr::ARP,
            _ => 0,
        };
        if self.seen & network == 0 {
            (f.nw_src, f.nw_dst, f.nw_proto) = Default::default();
            (f.nw_tos, f.nw_ttl, f.nw_frag) = Default::default();
            (f.ipv6_src, f.ipv6_dst, f.ipv6_label) = Default::default();
        }
    }

    /// Ports of another protocol than the packet's are none.
    fn drop_other_ports(&mut self) {
        let ports = match self.flow.nw_proto {
            ip_proto::TCP => attr::TCP,
            ip_proto::UDP => attr::UDP,
            ip_proto::SCTP => attr::SCTP,
            _ => attr::ICMP | attr::ICMPV6,
        };
        if self.seen & ports == 0 {
            (self.flow.tp_src, self.flow.tp_dst) = Default::default();
        }
    }
}

/// A packet that has the key written in `input`, as `netdev-dummy/receive` takes it, filled with zeros up to
/// `size`. The error is the text that the user sees.
pub fn packet_from_text(input: &str, size: Option<usize>) -> Result<Packet, String> {
    let mut parsed = parse(input, None, false).map_err(|e| e.to_string())?;
    if let Some(wrong) = parsed.wrong() {
        return Err(wrong);
    }
    parsed.imply_type(&[
        (attr::IPV4, eth_type::IP),
        (attr::IPV6, eth_type::IPV6),
        (attr::ARP, eth_type::ARP),
    ]);
    parsed.drop_other_ports();
    let payload = size.map_or(Payload::Default, Payload::TotalLen);
    compose(&parsed.flow, payload).ok_or_else(|| "too small packet len".to_owned())
}
