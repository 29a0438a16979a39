//! The rules of one table as its writer finds them: by cookie, by group and by when they end.

use hashbrown::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use ferrovs_openflow::flow::FlowModFlags;

use super::expiry::Expiry;
use crate::rule::Rule;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Links {
    by_cookie: HashMap<u64, Vec<Arc<Rule>>>,
    /// Rules that name a group, by the group and their address.
    by_group: HashMap<u32, HashMap<usize, Arc<Rule>>>,
    pub expiry: Expiry,
    /// How many of the rules ask for a look when they go.
    n_obliged: usize,
}

/// Whether something has to be done for the rule by itself when all go, or it stays then.
fn is_obliged(rule: &Rule) -> bool {
    rule.is_hidden()
        || rule.flags.contains(FlowModFlags::SEND_FLOW_REM)
        || !rule.actions.deletes_learned.is_empty()
}

impl Links {
    pub fn is_empty(&self) -> bool {
        self.by_cookie.is_empty()
    }

    /// Whether some rule must be looked at by itself when all go.
    pub fn has_obliged(&self) -> bool {
        self.n_obliged > 0
    }

    pub fn add(&mut self, rule: &Arc<Rule>) {
        let list = self.by_cookie.entry(rule.cookie).or_default();
        rule.cookie_slot.store(list.len() as u32, Relaxed);
        list.push(rule.clone());
        for group in &rule.actions.groups {
            let rules = self.by_group.entry(*group).or_default();
            rules.insert(Arc::as_ptr(rule).addr(), rule.clone());
        }
        self.n_obliged += usize::from(is_obliged(rule));
    }

    /// Whether the rule is here: neither removed nor gone with all others.
    pub fn has(&self, rule: &Arc<Rule>) -> bool {
        let slot = rule.cookie_slot.load(Relaxed) as usize;
        let found = self.with_cookie(rule.cookie).get(slot);
        found.is_some_and(|found| Arc::ptr_eq(found, rule))
    }

    /// False if the rule is not here.
    pub fn remove(&mut self, rule: &Arc<Rule>) -> bool {
        let Some(list) = self.by_cookie.get_mut(&rule.cookie) else {
            return false;
        };
        let slot = rule.cookie_slot.load(Relaxed) as usize;
        if !list.get(slot).is_some_and(|found| Arc::ptr_eq(found, rule)) {
            return false;
        }
        list.swap_remove(slot);
        if let Some(moved) = list.get(slot) {
            moved.cookie_slot.store(slot as u32, Relaxed);
        }
        if list.is_empty() {
            self.by_cookie.remove(&rule.cookie);
        }
        for group in &rule.actions.groups {
            if let Some(rules) = self.by_group.get_mut(group) {
                rules.remove(&Arc::as_ptr(rule).addr());
                if rules.is_empty() {
                    self.by_group.remove(group);
                }
            }
        }
        self.expiry.forget(rule);
        self.n_obliged -= usize::from(is_obliged(rule));
        true
    }

    /// All rules, mostly in the order in which they came: that in which they lie in memory.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.by_cookie.values().flatten()
    }

    pub fn with_cookie(&self, cookie: u64) -> &[Arc<Rule>] {
        self.by_cookie.get(&cookie).map_or(&[], Vec::as_slice)
    }

    /// The rules that name a group.
    pub fn of_group(&self, group: u32) -> impl ExactSizeIterator<Item = &Arc<Rule>> {
        self.by_group
            .get(&group)
            .map(HashMap::values)
            .unwrap_or_default()
    }
}
