//! Flow table messages: flow mod, statistics, removal, and flow monitors.

use bitflags::bitflags;
use ferrovs_packet::flow::Match;
use ferrovs_packet::miniflow::MiniMatch;
use ferrovs_packet::types::OfPort;

use crate::action::Action;
use crate::error::OfpErr;

/// `out_group` of a request that any group satisfies.
pub const GROUP_ANY: u32 = 0xffff_ffff;
/// `group_id` that stands for every group.
pub const GROUP_ALL: u32 = 0xffff_fffc;
/// The greatest ordinary group id.
pub const GROUP_MAX: u32 = 0xffff_ff00;
/// The priority of a flow for which none was given.
pub const DEFAULT_PRIORITY: u16 = 32768;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FlowModCommand {
    Add = 0,
    Modify = 1,
    ModifyStrict = 2,
    Delete = 3,
    DeleteStrict = 4,
}

impl FlowModCommand {
    pub fn from_wire(n: u8) -> Option<FlowModCommand> {
        use FlowModCommand::*;
        [Add, Modify, ModifyStrict, Delete, DeleteStrict]
            .get(usize::from(n))
            .copied()
    }

    pub fn is_delete(self) -> bool {
        matches!(self, FlowModCommand::Delete | FlowModCommand::DeleteStrict)
    }
}

bitflags! {
    /// Flags of a flow mod; the first five have OpenFlow 1.3's numbers.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct FlowModFlags: u32 {
        const SEND_FLOW_REM = 1 << 0;
        const CHECK_OVERLAP = 1 << 1;
        const RESET_COUNTS = 1 << 2;
        const NO_PKT_COUNTS = 1 << 3;
        const NO_BYT_COUNTS = 1 << 4;
        /// OpenFlow 1.0's emergency flows, which are refused.
        const EMERG = 1 << 5;
        /// Not on the wire: the flow may have a priority over 65535.
        const HIDDEN_FIELDS = 1 << 16;
        /// Not on the wire: tables that OpenFlow may not change may be changed.
        const NO_READONLY = 1 << 17;
        /// What a flow keeps as its state.
        const STATE = 1 << 0 | 1 << 3 | 1 << 4;
    }
}

/// Adds, modifies or deletes flows. Where many wait their matches are [packed](PackedFlowMod).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowMod<M = Match> {
    pub match_: M,
    pub priority: u16,
    /// Flows to modify or delete: `cookie` under `cookie_mask`.
    pub cookie: u64,
    pub cookie_mask: u64,
    /// The cookie of added (and, with `modify_cookie`, modified) flows.
    pub new_cookie: u64,
    pub modify_cookie: bool,
    /// [`TABLE_ALL`](crate::action::TABLE_ALL): unspecified (add) or all tables (delete).
    pub table_id: u8,
    pub command: FlowModCommand,
    pub idle_timeout: u16,
    pub hard_timeout: u16,
    pub buffer_id: u32,
    /// [`OfPort::NONE`]: any.
    pub out_port: OfPort,
    pub out_group: u32,
    pub flags: FlowModFlags,
    pub importance: u16,
    pub actions: Vec<Action>,
    /// In 1.0: whether the command carries the table (extension "flow_mod_table_id").
    pub tid: bool,
}

/// A flow mod of some hundred bytes.
pub type PackedFlowMod = FlowMod<MiniMatch>;

impl<M> FlowMod<M> {
    fn with_match<N>(self, form: impl FnOnce(M) -> N) -> FlowMod<N> {
        let FlowMod {
            match_,
            priority,
            cookie,
            cookie_mask,
            new_cookie,
            modify_cookie,
            table_id,
            command,
            idle_timeout,
            hard_timeout,
            buffer_id,
            out_port,
            out_group,
            flags,
            importance,
            actions,
            tid,
        } = self;
        FlowMod {
            match_: form(match_),
            priority,
            cookie,
            cookie_mask,
            new_cookie,
            modify_cookie,
            table_id,
            command,
            idle_timeout,
            hard_timeout,
            buffer_id,
            out_port,
            out_group,
            flags,
            importance,
            actions,
            tid,
        }
    }
}

impl PackedFlowMod {
    pub fn unpack(self) -> FlowMod {
        self.with_match(|m| m.expand())
    }
}

impl FlowMod {
    pub fn pack(self) -> PackedFlowMod {
        self.with_match(|m| MiniMatch::new(&m))
    }

    /// Takes the table number out of a 1.0 flow mod for a connection on which commands carry none.
    pub fn fix_table_id(&mut self, tid: bool) -> Result<(), OfpErr> {
        if !tid && self.tid {
            if self.table_id != 0 {
                return Err(OfpErr::OFPFMFC_BAD_COMMAND);
            }
            self.table_id = crate::action::TABLE_ALL;
            self.tid = false;
        }
        Ok(())
    }
}

