//! Message types: one table of every encoding that a version has for a message.
//!
//! A row gives the name that Open vSwitch prints, the versions (minor numbers), how the type is carried and its
//! number, the size of the fixed part of the body and the unit in which more may follow (0: nothing may follow).
//! Lengths are checked against it before a body is looked at, as Open vSwitch does.
//!
//! ```text
//!  Std    header.type                      Mp     multipart message, 16-bit type
//!  Nx     OFPT_VENDOR, Nicira, 32 bits     NxMp   multipart, type 0xffff, Nicira, 32 bits
//!  Onf    the same with the ONF's vendor   OnfMp  the same with the ONF's vendor
//! ```

use crate::error::{NX_VENDOR, ONF_VENDOR, OfpErr};
use crate::version::Version;
use crate::warn::{Topic, warn};

/// Bytes of the header of every message.
pub const HEADER_LEN: usize = 8;
/// Header type of vendor (experimenter) messages in every version.
pub const VENDOR_TYPE: u8 = 4;
/// The flag of multipart messages that announces more parts.
pub const MULTIPART_MORE: u16 = 1;

/// How a message's type is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Carrier {
    Std,
    Nx,
    Onf,
    Mp { reply: bool },
    NxMp { reply: bool },
    OnfMp { reply: bool },
}

/// One encoding of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw {
    pub kind: Kind,
    pub name: &'static str,
    pub first: u8,
    pub last: u8,
    pub carrier: Carrier,
    pub number: u32,
    pub min_body: usize,
    pub extra_unit: usize,
}

macro_rules! carrier {
    (S) => {
        Carrier::Std
    };
    (N) => {
        Carrier::Nx
    };
    (O) => {
        Carrier::Onf
    };
    (Pq) => {
        Carrier::Mp { reply: false }
    };
    (Pr) => {
        Carrier::Mp { reply: true }
    };
    (Mq) => {
        Carrier::NxMp { reply: false }
    };
    (Mr) => {
        Carrier::NxMp { reply: true }
    };
    (OPq) => {
        Carrier::OnfMp { reply: false }
    };
    (OPr) => {
        Carrier::OnfMp { reply: true }
    };
}

macro_rules! raws {
    ($($kind:ident { $($name:literal $first:literal $last:literal $carrier:ident $number:literal $min:literal $unit:literal;)* })*) => {
        /// What a message is, whatever its encoding.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind { $($kind),* }

        /// Number of kinds.
        const KINDS: usize = [$(Kind::$kind),*].len();

        /// Every encoding of every message.
        pub const RAWS: &[Raw] = &[$($(Raw {
            kind: Kind::$kind, name: $name, first: $first, last: $last, carrier: carrier!($carrier),
            number: $number, min_body: $min, extra_unit: $unit,
        },)*)*];
    };
}

