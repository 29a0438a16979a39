//! The switch of one bridge, as OpenFlow sees it: its ports, the bundles of ports that the NORMAL switch knows, its
//! tables, groups and meters. It knows no connection: what there is to tell controllers is kept until somebody
//! [takes it](Ofproto::take_events).
//!
//! Everything here lives on the main thread. What translations on other threads need is published as a
//! snapshot ([`crate::xlate::snapshot`]): whoever changes a port, a bundle, a mirror or a setting notes that
//! ([`Ofproto::port_changed`], [`dirty`](Ofproto::dirty)), and the set of bridges ([`crate::ofprotos`]) makes the
//! records of what changed and publishes one new snapshot. Tables, groups and the MAC table are shared and change in place.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use ferrovs_datapath::dpif::Detach;
use ferrovs_netdev::Changes;
use ferrovs_openflow::flow::FlowRemovedReason;
use ferrovs_openflow::port::{PortDesc, PortReason, PortStatus};
use ferrovs_openflow::switch::{DescStats, FragHandling};
use ferrovs_packet::field::TunTable;
use ferrovs_packet::types::{MacAddr, OfPort};
use ferrovs_protocols::lldp::Identity;
use ferrovs_protocols::mac_learning::MacTable;
use ferrovs_runtime::{Poller, coverage};
use ferrovs_sync::Waker;

use crate::backer::Backer;
use crate::meters::{Meter, Meters};
use crate::tables::{ChangeHook, Criteria, Requester, TBL_INTERNAL, Tables};
use crate::time::to_ms;
use crate::udpif::Round;
use crate::xlate::snapshot::{BridgeId, BundleId, VlanSet, XMirror};

pub mod bundle;
mod events;
mod lldp;
mod mtu;
mod own_rules;
pub mod port;
mod publish;

pub use bundle::{Bundle, BundleSettings, MirrorSettings};
pub use events::{Events, PacketInQueue, PortEvent};
pub use port::{Port, PortError};

use mtu::Mtus;
pub(crate) use publish::Records;

/// Ordinary port numbers are below this.
pub const MAX_PORTS: u16 = OfPort::MAX.0;
/// How often timeouts of flows are looked at.
const EXPIRE_INTERVAL: Duration = Duration::from_millis(500);

/// Remembers that flows changed, and has the main thread tell the revalidators: once for many changes.
#[derive(Debug)]
struct Stale {
    flag: AtomicBool,
    waker: Arc<Waker>,
    /// The main thread, which need not be woken: it looks before it sleeps.
    owner: ThreadId,
}

impl ChangeHook for Arc<Stale> {
    fn flows_changed(&self) {
        if !self.flag.swap(true, Relaxed) && thread::current().id() != self.owner {
            self.waker.wake();
        }
    }
}

/// See the module's text.
pub struct Ofproto {
    pub name: String,
    pub id: BridgeId,
    pub backer: Arc<Backer>,
    pub datapath_id: u64,
    pub desc: DescStats,
    pub tables: Arc<Tables>,
    pub meters: Meters,
    /// Meters of the datapath by OpenFlow meter, for translations.
    pub(crate) meter_map: Arc<papaya::HashMap<u32, u32>>,
    pub macs: Arc<RwLock<MacTable>>,
    /// Tunnel options by `tun_metadata` field.
    pub tun_table: Arc<TunTable>,
    packet_ins: Arc<PacketInQueue>,
    pub frag: FragHandling,
    pub forward_bpdu: bool,
    pub flood_vlans: Option<Arc<VlanSet>>,
    pub ports: BTreeMap<OfPort, Port>,
    pub(crate) port_names: HashMap<String, OfPort>,
    /// The number that was given last to a port that asked for none.
    last_port: u16,
    /// [`ferrovs_netdev::change_seq`] as the ports were last looked at.
    devices_seq: u64,
    devices: Changes,
    /// Ports that came since.
    new_ports: Vec<OfPort>,
    mtus: Mtus,
    /// When numbers that are free again were given back.
    port_freed: HashMap<OfPort, Instant>,
    pub bundles: BTreeMap<BundleId, Bundle>,
    bundle_names: HashMap<String, BundleId>,
    next_bundle: BundleId,
    pub mirrors: Vec<Arc<XMirror>>,
    /// What translations see of ports and bundles.
    pub(crate) records: Records,
    /// What the bridge says about itself to neighbours.
    lldp_identity: Identity,
    /// Whether what translations see must be published anew.
    pub dirty: bool,
    /// It is dirty because ports came up or went down, and for nothing else.
    pub(crate) toggled: bool,
    /// What is to be told of ports.
    port_events: Vec<PortEvent>,
    /// Revalidation has reached this change of the tables.
    barrier_at: u64,
    /// The round that it asked for.
    barrier_round: Option<Round>,
    stale: Arc<Stale>,
    next_expire: Option<Instant>,
}

