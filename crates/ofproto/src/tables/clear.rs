//! Removing all rules of a table at once, however many they are.
//!
//! A table is emptied without a look at its rules: they go with everything that knows of them, which another thread
//! frees. The rules themselves do not hear of it; whether a rule is in its table [`Links::has`] tells. A table with
//! rules that ask for more, a flow-removed message, say, is emptied rule by rule.

use std::sync::atomic::Ordering::Relaxed;

use ferrovs_classifier::Cleared;

use super::links::Links;
use super::{Change, Criteria, N_VISIBLE_TABLES, Tables, Writer};
use crate::rule::Rule;

/// Tables with fewer rules lose them one by one.
const MIN_RULES: u32 = 64;

/// What a table had before it was emptied. What is freed first is what names rules in no order.
#[derive(Debug)]
pub(super) struct ClearedTable {
    pub id: u8,
    pub n_rules: u32,
    index: Cleared<Rule>,
    links: Links,
}

impl Change<'_> {
    /// Whether all rules of the table meet `criteria`, and none asks for a look when it goes. A change does that once
    /// to a table.
    pub(super) fn may_clear(&self, table_id: usize, criteria: &Criteria) -> bool {
        let table = &self.tables.tables[table_id];
        let links = || self.writer.links.get(&(table_id as u8));
        table.n_rules() >= MIN_RULES
            && table.index.cleared_in() != self.version()
            && table_id < usize::from(N_VISIBLE_TABLES)
            && criteria.strict.is_none()
            && self.tables.monitors.load(Relaxed) == 0
            && links().is_some_and(|links| !links.has_obliged() && criteria.means_all(links))
    }

    /// Removes all rules of a table.
    pub(super) fn clear(&mut self, table_id: u8) {
        let table = &self.tables.tables[usize::from(table_id)];
        let n_rules = table.n_rules.swap(0, Relaxed);
        self.tables.n_rules.fetch_sub(n_rules as usize, Relaxed);
        let cleared = ClearedTable {
            id: table_id,
            n_rules,
            index: table.index.clear(self.version()),
            links: self.writer.links.remove(&table_id).unwrap_or_default(),
        };
        self.note_cleared(cleared);
    }
}

impl Tables {
    /// Takes that back.
    pub(super) fn unclear(&self, writer: &mut Writer, cleared: ClearedTable) {
        let table = &self.tables[usize::from(cleared.id)];
        table.n_rules.fetch_add(cleared.n_rules, Relaxed);
        self.n_rules.fetch_add(cleared.n_rules as usize, Relaxed);
        table.index.unclear(cleared.index);
        writer.links.insert(cleared.id, cleared.links);
    }
}