raws! {
    Hello { "OFPT_HELLO" 0 5 S 0 0 1; }
    Error { "OFPT_ERROR" 0 5 S 1 4 1; }
    EchoRequest { "OFPT_ECHO_REQUEST" 0 5 S 2 0 1; }
    EchoReply { "OFPT_ECHO_REPLY" 0 5 S 3 0 1; }
    FeaturesRequest { "OFPT_FEATURES_REQUEST" 0 5 S 5 0 0; }
    FeaturesReply {
        "OFPT_FEATURES_REPLY" 0 0 S 6 24 48;
        "OFPT_FEATURES_REPLY" 1 2 S 6 24 64;
        "OFPT_FEATURES_REPLY" 3 5 S 6 24 0;
    }
    GetConfigRequest { "OFPT_GET_CONFIG_REQUEST" 0 5 S 7 0 0; }
    GetConfigReply { "OFPT_GET_CONFIG_REPLY" 0 5 S 8 4 0; }
    SetConfig { "OFPT_SET_CONFIG" 0 5 S 9 4 0; }
    PacketIn {
        "OFPT_PACKET_IN" 0 0 S 10 10 1;
        "OFPT_PACKET_IN" 1 1 S 10 16 1;
        "OFPT_PACKET_IN" 2 2 S 10 8 1;
        "OFPT_PACKET_IN" 3 5 S 10 16 1;
        "NXT_PACKET_IN" 0 5 N 17 24 1;
        "NXT_PACKET_IN2" 0 5 N 30 0 8;
    }
    FlowRemoved {
        "OFPT_FLOW_REMOVED" 0 0 S 11 80 0;
        "OFPT_FLOW_REMOVED" 1 4 S 11 40 8;
        "OFPT_FLOW_REMOVED" 5 5 S 11 16 8;
        "NXT_FLOW_REMOVED" 0 5 N 14 40 8;
    }
    PortStatus {
        "OFPT_PORT_STATUS" 0 0 S 12 56 0;
        "OFPT_PORT_STATUS" 1 3 S 12 72 0;
        "OFPT_PORT_STATUS" 4 5 S 12 48 8;
    }
    PacketOut {
        "OFPT_PACKET_OUT" 0 0 S 13 8 1;
        "OFPT_PACKET_OUT" 1 4 S 13 16 1;
        "OFPT_PACKET_OUT" 5 5 S 13 8 1;
    }
    FlowMod {
        "OFPT_FLOW_MOD" 0 0 S 14 64 8;
        "OFPT_FLOW_MOD" 1 5 S 14 40 8;
        "NXT_FLOW_MOD" 0 5 N 13 32 8;
    }
    GroupMod {
        "NXT_GROUP_MOD" 0 0 N 31 16 8;
        "OFPT_GROUP_MOD" 1 4 S 15 8 8;
        "OFPT_GROUP_MOD" 5 5 S 15 16 8;
    }
    PortMod {
        "OFPT_PORT_MOD" 0 0 S 15 24 0;
        "OFPT_PORT_MOD" 1 3 S 16 32 0;
        "OFPT_PORT_MOD" 4 5 S 16 24 8;
    }
    TableMod {
        "OFPT_TABLE_MOD" 1 3 S 17 8 0;
        "OFPT_TABLE_MOD" 4 5 S 17 8 8;
    }
    BarrierRequest {
        "OFPT_BARRIER_REQUEST" 0 0 S 18 0 0;
        "OFPT_BARRIER_REQUEST" 1 5 S 20 0 0;
    }
    BarrierReply {
        "OFPT_BARRIER_REPLY" 0 0 S 19 0 0;
        "OFPT_BARRIER_REPLY" 1 5 S 21 0 0;
    }
    QueueGetConfigRequest {
        "OFPT_QUEUE_GET_CONFIG_REQUEST" 0 0 S 20 4 0;
        "OFPT_QUEUE_GET_CONFIG_REQUEST" 1 3 S 22 8 0;
        "OFPST_QUEUE_DESC request" 4 5 Pq 15 8 0;
    }
    QueueGetConfigReply {
        "OFPT_QUEUE_GET_CONFIG_REPLY" 0 0 S 21 8 8;
        "OFPT_QUEUE_GET_CONFIG_REPLY" 1 3 S 23 8 8;
        "OFPST_QUEUE_DESC reply" 4 5 Pr 15 0 8;
    }
    RoleRequest {
        "OFPT_ROLE_REQUEST" 2 5 S 24 16 0;
        "NXT_ROLE_REQUEST" 0 5 N 10 4 0;
    }
    RoleReply {
        "OFPT_ROLE_REPLY" 2 5 S 25 16 0;
        "NXT_ROLE_REPLY" 0 5 N 11 4 0;
    }
    GetAsyncRequest { "OFPT_GET_ASYNC_REQUEST" 3 5 S 26 0 0; }
    GetAsyncReply {
        "OFPT_GET_ASYNC_REPLY" 3 3 S 27 24 0;
        "OFPT_GET_ASYNC_REPLY" 4 5 S 27 0 8;
    }
    SetAsync {
        "OFPT_SET_ASYNC" 3 3 S 28 24 0;
        "OFPT_SET_ASYNC" 4 5 S 28 0 8;
        "NXT_SET_ASYNC_CONFIG" 0 5 N 19 24 0;
        "NXT_SET_ASYNC_CONFIG2" 0 3 N 27 0 8;
    }
    MeterMod { "OFPT_METER_MOD" 3 5 S 29 8 8; }
    RoleStatus {
        "ONFT_ROLE_STATUS" 3 3 O 1911 16 8;
        "OFPT_ROLE_STATUS" 4 5 S 30 16 8;
    }
    RequestForward {
        "NXT_REQUESTFORWARD" 0 2 N 132 8 8;
        "ONFT_REQUESTFORWARD" 3 3 O 2350 8 8;
        "OFPT_REQUESTFORWARD" 4 5 S 32 8 8;
    }
    TableStatus { "OFPT_TABLE_STATUS" 4 5 S 31 8 8; }
    BundleControl {
        "ONFT_BUNDLE_CONTROL" 3 3 O 2300 8 8;
        "OFPT_BUNDLE_CONTROL" 4 5 S 33 8 8;
    }
    BundleAdd {
        "ONFT_BUNDLE_ADD_MESSAGE" 3 3 O 2301 8 1;
        "OFPT_BUNDLE_ADD_MESSAGE" 4 5 S 34 8 1;
    }

    DescRequest { "OFPST_DESC request" 0 5 Pq 0 0 0; }
    DescReply { "OFPST_DESC reply" 0 5 Pr 0 1056 0; }
    FlowStatsRequest {
        "OFPST_FLOW request" 0 0 Pq 1 44 0;
        "OFPST_FLOW request" 1 5 Pq 1 32 8;
        "NXST_FLOW request" 0 0 Mq 0 8 8;
    }
    FlowStatsReply {
        "OFPST_FLOW reply" 0 5 Pr 1 0 1;
        "NXST_FLOW reply" 0 0 Mr 0 0 1;
    }
    AggregateRequest {
        "OFPST_AGGREGATE request" 0 0 Pq 2 44 0;
        "OFPST_AGGREGATE request" 1 5 Pq 2 32 8;
        "NXST_AGGREGATE request" 0 0 Mq 1 8 8;
    }
    AggregateReply {
        "OFPST_AGGREGATE reply" 0 4 Pr 2 24 0;
        "OFPST_AGGREGATE reply" 5 5 Pr 2 0 1;
        "NXST_AGGREGATE reply" 0 0 Mr 1 24 0;
    }
    TableStatsRequest { "OFPST_TABLE request" 0 5 Pq 3 0 0; }
    TableStatsReply {
        "OFPST_TABLE reply" 0 0 Pr 3 0 64;
        "OFPST_TABLE reply" 1 1 Pr 3 0 88;
        "OFPST_TABLE reply" 2 2 Pr 3 0 128;
        "OFPST_TABLE reply" 3 5 Pr 3 0 24;
    }
    PortStatsRequest { "OFPST_PORT request" 0 5 Pq 4 8 0; }
    PortStatsReply {
        "OFPST_PORT reply" 0 2 Pr 4 0 104;
        "OFPST_PORT reply" 3 3 Pr 4 0 112;
        "OFPST_PORT reply" 4 5 Pr 4 0 8;
    }
    QueueStatsRequest { "OFPST_QUEUE request" 0 5 Pq 5 8 0; }
    QueueStatsReply {
        "OFPST_QUEUE reply" 0 2 Pr 5 0 32;
        "OFPST_QUEUE reply" 3 3 Pr 5 0 40;
        "OFPST_QUEUE reply" 4 5 Pr 5 0 8;
    }
    GroupStatsRequest {
        "NXST_GROUP request" 0 0 Mq 7 8 0;
        "OFPST_GROUP request" 1 5 Pq 6 8 0;
    }
    GroupStatsReply {
        "NXST_GROUP reply" 0 0 Mr 7 0 8;
        "OFPST_GROUP reply" 1 5 Pr 6 0 8;
    }
    GroupDescRequest {
        "NXST_GROUP_DESC request" 0 0 Mq 8 8 0;
        "OFPST_GROUP_DESC request" 1 4 Pq 7 0 0;
        "OFPST_GROUP_DESC request" 5 5 Pq 7 8 0;
    }
    GroupDescReply {
        "NXST_GROUP_DESC reply" 0 0 Mr 8 0 8;
        "OFPST_GROUP_DESC reply" 1 5 Pr 7 0 8;
    }
    GroupFeaturesRequest {
        "NXST_GROUP_FEATURES request" 0 1 Mq 9 0 0;
        "OFPST_GROUP_FEATURES request" 2 5 Pq 8 0 0;
    }
    GroupFeaturesReply {
        "NXST_GROUP_FEATURES reply" 0 1 Mr 9 40 0;
        "OFPST_GROUP_FEATURES reply" 2 5 Pr 8 40 0;
    }
    MeterStatsRequest { "OFPST_METER request" 3 5 Pq 9 8 0; }
    MeterStatsReply { "OFPST_METER reply" 3 5 Pr 9 0 8; }
    MeterConfigRequest { "OFPST_METER_CONFIG request" 3 5 Pq 10 8 0; }
    MeterConfigReply { "OFPST_METER_CONFIG reply" 3 5 Pr 10 0 8; }
    MeterFeaturesRequest { "OFPST_METER_FEATURES request" 3 5 Pq 11 0 0; }
    MeterFeaturesReply { "OFPST_METER_FEATURES reply" 3 5 Pr 11 16 0; }
    TableFeaturesRequest { "OFPST_TABLE_FEATURES request" 3 5 Pq 12 0 8; }
    TableFeaturesReply { "OFPST_TABLE_FEATURES reply" 3 5 Pr 12 64 8; }
    TableDescRequest { "OFPST_TABLE_DESC request" 4 5 Pq 14 0 0; }
    TableDescReply { "OFPST_TABLE_DESC reply" 4 5 Pr 14 8 8; }
    PortDescRequest {
        "OFPST_PORT_DESC request" 0 4 Pq 13 0 0;
        "OFPST_PORT_DESC request" 5 5 Pq 13 8 0;
    }
    PortDescReply {
        "OFPST_PORT_DESC reply" 0 0 Pr 13 0 48;
        "OFPST_PORT_DESC reply" 1 3 Pr 13 0 64;
        "OFPST_PORT_DESC reply" 4 5 Pr 13 0 8;
    }
    FlowMonitorRequest {
        "NXST_FLOW_MONITOR request" 0 2 Mq 2 0 8;
        "ONFST_FLOW_MONITOR request" 3 3 OPq 1870 0 8;
        "OFPST_FLOW_MONITOR request" 4 5 Pq 16 0 8;
    }
    FlowMonitorReply {
        "NXST_FLOW_MONITOR reply" 0 2 Mr 2 0 8;
        "ONFST_FLOW_MONITOR reply" 3 3 OPr 1870 0 8;
        "OFPST_FLOW_MONITOR reply" 4 5 Pr 16 0 8;
    }

    SetFlowFormat { "NXT_SET_FLOW_FORMAT" 0 0 N 12 4 0; }
    FlowModTableId { "NXT_FLOW_MOD_TABLE_ID" 0 5 N 15 8 0; }
    SetPacketInFormat { "NXT_SET_PACKET_IN_FORMAT" 0 5 N 16 4 0; }
    FlowAge { "NXT_FLOW_AGE" 0 5 N 18 0 0; }
    SetControllerId { "NXT_SET_CONTROLLER_ID" 0 5 N 20 8 0; }
    TlvTableMod { "NXT_TLV_TABLE_MOD" 0 5 N 24 8 8; }
    TlvTableRequest { "NXT_TLV_TABLE_REQUEST" 0 5 N 25 0 0; }
    TlvTableReply { "NXT_TLV_TABLE_REPLY" 0 5 N 26 16 8; }
    Resume { "NXT_RESUME" 0 5 N 28 0 8; }
    CtFlushZone { "NXT_CT_FLUSH_ZONE" 0 5 N 29 8 0; }
    CtFlush { "NXT_CT_FLUSH" 0 5 N 32 8 8; }
    FlowMonitorCancel {
        "NXT_FLOW_MONITOR_CANCEL" 0 2 N 21 4 0;
        "ONFT_FLOW_MONITOR_CANCEL" 3 3 O 1870 4 0;
    }
    FlowMonitorPaused {
        "NXT_FLOW_MONITOR_PAUSED" 0 2 N 22 0 0;
        "ONFT_FLOW_MONITOR_PAUSED" 3 3 O 1871 0 0;
    }
    FlowMonitorResumed {
        "NXT_FLOW_MONITOR_RESUMED" 0 2 N 23 0 0;
        "ONFT_FLOW_MONITOR_RESUMED" 3 3 O 1872 0 0;
    }
    IpfixBridgeRequest { "NXST_IPFIX_BRIDGE request" 0 5 Mq 3 0 0; }
    IpfixBridgeReply { "NXST_IPFIX_BRIDGE reply" 0 5 Mr 3 88 0; }
    IpfixFlowRequest { "NXST_IPFIX_FLOW request" 0 5 Mq 4 0 0; }
    IpfixFlowReply { "NXST_IPFIX_FLOW reply" 0 5 Mr 4 0 88; }
}

