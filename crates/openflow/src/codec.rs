//! Messages from and to bytes.
//!
//! [`Msg::decode`] reads the headers by the table in [`raw`] and hands the body to the module of its family;
//! [`Msg::encode`] does the reverse. A multipart reply that does not fit one message is written as several, one
//! after the other, each but the last with the "more" flag.

mod flow;
mod group;
mod meter;
mod monitor;
mod packet;
mod port;
mod switch;
mod table;

pub use flow::encode_flow_stats;
pub use table::action_name_bits;

use std::cell::Cell;

use ferrovs_packet::field::{port_from_ofp11, port_to_ofp11};
use ferrovs_packet::types::OfPort;

use crate::error::{ErrorCode, NX_VENDOR, ONF_VENDOR, OfpErr};
use crate::message::{ErrorMsg, Message, Msg};
use crate::raw::{self, Carrier, HEADER_LEN, Kind, Parsed, Raw, VENDOR_TYPE};
use crate::tun::Tun;
use crate::version::{Version, Versions};
use crate::wire::{Put, Reader};

/// The largest message.
pub const MAX_MSG: usize = 65535;

/// A message cannot be said in the version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind:?} does not exist in {}", .version.name())]
pub struct Unencodable {
    pub kind: Kind,
    pub version: Version,
}

/// Reading context.
pub(crate) struct Dec<'a, 'b> {
    pub version: Version,
    pub tun: &'a Tun<'b>,
    pub parsed: Parsed,
    /// For showing: why a list ends before a malformed item. `None`: such a list makes the message malformed.
    broken: Option<&'a Cell<Option<OfpErr>>>,
}

impl Msg {
    pub fn new(version: Version, xid: u32, body: Message) -> Msg {
        Msg { version, xid, body }
    }

    /// Reads one whole message; `tun` tells the widths of tunnel options.
    pub fn decode(data: &[u8], tun: &Tun<'_>) -> Result<Msg, OfpErr> {
        Self::read(data, tun, None)
    }

    /// Reads one whole message for people: of a list with a malformed item what is before it, with the error.
    pub fn decode_for_show(data: &[u8], tun: &Tun<'_>) -> Result<(Msg, Option<OfpErr>), OfpErr> {
        let broken = Cell::new(None);
        let msg = Self::read(data, tun, Some(&broken))?;
        Ok((msg, broken.get()))
    }

    fn read(
        data: &[u8],
        tun: &Tun<'_>,
        broken: Option<&Cell<Option<OfpErr>>>,
    ) -> Result<Msg, OfpErr> {
        let parsed = raw::parse_aloud(data)?;
        let (version, xid) = (parsed.version, parsed.xid);
        let body = if parsed.raw.kind == Kind::Hello {
            // Its versions do not all stand in its body.
            Message::Hello {
                versions: decode_hello(data).0,
            }
        } else {
            let d = Dec {
                version,
                tun,
                parsed,
                broken,
            };
            d.body(&data[parsed.body..])?
        };
        Ok(Msg { version, xid, body })
    }

    /// Appends the message in its version, as several parts if need be.
    pub fn encode(&self, tun: &Tun<'_>, out: &mut Vec<u8>) -> Result<(), Unencodable> {
        let kind = self.body.kind();
        let e = Enc {
            version: self.version,
            xid: self.xid,
            tun,
        };
        let no = Unencodable {
            kind,
            version: self.version,
        };
        e.message(&self.body, kind, out).ok_or(no)
    }

    /// The message's bytes; empty if the version cannot say it.
    pub fn to_bytes(&self, tun: &Tun<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        match self.encode(tun, &mut out) {
            Ok(()) => out,
            Err(_) => Vec::new(),
        }
    }
}

