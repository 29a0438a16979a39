//! Between a datapath and the translation: answers upcalls, and keeps installed flows true.
//!
//! One [`Udpif`] serves one datapath. An upcall translates the packet on the thread that received it, and asks
//! the datapath to install the megaflow; a [`Ukey`](ukey::Ukey) remembers for each installed flow what it was
//! translated from. Revalidator threads ([`revalidator`]) dump the flows in turns, credit their packets to rules
//! and ports, remove idle flows, and translate again when something has changed ([`Udpif::changed`]): a flow
//! whose actions differ is modified, one whose match is too wide is removed.

mod crew;
mod limit;
mod look;
mod masks;
pub mod revalidator;
mod show;
mod ukey;
mod ukeys;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use ferrovs_datapath::action::{Action, Cookie, DropReason, SlowPath, Userspace};
use ferrovs_datapath::dpif::{Dpif, DumpWant, Execute, PackedMatch, PmdId, Shard};
use ferrovs_datapath::upcall::{self, Install, Upcall, UpcallHandler, UpcallKind, UpcallReply};
use ferrovs_openflow::packet_in::PacketInReason;
use ferrovs_packet::buffer::Packet;
use ferrovs_packet::flow::{Flow, FlowWildcards};
use ferrovs_packet::miniflow::Miniflow;
use ferrovs_packet::types::{DpPort, OfPort};
use ferrovs_runtime::vlog::{self, RateLimit};
use ferrovs_runtime::{Poller, clock, coverage};
use ferrovs_sync::{Seq, Snapshot};

use crate::trace::{Scene, tell};
use crate::xlate::recirc::{Recirc, RecircTable, clear_conntrack};
use crate::xlate::snapshot::{AsyncPacketIn, XBridge, XlateSnapshot};
use crate::xlate::tunnel::Request;
use crate::xlate::xcache::{Draft, PacketCount, Records, XCache, kind_of};
use crate::xlate::{Start, XlateIn, XlateOut, translate};
use ukey::{Translation, Ukey};
use ukeys::Ukeys;

/// Settings from `Open_vSwitch.other_config`.
#[derive(Debug)]
pub struct Settings {
    /// Most flows that a datapath may hold: `flow-limit`.
    pub flow_limit: AtomicUsize,
    /// `max-idle` in ms.
    pub max_idle_ms: AtomicU64,
    /// `max-revalidator` in ms.
    pub max_revalidator_ms: AtomicU64,
    /// `min-revalidate-pps`.
    pub min_revalidate_pps: AtomicU64,
    /// `n-revalidator-threads`; 0 lets Open vSwitch's default hold.
    pub n_revalidators: AtomicUsize,
    /// `bundle-idle-timeout` in s.
    pub bundle_idle_timeout_s: AtomicU64,
}

impl Settings {
    fn max_idle_ms(&self) -> u64 {
        self.max_idle_ms.load(Relaxed)
    }

    fn max_revalidator_ms(&self) -> u64 {
        self.max_revalidator_ms.load(Relaxed)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            flow_limit: AtomicUsize::new(200_000),
            max_idle_ms: AtomicU64::new(10_000),
            max_revalidator_ms: AtomicU64::new(500),
            min_revalidate_pps: AtomicU64::new(5),
            n_revalidators: AtomicUsize::new(0),
            bundle_idle_timeout_s: AtomicU64::new(10),
        }
    }
}

/// See the module's text.
pub struct Udpif {
    pub dpif: Arc<dyn Dpif>,
    pub snapshot: Arc<Snapshot<XlateSnapshot>>,
    pub recircs: Arc<RecircTable>,
    pub settings: Arc<Settings>,
    ukeys: Ukeys,
    records: Records,
    masks: masks::Masks,
    /// Changes whenever installed flows may be stale.
    reval_seq: Seq,
    limit: limit::FlowLimit,
    /// Off: each flow matches its packet exactly.
    enable_megaflows: AtomicBool,
    enable_ufid: AtomicBool,
    /// The datapath takes flows by their ids alone.
    supports_ufid: AtomicBool,
    rounds: Mutex<revalidator::Rounds>,
    /// Held by the thread that makes a round.
    in_round: Mutex<()>,
    round_done: Condvar,
    /// Changes with every round that somebody waited for.
    round_seq: Seq,
    wake: Seq,
    /// Threads that share a round with the one that makes it.
    crew: Arc<crew::Crew>,
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
}

