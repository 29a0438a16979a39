//! The registry of match fields: everything that can be matched or set, one row each.
//!
//! A [`Field`] says how wide it is, whether and how it can be masked, what must hold of a packet for it to mean
//! something, how it is written in text and on the wire, and where it lives in a flow key. The codec of OpenFlow
//! matches, the parser and printer of flow text, translation and documentation all derive from [`FIELDS`];
//! nothing else lists fields.
//!
//! A mask is a flow key of the same shape with a 1 for each bit that matters, so reading a field from
//! `FlowWildcards::masks` gives its mask. Values travel as [`FieldValue`]. Numbers and names follow Open
//! vSwitch's ovs-fields(7), the OpenFlow specifications and the Nicira extensions.

mod location;
mod oxm;
mod port;
mod prereq;
mod subfield;
mod table;
mod text;
mod tun;
mod value;

use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

pub use location::{OFP10_VLAN_NONE, fix_vlan_tpid, port_from_ofp11, port_to_ofp11};
pub use oxm::{EXPERIMENTER_CLASS, Oxm, OxmHeader, V10, V11, V12, V13, V14, V15};
pub use port::{NoPorts, PortMap, format_port, parse_port, reserved_port_name};
pub use prereq::{ND_ADVERT, ND_SOLICIT, Prereq};
pub use subfield::SubField;
pub use table::{FIELDS, FieldId};
pub use text::{
    CT_STATE_FLAGS, FlagName, TCP_FLAGS, TUNNEL_FLAGS, format_dec, format_flags,
    format_flags_masked, format_hex, format_ipv4_masked, format_ipv6, format_ipv6_masked,
    parse_int_prefix, parse_ipv4_prefix, parse_mac_prefix, parse_wide_int_prefix,
};
pub use tun::{
    NO_TUN_TABLE, TUN_METADATA_FIELDS, TUN_METADATA_MAX_LEN, TunSlot, TunTable, TunTableError,
};
pub use value::{FieldValue, MAX_VALUE_BYTES};

use crate::flow::{Flow, FlowWildcards, Match};
use crate::hash::NameHasher;
use crate::miniflow::FlowMap;
use location::{Location, Place};

/// Which masks a field accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maskable {
    /// All or nothing.
    No,
    /// Any bits.
    Bitwise,
}

/// How values are written in text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Dec,
    Hex,
    Ethernet,
    Ipv4,
    Ipv6,
    /// 16-bit OpenFlow port number or name.
    OfPort,
    /// 32-bit OpenFlow port number or name.
    OfPortOxm,
    Frag,
    CtState,
    TnlFlags,
    TcpFlags,
    PacketType,
}

/// What the fixed match structure of OpenFlow 1.0 or 1.1 can say about a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LegacyMatch {
    No,
    Exact,
    Cidr,
    Bitwise,
}

/// One match field.
#[derive(Debug)]
pub struct Field {
    pub id: FieldId,
    pub name: &'static str,
    /// Second name that text accepts.
    pub alias: Option<&'static str>,
    /// Width of a value in bytes; 124 for `tun_metadata` fields, whose real width a [`TunTable`] gives.
    pub n_bytes: u8,
    /// Width in bits that can be non-zero.
    pub n_bits: u16,
    pub maskable: Maskable,
    pub format: Format,
    pub prereq: Prereq,
    /// Whether an action may set it.
    pub writable: bool,
    pub of10: LegacyMatch,
    pub of11: LegacyMatch,
    /// Whether a flow table's `prefixes` may name it.
    pub prefix_trie: bool,
    location: Location,
    /// The words of a flow key that it has a part of; of options, where it says that they are there.
    pub words: FlowMap,
    /// Where it lies if that is in one word.
    place: Option<Place>,
    /// Code points on the wire, OXM before NXM.
    pub oxms: &'static [Oxm],
}

static BY_NAME: LazyLock<HashMap<&'static str, FieldId, NameHasher>> = LazyLock::new(|| {
    let aliases = FIELDS.iter().filter_map(|f| Some((f.alias?, f.id)));
    FIELDS
        .iter()
        .map(|f| (f.name, f.id))
        .chain(aliases)
        .collect()
});

