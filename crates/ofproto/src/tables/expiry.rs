//! Which rules have a timeout, and when each has to be looked at next.
//!
//! A rule waits at the earliest moment at which it may be over. Packets, which put off the end of a rule, do not
//! move it: when its moment has come it is looked at, and waits for its new end if it is not over. So a look costs
//! as much as there are rules whose moment has come.

use std::collections::BTreeMap;
use std::sync::Arc;

use ferrovs_openflow::flow::FlowRemovedReason;
use hashbrown::HashMap;

use crate::rule::Rule;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Expiry {
    waiting: BTreeMap<Place, Arc<Rule>>,
    /// Where each rule waits, by its address.
    places: HashMap<usize, Place>,
}

/// Where a rule waits: its moment, and the number under which it came.
pub(super) type Place = (i64, u64);

impl Expiry {
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Looks after a rule, from its present timeouts on; one without any needs no looking after. `next` is the number
    /// that the next rule gets.
    pub fn watch(&mut self, rule: &Arc<Rule>, next: &mut u64) {
        let Some(moment) = rule.ends_ms() else {
            return;
        };
        let address = Arc::as_ptr(rule).addr();
        let number = self.places.get(&address).map(|&(_, number)| number);
        let number = number.unwrap_or_else(|| {
            *next += 1;
            *next
        });
        self.put(rule, (moment, number));
    }

    fn put(&mut self, rule: &Arc<Rule>, place: Place) {
        if let Some(old) = self.places.insert(Arc::as_ptr(rule).addr(), place) {
            self.waiting.remove(&old);
        }
        self.waiting.insert(place, rule.clone());
    }

    /// Looks after a rule no more.
    pub fn forget(&mut self, rule: &Arc<Rule>) {
        if rule.has_timeout()
            && let Some(place) = self.places.remove(&Arc::as_ptr(rule).addr())
        {
            self.waiting.remove(&place);
        }
    }

    /// The rules that are over, and where they waited. They stay until they are forgotten.
    pub fn over(&mut self, now_ms: i64) -> Vec<(Place, Arc<Rule>, FlowRemovedReason)> {
        let mut over = Vec::new();
        let due = self.waiting.range(..=(now_ms, u64::MAX));
        let due: Vec<_> = due.map(|(place, rule)| (*place, rule.clone())).collect();
        for (place, rule) in due {
            if let Some(reason) = rule.over_at(now_ms) {
                over.push((place, rule, reason));
            } else if let Some(moment) = rule.ends_ms() {
                self.put(&rule, (moment, place.1));
            }
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ferrovs_openflow::flow::FlowModFlags;
    use ferrovs_packet::flow::Match;

    use super::*;
    use crate::rule::{NewRule, RuleActions, RuleMatch};
    use crate::time::to_ms;

    fn rule(priority: i32, idle_timeout: u16, hard_timeout: u16, now_ms: i64) -> Arc<Rule> {
        let new = NewRule {
            table_id: 0,
            priority,
            match_: RuleMatch::new(&Match::default()),
            actions: Arc::new(RuleActions::new(Vec::new())),
            cookie: 0,
            flags: FlowModFlags::empty(),
            importance: 0,
            idle_timeout,
            hard_timeout,
            now_ms,
        };
        Arc::new(Rule::new(new, 1))
    }

    #[test]
    fn rules_are_over_when_their_time_has_come() {
        use FlowRemovedReason::{HardTimeout, IdleTimeout};
        let now = ferrovs_runtime::clock::now();
        let at = |secs| to_ms(now + Duration::from_secs(secs));
        let mut expiry = Expiry::default();
        let rules = [(10, 0), (0, 10), (3, 5), (0, 0)];
        let rules: Vec<_> = rules.into_iter().enumerate().collect();
        let rules: Vec<_> = rules
            .into_iter()
            .map(|(i, (idle, hard))| rule(i as i32, idle, hard, at(0)))
            .collect();
        let next = &mut 0;
        rules.iter().for_each(|rule| expiry.watch(rule, next));
        let over = |expiry: &mut Expiry, secs| {
            let over = expiry.over(at(secs));
            over.iter()
                .map(|(_, r, why)| (r.priority, *why))
                .collect::<Vec<_>>()
        };
        assert_eq!(over(&mut expiry, 2), []);
        // Packets put the end off, but not that of the hard timeout.
        rules[2].credit(1, 1, to_ms(now + Duration::from_secs(2)));
        rules[0].credit(1, 1, to_ms(now + Duration::from_secs(7)));
        assert_eq!(over(&mut expiry, 4), []);
        assert_eq!(over(&mut expiry, 5), [(2, HardTimeout)]);
        expiry.forget(&rules[2]);
        assert_eq!(over(&mut expiry, 16), [(1, HardTimeout)]);
        expiry.forget(&rules[1]);
        // An earlier end counts at once.
        rules[3].reduce_timeouts(1, 0);
        expiry.watch(&rules[3], next);
        assert_eq!(over(&mut expiry, 17), [(3, IdleTimeout), (0, IdleTimeout)]);
        expiry.forget(&rules[0]);
        expiry.forget(&rules[3]);
        assert!(expiry.is_empty() && expiry.places.is_empty());
    }
}
