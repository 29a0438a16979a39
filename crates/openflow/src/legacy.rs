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

/// OpenFlow 1.1's match as it is on the wire, where a 1 in a mask is a wildcard.
struct Wire11 {
    in_port: u32,
    wildcards: u32,
    dl_src: [MacAddr; 2],
    dl_dst: [MacAddr; 2],
    vid: u16,
    pcp: u8,
    dl_type: u16,
    nw_tos: u8,
    nw_proto: u8,
    nw_src: [u32; 2],
    nw_dst: [u32; 2],
    tp_src: u16,
    tp_dst: u16,
    mpls_label: u32,
    mpls_tc: u8,
    metadata: [u64; 2],
}

/// Reads OpenFlow 1.1's match (its header has been looked at).
pub fn match_from_ofp11(data: &[u8]) -> Result<Match, OfpErr> {
    let wire = Wire11::read(data)?;
    let mut m = Match::default();
    wire.link(&mut m)?;
    wire.network(&mut m)?;
    wire.transport(&mut m)?;
    wire.mpls(&mut m);
    let [metadata, wild] = wire.metadata;
    m.flow.metadata = metadata.into();
    m.wc.masks.metadata = (!wild).into();
    let wc = m.wc;
    m.flow.mask(&wc);
    Ok(m)
}

impl Wire11 {
    fn read(data: &[u8]) -> Result<Wire11, OfpErr> {
        let mut r = Reader::new(data);
        r.skip(4)?;
        let (in_port, wildcards) = (r.u32()?, r.u32()?);
        let (dl_src, dl_dst) = ([r.mac()?, r.mac()?], [r.mac()?, r.mac()?]);
        let (vid, pcp) = (r.u16()?, r.u8()?);
        r.skip(1)?;
        let (dl_type, nw_tos, nw_proto) = (r.u16()?, r.u8()?, r.u8()?);
        let (nw_src, nw_dst) = ([r.u32()?, r.u32()?], [r.u32()?, r.u32()?]);
        let (tp_src, tp_dst) = (r.u16()?, r.u16()?);
        let (mpls_label, mpls_tc) = (r.u32()?, r.u8()?);
        r.skip(3)?;
        let metadata = [r.u64()?, r.u64()?];
        Ok(Wire11 {
            in_port,
            wildcards,
            dl_src,
            dl_dst,
            vid,
            pcp,
            dl_type,
            nw_tos,
            nw_proto,
            nw_src,
            nw_dst,
            tp_src,
            tp_dst,
            mpls_label,
            mpls_tc,
            metadata,
        })
    }

    /// Whether the match says something of the field of this wildcard bit.
    fn has(&self, bit: u32) -> bool {
        self.wildcards & bit == 0
    }

    fn link(&self, m: &mut Match) -> Result<(), OfpErr> {
        let invert = |mac: MacAddr| MacAddr(mac.0.map(|b| !b));
        let (flow, masks) = (&mut m.flow, &mut m.wc.masks);
        if self.has(w11::IN_PORT) {
            let port = port_from_ofp11(self.in_port).ok_or(OfpErr::OFPBMC_BAD_VALUE)?;
            flow.in_port = port.into();
            masks.in_port = u32::MAX;
        }
        flow.dl_src = self.dl_src[0];
        masks.dl_src = invert(self.dl_src[1]);
        flow.dl_dst = self.dl_dst[0];
        masks.dl_dst = invert(self.dl_dst[1]);
        if self.has(w11::DL_VLAN) {
            let (tci, mask) = self.vlan()?;
            flow.vlans[0].tci = Be16::new(tci);
            masks.vlans[0].tci = Be16::new(mask);
        }
        if self.has(w11::DL_TYPE) {
            flow.dl_type = self.dl_type.into();
            masks.dl_type = Be16::MAX_VALUE;
        }
        Ok(())
    }

