//! Flow monitors in Nicira's form (1.0 to 1.2), the ONF's (1.3) and OpenFlow's own (1.4 and later).

use ferrovs_packet::flow::Match;
use ferrovs_packet::types::OfPort;

use crate::action::{decode, encode, instructions};
use crate::codec::{Dec, Enc, port32, put_port32};
use crate::error::OfpErr;
use crate::flow::*;
use crate::message::Message;
use crate::oxm::{self, PullOptions};
use crate::raw::Kind;
use crate::version::Version;
use crate::wire::{Put, Reader};

/// Nicira's flags: initial, add, delete, modify, actions, own; ours number from 1.4.
const NX_FLAGS: [(u16, FlowMonitorFlags); 6] = [
    (1 << 0, FlowMonitorFlags::INITIAL),
    (1 << 1, FlowMonitorFlags::ADD),
    (1 << 2, FlowMonitorFlags::REMOVED),
    (1 << 3, FlowMonitorFlags::MODIFY),
    (1 << 4, FlowMonitorFlags::INSTRUCTIONS),
    (1 << 5, FlowMonitorFlags::ONLY_OWN),
];

/// What a monitor must watch at least one of.
const CHANGES: FlowMonitorFlags = FlowMonitorFlags::ADD
    .union(FlowMonitorFlags::REMOVED)
    .union(FlowMonitorFlags::MODIFY);

impl Dec<'_, '_> {
    /// Whether bodies have Nicira's layout; the ONF's extension of 1.3 has it too, but for 32-bit ports, matches
    /// and instructions.
    fn nx_monitor(&self) -> bool {
        self.version <= Version::V13
    }

    pub(super) fn flow_monitor_request(&self, r: Reader<'_>) -> Result<Message, OfpErr> {
        self.list(r, |r| {
            if self.nx_monitor() {
                self.nx_monitor_request(r)
            } else {
                self.std_monitor_request(r)
            }
        })
        .map(Message::FlowMonitorRequest)
    }

    fn nx_monitor_request(&self, r: &mut Reader<'_>) -> Result<FlowMonitorRequest, OfpErr> {
        let onf = self.version == Version::V13;
        let (id, flags) = (r.u32()?, r.u16()?);
        let (out_port, match_len);
        if onf {
            match_len = r.u16()?;
            out_port = port32(r, OfpErr::OFPBAC_BAD_OUT_PORT);
        } else {
            out_port = Ok(OfPort(r.u16()?));
            match_len = r.u16()?;
        }
        let table_id = r.u8()?;
        let zeros = r.zeros(if onf { 3 } else { 5 })?;
        let known: u16 = NX_FLAGS.iter().map(|f| f.0).sum();
        let changes = NX_FLAGS.iter().filter(|f| CHANGES.contains(f.1));
        let changes: u16 = changes.map(|f| f.0).sum();
        if flags & !known != 0 || flags & changes == 0 {
            return Err(OfpErr::OFPMOFC_BAD_FLAGS);
        }
        if !zeros {
            return Err(OfpErr::NXBRC_MUST_BE_ZERO);
        }
        let flags = NX_FLAGS.iter().filter(|f| flags & f.0 != 0);
        let opt = PullOptions::default();
        Ok(FlowMonitorRequest {
            id,
            command: FlowMonitorCommand::Add,
            flags: flags.map(|f| f.1).collect(),
            out_port: out_port?,
            out_group: GROUP_ANY,
            table_id,
            match_: if onf {
                oxm::pull_ofp11_match(r, &opt, self.tun)?
            } else {
                oxm::pull_nx_match(r, match_len, &opt, self.tun)?.match_
            },
        })
    }

    fn std_monitor_request(&self, r: &mut Reader<'_>) -> Result<FlowMonitorRequest, OfpErr> {
        let id = r.u32()?;
        let out_port = port32(r, OfpErr::OFPBAC_BAD_OUT_PORT);
        let out_group = r.u32()?;
        let bits = r.u16()?;
        let (table_id, command) = (r.u8()?, r.u8()?);
        // Open vSwitch abbreviates always.
        let known =
            FlowMonitorFlags::from_bits(bits).filter(|f| !f.contains(FlowMonitorFlags::NO_ABBREV));
        let flags = FlowMonitorFlags::from_bits_truncate(bits);
        // Who deletes a monitor need not say what it watches.
        if command != FlowMonitorCommand::Delete as u8
            && (known.is_none() || !flags.intersects(CHANGES))
        {
            return Err(OfpErr::OFPMOFC_BAD_FLAGS);
        }
        let command = match command {
            0 => FlowMonitorCommand::Add,
            1 => FlowMonitorCommand::Modify,
            2 => FlowMonitorCommand::Delete,
            _ => return Err(OfpErr::OFPMOFC_BAD_COMMAND),
        };
        Ok(FlowMonitorRequest {
            id,
            command,
            flags,
            out_port: out_port?,
            out_group,
            table_id,
            match_: oxm::pull_ofp11_match(r, &PullOptions::default(), self.tun)?,
        })
    }

