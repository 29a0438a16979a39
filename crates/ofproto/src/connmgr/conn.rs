//! One OpenFlow connection above its bytes: role, formats, what it wants to hear, and what it still has to be
//! sent.
//!
//! Long answers are made part by part ([`Parts`]), each when there is room for it, and no request is read while
//! an answer is unfinished: so a reader that is slow holds up itself alone, in bounded memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use ferrovs_openflow::OfpErr;
use ferrovs_openflow::message::{Message, Msg};
use ferrovs_openflow::packet_in::{PacketInFormat, PacketInReason};
use ferrovs_openflow::switch::{AsyncConfig, AsyncType, Role};
use ferrovs_openflow::version::{Version, Versions};
use ferrovs_packet::field::TunTable;
use ferrovs_runtime::Poller;

use super::ControllerSettings;
use super::bundle::Bundle;
use super::flow_mods::FlowMods;
use super::monitor::Monitor;
use super::multipart::{Input, Multipart};
use super::parts::Parts;
use super::rconn::Rconn;
use super::schedule::Schedule;
use crate::udpif::Round;

/// No further request is read, and no further part of an answer made, while so many bytes wait to be sent.
const TX_HIGH: usize = 512 * 1024;
/// Bytes of a packet that a primary controller gets at first when no flow matched.
const DEFAULT_MISS_SEND_LEN: u16 = 128;

/// Packet-ins that may wait to be sent unless the database says another number.
const DEFAULT_PACKET_INS: u32 = 100;

const INVALID_TTL: u32 = 1 << PacketInReason::InvalidTtl as u32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnKind {
    Primary,
    Service,
}

impl ConnKind {
    pub fn name(self) -> &'static str {
        match self {
            ConnKind::Primary => "primary",
            ConnKind::Service => "service",
        }
    }
}

pub struct OfConn {
    pub id: u64,
    pub rconn: Rconn,
    pub kind: ConnKind,
    /// The configured target that the connection belongs to.
    pub service: String,
    pub settings: ControllerSettings,
    pub role: Role,
    pub packet_in_format: PacketInFormat,
    /// OpenFlow 1.0 only: flow formats that the controller asked for.
    pub nxm: bool,
    pub flow_mod_table_id: bool,
    pub controller_id: u16,
    pub miss_send_len: u16,
    /// The bridge's tunnel options.
    pub tun_table: Arc<TunTable>,
    pub async_config: AsyncConfig,
    pub bundles: BTreeMap<u32, Bundle>,
    pub monitors: BTreeMap<u32, Monitor>,
    /// Flow monitor updates that were held back because the peer reads too slowly.
    pub monitor_paused: bool,
    /// Flow mods of the connection, for the log.
    pub flow_mods: FlowMods,
    /// Requests of which parts are still to come.
    pub(super) multipart: Multipart,
    /// Answers in the making.
    pub(super) replies: VecDeque<Parts>,
    /// The round of the revalidators that the next answer waits for.
    pub(super) held: Option<Round>,
    /// Of packets that no flow matched, and of the others.
    pub(super) schedules: [Schedule; 2],
    connection_seqno: u64,
}

impl OfConn {
    pub fn new(
        id: u64,
        rconn: Rconn,
        kind: ConnKind,
        service: &str,
        settings: ControllerSettings,
    ) -> OfConn {
        let mut conn = OfConn {
            id,
            rconn,
            kind,
            service: service.to_string(),
            settings,
            role: Role::Equal,
            packet_in_format: PacketInFormat::Standard,
            nxm: false,
            flow_mod_table_id: false,
            controller_id: 0,
            miss_send_len: 0,
            tun_table: Arc::default(),
            async_config: AsyncConfig::default(),
            bundles: BTreeMap::new(),
            monitors: BTreeMap::new(),
            monitor_paused: false,
            flow_mods: FlowMods::default(),
            multipart: Multipart::default(),
            replies: VecDeque::new(),
            held: None,
            schedules: Default::default(),
            connection_seqno: 0,
        };
        conn.reset();
        conn
    }