/// The versions that a hello offers, and whether everything in it was understood.
pub fn decode_hello(data: &[u8]) -> (Versions, bool) {
    let wire = data.first().copied().unwrap_or(0);
    let by_header = match Version::from_wire(wire) {
        Some(v) => Versions::up_to(v),
        // Every version up to that one, also those that nobody knows yet.
        None if wire > Version::V15.wire() => Versions(
            1u32.checked_shl(u32::from(wire) + 1)
                .unwrap_or(0)
                .wrapping_sub(2),
        ),
        None => Versions::NONE,
    };
    let mut versions = by_header;
    let mut ok = true;
    let mut r = Reader::new(data.get(HEADER_LEN..).unwrap_or_default());
    while !r.is_empty() {
        let mut h = r;
        let (Ok(type_), Ok(len)) = (h.u16(), h.u16()) else {
            ok = false;
            break;
        };
        let len = usize::from(len);
        if len < 4 || len > r.len() {
            ok = false;
            break;
        }
        let body = &r.rest()[4..len];
        if type_ == 1 {
            // The first word has the bits of versions 0 to 31.
            match body.first_chunk::<4>() {
                Some(word) if len % 4 == 0 => {
                    let bits = u32::from_be_bytes(*word);
                    if bits & !1 != 0 {
                        versions = Versions(bits & !1);
                    }
                }
                _ => ok = false,
            }
        } else {
            ok = false;
        }
        let padded = len.next_multiple_of(8).min(r.len());
        if r.skip(padded).is_err() {
            break;
        }
    }
    (versions, ok)
}

/// A hello that offers `versions`; like Open vSwitch, with a bitmap only if it is needed.
pub fn encode_hello(versions: Versions) -> Vec<u8> {
    let newest = versions.newest().unwrap_or(Version::V10);
    let mut out = vec![newest.wire(), 0, 0, 8, 0, 0, 0, 1];
    if versions != Versions::up_to(newest) {
        out.put_u16(1);
        out.put_u16(8);
        out.put_u32(versions.0);
        out[3] = 16;
    }
    out
}

pub(crate) fn port32(r: &mut Reader<'_>, bad: OfpErr) -> Result<OfPort, OfpErr> {
    port_from_ofp11(r.u32()?).map(OfPort).ok_or(bad)
}

pub(crate) fn put_port32(out: &mut Vec<u8>, port: OfPort) {
    out.put_u32(port_to_ofp11(port.0));
}

/// A property's value, which nothing may follow but the padding to 8 bytes, whether the length counts that or not.
pub(crate) fn exactly<'a, T>(
    r: &mut Reader<'a>,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, OfpErr>,
) -> Result<T, OfpErr> {
    let whole = r.len();
    let value = read(r)?;
    let padded = |n: usize| (4 + n).next_multiple_of(8);
    if padded(whole) == padded(whole - r.len()) {
        Ok(value)
    } else {
        Err(OfpErr::OFPBPC_BAD_LEN)
    }
}

impl Dec<'_, '_> {
    fn is_nx(&self) -> bool {
        matches!(self.parsed.raw.carrier, Carrier::Nx | Carrier::NxMp { .. })
    }

    /// Whether the message is decoded only to be shown to people.
    pub(crate) fn for_show(&self) -> bool {
        self.broken.is_some()
    }

    /// Items to the end of `r`. In a message that is only shown the list ends before an item that is malformed.
    pub(crate) fn list<'r, T>(
        &self,
        mut r: Reader<'r>,
        mut item: impl FnMut(&mut Reader<'r>) -> Result<T, OfpErr>,
    ) -> Result<Vec<T>, OfpErr> {
        let mut out = Vec::new();
        while !r.is_empty() {
            match (item(&mut r), self.broken) {
                (Ok(x), _) => out.push(x),
                (Err(e), Some(broken)) => {
                    broken.set(Some(e));
                    break;
                }
                (Err(e), None) => return Err(e),
            }
        }
        Ok(out)
    }

