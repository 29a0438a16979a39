//! Packet-in in its formats, packet-out, resume.
//!
//! Nicira's second format is a list of properties; a continuation is a property that holds properties of its own.

use ferrovs_packet::flow::Match;
use ferrovs_packet::types::OfPort;

use crate::action::{decode, decode::props, encode, encode::prop};
use crate::codec::{Dec, Enc, exactly, port32, put_port32};
use crate::error::OfpErr;
use crate::message::Message;
use crate::oxm::{self, PullOptions};
use crate::packet_in::*;
use crate::raw::{self, Carrier, Kind};
use crate::tun::Tun;
use crate::version::Version;
use crate::wire::{Put, Reader};

const PACKET: u16 = 0;
const FULL_LEN: u16 = 1;
const BUFFER_ID: u16 = 2;
const TABLE_ID: u16 = 3;
const COOKIE: u16 = 4;
const REASON: u16 = 5;
const METADATA: u16 = 6;
const USERDATA: u16 = 7;
const CONTINUATION: u16 = 8;

mod cont {
    pub const BRIDGE: u16 = 0x8000;
    pub const STACK: u16 = 0x8001;
    pub const MIRRORS: u16 = 0x8002;
    pub const CONNTRACKED: u16 = 0x8003;
    pub const TABLE_ID: u16 = 0x8004;
    pub const COOKIE: u16 = 0x8005;
    pub const ACTIONS: u16 = 0x8006;
    pub const ACTION_SET: u16 = 0x8007;
    pub const ODP_PORT: u16 = 0x8008;
}

fn loose() -> PullOptions {
    PullOptions {
        lenient: true,
        ..Default::default()
    }
}

fn reason(n: u8) -> Result<PacketInReason, OfpErr> {
    PacketInReason::from_wire(n).ok_or(OfpErr::OFPBRC_BAD_TYPE)
}

/// Matches exactly the input port.
pub fn in_port_match(port: OfPort) -> Match {
    let mut m = Match::default();
    m.flow.in_port = port.0.into();
    m.wc.masks.in_port = u32::MAX;
    m
}

impl Dec<'_, '_> {
    pub(super) fn packet_in(&self, mut r: Reader<'_>) -> Result<Message, OfpErr> {
        let mut pin = PacketIn::default();
        let format = match self.parsed.raw.carrier {
            Carrier::Nx if self.parsed.raw.number == 30 => {
                self.packet_in2(r, &mut pin)?;
                PacketInFormat::Nxt2
            }
            Carrier::Nx => {
                pin.buffer_id = r.u32()?;
                pin.total_len = r.u16()?.into();
                pin.reason = reason(r.u8()?)?;
                pin.table_id = r.u8()?;
                pin.cookie = r.u64()?;
                let match_len = r.u16()?;
                r.skip(6)?;
                pin.flow_metadata =
                    oxm::pull_nx_match(&mut r, match_len, &loose(), self.tun)?.match_;
                r.skip(2)?;
                pin.packet = r.rest().to_vec();
                PacketInFormat::Nxt
            }
            _ => {
                self.packet_in_std(r, &mut pin)?;
                PacketInFormat::Standard
            }
        };
        Ok(Message::PacketIn {
            packet_in: Box::new(pin),
            format,
        })
    }

    fn packet_in_std(&self, mut r: Reader<'_>, pin: &mut PacketIn) -> Result<(), OfpErr> {
        pin.buffer_id = r.u32()?;
        match self.version {
            Version::V10 => {
                pin.total_len = r.u16()?.into();
                pin.flow_metadata = in_port_match(OfPort(r.u16()?));
                pin.reason = reason(r.u8()?)?;
                r.skip(1)?;
            }
            Version::V11 => {
                let port = port32(&mut r, OfpErr::OFPBAC_BAD_OUT_PORT)?;
                pin.flow_metadata = in_port_match(port);
                r.skip(4)?;
                pin.total_len = r.u16()?.into();
                pin.reason = reason(r.u8()?)?;
                pin.table_id = r.u8()?;
            }
            v => {
                pin.total_len = r.u16()?.into();
                pin.reason = reason(r.u8()?)?;
                pin.table_id = r.u8()?;
                if v >= Version::V13 {
                    pin.cookie = r.u64()?;
                }
                pin.flow_metadata = oxm::pull_oxm_match(&mut r, &loose(), self.tun)?;
                r.skip(2)?;
            }
        }
        pin.packet = r.rest().to_vec();
        Ok(())
    }

