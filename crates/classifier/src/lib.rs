//! Tuple space search: which rule of the highest priority a packet meets, and which of the packet's bits decided.
//!
//! Rules with the same mask share a [subtable](subtable), a hash table over the masked words of their keys. A
//! lookup visits the subtables from the greatest priority down, until no later one can beat what it has found.
//! Three things keep the number of bits that a lookup depends on small, which makes wide megaflows:
//!
//! * **Stages.** A subtable is searched by metadata, then also link layer, then network, then transport layer.
//!   Each prefix of these has an index, so that a packet that no rule agrees with in the first layers never
//!   depends on the later ones.
//! * **Prefix tries.** For some fields (addresses, usually) a [trie](trie) of all prefixes in use tells which
//!   prefix lengths can match a packet at all, looking at no more bits than needed.
//! * **Port tries.** If only the transport ports kept a packet from matching in a subtable, a trie of its ports
//!   tells how many of their bits it takes to know that.
//!
//! Conjunctive rules (`conjunction(ID, K/N)`) match together: when a packet meets one rule for each of the N
//! clauses of an ID at one priority, it is looked up again with the ID in `conj_id`.
//!
//! Readers take no lock: they load one snapshot of the list of subtables and search concurrent hash maps. Writers
//! go one after the other. Rules carry the versions in which they are visible ([`ClsEntry::visible_in`]); a rule
//! must be inserted before the first version that shows it is published, and removed only after the last reader
//! of a version that shows it has gone. Under this rule a lookup sees exactly the rules of its version.
//!
//! All rules can go at once ([`Classifier::clear`]), however many they are: the snapshot then begins with a version,
//! and readers of earlier ones go on with the snapshot before it.
#![forbid(unsafe_code)]

mod arena;
mod conj;
mod rule;
mod subtable;
mod trie;

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use ferrovs_packet::field::FieldId;
use ferrovs_packet::flow::{Flow, FlowWildcards};
use ferrovs_packet::miniflow::FlowMap;
use hashbrown::{Equivalent, HashMap};

pub use rule::{ClsEntry, ClsRule, Conjunction, Found, MatchRef};

use subtable::{Hit, Subtable, is_replaced};
use trie::{TrieCtx, TrieField};

/// Fields that can have a prefix trie at the same time.
pub const MAX_TRIES: usize = 4;

/// The classifier; see the crate's text.
pub struct Classifier<T> {
    state: ArcSwap<State<T>>,
    /// Where in memory the [only rule](State::only) is; 0 if there is none. Who holds that rule need not look at the
    /// state.
    only: AtomicUsize,
    writer: Mutex<Writer<T>>,
}

fn address<T>(rule: &Arc<T>) -> usize {
    Arc::as_ptr(rule).addr()
}

/// What a lookup needs at hand: replaced when subtables come, go or change their priority.
struct State<T> {
    /// Sorted by `max_priority`, greatest first.
    subtables: Vec<Ranked<T>>,
    tries: Vec<Arc<TrieField>>,
    /// The version in which all rules that there were went, and what its predecessors see while they have readers.
    since: u64,
    before: Option<Arc<State<T>>>,
}

impl<T> State<T> {
    fn empty(tries: Vec<Arc<TrieField>>, since: u64, before: Option<Arc<State<T>>>) -> State<T> {
        State {
            subtables: Vec::new(),
            tries,
            since,
            before,
        }
    }

    /// What readers of `version` see.
    fn of(&self, version: u64) -> &State<T> {
        let mut state = self;
        while version < state.since
            && let Some(before) = &state.before
        {
            state = before;
        }
        state
    }
}

impl<T: ClsEntry> State<T> {
    /// The only rule, with its mask, if there is no more to it.
    fn only(&self) -> Option<(&Subtable<T>, &Arc<T>)> {
        match &self.subtables[..] {
            [ranked] if ranked.prefix_lens == [0; MAX_TRIES] => {
                let only = ranked.only.as_ref()?;
                only.conjunctions()
                    .is_empty()
                    .then_some((&*ranked.subtable, only))
            }
            _ => None,
        }
    }
}

impl<T> Drop for State<T> {
    /// Frees a long chain without recursion.
    fn drop(&mut self) {
        let mut next = self.before.take();
        while let Some(state) = next {
            next = Arc::into_inner(state).and_then(|mut state| state.before.take());
        }
    }
}

