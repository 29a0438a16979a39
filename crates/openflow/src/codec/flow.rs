//! Flow mods, flow statistics, flow removal.

use crate::action::check::{Limits, check_for_protocol};
use crate::action::{TABLE_ALL, encode, instructions};
use crate::codec::{Dec, Enc, port32, put_port32};
use crate::error::OfpErr;
use crate::flow::*;
use crate::legacy;
use crate::message::Message;
use crate::oxm::{self, PullOptions};
use crate::raw::Kind;
use crate::tun::Tun;
use crate::version::{Protocol, Version};
use crate::wire::{Put, Reader};
use ferrovs_packet::types::OfPort;

/// Options of matches in flow messages: every field must be known.
fn strict() -> PullOptions {
    PullOptions::default()
}

fn bad_len(ok: bool) -> Result<(), OfpErr> {
    if ok {
        Ok(())
    } else {
        Err(OfpErr::OFPBRC_BAD_LEN)
    }
}

impl Dec<'_, '_> {
    pub(super) fn flow_mod(&self, r: Reader<'_>) -> Result<Message, OfpErr> {
        let nxm = self.is_nx();
        // Filled in its place: it is large.
        let mut fm = Box::<FlowMod>::default();
        if nxm || self.version == Version::V10 {
            self.flow_mod10(r, nxm, &mut fm)?;
        } else {
            self.flow_mod11(r, &mut fm)?;
        }
        let limits = Limits::any_switch(fm.table_id);
        let protocol = Protocol::all_of(self.version);
        check_for_protocol(&mut fm.actions, &fm.match_, limits, protocol)?;
        Ok(Message::FlowMod { flow_mod: fm, nxm })
    }

    /// OpenFlow 1.0's and Nicira's. The upper byte of the command is taken for a table number;
    /// [`FlowMod::fix_table_id`] takes it back for connections on which it is not.
    fn flow_mod10(&self, mut r: Reader<'_>, nxm: bool, fm: &mut FlowMod) -> Result<(), OfpErr> {
        let flags;
        let match_len;
        let command;
        if nxm {
            let cookie = r.u64()?;
            command = r.u16()?;
            fm.idle_timeout = r.u16()?;
            fm.hard_timeout = r.u16()?;
            fm.priority = r.u16()?;
            fm.buffer_id = r.u32()?;
            fm.out_port = OfPort(r.u16()?);
            flags = r.u16()?;
            match_len = r.u16()?;
            r.skip(6)?;
            let opt = PullOptions {
                cookie: true,
                ..strict()
            };
            let pulled = oxm::pull_nx_match(&mut r, match_len, &opt, self.tun)?;
            fm.match_ = pulled.match_;
            fm.cookie = pulled.cookie;
            fm.cookie_mask = pulled.cookie_mask;
            fm.new_cookie = cookie;
            if command as u8 == 0 && pulled.cookie_mask != 0 {
                // An added flow cannot be chosen by a cookie.
                return Err(OfpErr::NXBRC_NXM_INVALID);
            }
            fm.modify_cookie = cookie != u64::MAX;
        } else {
            let wire = r.take(legacy::OFP10_MATCH_LEN)?;
            let exact = Reader::new(wire).u32()? & legacy::OFPFW10_ALL == 0;
            fm.match_ = legacy::match_from_ofp10(wire)?;
            fm.new_cookie = r.u64()?;
            command = r.u16()?;
            fm.idle_timeout = r.u16()?;
            fm.hard_timeout = r.u16()?;
            fm.priority = r.u16()?;
            fm.buffer_id = r.u32()?;
            fm.out_port = OfPort(r.u16()?);
            flags = r.u16()?;
            legacy::normalize(&mut fm.match_);
            fm.modify_cookie = true;
            // A match without wildcards outranks all others in 1.0.
            if exact {
                fm.priority = u16::MAX;
            }
        }
        fm.actions = instructions::decode(r.rest(), self.version, self.tun)?;
        fm.command = FlowModCommand::from_wire(command as u8).ok_or(OfpErr::OFPFMFC_BAD_COMMAND)?;
        fm.table_id = (command >> 8) as u8;
        fm.tid = true;
        const EMERG: u16 = 1 << 2;
        if flags & EMERG != 0 && self.version == Version::V10 {
            // There is no emergency flow cache, and a flow in it could not expire.
            return Err(if fm.idle_timeout != 0 || fm.hard_timeout != 0 {
                OfpErr::OFPFMFC_BAD_EMERG_TIMEOUT
            } else {
                OfpErr::OFPFMFC_TABLE_FULL
            });
        }
        fm.flags = self.flow_mod_flags(flags, fm.command)?;
        fm.out_group = GROUP_ANY;
        Ok(())
    }

