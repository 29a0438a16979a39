//! Which of many masks can have a flow for a key.
//!
//! To try mask after mask costs as much as there are masks, and who sends packets can make many. So where a port has
//! more than a few, a tree tells them apart by 16 bits of the key at a time:
//!
//! ```text
//!   Split: bits 0-15 of dl_dst          groups: flows whose masks have the same bits here
//!     mask 0x8000 -- 0x8000 --> Few: tables 1, 4
//!     mask 0xc000 -- 0x4000 --> Split: bits 16-31 of nw_src ...
//!                 -- 0xc000 --> Few: table 2
//! ```
//!
//! A lookup goes into each group in which there are flows with the key's bits, and so comes to the tables that may have
//! its flow. Masks that differ by prefixes, as those of most flows do, have at most 17 groups each time.

use ferrovs_packet::miniflow::MiniRef;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// Tables that are tried one after the other.
pub const FEW: usize = 8;
/// Flows that are looked at, at most, to tell their tables apart.
const MAX_SCAN: usize = 1 << 18;
const UNITS_IN_WORD: usize = 4;

/// 16 bits of a key: the number of the word, times four, plus that of the quarter.
type Unit = u16;

#[inline]
fn bits(key: MiniRef<'_>, unit: Unit) -> u16 {
    let (word, quarter) = (
        usize::from(unit) / UNITS_IN_WORD,
        usize::from(unit) % UNITS_IN_WORD,
    );
    (key.word(word) >> (16 * quarter)) as u16
}