impl Default for FlowMod {
    fn default() -> Self {
        FlowMod {
            match_: Match::default(),
            priority: DEFAULT_PRIORITY,
            cookie: 0,
            cookie_mask: 0,
            new_cookie: 0,
            modify_cookie: false,
            table_id: crate::action::TABLE_ALL,
            command: FlowModCommand::Add,
            idle_timeout: 0,
            hard_timeout: 0,
            buffer_id: crate::packet_in::NO_BUFFER,
            out_port: OfPort::NONE,
            out_group: GROUP_ANY,
            flags: FlowModFlags::empty(),
            importance: 0,
            actions: Vec::new(),
            tid: false,
        }
    }
}

/// Which flows' statistics a controller wants, each or (`aggregate`) summed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowStatsRequest {
    pub aggregate: bool,
    pub match_: Match,
    pub cookie: u64,
    pub cookie_mask: u64,
    pub out_port: OfPort,
    pub out_group: u32,
    pub table_id: u8,
}

impl Default for FlowStatsRequest {
    fn default() -> Self {
        FlowStatsRequest {
            aggregate: false,
            match_: Match::default(),
            cookie: 0,
            cookie_mask: 0,
            out_port: OfPort::NONE,
            out_group: GROUP_ANY,
            table_id: crate::action::TABLE_ALL,
        }
    }
}

/// A flow and its statistics. Counts are `u64::MAX` where unknown.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct FlowStats {
    pub match_: Match,
    pub cookie: u64,
    pub table_id: u8,
    pub priority: u16,
    pub idle_timeout: u16,
    pub hard_timeout: u16,
    pub duration_sec: u32,
    pub duration_nsec: u32,
    /// Seconds since the last packet; `None` unknown.
    pub idle_age: Option<u16>,
    /// Seconds since the last change; `None` unknown.
    pub hard_age: Option<u16>,
    pub packet_count: u64,
    pub byte_count: u64,
    pub flags: FlowModFlags,
    pub importance: u16,
    pub actions: Vec<Action>,
}

/// Sums over the flows of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct AggregateStats {
    pub packet_count: u64,
    pub byte_count: u64,
    pub flow_count: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FlowRemovedReason {
    IdleTimeout = 0,
    HardTimeout = 1,
    Delete = 2,
    GroupDelete = 3,
    MeterDelete = 4,
    Eviction = 5,
}

impl FlowRemovedReason {
    pub const ALL: [(FlowRemovedReason, &'static str); 6] = [
        (FlowRemovedReason::IdleTimeout, "idle"),
        (FlowRemovedReason::HardTimeout, "hard"),
        (FlowRemovedReason::Delete, "delete"),
        (FlowRemovedReason::GroupDelete, "group_delete"),
        (FlowRemovedReason::MeterDelete, "meter_delete"),
        (FlowRemovedReason::Eviction, "eviction"),
    ];

    pub fn from_wire(n: u8) -> Option<FlowRemovedReason> {
        Self::ALL.get(usize::from(n)).map(|p| p.0)
    }

    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// Tells that a flow is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowRemoved {
    pub match_: Match,
    pub cookie: u64,
    pub priority: u16,
    pub reason: FlowRemovedReason,
    /// 0xff unknown.
    pub table_id: u8,
    pub duration_sec: u32,
    pub duration_nsec: u32,
    pub idle_timeout: u16,
    pub hard_timeout: u16,
    pub packet_count: u64,
    pub byte_count: u64,
}

bitflags! {
    /// What a flow monitor reports (numbers of OpenFlow 1.4; the Nicira message has its own).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct FlowMonitorFlags: u16 {
        const INITIAL = 1 << 0;
        const ADD = 1 << 1;
        const REMOVED = 1 << 2;
        const MODIFY = 1 << 3;
        const INSTRUCTIONS = 1 << 4;
        const NO_ABBREV = 1 << 5;
        const ONLY_OWN = 1 << 6;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FlowMonitorCommand {
    Add = 0,
    Modify = 1,
    Delete = 2,
}

/// Subscribes to changes of flows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowMonitorRequest {
    pub id: u32,
    pub command: FlowMonitorCommand,
    pub flags: FlowMonitorFlags,
    pub out_port: OfPort,
    pub out_group: u32,
    pub table_id: u8,
    pub match_: Match,
}

/// A change that a flow monitor reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlowUpdate {
    Full(Box<FullFlowUpdate>),
    /// A change made by the monitoring connection itself, by its transaction id.
    Abbrev {
        xid: u32,
    },
    Paused,
    Resumed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlowUpdateEvent {
    Initial,
    Added,
    Removed,
    Modified,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullFlowUpdate {
    pub event: FlowUpdateEvent,
    /// Valid when removed.
    pub reason: FlowRemovedReason,
    pub idle_timeout: u16,
    pub hard_timeout: u16,
    pub table_id: u8,
    pub priority: u16,
    pub cookie: u64,
    pub match_: Match,
    pub actions: Vec<Action>,
}