/// Header type of multipart requests and replies.
pub fn multipart_types(version: Version) -> (u8, u8) {
    if version == Version::V10 {
        (16, 17)
    } else {
        (18, 19)
    }
}

/// Bytes before the body: header, and multipart and vendor headers if the carrier has them.
pub fn prefix_len(carrier: Carrier, version: Version) -> usize {
    let mp = if version == Version::V10 { 12 } else { 16 };
    match carrier {
        Carrier::Std => HEADER_LEN,
        Carrier::Nx | Carrier::Onf => 16,
        Carrier::Mp { .. } => mp,
        // In 1.0 the vendor's subtype and pad follow the vendor id; later it is vendor and type.
        Carrier::NxMp { .. } | Carrier::OnfMp { .. } => 24,
    }
}

/// A message's header, the place of its body, and what it is.
#[derive(Clone, Copy, Debug)]
pub struct Parsed {
    pub raw: &'static Raw,
    pub version: Version,
    pub xid: u32,
    /// More parts follow.
    pub more: bool,
    pub body: usize,
}

/// Reads the headers of a whole message and checks its length.
pub fn parse(msg: &[u8]) -> Result<Parsed, OfpErr> {
    let parsed = identify(msg)?;
    let body_len = msg
        .len()
        .checked_sub(parsed.body)
        .ok_or(OfpErr::OFPBRC_BAD_LEN)?;
    let (min, unit) = (parsed.raw.min_body, parsed.raw.extra_unit);
    let fits = match unit {
        0 => body_len == min,
        unit => body_len >= min && (body_len - min) % unit == 0,
    };
    if fits {
        Ok(parsed)
    } else {
        Err(OfpErr::OFPBRC_BAD_LEN)
    }
}