/// A table, as the tree sees it: its mask, and what its flows have under it.
pub trait Tables {
    fn mask(&self, table: u32) -> MiniRef<'_>;
    /// Number of its flows.
    fn len(&self, table: u32) -> usize;
    /// Shows the words of all its flows, which are as many as the mask has.
    fn for_each(&self, table: u32, visit: &mut dyn FnMut(MiniRef<'_>));
}

/// See the module's text.
#[derive(Debug)]
pub struct Masks {
    root: Node,
}

#[derive(Debug)]
enum Node {
    /// Tables, and how many of their flows are here.
    Few(Vec<(u32, u32)>),
    Split(Box<Split>),
}

#[derive(Debug)]
struct Split {
    unit: Unit,
    groups: Vec<Group>,
}

/// Flows whose masks have the same bits at a unit.
#[derive(Debug)]
struct Group {
    mask: u16,
    values: HashMap<u16, Node, FixedState>,
}

impl Masks {
    /// Of tables with all the flows that they have.
    pub fn new(of: impl Iterator<Item = u32>, tables: &impl Tables) -> Masks {
        let all = of.map(|table| (table, tables.len(table) as u32));
        let mut root = Node::Few(all.collect());
        root.split(tables, &mut Vec::new());
        Masks { root }
    }

    /// A flow was added to a table, which has it already.
    pub fn insert(&mut self, table: u32, flow: MiniRef<'_>, tables: &impl Tables) {
        self.root.insert(table, flow, tables, &mut Vec::new());
    }

    /// A flow was removed from a table.
    pub fn remove(&mut self, table: u32, flow: MiniRef<'_>, mask: MiniRef<'_>) {
        self.root.remove(table, flow, mask);
    }

    /// Goes through the tables that may have a flow for the key until `visit` says something.
    #[inline]
    pub fn find<R>(&self, key: MiniRef<'_>, visit: &mut impl FnMut(u32) -> Option<R>) -> Option<R> {
        self.root.find(key, visit)
    }
}

impl Node {
    fn find<R>(&self, key: MiniRef<'_>, visit: &mut impl FnMut(u32) -> Option<R>) -> Option<R> {
        match self {
            Node::Few(tables) => tables.iter().find_map(|&(table, _)| visit(table)),
            Node::Split(split) => {
                let bits = bits(key, split.unit);
                split.groups.iter().find_map(|group| {
                    let node = group.values.get(&(bits & group.mask))?;
                    node.find(key, visit)
                })
            }
        }
    }

    /// `above`: the units by which it was told apart on the way here, with the values.
    fn insert(
        &mut self,
        table: u32,
        flow: MiniRef<'_>,
        tables: &impl Tables,
        above: &mut Vec<(Unit, u16)>,
    ) {
        match self {
            Node::Few(few) => {
                match few.iter_mut().find(|(t, _)| *t == table) {
                    Some((_, flows)) => *flows += 1,
                    None => few.push((table, 1)),
                }
                // If that fails, it is tried again with more of them.
                if few.len() > FEW && few.len() % FEW == 1 {
                    self.split(tables, above);
                }
            }
            Node::Split(split) => {
                let mask = bits(tables.mask(table), split.unit);
                let value = bits(flow, split.unit);
                above.push((split.unit, value));
                let node = split.group(mask).values.entry(value);
                let node = node.or_insert_with(|| Node::Few(Vec::new()));
                node.insert(table, flow, tables, above);
            }
        }
    }

    /// Removes a flow; says whether the node is empty now.
    fn remove(&mut self, table: u32, flow: MiniRef<'_>, mask: MiniRef<'_>) -> bool {
        match self {
            Node::Few(few) => {
                if let Some(at) = few.iter().position(|(t, _)| *t == table) {
                    few[at].1 -= 1;
                    if few[at].1 == 0 {
                        few.swap_remove(at);
                    }
                }
                few.is_empty()
            }
            Node::Split(split) => {
                let mask_bits = bits(mask, split.unit);
                let at = split.groups.iter().position(|g| g.mask == mask_bits);
                let Some(at) = at else { return false };
                let (group, value) = (&mut split.groups[at], bits(flow, split.unit));
                if let Some(node) = group.values.get_mut(&value)
                    && node.remove(table, flow, mask)
                {
                    group.values.remove(&value);
                }
                if group.values.is_empty() {
                    split.groups.swap_remove(at);
                }
                split.groups.is_empty()
            }
        }
    }

    /// Tells the tables apart by the unit at which their masks differ most.
    fn split(&mut self, tables: &impl Tables, above: &mut Vec<(Unit, u16)>) {
        let Node::Few(few) = self else { return };
        let scan: usize = few.iter().map(|(table, _)| tables.len(*table)).sum();
        let Some(unit) = best_unit(few, tables).filter(|_| scan <= MAX_SCAN) else {
            return;
        };
        let mut split = Split {
            unit,
            groups: Vec::new(),
        };
        for &(table, _) in few.iter() {
            let mask = bits(tables.mask(table), unit);
            let group = split.group(mask);
            tables.for_each(table, &mut |flow| {
                // The table may have flows elsewhere.
                if above.iter().all(|&(unit, value)| bits(flow, unit) == value) {
                    let node = group.values.entry(bits(flow, unit));
                    let node = node.or_insert_with(|| Node::Few(Vec::new()));
                    if let Node::Few(few) = node {
                        match few.last_mut().filter(|(t, _)| *t == table) {
                            Some((_, flows)) => *flows += 1,
                            None => few.push((table, 1)),
                        }
                    }
                }
            });
        }
        for group in &mut split.groups {
            for (&value, node) in &mut group.values {
                if matches!(node, Node::Few(few) if few.len() > FEW) {
                    above.push((unit, value));
                    node.split(tables, above);
                    above.pop();
                }
            }
        }
        *self = Node::Split(Box::new(split));
    }
}

impl Split {
    fn group(&mut self, mask: u16) -> &mut Group {
        let at = self.groups.iter().position(|g| g.mask == mask);
        let at = at.unwrap_or_else(|| {
            self.groups.push(Group {
                mask,
                values: HashMap::default(),
            });
            self.groups.len() - 1
        });
        &mut self.groups[at]
    }
}

/// The unit at which the masks differ most; None if they are all the same.
fn best_unit(few: &[(u32, u32)], tables: &impl Tables) -> Option<Unit> {
    let mut seen: HashMap<Unit, Vec<u16>, FixedState> = HashMap::default();
    for &(table, _) in few {
        for (word, mask) in tables.mask(table).iter() {
            for quarter in 0..UNITS_IN_WORD {
                let bits = (mask >> (16 * quarter)) as u16;
                let unit = (word * UNITS_IN_WORD + quarter) as Unit;
                if bits != 0 {
                    let bits_seen = seen.entry(unit).or_default();
                    if !bits_seen.contains(&bits) {
                        bits_seen.push(bits);
                    }
                }
            }
        }
    }
    let differ = |(unit, masks): (&Unit, &Vec<u16>)| {
        // Where a mask has nothing its flows are with all.
        let all_have = few.iter().all(|&(t, _)| bits(tables.mask(t), *unit) != 0);
        let n = masks.len() + usize::from(!all_have);
        (n > 1).then_some((n, std::cmp::Reverse(*unit)))
    };
    let best = seen.iter().filter_map(differ).max()?;
    Some(best.1.0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ferrovs_packet::flow::{Flow, FlowWildcards};
    use ferrovs_packet::miniflow::{Miniflow, Minimask};
    use proptest::prelude::*;

    use super::*;

    /// Tables of masks and the keys of their flows.
    #[derive(Default)]
    struct Rows(Vec<(Minimask, Vec<Flow>)>);

    impl Rows {
        fn under(&self, table: u32, key: &Flow) -> Vec<u64> {
            let key = Miniflow::new(key);
            let mask = self.mask(table);
            mask.iter().map(|(i, m)| key.view().word(i) & m).collect()
        }

        fn with<R>(&self, table: u32, key: &Flow, f: impl FnOnce(MiniRef<'_>) -> R) -> R {
            let (map, values) = (self.mask(table).map, &self.under(table, key)[..]);
            f(MiniRef { map, values })
        }
    }

    impl Tables for Rows {
        fn mask(&self, table: u32) -> MiniRef<'_> {
            self.0[table as usize].0.view()
        }
        fn len(&self, table: u32) -> usize {
            self.0[table as usize].1.len()
        }
        fn for_each(&self, table: u32, visit: &mut dyn FnMut(MiniRef<'_>)) {
            for flow in &self.0[table as usize].1 {
                self.with(table, flow, &mut *visit);
            }
        }
    }

    fn prefix(bits: u32) -> u32 {
        u32::MAX.checked_shl(32 - bits).unwrap_or(0)
    }

    fn mask(src: u32, dst: u32, port: bool) -> Minimask {
        Minimask::new(&FlowWildcards {
            masks: Flow {
                nw_src: prefix(src).into(),
                nw_dst: prefix(dst).into(),
                tp_dst: if port { u16::MAX } else { 0 }.into(),
                ..Flow::default()
            },
        })
    }

    fn key(src: u32, dst: u32, port: u16) -> Flow {
        Flow {
            nw_src: src.into(),
            nw_dst: dst.into(),
            tp_dst: port.into(),
            ..Flow::default()
        }
    }

    /// Addresses that share prefixes of any length.
    fn address() -> impl Strategy<Value = u32> {
        (0..32u32, 0..4u32).prop_map(|(bit, low)| (1 << bit) | low)
    }

    fn found(masks: &Masks, key: &Flow) -> Vec<u32> {
        let (mut seen, key) = (Vec::new(), Miniflow::new(key));
        masks.find(key.view(), &mut |table| {
            seen.push(table);
            None::<()>
        });
        seen
    }

    #[test]
    fn a_thousand_masks_of_prefixes_are_told_apart_by_a_few_looks() {
        let mut some = Rows::default();
        for (src, dst) in (1..=32).flat_map(|src| (1..=32).map(move |dst| (src, dst))) {
            let flow = key(1 << (32 - src), 1 << (32 - dst), 0);
            some.0.push((mask(src, dst, false), vec![flow]));
        }
        let masks = Masks::new(0..1024, &some);
        for (table, (_, flows)) in some.0.iter().enumerate() {
            let seen = found(&masks, &flows[0]);
            assert!(
                seen.contains(&(table as u32)) && seen.len() <= FEW,
                "{table}: {seen:?}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_table_that_has_a_flow_for_a_key_is_left_out(
            flows in prop::collection::vec(
                ((0..33u32, 0..33u32, any::<bool>()), (address(), address(), 0..3u16), any::<bool>()),
                1..120,
            ),
            first in 0..60usize,
            keys in prop::collection::vec((address(), address(), 0..3u16), 1..40),
        ) {
            let mut some = Rows::default();
            let add = |some: &mut Rows, of: (u32, u32, bool), (src, dst, port)| {
                let (mask, flow) = (mask(of.0, of.1, of.2), key(src, dst, port));
                let at = some.0.iter().position(|t| t.0 == mask).unwrap_or_else(|| {
                    some.0.push((mask, Vec::new()));
                    some.0.len() - 1
                });
                some.0[at].1.push(flow);
                (at as u32, flow)
            };
            let (before, after) = flows.split_at(first.min(flows.len()));
            let mut all: Vec<_> = before.iter().map(|(m, k, gone)| (add(&mut some, *m, *k), *gone)).collect();
            let mut masks = Masks::new(0..some.0.len() as u32, &some);
            for (m, k, gone) in after {
                let (table, flow) = add(&mut some, *m, *k);
                some.with(table, &flow, |flow| masks.insert(table, flow, &some));
                all.push(((table, flow), *gone));
            }
            let keys: Vec<_> = keys.into_iter().map(|(a, b, c)| key(a, b, c)).collect();
            let check = |masks: &Masks, some: &Rows, left: &[(u32, Flow)]| {
                for k in keys.iter().chain(left.iter().map(|(_, flow)| flow)) {
                    let seen = found(masks, k);
                    let once: BTreeSet<_> = seen.iter().collect();
                    assert_eq!(once.len(), seen.len(), "a table was visited twice");
                    for (table, flow) in left {
                        let hits = some.under(*table, flow) == some.under(*table, k);
                        assert!(!hits || seen.contains(table));
                    }
                }
            };
            let left: Vec<_> = all.iter().map(|(f, _)| *f).collect();
            check(&masks, &some, &left);
            for ((table, flow), _) in all.iter().filter(|(_, gone)| *gone) {
                some.with(*table, flow, |flow| masks.remove(*table, flow, some.mask(*table)));
            }
            let left: Vec<_> = all.iter().filter(|(_, gone)| !*gone).map(|(f, _)| *f).collect();
            check(&masks, &some, &left);
            for (table, flow) in &left {
                some.with(*table, flow, |flow| masks.remove(*table, flow, some.mask(*table)));
            }
            prop_assert!(keys.iter().all(|k| found(&masks, k).is_empty()));
        }
    }
}