    fn body(&self, data: &[u8]) -> Result<Message, OfpErr> {
        let r = Reader::new(data);
        let more = self.parsed.more;
        Ok(match self.parsed.raw.kind {
            Kind::Hello => Message::Hello {
                versions: Versions::NONE,
            },
            Kind::Error => self.error(r)?,
            Kind::EchoRequest => Message::EchoRequest(data.to_vec()),
            Kind::EchoReply => Message::EchoReply(data.to_vec()),
            Kind::FeaturesRequest => Message::FeaturesRequest,
            Kind::GetConfigRequest => Message::GetConfigRequest,
            Kind::BarrierRequest => Message::BarrierRequest,
            Kind::BarrierReply => Message::BarrierReply,
            Kind::GetAsyncRequest => Message::GetAsyncRequest,
            Kind::DescRequest => Message::DescRequest,
            Kind::TableStatsRequest => Message::TableStatsRequest,
            Kind::GroupFeaturesRequest => Message::GroupFeaturesRequest,
            Kind::MeterFeaturesRequest => Message::MeterFeaturesRequest,
            Kind::TableDescRequest => Message::TableDescRequest,
            Kind::FlowAge => Message::FlowAge,
            Kind::TlvTableRequest => Message::TlvTableRequest,
            Kind::FlowMonitorPaused => Message::FlowMonitorPaused,
            Kind::FlowMonitorResumed => Message::FlowMonitorResumed,
            Kind::IpfixBridgeRequest => Message::IpfixBridgeRequest,
            Kind::IpfixFlowRequest => Message::IpfixFlowRequest,

            Kind::FeaturesReply => self.features(r)?,
            Kind::GetConfigReply => Message::GetConfigReply(self.config(r)?),
            Kind::SetConfig => Message::SetConfig(self.config(r)?),
            Kind::DescReply => self.desc(r)?,
            Kind::RoleRequest => Message::RoleRequest(self.role(r)?),
            Kind::RoleReply => Message::RoleReply(self.role(r)?),
            Kind::RoleStatus => self.role_status(r)?,
            Kind::GetAsyncReply => self.get_async_reply(r)?,
            Kind::SetAsync => self.set_async(r)?,
            Kind::BundleControl => self.bundle_control(r)?,
            Kind::BundleAdd => self.bundle_add(r)?,
            Kind::RequestForward => self.request_forward(r)?,
            Kind::FlowModTableId => self.flow_mod_table_id(r)?,
            Kind::SetFlowFormat => self.set_flow_format(r)?,
            Kind::SetPacketInFormat => self.set_packet_in_format(r)?,
            Kind::SetControllerId => self.set_controller_id(r)?,
            Kind::TlvTableMod => self.tlv_table_mod(r)?,
            Kind::TlvTableReply => self.tlv_table_reply(r)?,
            Kind::CtFlushZone => self.ct_flush_zone(r)?,
            Kind::CtFlush => self.ct_flush(r)?,
            Kind::IpfixBridgeReply => self.ipfix_bridge(r)?,
            Kind::IpfixFlowReply => self.ipfix_flow(r)?,

            Kind::PacketIn => self.packet_in(r)?,
            Kind::PacketOut => self.packet_out(r)?,
            Kind::Resume => self.resume(r)?,

            Kind::FlowMod => self.flow_mod(r)?,
            Kind::FlowRemoved => self.flow_removed(r)?,
            Kind::FlowStatsRequest => self.flow_stats_request(r, false)?,
            Kind::AggregateRequest => self.flow_stats_request(r, true)?,
            Kind::FlowStatsReply => self.flow_stats_reply(r)?,
            Kind::AggregateReply => self.aggregate_reply(r)?,
            Kind::FlowMonitorRequest => self.flow_monitor_request(r)?,
            Kind::FlowMonitorReply => self.flow_monitor_reply(r)?,
            Kind::FlowMonitorCancel => self.flow_monitor_cancel(r)?,

            Kind::PortStatus => self.port_status(r)?,
            Kind::PortMod => self.port_mod(r)?,
            Kind::PortStatsRequest => self.port_stats_request(r)?,
            Kind::PortStatsReply => self.port_stats_reply(r)?,
            Kind::PortDescRequest => self.port_desc_request(r)?,
            Kind::PortDescReply => self.port_desc_reply(r)?,
            Kind::QueueGetConfigRequest => self.queue_config_request(r)?,
            Kind::QueueGetConfigReply => self.queue_config_reply(r)?,
            Kind::QueueStatsRequest => self.queue_stats_request(r)?,
            Kind::QueueStatsReply => self.queue_stats_reply(r)?,

            Kind::GroupMod => self.group_mod(r)?,
            Kind::GroupStatsRequest => self.group_stats_request(r)?,
            Kind::GroupStatsReply => self.group_stats_reply(r)?,
            Kind::GroupDescRequest => self.group_desc_request(r)?,
            Kind::GroupDescReply => self.group_desc_reply(r)?,
            Kind::GroupFeaturesReply => self.group_features_reply(r)?,

            Kind::MeterMod => self.meter_mod(r)?,
            Kind::MeterStatsRequest => Message::MeterStatsRequest {
                meter: self.meter_id(r)?,
            },
            Kind::MeterConfigRequest => Message::MeterConfigRequest {
                meter: self.meter_id(r)?,
            },
            Kind::MeterStatsReply => self.meter_stats_reply(r)?,
            Kind::MeterConfigReply => self.meter_config_reply(r)?,
            Kind::MeterFeaturesReply => self.meter_features_reply(r)?,

            Kind::TableMod => self.table_mod(r)?,
            Kind::TableStatus => self.table_status(r)?,
            Kind::TableStatsReply => self.table_stats_reply(r)?,
            Kind::TableDescReply => self.table_desc_reply(r)?,
            Kind::TableFeaturesRequest => Message::TableFeaturesRequest {
                tables: self.table_features(r)?,
                more,
            },
            Kind::TableFeaturesReply => Message::TableFeaturesReply {
                tables: self.table_features(r)?,
                more,
            },
        })
    }

