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

mod rows;

use ferrovs_packet::hash::seed;
use ferrovs_packet::miniflow::MiniRef;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use smallvec::SmallVec;

use rows::Rows;

/// Tables that are tried one after the other.
pub const FEW: usize = 8;
/// Flows that are looked at, at most, to tell their tables apart.
const MAX_SCAN: usize = 1 << 18;
/// Values of a mask that are looked at one after the other.
const FEW_VALUES: usize = 8;
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
    Few(SmallVec<[(u32, u32); 2]>),
    Split(Box<Split>),
}

impl Default for Node {
    fn default() -> Node {
        Node::Few(SmallVec::new())
    }
}

/// Flows that are told apart by a unit: by their masks' bits there, and by their own under those.
#[derive(Debug)]
struct Split {
    unit: Unit,
    /// Those of masks under which flows have few values, in one list: a look at all of it costs less than one into as
    /// many hash tables as there are masks.
    rows: Rows,
    /// Those of other masks.
    groups: Vec<Group>,
}

/// Flows whose masks have the same bits at a unit.
#[derive(Debug)]
struct Group {
    mask: u16,
    values: HashMap<u16, Node, FixedState>,
}

/// Of the values of a group, which come from packets: who sends them is not to know which meet.
fn hasher(seed: u64) -> FixedState {
    FixedState::with_seed(seed)
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
                let hit = split.rows.find(bits, &mut |node| node.find(key, visit));
                hit.or_else(|| {
                    split.groups.iter().find_map(|group| {
                        let node = group.values.get(&(bits & group.mask))?;
                        node.find(key, visit)
                    })
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
                split.node(mask, value).insert(table, flow, tables, above);
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
                let of = (bits(mask, split.unit), bits(flow, split.unit));
                split.remove(of, |node| node.remove(table, flow, mask));
                split.rows.nodes.is_empty() && split.groups.is_empty()
            }
        }
    }

    /// Tells the tables apart by the unit that does it best.
    fn split(&mut self, tables: &impl Tables, above: &mut Vec<(Unit, u16)>) {
        let Node::Few(few) = self else { return };
        let scan: usize = few.iter().map(|(table, _)| tables.len(*table)).sum();
        let Some(unit) = best_unit(few, tables).filter(|_| scan <= MAX_SCAN) else {
            return;
        };
        let mut split = Split {
            unit,
            rows: Rows::default(),
            groups: Vec::new(),
        };
        for &(table, _) in few.iter() {
            let mask = bits(tables.mask(table), unit);
            tables.for_each(table, &mut |flow| {
                // The table may have flows elsewhere.
                if above.iter().all(|&(unit, value)| bits(flow, unit) == value)
                    && let Node::Few(few) = split.node(mask, bits(flow, unit))
                {
                    match few.last_mut().filter(|(t, _)| *t == table) {
                        Some((_, flows)) => *flows += 1,
                        None => few.push((table, 1)),
                    }
                }
            });
        }
        split.for_each(&mut |value, node| {
            if matches!(node, Node::Few(few) if few.len() > FEW) {
                above.push((unit, value));
                node.split(tables, above);
                above.pop();
            }
        });
        *self = Node::Split(Box::new(split));
    }
}

impl Split {
    /// The flows whose masks have these bits, and that have this value under them.
    fn node(&mut self, mask: u16, value: u16) -> &mut Node {
        if let Some(at) = self.groups.iter().position(|g| g.mask == mask) {
            return self.groups[at].values.entry(value).or_default();
        }
        if self.rows.position(mask, value).is_none() && self.rows.values(mask) == FEW_VALUES {
            let mut values = HashMap::with_hasher(hasher(seed()));
            self.rows.take(mask, &mut |value, node| {
                values.insert(value, node);
            });
            self.groups.push(Group { mask, values });
            return self.node(mask, value);
        }
        self.rows.node(mask, value)
    }

    /// Has something removed from a node, which then may be empty.
    fn remove(&mut self, (mask, value): (u16, u16), from: impl FnOnce(&mut Node) -> bool) {
        if let Some(at) = self.groups.iter().position(|g| g.mask == mask) {
            let values = &mut self.groups[at].values;
            if values.get_mut(&value).is_some_and(from) {
                values.remove(&value);
            }
            if values.is_empty() {
                self.groups.swap_remove(at);
            }
        } else if let Some(at) = self.rows.position(mask, value)
            && from(&mut self.rows.nodes[at])
        {
            self.rows.remove(at);
        }
    }

