//! Where a field lives in a [`Flow`] and how it is read and written there.
//!
//! Most fields are an integer of 1 to 16 bytes in network or host order, or some of its bits. The others share
//! storage in a way that needs care: ports that are wider on the wire, VLAN views, ICMP types in the transport
//! ports, registers seen in pairs and fours. Masks live in the same places with the same code, apart from
//! widenings: exact ARP opcodes, ICMP types and ports fill their whole storage.

use std::mem::offset_of;

use zerocopy::IntoBytes;

use super::tun::TunTable;
use super::value::FieldValue;
use crate::flow::{Flow, VLAN_CFI, VLAN_PCP_MASK, VLAN_PCP_SHIFT, VLAN_VID_MASK, VlanHdr};
use crate::miniflow::FlowMap;
use crate::types::{Be16, eth_type};

/// Place of a field in the flow key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location {
    /// `mask << shift` bits of the integer of `len` bytes at `ofs`.
    Bits {
        ofs: u16,
        len: u8,
        host_order: bool,
        shift: u8,
        mask: u128,
    },
    /// Low byte of a 16-bit integer in network order at this offset, which as a whole holds only the field.
    LowByte(u16),
    ArpOp,
    InPort,
    InPortOxm,
    ActsetOutput,
    VlanTci,
    /// VLAN ID as OpenFlow 1.0 sees it: setting it makes the tag present.
    DlVlan,
    /// VLAN ID with the presence bit, as OpenFlow 1.2 and later see it.
    VlanVid,
    VlanPcp,
    /// Two registers, the first is the more significant.
    Xreg(u8),
    /// Four registers.
    Xxreg(u8),
    TunMetadata(u8),
}

/// Where in one word of a flow key a field lies that is a number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub word: u8,
    mask: u64,
    /// Bits below the number in its integer.
    shift: u8,
    /// Bits that an integer in network order is shorter than a word.
    unused: Option<u8>,
    /// The first bit of the integer.
    start: u8,
}

impl Place {
    /// The bits of a number as they stand in the word.
    #[inline]
    pub fn bits(&self, number: &FieldValue) -> u64 {
        let integer = (number.to_u64() & self.mask) << self.shift;
        let integer = match self.unused {
            Some(unused) => integer.swap_bytes() >> unused,
            None => integer,
        };
        integer << self.start
    }
}

/// An integer of `len` bytes in network order at `ofs`.
pub(super) const fn be(ofs: usize, len: u8) -> Location {
    bits(ofs, len, false)
}

/// An integer of `len` bytes in host order at `ofs`.
pub(super) const fn host(ofs: usize, len: u8) -> Location {
    bits(ofs, len, true)
}

const fn bits(ofs: usize, len: u8, host_order: bool) -> Location {
    Location::Bits {
        ofs: ofs as u16,
        len,
        host_order,
        shift: 0,
        mask: u128::MAX >> (128 - 8 * len as u32),
    }
}

/// What OpenFlow 1.0 sends as VLAN ID for "no tag".
pub const OFP10_VLAN_NONE: u16 = 0xffff;

/// 32-bit form of a 16-bit OpenFlow port number.
pub fn port_to_ofp11(port: u16) -> u32 {
    if port >= 0xff00 {
        u32::from(port) | 0xffff_0000
    } else {
        u32::from(port)
    }
}

/// 16-bit form of a 32-bit OpenFlow port number; `None` outside the ranges that have one.
pub fn port_from_ofp11(port: u32) -> Option<u16> {
    match port {
        0..0xff00 | 0xffff_ff00.. => Some(port as u16),
        _ => None,
    }
}

impl Location {
    /// Part of an integer.
    pub(super) const fn bits(self, new_shift: u8, new_mask: u128) -> Location {
        match self {
            Location::Bits {
                ofs,
                len,
                host_order,
                ..
            } => Location::Bits {
                ofs,
                len,
                host_order,
                shift: new_shift,
                mask: new_mask,
            },
            other => other,
        }
    }