/// The same, with a complaint of what is refused.
pub fn parse_aloud(msg: &[u8]) -> Result<Parsed, OfpErr> {
    let parsed = parse(msg);
    if let Err(error) = parsed
        && let Some(text) = complaint(msg, error)
    {
        warn(Topic::Msgs, || text.clone());
    }
    parsed
}

/// What is wrong with a message that was refused; nothing is said of one that is too short to tell what it is.
fn complaint(msg: &[u8], error: OfpErr) -> Option<String> {
    if let Ok(parsed) = identify(msg) {
        let (name, unit) = (parsed.raw.name, parsed.raw.extra_unit);
        let min = parsed.body + parsed.raw.min_body;
        let expected = match unit {
            0 => format!("expected length {min}"),
            _ => format!(
                "must be exactly {min} bytes or longer by an integer multiple of {unit} bytes"
            ),
        };
        let len = msg.len();
        return Some(format!(
            "received {name} with incorrect length {len} ({expected})"
        ));
    }
    let version = Version::from_wire(*msg.first()?)?;
    let type_ = *msg.get(1)?;
    let be32 = |ofs: usize| Some(u32::from_be_bytes(msg.get(ofs..ofs + 4)?.try_into().ok()?));
    let (mp_request, mp_reply) = multipart_types(version);
    let mut text = format!("version {}, type {type_}", version.wire());
    let mut vendor_at = (type_ == VENDOR_TYPE).then_some(8);
    if type_ == mp_request || type_ == mp_reply {
        let stat = be32(8)? >> 16;
        text += &format!(", stat {stat}");
        let mp_len = prefix_len(Carrier::Mp { reply: false }, version);
        vendor_at = (stat == 0xffff).then_some(mp_len);
    }
    if let Some(at) = vendor_at {
        let vendor = be32(at)?;
        if error == OfpErr::OFPBRC_BAD_VENDOR {
            return Some(format!("OpenFlow message has unknown vendor {vendor:#x}"));
        }
        text += &format!(", vendor {vendor:#x}, subtype {}", be32(at + 4)?);
    }
    Some(format!("unknown OpenFlow message ({text})"))
}

