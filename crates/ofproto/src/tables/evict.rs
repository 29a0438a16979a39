//! Eviction: which flows go when a table holds more than it may.
//!
//! Flows that never expire stay. The others form groups by the fields that the table's configuration names; a flow of the
//! largest group goes first, and of a group the least important, then the one that would expire first.

use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use ferrovs_openflow::flow::FlowRemovedReason;
use ferrovs_packet::field::{FieldValue, TunTable};

use super::{Change, Requester, Table, Tables};
use crate::rule::Rule;

/// What goes first in a group: importance, when the flow expires, and when it came.
type Rank = (u16, i64, i64);

/// When the rule expires unless it is used: None for a permanent rule.
fn expiry(rule: &Rule) -> Option<i64> {
    let at = |timeout: u16, since: i64| (timeout != 0).then(|| since + i64::from(timeout) * 1000);
    let hard = at(rule.hard_timeout(), rule.modified_ms());
    let idle = at(rule.idle_timeout(), rule.stats().used_ms);
    match (hard, idle) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// At most `n` rules of the table, the first to go first, of those that are visible in `version`.
pub(super) fn victims(table: &Table, version: u64, tun: &TunTable, n: usize) -> Vec<Arc<Rule>> {
    let config = table.config();
    let mut groups: HashMap<Vec<FieldValue>, Vec<(Rank, Arc<Rule>)>> = HashMap::new();
    table.index.for_each(version, &mut |rule| {
        let Some(end) = expiry(rule).filter(|_| !rule.is_hidden()) else {
            return;
        };
        let key = if config.eviction_groups.is_empty() {
            Vec::new()
        } else {
            let flow = rule.match_.expand().flow;
            let fields = config.eviction_groups.iter();
            fields.map(|field| field.value_in(&flow, tun)).collect()
        };
        let group = groups.entry(key).or_default();
        group.push(((rule.importance, end, rule.created_ms), rule.clone()));
    });
    let mut groups: Vec<_> = groups.into_values().collect();
    for group in &mut groups {
        // The first to go last.
        group.sort_by_key(|(rank, _)| std::cmp::Reverse(*rank));
    }
    let place = |groups: &[Vec<(Rank, Arc<Rule>)>], i: usize| {
        let group = &groups[i];
        let rank = group.last().map(|(rank, _)| std::cmp::Reverse(*rank));
        rank.map(|rank| (group.len(), rank, i))
    };
    let mut order: BinaryHeap<_> = (0..groups.len())
        .filter_map(|i| place(&groups, i))
        .collect();
    let mut found = Vec::new();
    while found.len() < n
        && let Some((_, _, i)) = order.pop()
    {
        found.extend(groups[i].pop().map(|(_, rule)| rule));
        order.extend(place(&groups, i));
    }
    found
}

impl Change<'_> {
    /// Removes flows of the table until it holds no more than it may, as far as flows may be evicted.
    fn evict_excess(&mut self, table: &Table) {
        let config = table.config();
        let excess = config.max_flows.filter(|_| config.evict);
        let excess = excess.map_or(0, |max| table.n_rules().saturating_sub(max));
        if excess > 0 {
            let tun = self.tun_table().clone();
            for rule in victims(table, self.version(), &tun, excess as usize) {
                self.remove(rule, FlowRemovedReason::Eviction);
            }
        }
    }
}

impl Tables {
    /// Where rules have the options of tunnels, by which groups may be formed.
    pub fn set_tun_table(&self, table: Arc<TunTable>) {
        self.writer().tun_table = table;
    }

    /// Does at once what a lowered limit asks for.
    pub fn evict_excess(&self, table_id: u8, now_ms: i64) {
        if let Some(table) = self.table(table_id) {
            let mut change = self.change(Requester::default(), now_ms);
            change.evict_excess(table);
            change.commit();
        }
    }
}

#[cfg(test)]
mod tests {
    use ferrovs_openflow::OfpErr;
    use ferrovs_openflow::flow::FlowMod;
    use ferrovs_packet::field::SubField;
    use ferrovs_packet::flow::Match;
    use ferrovs_sync::Waker;

    use super::super::{ChangeHook, Criteria, TableConfig};
    use super::*;

    #[derive(Debug)]
    struct NoHook;
    impl ChangeHook for NoHook {
        fn flows_changed(&self) {}
    }

