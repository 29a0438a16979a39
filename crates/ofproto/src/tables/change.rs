//! A change of the tables: one flow or group mod, or those of a bundle, in the next version.
//!
//! Nothing is visible to readers until [`Change::commit`]; a change that is dropped without it is undone. Within
//! the change later flow mods see what earlier ones did.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, MutexGuard, PoisonError};

use ferrovs_openflow::OfpErr;
use ferrovs_openflow::action::TABLE_ALL;
use ferrovs_openflow::flow::{
    FlowMod, FlowModCommand, FlowModFlags, FlowRemovedReason, FlowStatsRequest, GROUP_ANY,
};
use ferrovs_packet::field::TunTable;
use ferrovs_packet::types::OfPort;
use smallvec::SmallVec;

use super::clear::ClearedTable;
use super::{N_TABLES, N_VISIBLE_TABLES, TBL_INTERNAL, TableEvent, Tables, Writer};
use crate::groups::Group;
use crate::rule::{NewRule, Rule, RuleMatch};

/// On whose behalf a change is made: a connection and the transaction id of its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Requester(pub Option<(u64, u32)>);

/// Which rules a request means.
#[derive(Clone, Debug)]
pub struct Criteria {
    pub table_id: u8,
    pub match_: RuleMatch,
    /// Only the rule of this priority and with exactly this match.
    pub strict: Option<i32>,
    pub cookie: u64,
    pub cookie_mask: u64,
    pub out_port: OfPort,
    pub out_group: u32,
    /// Also the switch's own rules.
    pub hidden: bool,
}

impl Criteria {
    pub fn of_request(request: &FlowStatsRequest) -> Criteria {
        Criteria {
            table_id: request.table_id,
            match_: RuleMatch::new(&request.match_),
            strict: None,
            cookie: request.cookie,
            cookie_mask: request.cookie_mask,
            out_port: request.out_port,
            out_group: request.out_group,
            hidden: false,
        }
    }

    pub(crate) fn of_flow_mod(fm: &FlowMod) -> Criteria {
        let strict = matches!(
            fm.command,
            FlowModCommand::ModifyStrict | FlowModCommand::DeleteStrict
        );
        let deletes = fm.command.is_delete();
        Criteria {
            table_id: fm.table_id,
            match_: RuleMatch::new(&fm.match_),
            strict: strict.then_some(i32::from(fm.priority)),
            cookie: fm.cookie,
            cookie_mask: fm.cookie_mask,
            out_port: if deletes { fm.out_port } else { OfPort::NONE },
            out_group: if deletes { fm.out_group } else { GROUP_ANY },
            hidden: fm.flags.contains(FlowModFlags::HIDDEN_FIELDS),
        }
    }

    /// Every rule of every visible table.
    pub fn all() -> Criteria {
        Criteria::of_request(&FlowStatsRequest::default())
    }

    /// Whether every rule of the tables is meant, but for hidden ones.
    pub(super) fn is_everything(&self) -> bool {
        self.strict.is_none()
            && self.match_.is_catchall()
            && self.cookie_mask == 0
            && self.out_port == OfPort::NONE
            && self.out_group == GROUP_ANY
    }

    /// Whether the rule is meant as far as that is not a matter of its match.
    pub(super) fn accepts(&self, rule: &Rule) -> bool {
        (rule.cookie ^ self.cookie) & self.cookie_mask == 0
            && (self.hidden || !rule.is_hidden())
            && (self.out_port == OfPort::NONE || rule.actions.outputs_to_port(self.out_port))
            && (self.out_group == GROUP_ANY || rule.actions.outputs_to_group(self.out_group))
    }

    /// Whether the rules are found by their cookie.
    fn is_by_cookie(&self) -> bool {
        self.cookie_mask == u64::MAX && self.strict.is_none()
    }

