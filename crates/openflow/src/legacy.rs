//! The fixed match structures of OpenFlow 1.0 and 1.1, and normalisation.
//!
//! ```text
//! 1.0 (40 bytes): wildcards4 in_port2 dl_src6 dl_dst6 dl_vlan2 pcp1 0 dl_type2 tos1 proto1 00 nw_src4 nw_dst4 tp_src2 tp_dst2
//! 1.1 (88 bytes): type2 len2 in_port4 wildcards4 dl_src6 mask6 dl_dst6 mask6 dl_vlan2 pcp1 0 dl_type2 tos1 proto1
//!                 nw_src4 mask4 nw_dst4 mask4 tp_src2 tp_dst2 mpls_label4 mpls_tc1 000 metadata8 mask8
//! ```

use ferrovs_packet::field::{ND_ADVERT, ND_SOLICIT, port_from_ofp11, port_to_ofp11};
use ferrovs_packet::flow::{
    Flow, FlowWildcards, IP_DSCP_MASK, Match, VLAN_CFI, VLAN_PCP_MASK, VLAN_PCP_SHIFT,
    VLAN_VID_MASK,
};
use ferrovs_packet::types::{Be16, Be32, MacAddr, eth_type, ip_proto};

use crate::error::OfpErr;
use crate::text::Names;
use crate::text::match_::format_match;
use crate::tun::Tun;
use crate::warn;
use crate::wire::{Put, Reader};

pub const OFP10_MATCH_LEN: usize = 40;
pub const OFP11_MATCH_LEN: usize = 88;

/// Every wildcard bit of a 1.0 match.
pub const OFPFW10_ALL: u32 = w10::ALL;

mod w10 {
    pub const IN_PORT: u32 = 1 << 0;
    pub const DL_VLAN: u32 = 1 << 1;
    pub const DL_SRC: u32 = 1 << 2;
    pub const DL_DST: u32 = 1 << 3;
    pub const DL_TYPE: u32 = 1 << 4;
    pub const NW_PROTO: u32 = 1 << 5;
    pub const TP_SRC: u32 = 1 << 6;
    pub const TP_DST: u32 = 1 << 7;
    pub const NW_SRC_SHIFT: u32 = 8;
    pub const NW_DST_SHIFT: u32 = 14;
    pub const DL_VLAN_PCP: u32 = 1 << 20;
    pub const NW_TOS: u32 = 1 << 21;
    pub const ALL: u32 = (1 << 22) - 1;
}

/// OpenFlow's value for "no VLAN tag", and 1.1's for "any tag".
const VLAN_NONE: u16 = 0xffff;
const VLAN_ANY_11: u16 = 0xfffe;

fn prefix_mask(wild_bits: u32) -> u32 {
    u32::MAX.checked_shl(wild_bits).unwrap_or(0)
}

fn wild_bits(mask: Be32) -> u32 {
    mask.get().trailing_zeros().min(32)
}

/// Sets the VLAN part of a match from OpenFlow 1.0's fields.
fn set_vlan10(m: &mut Match, vid: Option<u16>, pcp: Option<u8>) {
    let mut tci = 0;
    let mut mask = 0;
    if let Some(vid) = vid {
        if vid == VLAN_NONE {
            // Untagged packets only; a priority cannot matter.
            m.flow.vlans[0].tci = Be16::new(0);
            m.wc.masks.vlans[0].tci = Be16::new(0xffff);
            return;
        }
        tci |= vid & VLAN_VID_MASK | VLAN_CFI;
        mask |= VLAN_VID_MASK | VLAN_CFI;
    }
    if let Some(pcp) = pcp {
        tci |= u16::from(pcp) << VLAN_PCP_SHIFT & VLAN_PCP_MASK | VLAN_CFI;
        mask |= VLAN_PCP_MASK | VLAN_CFI;
    }
    m.flow.vlans[0].tci = Be16::new(tci);
    m.wc.masks.vlans[0].tci = Be16::new(mask);
}