    fn for_each(&mut self, visit: &mut impl FnMut(u16, &mut Node)) {
        let groups = self.groups.iter_mut().flat_map(|g| &mut g.values);
        groups.for_each(|(value, node)| visit(*value, node));
        for at in 0..self.rows.nodes.len() {
            let (_, value) = self.rows.of(at);
            visit(value, &mut self.rows.nodes[at]);
        }
    }
}

/// The unit that tells most of the tables apart; None if their masks are all the same.
///
/// Keys agree with a mask that has nothing at a unit whatever they have there: so it is as good as its masks are many
/// and few tables have none. That also puts the beginning of a prefix before its end.
fn best_unit(few: &[(u32, u32)], tables: &impl Tables) -> Option<Unit> {
    let mut seen: HashMap<Unit, (Vec<u16>, usize), FixedState> = HashMap::default();
    for &(table, _) in few {
        for (word, mask) in tables.mask(table).iter() {
            for quarter in 0..UNITS_IN_WORD {
                let bits = (mask >> (16 * quarter)) as u16;
                let unit = (word * UNITS_IN_WORD + quarter) as Unit;
                if bits != 0 {
                    let (masks, n) = seen.entry(unit).or_default();
                    if !masks.contains(&bits) {
                        masks.push(bits);
                    }
                    *n += 1;
                }
            }
        }
    }
    let differ = |(unit, (masks, n)): (&Unit, &(Vec<u16>, usize))| {
        let differ = masks.len() > 1 || *n < few.len();
        differ.then_some((masks.len() * n, std::cmp::Reverse(*unit)))
    };
    let best = seen.iter().filter_map(differ).max()?;
    Some(best.1.0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::hash::BuildHasher;

    use ferrovs_packet::flow::{Flow, FlowWildcards};
    use ferrovs_packet::miniflow::{Miniflow, Minimask};
    use proptest::prelude::*;

    use super::*;

    /// Tables of masks and the keys of their flows.
    #[derive(Default)]
    struct Told(Vec<(Minimask, Vec<Flow>)>);

    impl Told {
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

    impl Tables for Told {
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
        let mut some = Told::default();
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

    #[test]
    fn masks_with_many_values_are_told_apart_as_well() {
        let mut some = Told::default();
        for len in 17..=32 {
            let flows = (0..20).map(|n: u32| key(n << 8 | 1 << (32 - len), 0, 0));
            some.0.push((mask(len, 0, false), flows.collect()));
        }
        let mut masks = Masks::new(0..16, &some);
        let Node::Split(root) = &masks.root else {
            panic!("{masks:?}")
        };
        assert!(!root.groups.is_empty() && !root.rows.nodes.is_empty());
        let all = some.0.clone();
        for (table, (_, flows)) in all.iter().enumerate() {
            for flow in flows {
                assert!(found(&masks, flow).contains(&(table as u32)));
                let mask = some.mask(table as u32);
                some.with(table as u32, flow, |flow| {
                    masks.remove(table as u32, flow, mask)
                });
            }
            let gone = flows.iter().flat_map(|flow| found(&masks, flow));
            assert!(gone.into_iter().all(|t| t > table as u32));
        }
        let Node::Split(root) = &masks.root else {
            panic!("{masks:?}")
        };
        assert!(root.groups.is_empty() && root.rows.nodes.is_empty());
    }

    #[test]
    fn nobody_knows_in_advance_which_values_of_a_group_meet() {
        let places = |seed| {
            let hasher = hasher(seed);
            (0..100u16)
                .map(|value| hasher.hash_one(value) & 0x7f)
                .collect::<Vec<_>>()
        };
        assert_ne!(places(1), places(2));
        assert_eq!(places(1), places(1));
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
            let mut some = Told::default();
            let add = |some: &mut Told, of: (u32, u32, bool), (src, dst, port)| {
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
            let check = |masks: &Masks, some: &Told, left: &[(u32, Flow)]| {
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