    fn tables(&self) -> std::ops::Range<usize> {
        match self.table_id {
            TABLE_ALL if self.hidden => 0..N_TABLES,
            TABLE_ALL => 0..usize::from(N_VISIBLE_TABLES),
            id => usize::from(id)..usize::from(id) + 1,
        }
    }
}

const _: () = assert!(size_of::<Op>() <= 24);

enum Op {
    Added(Arc<Rule>),
    Replaced {
        old: Arc<Rule>,
        new: Arc<Rule>,
        reset_counts: bool,
        by_add: bool,
    },
    Removed {
        rule: Arc<Rule>,
        reason: FlowRemovedReason,
        /// Whether the change was asked to: else the rule went because others did.
        asked: bool,
    },
    Cleared(Box<ClearedTable>),
    GroupAdded(Arc<Group>),
    GroupRemoved(Arc<Group>),
}

/// Whether a modification adds the flow when it finds none: before OpenFlow 1.2, unless flows are chosen by cookie.
pub fn may_add(fm: &FlowMod) -> bool {
    !fm.command.is_delete() && fm.new_cookie != u64::MAX && fm.cookie_mask == 0
}

/// See the module's text.
pub struct Change<'a> {
    pub(super) tables: &'a Tables,
    pub(super) writer: MutexGuard<'a, Writer>,
    version: u64,
    ops: Vec<Op>,
    /// Numbers of operations after which those who are told of them make a break.
    breaks: Vec<usize>,
    requester: Requester,
    now_ms: i64,
    /// What others left meanwhile is done when the writer is free again: the last member, dropped last.
    then: Option<Then<'a>>,
}

/// Serves the queue when it is dropped.
struct Then<'a>(&'a Tables);

impl Drop for Then<'_> {
    fn drop(&mut self) {
        self.0.serve_queue();
    }
}

impl Tables {
    /// Begins a change; other writers wait until it ends.
    pub fn change(&self, requester: Requester, now_ms: i64) -> Change<'_> {
        let mut change = Change::begin(self, self.writer(), requester, now_ms);
        change.then = Some(Then(self));
        change
    }

    /// A change of one flow mod.
    pub fn flow_mod(&self, fm: FlowMod, requester: Requester, now_ms: i64) -> Result<(), OfpErr> {
        let mut change = self.change(requester, now_ms);
        change.flow_mod(fm)?;
        change.commit();
        Ok(())
    }

    /// Rules that meet `criteria` in the current version.
    pub fn collect_rules(&self, criteria: &Criteria) -> Vec<Arc<Rule>> {
        let mut found = Vec::new();
        if criteria.is_by_cookie() {
            let writer = self.writer();
            for id in criteria.tables() {
                collect_by_cookie(&writer, id, criteria, &mut found);
            }
        } else {
            let pin = self.pin();
            for id in criteria.tables() {
                self.collect_in(id, criteria, pin.version, &mut found);
            }
        }
        found
    }

    fn collect_in(&self, id: usize, criteria: &Criteria, version: u64, found: &mut Vec<Arc<Rule>>) {
        let Some(table) = self.tables.get(id).filter(|t| t.n_rules() > 0) else {
            return;
        };
        match criteria.strict {
            Some(priority) => {
                let rule = table
                    .index
                    .find_exactly(criteria.match_.view(), priority, version);
                found.extend(rule.filter(|r| criteria.accepts(r)));
            }
            None => {
                let target = criteria.match_.view();
                table.index.for_each_within(target, version, &mut |rule| {
                    if criteria.accepts(rule) {
                        found.push(rule.clone());
                    }
                });
            }
        }
    }
}

/// The rules that are in the table as the writer sees it.
fn collect_by_cookie(writer: &Writer, id: usize, criteria: &Criteria, found: &mut Vec<Arc<Rule>>) {
    let Some(links) = writer.links.get(&(id as u8)) else {
        return;
    };
    let list = links.with_cookie(criteria.cookie).iter();
    let meets = |r: &&Arc<Rule>| criteria.accepts(r) && r.match_.is_within(&criteria.match_);
    found.extend(list.filter(meets).cloned());
}

