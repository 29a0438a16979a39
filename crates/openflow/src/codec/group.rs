//! Group messages; buckets in 1.1's and 1.5's layouts. Nicira's group messages for 1.0 have 1.5's.

use ferrovs_packet::field::FieldValue;
use ferrovs_packet::types::OfPort;

use crate::action::{decode, decode::props, encode, encode::prop};
use crate::codec::{Dec, Enc, port32, put_port32};
use crate::error::OfpErr;
use crate::flow::GROUP_ANY;
use crate::group::*;
use crate::message::Message;
use crate::oxm;
use crate::raw::{Carrier, Kind};
use crate::text::format::hex;
use crate::tun::Tun;
use crate::version::Version;
use crate::warn::{Topic, warn};
use crate::wire::{Put, Reader};

/// The vendor (Netronome) of selection methods, an older number that is understood too, and the property.
const NTR_VENDOR: u32 = 0x0000_154d;
const NTR_COMPAT_VENDOR: u32 = 0x0000_1540;
const NTR_SELECTION_METHOD: u32 = 1;
/// How long this property is at least.
const NTR_SELECTION_METHOD_LEN: usize = 40;

fn new_layout(v: Version) -> bool {
    v == Version::V10 || v >= Version::V15
}

fn check_len(ok: bool) -> Result<(), OfpErr> {
    if ok {
        Ok(())
    } else {
        Err(OfpErr::OFPBRC_BAD_LEN)
    }
}

impl Dec<'_, '_> {
    fn buckets11(&self, mut r: Reader<'_>) -> Result<Vec<Bucket>, OfpErr> {
        let mut out: Vec<Bucket> = Vec::new();
        while !r.is_empty() {
            let mut h = r;
            let len = usize::from(h.u16().map_err(|_| OfpErr::OFPGMFC_BAD_BUCKET)?);
            bucket_len(len, 16, r.len())?;
            let mut b = r.sub(len)?;
            b.skip(2)?;
            let weight = b.u16()?;
            let watch_port = port32(&mut b, OfpErr::OFPGMFC_BAD_WATCH);
            let watch_group = b.u32()?;
            b.skip(4)?;
            let actions = decode::action_list(b.rest(), self.version, self.tun)?;
            // Buckets without ids are counted.
            let bucket_id = out.len() as u32;
            out.push(Bucket {
                weight,
                watch_port: watch_port?,
                watch_group,
                bucket_id,
                actions,
            });
        }
        Ok(out)
    }

    fn buckets15(
        &self,
        mut r: Reader<'_>,
        type_: Option<GroupType>,
    ) -> Result<Vec<Bucket>, OfpErr> {
        let mut out: Vec<Bucket> = Vec::new();
        while !r.is_empty() {
            let mut h = r;
            let len = usize::from(h.u16().map_err(|_| OfpErr::OFPGMFC_BAD_BUCKET)?);
            bucket_len(len, 8, r.len())?;
            let mut b = r.sub(len)?;
            b.skip(2)?;
            let actions_len = usize::from(b.u16()?);
            let bucket_id = b.u32()?;
            let room = b.len();
            let mut a = b.sub(actions_len).map_err(|_| {
                bad(OfpErr::OFPGMFC_BAD_BUCKET, || {
                    format!("OpenFlow message bucket actions length {actions_len} exceeds remaining bucket data size {room}")
                })
            })?;
            let actions = decode::action_list(a.take(actions_len)?, self.version, self.tun)?;
            let mut bucket = Bucket {
                weight: u16::from(type_ == Some(GroupType::Select)),
                watch_port: OfPort::NONE,
                watch_group: GROUP_ANY,
                bucket_id,
                actions,
            };
            for p in props(b) {
                let (prop_type, mut p) = p?;
                match prop_type {
                    0 => bucket.weight = p.u16()?,
                    1 => bucket.watch_port = port32(&mut p, OfpErr::OFPBAC_BAD_OUT_PORT)?,
                    2 => bucket.watch_group = p.u32()?,
                    _ => {
                        return Err(bad(OfpErr::OFPBPC_BAD_TYPE, || {
                            format!("unknown group bucket property type {prop_type}")
                        }));
                    }
                }
            }
            if bucket_id > BUCKET_MAX {
                return Err(bad(OfpErr::OFPGMFC_BAD_BUCKET, || {
                    format!("bucket id ({bucket_id}) is out of range")
                }));
            }
            out.push(bucket);
        }
        let mut ids: Vec<u32> = out.iter().map(|b| b.bucket_id).collect();
        ids.sort_unstable();
        if ids.windows(2).any(|w| w[0] == w[1]) {
            return Err(bad(OfpErr::OFPGMFC_BAD_BUCKET, || {
                "Duplicate bucket id".to_owned()
            }));
        }
        Ok(out)
    }