/// OpenFlow 1.0's match as it is on the wire. The methods give what is not wild.
pub struct Wire10 {
    pub wildcards: u32,
    pub in_port: u16,
    pub dl_src: MacAddr,
    pub dl_dst: MacAddr,
    pub dl_vlan: u16,
    pub dl_vlan_pcp: u8,
    pub dl_type: u16,
    pub nw_tos: u8,
    pub nw_proto: u8,
    pub nw_src: u32,
    pub nw_dst: u32,
    pub tp_src: u16,
    pub tp_dst: u16,
}

macro_rules! exact {
    ($($field:ident: $ty:ty, $bit:ident;)*) => {
        $(pub fn $field(&self) -> Option<$ty> {
            (self.wildcards & w10::$bit == 0).then_some(self.$field)
        })*
    };
}

impl Wire10 {
    pub fn read(data: &[u8]) -> Result<Wire10, OfpErr> {
        let mut r = Reader::new(data);
        let wildcards = r.u32()? & w10::ALL;
        let in_port = r.u16()?;
        let (dl_src, dl_dst) = (r.mac()?, r.mac()?);
        let (dl_vlan, dl_vlan_pcp) = (r.u16()?, r.u8()?);
        r.skip(1)?;
        let dl_type = r.u16()?;
        let (nw_tos, nw_proto) = (r.u8()?, r.u8()?);
        r.skip(2)?;
        Ok(Wire10 {
            wildcards,
            in_port,
            dl_src,
            dl_dst,
            dl_vlan,
            dl_vlan_pcp,
            dl_type,
            nw_tos,
            nw_proto,
            nw_src: r.u32()?,
            nw_dst: r.u32()?,
            tp_src: r.u16()?,
            tp_dst: r.u16()?,
        })
    }

    exact! {
        in_port: u16, IN_PORT;
        dl_src: MacAddr, DL_SRC;
        dl_dst: MacAddr, DL_DST;
        dl_vlan: u16, DL_VLAN;
        dl_vlan_pcp: u8, DL_VLAN_PCP;
        dl_type: u16, DL_TYPE;
        nw_tos: u8, NW_TOS;
        nw_proto: u8, NW_PROTO;
        tp_src: u16, TP_SRC;
        tp_dst: u16, TP_DST;
    }

    /// How many of the last bits of the source address are wild; all from 32 on.
    pub fn nw_src_wild_bits(&self) -> u32 {
        self.wildcards >> w10::NW_SRC_SHIFT & 0x3f
    }

    pub fn nw_dst_wild_bits(&self) -> u32 {
        self.wildcards >> w10::NW_DST_SHIFT & 0x3f
    }
}

/// Reads OpenFlow 1.0's match.
pub fn match_from_ofp10(data: &[u8]) -> Result<Match, OfpErr> {
    let w = Wire10::read(data)?;
    let mut m = Match::default();
    let (flow, masks) = (&mut m.flow, &mut m.wc.masks);
    let be16 = |exact: bool| if exact { Be16::MAX_VALUE } else { Be16::ZERO };
    let mac = |exact: bool| {
        if exact {
            MacAddr::BROADCAST
        } else {
            MacAddr::ZERO
        }
    };
    flow.in_port = w.in_port.into();
    masks.in_port = if w.in_port().is_some() { u32::MAX } else { 0 };
    (flow.dl_src, masks.dl_src) = (w.dl_src, mac(w.dl_src().is_some()));
    (flow.dl_dst, masks.dl_dst) = (w.dl_dst, mac(w.dl_dst().is_some()));
    flow.dl_type = w.dl_type.into();
    masks.dl_type = be16(w.dl_type().is_some());
    flow.nw_tos = w.nw_tos & IP_DSCP_MASK;
    masks.nw_tos = w.nw_tos().map_or(0, |_| IP_DSCP_MASK);
    flow.nw_proto = w.nw_proto;
    masks.nw_proto = w.nw_proto().map_or(0, |_| 0xff);
    flow.nw_src = w.nw_src.into();
    masks.nw_src = prefix_mask(w.nw_src_wild_bits()).into();
    flow.nw_dst = w.nw_dst.into();
    masks.nw_dst = prefix_mask(w.nw_dst_wild_bits()).into();
    (flow.tp_src, masks.tp_src) = (w.tp_src.into(), be16(w.tp_src().is_some()));
    (flow.tp_dst, masks.tp_dst) = (w.tp_dst.into(), be16(w.tp_dst().is_some()));
    set_vlan10(&mut m, w.dl_vlan(), w.dl_vlan_pcp());
    let wc = m.wc;
    m.flow.mask(&wc);
    Ok(m)
}