impl Udpif {
    /// Starts to serve `dpif`: upcalls come here from now on.
    pub fn start(
        dpif: Arc<dyn Dpif>,
        snapshot: Arc<Snapshot<XlateSnapshot>>,
        settings: Arc<Settings>,
    ) -> Arc<Udpif> {
        let udpif = Arc::new(Udpif {
            dpif: dpif.clone(),
            snapshot,
            recircs: Arc::new(RecircTable::after(last_recirc_id(&*dpif))),
            settings,
            ukeys: Ukeys::default(),
            records: Records::default(),
            masks: masks::Masks::default(),
            reval_seq: Seq::new(),
            limit: limit::FlowLimit::default(),
            enable_megaflows: AtomicBool::new(true),
            enable_ufid: AtomicBool::new(true),
            supports_ufid: AtomicBool::new(true),
            rounds: Mutex::default(),
            in_round: Mutex::default(),
            round_done: Condvar::new(),
            round_seq: Seq::new(),
            wake: Seq::new(),
            crew: Arc::default(),
            threads: Mutex::default(),
        });
        dpif.set_upcall_handler(Some(udpif.clone()));
        udpif.set_revalidators(udpif.settings.n_revalidators.load(Relaxed));
        udpif
    }

    /// Stops the threads; installed flows stay.
    pub fn stop(&self) {
        self.dpif.set_upcall_handler(None);
        revalidator::stop(self);
        // What flows remember of bridges would otherwise keep those, and their devices, for ever.
        self.ukeys.clear();
        self.snapshot.publish(XlateSnapshot::default());
    }

    /// Says that tables, ports or anything else that flows were translated from has changed.
    pub fn changed(&self) {
        self.reval_seq.change();
    }

    /// The same, counted as what has changed.
    pub fn changed_by(&self, event: &coverage::Event) {
        event.inc();
        self.changed();
    }

    /// Installed flows that this switch knows.
    pub fn n_flows(&self) -> usize {
        self.ukeys.len()
    }

    /// Runs the actions of a packet-out (or of a trace with a packet) on `packet`; `flow` has the OpenFlow
    /// port that the packet is said to come from. Fails if the actions lead nowhere: the packet is dropped then.
    pub fn packet_out(
        &self,
        bridge: &Arc<XBridge>,
        packet: Packet,
        flow: &Flow,
        actions: &[ferrovs_openflow::action::Action],
    ) -> Result<(), DropReason> {
        let (result, mut requests) = self.execute(bridge, packet, flow, actions);
        self.ask(&mut requests);
        result
    }

    /// The same, but for what the translation wants sent besides.
    fn execute(
        &self,
        bridge: &Arc<XBridge>,
        packet: Packet,
        flow: &Flow,
        actions: &[ferrovs_openflow::action::Action],
    ) -> (Result<(), DropReason>, Vec<Request>) {
        let snapshot = self.snapshot.load_full();
        let count = PacketCount::one(&packet, 0);
        let out = translate(XlateIn {
            snapshot: &snapshot,
            recircs: &self.recircs,
            bridge,
            flow,
            packet: Some(&packet),
            start: Start::Actions(actions),
            version: None,
            side_effects: true,
            count: Some(count),
            xcache: None,
            trace: None,
            now: clock::now(),
        });
        if out.learned {
            self.changed_by(&coverage::REV_MAC_LEARNING);
        }
        if out.error != DropReason::Ok {
            return (Err(out.error), out.requests);
        }
        self.ukeys.hold(&out.recircs);
        // A datapath that cannot take the packet has dropped and counted it.
        let _ = self.dpif.execute(Execute {
            packet,
            flow: key_of(bridge, flow),
            actions: out.actions.into(),
            mtu: 0,
            needs_help: out.slow.contains(SlowPath::ACTION),
        });
        (Ok(()), out.requests)
    }