    fn error(&self, mut r: Reader<'_>) -> Result<Message, OfpErr> {
        let (type_, code) = (r.u16()?, r.u16()?);
        let plain = r;
        let mut numbers = ErrorCode {
            vendor: 0,
            type_,
            code,
        };
        // Vendor errors: Nicira's own carrier before 1.2, then type 0xffff.
        if type_ == 0xb0c2 && code == 0 {
            let vendor = r.u32()?;
            numbers = ErrorCode {
                vendor,
                type_: r.u16()?,
                code: r.u16()?,
            };
        } else if type_ == 0xffff && self.version >= Version::V12 {
            numbers = ErrorCode {
                vendor: r.u32()?,
                type_: code,
                code: 0,
            };
        }
        // No vendor is 0: such an error is one of OpenFlow's own, of an odd type.
        if numbers.vendor == 0 {
            numbers = ErrorCode {
                vendor: 0,
                type_,
                code,
            };
            r = plain;
        }
        Ok(Message::Error(ErrorMsg {
            error: OfpErr::from_code(self.version, numbers),
            code: numbers,
            data: r.rest().to_vec(),
        }))
    }
}

/// Writing context.
pub(crate) struct Enc<'a, 'b> {
    pub version: Version,
    pub xid: u32,
    pub tun: &'a Tun<'b>,
}

impl Enc<'_, '_> {
    /// Starts a message of this encoding; [`Enc::finish`] ends it.
    fn start(&self, raw: &Raw, more: bool, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        let v = self.version;
        let (mp_request, mp_reply) = raw::multipart_types(v);
        let type_ = match raw.carrier {
            Carrier::Std => raw.number as u8,
            Carrier::Nx | Carrier::Onf => VENDOR_TYPE,
            Carrier::Mp { reply } | Carrier::NxMp { reply } | Carrier::OnfMp { reply } => {
                if reply {
                    mp_reply
                } else {
                    mp_request
                }
            }
        };
        out.put(&[v.wire(), type_, 0, 0]);
        out.put_u32(self.xid);
        let mp = |out: &mut Vec<u8>, number: u16| {
            out.put_u16(number);
            out.put_u16(u16::from(more) * raw::MULTIPART_MORE);
            if v != Version::V10 {
                out.put_zeros(4);
            }
        };
        match raw.carrier {
            Carrier::Std => {}
            Carrier::Nx => {
                out.put_u32(NX_VENDOR);
                out.put_u32(raw.number);
            }
            Carrier::Onf => {
                out.put_u32(ONF_VENDOR);
                out.put_u32(raw.number);
            }
            Carrier::Mp { .. } => mp(out, raw.number as u16),
            Carrier::NxMp { .. } | Carrier::OnfMp { .. } => {
                mp(out, 0xffff);
                let onf = matches!(raw.carrier, Carrier::OnfMp { .. });
                out.put_u32(if onf { ONF_VENDOR } else { NX_VENDOR });
                out.put_u32(raw.number);
                if v == Version::V10 {
                    out.put_zeros(4);
                }
            }
        }
        start
    }

    fn finish(&self, start: usize, out: &mut Vec<u8>) {
        let len = (out.len() - start).min(MAX_MSG);
        out.set_u16(start + 2, len as u16);
    }

    /// A message with one body.
    fn one(&self, raw: &Raw, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
        let start = self.start(raw, false, out);
        body(out);
        self.finish(start, out);
    }