/// Appends OpenFlow 1.0's match; what it cannot say is left out.
pub fn match_to_ofp10(m: &Match, out: &mut Vec<u8>) {
    let (flow, masks) = (&m.flow, &m.wc.masks);
    let mut wild = 0;
    let mut add = |is_wild: bool, bit: u32| {
        if is_wild {
            wild |= bit;
        }
    };
    add(masks.in_port == 0, w10::IN_PORT);
    add(masks.dl_src.is_zero(), w10::DL_SRC);
    add(masks.dl_dst.is_zero(), w10::DL_DST);
    add(masks.dl_type.get() == 0, w10::DL_TYPE);
    add(masks.nw_proto == 0, w10::NW_PROTO);
    add(masks.nw_tos & IP_DSCP_MASK == 0, w10::NW_TOS);
    add(masks.tp_src.get() == 0, w10::TP_SRC);
    add(masks.tp_dst.get() == 0, w10::TP_DST);
    wild |= wild_bits(masks.nw_src) << w10::NW_SRC_SHIFT;
    wild |= wild_bits(masks.nw_dst) << w10::NW_DST_SHIFT;
    let (tci, tci_mask) = (flow.vlans[0].tci.get(), masks.vlans[0].tci.get());
    let (mut vid, mut pcp) = (0, 0);
    if tci_mask == 0 {
        wild |= w10::DL_VLAN | w10::DL_VLAN_PCP;
    } else if tci_mask & VLAN_CFI != 0 && tci & VLAN_CFI == 0 {
        vid = VLAN_NONE;
    } else {
        if tci_mask & VLAN_VID_MASK == 0 {
            wild |= w10::DL_VLAN;
        } else {
            vid = tci & VLAN_VID_MASK;
        }
        if tci_mask & VLAN_PCP_MASK == 0 {
            wild |= w10::DL_VLAN_PCP;
        } else {
            pcp = (tci >> VLAN_PCP_SHIFT) as u8;
        }
    }
    out.put_u32(wild);
    out.put_u16(flow.in_port as u16);
    out.put(&flow.dl_src.0);
    out.put(&flow.dl_dst.0);
    out.put_u16(vid);
    out.put_u8(pcp);
    out.put_u8(0);
    out.put_u16(flow.dl_type.get());
    out.put_u8(flow.nw_tos & IP_DSCP_MASK);
    out.put_u8(flow.nw_proto);
    out.put_u16(0);
    out.put_u32(flow.nw_src.get());
    out.put_u32(flow.nw_dst.get());
    out.put_u16(flow.tp_src.get());
    out.put_u16(flow.tp_dst.get());
}

mod w11 {
    pub const IN_PORT: u32 = 1 << 0;
    pub const DL_VLAN: u32 = 1 << 1;
    pub const DL_VLAN_PCP: u32 = 1 << 2;
    pub const DL_TYPE: u32 = 1 << 3;
    pub const NW_TOS: u32 = 1 << 4;
    pub const NW_PROTO: u32 = 1 << 5;
    pub const TP_SRC: u32 = 1 << 6;
    pub const TP_DST: u32 = 1 << 7;
    pub const MPLS_LABEL: u32 = 1 << 8;
    pub const MPLS_TC: u32 = 1 << 9;
    pub const ALL: u32 = (1 << 10) - 1;
}

