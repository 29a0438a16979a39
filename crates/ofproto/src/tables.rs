//! The OpenFlow tables of one bridge: 255 of them, versioned, read by any thread without waiting for a writer.
//!
//! A translation pins the current version ([`Tables::pin`]) and looks up in that version only, so that it sees
//! each change entirely or not at all. A change ([`Change`]) is made in the next version and becomes visible by
//! publishing it; a bundle is simply a change of several flow mods, and giving a change up leaves no trace.
//! A rule that was removed stays linked until no reader looks at a version in which it was visible.
//!
//! There is one writer at a time (a lock that readers never take): the main thread for flow mods, and whichever
//! thread translates a packet that meets `learn` or `fin_timeout`, which does not [wait](queue) if another is at it. What a change did is told to the main thread
//! by [`TableEvent`]s, from which flow-removed messages and flow monitor updates are made.

use std::collections::{BTreeMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use ferrovs_openflow::Action;
use ferrovs_openflow::flow::FlowRemovedReason;
pub use ferrovs_openflow::switch::TableMiss as MissConfig;
use ferrovs_packet::field::{FieldId, SubField, TunTable};
use ferrovs_packet::flow::{Flow, FlowWildcards, Match};
use ferrovs_sync::{Counter, VersionGuard, Versions, Waker};
use hashbrown::HashMap;

use crate::groups::{Group, GroupTable};
use crate::rule::{Rule, RuleActions, RuleMask, RuleMatch};

mod change;
mod clear;
mod cls;
mod evict;
mod expiry;
mod links;
mod queue;
mod reaper;

use clear::ClearedTable;
use links::Links;

pub use change::{Change, Criteria, Requester, may_add};

/// Number of tables.
pub const N_TABLES: usize = 255;
/// The table of the switch's own rules, invisible to OpenFlow.
pub const TBL_INTERNAL: u8 = 254;
/// Tables that OpenFlow can see.
pub const N_VISIBLE_TABLES: u8 = 254;

/// One table.
#[derive(Debug)]
pub struct Table {
    index: cls::Index,
    n_rules: AtomicU32,
    miss: AtomicU8,
    pub n_missed: Counter,
    pub n_matched: Counter,
    config: ArcSwap<TableConfig>,
}

/// What the database and table mods say about a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableConfig {
    pub name: Option<String>,
    /// Whether controllers or the database gave the name; the first wins over the second.
    pub name_from_controller: bool,
    pub max_flows: Option<u32>,
    pub evict: bool,
    /// Flows that are equal in these form a group: the largest group loses a flow first.
    pub eviction_groups: Vec<SubField>,
    /// Fields with a prefix trie; none for the default.
    pub prefixes: Option<Vec<FieldId>>,
    /// Limits between which table-status messages tell of vacancy, in percent.
    pub vacancy: Option<(u8, u8)>,
}

/// Fields with a prefix trie unless the table says otherwise.
const DEFAULT_PREFIXES: [FieldId; 4] = [
    FieldId::IpDst,
    FieldId::IpSrc,
    FieldId::Ipv6Dst,
    FieldId::Ipv6Src,
];

impl TableConfig {
    fn prefix_fields(&self) -> &[FieldId] {
        self.prefixes.as_deref().unwrap_or(&DEFAULT_PREFIXES)
    }
}

impl Table {
    fn new() -> Table {
        let index = cls::Index::default();
        index.set_prefixes(&DEFAULT_PREFIXES);
        Table {
            index,
            n_rules: AtomicU32::new(0),
            miss: AtomicU8::new(0),
            n_missed: Counter::new(),
            n_matched: Counter::new(),
            config: ArcSwap::from_pointee(TableConfig::default()),
        }
    }

    pub(crate) fn index(&self) -> &cls::Index {
        &self.index
    }

    pub fn miss(&self) -> MissConfig {
        match self.miss.load(Relaxed) {
            1 => MissConfig::Controller,
            2 => MissConfig::Continue,
            3 => MissConfig::Drop,
            _ => MissConfig::Default,
        }
    }