    /// Applies settings from the database.
    pub fn apply(&mut self, settings: &ControllerSettings, allowed: Versions, now: Instant) {
        self.settings = settings.clone();
        self.rconn.set_max_backoff(settings.max_backoff);
        self.rconn.set_probe_interval(settings.probe_interval);
        self.rconn.set_dscp(settings.dscp);
        self.rconn.set_allowed(allowed, now);
        for schedule in &mut self.schedules {
            schedule.set_limits(settings.rate_limit, settings.burst_limit);
        }
    }

    /// What a fresh connection starts with.
    fn reset(&mut self) {
        self.role = Role::Equal;
        self.packet_in_format = PacketInFormat::Standard;
        self.nxm = false;
        self.flow_mod_table_id = false;
        self.controller_id = 0;
        self.miss_send_len = match self.kind {
            ConnKind::Primary => DEFAULT_MISS_SEND_LEN,
            ConnKind::Service => 0,
        };
        self.async_config = if self.settings.enable_async_messages {
            AsyncConfig::default_for(self.version())
        } else {
            AsyncConfig::default()
        };
        self.bundles.clear();
        self.monitors.clear();
        self.monitor_paused = false;
        self.multipart = Multipart::default();
        self.replies.clear();
        self.held = None;
        self.schedules.iter_mut().for_each(Schedule::clear);
    }

    /// The negotiated version, or the oldest while there is none.
    pub fn version(&self) -> Version {
        self.rconn.version().unwrap_or(Version::ALL[0])
    }

    pub fn run(&mut self, now: Instant) {
        self.rconn.run(now);
        if self.connection_seqno != self.rconn.connection_seqno() {
            self.connection_seqno = self.rconn.connection_seqno();
            self.flow_mods.report(self.rconn.name(), true, now);
            self.reset();
        }
    }

    /// Receives the next message, unless there is none or answers to earlier ones wait.
    pub fn recv(&mut self, message: &mut Vec<u8>, now: Instant) -> bool {
        self.continue_replies(now);
        self.may_read() && self.rconn.recv(message, now)
    }

    /// Sends what waits, and waits a moment for the next message of a peer that used to go on at once: see
    /// [`Rconn::flush_and_listen`].
    pub fn flush_and_listen(&mut self, now: Instant) -> bool {
        self.may_read() && self.rconn.flush_and_listen(now)
    }