    /// A multipart message made of items, split between items when it grows too long. `more` is what the last
    /// part says.
    fn parts<T>(
        &self,
        raw: &Raw,
        items: &[T],
        more: bool,
        out: &mut Vec<u8>,
        mut item: impl FnMut(&T, &mut Vec<u8>),
    ) {
        let mut start = self.start(raw, more, out);
        for i in items {
            let before = out.len();
            item(i, out);
            if out.len() - start > MAX_MSG
                && before > start + raw::prefix_len(raw.carrier, self.version)
            {
                let moved = out.split_off(before);
                // Flags are at the same place in every multipart message.
                out.set_u16(start + 10, raw::MULTIPART_MORE);
                self.finish(start, out);
                start = self.start(raw, more, out);
                out.put(&moved);
            }
        }
        self.finish(start, out);
    }

    fn raw(&self, kind: Kind) -> Option<&'static Raw> {
        raw::find(kind, self.version, |_| true)
    }

    /// The encoding by Nicira's carrier or the other.
    fn raw_nx(&self, kind: Kind, nx: bool) -> Option<&'static Raw> {
        let is_nx = |r: &Raw| matches!(r.carrier, Carrier::Nx | Carrier::NxMp { .. });
        raw::find(kind, self.version, |r| is_nx(r) == nx)
            .or_else(|| raw::find(kind, self.version, |_| true))
    }

    fn empty(&self, kind: Kind, out: &mut Vec<u8>) -> Option<()> {
        self.one(self.raw(kind)?, out, |_| {});
        Some(())
    }

    fn hello(&self, versions: Versions, out: &mut Vec<u8>) {
        let mut hello = encode_hello(versions);
        hello[4..8].copy_from_slice(&self.xid.to_be_bytes());
        out.put(&hello);
    }

    #[expect(
        clippy::too_many_lines,
        reason = "each message has its line, and none can be forgotten"
    )]
    fn message(&self, m: &Message, kind: Kind, out: &mut Vec<u8>) -> Option<()> {
        match m {
            Message::Hello { versions } => self.hello(*versions, out),
            Message::Error(e) => self.error(e, out)?,
            Message::EchoRequest(data) | Message::EchoReply(data) => {
                self.one(self.raw(kind)?, out, |o| o.put(data));
            }
            Message::FeaturesRequest
            | Message::GetConfigRequest
            | Message::BarrierRequest
            | Message::BarrierReply
            | Message::GetAsyncRequest
            | Message::DescRequest
            | Message::TableStatsRequest
            | Message::GroupFeaturesRequest
            | Message::MeterFeaturesRequest
            | Message::TableDescRequest
            | Message::FlowAge
            | Message::TlvTableRequest
            | Message::FlowMonitorPaused
            | Message::FlowMonitorResumed
            | Message::IpfixBridgeRequest
            | Message::IpfixFlowRequest => self.empty(kind, out)?,

            Message::FeaturesReply(f) => self.features(f, out)?,
            Message::GetConfigReply(c) | Message::SetConfig(c) => self.config(kind, c, out)?,
            Message::DescReply(d) => self.desc(d, out)?,
            Message::RoleRequest(r) | Message::RoleReply(r) => self.role(kind, r, out)?,
            Message::RoleStatus(r) => self.role_status(r, out)?,
            Message::GetAsyncReply(c) => self.get_async_reply(c, out)?,
            Message::SetAsync { change, nicira } => self.set_async(change, *nicira, out)?,
            Message::BundleControl(b) => self.bundle_control(b, out)?,
            Message::BundleAdd(b) => self.bundle_add(b, out)?,
            Message::RequestForward { xid, request } => self.request_forward(*xid, request, out)?,
            Message::FlowModTableId(on) => self.flow_mod_table_id(*on, out)?,
            Message::SetFlowFormat { nxm } => self.set_flow_format(*nxm, out)?,
            Message::SetPacketInFormat(f) => self.set_packet_in_format(*f, out)?,
            Message::SetControllerId(id) => self.set_controller_id(*id, out)?,
            Message::TlvTableMod(m) => self.tlv_table_mod(m, out)?,
            Message::TlvTableReply(r) => self.tlv_table_reply(r, out)?,
            Message::CtFlushZone(z) => self.ct_flush_zone(*z, out)?,
            Message::CtFlush(f) => self.ct_flush(f, out)?,
            Message::IpfixBridgeReply(s) => self.ipfix(kind, std::slice::from_ref(s), out)?,
            Message::IpfixFlowReply(s) => self.ipfix(kind, s, out)?,

            Message::PacketIn { packet_in, format } => self.packet_in(packet_in, *format, out)?,
            Message::PacketOut(p) => self.packet_out(p, out)?,
            Message::Resume(p) => self.resume(p, out)?,

            Message::FlowMod { flow_mod, nxm } => self.flow_mod(flow_mod, *nxm, out)?,
            Message::FlowRemoved { removed, nxm } => self.flow_removed(removed, *nxm, out)?,
            Message::FlowStatsRequest { request, nxm } => {
                self.flow_stats_request(request, *nxm, out)?;
            }
            Message::FlowStatsReply { flows, nxm, more } => {
                self.flow_stats_reply(flows, *nxm, *more, out)?;
            }
            Message::AggregateReply { stats, nxm } => self.aggregate_reply(stats, *nxm, out)?,
            Message::FlowMonitorRequest(list) => self.flow_monitor_request(list, out)?,
            Message::FlowMonitorReply { updates, more } => {
                self.flow_monitor_reply(updates, *more, out)?;
            }
            Message::FlowMonitorCancel { id } => {
                self.one(self.raw(kind)?, out, |o| o.put_u32(*id));
            }

            Message::PortStatus(s) => self.port_status(s, out)?,
            Message::PortMod(m) => self.port_mod(m, out)?,
            Message::PortStatsRequest { port } => self.port_stats_request(*port, out)?,
            Message::PortStatsReply { ports, more } => self.port_stats_reply(ports, *more, out)?,
            Message::PortDescRequest { port } => self.port_desc_request(*port, out)?,
            Message::PortDescReply { ports, more } => self.port_desc_reply(ports, *more, out)?,
            Message::QueueGetConfigRequest(q) => self.queue_config_request(q, out)?,
            Message::QueueGetConfigReply { port, queues, more } => {
                self.queue_config_reply(*port, queues, *more, out)?;
            }
            Message::QueueStatsRequest(q) => self.queue_stats_request(q, out)?,
            Message::QueueStatsReply { queues, more } => {
                self.queue_stats_reply(queues, *more, out)?;
            }

            Message::GroupMod(g) => self.group_mod(g, out)?,
            Message::GroupStatsRequest { group } => self.group_id_request(kind, *group, out)?,
            Message::GroupDescRequest { group } => self.group_desc_request(*group, out)?,
            Message::GroupStatsReply { groups, more } => {
                self.group_stats_reply(groups, *more, out)?;
            }
            Message::GroupDescReply { groups, more } => {
                self.group_desc_reply(groups, *more, out)?
            }
            Message::GroupFeaturesReply(f) => self.group_features_reply(f, out)?,

            Message::MeterMod(m) => self.meter_mod(m, out)?,
            Message::MeterStatsRequest { meter } | Message::MeterConfigRequest { meter } => {
                self.meter_request(kind, *meter, out)?;
            }
            Message::MeterStatsReply { meters, more } => {
                self.meter_stats_reply(meters, *more, out)?;
            }
            Message::MeterConfigReply { meters, more } => {
                self.meter_config_reply(meters, *more, out)?;
            }
            Message::MeterFeaturesReply(f) => self.meter_features_reply(f, out)?,

            Message::TableMod(m) => self.table_mod(m, out)?,
            Message::TableStatus { vacancy_up, desc } => {
                self.table_status(*vacancy_up, desc, out)?;
            }
            Message::TableStatsReply { tables, more } => {
                self.table_stats_reply(tables, *more, out)?;
            }
            Message::TableDescReply { tables, more } => {
                self.table_desc_reply(tables, *more, out)?
            }
            Message::TableFeaturesRequest { tables, more }
            | Message::TableFeaturesReply { tables, more } => {
                self.table_features(kind, tables, *more, out)?;
            }
        }
        Some(())
    }

    fn error(&self, e: &ErrorMsg, out: &mut Vec<u8>) -> Option<()> {
        let code = e.error.and_then(|e| e.code(self.version)).unwrap_or(e.code);
        self.one(self.raw(Kind::Error)?, out, |o| {
            if code.vendor == 0 {
                o.put_u16(code.type_);
                o.put_u16(code.code);
            } else if self.version < Version::V12 {
                o.put_u16(0xb0c2);
                o.put_u16(0);
                o.put_u32(code.vendor);
                o.put_u16(code.type_);
                o.put_u16(code.code);
            } else {
                o.put_u16(0xffff);
                o.put_u16(code.type_);
                o.put_u32(code.vendor);
            }
            o.put(&e.data);
        });
        Some(())
    }
}