    pub fn set_miss(&self, miss: MissConfig) {
        let n = match miss {
            MissConfig::Default => 0,
            MissConfig::Controller => 1,
            MissConfig::Continue => 2,
            MissConfig::Drop => 3,
        };
        self.miss.store(n, Relaxed);
    }

    pub fn config(&self) -> Arc<TableConfig> {
        self.config.load_full()
    }

    pub fn set_config(&self, config: TableConfig) {
        self.index.set_prefixes(config.prefix_fields());
        self.config.store(Arc::new(config));
    }

    /// Rules that are there now.
    pub fn n_rules(&self) -> u32 {
        self.n_rules.load(Relaxed)
    }
}

/// Something that happened to a rule.
#[derive(Clone, Debug)]
pub enum TableEvent {
    Added {
        rule: Arc<Rule>,
        requester: Requester,
    },
    Modified {
        rule: Arc<Rule>,
        old: Arc<Rule>,
        requester: Requester,
    },
    Removed {
        rule: Arc<Rule>,
        reason: FlowRemovedReason,
        requester: Requester,
    },
}

/// See the module's text.
#[derive(Debug)]
pub struct Tables {
    tables: Box<[Table]>,
    groups: GroupTable,
    versions: Versions,
    writer: Mutex<Writer>,
    queue: queue::Queue,
    n_rules: AtomicUsize,
    /// Flow monitors that are set: only with some are additions and modifications told.
    monitors: AtomicUsize,
    /// What happened, change by change.
    events: Mutex<VecDeque<Vec<TableEvent>>>,
    waker: Arc<Waker>,
    needs_attention: AtomicBool,
    /// Bumped by every change that was published.
    change_seq: AtomicU64,
    /// What every change does after it was published: wakes the revalidators.
    on_change: Box<dyn ChangeHook>,
}

/// Is told whenever flows have changed.
pub trait ChangeHook: Send + Sync + std::fmt::Debug {
    fn flows_changed(&self);
}

/// What only the writer needs.
#[derive(Debug, Default)]
struct Writer {
    /// Removed rules and the version in which they went, oldest first.
    garbage: VecDeque<(u64, Arc<Rule>)>,
    /// The same of tables that lost all rules at once.
    cleared: VecDeque<(u64, ClearedTable)>,
    /// The same of groups.
    old_groups: VecDeque<(u64, Arc<Group>)>,
    /// The bridge's, for groups of eviction.
    tun_table: Arc<TunTable>,
    /// The tables that have rules.
    links: BTreeMap<u8, Links>,
    /// The next number of a rule that [expires](expiry).
    next_expiry: u64,
    /// How many flows learn, with `delete_learned`, flows of this cookie and table.
    learners: HashMap<(u64, u8), usize>,
    /// Those of them that were the last, in the change under way.
    orphaned: Vec<(u64, u8)>,
    /// Action lists that were used lately, by hash: flows that do the same share one.
    recent_actions: Vec<Option<Arc<RuleActions>>>,
    /// The same of masks.
    recent_masks: Vec<Option<Arc<RuleMask>>>,
}

/// So many rules that are removed together are freed by [another thread](reaper).
const FREED_ASIDE: usize = 10_000;

/// Places for action lists that were used lately, and for masks.
const RECENT: usize = 256;

impl Writer {
    /// The shared form of an action list.
    fn share_actions(&mut self, actions: Vec<Action>) -> Arc<RuleActions> {
        self.recent_actions.resize(RECENT, None);
        let hash = foldhash::fast::FixedState::default().hash_one(&actions);
        let place = &mut self.recent_actions[hash as usize % RECENT];
        match place {
            Some(shared) if shared.actions == actions => shared.clone(),
            _ => place.insert(Arc::new(RuleActions::new(actions))).clone(),
        }
    }