    /// The tag that is matched, and its mask.
    fn vlan(&self) -> Result<(u16, u16), OfpErr> {
        let (mut tci, mut mask) = match self.vid {
            VLAN_NONE => return Ok((0, u16::MAX)),
            VLAN_ANY_11 => (VLAN_CFI, VLAN_CFI),
            vid if vid < VLAN_CFI => (vid | VLAN_CFI, VLAN_VID_MASK | VLAN_CFI),
            _ => return Err(OfpErr::OFPBMC_BAD_VALUE),
        };
        if self.has(w11::DL_VLAN_PCP) {
            if self.pcp > 7 {
                return Err(OfpErr::OFPBMC_BAD_VALUE);
            }
            tci |= u16::from(self.pcp) << VLAN_PCP_SHIFT;
            mask |= VLAN_PCP_MASK;
        }
        Ok((tci, mask))
    }

    fn network(&self, m: &mut Match) -> Result<(), OfpErr> {
        let (flow, masks) = (&mut m.flow, &mut m.wc.masks);
        let ipv4 = flow.dl_type.get() == eth_type::IP;
        let arp = flow.dl_type.get() == eth_type::ARP;
        if ipv4 && self.has(w11::NW_TOS) {
            if self.nw_tos & !IP_DSCP_MASK != 0 {
                return Err(OfpErr::OFPBMC_BAD_VALUE);
            }
            flow.nw_tos = self.nw_tos;
            masks.nw_tos = IP_DSCP_MASK;
        }
        if ipv4 || arp {
            if self.has(w11::NW_PROTO) {
                flow.nw_proto = self.nw_proto;
                masks.nw_proto = 0xff;
            }
            flow.nw_src = self.nw_src[0].into();
            masks.nw_src = (!self.nw_src[1]).into();
            flow.nw_dst = self.nw_dst[0].into();
            masks.nw_dst = (!self.nw_dst[1]).into();
        }
        Ok(())
    }

    fn transport(&self, m: &mut Match) -> Result<(), OfpErr> {
        let (flow, masks) = (&mut m.flow, &mut m.wc.masks);
        let (has_src, has_dst) = (self.has(w11::TP_SRC), self.has(w11::TP_DST));
        if flow.dl_type.get() != eth_type::IP || !has_src && !has_dst {
            return Ok(());
        }
        match flow.nw_proto {
            ip_proto::ICMP if self.tp_src >= 0x100 || self.tp_dst >= 0x100 => {
                return Err(OfpErr::OFPBMC_BAD_FIELD);
            }
            ip_proto::ICMP | ip_proto::TCP | ip_proto::UDP | ip_proto::SCTP => {}
            // What has no ports is left alone, as the specification says.
            _ => return Ok(()),
        }
        if has_src {
            flow.tp_src = self.tp_src.into();
            masks.tp_src = Be16::MAX_VALUE;
        }
        if has_dst {
            flow.tp_dst = self.tp_dst.into();
            masks.tp_dst = Be16::MAX_VALUE;
        }
        Ok(())
    }

    fn mpls(&self, m: &mut Match) {
        if ![eth_type::MPLS, eth_type::MPLS_MCAST].contains(&m.flow.dl_type.get()) {
            return;
        }
        let (mut lse, mut mask) = (0, 0);
        if self.has(w11::MPLS_LABEL) {
            lse |= (self.mpls_label & 0xfffff) << 12;
            mask |= 0xfffff << 12;
        }
        if self.has(w11::MPLS_TC) {
            lse |= u32::from(self.mpls_tc & 7) << 9;
            mask |= 7 << 9;
        }
        m.flow.mpls_lse[0] = lse.into();
        m.wc.masks.mpls_lse[0] = mask.into();
    }
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
    let wc = normal_wildcards(m);
    if m.wc == wc {
        return;
    }
    let before = *m;
    Flow::mask(&mut m.flow, &wc);
    m.wc = wc;
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

/// Whether that would leave the match as it is.
pub(crate) fn is_normal(m: &Match) -> bool {
    m.wc == normal_wildcards(m)
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