/// An error reply to `request`: quotes at most 64 bytes of it, as Open vSwitch does.
pub fn error_reply(error: OfpErr, request: &[u8]) -> Vec<u8> {
    let (version, xid) = header_of(request);
    let data = request[..request.len().min(64)].to_vec();
    encode_error(error, version, xid, data)
}

/// An error about a hello, with a text for people.
pub fn hello_error(error: OfpErr, version: Version, text: &str) -> Vec<u8> {
    encode_error(error, version, 0, text.as_bytes().to_vec())
}

fn encode_error(error: OfpErr, version: Version, xid: u32, data: Vec<u8>) -> Vec<u8> {
    // What the version has no number for is said to be unencodable.
    let error = if error.code(version).is_some() {
        error
    } else {
        OfpErr::NXBRC_UNENCODABLE_ERROR
    };
    let code = error.code(version).unwrap_or(ErrorCode {
        vendor: 0,
        type_: 1,
        code: 0,
    });
    let body = Message::Error(ErrorMsg {
        error: Some(error),
        code,
        data,
    });
    Msg { version, xid, body }.to_bytes(&Tun::none())
}

/// Version (1.0 if unknown) and transaction id of a message.
fn header_of(msg: &[u8]) -> (Version, u32) {
    let version = msg
        .first()
        .and_then(|&v| Version::from_wire(v))
        .unwrap_or(Version::V10);
    let xid = msg
        .get(4..8)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u32::from_be_bytes);
    (version, xid)
}