    /// Takes a message that arrived, which may be a part of one.
    pub fn input<'a>(&mut self, now: Instant, message: &'a [u8]) -> Input<'a> {
        self.multipart.input(now, message)
    }

    /// Tells the peer of requests whose next part did not come.
    pub fn expire_multipart(&mut self, now: Instant) {
        while let Some(request) = self.multipart.expire(now) {
            self.reply_error(&request, OfpErr::OFPBRC_MULTIPART_REQUEST_TIMEOUT, now);
        }
    }

    /// Sends a message that answers nothing: such have no number.
    pub fn send(&mut self, body: Message, now: Instant) {
        self.send_with_xid(body, 0, now);
    }

    pub(super) fn send_with_xid(&mut self, body: Message, xid: u32, now: Instant) {
        let msg = Msg {
            version: self.version(),
            xid,
            body,
        };
        self.rconn
            .send(crate::codec::encode(&msg, &self.tun_table), now);
    }

    /// Discards bundles that were forgotten.
    pub fn expire_bundles(&mut self, now: Instant) {
        self.bundles.retain(|_, b| !b.is_idle(now));
    }

    /// Sends parts of answers while there is room.
    pub fn continue_replies(&mut self, now: Instant) {
        self.held.take_if(|round| round.is_over());
        if self.held.is_some() {
            return;
        }
        while self.rconn.tx_backlog() < TX_HIGH {
            let Some(parts) = self.replies.front_mut() else {
                return;
            };
            match parts(&self.tun_table) {
                Some(bytes) => self.rconn.send(bytes, now),
                None => {
                    self.replies.pop_front();
                }
            }
        }
    }

    /// Whether the next request may be read.
    pub fn may_read(&self) -> bool {
        self.may_answer() && self.rconn.tx_backlog() < TX_HIGH
    }

    /// Whether no answer comes before the next one.
    pub(super) fn may_answer(&self) -> bool {
        self.replies.is_empty() && self.held.is_none()
    }

    /// Whether the connection wants asynchronous messages of this kind and reason.
    pub fn wants(&self, kind: AsyncType, reason: u32) -> bool {
        if !self.rconn.is_connected() {
            return false;
        }
        if self.kind == ConnKind::Service && self.miss_send_len == 0 {
            return false;
        }
        let masks = match self.role {
            Role::Secondary => &self.async_config.secondary,
            _ => &self.async_config.primary,
        };
        masks[kind as usize] & 1u32.checked_shl(reason).unwrap_or(0) != 0
    }

    /// Whether the controller asked for packets whose TTL is invalid, as OpenFlow 1.0 to 1.2 ask for them.
    pub fn wants_invalid_ttl(&self) -> bool {
        self.async_config.primary[AsyncType::PacketIn as usize] & INVALID_TTL != 0
    }

    pub fn set_wants_invalid_ttl(&mut self, wanted: bool) {
        let mask = &mut self.async_config.primary[AsyncType::PacketIn as usize];
        *mask = match wanted {
            true => *mask | INVALID_TTL,
            false => *mask & !INVALID_TTL,
        };
    }

    /// How many packet-ins may wait for a peer that does not read.
    pub(super) fn packet_in_limit(&self) -> u32 {
        match self.settings.max_pktq_size {
            0 => DEFAULT_PACKET_INS,
            limit => limit,
        }
    }

    /// Which connection a snooper sees: the greatest.
    pub fn snoop_preference(&self) -> u32 {
        match (self.kind, self.role) {
            (ConnKind::Service, _) => 0,
            (_, Role::Primary) => 3,
            (_, Role::Secondary) => 1,
            _ => 2,
        }
    }

    pub fn status(&self, now: Instant) -> super::ControllerStatus {
        let rconn = &self.rconn;
        let mut pairs = BTreeMap::new();
        if let Some(error) = rconn.last_error() {
            pairs.insert("last_error".to_string(), error.to_string());
        }
        pairs.insert("state".into(), rconn.state().name().into());
        let mut since = |key: &str, at: Option<Instant>| {
            if let Some(at) = at {
                let secs = now.saturating_duration_since(at).as_secs();
                pairs.insert(key.into(), secs.to_string());
            }
        };
        since("sec_since_connect", rconn.last_connected());
        since("sec_since_disconnect", rconn.last_disconnected());
        let role = match (rconn.is_connected(), self.role) {
            (false, _) => "",
            (_, Role::Primary) => "master",
            (_, Role::Secondary) => "slave",
            _ => "other",
        };
        super::ControllerStatus {
            is_connected: rconn.is_connected(),
            role,
            pairs,
        }
    }

    pub fn wait(&self, poller: &mut Poller) {
        let reading = self.may_read();
        self.rconn.wait(poller, reading);
        if let Some(round) = &self.held {
            round.wait(poller);
        } else if !self.replies.is_empty() && self.rconn.tx_backlog() < TX_HIGH {
            poller.wake_now();
        }
        if let Some(at) = self.bundles.values().map(|b| b.deadline()).min() {
            poller.wait_until(at);
        }
        if let Some(at) = self.multipart.deadline() {
            poller.wait_until(at);
        }
        self.schedules.iter().for_each(|s| s.wait(poller));
        self.flow_mods.wait(poller);
    }
}
