//! What threads that handle packets want changed, and must not wait for.
//!
//! A change can take long: one bundle may add a million flows. A thread with packets in its hands makes its change at
//! once if nobody else is writing, and leaves it to whoever does otherwise; the writer comes to it when it is done.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use ferrovs_openflow::flow::FlowMod;

use super::{Change, Requester, Tables, Writer};
use crate::rule::{KEPT_FLAGS, Rule, RuleMatch};

/// Most changes that may wait. What is learned beyond them is learned from later packets.
const MAX_WAITING: usize = 65536;

/// A change that a packet wants.
#[derive(Debug)]
enum Wanted {
    /// `learn`
    Flow {
        flow_mod: Arc<FlowMod>,
        limit: u32,
        now_ms: i64,
    },
    /// `fin_timeout`: the rule's timeouts have become shorter.
    Watch(Arc<Rule>),
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<VecDeque<Wanted>>,
    len: AtomicUsize,
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, VecDeque<Wanted>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, wanted: Wanted) {
        let mut waiting = self.waiting();
        if waiting.len() < MAX_WAITING {
            waiting.push_back(wanted);
            self.len.store(waiting.len(), SeqCst);
        }
    }

    fn pop(&self) -> Option<Wanted> {
        let mut waiting = self.waiting();
        let wanted = waiting.pop_front();
        self.len.store(waiting.len(), SeqCst);
        wanted
    }

    fn is_empty(&self) -> bool {
        self.len.load(SeqCst) == 0
    }
}

impl Tables {
    /// Adds or refreshes a flow that the action `learn` made. With a `limit` nothing is added, and false returned,
    /// when so many flows of the table have the cookie. True as well when that can only be seen later.
    pub fn learn(&self, flow_mod: &Arc<FlowMod>, limit: u32, now_ms: i64) -> bool {
        if let Some(old) = self.find_learned(flow_mod)
            && old.is_as(flow_mod)
        {
            old.refresh(now_ms);
            return true;
        }
        if let Some(writer) = self.try_writer() {
            let learned = self.learn_now(writer, flow_mod, limit, now_ms);
            self.serve_queue();
            return learned;
        }
        self.leave(Wanted::Flow {
            flow_mod: flow_mod.clone(),
            limit,
            now_ms,
        });
        true
    }

    /// Whether the flow that the action `learn` would make is there.
    pub fn has_learned(&self, fm: &FlowMod) -> bool {
        self.find_learned(fm)
            .is_some_and(|rule| rule.cookie == fm.new_cookie)
    }

    /// The flow that is where the action `learn` would put one.
    fn find_learned(&self, fm: &FlowMod) -> Option<Arc<Rule>> {
        let pin = self.pin();
        let packed = RuleMatch::new(&fm.match_);
        self.table(fm.table_id)?.index.find_exactly_unlocked(
            packed.view(),
            i32::from(fm.priority),
            pin.version,
        )
    }

    /// Lowers the timeouts of a rule (`fin_timeout`) and makes sure that its expiry is looked after.
    pub fn reduce_timeouts(&self, rule: &Arc<Rule>, idle: u16, hard: u16) {
        if rule.reduce_timeouts(idle, hard) {
            self.leave(Wanted::Watch(rule.clone()));
        }
    }

    fn leave(&self, wanted: Wanted) {
        self.queue.push(wanted);
        self.serve_queue();
    }

    /// Does what waits, unless somebody is writing: who will do this afterwards.
    pub(super) fn serve_queue(&self) {
        while !self.queue.is_empty() {
            let Some(writer) = self.try_writer() else {
                return;
            };
            match self.queue.pop() {
                Some(Wanted::Flow {
                    flow_mod,
                    limit,
                    now_ms,
                }) => {
                    self.learn_now(writer, &flow_mod, limit, now_ms);
                }
                Some(Wanted::Watch(rule)) => {
                    Change::begin(self, writer, Requester::default(), 0).watch(&rule);
                }
                None => {}
            }
        }
    }

    fn learn_now(
        &self,
        writer: MutexGuard<'_, Writer>,
        fm: &FlowMod,
        limit: u32,
        now_ms: i64,
    ) -> bool {
        let mut change = Change::begin(self, writer, Requester::default(), now_ms);
        let packed = RuleMatch::new(&fm.match_);
        let priority = i32::from(fm.priority);
        let old = self.find_exactly(fm.table_id, &packed, priority, change.version());
        if let Some(old) = &old {
            if old.is_as(fm) {
                old.refresh(now_ms);
                return true;
            }
            // Packets are credited in any order: the one that came last decides what is learned.
            if old.modified_ms() > now_ms {
                return true;
            }
        } else if limit != 0 && change.n_with_cookie(fm.table_id, fm.new_cookie) >= limit as usize {
            return false;
        }
        let learned = change.flow_mod(fm.clone()).is_ok();
        change.commit();
        learned
    }

    fn try_writer(&self) -> Option<MutexGuard<'_, Writer>> {
        match self.writer.try_lock() {
            Ok(writer) => Some(writer),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl Rule {
    /// Whether the flow mod would make the same rule.
    fn is_as(&self, fm: &FlowMod) -> bool {
        self.cookie == fm.new_cookie
            && self.idle_timeout() == fm.idle_timeout
            && self.hard_timeout() == fm.hard_timeout
            && self.flags == fm.flags & KEPT_FLAGS
            && self.importance == fm.importance
            && self.actions.actions == fm.actions
    }
}

#[cfg(test)]
mod tests {
    use ferrovs_openflow::action::Action;
    use ferrovs_openflow::flow::FlowModCommand;
    use ferrovs_packet::types::OfPort;

    use super::super::Criteria;
    use super::super::change::tests::{fm, tables};
    use super::*;

    fn learned(out: u16) -> Arc<FlowMod> {
        Arc::new(FlowMod {
            new_cookie: 0,
            table_id: 0,
            ..fm(FlowModCommand::ModifyStrict, 1, out)
        })
    }

    #[test]
    fn the_packet_that_came_last_decides_what_is_learned() {
        let t = tables();
        let out = || {
            let rule = t.collect_rules(&Criteria::all()).remove(0);
            rule.actions.actions.clone()
        };
        assert!(t.learn(&learned(2), 0, 10));
        assert!(t.learn(&learned(3), 0, 30));
        assert!(t.learn(&learned(2), 0, 20));
        assert_eq!(out(), [Action::output(OfPort(3))]);
        assert!(t.learn(&learned(2), 0, 40));
        assert_eq!(out(), [Action::output(OfPort(2))]);
    }

    #[test]
    fn packets_do_not_wait_for_a_change_that_takes_long() {
        let t = tables();
        for committed in [true, false] {
            let mut change = t.change(Requester::default(), 10);
            change.flow_mod(fm(FlowModCommand::Delete, 0, 0)).unwrap();
            change.flow_mod(fm(FlowModCommand::Add, 7, 7)).unwrap();
            // This thread would wait for itself.
            assert!(t.learn(&learned(2), 0, 10));
            assert!(!t.has_learned(&learned(2)));
            match committed {
                true => change.commit(),
                false => drop(change),
            }
            assert!(t.has_learned(&learned(2)));
            assert_eq!(t.n_rules(), 2);
            t.flow_mod(fm(FlowModCommand::Delete, 1, 0), Requester::default(), 11)
                .unwrap();
        }
        let rule = t.collect_rules(&Criteria::all()).remove(0);
        let change = t.change(Requester::default(), 12);
        t.reduce_timeouts(&rule, 0, 5);
        assert!(!t.needs_attention());
        change.commit();
        assert!(t.needs_attention());
    }
}
