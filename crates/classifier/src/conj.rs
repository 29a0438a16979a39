//! Conjunctive matches: rules that match together.
//!
//! The lookup hands over the best rule that matches by itself and, for each subtable, the conjunctive rules that
//! the packet meets. Priorities are tried from the greatest down: at each, the clauses of every ID that are met
//! are gathered, and an ID with all of them ends the search.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::rule::ClsEntry;

/// Decides between `hard` and the conjunctive rules in `soft`: for each subtable the visible rules that the packet
/// meets, by falling priority, up to the first that matches by itself. `lookup` finds the rule for an ID. The rules
/// that made up each ID that was looked up are added to `told`.
pub(crate) fn resolve<T: ClsEntry>(
    mut hard: Option<Arc<T>>,
    mut soft: Vec<Vec<Arc<T>>>,
    mut told: Option<&mut Vec<Arc<T>>>,
    mut lookup: impl FnMut(u32) -> Option<Arc<T>>,
) -> Option<Arc<T>> {
    soft.iter_mut().for_each(|list| list.reverse());
    loop {
        // What matches by itself at the head of a list competes with `hard` and ends its list.
        for list in &mut soft {
            let Some(rule) = list.last() else { continue };
            if rule.conjunctions().is_empty() {
                if hard.as_ref().is_none_or(|h| rule.priority() > h.priority()) {
                    hard = Some(rule.clone());
                }
                list.clear();
            }
        }
        let top = soft.iter().filter_map(|l| Some(l.last()?.priority())).max();
        let Some(top) = top.filter(|&p| hard.as_ref().is_none_or(|h| p > h.priority())) else {
            return hard;
        };
        let mut met: HashMap<u32, u64> = HashMap::new();
        let mut complete = Vec::new();
        for rule in soft
            .iter()
            .filter_map(|l| l.last())
            .filter(|r| r.priority() == top)
        {
            for c in rule.conjunctions() {
                let clauses = met.entry(c.id).or_insert(0);
                *clauses |= 1u64.checked_shl(c.clause.into()).unwrap_or(0);
                let all = u64::MAX >> (64 - u32::from(c.n_clauses.clamp(1, 64)));
                if *clauses == all && !complete.contains(&c.id) {
                    complete.push(c.id);
                }
            }
        }
        complete.sort_unstable();
        for id in complete {
            if let Some(told) = &mut told {
                let parts = soft
                    .iter()
                    .filter_map(|l| l.last())
                    .filter(|r| r.priority() == top && r.conjunctions().iter().any(|c| c.id == id));
                told.extend(parts.cloned());
            }
            if let Some(rule) = lookup(id) {
                return Some(rule);
            }
        }
        for list in &mut soft {
            if list.last().is_some_and(|r| r.priority() == top) {
                list.pop();
            }
        }
    }
}