    fn flow_mod11(&self, mut r: Reader<'_>, fm: &mut FlowMod) -> Result<(), OfpErr> {
        let v = self.version;
        let (cookie, cookie_mask) = (r.u64()?, r.u64()?);
        fm.table_id = r.u8()?;
        let command = r.u8()?;
        fm.idle_timeout = r.u16()?;
        fm.hard_timeout = r.u16()?;
        fm.priority = r.u16()?;
        fm.buffer_id = r.u32()?;
        let out_port = port32(&mut r, OfpErr::OFPBAC_BAD_OUT_PORT);
        fm.out_group = r.u32()?;
        let flags = r.u16()?;
        let importance = r.u16()?;
        oxm::read_ofp11_match(&mut r, &strict(), self.tun, &mut fm.match_)?;
        if v == Version::V11 {
            legacy::normalize(&mut fm.match_);
        }
        fm.actions = instructions::decode(r.rest(), v, self.tun)?;
        fm.out_port = out_port?;
        fm.command = FlowModCommand::from_wire(command).ok_or(OfpErr::OFPFMFC_BAD_COMMAND)?;
        if fm.command == FlowModCommand::Add {
            fm.new_cookie = cookie;
            fm.modify_cookie = cookie != u64::MAX;
        } else {
            fm.cookie = cookie & cookie_mask;
            fm.cookie_mask = cookie_mask;
            // In 1.1 a modification without cookie mask sets the cookie.
            let modify = matches!(
                fm.command,
                FlowModCommand::Modify | FlowModCommand::ModifyStrict
            );
            if v == Version::V11 && modify && cookie_mask == 0 {
                fm.new_cookie = cookie;
                fm.modify_cookie = cookie != u64::MAX;
            } else {
                fm.new_cookie = u64::MAX;
                fm.modify_cookie = false;
            }
        }
        let has_importance = v >= Version::V14 && fm.command == FlowModCommand::Add;
        fm.importance = if has_importance { importance } else { 0 };
        if fm.command == FlowModCommand::Add && fm.table_id == TABLE_ALL {
            return Err(OfpErr::OFPFMFC_BAD_TABLE_ID);
        }
        fm.flags = self.flow_mod_flags(flags, fm.command)?;
        Ok(())
    }

    fn flow_mod_flags(&self, flags: u16, command: FlowModCommand) -> Result<FlowModFlags, OfpErr> {
        if flags & !known_flags(self.version) != 0 {
            return Err(OfpErr::OFPFMFC_BAD_FLAGS);
        }
        let mut flags = FlowModFlags::from_bits_retain(flags.into());
        // Before 1.2 adding always resets counters.
        if self.version < Version::V12 && command == FlowModCommand::Add {
            flags |= FlowModFlags::RESET_COUNTS;
        }
        Ok(flags)
    }