    pub(super) fn flow_monitor_reply(&self, r: Reader<'_>) -> Result<Message, OfpErr> {
        Ok(Message::FlowMonitorReply {
            updates: self.list(r, |r| self.flow_update(r))?,
            more: self.parsed.more,
        })
    }

    fn flow_update(&self, r: &mut Reader<'_>) -> Result<FlowUpdate, OfpErr> {
        let opt = PullOptions::default();
        let mut h = *r;
        let (len, event) = (usize::from(h.u16()?), h.u16()?);
        if len < 8 || len % 8 != 0 || len > r.len() {
            return Err(OfpErr::OFPBRC_BAD_LEN);
        }
        let mut b = r.sub(len)?;
        b.skip(4)?;
        // Nicira's events: added, deleted, modified, abbreviated. 1.4's: initial, added, removed, modified,
        // abbreviated, paused, resumed.
        let event = if self.nx_monitor() {
            event.saturating_add(1)
        } else {
            event
        };
        let event = match event {
            0 => FlowUpdateEvent::Initial,
            1 => FlowUpdateEvent::Added,
            2 => FlowUpdateEvent::Removed,
            3 => FlowUpdateEvent::Modified,
            4 => return Ok(FlowUpdate::Abbrev { xid: b.u32()? }),
            5 if !self.nx_monitor() => return Ok(FlowUpdate::Paused),
            6 if !self.nx_monitor() => return Ok(FlowUpdate::Resumed),
            _ => return Err(OfpErr::NXBRC_FM_BAD_EVENT),
        };
        let mut u = FullFlowUpdate {
            event,
            reason: FlowRemovedReason::IdleTimeout,
            idle_timeout: 0,
            hard_timeout: 0,
            table_id: 0,
            priority: 0,
            cookie: 0,
            match_: Default::default(),
            actions: Vec::new(),
        };
        if self.nx_monitor() {
            let reason = b.u16()?;
            u.priority = b.u16()?;
            u.idle_timeout = b.u16()?;
            u.hard_timeout = b.u16()?;
            let match_len = b.u16()?;
            u.table_id = b.u8()?;
            b.skip(1)?;
            u.cookie = b.u64()?;
            u.reason = FlowRemovedReason::from_wire(reason as u8)
                .unwrap_or(FlowRemovedReason::IdleTimeout);
            if self.version == Version::V13 {
                u.match_ = oxm::pull_ofp11_match(&mut b, &opt, self.tun)?;
                u.actions = instructions::decode(b.rest(), self.version, self.tun)?;
            } else {
                u.match_ = oxm::pull_nx_match(&mut b, match_len, &opt, self.tun)?.match_;
                u.actions = decode::actions(b.rest(), self.version, self.tun)?;
            }
        } else {
            u.table_id = b.u8()?;
            u.reason =
                FlowRemovedReason::from_wire(b.u8()?).unwrap_or(FlowRemovedReason::IdleTimeout);
            u.idle_timeout = b.u16()?;
            u.hard_timeout = b.u16()?;
            u.priority = b.u16()?;
            b.skip(4)?;
            u.cookie = b.u64()?;
            u.match_ = oxm::pull_ofp11_match(&mut b, &opt, self.tun)?;
            u.actions = instructions::decode(b.rest(), self.version, self.tun)?;
        }
        Ok(FlowUpdate::Full(Box::new(u)))
    }

    pub(super) fn flow_monitor_cancel(&self, mut r: Reader<'_>) -> Result<Message, OfpErr> {
        Ok(Message::FlowMonitorCancel { id: r.u32()? })
    }
}

impl Enc<'_, '_> {
    fn nx_monitor(&self) -> bool {
        self.version <= Version::V13
    }