/// The length of the first message in a byte stream; `None` until its header is there. A length below that of
/// the header is an error.
pub fn frame_len(stream: &[u8]) -> Option<Result<usize, OfpErr>> {
    let h = stream.first_chunk::<HEADER_LEN>()?;
    let len = usize::from(u16::from_be_bytes([h[2], h[3]]));
    Some(if len < HEADER_LEN {
        Err(OfpErr::OFPBRC_BAD_LEN)
    } else {
        Ok(len)
    })
}

impl Message {
    /// What the message is.
    pub fn kind(&self) -> Kind {
        match self {
            Message::Hello { .. } => Kind::Hello,
            Message::Error(_) => Kind::Error,
            Message::EchoRequest(_) => Kind::EchoRequest,
            Message::EchoReply(_) => Kind::EchoReply,
            Message::FeaturesRequest => Kind::FeaturesRequest,
            Message::FeaturesReply(_) => Kind::FeaturesReply,
            Message::GetConfigRequest => Kind::GetConfigRequest,
            Message::GetConfigReply(_) => Kind::GetConfigReply,
            Message::SetConfig(_) => Kind::SetConfig,
            Message::PacketIn { .. } => Kind::PacketIn,
            Message::FlowRemoved { .. } => Kind::FlowRemoved,
            Message::PortStatus(_) => Kind::PortStatus,
            Message::PacketOut(_) => Kind::PacketOut,
            Message::FlowMod { .. } => Kind::FlowMod,
            Message::GroupMod(_) => Kind::GroupMod,
            Message::PortMod(_) => Kind::PortMod,
            Message::TableMod(_) => Kind::TableMod,
            Message::BarrierRequest => Kind::BarrierRequest,
            Message::BarrierReply => Kind::BarrierReply,
            Message::QueueGetConfigRequest(_) => Kind::QueueGetConfigRequest,
            Message::QueueGetConfigReply { .. } => Kind::QueueGetConfigReply,
            Message::RoleRequest(_) => Kind::RoleRequest,
            Message::RoleReply(_) => Kind::RoleReply,
            Message::RoleStatus(_) => Kind::RoleStatus,
            Message::GetAsyncRequest => Kind::GetAsyncRequest,
            Message::GetAsyncReply(_) => Kind::GetAsyncReply,
            Message::SetAsync { .. } => Kind::SetAsync,
            Message::MeterMod(_) => Kind::MeterMod,
            Message::RequestForward { .. } => Kind::RequestForward,
            Message::TableStatus { .. } => Kind::TableStatus,
            Message::BundleControl(_) => Kind::BundleControl,
            Message::BundleAdd(_) => Kind::BundleAdd,
            Message::DescRequest => Kind::DescRequest,
            Message::DescReply(_) => Kind::DescReply,
            Message::FlowStatsRequest { request, .. } => {
                if request.aggregate {
                    Kind::AggregateRequest
                } else {
                    Kind::FlowStatsRequest
                }
            }
            Message::FlowStatsReply { .. } => Kind::FlowStatsReply,
            Message::AggregateReply { .. } => Kind::AggregateReply,
            Message::TableStatsRequest => Kind::TableStatsRequest,
            Message::TableStatsReply { .. } => Kind::TableStatsReply,
            Message::PortStatsRequest { .. } => Kind::PortStatsRequest,
            Message::PortStatsReply { .. } => Kind::PortStatsReply,
            Message::QueueStatsRequest(_) => Kind::QueueStatsRequest,
            Message::QueueStatsReply { .. } => Kind::QueueStatsReply,
            Message::GroupStatsRequest { .. } => Kind::GroupStatsRequest,
            Message::GroupStatsReply { .. } => Kind::GroupStatsReply,
            Message::GroupDescRequest { .. } => Kind::GroupDescRequest,
            Message::GroupDescReply { .. } => Kind::GroupDescReply,
            Message::GroupFeaturesRequest => Kind::GroupFeaturesRequest,
            Message::GroupFeaturesReply(_) => Kind::GroupFeaturesReply,
            Message::MeterStatsRequest { .. } => Kind::MeterStatsRequest,
            Message::MeterStatsReply { .. } => Kind::MeterStatsReply,
            Message::MeterConfigRequest { .. } => Kind::MeterConfigRequest,
            Message::MeterConfigReply { .. } => Kind::MeterConfigReply,
            Message::MeterFeaturesRequest => Kind::MeterFeaturesRequest,
            Message::MeterFeaturesReply(_) => Kind::MeterFeaturesReply,
            Message::TableFeaturesRequest { .. } => Kind::TableFeaturesRequest,
            Message::TableFeaturesReply { .. } => Kind::TableFeaturesReply,
            Message::TableDescRequest => Kind::TableDescRequest,
            Message::TableDescReply { .. } => Kind::TableDescReply,
            Message::PortDescRequest { .. } => Kind::PortDescRequest,
            Message::PortDescReply { .. } => Kind::PortDescReply,
            Message::FlowMonitorRequest(_) => Kind::FlowMonitorRequest,
            Message::FlowMonitorReply { .. } => Kind::FlowMonitorReply,
            Message::SetFlowFormat { .. } => Kind::SetFlowFormat,
            Message::FlowModTableId(_) => Kind::FlowModTableId,
            Message::SetPacketInFormat(_) => Kind::SetPacketInFormat,
            Message::FlowAge => Kind::FlowAge,
            Message::SetControllerId(_) => Kind::SetControllerId,
            Message::TlvTableMod(_) => Kind::TlvTableMod,
            Message::TlvTableRequest => Kind::TlvTableRequest,
            Message::TlvTableReply(_) => Kind::TlvTableReply,
            Message::Resume(_) => Kind::Resume,
            Message::CtFlushZone(_) => Kind::CtFlushZone,
            Message::CtFlush(_) => Kind::CtFlush,
            Message::FlowMonitorCancel { .. } => Kind::FlowMonitorCancel,
            Message::FlowMonitorPaused => Kind::FlowMonitorPaused,
            Message::FlowMonitorResumed => Kind::FlowMonitorResumed,
            Message::IpfixBridgeRequest => Kind::IpfixBridgeRequest,
            Message::IpfixBridgeReply(_) => Kind::IpfixBridgeReply,
            Message::IpfixFlowRequest => Kind::IpfixFlowRequest,
            Message::IpfixFlowReply(_) => Kind::IpfixFlowReply,
        }
    }
}