    fn group_props(
        &self,
        r: Reader<'_>,
        type_: Option<GroupType>,
        command: Option<GroupCommand>,
    ) -> Result<GroupProps, OfpErr> {
        let mut out = GroupProps::default();
        for p in props(r) {
            let (prop_type, p) = p?;
            if prop_type != 0xffff {
                return Err(bad(OfpErr::OFPBPC_BAD_TYPE, || {
                    format!("unknown group property type {prop_type}")
                }));
            }
            self.selection_method(p, type_, command, &mut out)?;
        }
        Ok(out)
    }

    /// How a select group chooses its bucket.
    fn selection_method(
        &self,
        mut p: Reader<'_>,
        type_: Option<GroupType>,
        command: Option<GroupCommand>,
        out: &mut GroupProps,
    ) -> Result<(), OfpErr> {
        let len = p.len() + 4;
        let (vendor, kind) = (p.u32()?, p.u32()?);
        if ![NTR_VENDOR, NTR_COMPAT_VENDOR].contains(&vendor) {
            return Err(OfpErr::OFPBPC_BAD_EXPERIMENTER);
        }
        if kind != NTR_SELECTION_METHOD {
            return Err(bad(OfpErr::OFPBPC_BAD_EXP_TYPE, || {
                let vendor = hex(vendor.into());
                format!("unknown group property type for exp_id {vendor}, exp_type {kind}")
            }));
        }
        let method = |error, text: &str| bad(error, || format!("ntr selection method {text}"));
        let invalid = OfpErr::OFPBPC_BAD_VALUE;
        if type_ != Some(GroupType::Select) {
            return Err(method(
                invalid,
                "property is only allowed for select groups",
            ));
        }
        if !matches!(
            command,
            Some(GroupCommand::Add | GroupCommand::Modify | GroupCommand::AddOrModify)
        ) {
            let text = "property is only allowed for add and delete group modifications";
            return Err(method(invalid, text));
        }
        if len < NTR_SELECTION_METHOD_LEN {
            return Err(bad(OfpErr::OFPBPC_BAD_LEN, || {
                format!("ntr selection method property length {len} is not valid")
            }));
        }
        p.skip(4)?;
        let name = p.take(16)?;
        let end = name
            .iter()
            .position(|&c| c == 0)
            .ok_or_else(|| method(invalid, "is not null terminated"))?;
        let name = String::from_utf8_lossy(&name[..end]);
        if !["hash", "dp_hash"].contains(&&*name) {
            return Err(method(invalid, &format!("'{name}' is not supported")));
        }
        out.selection_method = name.clone().into_owned();
        out.selection_method_param = p.u64()?;
        out.fields = self
            .field_list(p)
            .map_err(|error| method(error, "fields are invalid"))?;
        if name == "dp_hash" && !out.fields.is_empty() {
            return Err(invalid);
        }
        Ok(())
    }

    /// Fields with the bits to hash: headers, with a mask as value when not all bits are meant.
    fn field_list(
        &self,
        mut r: Reader<'_>,
    ) -> Result<Vec<(ferrovs_packet::field::FieldId, FieldValue)>, OfpErr> {
        let mut out = Vec::new();
        while !r.is_empty() {
            let (h, field) = oxm::pull_header(&mut r)?;
            let bytes = r.take(h.len.into()).map_err(|_| OfpErr::OFPBMC_BAD_LEN)?;
            let field = field.ok_or(OfpErr::OFPBMC_BAD_FIELD)?;
            if h.has_mask {
                return Err(OfpErr::OFPBMC_BAD_MASK);
            }
            out.push((field.id, FieldValue::from_be_bytes(bytes)));
        }
        Ok(out)
    }