impl<'a> Change<'a> {
    /// A change with the writer's lock in hand, which leaves the queue alone.
    pub(super) fn begin(
        tables: &'a Tables,
        writer: MutexGuard<'a, Writer>,
        requester: Requester,
        now_ms: i64,
    ) -> Change<'a> {
        Change {
            tables,
            writer,
            version: tables.versions.current() + 1,
            ops: Vec::new(),
            breaks: Vec::new(),
            requester,
            now_ms,
            then: None,
        }
    }

    /// How many flows of the table have the cookie.
    pub(super) fn n_with_cookie(&self, table_id: u8, cookie: u64) -> usize {
        let links = self.writer.links.get(&table_id);
        links.map_or(0, |links| links.with_cookie(cookie).len())
    }

    /// Looks after the timeouts of a rule that became shorter.
    pub(super) fn watch(&mut self, rule: &Arc<Rule>) {
        self.writer.watch(rule);
        self.tables.note_attention(&self.writer);
    }

    /// The version in which the change will be visible.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Where rules have the options of tunnels.
    pub(super) fn tun_table(&self) -> &Arc<TunTable> {
        &self.writer.tun_table
    }

    /// Makes one flow mod. Its actions must have been checked against groups, meters and ports.
    pub fn flow_mod(&mut self, mut fm: FlowMod) -> Result<(), OfpErr> {
        let fm = &mut fm;
        if fm.table_id != TABLE_ALL && usize::from(fm.table_id) >= N_TABLES {
            return Err(OfpErr::OFPBRC_BAD_TABLE_ID);
        }
        match fm.command {
            FlowModCommand::Add => self.add(fm),
            FlowModCommand::Modify | FlowModCommand::ModifyStrict => {
                let rules = self.collect(&Criteria::of_flow_mod(fm));
                if rules.is_empty() {
                    return if may_add(fm) { self.add(fm) } else { Ok(()) };
                }
                self.check_writable(&rules, fm)?;
                self.modify(rules, fm)
            }
            FlowModCommand::Delete | FlowModCommand::DeleteStrict => {
                self.delete(&Criteria::of_flow_mod(fm), fm)
            }
        }
    }

    fn delete(&mut self, criteria: &Criteria, fm: &FlowMod) -> Result<(), OfpErr> {
        let mut rules = Vec::new();
        let mut emptied = Vec::new();
        for id in self.tables_in_use(criteria) {
            if self.may_clear(id, criteria) {
                emptied.push(id as u8);
            } else {
                self.collect_in(id, criteria, &mut rules);
            }
        }
        self.check_writable(&rules, fm)?;
        for rule in rules {
            self.remove(rule, FlowRemovedReason::Delete);
        }
        for id in emptied {
            self.clear(id);
        }
        Ok(())
    }

    fn check_writable(&self, rules: &[Arc<Rule>], fm: &FlowMod) -> Result<(), OfpErr> {
        let internal = rules.iter().any(|r| r.table_id == TBL_INTERNAL);
        if internal && !fm.flags.contains(FlowModFlags::NO_READONLY) {
            return Err(OfpErr::OFPBRC_EPERM);
        }
        Ok(())
    }

    /// Rules that meet `criteria` as the change stands.
    pub fn collect(&self, criteria: &Criteria) -> Vec<Arc<Rule>> {
        let mut found = Vec::new();
        for id in self.tables_in_use(criteria) {
            self.collect_in(id, criteria, &mut found);
        }
        found
    }

    /// The tables that are meant and have rules, as the change stands.
    fn tables_in_use(&self, criteria: &Criteria) -> SmallVec<[usize; 16]> {
        let meant = criteria.tables();
        let in_use = self.writer.links.keys().map(|id| usize::from(*id));
        in_use.filter(|id| meant.contains(id)).collect()
    }

    fn collect_in(&self, id: usize, criteria: &Criteria, found: &mut Vec<Arc<Rule>>) {
        if criteria.is_by_cookie() {
            collect_by_cookie(&self.writer, id, criteria, found);
        } else {
            self.tables.collect_in(id, criteria, self.version, found);
        }
    }

    fn add(&mut self, fm: &mut FlowMod) -> Result<(), OfpErr> {
        let table_id = if fm.table_id == TABLE_ALL {
            0
        } else {
            fm.table_id
        };
        if table_id == TBL_INTERNAL && !fm.flags.contains(FlowModFlags::NO_READONLY) {
            return Err(OfpErr::OFPBRC_EPERM);
        }
        let match_ = self.writer.pack(&fm.match_);
        let priority = i32::from(fm.priority);
        let table = &self.tables.tables[usize::from(table_id)];
        let old = table
            .index
            .find_exactly(match_.view(), priority, self.version);
        if old.is_none() {
            if fm.flags.contains(FlowModFlags::CHECK_OVERLAP)
                && table
                    .index
                    .find_overlap(match_.view(), priority, self.version)
                    .is_some()
            {
                return Err(OfpErr::OFPFMFC_OVERLAP);
            }
            self.make_room(table_id)?;
        }
        let reset_counts = fm.flags.contains(FlowModFlags::RESET_COUNTS);
        let new = NewRule {
            table_id,
            priority,
            match_,
            actions: self.writer.share_actions(std::mem::take(&mut fm.actions)),
            cookie: fm.new_cookie,
            flags: fm.flags,
            importance: fm.importance,
            idle_timeout: fm.idle_timeout,
            hard_timeout: fm.hard_timeout,
            now_ms: self.now_ms,
        };
        let rule = Rule::new(new, self.version);
        match old {
            Some(old) => {
                rule.inherit_use(&old);
                self.replace(old, Arc::new(rule), reset_counts, true);
            }
            None => self.link(Arc::new(rule)),
        }
        Ok(())
    }

    /// Adds a rule of the switch's own, or replaces it.
    pub fn add_own(&mut self, new: NewRule) {
        let table = &self.tables.tables[usize::from(new.table_id)];
        let old = table
            .index
            .find_exactly(new.match_.view(), new.priority, self.version);
        let rule = Arc::new(Rule::new(new, self.version));
        match old {
            Some(old) => self.replace(old, rule, true, true),
            None => self.link(rule),
        }
    }

    /// Refuses, or evicts, when the table holds as many flows as the database allows.
    fn make_room(&mut self, table_id: u8) -> Result<(), OfpErr> {
        let table = &self.tables.tables[usize::from(table_id)];
        let config = table.config.load();
        let Some(max) = config.max_flows.filter(|&max| table.n_rules() >= max) else {
            return Ok(());
        };
        if !config.evict || max == 0 {
            return Err(OfpErr::OFPFMFC_TABLE_FULL);
        }
        drop(config);
        let victim = super::evict::victims(table, self.version, self.tun_table(), 1).pop();
        let rule = victim.ok_or(OfpErr::OFPFMFC_TABLE_FULL)?;
        self.remove(rule, FlowRemovedReason::Eviction);
        Ok(())
    }

    fn modify(&mut self, rules: Vec<Arc<Rule>>, fm: &mut FlowMod) -> Result<(), OfpErr> {
        let reset_counts = fm.flags.contains(FlowModFlags::RESET_COUNTS);
        let new_cookie = (fm.modify_cookie && fm.new_cookie != u64::MAX).then_some(fm.new_cookie);
        let actions = (self.writer).share_actions(std::mem::take(&mut fm.actions));
        for old in rules {
            let new = NewRule {
                table_id: old.table_id,
                priority: old.priority,
                match_: old.match_.clone(),
                actions: actions.clone(),
                cookie: new_cookie.unwrap_or(old.cookie),
                flags: old.flags,
                importance: old.importance,
                idle_timeout: old.idle_timeout(),
                hard_timeout: old.hard_timeout(),
                now_ms: self.now_ms,
            };
            let mut rule = Rule::new(new, self.version);
            rule.set_created_ms(old.created_ms);
            rule.inherit_use(&old);
            self.replace(old, Arc::new(rule), reset_counts, false);
        }
        Ok(())
    }

    fn link(&mut self, rule: Arc<Rule>) {
        self.tables.insert(&mut self.writer, &rule);
        self.ops.push(Op::Added(rule));
    }

    fn replace(&mut self, old: Arc<Rule>, new: Arc<Rule>, reset_counts: bool, by_add: bool) {
        self.tables.hide(&mut self.writer, &old, self.version);
        let index = &self.tables.tables[usize::from(old.table_id)].index;
        index.replace(&old, new.clone());
        self.writer.link(&new);
        self.tables.count(&new, true);
        self.ops.push(Op::Replaced {
            old,
            new,
            reset_counts,
            by_add,
        });
    }

    /// Removes a rule that is visible in the change.
    pub fn remove(&mut self, rule: Arc<Rule>, reason: FlowRemovedReason) {
        if self.tables.hide(&mut self.writer, &rule, self.version) {
            self.ops.push(Op::Removed {
                rule,
                reason,
                asked: true,
            });
        }
    }

    pub(super) fn note_cleared(&mut self, table: ClearedTable) {
        self.ops.push(Op::Cleared(Box::new(table)));
    }

    /// Removes what was learned by flows with `delete_learned` that the change removes, and what that learned in turn.
    fn remove_learned(&mut self) {
        while let Some((cookie, table_id)) = self.writer.orphaned.pop() {
            if self.writer.learners.contains_key(&(cookie, table_id)) {
                continue;
            }
            let learned = Criteria {
                table_id,
                cookie,
                cookie_mask: u64::MAX,
                ..Criteria::all()
            };
            for rule in self.collect(&learned) {
                self.tables.hide(&mut self.writer, &rule, self.version);
                self.ops.push(Op::Removed {
                    rule,
                    reason: FlowRemovedReason::Delete,
                    asked: false,
                });
            }
        }
    }

    /// Puts a group in, or in the place of another with its id.
    pub fn set_group(&mut self, group: Group) {
        self.end_group(group.id);
        let group = Arc::new(group);
        self.tables.groups.link(&group);
        self.ops.push(Op::GroupAdded(group));
    }

    /// Removes a group with the rules that name it.
    pub fn remove_group(&mut self, id: u32) {
        let tables = self.writer.links.values();
        let mut rules: Vec<_> = tables.flat_map(|t| t.of_group(id).cloned()).collect();
        rules.sort_by_key(|r| (r.table_id, std::cmp::Reverse(r.priority), r.created_ms));
        for rule in rules {
            self.remove(rule, FlowRemovedReason::GroupDelete);
        }
        self.end_group(id);
    }

    fn end_group(&mut self, id: u32) {
        if let Some(old) = self.tables.groups.find(id) {
            self.tables.groups.hide(&old, self.version);
            self.ops.push(Op::GroupRemoved(old));
        }
    }

    /// What was done so far is told apart from what follows, as if they were changes of their own.
    pub fn tell_apart(&mut self) {
        self.remove_learned();
        self.breaks.push(self.ops.len());
    }

    /// Makes the change visible, and tells of it.
    pub fn commit(mut self) {
        self.remove_learned();
        let ops = std::mem::take(&mut self.ops);
        if ops.is_empty() {
            return;
        }
        let tables = self.tables;
        tables.versions.publish(self.version);
        let monitored = tables.monitors.load(Relaxed) > 0;
        let requester = self.requester;
        let mut told: Vec<Vec<TableEvent>> = Vec::new();
        let mut events = Vec::new();
        let mut breaks = std::mem::take(&mut self.breaks).into_iter().peekable();
        for (i, op) in ops.into_iter().enumerate() {
            while breaks.next_if(|at| *at <= i).is_some() {
                told.push(std::mem::take(&mut events));
            }
            match op {
                Op::Added(rule) if monitored => events.push(TableEvent::Added { rule, requester }),
                Op::Added(_) => {}
                Op::Replaced {
                    old,
                    new,
                    reset_counts,
                    by_add,
                } => {
                    old.forward_to(&new, reset_counts);
                    // A modification that leaves everything as it was is no news.
                    let same = !by_add
                        && old.cookie == new.cookie
                        && old.actions.actions == new.actions.actions;
                    if monitored && !same {
                        let old = old.clone();
                        events.push(if by_add {
                            TableEvent::Added {
                                rule: new,
                                requester,
                            }
                        } else {
                            TableEvent::Modified {
                                rule: new,
                                old,
                                requester,
                            }
                        });
                    }
                    self.writer.garbage.push_back((self.version, old));
                }
                Op::Removed {
                    rule,
                    reason,
                    asked,
                } => {
                    if monitored || rule.flags.contains(FlowModFlags::SEND_FLOW_REM) {
                        let rule = rule.clone();
                        let requester = if asked {
                            requester
                        } else {
                            Requester::default()
                        };
                        events.push(TableEvent::Removed {
                            rule,
                            reason,
                            requester,
                        });
                    }
                    self.writer.garbage.push_back((self.version, rule));
                }
                Op::Cleared(table) => self.writer.cleared.push_back((self.version, *table)),
                Op::GroupAdded(_) => {}
                Op::GroupRemoved(group) => {
                    self.writer.old_groups.push_back((self.version, group));
                }
            }
        }
        // A removed rule that stays linked would go on narrowing the flows that lookups make.
        tables.collect(&mut self.writer);
        tables.note_attention(&self.writer);
        tables.change_seq.fetch_add(1, Relaxed);
        told.push(events);
        told.retain(|events| !events.is_empty());
        if !told.is_empty() {
            tables
                .events
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend(told);
            tables.waker.wake();
        }
        tables.on_change.flows_changed();
    }
}