impl FieldId {
    pub fn field(self) -> &'static Field {
        &FIELDS[self as usize]
    }

    pub fn from_index(i: usize) -> Option<FieldId> {
        FieldId::ALL.get(i).copied()
    }

    /// `reg0` to `reg31`.
    pub fn reg(i: usize) -> Option<FieldId> {
        (i < 32).then(|| FieldId::ALL[FieldId::Reg0 as usize + i])
    }

    /// `tun_metadata0` to `tun_metadata63`.
    pub fn tun_metadata(i: usize) -> Option<FieldId> {
        (i < 64).then(|| FieldId::ALL[FieldId::TunMetadata0 as usize + i])
    }

    /// The number of a `tun_metadata` field.
    pub fn tun_metadata_index(self) -> Option<usize> {
        match self.field().location {
            Location::TunMetadata(i) => Some(usize::from(i)),
            _ => None,
        }
    }

    pub fn is_register(self) -> bool {
        (FieldId::Reg0..=FieldId::Xxreg7).contains(&self)
    }

    pub fn is_tunnel(self) -> bool {
        (FieldId::TunId..=FieldId::TunMetadata63).contains(&self)
    }
}

impl fmt::Display for FieldId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.field().name)
    }
}

impl Field {
    /// The field with a name or alias.
    pub fn by_name(name: &str) -> Option<&'static Field> {
        BY_NAME.get(name).map(|id| id.field())
    }

    /// Width in bits, for a `tun_metadata` field by its mapping in `tab` (all of it when there is none).
    pub fn bits_in(&self, tab: &TunTable) -> usize {
        match self.id.tun_metadata_index().map(|i| tab.len(i)) {
            None | Some(0) => usize::from(self.n_bits),
            Some(len) => len * 8,
        }
    }

    /// Width in bytes, as [`Field::bits_in`].
    pub fn bytes_in(&self, tab: &TunTable) -> usize {
        match self.id.tun_metadata_index().map(|i| tab.len(i)) {
            None | Some(0) => usize::from(self.n_bytes),
            Some(len) => len,
        }
    }

    /// The field's value in a flow key.
    pub fn value(&self, flow: &Flow) -> FieldValue {
        self.location.read(flow, &NO_TUN_TABLE)
    }

    pub fn value_in(&self, flow: &Flow, tab: &TunTable) -> FieldValue {
        self.location.read(flow, tab)
    }

    /// Sets the field in a flow key, as an action would; excess high bits are dropped.
    pub fn set_value(&self, value: &FieldValue, flow: &mut Flow) {
        self.location.write(flow, value, &NO_TUN_TABLE);
    }

    pub fn set_value_in(&self, value: &FieldValue, flow: &mut Flow, tab: &TunTable) {
        self.location.write(flow, value, tab);
    }

    /// Sets the bits of `mask` in a flow key, as an action would, and makes them matter.
    pub fn set_bits_in(
        &self,
        value: &FieldValue,
        mask: &FieldValue,
        flow: &mut Flow,
        wc: &mut FlowWildcards,
        tab: &TunTable,
    ) {
        // Nearly all fields are numbers in one word.
        if let Some(place) = &self.place {
            let (bits, mask, i) = (place.bits(value), place.bits(mask), usize::from(place.word));
            wc.masks.words_mut()[i] |= mask;
            let word = &mut flow.words_mut()[i];
            *word = *word & !mask | bits & mask;
            return;
        }
        self.mask_field_bits_in(mask, wc, tab);
        if let Location::TunMetadata(_) = self.location {
            let value = self.value_in(flow, tab).with_masked(value, mask);
            return self.set_value_in(&value, flow, tab);
        }
        // The others are much smaller than the greatest value.
        let (value, mask) = (value.to_u128(), mask.to_u128());
        let number = self.location.number(flow) & !mask | value & mask;
        self.location.write_number(flow, number);
    }

    /// The mask of exactly this field: all bits that it can have.
    pub fn exact_mask(&self) -> FieldValue {
        FieldValue::ones(usize::from(self.n_bytes) * 8)
    }

    /// Matches the field with `value` under `mask`, replacing what the match said about it before.
    pub fn set_match(&self, value: &FieldValue, mask: &FieldValue, m: &mut Match) {
        self.set_match_in(value, mask, m, &NO_TUN_TABLE);
    }

    pub fn set_match_in(
        &self,
        value: &FieldValue,
        mask: &FieldValue,
        m: &mut Match,
        tab: &TunTable,
    ) {
        let mut mask = *mask;
        if self.maskable == Maskable::No && !mask.is_zero() {
            mask = self.exact_mask();
        }
        let old_tci = m.flow.vlans[0].tci;
        match self.location {
            // "No tag" constrains the whole TCI.
            Location::DlVlan if value.to_u64() == u64::from(OFP10_VLAN_NONE) && !mask.is_zero() => {
                Location::VlanTci.write(&mut m.flow, &FieldValue::ZERO, tab);
                Location::VlanTci.write_mask(&mut m.wc.masks, &FieldValue::ones(16), tab);
                return;
            }
            Location::DlVlan | Location::VlanPcp if mask.is_zero() => {
                // Wildcarding must not make a tag present.
                self.location.write_mask(&mut m.wc.masks, &mask, tab);
                m.flow.vlans[0].tci = (old_tci.get() & m.wc.masks.vlans[0].tci.get()).into();
                return;
            }
            _ => {}
        }
        self.location.write(&mut m.flow, &value.and(&mask), tab);
        // The tag protocol is no part of the match.
        if m.wc.masks.vlans[0].tpid.get() == 0 {
            m.flow.vlans[0].tpid = 0.into();
        }
        self.location.write_mask(&mut m.wc.masks, &mask, tab);
    }

    /// Matches the field exactly.
    pub fn set_match_exact(&self, value: &FieldValue, m: &mut Match) {
        self.set_match(value, &self.exact_mask(), m);
    }

    /// Removes the field from a match.
    pub fn set_wild(&self, m: &mut Match) {
        self.set_wild_in(m, &NO_TUN_TABLE);
    }

    pub fn set_wild_in(&self, m: &mut Match, tab: &TunTable) {
        self.set_match_in(&FieldValue::ZERO, &FieldValue::ZERO, m, tab);
        if let Some(i) = self.id.tun_metadata_index() {
            m.flow.tunnel.metadata.present &= !(1 << i);
        }
    }

    /// The field's mask; the bits that an exact match has beyond the field's own width are there too.
    pub fn mask_of(&self, wc: &FlowWildcards) -> FieldValue {
        self.mask_of_in(wc, &NO_TUN_TABLE)
    }

    pub fn mask_of_in(&self, wc: &FlowWildcards, tab: &TunTable) -> FieldValue {
        let mask = self.location.read(&wc.masks, tab);
        if self.covers(&mask, tab) {
            return FieldValue::ones(self.bytes_in(tab) * 8);
        }
        mask
    }

    /// Whether a mask covers every bit that the field stores.
    fn covers(&self, mask: &FieldValue, tab: &TunTable) -> bool {
        match self.location {
            Location::Bits { mask: all, .. } => mask.to_u128() == all,
            Location::LowByte(_) | Location::ArpOp => mask.to_u64() == 0xff,
            Location::InPort | Location::InPortOxm | Location::ActsetOutput => !mask.is_zero(),
            Location::DlVlan => mask.to_u64() == 0xfff,
            Location::VlanVid => mask.to_u64() == 0x1fff,
            Location::VlanPcp => mask.to_u64() == 7,
            Location::TunMetadata(_) if tab.len(self.tun_index()) == 0 => false,
            _ => mask.is_ones(self.bits_in(tab)),
        }
    }

    fn tun_index(&self) -> usize {
        self.id.tun_metadata_index().unwrap_or(TUN_METADATA_FIELDS)
    }

    /// Whether no bit of the field matters.
    pub fn is_all_wild(&self, wc: &FlowWildcards) -> bool {
        if let Location::TunMetadata(i) = self.location {
            return wc.masks.tunnel.metadata.present & 1 << i == 0;
        }
        self.location.number(&wc.masks) == 0
    }

    /// Whether every bit of the field matters.
    pub fn is_all_exact(&self, wc: &FlowWildcards) -> bool {
        self.covers(&self.location.read(&wc.masks, &NO_TUN_TABLE), &NO_TUN_TABLE)
    }

    /// Whether the field is zero in a flow key.
    pub fn is_zero(&self, flow: &Flow) -> bool {
        self.location.read(flow, &NO_TUN_TABLE).is_zero()
    }

    /// Makes the whole field matter.
    pub fn mask_field(&self, wc: &mut FlowWildcards) {
        self.mask_field_in(wc, &NO_TUN_TABLE);
    }

    pub fn mask_field_in(&self, wc: &mut FlowWildcards, tab: &TunTable) {
        self.location
            .write_mask(&mut wc.masks, &self.exact_mask(), tab);
    }

    /// Makes the bits of `mask` matter in addition to those that do already.
    pub fn mask_field_bits_in(&self, mask: &FieldValue, wc: &mut FlowWildcards, tab: &TunTable) {
        if let Some(place) = &self.place {
            wc.masks.words_mut()[usize::from(place.word)] |= place.bits(mask);
            return;
        }
        if let Location::Bits { .. } = self.location {
            let bits = self.location.number(&wc.masks) | mask.to_u128();
            return self.location.write_number(&mut wc.masks, bits);
        }
        let old = self.location.read(&wc.masks, tab);
        let both = old.with_masked(mask, mask);
        self.location.write_mask(&mut wc.masks, &both, tab);
    }

    /// Whether the field means something for packets of `flow`.
    pub fn prereqs_ok(&self, flow: &Flow) -> bool {
        self.prereq.ok(flow)
    }

    /// Whether a match may use the field given what else the match says.
    pub fn match_prereqs_ok(&self, m: &Match) -> bool {
        self.prereq.match_ok(m)
    }

    /// Whether `value` is one that a match or an action may hold.
    pub fn is_value_valid(&self, value: &FieldValue) -> bool {
        let number = value.to_u128();
        let allowed = match self.location {
            Location::TunMetadata(_) => return true,
            Location::InPortOxm | Location::ActsetOutput => {
                return port_from_ofp11(number as u32).is_some() && number >> 32 == 0;
            }
            Location::DlVlan | Location::VlanVid => 0x1fff,
            Location::ArpOp => 0xff,
            Location::Bits { mask, .. } => mask,
            _ => u128::MAX >> (128 - u32::from(self.n_bits)),
        };
        number & !allowed == 0
    }

    /// Whether the field can be matched under `mask`.
    pub fn is_mask_valid(&self, mask: &FieldValue) -> bool {
        match self.maskable {
            Maskable::Bitwise => true,
            Maskable::No => mask.is_zero() || mask.is_ones(usize::from(self.n_bytes) * 8),
        }
    }
}

/// A set of fields.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct FieldSet([u64; 4]);

impl FieldSet {
    pub const EMPTY: FieldSet = FieldSet([0; 4]);

    pub fn insert(&mut self, id: FieldId) {
        self.0[id as usize / 64] |= 1 << (id as usize % 64);
    }

    pub fn remove(&mut self, id: FieldId) {
        self.0[id as usize / 64] &= !(1 << (id as usize % 64));
    }

    pub fn contains(&self, id: FieldId) -> bool {
        self.0[id as usize / 64] & 1 << (id as usize % 64) != 0
    }

    pub fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }

    pub fn len(&self) -> usize {
        self.0.iter().map(|w| w.count_ones() as usize).sum()
    }

    /// The fields in the registry's order.
    pub fn iter(&self) -> impl Iterator<Item = FieldId> {
        let set = *self;
        FieldId::ALL.into_iter().filter(move |&id| set.contains(id))
    }
}

impl FromIterator<FieldId> for FieldSet {
    fn from_iter<T: IntoIterator<Item = FieldId>>(ids: T) -> Self {
        let mut set = FieldSet::EMPTY;
        ids.into_iter().for_each(|id| set.insert(id));
        set
    }
}

impl fmt::Debug for FieldSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests;