/// Reads OpenFlow 1.1's match (its header has been looked at).
pub fn match_from_ofp11(data: &[u8]) -> Result<Match, OfpErr> {
    let mut r = Reader::new(data);
    r.skip(4)?;
    let in_port = r.u32()?;
    let mut wild = r.u32()?;
    let dl_src = r.mac()?;
    let dl_src_mask = r.mac()?;
    let dl_dst = r.mac()?;
    let dl_dst_mask = r.mac()?;
    let vid = r.u16()?;
    let pcp = r.u8()?;
    r.skip(1)?;
    let dl_type = r.u16()?;
    let nw_tos = r.u8()?;
    let nw_proto = r.u8()?;
    // In OpenFlow 1.1 a 1 in a mask is a wildcard.
    let nw_src = r.u32()?;
    let nw_src_mask = r.u32()?;
    let nw_dst = r.u32()?;
    let nw_dst_mask = r.u32()?;
    let tp_src = r.u16()?;
    let tp_dst = r.u16()?;
    let mpls_label = r.u32()?;
    let mpls_tc = r.u8()?;
    r.skip(3)?;
    let metadata = r.u64()?;
    let metadata_mask = r.u64()?;

    let invert = |mac: MacAddr| MacAddr(mac.0.map(|b| !b));
    let mut m = Match::default();
    if wild & w11::IN_PORT == 0 {
        let port = port_from_ofp11(in_port).ok_or(OfpErr::OFPBMC_BAD_VALUE)?;
        m.flow.in_port = port.into();
        m.wc.masks.in_port = u32::MAX;
    }
    m.flow.dl_src = dl_src;
    m.wc.masks.dl_src = invert(dl_src_mask);
    m.flow.dl_dst = dl_dst;
    m.wc.masks.dl_dst = invert(dl_dst_mask);
    if wild & w11::DL_VLAN == 0 {
        match vid {
            VLAN_NONE => {
                m.wc.masks.vlans[0].tci = Be16::MAX_VALUE;
            }
            VLAN_ANY_11 => {
                m.flow.vlans[0].tci = Be16::new(VLAN_CFI);
                m.wc.masks.vlans[0].tci = Be16::new(VLAN_CFI);
            }
            vid if vid < VLAN_CFI => {
                m.flow.vlans[0].tci = Be16::new(vid | VLAN_CFI);
                m.wc.masks.vlans[0].tci = Be16::new(VLAN_VID_MASK | VLAN_CFI);
            }
            _ => return Err(OfpErr::OFPBMC_BAD_VALUE),
        }
        if wild & w11::DL_VLAN_PCP == 0 && vid != VLAN_NONE {
            if pcp > 7 {
                return Err(OfpErr::OFPBMC_BAD_VALUE);
            }
            let tci = m.flow.vlans[0].tci.get() | u16::from(pcp) << VLAN_PCP_SHIFT;
            m.flow.vlans[0].tci = Be16::new(tci);
            m.wc.masks.vlans[0].tci = Be16::new(m.wc.masks.vlans[0].tci.get() | VLAN_PCP_MASK);
        }
    }
    if wild & w11::DL_TYPE == 0 {
        m.flow.dl_type = dl_type.into();
        m.wc.masks.dl_type = Be16::MAX_VALUE;
    }
    let ipv4 = m.flow.dl_type.get() == eth_type::IP;
    let arp = m.flow.dl_type.get() == eth_type::ARP;
    if ipv4 && wild & w11::NW_TOS == 0 {
        if nw_tos & !IP_DSCP_MASK != 0 {
            return Err(OfpErr::OFPBMC_BAD_VALUE);
        }
        m.flow.nw_tos = nw_tos;
        m.wc.masks.nw_tos = IP_DSCP_MASK;
    }
    if ipv4 || arp {
        if wild & w11::NW_PROTO == 0 {
            m.flow.nw_proto = nw_proto;
            m.wc.masks.nw_proto = 0xff;
        }
        m.flow.nw_src = nw_src.into();
        m.wc.masks.nw_src = (!nw_src_mask).into();
        m.flow.nw_dst = nw_dst.into();
        m.wc.masks.nw_dst = (!nw_dst_mask).into();
    }
    const TP_ALL: u32 = w11::TP_SRC | w11::TP_DST;
    if ipv4 && wild & TP_ALL != TP_ALL {
        match m.flow.nw_proto {
            ip_proto::ICMP => {
                if tp_src >= 0x100 || tp_dst >= 0x100 {
                    return Err(OfpErr::OFPBMC_BAD_FIELD);
                }
            }
            ip_proto::TCP | ip_proto::UDP | ip_proto::SCTP => {}
            // What has no ports is left alone, as the specification says.
            _ => wild |= TP_ALL,
        }
        if wild & w11::TP_SRC == 0 {
            m.flow.tp_src = tp_src.into();
            m.wc.masks.tp_src = Be16::MAX_VALUE;
        }
        if wild & w11::TP_DST == 0 {
            m.flow.tp_dst = tp_dst.into();
            m.wc.masks.tp_dst = Be16::MAX_VALUE;
        }
    }
    if [eth_type::MPLS, eth_type::MPLS_MCAST].contains(&m.flow.dl_type.get()) {
        let mut lse = 0;
        let mut mask = 0;
        if wild & w11::MPLS_LABEL == 0 {
            lse |= (mpls_label & 0xfffff) << 12;
            mask |= 0xfffff << 12;
        }
        if wild & w11::MPLS_TC == 0 {
            lse |= u32::from(mpls_tc & 7) << 9;
            mask |= 7 << 9;
        }
        m.flow.mpls_lse[0] = lse.into();
        m.wc.masks.mpls_lse[0] = mask.into();
    }
    m.flow.metadata = metadata.into();
    m.wc.masks.metadata = (!metadata_mask).into();
    let wc = m.wc;
    m.flow.mask(&wc);
    Ok(m)
}