    pub(super) fn flow_removed(&self, mut r: Reader<'_>) -> Result<Message, OfpErr> {
        let nxm = self.is_nx();
        let reason = |n: u8| FlowRemovedReason::from_wire(n).ok_or(OfpErr::NXBRC_BAD_REASON);
        let mut fr = FlowRemoved {
            match_: Default::default(),
            cookie: 0,
            priority: 0,
            reason: FlowRemovedReason::IdleTimeout,
            table_id: 0xff,
            duration_sec: 0,
            duration_nsec: 0,
            idle_timeout: 0,
            hard_timeout: 0,
            packet_count: 0,
            byte_count: 0,
        };
        if nxm {
            fr.cookie = r.u64()?;
            fr.priority = r.u16()?;
            fr.reason = reason(r.u8()?)?;
            let table = r.u8()?;
            fr.table_id = table.wrapping_sub(1);
            fr.duration_sec = r.u32()?;
            fr.duration_nsec = r.u32()?;
            fr.idle_timeout = r.u16()?;
            let match_len = r.u16()?;
            fr.packet_count = r.u64()?;
            fr.byte_count = r.u64()?;
            fr.match_ = oxm::pull_nx_match(&mut r, match_len, &strict(), self.tun)?.match_;
            bad_len(r.is_empty())?;
        } else if self.version == Version::V10 {
            fr.match_ = legacy::match_from_ofp10(r.take(legacy::OFP10_MATCH_LEN)?)?;
            fr.cookie = r.u64()?;
            fr.priority = r.u16()?;
            fr.reason = reason(r.u8()?)?;
            r.skip(1)?;
            fr.duration_sec = r.u32()?;
            fr.duration_nsec = r.u32()?;
            fr.idle_timeout = r.u16()?;
            r.skip(2)?;
            fr.packet_count = r.u64()?;
            fr.byte_count = r.u64()?;
        } else if self.version == Version::V15 {
            fr.table_id = r.u8()?;
            fr.reason = reason(r.u8()?)?;
            fr.priority = r.u16()?;
            fr.idle_timeout = r.u16()?;
            fr.hard_timeout = r.u16()?;
            fr.cookie = r.u64()?;
            fr.match_ = oxm::pull_ofp11_match(&mut r, &strict(), self.tun)?;
            let s = pull_oxs(&mut r)?;
            (fr.duration_sec, fr.duration_nsec) = s.duration;
            fr.packet_count = s.packet_count;
            fr.byte_count = s.byte_count;
        } else {
            fr.cookie = r.u64()?;
            fr.priority = r.u16()?;
            fr.reason = reason(r.u8()?)?;
            fr.table_id = r.u8()?;
            fr.duration_sec = r.u32()?;
            fr.duration_nsec = r.u32()?;
            fr.idle_timeout = r.u16()?;
            fr.hard_timeout = r.u16()?;
            fr.packet_count = r.u64()?;
            fr.byte_count = r.u64()?;
            fr.match_ = oxm::pull_ofp11_match(&mut r, &strict(), self.tun)?;
        }
        Ok(Message::FlowRemoved {
            removed: Box::new(fr),
            nxm,
        })
    }

    pub(super) fn flow_stats_request(
        &self,
        mut r: Reader<'_>,
        aggregate: bool,
    ) -> Result<Message, OfpErr> {
        let nxm = self.is_nx();
        let mut q = FlowStatsRequest {
            aggregate,
            ..Default::default()
        };
        if nxm {
            q.out_port = OfPort(r.u16()?);
            let match_len = r.u16()?;
            q.table_id = r.u8()?;
            r.skip(3)?;
            let opt = PullOptions {
                cookie: true,
                ..strict()
            };
            let pulled = oxm::pull_nx_match(&mut r, match_len, &opt, self.tun)?;
            bad_len(r.is_empty())?;
            q.match_ = pulled.match_;
            q.cookie = pulled.cookie;
            q.cookie_mask = pulled.cookie_mask;
        } else if self.version == Version::V10 {
            q.match_ = legacy::match_from_ofp10(r.take(legacy::OFP10_MATCH_LEN)?)?;
            q.table_id = r.u8()?;
            r.skip(1)?;
            q.out_port = OfPort(r.u16()?);
        } else {
            q.table_id = r.u8()?;
            r.skip(3)?;
            q.out_port = port32(&mut r, OfpErr::OFPBAC_BAD_OUT_PORT)?;
            q.out_group = r.u32()?;
            r.skip(4)?;
            let (cookie, mask) = (r.u64()?, r.u64()?);
            q.cookie = cookie & mask;
            q.cookie_mask = mask;
            q.match_ = oxm::pull_ofp11_match(&mut r, &strict(), self.tun)?;
        }
        Ok(Message::FlowStatsRequest {
            request: Box::new(q),
            nxm,
        })
    }