    fn packet_in2(&self, r: Reader<'_>, pin: &mut PacketIn) -> Result<(), OfpErr> {
        let mut total = None;
        let mut why = None;
        for p in props(r) {
            let (type_, mut b) = p?;
            match type_ {
                PACKET => pin.packet = b.rest().to_vec(),
                FULL_LEN => total = Some(exactly(&mut b, Reader::u32)? as usize),
                BUFFER_ID => pin.buffer_id = exactly(&mut b, Reader::u32)?,
                TABLE_ID => pin.table_id = exactly(&mut b, Reader::u8)?,
                COOKIE => {
                    b.skip(4)?;
                    pin.cookie = exactly(&mut b, Reader::u64)?;
                }
                REASON => why = Some(exactly(&mut b, Reader::u8)?),
                METADATA => {
                    pin.flow_metadata = oxm::pull_entries(b.rest(), &loose(), self.tun)?.match_;
                }
                USERDATA => pin.userdata = b.rest().to_vec(),
                CONTINUATION => {
                    b.skip(4)?;
                    pin.continuation = Some(Box::new(continuation(b, self.version, self.tun)?));
                }
                _ => return Err(OfpErr::OFPBPC_BAD_TYPE),
            }
        }
        let len = pin.packet.len();
        if len == 0 {
            return Err(OfpErr::OFPBRC_BAD_LEN);
        }
        pin.total_len = total.unwrap_or(len);
        if pin.total_len < len {
            return Err(OfpErr::OFPBRC_BAD_LEN);
        }
        if let Some(n) = why {
            pin.reason = reason(n)?;
        }
        Ok(())
    }

    pub(super) fn resume(&self, r: Reader<'_>) -> Result<Message, OfpErr> {
        let mut pin = PacketIn::default();
        self.packet_in2(r, &mut pin)?;
        Ok(Message::Resume(Box::new(pin)))
    }

    pub(super) fn packet_out(&self, mut r: Reader<'_>) -> Result<Message, OfpErr> {
        let buffer_id = r.u32()?;
        let flow_metadata;
        let actions_len;
        match self.version {
            Version::V10 => {
                flow_metadata = in_port_match(OfPort(r.u16()?));
                actions_len = r.u16()?;
            }
            Version::V15 => {
                actions_len = r.u16()?;
                r.skip(2)?;
                let opt = PullOptions {
                    pipeline_only: true,
                    ..Default::default()
                };
                let m = oxm::pull_oxm_match(&mut r, &opt, self.tun)?;
                if m.wc.masks.in_port == 0 {
                    return Err(OfpErr::OFPBRC_BAD_PORT);
                }
                flow_metadata = m;
            }
            _ => {
                flow_metadata = in_port_match(port32(&mut r, OfpErr::OFPBAC_BAD_OUT_PORT)?);
                actions_len = r.u16()?;
                r.skip(6)?;
            }
        }
        let actions = decode::pull_action_list(&mut r, actions_len, self.version, self.tun)?;
        let port = OfPort(flow_metadata.flow.in_port as u16);
        let allowed =
            [OfPort::LOCAL, OfPort::NONE, OfPort::CONTROLLER].contains(&port) || port < OfPort::MAX;
        if !allowed {
            return Err(OfpErr::OFPBRC_BAD_PORT);
        }
        let packet = if buffer_id == NO_BUFFER {
            r.rest().to_vec()
        } else {
            Vec::new()
        };
        Ok(Message::PacketOut(Box::new(PacketOut {
            packet,
            buffer_id,
            flow_metadata,
            actions,
        })))
    }
}