    pub(super) fn group_mod(&self, mut r: Reader<'_>) -> Result<Message, OfpErr> {
        let v = self.version;
        let (command, type_) = (r.u16()?, r.u8()?);
        r.skip(1)?;
        let group_id = r.u32()?;
        let (command, type_) = (
            GroupCommand::from_wire(command),
            GroupType::from_wire(type_),
        );
        let mut g = GroupMod {
            command: command.unwrap_or(GroupCommand::Delete),
            type_: type_.unwrap_or(GroupType::All),
            group_id,
            command_bucket_id: BUCKET_ALL,
            buckets: Vec::new(),
            props: GroupProps::default(),
        };
        if new_layout(v) {
            let buckets_len = usize::from(r.u16()?);
            r.skip(2)?;
            g.command_bucket_id = r.u32()?;
            if !command_bucket_ok(command, g.command_bucket_id) {
                return Err(bad(OfpErr::OFPGMFC_BAD_BUCKET, || {
                    let id = g.command_bucket_id;
                    format!("group command bucket id ({id}) is out of range")
                }));
            }
            let b = r.sub(buckets_len).map_err(|_| OfpErr::OFPGMFC_BAD_BUCKET)?;
            g.buckets = self.buckets15(b, type_)?;
            g.props = self.group_props(r, type_, command)?;
        } else {
            g.buckets = self.buckets11(r)?;
        }
        let type_ = type_.ok_or(OfpErr::OFPGMFC_BAD_TYPE)?;
        // Only deleting needs no bucket of an indirect group.
        if type_ == GroupType::Indirect
            && command != Some(GroupCommand::Delete)
            && g.buckets.len() != 1
        {
            return Err(OfpErr::OFPGMFC_INVALID_GROUP);
        }
        let command = command.ok_or(OfpErr::OFPGMFC_BAD_COMMAND)?;
        if command == GroupCommand::RemoveBucket && !g.buckets.is_empty() {
            return Err(OfpErr::OFPGMFC_BAD_BUCKET);
        }
        // Who deletes a group has nothing to say about its buckets.
        if command == GroupCommand::Delete && !g.buckets.is_empty() {
            return Err(OfpErr::OFPGMFC_INVALID_GROUP);
        }
        // A bucket to insert may have a weight: the message does not say what type the group has.
        let weighted = type_ == GroupType::Select || command == GroupCommand::InsertBucket;
        if !weighted && g.buckets.iter().any(|b| b.weight != 0) {
            return Err(OfpErr::OFPGMFC_INVALID_GROUP);
        }
        check_buckets(&g.buckets, type_)?;
        Ok(Message::GroupMod(g))
    }

    pub(super) fn group_stats_request(&self, mut r: Reader<'_>) -> Result<Message, OfpErr> {
        Ok(Message::GroupStatsRequest { group: r.u32()? })
    }

    pub(super) fn group_desc_request(&self, mut r: Reader<'_>) -> Result<Message, OfpErr> {
        let group = if new_layout(self.version) {
            r.u32()?
        } else {
            crate::flow::GROUP_ALL
        };
        Ok(Message::GroupDescRequest { group })
    }

    pub(super) fn group_stats_reply(&self, r: Reader<'_>) -> Result<Message, OfpErr> {
        let fixed = if self.has_duration() { 40 } else { 32 };
        let one = |r: &mut Reader<'_>| {
            let mut h = *r;
            let len = usize::from(h.u16()?);
            check_len(len >= fixed && len <= r.len())?;
            // Bytes that are no whole bucket belong to the next group.
            let mut b = r.sub(len - (len - fixed) % 16)?;
            b.skip(4)?;
            let mut g = GroupStats {
                group_id: b.u32()?,
                ref_count: b.u32()?,
                duration_sec: u32::MAX,
                duration_nsec: u32::MAX,
                ..Default::default()
            };
            b.skip(4)?;
            g.packet_count = b.u64()?;
            g.byte_count = b.u64()?;
            if fixed == 40 {
                g.duration_sec = b.u32()?;
                g.duration_nsec = b.u32()?;
            }
            while !b.is_empty() {
                g.buckets.push(BucketStats {
                    packet_count: b.u64()?,
                    byte_count: b.u64()?,
                });
            }
            Ok(g)
        };
        Ok(Message::GroupStatsReply {
            groups: self.list(r, one)?,
            more: self.parsed.more,
        })
    }

    /// Nicira's statistics for 1.0 have 1.3's layout.
    fn has_duration(&self) -> bool {
        self.is_nx() || self.version >= Version::V13
    }

    pub(super) fn group_desc_reply(&self, r: Reader<'_>) -> Result<Message, OfpErr> {
        let one = |r: &mut Reader<'_>| {
            let mut h = *r;
            let len = usize::from(h.u16()?);
            check_len(len >= 8 && len <= r.len())?;
            let mut b = r.sub(len)?;
            b.skip(2)?;
            let type_ = GroupType::from_wire(b.u8()?).ok_or(OfpErr::OFPGMFC_BAD_TYPE)?;
            b.skip(1)?;
            let group_id = b.u32()?;
            let mut g = GroupDesc {
                type_,
                group_id,
                buckets: Vec::new(),
                props: GroupProps::default(),
            };
            if new_layout(self.version) {
                let n = usize::from(b.u16()?);
                b.skip(6)?;
                g.buckets = self.buckets15(b.sub(n)?, Some(type_))?;
                g.props = self.group_props(b, Some(type_), Some(GroupCommand::Add))?;
            } else {
                g.buckets = self.buckets11(b)?;
            }
            Ok(g)
        };
        Ok(Message::GroupDescReply {
            groups: self.list(r, one)?,
            more: self.parsed.more,
        })
    }

    pub(super) fn group_features_reply(&self, mut r: Reader<'_>) -> Result<Message, OfpErr> {
        let mut f = GroupFeatures {
            types: r.u32()?,
            capabilities: r.u32()?,
            ..Default::default()
        };
        for n in f.max_groups.iter_mut().chain(&mut f.actions) {
            *n = r.u32()?;
        }
        Ok(Message::GroupFeaturesReply(f))
    }
}