    pub(super) fn flow_stats_reply(&self, r: Reader<'_>) -> Result<Message, OfpErr> {
        let nxm = self.is_nx();
        Ok(Message::FlowStatsReply {
            flows: self.list(r, |r| pull_flow_stats(r, self.version, nxm, self.tun))?,
            nxm,
            more: self.parsed.more,
        })
    }

    pub(super) fn aggregate_reply(&self, mut r: Reader<'_>) -> Result<Message, OfpErr> {
        let stats = if self.version == Version::V15 {
            let s = pull_oxs(&mut r)?;
            AggregateStats {
                packet_count: s.packet_count,
                byte_count: s.byte_count,
                flow_count: s.flow_count,
            }
        } else {
            AggregateStats {
                packet_count: r.u64()?,
                byte_count: r.u64()?,
                flow_count: r.u32()?,
            }
        };
        Ok(Message::AggregateReply {
            stats,
            nxm: self.is_nx(),
        })
    }
}

/// OpenFlow 1.5's statistics list.
struct Oxs {
    duration: (u32, u32),
    idle: Option<u32>,
    flow_count: u32,
    packet_count: u64,
    byte_count: u64,
}

const OXS_CLASS: u16 = 0x8002;
const OXS_DURATION: u8 = 0;
const OXS_IDLE_TIME: u8 = 1;
const OXS_FLOW_COUNT: u8 = 3;
const OXS_PACKET_COUNT: u8 = 4;
const OXS_BYTE_COUNT: u8 = 5;

fn pull_oxs(r: &mut Reader<'_>) -> Result<Oxs, OfpErr> {
    let mut h = Reader::with_error(r.rest(), OfpErr::OFPBMC_BAD_LEN);
    h.skip(2)?;
    let len = usize::from(h.u16()?);
    if len < 4 || len.next_multiple_of(8) > r.len() {
        return Err(OfpErr::OFPBMC_BAD_LEN);
    }
    let padded = r.take(len.next_multiple_of(8))?;
    let mut s = Oxs {
        duration: (u32::MAX, u32::MAX),
        idle: None,
        flow_count: u32::MAX,
        packet_count: u64::MAX,
        byte_count: u64::MAX,
    };
    let mut f = Reader::new(&padded[4..len]);
    while !f.is_empty() {
        let (class, number, len) = (f.u16()?, f.u8()? >> 1, usize::from(f.u8()?));
        let mut b = f.sub(len)?;
        if class != OXS_CLASS {
            continue;
        }
        match number {
            OXS_DURATION => s.duration = (b.u32()?, b.u32()?),
            OXS_IDLE_TIME => s.idle = Some(b.u32()?),
            OXS_FLOW_COUNT => s.flow_count = b.u32()?,
            OXS_PACKET_COUNT => s.packet_count = b.u64()?,
            OXS_BYTE_COUNT => s.byte_count = b.u64()?,
            _ => {}
        }
    }
    Ok(s)
}

fn put_oxs(out: &mut Vec<u8>, fields: &[(u8, &[u8])]) {
    let start = out.len();
    out.put_u16(0);
    out.put_u16(0);
    for (number, data) in fields {
        out.put_u16(OXS_CLASS);
        out.put_u8(number << 1);
        out.put_u8(data.len() as u8);
        out.put(data);
    }
    let len = out.len() - start;
    out.set_u16(start + 2, len as u16);
    out.pad8(start);
}

fn pair(a: u32, b: u32) -> [u8; 8] {
    (u64::from(a) << 32 | u64::from(b)).to_be_bytes()
}