    /// The words of a flow key that the field has a part of.
    pub(super) const fn words(self) -> FlowMap {
        let (ofs, len) = match self {
            Location::Bits { ofs, len, .. } => (ofs as usize, len as usize),
            Location::LowByte(ofs) => (ofs as usize, 2),
            Location::ArpOp => (offset_of!(Flow, nw_proto), 1),
            Location::InPort | Location::InPortOxm => (offset_of!(Flow, in_port), 4),
            Location::ActsetOutput => (offset_of!(Flow, actset_output), 4),
            Location::VlanTci | Location::DlVlan | Location::VlanVid | Location::VlanPcp => {
                (offset_of!(Flow, vlans), size_of::<VlanHdr>())
            }
            Location::Xreg(i) => (offset_of!(Flow, regs) + 8 * i as usize, 8),
            Location::Xxreg(i) => (offset_of!(Flow, regs) + 16 * i as usize, 16),
            // Whether there is an option stands in one word.
            Location::TunMetadata(_) => (offset_of!(Flow, tunnel.metadata.present), 8),
        };
        let (first, last) = (ofs / 8, (ofs + len - 1) / 8);
        let mut map = FlowMap::EMPTY;
        map.0[first / 64] |= 1 << (first % 64);
        map.0[last / 64] |= 1 << (last % 64);
        assert!(last - first <= 2);
        if last - first == 2 {
            map.0[(first + 1) / 64] |= 1 << ((first + 1) % 64);
        }
        map
    }

    /// Where a number lies that is in one word.
    pub(super) const fn place(self) -> Option<Place> {
        match self {
            Location::Bits {
                ofs,
                len,
                host_order,
                shift,
                mask,
            } if ofs % 8 + len as u16 <= 8 && cfg!(target_endian = "little") => Some(Place {
                word: (ofs / 8) as u8,
                mask: mask as u64,
                shift,
                unused: if host_order { None } else { Some(64 - 8 * len) },
                start: (ofs % 8) as u8 * 8,
            }),
            _ => None,
        }
    }

    /// The field's value in `flow`, or with a mask as `flow` its mask.
    pub(super) fn read(self, flow: &Flow, tab: &TunTable) -> FieldValue {
        match self {
            Location::TunMetadata(i) => tab.read(i, &flow.tunnel.metadata),
            _ => FieldValue::from(self.number(flow)),
        }
    }

    /// The same as a number; options of tunnels, which are wider, have none.
    #[inline]
    pub(super) fn number(self, flow: &Flow) -> u128 {
        let tci = || flow.vlans[0].tci.get();
        match self {
            Location::Bits {
                ofs,
                len,
                host_order,
                shift,
                mask,
            } => read_int(flow, ofs, len, host_order) >> shift & mask,
            Location::LowByte(ofs) => read_int(flow, ofs, 2, false) & 0xff,
            Location::ArpOp => u128::from(flow.nw_proto),
            Location::InPort => u128::from(flow.in_port as u16),
            Location::InPortOxm => u128::from(port_to_ofp11(flow.in_port as u16)),
            Location::ActsetOutput => u128::from(port_to_ofp11(flow.actset_output as u16)),
            Location::VlanTci => u128::from(tci()),
            Location::DlVlan => u128::from(tci() & VLAN_VID_MASK),
            Location::VlanVid => u128::from(tci() & (VLAN_VID_MASK | VLAN_CFI)),
            Location::VlanPcp => u128::from((tci() & VLAN_PCP_MASK) >> VLAN_PCP_SHIFT),
            Location::Xreg(i) => u128::from(flow.xreg(usize::from(i))),
            Location::Xxreg(i) => {
                let i = usize::from(i) * 2;
                u128::from(flow.xreg(i)) << 64 | u128::from(flow.xreg(i + 1))
            }
            Location::TunMetadata(_) => 0,
        }
    }

    /// Stores a value in `flow`.
    pub(super) fn write(self, flow: &mut Flow, value: &FieldValue, tab: &TunTable) {
        match self {
            Location::TunMetadata(i) => tab.write(i, &mut flow.tunnel.metadata, value),
            _ => self.write_number(flow, value.to_u128()),
        }
    }

    /// The same of a number, for fields that have one.
    pub(super) fn write_number(self, flow: &mut Flow, number: u128) {
        let tci = flow.vlans[0].tci.get();
        let new_tci = match self {
            Location::Bits {
                ofs,
                len,
                host_order,
                shift,
                mask,
            } => {
                let old = read_int(flow, ofs, len, host_order);
                let new = old & !(mask << shift) | (number & mask) << shift;
                return write_int(flow, ofs, len, host_order, new);
            }
            Location::LowByte(ofs) => return write_int(flow, ofs, 2, false, number & 0xff),
            Location::ArpOp => {
                flow.nw_proto = number as u8;
                return;
            }
            Location::InPort => {
                flow.in_port = u32::from(number as u16);
                return;
            }
            Location::InPortOxm => {
                // A number without a 16-bit form is no port.
                flow.in_port = u32::from(port_from_ofp11(number as u32).unwrap_or(u16::MAX));
                return;
            }
            Location::ActsetOutput => {
                flow.actset_output = u32::from(port_from_ofp11(number as u32).unwrap_or(u16::MAX));
                return;
            }
            Location::Xreg(i) => return flow.set_xreg(usize::from(i), number as u64),
            Location::Xxreg(i) => {
                let i = usize::from(i) * 2;
                flow.set_xreg(i, (number >> 64) as u64);
                return flow.set_xreg(i + 1, number as u64);
            }
            Location::TunMetadata(_) => return,
            Location::VlanTci => number as u16,
            Location::DlVlan if number as u16 == OFP10_VLAN_NONE => 0,
            Location::DlVlan => tci & !VLAN_VID_MASK | number as u16 & VLAN_VID_MASK | VLAN_CFI,
            Location::VlanVid => {
                let bits = VLAN_VID_MASK | VLAN_CFI;
                tci & !bits | number as u16 & bits
            }
            Location::VlanPcp => {
                tci & !VLAN_PCP_MASK | (number as u16) << VLAN_PCP_SHIFT | VLAN_CFI
            }
        };
        flow.vlans[0].tci = Be16::new(new_tci);
        if self == Location::DlVlan && new_tci == 0 {
            flow.vlans[0] = VlanHdr::default();
        }
        fix_vlan_tpid(flow);
    }