/// An error of which Open vSwitch's log says more.
fn bad(error: OfpErr, text: impl Fn() -> String) -> OfpErr {
    warn(Topic::Group, text);
    error
}

/// Checks the length of a bucket, whose fixed part is `least` bytes long.
fn bucket_len(len: usize, least: usize, room: usize) -> Result<(), OfpErr> {
    if len < least {
        return Err(bad(OfpErr::OFPGMFC_BAD_BUCKET, || {
            format!("OpenFlow message bucket length {len} is not valid")
        }));
    }
    if len > room {
        return Err(bad(OfpErr::OFPGMFC_BAD_BUCKET, || {
            format!(
                "OpenFlow message bucket length {len} exceeds remaining buckets data size {room}"
            )
        }));
    }
    Ok(())
}

/// Whether a command may name this bucket: only insertion and removal are about one.
fn command_bucket_ok(command: Option<GroupCommand>, id: u32) -> bool {
    let one = id <= BUCKET_MAX || [BUCKET_FIRST, BUCKET_LAST].contains(&id);
    match command {
        Some(GroupCommand::InsertBucket) => one,
        Some(GroupCommand::RemoveBucket) => one || id == BUCKET_ALL,
        _ => id == BUCKET_ALL,
    }
}

/// What must hold of buckets in a group of this type.
fn check_buckets(buckets: &[Bucket], type_: GroupType) -> Result<(), OfpErr> {
    for b in buckets {
        match type_ {
            GroupType::All | GroupType::Indirect if b.has_watch() => {
                return Err(OfpErr::OFPGMFC_WATCH_UNSUPPORTED);
            }
            GroupType::FastFailover if !b.has_watch() => {
                return Err(OfpErr::OFPGMFC_INVALID_GROUP);
            }
            _ => {}
        }
    }
    Ok(())
}

/// Appends a bucket.
fn put_bucket(b: &Bucket, type_: GroupType, version: Version, tun: &Tun<'_>, o: &mut Vec<u8>) {
    let start = o.len();
    o.put_u16(0);
    if new_layout(version) {
        o.put_u16(0);
        o.put_u32(b.bucket_id);
        let at = o.len();
        encode::actions(&b.actions, version, tun, o);
        let len = o.len() - at;
        o.set_u16(start + 2, len as u16);
        // A bucket to insert may have a weight although its message does not say the group's type.
        if type_ == GroupType::Select || b.weight != 0 {
            prop(o, 0, |o| {
                o.put_u16(b.weight);
                o.put_zeros(2);
            });
        }
        if b.watch_port != OfPort::NONE {
            prop(o, 1, |o| put_port32(o, b.watch_port));
        }
        if b.watch_group != GROUP_ANY {
            prop(o, 2, |o| o.put_u32(b.watch_group));
        }
    } else {
        o.put_u16(b.weight);
        put_port32(o, b.watch_port);
        o.put_u32(b.watch_group);
        o.put_zeros(4);
        encode::actions(&b.actions, version, tun, o);
    }
    let len = o.len() - start;
    o.set_u16(start, len as u16);
}