/// Reads one flow of a reply.
fn pull_flow_stats(
    r: &mut Reader<'_>,
    version: Version,
    nxm: bool,
    tun: &Tun<'_>,
) -> Result<FlowStats, OfpErr> {
    let opt = strict();
    let mut h = *r;
    let len = usize::from(h.u16()?);
    bad_len(len >= 24 && len <= r.len())?;
    let mut b = r.sub(len)?;
    b.skip(2)?;
    let mut fs = FlowStats::default();
    if nxm || version != Version::V10 && version != Version::V15 {
        fs.table_id = b.u8()?;
        b.skip(1)?;
        fs.duration_sec = b.u32()?;
        fs.duration_nsec = b.u32()?;
        fs.priority = b.u16()?;
        fs.idle_timeout = b.u16()?;
        fs.hard_timeout = b.u16()?;
        let x = b.u16()?;
        let y = b.u16()?;
        let z = b.u16()?;
        fs.cookie = b.u64()?;
        fs.packet_count = b.u64()?;
        fs.byte_count = b.u64()?;
        if nxm {
            fs.match_ = oxm::pull_nx_match(&mut b, x, &opt, tun)?.match_;
            fs.idle_age = y.checked_sub(1);
            fs.hard_age = z.checked_sub(1);
        } else {
            if version >= Version::V13 {
                fs.flags = FlowModFlags::from_bits_truncate(x.into());
            }
            if version >= Version::V14 {
                fs.importance = y;
            }
            fs.match_ = oxm::pull_ofp11_match(&mut b, &opt, tun)?;
        }
        fs.actions = if nxm {
            crate::action::decode::actions(b.rest(), Version::V10, tun)?
        } else {
            instructions::decode(b.rest(), version, tun)?
        };
    } else if version == Version::V15 {
        b.skip(2)?;
        fs.table_id = b.u8()?;
        b.skip(1)?;
        fs.priority = b.u16()?;
        fs.idle_timeout = b.u16()?;
        fs.hard_timeout = b.u16()?;
        fs.flags = FlowModFlags::from_bits_truncate(b.u16()?.into());
        fs.importance = b.u16()?;
        fs.cookie = b.u64()?;
        fs.match_ = oxm::pull_ofp11_match(&mut b, &opt, tun)?;
        let s = pull_oxs(&mut b)?;
        (fs.duration_sec, fs.duration_nsec) = s.duration;
        fs.packet_count = s.packet_count;
        fs.byte_count = s.byte_count;
        fs.idle_age = s.idle.map(|i| i.min(0xffff) as u16);
        fs.actions = instructions::decode(b.rest(), version, tun)?;
    } else {
        fs.table_id = b.u8()?;
        b.skip(1)?;
        fs.match_ = legacy::match_from_ofp10(b.take(legacy::OFP10_MATCH_LEN)?)?;
        fs.duration_sec = b.u32()?;
        fs.duration_nsec = b.u32()?;
        fs.priority = b.u16()?;
        fs.idle_timeout = b.u16()?;
        fs.hard_timeout = b.u16()?;
        b.skip(6)?;
        fs.cookie = b.u64()?;
        fs.packet_count = b.u64()?;
        fs.byte_count = b.u64()?;
        fs.actions = crate::action::decode::actions(b.rest(), version, tun)?;
    }
    Ok(fs)
}