    /// Stores a mask in the masks of a match: the same place, no side effect on other bits but for the presence
    /// bit of a VLAN tag, and widened where the storage is wider than the field.
    pub(super) fn write_mask(self, masks: &mut Flow, value: &FieldValue, tab: &TunTable) {
        let number = value.to_u128();
        let tci = masks.vlans[0].tci.get();
        let new_tci = match self {
            Location::LowByte(ofs) => {
                let wide = if number & 0xff == 0xff {
                    0xffff
                } else {
                    number & 0xff
                };
                return write_int(masks, ofs, 2, false, wide);
            }
            Location::InPort | Location::InPortOxm => {
                masks.in_port = if number == 0 { 0 } else { u32::MAX };
                return;
            }
            Location::ActsetOutput => {
                masks.actset_output = if number == 0 { 0 } else { u32::MAX };
                return;
            }
            Location::TunMetadata(i) => {
                return tab.write_mask(i, &mut masks.tunnel.metadata, value);
            }
            Location::VlanTci => number as u16,
            Location::DlVlan if number == 0 => tci & !VLAN_VID_MASK,
            Location::DlVlan => tci & !VLAN_VID_MASK | number as u16 & VLAN_VID_MASK | VLAN_CFI,
            Location::VlanVid => {
                let bits = VLAN_VID_MASK | VLAN_CFI;
                tci & !bits | number as u16 & bits
            }
            Location::VlanPcp if number == 0 => tci & !VLAN_PCP_MASK,
            Location::VlanPcp => {
                tci & !VLAN_PCP_MASK | (number as u16) << VLAN_PCP_SHIFT | VLAN_CFI
            }
            _ => return self.write(masks, value, tab),
        };
        masks.vlans[0].tci = Be16::new(new_tci);
    }
}

/// Keeps the TPID in step with the presence bit: a tag without one gets 0x8100, an absent tag none.
pub fn fix_vlan_tpid(flow: &mut Flow) {
    let vlan = &mut flow.vlans[0];
    if vlan.tci.get() & VLAN_CFI != 0 {
        if vlan.tpid.get() == 0 {
            vlan.tpid = Be16::new(eth_type::VLAN_8021Q);
        }
    } else {
        vlan.tpid = Be16::new(0);
    }
}

fn read_int(flow: &Flow, ofs: u16, len: u8, host_order: bool) -> u128 {
    let (ofs, len) = (usize::from(ofs), usize::from(len));
    let bytes = &flow.as_bytes()[ofs..ofs + len];
    let host_order = host_order && cfg!(target_endian = "little");
    match *bytes {
        [a] => return a.into(),
        [a, b] if host_order => return u16::from_le_bytes([a, b]).into(),
        [a, b] => return u16::from_be_bytes([a, b]).into(),
        [a, b, c, d] if host_order => return u32::from_le_bytes([a, b, c, d]).into(),
        [a, b, c, d] => return u32::from_be_bytes([a, b, c, d]).into(),
        _ => {}
    }
    let mut buf = [0; 16];
    if host_order {
        buf[..len].copy_from_slice(bytes);
        u128::from_le_bytes(buf)
    } else {
        buf[16 - len..].copy_from_slice(bytes);
        u128::from_be_bytes(buf)
    }
}

fn write_int(flow: &mut Flow, ofs: u16, len: u8, host_order: bool, number: u128) {
    let (ofs, len) = (usize::from(ofs), usize::from(len));
    let bytes = &mut flow.as_mut_bytes()[ofs..ofs + len];
    if host_order && cfg!(target_endian = "little") {
        bytes.copy_from_slice(&number.to_le_bytes()[..len]);
    } else {
        bytes.copy_from_slice(&number.to_be_bytes()[16 - len..]);
    }
}