struct Ranked<T> {
    max_priority: i32,
    /// Length of the prefix that the mask has in each trie's field; 0 when it has none.
    prefix_lens: [u8; MAX_TRIES],
    subtable: Arc<Subtable<T>>,
    /// The rule of a subtable that has one, which then need not be searched for.
    only: Option<Arc<T>>,
    /// As in [`Owned`].
    seq: usize,
}

impl<T> Clone for Ranked<T> {
    fn clone(&self) -> Self {
        Ranked {
            max_priority: self.max_priority,
            prefix_lens: self.prefix_lens,
            subtable: self.subtable.clone(),
            only: self.only.clone(),
            seq: self.seq,
        }
    }
}

/// Identifies a subtable: the map and words of its mask.
#[derive(PartialEq, Eq)]
struct MaskKey(FlowMap, Box<[u64]>);

/// A [`MaskKey`] that borrows its words.
struct MaskRef<'a>(FlowMap, &'a [u64]);

impl<'a> MaskRef<'a> {
    fn of(m: MatchRef<'a>) -> MaskRef<'a> {
        MaskRef(m.map, m.masks)
    }
}

impl Hash for MaskRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
        self.1.hash(state);
    }
}

impl Hash for MaskKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        MaskRef(self.0, &self.1).hash(state);
    }
}

impl Equivalent<MaskKey> for MaskRef<'_> {
    fn equivalent(&self, key: &MaskKey) -> bool {
        self.0 == key.0 && *self.1 == *key.1
    }
}

impl From<&MaskRef<'_>> for MaskKey {
    fn from(mask: &MaskRef<'_>) -> MaskKey {
        MaskKey(mask.0, mask.1.into())
    }
}

struct Writer<T> {
    by_mask: HashMap<MaskKey, Owned<T>>,
    n_rules: usize,
    /// As in the readers' [`State`].
    since: u64,
    next_seq: usize,
}

/// What rules that are gone were kept in.
pub struct Rest<T> {
    _subtables: HashMap<MaskKey, Owned<T>>,
    _state: Option<Arc<State<T>>>,
}

/// All rules that a classifier had.
pub struct Cleared<T> {
    by_mask: HashMap<MaskKey, Owned<T>>,
    n_rules: usize,
    state: Arc<State<T>>,
}

impl<T> fmt::Debug for Cleared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cleared({} rules)", self.n_rules)
    }
}

/// The writer's side of a subtable.
struct Owned<T> {
    subtable: Arc<Subtable<T>>,
    /// Number of rules of each priority.
    priorities: BTreeMap<i32, usize>,
    /// Rules of all versions, also those that others stand for.
    n_rules: usize,
    /// Whether readers have the only rule at hand: they must hear of a second.
    is_at_hand: bool,
    /// Age, which orders subtables of equal priority.
    seq: usize,
}

/// With at most so many masks readers have the only rules of masks at hand: others would be dear to publish.
const FEW_MASKS: usize = 32;

impl<T> Owned<T> {
    /// Notes another rule; true if readers must hear of it.
    fn grow(&mut self) -> bool {
        self.n_rules += 1;
        self.is_at_hand
    }

    fn max_priority(&self) -> i32 {
        self.priorities
            .last_key_value()
            .map_or(i32::MIN, |(p, _)| *p)
    }
}

impl<T> Default for Classifier<T> {
    fn default() -> Self {
        Classifier {
            state: ArcSwap::from_pointee(State::empty(Vec::new(), 0, None)),
            only: AtomicUsize::new(0),
            writer: Mutex::new(Writer {
                by_mask: HashMap::new(),
                n_rules: 0,
                since: 0,
                next_seq: 0,
            }),
        }
    }
}

impl<T> fmt::Debug for Classifier<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.load();
        write!(f, "Classifier({} subtables)", state.subtables.len())
    }
}

impl<T: ClsEntry> Classifier<T> {
    pub fn new() -> Self {
        Self::default()
    }