impl Drop for Change<'_> {
    /// Undoes what was not committed.
    fn drop(&mut self) {
        for op in std::mem::take(&mut self.ops).into_iter().rev() {
            match op {
                Op::Added(rule) => self.tables.uninsert(&mut self.writer, &rule, self.version),
                Op::Replaced { old, new, .. } => {
                    self.tables.unlink(&mut self.writer, &new, self.version);
                    let index = &self.tables.tables[usize::from(old.table_id)].index;
                    index.unreplace(&old, &new);
                    self.tables.unhide(&mut self.writer, &old);
                }
                Op::Removed { rule, .. } => self.tables.unhide(&mut self.writer, &rule),
                Op::Cleared(table) => self.tables.unclear(&mut self.writer, *table),
                Op::GroupAdded(group) => {
                    self.tables.groups.hide(&group, self.version);
                    self.tables.groups.unlink(&group);
                }
                Op::GroupRemoved(group) => self.tables.groups.unhide(&group),
            }
        }
        self.writer.orphaned.clear();
    }
}

impl Tables {
    fn count(&self, rule: &Rule, added: bool) {
        let n = &self.tables[usize::from(rule.table_id)].n_rules;
        if added {
            n.fetch_add(1, Relaxed);
            self.n_rules.fetch_add(1, Relaxed);
        } else {
            n.fetch_sub(1, Relaxed);
            self.n_rules.fetch_sub(1, Relaxed);
        }
    }