/// Appends one flow of a reply.
pub fn encode_flow_stats(
    fs: &FlowStats,
    version: Version,
    nxm: bool,
    tun: &Tun<'_>,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    out.put_u16(0);
    let age = |a: Option<u16>| a.map_or(0, |a| a.saturating_add(1));
    if nxm || version != Version::V10 && version != Version::V15 {
        out.put_u8(fs.table_id);
        out.put_u8(0);
        out.put_u32(fs.duration_sec);
        out.put_u32(fs.duration_nsec);
        out.put_u16(fs.priority);
        out.put_u16(fs.idle_timeout);
        out.put_u16(fs.hard_timeout);
        let at = out.len();
        if nxm {
            out.put_u16(0);
            out.put_u16(age(fs.idle_age));
            out.put_u16(age(fs.hard_age));
        } else {
            out.put_u16(wire_flags(fs.flags, version));
            out.put_u16(if version >= Version::V14 {
                fs.importance
            } else {
                0
            });
            out.put_u16(0);
        }
        out.put_u64(fs.cookie);
        out.put_u64(fs.packet_count);
        out.put_u64(fs.byte_count);
        if nxm {
            let len = oxm::put_nx_match(&fs.match_, 0, 0, tun, out);
            out.set_u16(at, len);
            encode::actions(&fs.actions, Version::V10, tun, out);
        } else {
            // Statistics carry every field, in 1.1 too.
            oxm::put_oxm_match(&fs.match_, version, tun, out);
            instructions::encode(&fs.actions, version, tun, out);
        }
    } else if version == Version::V15 {
        out.put_u16(0);
        out.put_u8(fs.table_id);
        out.put_u8(0);
        out.put_u16(fs.priority);
        out.put_u16(fs.idle_timeout);
        out.put_u16(fs.hard_timeout);
        out.put_u16(wire_flags(fs.flags, version));
        out.put_u16(fs.importance);
        out.put_u64(fs.cookie);
        oxm::put_ofp11_match(&fs.match_, version, tun, out);
        let duration = pair(fs.duration_sec, fs.duration_nsec);
        let idle = pair(fs.idle_age.unwrap_or(0).into(), 0);
        let (packets, bytes) = (fs.packet_count.to_be_bytes(), fs.byte_count.to_be_bytes());
        let mut fields: Vec<(u8, &[u8])> = vec![(OXS_DURATION, &duration)];
        if fs.idle_age.is_some() {
            fields.push((OXS_IDLE_TIME, &idle));
        }
        if fs.packet_count != u64::MAX {
            fields.push((OXS_PACKET_COUNT, &packets));
        }
        if fs.byte_count != u64::MAX {
            fields.push((OXS_BYTE_COUNT, &bytes));
        }
        put_oxs(out, &fields);
        instructions::encode(&fs.actions, version, tun, out);
    } else {
        // Unknown counts are zero in 1.0's own message.
        let known = |n: u64| if n == u64::MAX { 0 } else { n };
        out.put_u8(fs.table_id);
        out.put_u8(0);
        legacy::match_to_ofp10(&fs.match_, out);
        out.put_u32(fs.duration_sec);
        out.put_u32(fs.duration_nsec);
        out.put_u16(fs.priority);
        out.put_u16(fs.idle_timeout);
        out.put_u16(fs.hard_timeout);
        out.put_zeros(6);
        out.put_u64(fs.cookie);
        out.put_u64(known(fs.packet_count));
        out.put_u64(known(fs.byte_count));
        encode::actions(&fs.actions, version, tun, out);
    }
    let len = out.len() - start;
    out.set_u16(start, len.min(0xffff) as u16);
}

fn wire_flags(flags: FlowModFlags, version: Version) -> u16 {
    flags.bits() as u16 & known_flags(version)
}

fn known_flags(version: Version) -> u16 {
    match version {
        Version::V10 | Version::V11 => 0x3,
        Version::V12 => 0x7,
        _ => 0x1f,
    }
}