/// The wire version of a message from the future is read as the newest that we know: what all versions have
/// (hello, errors, echoes) looks the same in it.
fn version_of(wire: u8) -> Result<Version, OfpErr> {
    match Version::from_wire(wire) {
        Some(v) => Ok(v),
        None if wire > Version::V15.wire() => Ok(Version::V15),
        None => Err(OfpErr::OFPBRC_BAD_TYPE),
    }
}

/// Where the messages of OpenFlow's own with each number begin in the list.
const FIRST_STD: [u8; 256] = {
    let mut first = [RAWS.len() as u8; 256];
    let mut i = RAWS.len();
    while i > 0 {
        i -= 1;
        if matches!(RAWS[i].carrier, Carrier::Std) {
            first[RAWS[i].number as usize] = i as u8;
        }
    }
    first
};

/// Reads as much of the headers as tells what a message is, without regard to its length.
pub fn identify(msg: &[u8]) -> Result<Parsed, OfpErr> {
    if msg.len() < HEADER_LEN {
        return Err(OfpErr::OFPBRC_BAD_LEN);
    }
    let be16 = |ofs: usize| -> Result<u16, OfpErr> {
        let b = msg.get(ofs..ofs + 2).ok_or(OfpErr::OFPBRC_BAD_LEN)?;
        Ok(u16::from_be_bytes([b[0], b[1]]))
    };
    let be32 = |ofs: usize| -> Result<u32, OfpErr> {
        let b = msg.get(ofs..ofs + 4).ok_or(OfpErr::OFPBRC_BAD_LEN)?;
        Ok(u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    };
    let version = version_of(msg[0])?;
    let known = Version::from_wire(msg[0]).is_some();
    let type_ = msg[1];
    let xid = be32(4)?;
    let (mp_request, mp_reply) = multipart_types(version);
    let mut more = false;
    let (carrier, number, not_found) = if type_ == VENDOR_TYPE {
        let vendor = be32(8)?;
        match vendor {
            NX_VENDOR => (Carrier::Nx, be32(12)?, OfpErr::OFPBRC_BAD_SUBTYPE),
            ONF_VENDOR => (Carrier::Onf, be32(12)?, OfpErr::OFPBRC_BAD_SUBTYPE),
            _ => return Err(OfpErr::OFPBRC_BAD_VENDOR),
        }
    } else if known && (type_ == mp_request || type_ == mp_reply) {
        let reply = type_ == mp_reply;
        let mp_len = if version == Version::V10 { 12 } else { 16 };
        if msg.len() < mp_len {
            return Err(OfpErr::OFPBRC_BAD_LEN);
        }
        let stat = be16(8)?;
        more = be16(10)? & MULTIPART_MORE != 0;
        if stat == 0xffff {
            let vendor = be32(mp_len)?;
            let carrier = match vendor {
                NX_VENDOR => Carrier::NxMp { reply },
                ONF_VENDOR => Carrier::OnfMp { reply },
                _ => return Err(OfpErr::OFPBRC_BAD_VENDOR),
            };
            (carrier, be32(mp_len + 4)?, OfpErr::OFPBRC_BAD_SUBTYPE)
        } else {
            (
                Carrier::Mp { reply },
                u32::from(stat),
                OfpErr::OFPBRC_BAD_STAT,
            )
        }
    } else {
        (Carrier::Std, u32::from(type_), OfpErr::OFPBRC_BAD_TYPE)
    };
    let minor = version.minor();
    let first = match carrier {
        Carrier::Std => usize::from(FIRST_STD[usize::from(type_)]),
        _ => 0,
    };
    let raw = RAWS[first..]
        .iter()
        .find(|r| r.carrier == carrier && r.number == number && (r.first..=r.last).contains(&minor))
        .filter(|r| known || r.is_of_all_versions())
        .ok_or(not_found)?;
    Ok(Parsed {
        raw,
        version,
        xid,
        more,
        body: prefix_len(carrier, version),
    })
}

impl Raw {
    /// Whether versions to come have it too.
    fn is_of_all_versions(&self) -> bool {
        matches!(
            self.kind,
            Kind::Hello | Kind::Error | Kind::EchoRequest | Kind::EchoReply
        )
    }

    /// Whether it is one of the parts of a request or reply, with flags in its header.
    pub fn is_multipart(&self) -> bool {
        matches!(
            self.carrier,
            Carrier::Mp { .. } | Carrier::NxMp { .. } | Carrier::OnfMp { .. }
        )
    }

    pub fn is_multipart_reply(&self) -> bool {
        matches!(
            self.carrier,
            Carrier::Mp { reply: true }
                | Carrier::NxMp { reply: true }
                | Carrier::OnfMp { reply: true }
        )
    }
}

/// Where the encodings of each kind begin, which stand together; and the end of the last.
const FIRST_OF_KIND: [u8; KINDS + 1] = {
    let mut first = [0; KINDS + 1];
    let mut i = 0;
    while i < RAWS.len() {
        first[RAWS[i].kind as usize + 1] = i as u8 + 1;
        i += 1;
    }
    first
};

/// The encoding of `kind` in `version` that the test accepts.
pub fn find(kind: Kind, version: Version, test: impl Fn(&Raw) -> bool) -> Option<&'static Raw> {
    let minor = version.minor();
    let first = FIRST_OF_KIND[kind as usize].into();
    let end = FIRST_OF_KIND[kind as usize + 1].into();
    RAWS[first..end]
        .iter()
        .find(|r| (r.first..=r.last).contains(&minor) && test(r))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_encodings_of_a_version_share_a_number() {
        for (i, a) in RAWS.iter().enumerate() {
            for b in &RAWS[i + 1..] {
                let overlap = a.first <= b.last && b.first <= a.last;
                assert!(
                    !(overlap && a.carrier == b.carrier && a.number == b.number),
                    "{a:?} {b:?}"
                );
            }
        }
    }

    #[test]
    fn lengths_and_types_are_checked() {
        assert_eq!(parse(&[1, 0]).unwrap_err(), OfpErr::OFPBRC_BAD_LEN);
        assert_eq!(
            parse(&[9, 5, 0, 8, 0, 0, 0, 0]).unwrap_err(),
            OfpErr::OFPBRC_BAD_TYPE
        );
        assert_eq!(
            parse(&[9, 2, 0, 8, 0, 0, 0, 0]).unwrap().raw.kind,
            Kind::EchoRequest
        );
        assert_eq!(
            parse(&[1, 99, 0, 8, 0, 0, 0, 0]).unwrap_err(),
            OfpErr::OFPBRC_BAD_TYPE
        );
        assert_eq!(
            parse(&[1, 5, 0, 9, 0, 0, 0, 0, 0]).unwrap_err(),
            OfpErr::OFPBRC_BAD_LEN
        );
        assert_eq!(
            parse(&[4, 20, 0, 8, 0, 0, 0, 7]).unwrap().raw.kind,
            Kind::BarrierRequest
        );
    }

    #[test]
    fn a_message_that_is_refused_is_complained_of() {
        let bytes = |hex: &str| -> Vec<u8> {
            let digit = |i: usize| u8::from_str_radix(&hex[i..i + 2], 16).unwrap();
            (0..hex.len()).step_by(2).map(digit).collect()
        };
        for (hex, want) in [
            (
                "0405000a000000010000",
                "received OFPT_FEATURES_REQUEST with incorrect length 10 (expected length 8)",
            ),
            (
                "0412001400000001000100000000000000000000",
                "received OFPST_FLOW request with incorrect length 20 \
                 (must be exactly 48 bytes or longer by an integer multiple of 8 bytes)",
            ),
            (
                "01ff000800000001",
                "unknown OpenFlow message (version 1, type 255)",
            ),
            (
                "0110000c00000001aaaa0000",
                "unknown OpenFlow message (version 1, type 16, stat 43690)",
            ),
            (
                "0412001800000001ffff0000000000000000232000000055",
                "unknown OpenFlow message (version 4, type 18, stat 65535, vendor 0x2320, subtype 85)",
            ),
            (
                "04040010000000014f4e4600000000aa",
                "unknown OpenFlow message (version 4, type 4, vendor 0x4f4e4600, subtype 170)",
            ),
            (
                "040400100000000100999900000000aa",
                "OpenFlow message has unknown vendor 0x999900",
            ),
            ("0404000c0000000100002320", ""),
        ] {
            let msg = bytes(hex);
            let error = parse(&msg).unwrap_err();
            assert_eq!(complaint(&msg, error).unwrap_or_default(), want, "{hex}");
        }
    }
}
