//! OpenFlow messages as values, independent of version and encoding.
//!
//! [`Msg`] is a message with its transaction id and version; [`Message`] is the body. The crate's codec reads a
//! [`Msg`] from bytes ([`Msg::decode`]) and writes one in a given version ([`Msg::encode`]); which number and
//! layout a body has in which version is the table in [`raw`](crate::raw).

use crate::error::{ErrorCode, OfpErr};
use crate::flow::*;
use crate::group::*;
use crate::meter::*;
use crate::packet_in::*;
use crate::port::*;
use crate::switch::*;
use crate::version::{Version, Versions};
use ferrovs_packet::types::OfPort;

/// A message with its header's facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Msg {
    pub version: Version,
    pub xid: u32,
    pub body: Message,
}

/// An error message: the cause if it is known, its numbers, and what the sender quotes of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorMsg {
    /// `None`: numbers that nobody knows.
    pub error: Option<OfpErr>,
    pub code: ErrorCode,
    pub data: Vec<u8>,
}

/// `more` of a multipart message: further parts with the same transaction id follow.
pub type More = bool;

/// The body of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The versions offered, and whether a bitmap offered them.
    Hello {
        versions: Versions,
    },
    Error(ErrorMsg),
    EchoRequest(Vec<u8>),
    EchoReply(Vec<u8>),
    FeaturesRequest,
    FeaturesReply(SwitchFeatures),
    GetConfigRequest,
    GetConfigReply(SwitchConfig),
    SetConfig(SwitchConfig),
    PacketIn {
        packet_in: Box<PacketIn>,
        format: PacketInFormat,
    },
    FlowRemoved {
        removed: Box<FlowRemoved>,
        nxm: bool,
    },
    PortStatus(PortStatus),
    PacketOut(Box<PacketOut>),
    FlowMod {
        flow_mod: Box<FlowMod>,
        nxm: bool,
    },
    GroupMod(GroupMod),
    PortMod(PortMod),
    TableMod(TableMod),
    BarrierRequest,
    BarrierReply,
    QueueGetConfigRequest(QueueRequest),
    QueueGetConfigReply {
        port: OfPort,
        queues: Vec<QueueConfig>,
        more: More,
    },
    RoleRequest(RoleRequest),
    RoleReply(RoleRequest),
    RoleStatus(RoleStatus),
    GetAsyncRequest,
    GetAsyncReply(AsyncConfig),
    SetAsync {
        change: AsyncMod,
        nicira: bool,
    },
    MeterMod(MeterMod),
    /// Another controller's group or meter mod.
    RequestForward {
        xid: u32,
        request: Box<Message>,
    },
    TableStatus {
        vacancy_up: bool,
        desc: TableDesc,
    },
    BundleControl(BundleCtrl),
    BundleAdd(BundleAdd),

    // Multipart requests and replies.
    DescRequest,
    DescReply(DescStats),
    FlowStatsRequest {
        request: Box<FlowStatsRequest>,
        nxm: bool,
    },
    FlowStatsReply {
        flows: Vec<FlowStats>,
        nxm: bool,
        more: More,
    },
    AggregateReply {
        stats: AggregateStats,
        nxm: bool,
    },
    TableStatsRequest,
    TableStatsReply {
        tables: Vec<TableStats>,
        more: More,
    },
    PortStatsRequest {
        port: OfPort,
    },
    PortStatsReply {
        ports: Vec<PortStats>,
        more: More,
    },
    QueueStatsRequest(QueueRequest),
    QueueStatsReply {
        queues: Vec<QueueStats>,
        more: More,
    },
    GroupStatsRequest {
        group: u32,
    },
    GroupStatsReply {
        groups: Vec<GroupStats>,
        more: More,
    },
    GroupDescRequest {
        group: u32,
    },
    GroupDescReply {
        groups: Vec<GroupDesc>,
        more: More,
    },
    GroupFeaturesRequest,
    GroupFeaturesReply(GroupFeatures),
    MeterStatsRequest {
        meter: u32,
    },
    MeterStatsReply {
        meters: Vec<MeterStats>,
        more: More,
    },
    MeterConfigRequest {
        meter: u32,
    },
    MeterConfigReply {
        meters: Vec<MeterConfig>,
        more: More,
    },
    MeterFeaturesRequest,
    MeterFeaturesReply(MeterFeatures),
    /// Without tables: asks. With: sets.
    TableFeaturesRequest {
        tables: Vec<TableFeatures>,
        more: More,
    },
    TableFeaturesReply {
        tables: Vec<TableFeatures>,
        more: More,
    },
    TableDescRequest,
    TableDescReply {
        tables: Vec<TableDesc>,
        more: More,
    },
    PortDescRequest {
        port: OfPort,
    },
    PortDescReply {
        ports: Vec<PortDesc>,
        more: More,
    },
    FlowMonitorRequest(Vec<FlowMonitorRequest>),
    FlowMonitorReply {
        updates: Vec<FlowUpdate>,
        more: More,
    },

    // Nicira extensions.
    SetFlowFormat {
        nxm: bool,
    },
    FlowModTableId(bool),
    SetPacketInFormat(PacketInFormat),
    FlowAge,
    SetControllerId(u16),
    TlvTableMod(TlvTableMod),
    TlvTableRequest,
    TlvTableReply(TlvTableReply),
    Resume(Box<PacketIn>),
    CtFlushZone(u16),
    CtFlush(Box<CtFlush>),
    FlowMonitorCancel {
        id: u32,
    },
    FlowMonitorPaused,
    FlowMonitorResumed,
    IpfixBridgeRequest,
    IpfixBridgeReply(IpfixStats),
    IpfixFlowRequest,
    IpfixFlowReply(Vec<IpfixStats>),
}