fn put_props(p: &GroupProps, version: Version, tun: &Tun<'_>, o: &mut Vec<u8>) {
    if p.selection_method.is_empty() {
        return;
    }
    prop(o, 0xffff, |o| {
        o.put_u32(NTR_VENDOR);
        o.put_u32(NTR_SELECTION_METHOD);
        o.put_zeros(4);
        o.put_string(&p.selection_method, 16);
        o.put_u64(p.selection_method_param);
        for (id, mask) in &p.fields {
            let f = id.field();
            oxm::put_header(*id, Some(version), o);
            o.put(mask.low_bytes(tun.bytes(f)));
        }
    });
}

impl Enc<'_, '_> {
    pub(super) fn group_mod(&self, g: &GroupMod, out: &mut Vec<u8>) -> Option<()> {
        let v = self.version;
        let bucket_command = matches!(
            g.command,
            GroupCommand::InsertBucket | GroupCommand::RemoveBucket
        );
        if bucket_command && !new_layout(v) {
            return None;
        }
        self.one(self.raw(Kind::GroupMod)?, out, |o| {
            o.put_u16(g.command as u16);
            o.put_u8(g.type_ as u8);
            o.put_u8(0);
            o.put_u32(g.group_id);
            let at = o.len();
            if new_layout(v) {
                o.put_zeros(4);
                o.put_u32(g.command_bucket_id);
            }
            let start = o.len();
            for b in &g.buckets {
                put_bucket(b, g.type_, v, self.tun, o);
            }
            let len = o.len() - start;
            if new_layout(v) {
                o.set_u16(at, len as u16);
                put_props(&g.props, v, self.tun, o);
            }
        });
        Some(())
    }

    pub(super) fn group_id_request(&self, kind: Kind, id: u32, out: &mut Vec<u8>) -> Option<()> {
        self.one(self.raw(kind)?, out, |o| {
            o.put_u32(id);
            o.put_zeros(4);
        });
        Some(())
    }

    pub(super) fn group_desc_request(&self, id: u32, out: &mut Vec<u8>) -> Option<()> {
        if new_layout(self.version) {
            return self.group_id_request(Kind::GroupDescRequest, id, out);
        }
        self.empty(Kind::GroupDescRequest, out)
    }

    pub(super) fn group_stats_reply(
        &self,
        groups: &[GroupStats],
        more: bool,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let raw = self.raw(Kind::GroupStatsReply)?;
        let nx = matches!(raw.carrier, Carrier::NxMp { .. });
        let duration = nx || self.version >= Version::V13;
        self.parts(raw, groups, more, out, |g, o| {
            let fixed = if duration { 40 } else { 32 };
            o.put_u16((fixed + 16 * g.buckets.len()) as u16);
            o.put_zeros(2);
            o.put_u32(g.group_id);
            o.put_u32(g.ref_count);
            o.put_zeros(4);
            o.put_u64(g.packet_count);
            o.put_u64(g.byte_count);
            if duration {
                o.put_u32(g.duration_sec);
                o.put_u32(g.duration_nsec);
            }
            for b in &g.buckets {
                o.put_u64(b.packet_count);
                o.put_u64(b.byte_count);
            }
        });
        Some(())
    }

    pub(super) fn group_desc_reply(
        &self,
        groups: &[GroupDesc],
        more: bool,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let raw = self.raw(Kind::GroupDescReply)?;
        let v = self.version;
        self.parts(raw, groups, more, out, |g, o| {
            let start = o.len();
            o.put_u16(0);
            o.put_u8(g.type_ as u8);
            o.put_u8(0);
            o.put_u32(g.group_id);
            let at = o.len();
            if new_layout(v) {
                o.put_zeros(8);
            }
            let first = o.len();
            for b in &g.buckets {
                put_bucket(b, g.type_, v, self.tun, o);
            }
            let len = o.len() - first;
            if new_layout(v) {
                o.set_u16(at, len as u16);
                put_props(&g.props, v, self.tun, o);
            }
            let len = o.len() - start;
            o.set_u16(start, len as u16);
        });
        Some(())
    }

    pub(super) fn group_features_reply(&self, f: &GroupFeatures, out: &mut Vec<u8>) -> Option<()> {
        self.one(self.raw(Kind::GroupFeaturesReply)?, out, |o| {
            o.put_u32(f.types);
            o.put_u32(f.capabilities);
            f.max_groups
                .iter()
                .chain(&f.actions)
                .for_each(|&n| o.put_u32(n));
        });
        Some(())
    }
}