    /// The packed form of a match, which shares its mask.
    fn pack(&mut self, m: &Match) -> RuleMatch {
        self.recent_masks.resize(RECENT, None);
        RuleMatch::sharing(m, |map, words| {
            let hash = foldhash::fast::FixedState::default().hash_one((map, words));
            match &mut self.recent_masks[hash as usize % RECENT] {
                Some(shared) if shared.is(map, words) => shared.clone(),
                place => place.insert(Arc::new(RuleMask::new(map, words))).clone(),
            }
        })
    }

    fn has_garbage(&self) -> bool {
        !self.garbage.is_empty() || !self.cleared.is_empty() || !self.old_groups.is_empty()
    }

    fn link(&mut self, rule: &Arc<Rule>) {
        let links = self.links.entry(rule.table_id).or_default();
        links.add(rule);
        links.expiry.watch(rule, &mut self.next_expiry);
        for learned in &rule.actions.deletes_learned {
            *self.learners.entry(*learned).or_default() += 1;
        }
    }

    /// False if the rule is in no table any more.
    fn unlink(&mut self, rule: &Arc<Rule>) -> bool {
        let Some(links) = self.links.get_mut(&rule.table_id) else {
            return false;
        };
        if !links.remove(rule) {
            return false;
        }
        if links.is_empty() {
            self.links.remove(&rule.table_id);
        }
        for learned in &rule.actions.deletes_learned {
            if let Some(n) = self.learners.get_mut(learned) {
                *n -= 1;
                if *n == 0 {
                    self.learners.remove(learned);
                    self.orphaned.push(*learned);
                }
            }
        }
        true
    }

    /// Looks after the timeouts of a rule that became shorter, unless it is in no table any more.
    fn watch(&mut self, rule: &Arc<Rule>) {
        if let Some(links) = self.links.get_mut(&rule.table_id)
            && links.has(rule)
        {
            links.expiry.watch(rule, &mut self.next_expiry);
        }
    }
}

impl Tables {
    /// `waker` is woken when events wait; `on_change` hears of every change.
    pub fn new(waker: Arc<Waker>, on_change: Box<dyn ChangeHook>) -> Tables {
        Tables {
            tables: (0..N_TABLES).map(|_| Table::new()).collect(),
            groups: GroupTable::default(),
            versions: Versions::default(),
            writer: Mutex::default(),
            queue: queue::Queue::default(),
            n_rules: AtomicUsize::new(0),
            monitors: AtomicUsize::new(0),
            events: Mutex::default(),
            waker,
            needs_attention: AtomicBool::new(false),
            change_seq: AtomicU64::new(1),
            on_change,
        }
    }

    pub fn table(&self, table_id: u8) -> Option<&Table> {
        self.tables.get(usize::from(table_id))
    }

    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    pub fn groups(&self) -> &GroupTable {
        &self.groups
    }