    /// Translates a packet-out with the bridge's tables as they are in `version`, which the caller's change has not
    /// published yet. Nothing happens before [`Udpif::send`]. Fails as [`Udpif::packet_out`] would.
    pub fn prepare(
        &self,
        bridge: &Arc<XBridge>,
        packet: Packet,
        flow: &Flow,
        actions: &[ferrovs_openflow::action::Action],
        version: Option<u64>,
    ) -> Result<Translated, DropReason> {
        let snapshot = self.snapshot.load_full();
        let mut credits = Draft::default();
        let out = translate(XlateIn {
            snapshot: &snapshot,
            recircs: &self.recircs,
            bridge,
            flow,
            packet: Some(&packet),
            start: Start::Actions(actions),
            version,
            side_effects: false,
            count: None,
            xcache: Some(&mut credits),
            trace: None,
            now: clock::now(),
        });
        if out.error != DropReason::Ok {
            return Err(out.error);
        }
        Ok(Translated {
            packet,
            flow: key_of(bridge, flow),
            out,
            credits: credits.record,
        })
    }

    /// Sends what was prepared, and does what goes with it.
    pub fn send(&self, mut t: Translated) {
        let count = PacketCount::one(&t.packet, t.flow.tcp_flags.get());
        t.credits.push(count, clock::now());
        // An address may have been learned from it.
        if t.out.learned {
            coverage::REV_MAC_LEARNING.inc();
        }
        self.changed();
        self.ask(&mut t.out.requests);
        self.ukeys.hold(&t.out.recircs);
        // A datapath that cannot take the packet has dropped and counted it.
        let _ = self.dpif.execute(Execute {
            packet: t.packet,
            flow: t.flow,
            actions: t.out.actions.into(),
            mtu: 0,
            needs_help: t.out.slow.contains(SlowPath::ACTION),
        });
    }