    fn writer(&self) -> MutexGuard<'_, Writer<T>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of rules, in whatever version they are visible.
    pub fn len(&self) -> usize {
        self.writer().n_rules
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of different masks.
    pub fn n_subtables(&self) -> usize {
        self.state.load().subtables.len()
    }

    /// The rule of the highest priority that `flow` meets in `version`. Bits that decided are added to `wc`: each
    /// packet that agrees with `flow` in these gets the same answer.
    pub fn lookup(
        &self,
        version: u64,
        flow: &Flow,
        wc: Option<&mut FlowWildcards>,
    ) -> Option<Arc<T>> {
        let mut scratch = FlowWildcards::default();
        let wc = wc.unwrap_or(&mut scratch);
        self.lookup_with(version, flow, wc, None, None, |rule| rule.into_arc())
    }

    /// The same; `found` gets the rule while it is there in any case. A rule that is `expected` to be found costs less if
    /// there is no other. The conjunctive rules whose clauses made up an ID are added to `conj_rules`, also those of an
    /// ID that no rule then matched.
    pub fn lookup_with<R>(
        &self,
        version: u64,
        flow: &Flow,
        wc: &mut FlowWildcards,
        expected: Option<&Arc<T>>,
        conj_rules: Option<&mut Vec<Arc<T>>>,
        found: impl FnOnce(Found<'_, T>) -> R,
    ) -> Option<R> {
        if let Some(rule) = expected
            && self.only.load(Acquire) == address(rule)
            && rule.visible_in(version)
            && rule.match_ref().takes(flow, wc)
        {
            return Some(found(Found::Lent(rule)));
        }
        let state = self.state.load();
        let state = state.of(version);
        if let Some((subtable, only)) = state.only() {
            let is_met = subtable.meets(only, version, flow, wc);
            return is_met.then(|| found(Found::Lent(only)));
        }
        let mut tries = None;
        let mut hard: Option<Found<'_, T>> = None;
        let mut soft = Vec::new();
        for ranked in &state.subtables {
            let hard_priority = hard.as_ref().map_or(i32::MIN, |r| r.priority());
            if hard.is_some() && ranked.max_priority <= hard_priority {
                break;
            }
            match ranked.find(version, flow, &state.tries, &mut tries, wc) {
                Some(Hit::Hard(rule)) if hard.is_none() || rule.priority() > hard_priority => {
                    hard = Some(rule);
                }
                Some(Hit::Soft(candidates)) => soft.push(candidates),
                _ => {}
            }
        }
        if soft.is_empty() {
            return hard.map(found);
        }
        let hard = hard.map(Found::into_arc);
        let rule = conj::resolve(hard, soft, conj_rules, |conj_id| {
            let flow = Flow { conj_id, ..*flow };
            self.lookup_hard(state, version, &flow, wc)
        });
        rule.map(|rule| found(Found::Own(rule)))
    }

    /// A lookup that takes conjunctive rules for rules that match nothing.
    fn lookup_hard(
        &self,
        state: &State<T>,
        version: u64,
        flow: &Flow,
        wc: &mut FlowWildcards,
    ) -> Option<Arc<T>> {
        let mut tries = None;
        let mut best: Option<Arc<T>> = None;
        for ranked in &state.subtables {
            let priority = best.as_ref().map(|r| r.priority());
            if priority.is_some_and(|p| ranked.max_priority <= p) {
                break;
            }
            let hit = match ranked.find(version, flow, &state.tries, &mut tries, wc) {
                Some(Hit::Hard(rule)) => Some(rule.into_arc()),
                Some(Hit::Soft(list)) => list.into_iter().find(|r| r.conjunctions().is_empty()),
                None => None,
            };
            if let Some(rule) = hit.filter(|r| priority.is_none_or(|p| r.priority() > p)) {
                best = Some(rule);
            }
        }
        best
    }

    /// The rule with exactly this match and priority that is visible in `version`.
    pub fn find_exactly(&self, m: MatchRef<'_>, priority: i32, version: u64) -> Option<Arc<T>> {
        let writer = self.writer();
        if version < writer.since {
            return self.find_exactly_unlocked(m, priority, version);
        }
        let owned = writer.by_mask.get(&MaskRef::of(m))?;
        owned.subtable.find_exactly(m.values, priority, version)
    }

    /// The same without a lock, for who must not wait for a writer; takes longer when there are many masks.
    pub fn find_exactly_unlocked(
        &self,
        m: MatchRef<'_>,
        priority: i32,
        version: u64,
    ) -> Option<Arc<T>> {
        let state = self.state.load();
        let mut all = state.of(version).subtables.iter();
        let ranked = all.find(|ranked| ranked.subtable.has_mask(m))?;
        ranked.subtable.find_exactly(m.values, priority, version)
    }

    /// Adds a rule. There may be others of the same match and priority, visible in other versions.
    pub fn insert(&self, rule: Arc<T>) {
        let mut writer = self.writer();
        let n = writer.by_mask.len();
        let m = rule.match_ref();
        let seq = writer.next_seq;
        writer.next_seq += 1;
        let key = MaskRef::of(m);
        let owned = (writer.by_mask.entry_ref(&key)).or_insert_with(|| self.subtable_for(m, seq));
        let before = owned.max_priority();
        *owned.priorities.entry(rule.priority()).or_insert(0) += 1;
        let grown = owned.max_priority() != before;
        owned.subtable.insert(rule.clone());
        let told = owned.grow() || grown;
        writer.n_rules += 1;
        for trie in &self.state.load().tries {
            trie.insert(rule.match_ref());
        }
        if told || writer.by_mask.len() != n {
            self.publish(&mut writer, None);
        }
    }

    /// A subtable for a mask that has none: in the place of the one that was cleared, if that has readers still.
    fn subtable_for(&self, m: MatchRef<'_>, seq: usize) -> Owned<T> {
        let state = self.state.load();
        let before = state.before.as_ref();
        let old = before.and_then(|b| b.subtables.iter().find(|r| r.subtable.has_mask(m)));
        Owned {
            subtable: Arc::new(Subtable::new(m)),
            priorities: BTreeMap::new(),
            n_rules: 0,
            is_at_hand: false,
            seq: old.map_or(seq, |old| old.seq),
        }
    }

    /// Adds a rule in the place of another of the same match and priority, which readers of earlier versions go on
    /// seeing until it is removed: much cheaper than inserting one and removing the other.
    pub fn replace(&self, old: &T, rule: Arc<T>) {
        let mut writer = self.writer();
        if let Some(owned) = writer.by_mask.get_mut(&MaskRef::of(old.match_ref())) {
            owned.subtable.replace(old, rule);
            let told = owned.grow();
            writer.n_rules += 1;
            if told {
                self.publish(&mut writer, None);
            }
        }
    }

    /// Takes [`Classifier::replace`] back.
    pub fn unreplace(&self, old: &T, rule: &Arc<T>) {
        let mut writer = self.writer();
        if let Some(owned) = writer.by_mask.get_mut(&MaskRef::of(old.match_ref())) {
            owned.subtable.unreplace(old, rule);
            owned.n_rules -= 1;
            writer.n_rules -= 1;
        }
    }

    /// Removes a rule; false if it is not there.
    pub fn remove(&self, rule: &Arc<T>) -> bool {
        let mut writer = self.writer();
        let (found, ranks_changed) = self.take_out(&mut writer, rule);
        if ranks_changed {
            self.publish(&mut writer, None);
        }
        found
    }

    /// Removes rules, of which none ended before version `ended`; those that went with [`Classifier::clear`] are gone
    /// already. That all go at once costs much less than that each goes by itself; then what they were kept in is
    /// given back, which takes time to free.
    pub fn remove_all(&self, rules: &[Arc<T>], ended: u64) -> Option<Rest<T>> {
        let mut writer = self.writer();
        // A rule that ended later than the last clearing has not gone with it.
        if rules.len() > 1 && rules.len() == writer.n_rules && ended > writer.since {
            let rest = std::mem::take(&mut writer.by_mask);
            writer.n_rules = 0;
            self.publish(&mut writer, Some(self.empty_tries()));
            return Some(Rest {
                _subtables: rest,
                _state: None,
            });
        }
        let mut ranks_changed = false;
        for rule in rules {
            ranks_changed |= self.take_out(&mut writer, rule).1;
        }
        if ranks_changed {
            self.publish(&mut writer, None);
        }
        None
    }

    fn empty_tries(&self) -> Vec<Arc<TrieField>> {
        let tries = &self.state.load().tries;
        tries
            .iter()
            .map(|t| Arc::new(TrieField::new(t.field())))
            .collect()
    }

    /// Lets readers of `version` and later ones see no rule that there is: as if each ended in `version`, but whatever
    /// their number this takes the same time. Readers of earlier versions go on seeing them until
    /// [`Classifier::forget`].
    pub fn clear(&self, version: u64) -> Cleared<T> {
        let mut writer = self.writer();
        let state = self.state.load_full();
        let before = Some(state.clone());
        let cleared = Cleared {
            by_mask: std::mem::take(&mut writer.by_mask),
            n_rules: std::mem::take(&mut writer.n_rules),
            state,
        };
        writer.since = version;
        let state = State::empty(self.empty_tries(), version, before);
        self.show(Arc::new(state));
        cleared
    }

    /// The version of the last [`Classifier::clear`].
    pub fn cleared_in(&self) -> u64 {
        self.writer().since
    }

    /// Takes [`Classifier::clear`] back; what came since must be gone.
    pub fn unclear(&self, cleared: Cleared<T>) {
        let mut writer = self.writer();
        debug_assert!(writer.n_rules == 0);
        writer.by_mask = cleared.by_mask;
        writer.n_rules = cleared.n_rules;
        writer.since = cleared.state.since;
        self.show(cleared.state);
    }

    /// Forgets what was cleared up to version `oldest`, when nobody reads an earlier version any more. What it was
    /// kept in is given back.
    pub fn forget(&self, oldest: u64) -> Option<Rest<T>> {
        let writer = self.writer();
        let state = self.state.load_full();
        if state.before.is_none() || writer.since > oldest {
            return None;
        }
        self.show(Arc::new(State {
            subtables: state.subtables.clone(),
            tries: state.tries.clone(),
            since: state.since,
            before: None,
        }));
        Some(Rest {
            _subtables: HashMap::new(),
            _state: Some(state),
        })
    }

    /// Removes a rule from the writer's side: whether it was there, and whether readers must hear of it.
    fn take_out(&self, writer: &mut Writer<T>, rule: &Arc<T>) -> (bool, bool) {
        let key = MaskRef::of(rule.match_ref());
        let few = writer.by_mask.len() <= FEW_MASKS;
        let Some(owned) = writer.by_mask.get_mut(&key) else {
            return (false, false);
        };
        if !owned.subtable.remove(rule) {
            return (false, false);
        }
        writer.n_rules -= 1;
        owned.n_rules -= 1;
        let alone = few && owned.n_rules == 1;
        if is_replaced(&**rule) {
            return (true, alone);
        }
        let before = owned.max_priority();
        if let Some(n) = owned.priorities.get_mut(&rule.priority()) {
            *n -= 1;
            if *n == 0 {
                owned.priorities.remove(&rule.priority());
            }
        }
        let after = owned.max_priority();
        let gone = owned.priorities.is_empty();
        if gone {
            writer.by_mask.remove(&key);
        }
        for trie in &self.state.load().tries {
            trie.remove(rule.match_ref());
        }
        (true, alone || gone || after != before)
    }

    /// Sets the fields that have a prefix trie, at most [`MAX_TRIES`] of those with
    /// [`Field::prefix_trie`](ferrovs_packet::field::Field::prefix_trie). True if that changed anything.
    pub fn set_prefixes(&self, fields: &[FieldId]) -> bool {
        let fields: Vec<_> = fields
            .iter()
            .copied()
            .filter(|f| f.field().prefix_trie)
            .take(MAX_TRIES)
            .collect();
        let mut writer = self.writer();
        let old: Vec<_> = self.state.load().tries.iter().map(|t| t.field()).collect();
        if old == fields {
            return false;
        }
        let tries: Vec<_> = fields
            .into_iter()
            .map(|f| Arc::new(TrieField::new(f)))
            .collect();
        for owned in writer.by_mask.values() {
            owned.subtable.for_all(&mut |rule: &Arc<T>| {
                if is_replaced(&**rule) {
                    return;
                }
                tries.iter().for_each(|trie| trie.insert(rule.match_ref()));
            });
        }
        self.publish(&mut writer, Some(tries));
        true
    }

    /// Calls `visit` with each rule that is visible in `version`: by falling priority of the subtables, and in each
    /// in the order in which the matches came. The rules may change meanwhile; `visit` may remove them.
    pub fn for_each(&self, version: u64, visit: &mut dyn FnMut(&Arc<T>)) {
        let state = self.state.load_full();
        for ranked in &state.of(version).subtables {
            ranked
                .subtable
                .for_each(&|rule| rule.visible_in(version), visit);
        }
    }

    /// Calls `visit` with each rule visible in `version` that lies within `target`: every packet that meets the
    /// rule meets `target` too.
    pub fn for_each_within(
        &self,
        target: MatchRef<'_>,
        version: u64,
        visit: &mut dyn FnMut(&Arc<T>),
    ) {
        let state = self.state.load_full();
        for ranked in &state.of(version).subtables {
            if !ranked.subtable.may_be_within(target) {
                continue;
            }
            let wanted = |rule: &T| rule.visible_in(version) && rule.match_ref().is_within(target);
            ranked.subtable.for_each(&wanted, visit);
        }
    }

    /// A rule of this priority, visible in `version`, that some packet meets which also meets `target`.
    pub fn find_overlap(
        &self,
        target: MatchRef<'_>,
        priority: i32,
        version: u64,
    ) -> Option<Arc<T>> {
        let state = self.state.load_full();
        let mut found = None;
        for ranked in state
            .of(version)
            .subtables
            .iter()
            .take_while(|r| r.max_priority >= priority)
        {
            ranked.subtable.for_all(&mut |rule: &Arc<T>| {
                let same = rule.priority() == priority && rule.visible_in(version);
                if found.is_none() && same && rule.match_ref().overlaps(target) {
                    found = Some(rule.clone());
                }
            });
            if found.is_some() {
                break;
            }
        }
        found
    }

    /// Lets readers see a state.
    fn show(&self, state: Arc<State<T>>) {
        // A rule that is not alone any more is known to be before another is visible.
        let only = state.only().map_or(0, |(_, only)| address(only));
        self.only.store(only, Release);
        self.state.store(state);
    }

    /// Makes the writer's view that of the readers.
    fn publish(&self, writer: &mut Writer<T>, tries: Option<Vec<Arc<TrieField>>>) {
        let old = self.state.load();
        let tries = tries.unwrap_or_else(|| old.tries.clone());
        let few = writer.by_mask.len() <= FEW_MASKS;
        let mut owned: Vec<_> = writer.by_mask.values_mut().collect();
        owned.sort_unstable_by_key(|o| (std::cmp::Reverse(o.max_priority()), o.seq));
        let subtables = owned
            .into_iter()
            .map(|owned| {
                let mut prefix_lens = [0; MAX_TRIES];
                for (len, trie) in prefix_lens.iter_mut().zip(&tries) {
                    *len = trie.prefix_len(owned.subtable.mask());
                }
                let only = match few && owned.n_rules == 1 {
                    true => owned.subtable.first(),
                    false => None,
                };
                owned.is_at_hand = only.is_some();
                Ranked {
                    max_priority: owned.max_priority(),
                    prefix_lens,
                    subtable: owned.subtable.clone(),
                    only,
                    seq: owned.seq,
                }
            })
            .collect();
        self.show(Arc::new(State {
            subtables,
            tries,
            since: old.since,
            before: old.before.clone(),
        }));
    }
}

impl<T: ClsEntry> Ranked<T> {
    fn find(
        &self,
        version: u64,
        flow: &Flow,
        tries: &[Arc<TrieField>],
        ctx: &mut Option<[TrieCtx; MAX_TRIES]>,
        wc: &mut FlowWildcards,
    ) -> Option<Hit<'_, T>> {
        let has_prefix = self.prefix_lens != [0; MAX_TRIES];
        let hopeless = |start: usize, end: usize, wc: &mut FlowWildcards| {
            let ctx = ctx.get_or_insert_default();
            let mut all = tries.iter().zip(ctx.iter_mut()).zip(self.prefix_lens);
            all.any(|((trie, ctx), len)| {
                len > 0 && trie.is_in(start, end) && trie.rules_out(ctx, flow, len, wc)
            })
        };
        let table = &*self.subtable;
        let Some(only) = &self.only else {
            return match has_prefix {
                true => table.find(version, flow, hopeless, wc),
                false => table.find(version, flow, |_, _, _| false, wc),
            };
        };
        let is_met = match has_prefix {
            true => table.meets_in_stages(only, version, flow, hopeless, wc),
            false => table.meets(only, version, flow, wc),
        };
        is_met.then(|| match only.conjunctions() {
            [] => Hit::Hard(Found::Lent(only)),
            _ => Hit::Soft(vec![only.clone()]),
        })
    }
}

#[cfg(test)]
mod tests;
