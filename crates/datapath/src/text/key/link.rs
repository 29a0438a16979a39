//! The link layer: type of the packet, Ethernet, VLAN tags, EtherType.

use std::fmt::Write;

use ferrovs_packet::flow::{VLAN_CFI, VLAN_PCP_SHIFT, VLAN_VID_MASK};
use ferrovs_packet::text::Cursor;
use ferrovs_packet::types::eth_type;

use super::{Attribute, ParsedKey, Presence, Printer, U16, Written, attr, is_vlan, masked};
use crate::action::EthernetKey;
use crate::text::{FieldWriter, members};

pub(super) static PACKET_TYPE: Attribute = Attribute {
    name: "packet_type",
    bit: attr::PACKET_TYPE,
    presence: Presence::Free,
    of: |_| true,
    print: |p, a| {
        let (pt, mask) = (p.k.packet_type.get(), p.m.packet_type.get());
        if mask != 0 || p.verbose {
            p.inside(a.name, |out| {
                let mut w = FieldWriter::new(out, true);
                w.dec("ns", (pt >> 16).into(), (mask >> 16).into(), U16);
                w.hex("id", (pt & 0xffff).into(), (mask & 0xffff).into(), U16);
            });
        }
    },
    read: |key, c, _| {
        let (mut pt, mut mask) = (0, 0);
        c.members(|name, c| {
            let (v, m) = c.masked(U16)?;
            let shift = match name {
                "ns" => 16,
                "id" => 0,
                _ => return None,
            };
            pt |= (v as u32) << shift;
            mask |= (m as u32) << shift;
            Some(())
        })?;
        (key.flow.packet_type, key.wc.masks.packet_type) = (pt.into(), mask.into());
        Some(())
    },
    written: Written::AsRead,
};

pub(super) static ETHERNET: Attribute = Attribute {
    name: "eth",
    bit: attr::ETHERNET,
    presence: Presence::Free,
    of: |k| k.packet_type.get() == 0,
    print: |p, a| {
        let (k, m) = (p.k, p.m);
        let wild = m.dl_src.is_zero() && m.dl_dst.is_zero();
        if !wild || p.verbose {
            let key = EthernetKey {
                src: k.dl_src,
                dst: k.dl_dst,
            };
            let mask = EthernetKey {
                src: m.dl_src,
                dst: m.dl_dst,
            };
            p.members(a.name, wild, |w| members::write_ethernet(w, &key, &mask));
        } else if m.packet_type.get() == 0 {
            p.inside(a.name, |_| ());
        }
    },
    read: |key, c, _| {
        let eth = members::read_ethernet(c)?;
        let (flow, wc) = (&mut key.flow, &mut key.wc.masks);
        (flow.dl_src, flow.dl_dst) = (eth.value.src, eth.value.dst);
        (wc.dl_src, wc.dl_dst) = (eth.mask.src, eth.mask.dst);
        Some(())
    },
    written: Written::Inside(|out, key| {
        _ = write!(out, "src={},dst={}", key.flow.dl_src, key.flow.dl_dst);
    }),
};

/// A tag, with the EtherType that announces it and the `encap` around what it encloses. It may stand in a key again,
/// deeper in it.
pub(super) static VLAN: Attribute = Attribute {
    name: "vlan",
    bit: attr::VLAN,
    presence: Presence::Free,
    of: |_| true,
    print: |p, _| print_vlans(p),
    read: |key, c, _| read_vlan(key, c),
    written: Written::Inside(|out, key| {
        let tci = key.flow.vlans[key.encaps].tci.get();
        let (vid, pcp) = (tci & VLAN_VID_MASK, tci >> VLAN_PCP_SHIFT);
        let cfi = if tci & VLAN_CFI == 0 { ",cfi=0" } else { "" };
        _ = write!(out, "vid={vid},pcp={pcp}{cfi}");
    }),
};