impl Ofproto {
    /// A bridge without ports.
    pub fn new(
        name: &str,
        id: BridgeId,
        backer: Arc<Backer>,
        waker: &Arc<Waker>,
        now: Instant,
    ) -> Ofproto {
        let stale = Arc::new(Stale {
            flag: AtomicBool::new(false),
            waker: waker.clone(),
            owner: thread::current().id(),
        });
        let tables = Arc::new(Tables::new(waker.clone(), Box::new(stale.clone())));
        let ofproto = Ofproto {
            name: name.to_string(),
            id,
            backer,
            datapath_id: 0,
            desc: DescStats {
                mfr_desc: "Nicira, Inc.".into(),
                hw_desc: "Open vSwitch".into(),
                sw_desc: ferrovs_runtime::version::VERSION.into(),
                serial_num: "None".into(),
                dp_desc: "None".into(),
            },
            tables,
            meters: Meters::default(),
            meter_map: Arc::default(),
            macs: Arc::default(),
            tun_table: Arc::default(),
            packet_ins: Arc::new(PacketInQueue::new(waker.clone())),
            frag: FragHandling::Normal,
            forward_bpdu: false,
            flood_vlans: None,
            ports: BTreeMap::new(),
            port_names: HashMap::new(),
            last_port: 0,
            devices_seq: 0,
            devices: Changes::new(),
            new_ports: Vec::new(),
            mtus: Mtus::default(),
            port_freed: HashMap::new(),
            bundles: BTreeMap::new(),
            bundle_names: HashMap::new(),
            next_bundle: 1,
            mirrors: Vec::new(),
            records: Records::default(),
            lldp_identity: lldp::default_identity(),
            dirty: true,
            toggled: false,
            port_events: Vec::new(),
            barrier_at: 0,
            barrier_round: None,
            stale,
            next_expire: None,
        };
        ofproto.add_internal_rules(now);
        ofproto
    }

    /// Removes every flow but the switch's own, with all groups and meters.
    pub(crate) fn remove_flows(&mut self, now: Instant) {
        let mut change = self.tables.change(Requester::default(), to_ms(now));
        let everything = Criteria {
            hidden: true,
            ..Criteria::all()
        };
        for rule in change.collect(&everything) {
            if rule.table_id != TBL_INTERNAL {
                change.remove(rule, FlowRemovedReason::Delete);
            }
        }
        for group in self.tables.groups().all() {
            change.remove_group(group.id);
        }
        change.commit();
        let meters: Vec<u32> = self.meters.by_id.keys().copied().collect();
        self.remove_meters(&meters);
    }

    /// Removes meters that no flow uses any more.
    pub(crate) fn remove_meters(&mut self, ids: &[u32]) {
        let by_id = &mut self.meters.by_id;
        let removed: Vec<Meter> = ids.iter().filter_map(|id| by_id.remove(id)).collect();
        for meter in &removed {
            self.meter_map.pin().remove(&meter.config.meter_id);
        }
        self.backer.udpif.changed();
        for meter in removed {
            // The datapath may have lost it already.
            let _ = self.backer.dpif.meters().map(|m| m.delete(meter.dp_id));
            self.backer.free_meter_id(meter.dp_id);
        }
    }

    /// Configures a table as the database has it; flows beyond a new limit go.
    pub fn configure_table(&self, table_id: u8, config: crate::tables::TableConfig, now: Instant) {
        let Some(table) = self.tables.table(table_id) else {
            return;
        };
        if *table.config() == config {
            return;
        }
        table.set_config(config);
        self.tables.evict_excess(table_id, to_ms(now));
        // Other prefixes make other flows.
        self.backer.udpif.changed();
    }

    pub fn set_forward_bpdu(&mut self, forward: bool) {
        self.dirty |= self.forward_bpdu != forward;
        self.forward_bpdu = forward;
    }