    pub(super) fn flow_monitor_request(
        &self,
        list: &[FlowMonitorRequest],
        out: &mut Vec<u8>,
    ) -> Option<()> {
        self.one(self.raw(Kind::FlowMonitorRequest)?, out, |o| {
            for m in list {
                o.put_u32(m.id);
                if self.nx_monitor() {
                    let flags: u16 = NX_FLAGS
                        .iter()
                        .filter(|f| m.flags.contains(f.1))
                        .map(|f| f.0)
                        .sum();
                    o.put_u16(flags);
                    if self.version == Version::V13 {
                        let at = o.len();
                        o.put_u16(0);
                        put_port32(o, m.out_port);
                        o.put_u8(m.table_id);
                        o.put_zeros(3);
                        self.onf_match(&m.match_, at, o);
                        continue;
                    }
                    o.put_u16(m.out_port.0);
                    let at = o.len();
                    o.put_u16(0);
                    o.put_u8(m.table_id);
                    o.put_zeros(5);
                    let len = oxm::put_nx_match(&m.match_, 0, 0, self.tun, o);
                    o.set_u16(at, len);
                } else {
                    put_port32(o, m.out_port);
                    o.put_u32(m.out_group);
                    o.put_u16(m.flags.bits());
                    o.put_u8(m.table_id);
                    o.put_u8(m.command as u8);
                    oxm::put_ofp11_match(&m.match_, self.version, self.tun, o);
                }
            }
        });
        Some(())
    }

    /// Appends a match in 1.3's form, its length without padding at `len_at`.
    fn onf_match(&self, m: &Match, len_at: usize, o: &mut Vec<u8>) {
        let start = o.len();
        oxm::put_ofp11_match(m, self.version, self.tun, o);
        let len = u16::from_be_bytes([o[start + 2], o[start + 3]]);
        o.set_u16(len_at, len);
    }

    pub(super) fn flow_monitor_reply(
        &self,
        updates: &[FlowUpdate],
        more: bool,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let raw = self.raw(Kind::FlowMonitorReply)?;
        self.parts(raw, updates, more, out, |u, o| {
            let start = o.len();
            o.put_u16(0);
            match u {
                FlowUpdate::Abbrev { xid } => {
                    o.put_u16(if self.nx_monitor() { 3 } else { 4 });
                    o.put_u32(*xid);
                }
                FlowUpdate::Paused | FlowUpdate::Resumed => {
                    o.put_u16(if matches!(u, FlowUpdate::Paused) {
                        5
                    } else {
                        6
                    });
                    o.put_zeros(4);
                }
                FlowUpdate::Full(u) => self.full_update(u, o),
            }
            let len = o.len() - start;
            o.set_u16(start, len as u16);
        });
        Some(())
    }

    fn full_update(&self, u: &FullFlowUpdate, o: &mut Vec<u8>) {
        let event = match u.event {
            FlowUpdateEvent::Initial => 0,
            FlowUpdateEvent::Added => 1,
            FlowUpdateEvent::Removed => 2,
            FlowUpdateEvent::Modified => 3u16,
        };
        let reason = if u.event == FlowUpdateEvent::Removed {
            u.reason as u16
        } else {
            0
        };
        if self.nx_monitor() {
            // Nicira has no "initial": such flows are added.
            o.put_u16(event.saturating_sub(1));
            o.put_u16(reason);
            o.put_u16(u.priority);
            o.put_u16(u.idle_timeout);
            o.put_u16(u.hard_timeout);
            let at = o.len();
            o.put_u16(0);
            o.put_u8(u.table_id);
            o.put_u8(0);
            o.put_u64(u.cookie);
            if self.version == Version::V13 {
                self.onf_match(&u.match_, at, o);
                instructions::encode(&u.actions, self.version, self.tun, o);
                return;
            }
            let len = oxm::put_nx_match(&u.match_, 0, 0, self.tun, o);
            o.set_u16(at, len);
            encode::actions(&u.actions, self.version, self.tun, o);
        } else {
            o.put_u16(event);
            o.put_u8(u.table_id);
            o.put_u8(reason as u8);
            o.put_u16(u.idle_timeout);
            o.put_u16(u.hard_timeout);
            o.put_u16(u.priority);
            o.put_zeros(4);
            o.put_u64(u.cookie);
            oxm::put_ofp11_match(&u.match_, self.version, self.tun, o);
            instructions::encode(&u.actions, self.version, self.tun, o);
        }
    }
}