/// A UUID as four words in the byte order of the host, back and forth: what a continuation has of it.
fn host_words(mut uuid: [u8; 16]) -> [u8; 16] {
    if cfg!(target_endian = "little") {
        uuid.chunks_mut(4).for_each(<[u8]>::reverse);
    }
    uuid
}

fn continuation(r: Reader<'_>, version: Version, tun: &Tun<'_>) -> Result<Continuation, OfpErr> {
    let mut c = Continuation {
        table_id: 0,
        cookie: NO_COOKIE,
        ..Default::default()
    };
    for p in props(r) {
        let (type_, mut b) = p?;
        match type_ {
            cont::BRIDGE => c.bridge = host_words(b.array()?),
            cont::STACK => c.stack.push(b.rest().to_vec()),
            cont::MIRRORS => c.mirrors = b.u32()?,
            cont::CONNTRACKED => c.conntracked = true,
            cont::TABLE_ID => c.table_id = b.u8()?,
            cont::COOKIE => {
                b.skip(4)?;
                c.cookie = b.u64()?;
            }
            cont::ODP_PORT => c.odp_port = Some(b.u32()?),
            cont::ACTIONS | cont::ACTION_SET => {
                b.skip(4.min(b.len()))?;
                let list = decode::action_list(b.rest(), version, tun)?;
                if type_ == cont::ACTIONS {
                    c.actions.extend(list);
                } else {
                    c.action_set = list;
                }
            }
            _ => return Err(OfpErr::OFPBPC_BAD_TYPE),
        }
    }
    Ok(c)
}

fn put_continuation(c: &Continuation, version: Version, tun: &Tun<'_>, out: &mut Vec<u8>) {
    prop(out, cont::BRIDGE, |o| o.put(&host_words(c.bridge)));
    for s in &c.stack {
        prop(out, cont::STACK, |o| o.put(s));
    }
    if c.mirrors != 0 {
        prop(out, cont::MIRRORS, |o| o.put_u32(c.mirrors));
    }
    if c.conntracked {
        prop(out, cont::CONNTRACKED, |_| {});
    }
    if !c.actions.is_empty() {
        prop(out, cont::TABLE_ID, |o| o.put_u8(c.table_id));
        prop(out, cont::COOKIE, |o| {
            o.put_zeros(4);
            o.put_u64(c.cookie);
        });
    }
    for (type_, list) in [
        (cont::ACTIONS, &c.actions),
        (cont::ACTION_SET, &c.action_set),
    ] {
        if !list.is_empty() {
            prop(out, type_, |o| {
                o.put_zeros(4);
                encode::actions(list, version, tun, o);
            });
        }
    }
    if let Some(p) = c.odp_port {
        prop(out, cont::ODP_PORT, |o| o.put_u32(p));
    }
}

impl Enc<'_, '_> {
    pub(super) fn packet_in(
        &self,
        pin: &PacketIn,
        format: PacketInFormat,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let number = match format {
            PacketInFormat::Standard => None,
            PacketInFormat::Nxt => Some(17),
            PacketInFormat::Nxt2 => Some(30),
        };
        let raw = raw::find(Kind::PacketIn, self.version, |r| match number {
            None => r.carrier == Carrier::Std,
            Some(n) => r.carrier == Carrier::Nx && r.number == n,
        })?;
        let reason = pin.wire_reason(self.version) as u8;
        self.one(raw, out, |o| match format {
            PacketInFormat::Nxt2 => self.packet_in2(pin, o),
            PacketInFormat::Nxt => {
                o.put_u32(pin.buffer_id);
                o.put_u16(pin.total_len as u16);
                o.put_u8(reason);
                o.put_u8(pin.table_id);
                o.put_u64(pin.cookie);
                let at = o.len();
                o.put_zeros(8);
                let len = oxm::put_nx_match(&pin.flow_metadata, 0, 0, self.tun, o);
                o.set_u16(at, len);
                o.put_zeros(2);
                o.put(&pin.packet);
            }
            PacketInFormat::Standard => {
                let port = OfPort(pin.flow_metadata.flow.in_port as u16);
                o.put_u32(pin.buffer_id);
                match self.version {
                    Version::V10 => {
                        o.put_u16(pin.total_len as u16);
                        o.put_u16(port.0);
                        o.put_u8(reason);
                        o.put_u8(0);
                    }
                    Version::V11 => {
                        put_port32(o, port);
                        put_port32(o, port);
                        o.put_u16(pin.total_len as u16);
                        o.put_u8(reason);
                        o.put_u8(pin.table_id);
                    }
                    v => {
                        o.put_u16(pin.total_len as u16);
                        o.put_u8(reason);
                        o.put_u8(pin.table_id);
                        if v >= Version::V13 {
                            o.put_u64(pin.cookie);
                        }
                        oxm::put_oxm_match(&pin.flow_metadata, v, self.tun, o);
                        o.put_zeros(2);
                    }
                }
                o.put(&pin.packet);
            }
        });
        Some(())
    }

