//! Tables: modification, description, status, statistics and features.

use ferrovs_packet::field::{Field, FieldId, OxmHeader};

use crate::action::{decode::props, encode::prop};
use crate::codec::{Dec, Enc};
use crate::error::OfpErr;
use crate::message::Message;
use crate::oxm;
use crate::raw::Kind;
use crate::switch::*;
use crate::version::Version;
use crate::wire::{Put, Reader};

fn check_len(ok: bool) -> Result<(), OfpErr> {
    if ok {
        Ok(())
    } else {
        Err(OfpErr::OFPBRC_BAD_LEN)
    }
}

const EVICTION: u32 = 1 << 2;
const VACANCY: u32 = 1 << 3;

fn miss_from(config: u32, version: Version) -> TableMiss {
    if version >= Version::V13 {
        return TableMiss::Default;
    }
    match config & 3 {
        0 => TableMiss::Controller,
        1 => TableMiss::Continue,
        2 => TableMiss::Drop,
        // An unknown setting is said to be the default.
        _ => TableMiss::Controller,
    }
}

fn miss_to(miss: TableMiss, version: Version) -> u32 {
    if version >= Version::V13 {
        return 0;
    }
    match miss {
        TableMiss::Controller | TableMiss::Default => 0,
        TableMiss::Continue => 1,
        TableMiss::Drop => 2,
    }
}

/// Bits of [`TABLE_ACTIONS`] that a list of actions in the numbering of `version` (1.1 or later) means, and back.
pub fn action_name_bits(numbers: u32, version: Version) -> u64 {
    let named = (0..TABLE_ACTIONS.len())
        .filter(|&i| numbers & 1 << TABLE_ACTIONS[i].1 != 0)
        .fold(0, |b, i| b | 1 << i);
    named & table_actions_of(version)
}

fn action_numbers(bits: u64) -> u32 {
    TABLE_ACTIONS
        .iter()
        .enumerate()
        .filter(|(i, _)| bits & 1 << i != 0)
        .fold(0, |n, (_, (_, number))| n | 1 << number)
}

/// The properties of features that every table has.
const FEATURE_PROPS: [u16; 8] = [0, 2, 4, 6, 8, 10, 12, 14];

/// Meters came with 1.3.
const INSTRUCTIONS_11: u32 = 0x3e;

impl Dec<'_, '_> {
    fn eviction(&self, config: u32) -> Option<bool> {
        (self.version >= Version::V14).then_some(config & EVICTION != 0)
    }