    /// Where traces tell of this datapath's packets.
    pub fn scene<'a>(
        &'a self,
        bridge: &'a Arc<XBridge>,
        packet: Option<&'a Packet>,
        names: bool,
    ) -> Scene<'a> {
        Scene {
            snapshot: &self.snapshot,
            recircs: &self.recircs,
            dpif: &*self.dpif,
            bridge,
            packet,
            names,
        }
    }

    /// Where a packet with this datapath key is to be translated, and the key with its OpenFlow port.
    fn origin<'s>(&self, snapshot: &'s XlateSnapshot, dp_flow: &Flow) -> Option<Origin<'s>> {
        let (bridge, in_port, recirc) = match dp_flow.recirc_id {
            0 => {
                let (bridge, port) = snapshot.receive(dp_flow)?;
                (bridge, port.0.into(), None)
            }
            id => {
                let recirc = self.recircs.find(id)?;
                let bridge = snapshot.bridges.get(&recirc.state.bridge)?;
                (bridge, recirc.state.metadata.in_port, Some(recirc))
            }
        };
        Some(Origin {
            bridge,
            flow: Flow {
                in_port,
                ..*dp_flow
            },
            recirc,
        })
    }

    fn translate(
        &self,
        snapshot: &XlateSnapshot,
        origin: &Origin<'_>,
        packet: Option<&Packet>,
        count: Option<PacketCount>,
        xcache: Option<&mut Draft>,
    ) -> XlateOut {
        translate(XlateIn {
            snapshot,
            recircs: &self.recircs,
            bridge: origin.bridge,
            flow: &origin.flow,
            packet,
            start: origin.start(),
            version: None,
            side_effects: packet.is_some(),
            count,
            xcache,
            trace: None,
            now: clock::now(),
        })
    }

    /// What a translation asked for besides its actions.
    fn after(&self, requests: &mut Vec<Request>, learned: bool) {
        if learned {
            self.changed_by(&coverage::REV_MAC_LEARNING);
        }
        self.ask(requests);
    }

    /// Sends what translations want sent; what that wants sent in turn must wait for another packet.
    pub fn ask(&self, requests: &mut Vec<Request>) {
        if requests.is_empty() {
            return;
        }
        let snapshot = self.snapshot.load_full();
        for request in requests.drain(..) {
            let Some(bridge) = snapshot.bridges.get(&request.bridge) else {
                continue;
            };
            let mut packet = request.packet;
            let mut flow = Flow::from_packet(&mut packet);
            flow.in_port = u32::from(request.in_port.0);
            let table = [ferrovs_openflow::action::Action::output(OfPort::TABLE)];
            // A question that cannot be sent is asked again by a later packet.
            _ = self.execute(bridge, packet, &flow, &table);
        }
    }

    fn miss(&self, upcall: &Upcall<'_>) -> Option<UpcallReply> {
        let seq = self.reval_seq.read();
        let snapshot = self.snapshot.load_full();
        // A port that no bridge has yet, or no more: a flow would drop what comes when it has one.
        let origin = self.origin(&snapshot, upcall.flow)?;
        let mut draft = self.records.begin(&origin.flow);
        let count = PacketCount::one(upcall.packet, 0);
        let mut out = self.translate(
            &snapshot,
            &origin,
            Some(upcall.packet),
            Some(count),
            Some(&mut draft),
        );
        self.tell_failure(&origin, out.error);
        self.after(&mut out.requests, out.learned);
        if !self.enable_megaflows.load(Relaxed) {
            out.wc.fold(&FlowWildcards::for_packet(upcall.flow));
        }
        upcall::complete(&mut out.wc);
        let record = self.records.end(draft, &origin.flow);
        let actions = record.share_actions(out.actions);
        let flow_actions = (!out.slow.is_none()).then(|| slow_path_actions(&out.slow, &origin));
        let translation = Translation {
            actions: flow_actions.clone().unwrap_or_else(|| actions.clone()),
            xcache: Some(record),
            recircs: out.recircs,
            reval_seq: seq,
        };
        let install = match out.avoid_caching {
            false => self.register(upcall, &out.wc, translation),
            true => {
                self.ukeys.hold(&translation.recircs);
                None
            }
        };
        Some(UpcallReply {
            actions,
            flow_actions,
            install,
        })
    }

    /// Logs the whole way of a packet that the tables send in circles, once a minute at most.
    fn tell_failure(&self, origin: &Origin<'_>, error: DropReason) {
        if !matches!(
            error,
            DropReason::RecursionTooDeep | DropReason::TooManyResubmits
        ) {
            return;
        }
        static RL: RateLimit = RateLimit::new(1, 1);
        vlog::warn_rl!(
            RL,
            vlog::modules::OFPROTO_DPIF_UPCALL,
            "{}",
            tell(
                &self.scene(origin.bridge, None, false),
                &origin.flow,
                origin.start()
            )
            .0
        );
    }

    /// Remembers a flow that the datapath shall install; none if it shall not, because there are too many, or because
    /// another wish for the same flow is not settled.
    fn register(
        &self,
        upcall: &Upcall<'_>,
        wc: &FlowWildcards,
        translation: Translation,
    ) -> Option<Install> {
        let most = self.settings.flow_limit.load(Relaxed);
        if self.ukeys.len() >= self.limit.get().min(most) {
            coverage::UPCALL_FLOW_LIMIT_HIT.inc();
            self.ukeys.hold(&translation.recircs);
            return None;
        }
        let key = Miniflow::new(upcall.flow);
        let shared = self.masks.pack(wc, kind_of(upcall.flow));
        let ufid = upcall
            .ufid
            .unwrap_or_else(|| ukey::ufid_of(&key, wc, shared.hash));
        let mask = shared.mask;
        let match_ = Arc::new(PackedMatch { key, mask });
        let key = Arc::new(Ukey::new(ufid, upcall.pmd, match_.clone(), translation));
        if !self.ukeys.insert(key.clone()) {
            coverage::HANDLER_DUPLICATE_UPCALL.inc();
            self.ukeys.hold(&key.state().recircs);
            return None;
        }
        Some(Install {
            ufid,
            match_,
            ticket: key.ticket,
        })
    }

    fn slow_path(&self, upcall: &Upcall<'_>) -> Option<UpcallReply> {
        let snapshot = self.snapshot.load_full();
        let origin = self.origin(&snapshot, upcall.flow)?;
        let mut out = self.translate(&snapshot, &origin, Some(upcall.packet), None, None);
        self.tell_failure(&origin, out.error);
        self.after(&mut out.requests, out.learned);
        self.ukeys.hold(&out.recircs);
        Some(reply_once(out.actions))
    }

    fn to_controller(&self, upcall: &Upcall<'_>, cookie: &Cookie) -> Option<UpcallReply> {
        let Cookie::Controller {
            dont_send,
            reason,
            recirc_id,
            rule_cookie,
            controller_id,
            max_len,
            ..
        } = cookie
        else {
            return None;
        };
        let recirc = self.recircs.find(*recirc_id)?;
        let miss = *reason == PacketInReason::ImplicitMiss as u8;
        let snapshot = self.snapshot.load();
        let bridge = snapshot.bridges.get(&recirc.state.bridge)?;
        let mut flow = *upcall.flow;
        recirc.state.metadata.restore(&mut flow);
        if !recirc.state.conntracked {
            clear_conntrack(&mut flow);
        }
        if !dont_send {
            bridge.packet_ins.send(AsyncPacketIn {
                data: upcall.packet.data().to_vec(),
                flow: Box::new(flow),
                reason: if miss {
                    PacketInReason::NoMatch as u8
                } else {
                    *reason
                },
                table_id: recirc.state.table_id,
                cookie: *rule_cookie,
                controller_id: *controller_id,
                max_len: *max_len,
                userdata: recirc.state.userdata.clone(),
                miss,
                now: clock::now(),
            });
        }
        Some(reply_once(Vec::new()))
    }

    /// Waits until every flow has been looked at, with its packets credited, after all that was changed before.
    pub fn barrier(self: &Arc<Self>) {
        if let Some(round) = self.ask_for_round() {
            round.wait_for();
        }
    }

    /// Asks for a round that looks at every flow after all that was changed before; none if it has been made
    /// already, or if nobody makes rounds now.
    pub fn ask_for_round(self: &Arc<Self>) -> Option<Round> {
        let mut rounds = self.rounds();
        if rounds.stopped || rounds.rest() {
            return None;
        }
        if self.n_flows() <= revalidator::FEW_FLOWS {
            drop(rounds);
            self.dpif.quiesce();
            revalidator::round(self);
            return None;
        }
        rounds.wanted = rounds.started + 1;
        let number = rounds.wanted;
        self.wake.change();
        Some(Round {
            udpif: self.clone(),
            number,
        })
    }

    fn rounds(&self) -> MutexGuard<'_, revalidator::Rounds> {
        self.rounds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops looking at flows, for tests, or goes on with it.
    pub fn set_paused(&self, paused: bool) {
        revalidator::set_rest(self, |rounds| rounds.paused = paused);
    }

    /// While tables are restored, packets that no flow matches are dropped, and no flow is held to tables that are not
    /// complete.
    pub fn set_held(&self, held: bool) {
        self.dpif.recv_enable(!held);
        revalidator::set_rest(self, |rounds| rounds.held = held);
    }

    /// Removes all flows and waits until they are gone.
    pub fn purge(self: &Arc<Self>) {
        self.barrier();
        revalidator::purge(self);
    }
}