impl Enc<'_, '_> {
    /// `tid`: in 1.0, put the table into the command.
    pub(super) fn flow_mod(&self, fm: &FlowMod, nxm: bool, out: &mut Vec<u8>) -> Option<()> {
        let raw = self.raw_nx(Kind::FlowMod, nxm)?;
        let table = if fm.tid {
            u16::from(fm.table_id) << 8
        } else {
            0
        };
        let command10 = table | fm.command as u16;
        self.one(raw, out, |o| {
            if nxm {
                o.put_u64(fm.new_cookie);
                o.put_u16(command10);
                o.put_u16(fm.idle_timeout);
                o.put_u16(fm.hard_timeout);
                o.put_u16(fm.priority);
                o.put_u32(fm.buffer_id);
                o.put_u16(fm.out_port.0);
                o.put_u16(wire_flags(fm.flags, Version::V10));
                let at = o.len();
                o.put_u16(0);
                o.put_zeros(6);
                let len = oxm::put_nx_match(&fm.match_, fm.cookie, fm.cookie_mask, self.tun, o);
                o.set_u16(at, len);
                instructions::encode(&fm.actions, self.version, self.tun, o);
            } else if self.version == Version::V10 {
                legacy::match_to_ofp10(&fm.match_, o);
                o.put_u64(fm.new_cookie);
                o.put_u16(command10);
                o.put_u16(fm.idle_timeout);
                o.put_u16(fm.hard_timeout);
                o.put_u16(fm.priority);
                o.put_u32(fm.buffer_id);
                o.put_u16(fm.out_port.0);
                o.put_u16(wire_flags(fm.flags, Version::V10));
                encode::actions(&fm.actions, Version::V10, self.tun, o);
            } else {
                let modify = matches!(
                    fm.command,
                    FlowModCommand::Modify | FlowModCommand::ModifyStrict
                );
                let v11_cookie = self.version == Version::V11 && modify && fm.modify_cookie;
                if fm.command == FlowModCommand::Add || v11_cookie {
                    o.put_u64(fm.new_cookie);
                    o.put_u64(0);
                } else {
                    o.put_u64(fm.cookie & fm.cookie_mask);
                    o.put_u64(fm.cookie_mask);
                }
                // An unspecified table is 0 for an addition.
                // Version 1.1 has no number for all tables.
                let all = fm.command.is_delete() && self.version > Version::V11;
                let add_default = fm.table_id == TABLE_ALL && !all;
                o.put_u8(if add_default { 0 } else { fm.table_id });
                o.put_u8(fm.command as u8);
                o.put_u16(fm.idle_timeout);
                o.put_u16(fm.hard_timeout);
                o.put_u16(fm.priority);
                o.put_u32(fm.buffer_id);
                put_port32(o, fm.out_port);
                o.put_u32(fm.out_group);
                o.put_u16(wire_flags(fm.flags, self.version));
                o.put_u16(if self.version >= Version::V14 {
                    fm.importance
                } else {
                    0
                });
                oxm::put_ofp11_match(&fm.match_, self.version, self.tun, o);
                instructions::encode(&fm.actions, self.version, self.tun, o);
            }
        });
        Some(())
    }

    pub(super) fn flow_removed(
        &self,
        fr: &FlowRemoved,
        nxm: bool,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let raw = self.raw_nx(Kind::FlowRemoved, nxm)?;
        let known = |n: u64| if n == u64::MAX { 0 } else { n };
        // Reasons that a version lacks are said to be deletions.
        let reason = match fr.reason as u8 {
            3 if self.version < Version::V11 => 2,
            4 | 5 if self.version < Version::V14 => 2,
            r => r,
        };
        self.one(raw, out, |o| {
            if nxm {
                o.put_u64(fr.cookie);
                o.put_u16(fr.priority);
                o.put_u8(reason);
                o.put_u8(fr.table_id.wrapping_add(1));
                o.put_u32(fr.duration_sec);
                o.put_u32(fr.duration_nsec);
                o.put_u16(fr.idle_timeout);
                let at = o.len();
                o.put_u16(0);
                o.put_u64(fr.packet_count);
                o.put_u64(fr.byte_count);
                let len = oxm::put_nx_match(&fr.match_, 0, 0, self.tun, o);
                o.set_u16(at, len);
            } else if self.version == Version::V10 {
                legacy::match_to_ofp10(&fr.match_, o);
                o.put_u64(fr.cookie);
                o.put_u16(fr.priority);
                o.put_u8(reason);
                o.put_u8(0);
                o.put_u32(fr.duration_sec);
                o.put_u32(fr.duration_nsec);
                o.put_u16(fr.idle_timeout);
                o.put_u16(0);
                o.put_u64(known(fr.packet_count));
                o.put_u64(known(fr.byte_count));
            } else if self.version == Version::V15 {
                o.put_u8(fr.table_id);
                o.put_u8(reason);
                o.put_u16(fr.priority);
                o.put_u16(fr.idle_timeout);
                o.put_u16(fr.hard_timeout);
                o.put_u64(fr.cookie);
                oxm::put_ofp11_match(&fr.match_, self.version, self.tun, o);
                let duration = pair(fr.duration_sec, fr.duration_nsec);
                let (p, b) = (fr.packet_count.to_be_bytes(), fr.byte_count.to_be_bytes());
                let mut fields: Vec<(u8, &[u8])> = vec![(OXS_DURATION, &duration)];
                if fr.packet_count != u64::MAX {
                    fields.push((OXS_PACKET_COUNT, &p));
                }
                if fr.byte_count != u64::MAX {
                    fields.push((OXS_BYTE_COUNT, &b));
                }
                put_oxs(o, &fields);
            } else {
                o.put_u64(fr.cookie);
                o.put_u16(fr.priority);
                o.put_u8(reason);
                o.put_u8(fr.table_id);
                o.put_u32(fr.duration_sec);
                o.put_u32(fr.duration_nsec);
                o.put_u16(fr.idle_timeout);
                o.put_u16(fr.hard_timeout);
                o.put_u64(fr.packet_count);
                o.put_u64(fr.byte_count);
                oxm::put_ofp11_match(&fr.match_, self.version, self.tun, o);
            }
        });
        Some(())
    }