    /// `sets`: whether the properties are to be set, and not only told.
    fn table_props(
        &self,
        r: Reader<'_>,
        sets: bool,
        eviction_flags: &mut Option<EvictionFlags>,
        vacancy: &mut Option<Option<Vacancy>>,
    ) -> Result<(), OfpErr> {
        for p in props(r) {
            let (type_, mut b) = p?;
            match type_ {
                2 => *eviction_flags = Some(EvictionFlags::from_bits_retain(b.u32()?)),
                3 => {
                    let v = Vacancy {
                        down: b.u8()?,
                        up: b.u8()?,
                        vacancy: b.u8()?,
                    };
                    let sound = v.down <= v.up && v.up <= 100 && v.vacancy == 0;
                    if sets && !sound {
                        return Err(OfpErr::OFPBPC_BAD_VALUE);
                    }
                    *vacancy = Some(Some(v));
                }
                _ if sets => return Err(OfpErr::OFPBRC_BAD_TYPE),
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn table_mod(&self, mut r: Reader<'_>) -> Result<Message, OfpErr> {
        let mut m = TableMod {
            table_id: r.u8()?,
            ..Default::default()
        };
        r.skip(3)?;
        let config = r.u32()?;
        m.miss = miss_from(config, self.version);
        if self.version >= Version::V14 {
            m.eviction = self.eviction(config);
            m.vacancy = Some(None);
            let mut vacancy = None;
            self.table_props(r, true, &mut m.eviction_flags, &mut vacancy)?;
            if config & VACANCY != 0 {
                m.vacancy = Some(Some(vacancy.flatten().unwrap_or_default()));
            }
        }
        Ok(Message::TableMod(m))
    }

    fn table_desc(&self, r: &mut Reader<'_>) -> Result<TableDesc, OfpErr> {
        let mut h = *r;
        let len = usize::from(h.u16()?);
        check_len(len >= 8 && len <= r.len())?;
        let mut b = r.sub(len)?;
        b.skip(2)?;
        let mut d = TableDesc {
            table_id: b.u8()?,
            ..Default::default()
        };
        b.skip(1)?;
        let config = b.u32()?;
        d.eviction = self.eviction(config);
        let mut vacancy = None;
        self.table_props(b, false, &mut d.eviction_flags, &mut vacancy)?;
        d.vacancy = Some(if config & VACANCY != 0 {
            Some(vacancy.flatten().unwrap_or_default())
        } else {
            None
        });
        Ok(d)
    }

    pub(super) fn table_status(&self, mut r: Reader<'_>) -> Result<Message, OfpErr> {
        let vacancy_up = match r.u8()? {
            3 => false,
            4 => true,
            _ => return Err(OfpErr::OFPBPC_BAD_VALUE),
        };
        r.skip(7)?;
        let desc = self.table_desc(&mut r)?;
        Ok(Message::TableStatus { vacancy_up, desc })
    }

    pub(super) fn table_desc_reply(&self, r: Reader<'_>) -> Result<Message, OfpErr> {
        Ok(Message::TableDescReply {
            tables: self.list(r, |r| self.table_desc(r))?,
            more: self.parsed.more,
        })
    }

    pub(super) fn table_stats_reply(&self, r: Reader<'_>) -> Result<Message, OfpErr> {
        let one = |r: &mut Reader<'_>| match self.version {
            Version::V10 => table_stats10(r),
            Version::V11 => table_stats11(r),
            Version::V12 => table_stats12(r),
            _ => {
                let table_id = r.u8()?;
                r.skip(3)?;
                Ok(TableStats {
                    table_id,
                    active_count: r.u32()?,
                    lookup_count: r.u64()?,
                    matched_count: r.u64()?,
                    features: None,
                })
            }
        };
        Ok(Message::TableStatsReply {
            tables: self.list(r, one)?,
            more: self.parsed.more,
        })
    }

    pub(super) fn table_features(&self, r: Reader<'_>) -> Result<Vec<TableFeatures>, OfpErr> {
        self.list(r, |r| self.one_table_features(r))
    }

    fn one_table_features(&self, r: &mut Reader<'_>) -> Result<TableFeatures, OfpErr> {
        let v = self.version;
        let mut h = *r;
        let len = usize::from(h.u16()?);
        if len < 64 || !len.is_multiple_of(8) || len > r.len() {
            return Err(OfpErr::OFPBPC_BAD_LEN);
        }
        let mut b = r.sub(len)?;
        b.skip(2)?;
        let mut t = TableFeatures {
            table_id: b.u8()?,
            ..Default::default()
        };

        if v >= Version::V15 {
            t.command = b.u8()?;
            if t.command > 3 {
                return Err(OfpErr::OFPTFFC_BAD_COMMAND);
            }
            let _features = b.u32()?;
            t.name = b.name(32)?;
        } else {
            b.skip(5)?;
            t.name = b.name(32)?;
        }
        if t.table_id == crate::action::TABLE_ALL {
            return Err(OfpErr::OFPTFFC_BAD_TABLE);
        }
        t.metadata_match = b.u64()?;
        t.metadata_write = b.u64()?;
        let config = b.u32()?;
        t.max_entries = b.u32()?;
        if v >= Version::V14 {
            t.supports_eviction = Some(config & EVICTION != 0);
            t.supports_vacancy = Some(config & VACANCY != 0);
        }
        t.miss = miss_from(config, v);
        t.any_properties = !b.is_empty();
        self.feature_props(b, &mut t)?;
        Ok(t)
    }

    fn feature_props(&self, r: Reader<'_>, t: &mut TableFeatures) -> Result<(), OfpErr> {
        let mut seen = 0u32;
        for p in props(r) {
            let (type_, b) = p?;
            seen |= 1u32.checked_shl(type_.into()).unwrap_or(0);
            let miss = type_ % 2 == 1;
            let side = if miss {
                &mut t.miss_instructions
            } else {
                &mut t.nonmiss
            };
            match type_ {
                0 | 1 => side.instructions = type_list(b)?,
                2 | 3 => {
                    for &id in b.rest() {
                        side.next[usize::from(id / 64)] |= 1 << (id % 64);
                    }
                }
                4 | 5 => side.write.actions = action_name_bits(type_list(b)?, self.version),
                6 | 7 => side.apply.actions = action_name_bits(type_list(b)?, self.version),
                8 | 10 => {
                    let mut b = b;
                    while !b.is_empty() {
                        let (h, field) = oxm::pull_any_header(&mut b)?;
                        let Some(f) = field else { continue };
                        if type_ == 8 {
                            t.match_.push(f.id);
                            if h.has_mask {
                                t.mask.push(f.id);
                            }
                        } else {
                            t.wildcard.push(f.id);
                        }
                    }
                }
                12 | 13 => side.write.set_fields = oxm_ids(b)?,
                14 | 15 => side.apply.set_fields = oxm_ids(b)?,
                0xfffe | 0xffff => return Err(OfpErr::OFPBPC_BAD_EXPERIMENTER),
                _ => {}
            }
        }
        // What is not said of a table miss is as it is otherwise.
        let (n, m) = (&t.nonmiss, &mut t.miss_instructions);
        let lacks = |prop: u32| seen & 1 << prop == 0;
        if lacks(1) {
            m.instructions = n.instructions;
        }
        if lacks(3) {
            m.next = n.next;
        }
        if lacks(5) {
            m.write.actions = n.write.actions;
        }
        if lacks(7) {
            m.apply.actions = n.apply.actions;
        }
        if lacks(13) {
            m.write.set_fields.clone_from(&n.write.set_fields);
        }
        if lacks(15) {
            m.apply.set_fields.clone_from(&n.apply.set_fields);
        }
        // All is said or nothing; before 1.5 it may not be nothing.
        let needed = FEATURE_PROPS.iter().fold(0, |n, t| n | 1 << t);
        let may_lack = self.version >= Version::V15 && !t.any_properties;
        if seen & needed != needed && !may_lack {
            return Err(OfpErr::OFPTFFC_BAD_FEATURES);
        }
        Ok(())
    }
}

/// Types of instructions or actions (type2 len2 each) as bits.
fn type_list(mut r: Reader<'_>) -> Result<u32, OfpErr> {
    let mut bits = 0;
    while !r.is_empty() {
        let (type_, len) = (r.u16()?, usize::from(r.u16()?));
        if len < 4 {
            return Err(OfpErr::OFPBPC_BAD_LEN);
        }
        r.skip(len - 4)?;
        if type_ < 32 {
            bits |= 1 << type_;
        }
    }
    Ok(bits)
}

fn oxm_ids(mut r: Reader<'_>) -> Result<Vec<FieldId>, OfpErr> {
    let mut out = Vec::new();
    while !r.is_empty() {
        if let (_, Some(f)) = oxm::pull_any_header(&mut r)? {
            out.push(f.id);
        }
    }
    Ok(out)
}

/// 1.0's wildcard bits and the fields that they stand for.
const FIELDS10: [(u32, FieldId); 13] = [
    (1 << 0, FieldId::InPort),
    (1 << 1, FieldId::VlanVid),
    (1 << 2, FieldId::EthSrc),
    (1 << 3, FieldId::EthDst),
    (1 << 4, FieldId::EthType),
    (1 << 5, FieldId::NwProto),
    (1 << 6, FieldId::TcpSrc),
    (1 << 7, FieldId::TcpDst),
    (0x3f << 8, FieldId::IpSrc),
    (0x3f << 14, FieldId::IpDst),
    (1 << 20, FieldId::VlanPcp),
    (1 << 21, FieldId::NwTos),
    (0, FieldId::ArpOp),
];

fn table_stats10(r: &mut Reader<'_>) -> Result<TableStats, OfpErr> {
    let table_id = r.u8()?;
    r.skip(3)?;
    let name = r.name(32)?;
    let wild = r.u32()?;
    let max_entries = r.u32()?;
    let active_count = r.u32()?;
    let (lookup_count, matched_count) = (r.u64()?, r.u64()?);
    let fields: Vec<FieldId> = FIELDS10
        .iter()
        .filter(|(bit, _)| wild & bit != 0)
        .map(|f| f.1)
        .collect();
    let features = TableFeatures {
        table_id,
        name,
        max_entries,
        match_: fields.clone(),
        wildcard: fields,
        ..Default::default()
    };
    Ok(TableStats {
        table_id,
        active_count,
        lookup_count,
        matched_count,
        features: Some(Box::new(features)),
    })
}

/// 1.1's match bits.
const FIELDS11: [(u32, FieldId); 15] = [
    (1 << 0, FieldId::InPort),
    (1 << 1, FieldId::VlanVid),
    (1 << 2, FieldId::VlanPcp),
    (1 << 3, FieldId::EthType),
    (1 << 4, FieldId::NwTos),
    (1 << 5, FieldId::NwProto),
    (1 << 6, FieldId::TcpSrc),
    (1 << 7, FieldId::TcpDst),
    (1 << 8, FieldId::MplsLabel),
    (1 << 9, FieldId::MplsTc),
    (1 << 11, FieldId::EthSrc),
    (1 << 12, FieldId::EthDst),
    (1 << 13, FieldId::IpSrc),
    (1 << 14, FieldId::IpDst),
    (1 << 15, FieldId::Metadata),
];

fn table_stats11(r: &mut Reader<'_>) -> Result<TableStats, OfpErr> {
    let table_id = r.u8()?;
    r.skip(7)?;
    let mut t = TableFeatures {
        table_id,
        name: r.name(32)?,
        ..Default::default()
    };
    let (wild, matches) = (r.u32()?, r.u32()?);
    let fields = |bits: u32| -> Vec<FieldId> {
        FIELDS11
            .iter()
            .filter(|(b, _)| bits & b != 0)
            .map(|f| f.1)
            .collect()
    };
    t.wildcard = fields(wild);
    // What may be wild may be matched.
    t.match_ = fields(matches | wild);
    t.nonmiss.instructions = r.u32()? & INSTRUCTIONS_11;
    t.nonmiss.write.actions = action_name_bits(r.u32()?, Version::V11);
    t.nonmiss.apply.actions = action_name_bits(r.u32()?, Version::V11);
    t.miss = miss_from(r.u32()?, Version::V11);
    t.max_entries = r.u32()?;
    let active_count = r.u32()?;
    Ok(TableStats {
        table_id,
        active_count,
        lookup_count: r.u64()?,
        matched_count: r.u64()?,
        features: Some(Box::new(t)),
    })
}

/// Fields of the standard class by the bits of a 64-bit map.
fn fields12(bits: u64) -> Vec<FieldId> {
    (0..36u8)
        .filter(|n| bits & 1 << n != 0)
        .filter_map(|number| {
            let h = OxmHeader {
                class: 0x8000,
                experimenter: 0,
                number,
                has_mask: false,
                len: 0,
            };
            Field::by_oxm(h).map(|(f, _)| f.id)
        })
        .collect()
}

fn bits12(fields: &[FieldId]) -> u64 {
    let number = |id: &FieldId| {
        id.field()
            .oxms
            .iter()
            .find(|o| o.class == 0x8000 && o.number < 36)
            .map(|o| o.number)
    };
    fields.iter().filter_map(number).fold(0, |b, n| b | 1 << n)
}

fn table_stats12(r: &mut Reader<'_>) -> Result<TableStats, OfpErr> {
    let table_id = r.u8()?;
    r.skip(7)?;
    let mut t = TableFeatures {
        table_id,
        name: r.name(32)?,
        ..Default::default()
    };
    let (matches, wild) = (r.u64()?, r.u64()?);
    t.match_ = fields12(matches | wild);
    t.wildcard = fields12(wild);
    t.nonmiss.write.actions = action_name_bits(r.u32()?, Version::V12);
    t.nonmiss.apply.actions = action_name_bits(r.u32()?, Version::V12);
    t.nonmiss.write.set_fields = fields12(r.u64()?);
    t.nonmiss.apply.set_fields = fields12(r.u64()?);
    t.metadata_match = r.u64()?;
    t.metadata_write = r.u64()?;
    t.nonmiss.instructions = r.u32()? & INSTRUCTIONS_11;
    t.miss = miss_from(r.u32()?, Version::V12);
    t.max_entries = r.u32()?;
    let active_count = r.u32()?;
    Ok(TableStats {
        table_id,
        active_count,
        lookup_count: r.u64()?,
        matched_count: r.u64()?,
        features: Some(Box::new(t)),
    })
}

fn put_table_props(
    flags: Option<EvictionFlags>,
    vacancy: Option<Option<Vacancy>>,
    with_vacancy: bool,
    o: &mut Vec<u8>,
) {
    if let Some(f) = flags {
        prop(o, 2, |o| o.put_u32(f.bits()));
    }
    if let Some(Some(v)) = vacancy {
        prop(o, 3, |o| {
            o.put_u8(v.down);
            o.put_u8(v.up);
            o.put_u8(if with_vacancy { v.vacancy } else { 0 });
            o.put_u8(0);
        });
    }
}

fn config_bits(eviction: Option<bool>, vacancy: Option<Option<Vacancy>>) -> u32 {
    let e = if eviction == Some(true) { EVICTION } else { 0 };
    let v = if matches!(vacancy, Some(Some(_))) {
        VACANCY
    } else {
        0
    };
    e | v
}

impl Enc<'_, '_> {
    pub(super) fn table_mod(&self, m: &TableMod, out: &mut Vec<u8>) -> Option<()> {
        self.one(self.raw(Kind::TableMod)?, out, |o| {
            o.put_u8(m.table_id);
            o.put_zeros(3);
            if self.version < Version::V14 {
                o.put_u32(miss_to(m.miss, self.version));
            } else {
                o.put_u32(config_bits(m.eviction, m.vacancy));
                put_table_props(m.eviction_flags, m.vacancy, false, o);
            }
        });
        Some(())
    }

    fn put_table_desc(&self, d: &TableDesc, o: &mut Vec<u8>) {
        let start = o.len();
        o.put_u16(0);
        o.put_u8(d.table_id);
        o.put_u8(0);
        o.put_u32(config_bits(d.eviction, d.vacancy));
        put_table_props(d.eviction_flags, d.vacancy, true, o);
        let len = o.len() - start;
        o.set_u16(start, len as u16);
    }

    pub(super) fn table_status(
        &self,
        vacancy_up: bool,
        desc: &TableDesc,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        self.one(self.raw(Kind::TableStatus)?, out, |o| {
            o.put_u8(if vacancy_up { 4 } else { 3 });
            o.put_zeros(7);
            self.put_table_desc(desc, o);
        });
        Some(())
    }

    pub(super) fn table_desc_reply(
        &self,
        tables: &[TableDesc],
        more: bool,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let raw = self.raw(Kind::TableDescReply)?;
        self.parts(raw, tables, more, out, |d, o| self.put_table_desc(d, o));
        Some(())
    }

    pub(super) fn table_stats_reply(
        &self,
        tables: &[TableStats],
        more: bool,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let raw = self.raw(Kind::TableStatsReply)?;
        let none = TableFeatures::default();
        self.parts(raw, tables, more, out, |s, o| {
            let f = s.features.as_deref().unwrap_or(&none);
            o.put_u8(s.table_id);
            match self.version {
                Version::V10 => {
                    o.put_zeros(3);
                    o.put_string(&f.name, 32);
                    let bits = FIELDS10
                        .iter()
                        .filter(|(_, id)| f.wildcard.contains(id))
                        .fold(0, |b, (bit, _)| b | bit);
                    o.put_u32(bits);
                    o.put_u32(f.max_entries);
                }
                Version::V11 => {
                    o.put_zeros(7);
                    o.put_string(&f.name, 32);
                    for list in [&f.wildcard, &f.match_] {
                        let bits = FIELDS11
                            .iter()
                            .filter(|(_, id)| list.contains(id))
                            .fold(0, |b, (bit, _)| b | bit);
                        o.put_u32(bits);
                    }
                    o.put_u32(f.nonmiss.instructions & INSTRUCTIONS_11);
                    o.put_u32(action_numbers(f.nonmiss.write.actions));
                    o.put_u32(action_numbers(f.nonmiss.apply.actions));
                    o.put_u32(miss_to(f.miss, self.version));
                    o.put_u32(f.max_entries);
                }
                Version::V12 => {
                    o.put_zeros(7);
                    o.put_string(&f.name, 32);
                    o.put_u64(bits12(&f.match_));
                    o.put_u64(bits12(&f.wildcard));
                    o.put_u32(action_numbers(f.nonmiss.write.actions));
                    o.put_u32(action_numbers(f.nonmiss.apply.actions));
                    o.put_u64(bits12(&f.nonmiss.write.set_fields));
                    o.put_u64(bits12(&f.nonmiss.apply.set_fields));
                    o.put_u64(f.metadata_match);
                    o.put_u64(f.metadata_write);
                    o.put_u32(f.nonmiss.instructions & INSTRUCTIONS_11);
                    o.put_u32(miss_to(f.miss, self.version));
                    o.put_u32(f.max_entries);
                }
                _ => o.put_zeros(3),
            }
            o.put_u32(s.active_count);
            o.put_u64(s.lookup_count);
            o.put_u64(s.matched_count);
        });
        Some(())
    }

    pub(super) fn table_features(
        &self,
        kind: Kind,
        tables: &[TableFeatures],
        more: bool,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let raw = self.raw(kind)?;
        let v = self.version;
        self.parts(raw, tables, more, out, |t, o| {
            let start = o.len();
            o.put_u16(0);
            o.put_u8(t.table_id);
            o.put_u8(if v >= Version::V15 { t.command } else { 0 });
            o.put_zeros(4);
            o.put_string(&t.name, 32);
            o.put_u64(t.metadata_match);
            o.put_u64(t.metadata_write);
            let mut config = miss_to(t.miss, v);
            if v >= Version::V14 {
                config = if t.supports_eviction == Some(true) {
                    EVICTION
                } else {
                    0
                } | if t.supports_vacancy == Some(true) {
                    VACANCY
                } else {
                    0
                };
            }
            o.put_u32(config);
            o.put_u32(t.max_entries);
            self.put_feature_props(t, o);
            let len = o.len() - start;
            o.set_u16(start, len as u16);
        });
        Some(())
    }

    fn put_feature_props(&self, t: &TableFeatures, o: &mut Vec<u8>) {
        let v = self.version;
        let flavor = Some(v);
        let types = |o: &mut Vec<u8>, prop_type: u16, bits: u32| {
            prop(o, prop_type, |o| {
                for n in 0..32 {
                    if bits & 1 << n != 0 {
                        o.put_u16(n);
                        // Ids have no body; 1.3's actions are padded to 8.
                        o.put_u16(4);
                    }
                }
            });
        };
        // A miss part that says the same as the other is left out.
        let sides = if t.miss_instructions == t.nonmiss {
            vec![(0, &t.nonmiss)]
        } else {
            vec![(0, &t.nonmiss), (1, &t.miss_instructions)]
        };
        for (odd, side) in sides {
            types(o, odd, side.instructions);
            prop(o, 2 + odd, |o| {
                for id in 0..=255u8 {
                    if side.next[usize::from(id / 64)] & 1 << (id % 64) != 0 {
                        o.put_u8(id);
                    }
                }
            });
            types(o, 4 + odd, action_numbers(side.write.actions));
            types(o, 6 + odd, action_numbers(side.apply.actions));
            for (prop_type, list) in [
                (12 + odd, &side.write.set_fields),
                (14 + odd, &side.apply.set_fields),
            ] {
                prop(o, prop_type, |o| {
                    list.iter().for_each(|&id| oxm::put_header(id, flavor, o));
                });
            }
        }
        let with_mask = |id: FieldId, mask: bool, o: &mut Vec<u8>| {
            if let Some(h) = id.field().oxm_header(v.wire(), mask) {
                h.write(o);
            }
        };
        prop(o, 8, |o| {
            t.match_
                .iter()
                .for_each(|&id| with_mask(id, t.mask.contains(&id), o))
        });
        prop(o, 10, |o| {
            t.wildcard.iter().for_each(|&id| with_mask(id, false, o))
        });
    }
}