fn print_vlans(p: &mut Printer<'_, '_>) {
    let (k, m) = (p.k, p.m);
    for (i, (vlan, mask)) in k.vlans.iter().zip(&m.vlans).enumerate() {
        let tci = vlan.tci.get();
        let mut tpid = vlan.tpid.get();
        // A packet that ends in its VLAN header has one without a tag.
        if i == 0 && tpid == 0 && is_vlan(k.dl_type.get()) && k.packet_type.get() == 0 {
            tpid = k.dl_type.get();
        }
        if tpid == 0 && tci & VLAN_CFI == 0 {
            break;
        }
        p.comma();
        _ = write!(p.out, "eth_type(0x{tpid:04x}),vlan(");
        let mut w = FieldWriter::new(p.out, true);
        let tci_mask = mask.tci.get();
        let vid_mask = tci_mask & VLAN_VID_MASK;
        let vid = tci & VLAN_VID_MASK;
        if vid_mask != 0 || vid != 0 || p.verbose {
            w.dec("vid", vid.into(), 0xfff, 0xfff);
            if vid_mask != 0xfff {
                _ = write!(w.raw(), "/0x{vid_mask:x}");
            }
        }
        let pcp_mask = tci_mask >> VLAN_PCP_SHIFT;
        let pcp = tci >> VLAN_PCP_SHIFT;
        if pcp_mask != 0 || pcp != 0 || p.verbose {
            w.dec("pcp", pcp.into(), 7, 7);
            if pcp_mask != 7 {
                _ = write!(w.raw(), "/0x{pcp_mask:x}");
            }
        }
        if tci & VLAN_CFI == 0 {
            w.raw().push_str(",cfi=0");
        }
        p.out.push_str("),encap(");
        p.encaps += 1;
        if tci & VLAN_CFI == 0 {
            p.ended = true;
            return;
        }
    }
}

fn read_vlan(key: &mut ParsedKey, c: &mut Cursor<'_>) -> Option<()> {
    let (mut tci, mut mask) = (VLAN_CFI, VLAN_CFI);
    c.members(|name, c| {
        let (bits, shift) = match name {
            "vid" => (VLAN_VID_MASK, 0),
            "pcp" => (7, VLAN_PCP_SHIFT),
            "cfi" => (1, 12),
            _ => return None,
        };
        let (v, m) = c.masked(bits.into())?;
        tci = tci & !(bits << shift) | (v as u16) << shift;
        mask = mask & !(bits << shift) | (m as u16) << shift;
        Some(())
    })?;
    // The type that was read is that of the VLAN header.
    let (flow, wc) = (&mut key.flow, &mut key.wc.masks);
    let (vlan, vlan_mask) = (
        flow.vlans.get_mut(key.encaps)?,
        wc.vlans.get_mut(key.encaps)?,
    );
    (vlan.tpid, vlan_mask.tpid) = (flow.dl_type, wc.dl_type);
    (vlan.tci, vlan_mask.tci) = (tci.into(), mask.into());
    (flow.dl_type, wc.dl_type) = (0.into(), u16::MAX.into());
    key.seen &= !attr::ETHERTYPE;
    Some(())
}

pub(super) static ETHERTYPE: Attribute = Attribute {
    name: "eth_type",
    bit: attr::ETHERTYPE,
    presence: Presence::Free,
    of: |_| true,
    print: |p, _| {
        let (ty, mask) = (p.k.dl_type.get(), p.m.dl_type.get());
        if ty == eth_type::NOT_ETH || ty == 0 && p.k.packet_type.get() == 0 {
            if mask != 0 {
                p.comma();
                _ = write!(p.out, "eth_type(0/0x{mask:04x})");
            }
        } else if mask != 0 || p.verbose {
            p.comma();
            _ = write!(p.out, "eth_type(0x{ty:04x}");
            if mask != u16::MAX {
                _ = write!(p.out, "/0x{mask:04x}");
            }
            p.out.push(')');
        }
    },
    read: |key, c, _| {
        let (v, m) = masked(c, U16)?;
        (key.flow.dl_type, key.wc.masks.dl_type) = ((v as u16).into(), (m as u16).into());
        Some(())
    },
    written: Written::Inside(|out, key| _ = write!(out, "{:#06x}", key.flow.dl_type.get())),
};