    fn packet_in2(&self, pin: &PacketIn, o: &mut Vec<u8>) {
        prop(o, PACKET, |o| o.put(&pin.packet));
        if pin.total_len != pin.packet.len() {
            prop(o, FULL_LEN, |o| o.put_u32(pin.total_len as u32));
        }
        if pin.buffer_id != NO_BUFFER {
            prop(o, BUFFER_ID, |o| o.put_u32(pin.buffer_id));
        }
        prop(o, TABLE_ID, |o| o.put_u8(pin.table_id));
        if pin.cookie != NO_COOKIE {
            prop(o, COOKIE, |o| {
                o.put_zeros(4);
                o.put_u64(pin.cookie);
            });
        }
        prop(o, REASON, |o| o.put_u8(pin.wire_reason(Version::V15) as u8));
        prop(o, METADATA, |o| {
            // Nicira's format carries OXM of the newest version.
            oxm::put_entries(&pin.flow_metadata, Some(self.version), 0, 0, self.tun, o);
        });
        if !pin.userdata.is_empty() {
            prop(o, USERDATA, |o| o.put(&pin.userdata));
        }
        if let Some(c) = &pin.continuation {
            prop(o, CONTINUATION, |o| {
                o.put_zeros(4);
                put_continuation(c, self.version, self.tun, o);
            });
        }
    }

    pub(super) fn resume(&self, pin: &PacketIn, out: &mut Vec<u8>) -> Option<()> {
        self.one(self.raw(Kind::Resume)?, out, |o| self.packet_in2(pin, o));
        Some(())
    }

    pub(super) fn packet_out(&self, po: &PacketOut, out: &mut Vec<u8>) -> Option<()> {
        self.one(self.raw(Kind::PacketOut)?, out, |o| {
            o.put_u32(po.buffer_id);
            let at = match self.version {
                Version::V10 => {
                    o.put_u16(po.in_port().0);
                    o.put_u16(0);
                    o.len() - 2
                }
                Version::V15 => {
                    o.put_zeros(4);
                    let at = o.len() - 4;
                    oxm::put_oxm_match(&po.flow_metadata, self.version, self.tun, o);
                    at
                }
                _ => {
                    put_port32(o, po.in_port());
                    o.put_zeros(8);
                    o.len() - 8
                }
            };
            let start = o.len();
            encode::actions(&po.actions, self.version, self.tun, o);
            let len = o.len() - start;
            o.set_u16(at, len as u16);
            if po.buffer_id == NO_BUFFER {
                o.put(&po.packet);
            }
        });
        Some(())
    }
}

impl PacketIn {
    /// The reason as `version` can say it.
    pub fn wire_reason(&self, version: Version) -> PacketInReason {
        use PacketInReason::*;
        match self.reason {
            ExplicitMiss | ImplicitMiss => NoMatch,
            ActionSet | Group | PacketOut if version < Version::V14 => Action,
            InvalidTtl if version < Version::V12 => InvalidTtl,
            r => r,
        }
    }
}