    /// Adds a flow of this port and metadata that expires after `idle` seconds, or never.
    fn add(tables: &Tables, in_port: u32, metadata: u64, idle: u16) -> Result<(), OfpErr> {
        let mut match_ = Match::default();
        (match_.flow.in_port, match_.wc.masks.in_port) = (in_port, u32::MAX);
        match_.flow.metadata = metadata.into();
        match_.wc.masks.metadata = u64::MAX.into();
        let fm = FlowMod {
            match_,
            idle_timeout: idle,
            new_cookie: metadata,
            table_id: 0,
            ..FlowMod::default()
        };
        tables.flow_mod(fm, Requester::default(), 0)
    }

    fn there(tables: &Tables) -> Vec<u64> {
        let rules = tables.collect_rules(&Criteria::all());
        let mut all: Vec<_> = rules.iter().map(|r| r.cookie).collect();
        all.sort_unstable();
        all
    }

    fn tables(max: u32, groups: &[&str]) -> Tables {
        let tables = Tables::new(Arc::new(Waker::new().unwrap()), Box::new(NoHook));
        configure(&tables, max, groups);
        tables
    }

    fn configure(tables: &Tables, max: u32, groups: &[&str]) {
        let groups = groups.iter().map(|g| SubField::parse(g).unwrap());
        tables.table(0).unwrap().set_config(TableConfig {
            max_flows: Some(max),
            evict: true,
            eviction_groups: groups.collect(),
            ..TableConfig::default()
        });
    }

    #[test]
    fn the_largest_group_loses_the_flow_that_expires_first() {
        let t = tables(4, &["NXM_OF_IN_PORT[]"]);
        for (port, metadata, idle) in [(1, 11, 90), (1, 12, 80), (1, 13, 95), (2, 21, 10)] {
            add(&t, port, metadata, idle).unwrap();
        }
        // Of port 1 there are most, and 12 would go first.
        add(&t, 3, 31, 0).unwrap();
        assert_eq!(there(&t), [11, 13, 21, 31]);
        add(&t, 3, 32, 0).unwrap();
        assert_eq!(there(&t), [13, 21, 31, 32]);
        // Permanent flows do not count, and never go.
        add(&t, 3, 33, 0).unwrap();
        add(&t, 3, 34, 0).unwrap();
        assert_eq!(there(&t), [31, 32, 33, 34]);
        assert_eq!(add(&t, 2, 22, 5), Err(OfpErr::OFPFMFC_TABLE_FULL));
    }

    #[test]
    fn groups_are_formed_by_options_of_tunnels_too() {
        let t = tables(4, &["NXM_NX_TUN_METADATA3[0..31]"]);
        let mut tun = TunTable::default();
        tun.add(3, 0xffff, 1, 4).unwrap();
        let field = SubField::parse("NXM_NX_TUN_METADATA3[]")
            .unwrap()
            .field
            .field();
        t.set_tun_table(Arc::new(tun.clone()));
        let add = |value: u128, cookie: u64, idle: u16| {
            let mut match_ = Match::default();
            let exact = FieldValue::from(u128::from(u32::MAX));
            field.set_match_in(&FieldValue::from(value), &exact, &mut match_, &tun);
            match_.flow.metadata = cookie.into();
            match_.wc.masks.metadata = u64::MAX.into();
            let fm = FlowMod {
                match_,
                idle_timeout: idle,
                new_cookie: cookie,
                table_id: 0,
                ..FlowMod::default()
            };
            t.flow_mod(fm, Requester::default(), 0)
        };
        for (value, cookie, idle) in [(1, 11, 90), (1, 12, 80), (1, 13, 95), (2, 21, 10)] {
            add(value, cookie, idle).unwrap();
        }
        // Of the first value there are most, though a flow of the other would expire first.
        add(3, 31, 0).unwrap();
        assert_eq!(there(&t), [11, 13, 21, 31]);
    }

    #[test]
    fn without_groups_the_first_to_expire_goes() {
        let t = tables(2, &[]);
        for (port, metadata, idle) in [(1, 11, 90), (2, 21, 80), (1, 12, 95)] {
            add(&t, port, metadata, idle).unwrap();
        }
        assert_eq!(there(&t), [11, 12]);
    }

    #[test]
    fn a_lowered_limit_holds_at_once() {
        let t = tables(10, &["NXM_OF_IN_PORT[]"]);
        for (port, metadata, idle) in [(1, 11, 90), (1, 12, 80), (2, 21, 10), (2, 22, 0)] {
            add(&t, port, metadata, idle).unwrap();
        }
        configure(&t, 2, &["NXM_OF_IN_PORT[]"]);
        t.evict_excess(0, 0);
        assert_eq!(there(&t), [11, 22]);
        configure(&t, 0, &[]);
        t.evict_excess(0, 0);
        assert_eq!(there(&t), [22]);
    }
}
