//! One flow of an OpenFlow table.
//!
//! A rule is immutable but for its counters, timeouts and the versions in which it is visible: a modification
//! puts a new rule in the old one's place. Whoever still holds the old one (a datapath flow that was translated
//! through it) goes on crediting packets to it; they are handed on to the rule that took its place
//! ([`Rule::replaced_by`]), so that no packet is lost to the statistics.
//!
//! Rules are shared by reference count between the tables, translations in progress and the caches that
//! revalidators keep. A million of them is a normal number: members are few, and small.

use std::sync::atomic::{AtomicI64, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use ferrovs_classifier::Conjunction;
use ferrovs_openflow::action::{self, Action};
use ferrovs_openflow::flow::{FlowModFlags, FlowRemovedReason};
use ferrovs_packet::types::OfPort;

use crate::lifespan::Lifespan;

mod rule_match;

pub(crate) use rule_match::RuleMask;
pub use rule_match::RuleMatch;

/// Rules with a higher priority than this are the switch's own and hidden from controllers.
pub const MAX_PRIORITY: i32 = 65535;
/// Marks a position in no list.
const NO_SLOT: u32 = u32::MAX;
/// Flags of a flow mod that its rule keeps and shows.
pub(crate) const KEPT_FLAGS: FlowModFlags = FlowModFlags::STATE
    .union(FlowModFlags::CHECK_OVERLAP)
    .union(FlowModFlags::RESET_COUNTS);

/// What a rule does, with facts about it that lookups and flow mods ask for again and again.
#[derive(Debug)]
pub struct RuleActions {
    pub actions: Vec<Action>,
    /// Not empty: the rule only takes part in conjunctive matches.
    pub conjunctions: Vec<Conjunction>,
    pub has_meter: bool,
    /// Groups that output actions name, also of those to be written into the action set; each once.
    pub groups: Vec<u32>,
    /// Cookies and tables of flows that go when the last flow that learns them is gone (`delete_learned`).
    pub deletes_learned: Vec<(u64, u8)>,
}

impl RuleActions {
    pub fn new(actions: Vec<Action>) -> RuleActions {
        let mut facts = RuleActions {
            actions: Vec::new(),
            conjunctions: Vec::new(),
            has_meter: false,
            groups: Vec::new(),
            deletes_learned: Vec::new(),
        };
        facts.note(&actions);
        facts.actions = actions;
        facts
    }

    fn note(&mut self, actions: &[Action]) {
        for action in actions {
            match action {
                &Action::Conjunction {
                    id,
                    clause,
                    n_clauses,
                } => self.conjunctions.push(Conjunction {
                    id,
                    clause,
                    n_clauses,
                }),
                Action::Meter(_) => self.has_meter = true,
                Action::Group(id) if !self.groups.contains(id) => self.groups.push(*id),
                Action::Learn(learn) if learn.delete_learned => {
                    self.deletes_learned.push((learn.cookie, learn.table_id));
                }
                Action::WriteActions(nested) | Action::Clone(nested) => self.note(nested),
                _ => {}
            }
        }
    }

    /// Whether an output action names `port`.
    pub fn outputs_to_port(&self, port: OfPort) -> bool {
        action::outputs_to_port(&self.actions, port)
    }

    /// Whether an action, or one to be written into the action set, names `group`.
    pub fn outputs_to_group(&self, group: u32) -> bool {
        self.groups.contains(&group)
    }

    /// The meter of the rule, if it has one.
    pub fn meter(&self) -> Option<u32> {
        self.actions.iter().find_map(|a| match a {
            Action::Meter(id) => Some(*id),
            _ => None,
        })
    }
}

/// A flow in a table.
#[derive(Debug)]
pub struct Rule {
    pub table_id: u8,
    /// Over [`MAX_PRIORITY`] for hidden rules.
    pub priority: i32,
    pub match_: RuleMatch,
    pub actions: Arc<RuleActions>,
    pub cookie: u64,
    /// Those that a rule keeps.
    pub flags: FlowModFlags,
    pub importance: u16,
    /// When the flow came into being; a modification does not change it.
    pub created_ms: i64,
    modified_ms: AtomicI64,
    used_ms: AtomicI64,
    idle_timeout: AtomicU16,
    hard_timeout: AtomicU16,
    n_packets: AtomicU64,
    n_bytes: AtomicU64,
    pub lifespan: Lifespan,
    replaced_by: OnceLock<Arc<Rule>>,
    pub(crate) cls_note: AtomicU32,
    /// Position in a list of the tables' writer.
    pub(crate) cookie_slot: AtomicU32,
}

/// Everything that makes a rule, given by value.
#[derive(Debug)]
pub struct NewRule {
    pub table_id: u8,
    pub priority: i32,
    pub match_: RuleMatch,
    pub actions: Arc<RuleActions>,
    pub cookie: u64,
    pub flags: FlowModFlags,
    pub importance: u16,
    pub idle_timeout: u16,
    pub hard_timeout: u16,
    pub now_ms: i64,
}

/// Counters of a rule at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleStats {
    pub n_packets: u64,
    pub n_bytes: u64,
    pub used_ms: i64,
}

impl Rule {
    pub fn new(new: NewRule, version: u64) -> Rule {
        Rule {
            table_id: new.table_id,
            priority: new.priority,
            match_: new.match_,
            actions: new.actions,
            cookie: new.cookie,
            flags: new.flags & KEPT_FLAGS,
            importance: new.importance,
            created_ms: new.now_ms,
            modified_ms: AtomicI64::new(new.now_ms),
            used_ms: AtomicI64::new(new.now_ms),
            idle_timeout: AtomicU16::new(new.idle_timeout),
            hard_timeout: AtomicU16::new(new.hard_timeout),
            n_packets: AtomicU64::new(0),
            n_bytes: AtomicU64::new(0),
            lifespan: Lifespan::from(version),
            replaced_by: OnceLock::new(),
            cls_note: AtomicU32::new(0),
            cookie_slot: AtomicU32::new(NO_SLOT),
        }
    }