/// A round that somebody waits for.
#[derive(Clone)]
pub struct Round {
    udpif: Arc<Udpif>,
    number: u64,
}

impl Round {
    /// Whether it has ended, or will never.
    pub fn is_over(&self) -> bool {
        self.udpif.rounds().has_ended(self.number)
    }

    /// Ends a sleep when the round may be over.
    pub fn wait(&self, poller: &mut Poller) {
        let seen = self.udpif.round_seq.read();
        if self.is_over() {
            poller.wake_now();
        } else {
            poller.wait_seq(&self.udpif.round_seq, seen);
        }
    }

    fn wait_for(&self) {
        let mut rounds = self.udpif.rounds();
        while !rounds.has_ended(self.number) {
            let wait = self.udpif.round_done.wait(rounds);
            rounds = wait.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The greatest number that a flow of an earlier process takes a packet on with: no new state may have one of these.
fn last_recirc_id(dpif: &dyn Dpif) -> u32 {
    fn given(actions: &[Action]) -> u32 {
        let given = actions.iter().map(|action| match action {
            Action::Recirc(id) => *id,
            Action::Clone(inner) => given(inner),
            Action::Sample { actions, .. } => given(actions),
            Action::CheckPktLen {
                greater,
                less_equal,
                ..
            } => given(greater).max(given(less_equal)),
            Action::Userspace(Userspace {
                cookie: Cookie::Controller { recirc_id, .. },
                ..
            }) => *recirc_id,
            _ => 0,
        });
        given.max().unwrap_or(0)
    }
    let want = DumpWant {
        key: true,
        actions: true,
        ..DumpWant::STATS
    };
    let mut last = 0;
    dpif.dump(Shard::WHOLE, want, &mut |flow| {
        last = last.max(flow.key().recirc_id).max(given(&flow.actions()));
    });
    last
}

struct Origin<'s> {
    bridge: &'s Arc<XBridge>,
    flow: Flow,
    recirc: Option<Arc<Recirc>>,
}

impl Origin<'_> {
    fn start(&self) -> Start<'_> {
        self.recirc.as_deref().map_or(Start::Tables, Start::Frozen)
    }
}