    pub(super) fn flow_stats_request(
        &self,
        q: &FlowStatsRequest,
        nxm: bool,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let kind = if q.aggregate {
            Kind::AggregateRequest
        } else {
            Kind::FlowStatsRequest
        };
        let raw = self.raw_nx(kind, nxm)?;
        self.one(raw, out, |o| {
            if nxm {
                o.put_u16(q.out_port.0);
                let at = o.len();
                o.put_u16(0);
                o.put_u8(q.table_id);
                o.put_zeros(3);
                let len = oxm::put_nx_match(&q.match_, q.cookie, q.cookie_mask, self.tun, o);
                o.set_u16(at, len);
            } else if self.version == Version::V10 {
                legacy::match_to_ofp10(&q.match_, o);
                o.put_u8(q.table_id);
                o.put_u8(0);
                o.put_u16(q.out_port.0);
            } else {
                o.put_u8(q.table_id);
                o.put_zeros(3);
                put_port32(o, q.out_port);
                o.put_u32(q.out_group);
                o.put_zeros(4);
                o.put_u64(q.cookie);
                o.put_u64(q.cookie_mask);
                oxm::put_ofp11_match(&q.match_, self.version, self.tun, o);
            }
        });
        Some(())
    }

    pub(super) fn flow_stats_reply(
        &self,
        flows: &[FlowStats],
        nxm: bool,
        more: bool,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let raw = self.raw_nx(Kind::FlowStatsReply, nxm)?;
        self.parts(raw, flows, more, out, |f, o| {
            encode_flow_stats(f, self.version, nxm, self.tun, o);
        });
        Some(())
    }

    pub(super) fn aggregate_reply(
        &self,
        s: &AggregateStats,
        nxm: bool,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let raw = self.raw_nx(Kind::AggregateReply, nxm)?;
        let known = |n: u64| {
            if n == u64::MAX && !nxm && self.version == Version::V10 {
                0
            } else {
                n
            }
        };
        self.one(raw, out, |o| {
            if self.version == Version::V15 {
                let (p, b) = (s.packet_count.to_be_bytes(), s.byte_count.to_be_bytes());
                let n = s.flow_count.to_be_bytes();
                let mut fields: Vec<(u8, &[u8])> = Vec::new();
                if s.packet_count != u64::MAX {
                    fields.push((OXS_PACKET_COUNT, &p));
                }
                if s.byte_count != u64::MAX {
                    fields.push((OXS_BYTE_COUNT, &b));
                }
                fields.push((OXS_FLOW_COUNT, &n));
                put_oxs(o, &fields);
            } else {
                o.put_u64(known(s.packet_count));
                o.put_u64(known(s.byte_count));
                o.put_u32(s.flow_count);
                o.put_zeros(4);
            }
        });
        Some(())
    }
}