/// Appends OpenFlow 1.1's match after its 4-byte header.
pub fn match_to_ofp11(m: &Match, out: &mut Vec<u8>) {
    let (flow, masks) = (&m.flow, &m.wc.masks);
    let invert = |mac: MacAddr| mac.0.map(|b| !b);
    let mut wild = 0;
    let mut add = |is_wild: bool, bit: u32| {
        if is_wild {
            wild |= bit;
        }
    };
    add(masks.in_port == 0, w11::IN_PORT);
    add(masks.dl_type.get() == 0, w11::DL_TYPE);
    add(masks.nw_tos & IP_DSCP_MASK == 0, w11::NW_TOS);
    add(masks.nw_proto == 0, w11::NW_PROTO);
    add(masks.tp_src.get() == 0, w11::TP_SRC);
    add(masks.tp_dst.get() == 0, w11::TP_DST);
    let lse_mask = masks.mpls_lse[0].get();
    add(lse_mask & 0xfffff << 12 == 0, w11::MPLS_LABEL);
    add(lse_mask & 7 << 9 == 0, w11::MPLS_TC);
    let (tci, tci_mask) = (flow.vlans[0].tci.get(), masks.vlans[0].tci.get());
    let (mut vid, mut pcp) = (0, 0);
    if tci_mask == 0 {
        wild |= w11::DL_VLAN | w11::DL_VLAN_PCP;
    } else if tci_mask & VLAN_CFI != 0 && tci & VLAN_CFI == 0 {
        vid = VLAN_NONE;
        wild |= w11::DL_VLAN_PCP;
    } else {
        vid = if tci_mask & VLAN_VID_MASK == 0 {
            VLAN_ANY_11
        } else {
            tci & VLAN_VID_MASK
        };
        if tci_mask & VLAN_PCP_MASK == 0 {
            wild |= w11::DL_VLAN_PCP;
        } else {
            pcp = (tci >> VLAN_PCP_SHIFT) as u8;
        }
    }
    out.put_u32(if masks.in_port == 0 {
        0
    } else {
        port_to_ofp11(flow.in_port as u16)
    });
    out.put_u32(wild & w11::ALL);
    out.put(&flow.dl_src.0);
    out.put(&invert(masks.dl_src));
    out.put(&flow.dl_dst.0);
    out.put(&invert(masks.dl_dst));
    out.put_u16(vid);
    out.put_u8(pcp);
    out.put_u8(0);
    out.put_u16(flow.dl_type.get());
    out.put_u8(flow.nw_tos & IP_DSCP_MASK);
    out.put_u8(flow.nw_proto);
    out.put_u32(flow.nw_src.get());
    out.put_u32(!masks.nw_src.get());
    out.put_u32(flow.nw_dst.get());
    out.put_u32(!masks.nw_dst.get());
    out.put_u16(flow.tp_src.get());
    out.put_u16(flow.tp_dst.get());
    out.put_u32(flow.mpls_lse[0].get() >> 12);
    out.put_u8((flow.mpls_lse[0].get() >> 9 & 7) as u8);
    out.put_zeros(3);
    out.put_u64(flow.metadata.get());
    out.put_u64(!masks.metadata.get());
}