impl Criteria {
    /// Whether all rules of a table are meant; none of them is hidden.
    fn means_all(&self, links: &Links) -> bool {
        let meets = |rule: &Rule| self.accepts(rule) && rule.match_.is_within(&self.match_);
        self.is_everything() || links.all().all(|rule| meets(rule))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ferrovs_openflow::action::Action;
    use ferrovs_openflow::flow::{FlowMod, FlowModCommand, FlowModFlags};
    use ferrovs_packet::flow::Flow;
    use ferrovs_packet::types::OfPort;
    use ferrovs_sync::VersionGuard;
    use proptest::prelude::*;

    use super::super::change::tests::{fm, tables};
    use super::super::{Requester, TableEvent};
    use super::*;
    use crate::rule::RuleMatch;

    #[derive(Clone, Debug)]
    enum Step {
        /// Adds `n` flows, the first for this port.
        Add {
            table_id: u8,
            first: u32,
            n: u32,
            cookie: u64,
            kind: u8,
        },
        Delete(FlowMod),
        /// Several at once, taken back unless `commit`.
        Change(Vec<Step>, bool),
        /// Somebody goes on looking at this version.
        Pin,
        Unpin,
        Time,
    }

    fn flow(table_id: u8, in_port: u32, cookie: u64, kind: u8) -> FlowMod {
        let mut add = fm(FlowModCommand::Add, in_port, 1 + in_port as u16 % 2);
        (add.table_id, add.new_cookie) = (table_id, cookie);
        add.priority = (in_port % 3) as u16;
        if in_port.is_multiple_of(5) {
            (add.match_.flow.metadata, add.match_.wc.masks.metadata) =
                (u64::from(in_port).into(), u64::MAX.into());
        }
        match kind {
            0 => add.flags = FlowModFlags::SEND_FLOW_REM,
            1 => add.actions = vec![Action::Group(7)],
            2 => (add.idle_timeout, add.hard_timeout) = (5, 9),
            3 => add.actions = vec![Action::Group(8)],
            _ => {}
        }
        add
    }

    fn any_add() -> impl Strategy<Value = Step> {
        let parts = (0u8..2, 1u32..40, 0u32..120, 1u64..3, 0u8..12);
        parts.prop_map(|(table_id, first, n, cookie, kind)| Step::Add {
            table_id,
            first,
            n,
            cookie,
            kind,
        })
    }

    fn any_delete() -> impl Strategy<Value = Step> {
        let table = prop::sample::select(vec![0u8, 1, 255, 255, 255]);
        (table, 0u8..12, 1u64..3, 1u32..90).prop_map(|(table_id, what, cookie, in_port)| {
            let mut delete = fm(FlowModCommand::Delete, 0, 0);
            delete.table_id = table_id;
            delete.actions.clear();
            match what {
                0 => (delete.cookie, delete.cookie_mask) = (cookie, u64::MAX),
                1 => (delete.cookie, delete.cookie_mask) = (cookie, 1),
                2 => delete.out_port = OfPort(cookie as u16),
                3 => delete.out_group = 7,
                4 => delete.match_ = fm(FlowModCommand::Delete, in_port, 0).match_,
                5 => delete = flow(table_id % 2, in_port, cookie, 9),
                _ => {}
            }
            delete.command = match what {
                5 => FlowModCommand::DeleteStrict,
                _ => FlowModCommand::Delete,
            };
            Step::Delete(delete)
        })
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let several = prop::collection::vec(prop_oneof![any_add(), any_delete()], 1..6);
        prop_oneof![
            3 => any_add(),
            3 => any_delete(),
            2 => (several, any::<bool>()).prop_map(|(steps, commit)| Step::Change(steps, commit)),
            1 => Just(Step::Time),
        ]
    }

    type Listed = (u8, u64, i32, RuleMatch);

    fn listed(t: &Tables, version: u64) -> Vec<Listed> {
        let mut all = Vec::new();
        for table in &t.tables[..2] {
            table.index.for_each(version, &mut |r: &Arc<Rule>| {
                all.push((r.table_id, r.cookie, r.priority, r.match_.clone()));
            });
        }
        all
    }

    fn sorted(list: Vec<Listed>) -> Vec<String> {
        let mut list: Vec<_> = list.iter().map(|l| format!("{l:?}")).collect();
        list.sort();
        list
    }

    /// Tables, who looks at which version of them, and what was seen there first.
    struct Side<'a> {
        tables: &'a Tables,
        pins: Vec<(VersionGuard<'a>, Vec<Listed>)>,
        now_ms: i64,
    }

    impl Side<'_> {
        fn apply(change: &mut Change<'_>, step: &Step) {
            match step {
                Step::Add {
                    table_id,
                    first,
                    n,
                    cookie,
                    kind,
                } => (*first..first + n).for_each(|port| {
                    change
                        .flow_mod(flow(*table_id, port, *cookie, *kind))
                        .unwrap()
                }),
                Step::Delete(delete) => change.flow_mod(delete.clone()).unwrap(),
                _ => {}
            }
        }

        fn step(&mut self, step: &Step) {
            let (tables, now_ms) = (self.tables, self.now_ms);
            let begin = || tables.change(Requester::default(), now_ms);
            match step {
                Step::Change(steps, commit) => {
                    let mut change = begin();
                    steps.iter().for_each(|s| Self::apply(&mut change, s));
                    if *commit {
                        change.commit();
                    }
                }
                Step::Pin => {
                    let pin = tables.pin();
                    let seen = listed(tables, pin.version);
                    self.pins.push((pin, seen));
                }
                Step::Unpin => drop(self.pins.pop()),
                Step::Time => {
                    self.now_ms += 3000;
                    let over = tables.over(self.now_ms);
                    let mut change = tables.change(Requester::default(), self.now_ms);
                    for (rule, reason) in over {
                        change.remove(rule, reason);
                    }
                    change.commit();
                    tables.collect_garbage();
                }
                _ => {
                    let mut change = begin();
                    Self::apply(&mut change, step);
                    change.commit();
                }
            }
        }

        /// What everybody may know of the tables.
        fn state(&self, in_order: bool) -> String {
            let t = self.tables;
            let all = listed(t, t.current_version());
            let by_cookie = |cookie| {
                let criteria = Criteria {
                    cookie,
                    cookie_mask: u64::MAX,
                    ..Criteria::all()
                };
                t.collect_rules(&criteria).len()
            };
            let met = (1..90).map(|in_port| {
                let flow = Flow {
                    in_port,
                    ..Flow::default()
                };
                t.lookup(0, t.current_version(), &flow, None)
                    .map(|r| r.cookie)
            });
            format!(
                "{} {} {} {:?} {:?} {:?} {:?}",
                t.n_rules(),
                t.tables[0].n_rules(),
                t.tables[1].n_rules(),
                (t.n_rules_of_group(7), t.n_rules_of_group(8)),
                (by_cookie(1), by_cookie(2)),
                met.collect::<Vec<_>>(),
                if in_order {
                    all.iter().map(|l| format!("{l:?}")).collect()
                } else {
                    sorted(all)
                },
            )
        }

        fn removed(&self) -> Vec<String> {
            let events = self.tables.take_events().into_iter().flatten();
            let mut told: Vec<_> = events
                .filter_map(|event| match event {
                    TableEvent::Removed { rule, reason, .. }
                        if rule.flags.contains(FlowModFlags::SEND_FLOW_REM) =>
                    {
                        Some(format!("{} {:?} {reason:?}", rule.table_id, rule.match_))
                    }
                    _ => None,
                })
                .collect();
            told.sort();
            told
        }
    }