    pub fn is_hidden(&self) -> bool {
        self.priority > MAX_PRIORITY
    }

    /// Whether a reader of `version` sees the rule.
    pub fn visible_in(&self, version: u64) -> bool {
        self.lifespan.covers(version)
    }

    pub(crate) fn set_created_ms(&mut self, created_ms: i64) {
        self.created_ms = created_ms;
    }

    pub fn idle_timeout(&self) -> u16 {
        self.idle_timeout.load(Relaxed)
    }

    pub fn hard_timeout(&self) -> u16 {
        self.hard_timeout.load(Relaxed)
    }

    /// Whether the rule ends by itself. Once that is so it stays so.
    pub(crate) fn has_timeout(&self) -> bool {
        self.idle_timeout() != 0 || self.hard_timeout() != 0
    }

    /// When the rule is over unless packets come meanwhile; none without a timeout.
    pub(crate) fn ends_ms(&self) -> Option<i64> {
        self.ends().into_iter().filter_map(|(at, _)| at).min()
    }

    /// Why the rule is over, if it is.
    pub(crate) fn over_at(&self, now_ms: i64) -> Option<FlowRemovedReason> {
        let is_over = |(at, _): &(Option<i64>, _)| at.is_some_and(|at| now_ms >= at);
        self.ends()
            .into_iter()
            .find(is_over)
            .map(|(_, reason)| reason)
    }

    /// The end by each of the timeouts.
    fn ends(&self) -> [(Option<i64>, FlowRemovedReason); 2] {
        let end = |timeout: u16, since: i64| {
            (timeout != 0).then(|| since.saturating_add(i64::from(timeout) * 1000))
        };
        [
            (
                end(self.hard_timeout(), self.modified_ms()),
                FlowRemovedReason::HardTimeout,
            ),
            (
                end(self.idle_timeout(), self.used_ms.load(Relaxed)),
                FlowRemovedReason::IdleTimeout,
            ),
        ]
    }

    /// Lowers the timeouts, as `fin_timeout` does: 0 leaves one alone, and none ever grows. True if one was lowered.
    pub fn reduce_timeouts(&self, idle: u16, hard: u16) -> bool {
        let lower = |timeout: &AtomicU16, to: u16| {
            let now = timeout.load(Relaxed);
            let lower = to != 0 && (now == 0 || now > to);
            if lower {
                timeout.store(to, Relaxed);
            }
            lower
        };
        lower(&self.idle_timeout, idle) | lower(&self.hard_timeout, hard)
    }

    pub fn modified_ms(&self) -> i64 {
        self.modified_ms.load(Relaxed)
    }

    /// Restarts the hard timeout, unless a later event has done that.
    pub(crate) fn refresh(&self, now_ms: i64) {
        self.modified_ms.fetch_max(now_ms, Relaxed);
    }

    /// A change is no use: the rule counts as used when the one in whose place it comes was.
    pub(crate) fn inherit_use(&self, old: &Rule) {
        self.used_ms.store(old.used_ms.load(Relaxed), Relaxed);
    }

    pub fn cookie(&self) -> u64 {
        self.cookie
    }

    pub fn actions(&self) -> &Arc<RuleActions> {
        &self.actions
    }

    /// Counts packets that the rule handled, the last of them at `used_ms`.
    pub fn credit(&self, n_packets: u64, n_bytes: u64, used_ms: i64) {
        if let Some(mut last) = self.replaced_by() {
            // The chain is walked without recursion: a rule can be modified any number of times.
            while let Some(next) = last.replaced_by() {
                last = next;
            }
            return last.credit_here(n_packets, n_bytes, used_ms);
        }
        self.credit_here(n_packets, n_bytes, used_ms);
    }

    fn credit_here(&self, n_packets: u64, n_bytes: u64, used_ms: i64) {
        self.n_packets.fetch_add(n_packets, Relaxed);
        self.n_bytes.fetch_add(n_bytes, Relaxed);
        // Packets of one millisecond need not write it.
        if self.used_ms.load(Relaxed) < used_ms {
            self.used_ms.fetch_max(used_ms, Relaxed);
        }
    }

    pub fn stats(&self) -> RuleStats {
        RuleStats {
            n_packets: self.n_packets.load(Relaxed),
            n_bytes: self.n_bytes.load(Relaxed),
            used_ms: self.used_ms.load(Relaxed),
        }
    }

    /// Makes `next` inherit what this rule counts from now on, and (unless `reset`) what it has counted.
    pub(crate) fn forward_to(&self, next: &Arc<Rule>, reset: bool) {
        let _ = self.replaced_by.set(next.clone());
        if !reset {
            let stats = self.stats();
            next.credit_here(stats.n_packets, stats.n_bytes, stats.used_ms);
        }
    }

    /// The rule that took this one's place.
    pub fn replaced_by(&self) -> Option<&Arc<Rule>> {
        self.replaced_by.get()
    }
}

const _: () = assert!(size_of::<Rule>() <= 144);

impl Drop for Rule {
    /// Frees a long chain of successors without recursion.
    fn drop(&mut self) {
        let mut next = self.replaced_by.take();
        while let Some(rule) = next {
            match Arc::try_unwrap(rule) {
                Ok(mut rule) => next = rule.replaced_by.take(),
                Err(_) => return,
            }
        }
    }
}