    pub fn set_flood_vlans(&mut self, vlans: Option<VlanSet>) {
        if self.flood_vlans.as_deref() != vlans.as_ref() {
            self.macs().flush();
            self.flood_vlans = vlans.map(Arc::new);
            self.dirty = true;
        }
    }

    pub fn set_mac_table_config(&mut self, idle_time_s: u64, max_entries: usize) {
        let mut macs = self.macs();
        macs.set_aging(Duration::from_secs(idle_time_s));
        macs.set_max_entries(max_entries);
    }

    /// The MAC table, which no translation looks at meanwhile.
    pub fn macs(&self) -> RwLockWriteGuard<'_, MacTable> {
        self.macs.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// When addresses age out next.
    fn macs_deadline(&self) -> Option<Instant> {
        let macs = self.macs.read().unwrap_or_else(PoisonError::into_inner);
        macs.deadline()
    }

    /// The round after which the datapath agrees with every change of flows made so far; none if it does already.
    pub fn barrier(&mut self) -> Option<Round> {
        let at = self.tables.change_seq();
        if self.barrier_at != at {
            self.barrier_at = at;
            self.revalidate();
            // Without flows there is nothing that could disagree: packets that miss see the tables themselves.
            let any = self.backer.udpif.n_flows() > 0;
            self.barrier_round = any.then(|| self.backer.udpif.ask_for_round()).flatten();
        }
        self.barrier_round.take_if(|round| round.is_over());
        self.barrier_round.clone()
    }

    /// Lets installed flows be checked if the tables changed.
    pub fn revalidate(&self) {
        if self.stale.flag.swap(false, Relaxed) {
            self.backer.udpif.changed_by(&coverage::REV_FLOW_TABLE);
        }
    }

    /// Does what is due, but for [`revalidate`](Ofproto::revalidate): connections may change more before.
    pub fn run(&mut self, now: Instant) {
        self.run_ports();
        self.update_mtus();
        let is_due = self.macs_deadline().is_some_and(|at| at <= now);
        let expired = is_due.then(|| {
            let mut macs = self.macs();
            let before = macs.stats.expired;
            macs.tick(now).then(|| macs.stats.expired - before)
        });
        if let Some(n) = expired.flatten() {
            coverage::MAC_LEARNING_EXPIRED.add(n);
            self.backer.udpif.changed_by(&coverage::REV_MAC_LEARNING);
        }
        if self.next_expire.is_none_or(|at| now >= at) {
            self.expire(now);
            self.tables.collect_garbage();
            self.next_expire = Some(now + EXPIRE_INTERVAL);
        }
    }

    /// Removes flows whose time is over.
    pub(crate) fn expire(&mut self, now: Instant) {
        let now_ms = to_ms(now);
        let mut change = None;
        for (rule, reason) in self.tables.over(now_ms) {
            let change =
                change.get_or_insert_with(|| self.tables.change(Requester::default(), now_ms));
            change.remove(rule, reason);
            change.tell_apart();
        }
        if let Some(change) = change {
            change.commit();
        }
    }

    pub fn wait(&self, poller: &mut Poller) {
        if self.stale.flag.load(Relaxed) {
            poller.wake_now();
        }
        if let Some(at) = self.macs_deadline() {
            poller.wait_until(at);
        }
        if self.tables.needs_attention()
            && let Some(at) = self.next_expire
        {
            poller.wait_until(at);
        }
    }

    /// The address of the local port.
    pub fn local_mac(&self) -> Option<MacAddr> {
        self.ports.get(&OfPort::LOCAL).map(|p| p.desc.hw_addr)
    }

    /// Rules, for `memory/show`.
    pub fn n_rules(&self) -> usize {
        self.tables.n_rules()
    }

    /// Ends the switch: its ports leave the datapath, or stay there for the process that follows.
    pub fn destroy(&mut self, detach: Detach) {
        let ports: Vec<OfPort> = self.ports.keys().copied().collect();
        for port in ports {
            // The device may be gone already.
            let _ = self.let_go(port, detach);
        }
    }

    /// Tells controllers that a port came, or changed from `old`.
    pub(crate) fn notice_port(&mut self, reason: PortReason, port: OfPort, old: Option<PortDesc>) {
        if let Some(p) = self.ports.get(&port) {
            let status = PortStatus {
                reason,
                desc: p.desc.clone(),
            };
            self.port_events.push(PortEvent { status, old });
        }
    }
}