/// Removes from a match what cannot matter because the match does not demand the protocol that it belongs to, and
/// complains if that changed it: whoever wrote the match meant something by it.
pub fn normalize(m: &mut Match) {
    let before = *m;
    m.wc = normal_wildcards(m);
    if m.wc == before.wc {
        return;
    }
    let wc: FlowWildcards = m.wc;
    Flow::mask(&mut m.flow, &wc);
    let after = *m;
    warn::warn(warn::Topic::Match, || {
        let text = |m: &Match| {
            let tun = Tun::none();
            let mut out = String::new();
            format_match(m, None, &Names::none(&tun), &mut out);
            out
        };
        format!(
            "normalization changed ofp_match, details:\n pre: {}\npost: {}",
            text(&before),
            text(&after)
        )
    });
}

/// The wildcards of a match without what the protocols that it demands give no meaning to.
fn normal_wildcards(m: &Match) -> FlowWildcards {
    let mut wc = m.wc;
    let w = &mut wc.masks;
    let zero16 = [0; 16];
    let ty = m.flow.ether_type();
    let proto = m.flow.nw_proto;
    let ip = ty == eth_type::IP;
    let ipv6 = ty == eth_type::IPV6;
    let arp = ty == eth_type::ARP || ty == eth_type::RARP;
    let mpls = ty == eth_type::MPLS || ty == eth_type::MPLS_MCAST;
    let icmp6 = ipv6 && proto == ip_proto::ICMPV6;
    let l4 = [ip_proto::TCP, ip_proto::UDP, ip_proto::SCTP].contains(&proto);
    let solicit = icmp6 && m.flow.tp_src.get() == ND_SOLICIT;
    let advert = icmp6 && m.flow.tp_src.get() == ND_ADVERT;
    if !ip && !arp {
        w.nw_src = Be32::ZERO;
        w.nw_dst = Be32::ZERO;
    }
    if !((ip || ipv6) && l4 || ip && proto == ip_proto::ICMP || icmp6) {
        w.tp_src = Be16::ZERO;
        w.tp_dst = Be16::ZERO;
    }
    if !ip && !ipv6 && !arp {
        w.nw_proto = 0;
    }
    if !ip && !ipv6 {
        w.nw_tos = 0;
        w.nw_ttl = 0;
        w.nw_frag = 0;
    }
    if !arp && !solicit {
        w.arp_sha = MacAddr::ZERO;
    }
    if !arp && !advert {
        w.arp_tha = MacAddr::ZERO;
    }
    if !ipv6 {
        w.ipv6_src = zero16;
        w.ipv6_dst = zero16;
        w.ipv6_label = Be32::ZERO;
    }
    if !solicit && !advert {
        w.nd_target = zero16;
    }
    if !mpls {
        w.mpls_lse = [Be32::ZERO; 4];
    }
    wc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_match_that_1_0_can_say_survives_it() {
        let mut m = Match::default();
        m.flow.in_port = 3;
        m.wc.masks.in_port = u32::MAX;
        m.flow.dl_type = eth_type::IP.into();
        m.wc.masks.dl_type = Be16::MAX_VALUE;
        m.flow.nw_src = 0x0a00_0000.into();
        m.wc.masks.nw_src = 0xff00_0000.into();
        set_vlan10(&mut m, Some(7), Some(3));
        let mut b = Vec::new();
        match_to_ofp10(&m, &mut b);
        assert_eq!(b.len(), OFP10_MATCH_LEN);
        assert_eq!(match_from_ofp10(&b), Ok(m));
        let mut b = vec![0, 0, 0, 88];
        match_to_ofp11(&m, &mut b);
        assert_eq!(b.len(), OFP11_MATCH_LEN);
        assert_eq!(match_from_ofp11(&b), Ok(m));
    }
}