    /// The current version, kept readable while the guard lives.
    pub fn pin(&self) -> VersionGuard<'_> {
        self.versions.pin()
    }

    pub fn current_version(&self) -> u64 {
        self.versions.current()
    }

    pub fn versions(&self) -> &Versions {
        &self.versions
    }

    /// The rule of the highest priority that `flow` meets in `version`; the bits that decided are added to `wc`.
    /// The lookup is counted by [`Tables::credit_lookup`], once for each packet that it decides about.
    pub fn lookup(
        &self,
        table_id: u8,
        version: u64,
        flow: &Flow,
        wc: Option<&mut FlowWildcards>,
    ) -> Option<Arc<Rule>> {
        self.table(table_id)?.index.lookup(version, flow, wc)
    }

    /// Counts `n` packets that were looked up, and whether they met a rule.
    pub fn credit_lookup(&self, table_id: u8, n: u64, matched: bool) {
        if let Some(table) = self.table(table_id) {
            match matched {
                true => table.n_matched.add(n),
                false => table.n_missed.add(n),
            }
        }
    }

    /// What the table does with a packet that meets no rule.
    pub fn miss_config(&self, table_id: u8) -> MissConfig {
        self.table(table_id)
            .map_or(MissConfig::Default, Table::miss)
    }

    /// The rule with exactly this match and priority in `version`.
    pub fn find_exactly(
        &self,
        table_id: u8,
        m: &RuleMatch,
        priority: i32,
        version: u64,
    ) -> Option<Arc<Rule>> {
        self.table(table_id)?
            .index
            .find_exactly(m.view(), priority, version)
    }

    /// Rules in all tables.
    pub fn n_rules(&self) -> usize {
        self.n_rules.load(Relaxed)
    }

    /// Bumped by every change.
    pub fn change_seq(&self) -> u64 {
        self.change_seq.load(Relaxed)
    }

    /// Takes the events that wait: those of one change together.
    pub fn take_events(&self) -> VecDeque<Vec<TableEvent>> {
        std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn set_monitors(&self, n: usize) {
        self.monitors.store(n, Relaxed);
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Unlinks removed rules that no reader can see any more.
    pub fn collect_garbage(&self) {
        self.serve_queue();
        if self.needs_attention() {
            let mut writer = self.writer();
            self.collect(&mut writer);
            self.note_attention(&writer);
        }
    }

    fn collect(&self, writer: &mut Writer) {
        if !writer.has_garbage() {
            return;
        }
        let oldest = self.versions.oldest_pinned();
        while let Some((_, group)) = writer.old_groups.pop_front_if(|(v, _)| *v <= oldest) {
            self.groups.unlink(&group);
        }
        let mut n_freed = 0;
        let mut rests = Vec::new();
        let mut cleared = Vec::new();
        while let Some((_, table)) = writer.cleared.pop_front_if(|(v, _)| *v <= oldest) {
            n_freed += table.n_rules as usize;
            rests.extend(self.tables[usize::from(table.id)].index.forget(oldest));
            cleared.push(table);
        }
        let n = writer
            .garbage
            .partition_point(|(version, _)| *version <= oldest);
        n_freed += n;
        let mut gone: Vec<_> = writer.garbage.drain(..n).collect();
        // Rules of one table go together.
        gone.sort_by_key(|(_, rule)| rule.table_id);
        let (ended, rules): (Vec<_>, Vec<_>) = gone.into_iter().unzip();
        let mut done = 0;
        for rules in rules.chunk_by(|a, b| a.table_id == b.table_id) {
            let index = &self.tables[usize::from(rules[0].table_id)].index;
            rests.extend(index.remove_all(rules, ended[done]));
            done += rules.len();
        }
        if n_freed >= FREED_ASIDE {
            reaper::free((rests, cleared, rules));
        }
    }

    /// Whether some rule has a timeout, or is removed and waits for its last reader.
    pub fn needs_attention(&self) -> bool {
        self.needs_attention.load(Relaxed)
    }

    /// Notes whether the writer has left something to do.
    fn note_attention(&self, writer: &Writer) {
        let expires = writer.links.values().any(|links| !links.expiry.is_empty());
        let needed = expires || writer.has_garbage();
        self.needs_attention.store(needed, Relaxed);
    }

    /// How many rules name the group.
    pub fn n_rules_of_group(&self, group: u32) -> usize {
        let writer = self.writer();
        let tables = writer.links.values();
        tables.map(|links| links.of_group(group).len()).sum()
    }

    /// Rules whose time is over, and why, by the moment at which they were to be looked at.
    pub fn over(&self, now_ms: i64) -> Vec<(Arc<Rule>, FlowRemovedReason)> {
        if !self.needs_attention() {
            return Vec::new();
        }
        let mut over = Vec::new();
        for links in self.writer().links.values_mut() {
            over.extend(links.expiry.over(now_ms));
        }
        over.sort_unstable_by_key(|(place, ..)| *place);
        over.into_iter()
            .map(|(_, rule, reason)| (rule, reason))
            .collect()
    }
}