    fn insert(&self, writer: &mut Writer, rule: &Arc<Rule>) {
        self.tables[usize::from(rule.table_id)]
            .index
            .insert(rule.clone());
        writer.link(rule);
        self.count(rule, true);
    }

    /// Takes back an insertion that no reader has seen.
    fn uninsert(&self, writer: &mut Writer, rule: &Arc<Rule>, version: u64) {
        self.unlink(writer, rule, version);
        self.tables[usize::from(rule.table_id)].index.remove(rule);
    }

    /// Forgets a rule but for the index.
    fn unlink(&self, writer: &mut Writer, rule: &Arc<Rule>, version: u64) {
        self.hide(writer, rule, version);
        rule.lifespan.end_in(version);
    }

    /// Makes a rule invisible from `version` on; false if it is in no table any more.
    fn hide(&self, writer: &mut Writer, rule: &Arc<Rule>, version: u64) -> bool {
        let there = writer.unlink(rule);
        if there {
            rule.lifespan.end_in(version);
            self.count(rule, false);
        }
        there
    }

    fn unhide(&self, writer: &mut Writer, rule: &Arc<Rule>) {
        rule.lifespan.go_on();
        writer.link(rule);
        self.count(rule, true);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::ChangeHook;
    use super::*;
    use ferrovs_openflow::action::Action;
    use ferrovs_packet::flow::{Flow, Match};
    use ferrovs_sync::Waker;

    #[derive(Debug)]
    struct NoHook;
    impl ChangeHook for NoHook {
        fn flows_changed(&self) {}
    }

    pub fn tables() -> Tables {
        Tables::new(Arc::new(Waker::new().unwrap()), Box::new(NoHook))
    }

    pub fn fm(command: FlowModCommand, in_port: u32, out: u16) -> FlowMod {
        let mut match_ = Match::default();
        if in_port != 0 {
            match_.flow.in_port = in_port;
            match_.wc.masks.in_port = u32::MAX;
        }
        let actions = vec![Action::output(OfPort(out))];
        FlowMod {
            command,
            match_,
            actions,
            new_cookie: u64::from(out),
            ..FlowMod::default()
        }
    }

    fn out_port(tables: &Tables, in_port: u32) -> Option<u64> {
        let flow = Flow {
            in_port,
            ..Flow::default()
        };
        let pin = tables.pin();
        tables.lookup(0, pin.version, &flow, None).map(|r| r.cookie)
    }

    #[test]
    fn a_reader_that_pinned_a_version_goes_on_seeing_it() {
        let t = tables();
        t.flow_mod(fm(FlowModCommand::Add, 1, 2), Requester::default(), 0)
            .unwrap();
        let pin = t.pin();
        t.flow_mod(fm(FlowModCommand::Modify, 0, 3), Requester::default(), 0)
            .unwrap();
        t.flow_mod(fm(FlowModCommand::Delete, 0, 0), Requester::default(), 0)
            .unwrap();
        t.collect_garbage();
        let flow = Flow {
            in_port: 1,
            ..Flow::default()
        };
        assert_eq!(
            t.lookup(0, pin.version, &flow, None).map(|r| r.cookie),
            Some(2)
        );
        assert_eq!(out_port(&t, 1), None);
        drop(pin);
        t.collect_garbage();
        assert_eq!((t.n_rules(), t.writer().garbage.len()), (0, 0));
    }

    #[test]
    fn a_change_that_is_given_up_leaves_no_trace() {
        let t = tables();
        t.flow_mod(fm(FlowModCommand::Add, 1, 2), Requester::default(), 0)
            .unwrap();
        {
            let mut change = t.change(Requester::default(), 0);
            change.flow_mod(fm(FlowModCommand::Add, 1, 5)).unwrap();
            change.flow_mod(fm(FlowModCommand::Add, 7, 5)).unwrap();
            change.flow_mod(fm(FlowModCommand::Delete, 0, 0)).unwrap();
            assert!(change.collect(&Criteria::all()).is_empty());
        }
        assert_eq!(
            (out_port(&t, 1), out_port(&t, 7), t.n_rules()),
            (Some(2), None, 1)
        );
        let by_cookie = Criteria {
            cookie: 2,
            cookie_mask: u64::MAX,
            ..Criteria::all()
        };
        assert_eq!(t.collect_rules(&by_cookie).len(), 1);
    }

    #[test]
    fn packets_credited_to_a_replaced_rule_count_for_its_successor() {
        let t = tables();
        t.flow_mod(fm(FlowModCommand::Add, 1, 2), Requester::default(), 0)
            .unwrap();
        let old = t.collect_rules(&Criteria::all()).remove(0);
        old.credit(3, 180, 5);
        t.flow_mod(
            fm(FlowModCommand::ModifyStrict, 1, 3),
            Requester::default(),
            20,
        )
        .unwrap();
        old.credit(1, 60, 5);
        let new = t.collect_rules(&Criteria::all()).remove(0);
        assert_eq!((new.stats().n_packets, new.stats().n_bytes), (4, 240));
        assert_eq!((new.created_ms, new.modified_ms()), (0, 20));
    }

    #[test]
    fn table_254_belongs_to_the_switch() {
        let t = tables();
        let add = FlowMod {
            table_id: 254,
            ..fm(FlowModCommand::Add, 1, 2)
        };
        let refused = t.flow_mod(add.clone(), Requester::default(), 0);
        assert_eq!(refused, Err(OfpErr::OFPBRC_EPERM));
        let own = FlowMod {
            flags: FlowModFlags::NO_READONLY,
            ..add
        };
        t.flow_mod(own, Requester::default(), 0).unwrap();
        assert!(t.collect_rules(&Criteria::all()).is_empty());
        let delete = FlowMod {
            table_id: 254,
            ..fm(FlowModCommand::Delete, 0, 0)
        };
        assert_eq!(
            t.flow_mod(delete, Requester::default(), 0),
            Err(OfpErr::OFPBRC_EPERM)
        );
    }

    /// A flow that learns flows of table 1 with cookie `cookie`, which go with it.
    fn learner(command: FlowModCommand, in_port: u32, cookie: u64) -> FlowMod {
        let learn = ferrovs_openflow::action::Learn {
            idle_timeout: 0,
            hard_timeout: 0,
            fin_idle_timeout: 0,
            fin_hard_timeout: 0,
            priority: 1,
            table_id: 1,
            cookie,
            send_flow_rem: false,
            delete_learned: true,
            limit: 0,
            second: false,
            result_dst: None,
            specs: vec![],
        };
        FlowMod {
            actions: vec![Action::Clone(vec![Action::Learn(Box::new(learn))])],
            table_id: 0,
            ..fm(command, in_port, 0)
        }
    }

    fn learned(in_port: u32, cookie: u64, actions: Vec<Action>) -> FlowMod {
        FlowMod {
            table_id: 1,
            new_cookie: cookie,
            actions,
            ..fm(FlowModCommand::Add, in_port, 0)
        }
    }

    #[test]
    fn learned_flows_go_with_the_last_flow_that_learns_them() {
        let t = tables();
        let apply = |fm| t.flow_mod(fm, Requester::default(), 0).unwrap();
        let count = || (t.tables[0].n_rules(), t.tables[1].n_rules());
        apply(learner(FlowModCommand::Add, 1, 5));
        apply(learner(FlowModCommand::Add, 2, 5));
        // One of the learned flows learns others in turn.
        let again = learner(FlowModCommand::Add, 0, 6).actions;
        apply(learned(1, 5, again));
        apply(learned(2, 6, vec![]));
        apply(learned(3, 7, vec![]));
        let delete = |in_port| FlowMod {
            table_id: 0,
            ..fm(FlowModCommand::Delete, in_port, 0)
        };
        apply(delete(1));
        assert_eq!(count(), (1, 3), "another flow learns them");
        // A change that is given up deletes nothing.
        let mut change = t.change(Requester::default(), 0);
        change.flow_mod(delete(2)).unwrap();
        drop(change);
        assert_eq!(count(), (1, 3));
        let mut other = fm(FlowModCommand::ModifyStrict, 2, 3);
        other.table_id = 0;
        apply(other);
        assert_eq!(count(), (1, 1));
    }
}