    fn agree(steps: &[Step]) {
        let (quick, slow) = (tables(), tables());
        // With a monitor rules go one by one.
        slow.set_monitors(1);
        let side = |tables| Side {
            tables,
            pins: Vec::new(),
            now_ms: 0,
        };
        let mut sides = [side(&quick), side(&slow)];
        let mut in_order = true;
        for step in steps {
            in_order &= !matches!(step, Step::Pin);
            sides.iter_mut().for_each(|side| side.step(step));
            assert_eq!(
                sides[0].state(in_order),
                sides[1].state(in_order),
                "{step:?}"
            );
            assert_eq!(sides[0].removed(), sides[1].removed());
            for side in &sides {
                for (pin, seen) in &side.pins {
                    let sees = listed(side.tables, pin.version);
                    assert_eq!(sorted(sees), sorted(seen.clone()), "{step:?}");
                }
            }
        }
        // In the end nothing is left of what went.
        for side in &mut sides {
            side.pins.clear();
            side.tables.collect_garbage();
            let writer = side.tables.writer();
            assert!(writer.garbage.is_empty() && writer.cleared.is_empty());
            for (id, table) in side.tables.tables[..2].iter().enumerate() {
                assert_eq!(table.index.len(), table.n_rules() as usize, "table {id}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn all_at_once_is_as_one_by_one(steps in prop::collection::vec(any_step(), 1..16)) {
            agree(&steps);
        }

        #[test]
        fn who_looks_at_an_old_version_goes_on_seeing_it(
            steps in prop::collection::vec(
                prop_oneof![4 => any_step(), 2 => Just(Step::Pin), 1 => Just(Step::Unpin)],
                1..16,
            )
        ) {
            agree(&steps);
        }
    }

    fn add_many(t: &Tables) {
        let mut change = t.change(Requester::default(), 0);
        (1..200).for_each(|port| change.flow_mod(flow(0, port, 1, 9)).unwrap());
        change.commit();
    }

    #[test]
    fn a_table_is_emptied_without_a_look_at_its_rules() {
        let delete_all = || fm(FlowModCommand::Delete, 0, 0);
        let t = tables();
        add_many(&t);
        let kept = t.collect_rules(&Criteria::all());
        {
            let mut change = t.change(Requester::default(), 0);
            change.flow_mod(delete_all()).unwrap();
            assert_eq!(
                (t.n_rules(), change.collect(&Criteria::all()).len()),
                (0, 0)
            );
        }
        assert_eq!(t.collect_rules(&Criteria::all()).len(), 199);
        t.flow_mod(delete_all(), Requester::default(), 0).unwrap();
        assert!(kept.iter().all(|rule| !rule.lifespan.ends()));
        // A packet that met one of them still may ask for a timeout, and it may be removed no more.
        t.reduce_timeouts(&kept[0], 1, 1);
        assert!(!t.needs_attention());
        let mut change = t.change(Requester::default(), 0);
        change.remove(
            kept[0].clone(),
            ferrovs_openflow::flow::FlowRemovedReason::Delete,
        );
        change.commit();
        assert_eq!(t.n_rules(), 0);
        assert_eq!(kept.iter().map(Arc::strong_count).max(), Some(1));
    }

    #[test]
    fn rules_that_ask_for_more_are_looked_at() {
        let t = tables();
        add_many(&t);
        t.flow_mod(flow(0, 500, 1, 0), Requester::default(), 0)
            .unwrap();
        t.flow_mod(fm(FlowModCommand::Delete, 0, 0), Requester::default(), 0)
            .unwrap();
        let told = t.take_events();
        assert_eq!((t.n_rules(), told.len(), told[0].len()), (0, 1, 1));
    }
}