/// A packet-out that was translated.
pub struct Translated {
    packet: Packet,
    /// Its datapath key.
    flow: Box<Flow>,
    out: XlateOut,
    credits: XCache,
}

/// A key with the datapath's number for the port that it has OpenFlow's of.
fn key_of(bridge: &XBridge, flow: &Flow) -> Box<Flow> {
    let in_port = bridge.ports.get(&OfPort(flow.in_port as u16));
    Box::new(Flow {
        in_port: in_port.map_or(DpPort::NONE, |p| p.dp_port).0,
        ..*flow
    })
}

fn reply_once(actions: Vec<Action>) -> UpcallReply {
    UpcallReply {
        actions: actions.into(),
        flow_actions: None,
        install: None,
    }
}

fn slow_path_actions(reason: &SlowPath, origin: &Origin<'_>) -> Arc<[Action]> {
    Arc::new([Action::Userspace(Userspace {
        pid: 0,
        cookie: Cookie::SlowPath {
            reason: *reason,
            ofp_in_port: origin.flow.in_port as u16,
            ofproto: origin.bridge.id,
        },
        with_actions: false,
        tunnel_out_port: None,
    })])
}

impl UpcallHandler for Udpif {
    fn upcall(&self, upcall: Upcall<'_>) -> Option<UpcallReply> {
        match &upcall.kind {
            UpcallKind::Miss => self.miss(&upcall),
            UpcallKind::Action { userspace, .. } => match &userspace.cookie {
                Cookie::SlowPath { .. } => self.slow_path(&upcall),
                cookie @ Cookie::Controller { .. } => self.to_controller(&upcall, cookie),
                Cookie::Sflow { .. }
                | Cookie::FlowSample { .. }
                | Cookie::Ipfix { .. }
                | Cookie::Raw(_) => None,
            },
        }
    }

    fn installed(&self, install: Install, pmd: PmdId, installed: bool) {
        self.ukeys
            .settle(install.ufid, pmd, install.ticket, installed);
    }
}
