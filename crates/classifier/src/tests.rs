use ferrovs_packet::flow::{FLOW_WORDS, Match};
use ferrovs_packet::miniflow::MiniMatch;
use ferrovs_packet::types::eth_type;
use proptest::prelude::*;

use super::*;

type Rule = ClsRule<usize>;

/// Keys that differ in few bits of a few fields of each stage, so that rules and packets often agree.
fn any_flow() -> impl Strategy<Value = Flow> {
    let parts = (
        0u32..3,
        0u64..2,
        0u16..3,
        0u32..8,
        0u32..4,
        (0u16..4, 0u16..4),
    );
    parts.prop_map(|(in_port, metadata, vlan, src, dst, (sport, dport))| {
        let mut flow = Flow {
            in_port,
            metadata: metadata.into(),
            dl_type: eth_type::IP.into(),
            nw_src: (src << 29 | src).into(),
            nw_dst: (dst << 30).into(),
            tp_src: (sport << 14).into(),
            tp_dst: dport.into(),
            ..Flow::default()
        };
        flow.vlans[0].tci = vlan.into();
        flow
    })
}

fn any_mask() -> impl Strategy<Value = FlowWildcards> {
    let parts = (
        any::<[bool; 5]>(),
        prop::sample::select(vec![0u32, 1, 2, 3, 32]),
        prop::sample::select(vec![0u32, 1, 2, 32]),
        0u16..4,
    );
    parts.prop_map(|(bits, src, dst, sport)| {
        let mut wc = FlowWildcards::default();
        let m = &mut wc.masks;
        let prefix = |n: u32| u32::MAX.checked_shl(32 - n).unwrap_or(0);
        m.in_port = if bits[0] { u32::MAX } else { 0 };
        m.metadata = (if bits[1] { u64::MAX } else { 0 }).into();
        m.vlans[0].tci = (if bits[2] { 0xffff } else { 0 }).into();
        // A mask that is no prefix now and then.
        m.nw_src = (if bits[4] && src == 3 {
            0x4000_0001
        } else {
            prefix(src)
        })
        .into();
        m.nw_dst = prefix(dst).into();
        m.tp_src = (sport << 14).into();
        m.tp_dst = (if bits[3] { 0xffff } else { 0 }).into();
        wc
    })
}

fn any_match() -> impl Strategy<Value = Match> {
    (any_flow(), any_mask()).prop_map(|(flow, wc)| Match::new(&flow, &wc))
}

/// A list of rules with what `insert`, `remove` and versions mean.
#[derive(Default)]
struct Model {
    rules: Vec<(Match, Arc<Rule>)>,
}

impl Model {
    /// The greatest priority in the model and all rules with it that the packet meets.
    fn lookup(&self, version: u64, flow: &Flow) -> Vec<usize> {
        let visible = |r: &Rule| r.visible_in(version);
        let met = || {
            self.rules
                .iter()
                .filter(|(m, r)| visible(r) && m.matches(flow))
        };
        let Some(best) = met().map(|(_, r)| r.priority()).max() else {
            return vec![];
        };
        met()
            .filter(|(_, r)| r.priority() == best)
            .map(|(_, r)| r.data)
            .collect()
    }
}

const PREFIXES: [FieldId; 2] = [FieldId::IpDst, FieldId::IpSrc];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn it_finds_what_a_linear_scan_finds_and_its_wildcards_tell_all_that_decided(
        rules in prop::collection::vec((any_match(), 0i32..6, any::<bool>(), 1u64..3), 0..24),
        flows in prop::collection::vec(any_flow(), 1..24),
        tries: bool,
    ) {
        let cls = Classifier::new();
        if tries {
            cls.set_prefixes(&PREFIXES);
        }
        let mut model = Model::default();
        for (data, (m, priority, remove, added)) in rules.iter().enumerate() {
            let rule = Arc::new(Rule::new(m, *priority, *added, data));
            cls.insert(rule.clone());
            if *remove {
                prop_assert!(cls.remove(&rule) && !cls.remove(&rule));
            } else {
                model.rules.push((*m, rule));
            }
        }
        if !tries {
            cls.set_prefixes(&PREFIXES[..1]);
        }
        prop_assert_eq!(cls.len(), model.rules.len());
        for version in 1..3 {
            for flow in &flows {
                let mut wc = FlowWildcards::default();
                let found = cls.lookup(version, flow, Some(&mut wc));
                // It makes no difference what is expected.
                for (_, rule) in &model.rules {
                    let mut same = FlowWildcards::default();
                    let keep = |rule: Found<'_, Rule>| rule.into_arc();
                    let again = cls.lookup_with(version, flow, &mut same, Some(rule), None, keep);
                    prop_assert_eq!(again.map(|r| r.data), found.as_ref().map(|r| r.data));
                    prop_assert_eq!(same, wc);
                }
                let want = model.lookup(version, flow);
                match &found {
                    Some(rule) => prop_assert!(want.contains(&rule.data)),
                    None => prop_assert!(want.is_empty()),
                }
                prop_assert_eq!(
                    cls.lookup(version, flow, None).map(|r| r.data),
                    found.as_ref().map(|r| r.data)
                );
                let megaflow = Match::new(flow, &wc);
                for other in flows.iter().filter(|f| megaflow.matches(f)) {
                    let same = cls.lookup(version, other, None);
                    prop_assert_eq!(same.map(|r| r.data), found.as_ref().map(|r| r.data));
                }
            }
        }
        for (m, rule) in &model.rules {
            let mini = MiniMatch::new(m);
            let found = cls.find_exactly(MatchRef::from(&mini), rule.priority(), 2);
            prop_assert!(found.is_some_and(|f| f.mini_match() == rule.mini_match()));
        }
    }

    #[test]
    fn a_rule_at_hand_is_met_as_if_it_were_searched_for(
        rules in prop::collection::vec((any_match(), any::<bool>(), 1u64..3), 1..12),
        flows in prop::collection::vec(any_flow(), 1..12),
        hopeless_from in 0..FLOW_WORDS,
    ) {
        let cls = Classifier::new();
        for (data, (m, remove, added)) in rules.iter().enumerate() {
            let rule = Arc::new(Rule::new(m, 1, *added, data));
            cls.insert(rule.clone());
            if *remove {
                cls.remove(&rule);
            }
        }
        for ranked in &cls.state.load().subtables {
            let mut n = 0;
            ranked.subtable.for_all(&mut |_| n += 1);
            prop_assert_eq!(ranked.only.is_some(), n == 1);
            let Some(only) = &ranked.only else { continue };
            for (flow, version) in flows.iter().zip([1, 2].into_iter().cycle()) {
                let hopeless = |start: usize, _: usize, _: &mut FlowWildcards| start >= hopeless_from;
                let (mut met, mut searched) = (FlowWildcards::default(), FlowWildcards::default());
                let a = ranked.subtable.meets_in_stages(only, version, flow, hopeless, &mut met);
                let b = ranked.subtable.find(version, flow, hopeless, &mut searched);
                prop_assert_eq!((a, met), (b.is_some(), searched));
                let never = |_: usize, _: usize, _: &mut FlowWildcards| false;
                let (mut met, mut searched) = (FlowWildcards::default(), FlowWildcards::default());
                let a = ranked.subtable.meets(only, version, flow, &mut met);
                let b = ranked.subtable.find(version, flow, never, &mut searched);
                prop_assert_eq!((a, met), (b.is_some(), searched));
            }
        }
    }

    #[test]
    fn loose_and_overlapping_rules_are_those_of_the_definition(
        rules in prop::collection::vec((any_match(), 0i32..3), 0..16),
        target in any_match(),
        flow in any_flow(),
    ) {
        let cls = Classifier::new();
        for (data, (m, priority)) in rules.iter().enumerate() {
            cls.insert(Arc::new(Rule::new(m, *priority, 1, data)));
        }
        let mini = MiniMatch::new(&target);
        let target_ref = MatchRef::from(&mini);
        let mut within = vec![];
        cls.for_each_within(target_ref, 1, &mut |rule| within.push(rule.data));
        within.sort_unstable();
        let mut all = 0;
        cls.for_each(1, &mut |_| all += 1);
        prop_assert_eq!(all, rules.len());
        let want: Vec<_> = (0..rules.len())
            .filter(|&i| {
                let m = &rules[i].0;
                let tighter = m.wc.masks.words().iter().zip(target.wc.masks.words());
                tighter.into_iter().all(|(a, b)| a & b == *b) && target.matches(&m.flow)
            })
            .collect();
        prop_assert_eq!(within, want);
        for (m, priority) in &rules {
            if m.matches(&flow) && target.matches(&flow) {
                prop_assert!(cls.find_overlap(target_ref, *priority, 1).is_some());
            }
        }
        prop_assert!(cls.find_overlap(target_ref, 9, 1).is_none());
    }
}

fn ip_rule(
    cls: &Classifier<Rule>,
    dst: u32,
    len: u32,
    port: Option<u16>,
    priority: i32,
    data: usize,
) {
    let mut m = Match::default();
    FieldId::EthType
        .field()
        .set_match_exact(&0x800_u64.into(), &mut m);
    m.wc.masks.nw_dst = u32::MAX.checked_shl(32 - len).unwrap_or(0).into();
    m.flow.nw_dst = dst.into();
    if let Some(port) = port {
        m.wc.masks.tp_dst = 0xffff.into();
        m.flow.tp_dst = port.into();
    }
    cls.insert(Arc::new(Rule::new(
        &Match::new(&m.flow, &m.wc),
        priority,
        1,
        data,
    )));
}

#[test]
fn a_trie_of_ip_addresses_says_nothing_of_arp_addresses_in_the_same_place() {
    let cls = Classifier::new();
    cls.set_prefixes(&PREFIXES);
    let mut arp = Flow {
        dl_type: eth_type::ARP.into(),
        nw_dst: 0x0a00_0007.into(),
        ..Flow::default()
    };
    let mut wc = FlowWildcards::default();
    wc.masks.dl_type = 0xffff.into();
    wc.masks.nw_dst = u32::MAX.into();
    cls.insert(Arc::new(Rule::new(&Match::new(&arp, &wc), 10, 1, 1)));
    arp.nw_dst = 0xc000_0000.into();
    let mut wc = FlowWildcards::default();
    assert!(cls.lookup(1, &arp, Some(&mut wc)).is_none());
    assert_eq!(wc.masks.nw_dst.get(), u32::MAX);
}

#[test]
fn a_lookup_depends_on_no_more_bits_than_it_must() {
    let cls = Classifier::new();
    cls.set_prefixes(&PREFIXES);
    ip_rule(&cls, 0x0a01_0000, 16, Some(80), 10, 1);
    ip_rule(&cls, 0, 0, None, 1, 2);
    let wc = |dst: u32, port: u16| {
        let flow = Flow {
            dl_type: eth_type::IP.into(),
            nw_dst: dst.into(),
            tp_dst: port.into(),
            ..Flow::default()
        };
        let mut wc = FlowWildcards::default();
        let found = cls.lookup(1, &flow, Some(&mut wc)).map(|r| r.data);
        (found, wc.masks.nw_dst.get(), wc.masks.tp_dst.get())
    };
    assert_eq!(wc(0x0a01_0203, 80), (Some(1), 0xffff_0000, 0xffff));
    // The trie needs one bit to see that 192.0.0.0 is outside.
    assert_eq!(wc(0xc000_0000, 80), (Some(2), 0x8000_0000, 0));
    assert_eq!(wc(0x0a02_0000, 80), (Some(2), 0xfffe_0000, 0));
    // The trie of ports sees the difference in the first bit.
    assert_eq!(wc(0x0a01_0203, 0x8000), (Some(2), 0xffff_0000, 0x8000));
}

#[test]
fn a_layer_that_no_rule_agrees_with_spares_the_later_ones() {
    let cls = Classifier::new();
    let mut m = Match::default();
    m.wc.masks.in_port = u32::MAX;
    m.flow.in_port = 1;
    m.wc.masks.tp_src = 0xffff.into();
    cls.insert(Arc::new(Rule::new(&m, 5, 1, 0)));
    let mut wc = FlowWildcards::default();
    let flow = Flow {
        in_port: 2,
        ..Flow::default()
    };
    assert!(cls.lookup(1, &flow, Some(&mut wc)).is_none());
    assert_eq!((wc.masks.in_port, wc.masks.tp_src.get()), (u32::MAX, 0));
}

#[test]
fn conjunctive_rules_match_together_at_their_priority() {
    let cls = Classifier::new();
    let conj = |clause| Conjunction {
        id: 7,
        clause,
        n_clauses: 2,
    };
    let field = |id: FieldId, value: u64| {
        let mut m = Match::default();
        id.field().set_match_exact(&value.into(), &mut m);
        m
    };
    let add = |m: Match, priority, data, conjs: &[Conjunction]| {
        cls.insert(Arc::new(
            Rule::new(&m, priority, 1, data).with_conjunctions(conjs),
        ));
    };
    add(field(FieldId::IpSrc, 1), 10, 1, &[conj(0)]);
    add(field(FieldId::IpSrc, 2), 10, 2, &[conj(0)]);
    add(field(FieldId::IpDst, 9), 10, 3, &[conj(1)]);
    add(field(FieldId::ConjId, 7), 10, 4, &[]);
    add(Match::default(), 5, 5, &[]);
    add(field(FieldId::IpSrc, 2), 8, 6, &[]);
    let find = |src: u32, dst: u32| {
        let flow = Flow {
            nw_src: src.into(),
            nw_dst: dst.into(),
            ..Flow::default()
        };
        cls.lookup(1, &flow, None).map(|r| r.data)
    };
    assert_eq!(find(1, 9), Some(4));
    assert_eq!(find(2, 9), Some(4));
    // One clause is not enough; what is below it in the same subtable counts then.
    assert_eq!(find(2, 8), Some(6));
    assert_eq!(find(1, 8), Some(5));
    assert_eq!(find(3, 9), Some(5));
    // Who asks is told of which rules the match was made.
    let told = |src: u32, dst: u32| {
        let flow = Flow {
            nw_src: src.into(),
            nw_dst: dst.into(),
            ..Flow::default()
        };
        let mut parts = Vec::new();
        let mut wc = FlowWildcards::default();
        let rule = cls.lookup_with(1, &flow, &mut wc, None, Some(&mut parts), |rule| {
            rule.into_arc()
        });
        let mut parts: Vec<_> = parts.iter().map(|r| r.data).collect();
        parts.sort_unstable();
        (rule.map(|r| r.data), parts)
    };
    assert_eq!(told(1, 9), (Some(4), vec![1, 3]));
    assert_eq!(told(2, 9), (Some(4), vec![2, 3]));
    assert_eq!(told(2, 8), (Some(6), vec![]));
    // Something above the conjunction wins over it.
    add(field(FieldId::IpSrc, 1), 11, 8, &[]);
    assert_eq!(find(1, 9), Some(8));
}

#[test]
fn readers_see_whole_versions_while_a_writer_works() {
    let cls: Arc<Classifier<Rule>> = Arc::default();
    let versions = Arc::new(ferrovs_sync::Versions::default());
    let match_of = |i: usize| {
        let mut m = Match::default();
        m.wc.masks.metadata = (u64::MAX << (i % 5)).into();
        m.flow.metadata = 64.into();
        m
    };
    let first = Arc::new(Rule::new(&match_of(0), 0, 1, 0));
    cls.insert(first.clone());
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let reader = {
        let (cls, versions, stop) = (cls.clone(), versions.clone(), stop.clone());
        std::thread::spawn(move || {
            let flow = Flow {
                metadata: 64.into(),
                ..Flow::default()
            };
            let mut n = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let pin = versions.pin();
                // Version v shows exactly the rule with number v - 1.
                let found = cls.lookup(pin.version, &flow, None).map(|r| r.data);
                assert_eq!(found, Some(pin.version as usize - 1));
                n += 1;
            }
            n
        })
    };
    let mut old = std::collections::VecDeque::from([first]);
    for i in 1..3000usize {
        let version = i as u64 + 1;
        let rule = Arc::new(Rule::new(&match_of(i), i as i32 % 7, version, i));
        cls.insert(rule.clone());
        old.back().unwrap().remove_in(version);
        versions.publish(version);
        old.push_back(rule);
        // Rule n is last visible in version n + 1.
        while old.len() > 1 && (old[0].data as u64) + 1 < versions.oldest_pinned() {
            assert!(cls.remove(&old[0]));
            old.pop_front();
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(reader.join().unwrap() > 0);
}

#[test]
fn what_is_removed_is_gone() {
    let cls: Classifier<Rule> = Classifier::new();
    cls.set_prefixes(&[FieldId::IpSrc]);
    let rule = |src: u32, priority| {
        let mut m = Match::default();
        let src = u128::from(src).into();
        FieldId::IpSrc.field().set_match_exact(&src, &mut m);
        FieldId::TcpDst
            .field()
            .set_match_exact(&80u64.into(), &mut m);
        let rule = Arc::new(Rule::new(&m, priority, 1, 0));
        cls.insert(rule.clone());
        rule
    };
    // Of one match there may be several.
    let same: Vec<_> = (0..3).map(|priority| rule(1, priority)).collect();
    let others: Vec<_> = (2..50).map(|src| rule(src, 1)).collect();
    let held = || {
        let mut n = 0;
        for ranked in &cls.state.load().subtables {
            ranked.subtable.for_all(&mut |_| n += 1);
        }
        n
    };
    for (gone, left) in [(&same[1], 50), (&same[0], 49), (&same[2], 48)] {
        assert!(cls.remove(gone) && !cls.remove(gone));
        assert_eq!(held(), left);
    }
    cls.remove_all(&others[..5], 1);
    assert_eq!((cls.len(), cls.n_subtables()), (43, 1));
    cls.remove_all(&others[5..], 1);
    assert_eq!((cls.len(), cls.n_subtables(), held()), (0, 0, 0));
    // What comes afterwards is found, and the prefixes of what went are forgotten.
    let back = rule(7, 1);
    let find = |src: u32| {
        let (mut wc, mut flow) = (FlowWildcards::default(), back.mini_match().expand().flow);
        flow.nw_src = src.into();
        (
            cls.lookup(1, &flow, Some(&mut wc)).is_some(),
            wc.masks.nw_src,
        )
    };
    assert_eq!(find(7), (true, u32::MAX.into()));
    assert_eq!(find(8), (false, 0xffff_ffff_u32.into()));
}

#[test]
fn a_rule_that_replaces_another_stands_for_it() {
    let cls: Classifier<Rule> = Classifier::new();
    cls.set_prefixes(&[FieldId::IpSrc]);
    let rule = |src: u32, version, data| {
        let mut m = Match::default();
        let src = u128::from(src).into();
        FieldId::IpSrc.field().set_match_exact(&src, &mut m);
        Arc::new(Rule::new(&m, 1, version, data))
    };
    let find = |src: u32, version| {
        let (mut wc, mut flow) = (FlowWildcards::default(), Flow::default());
        flow.dl_type = 0x0800.into();
        flow.nw_src = src.into();
        let found = cls.lookup(version, &flow, Some(&mut wc)).map(|r| r.data);
        (found, u32::from(wc.masks.nw_src))
    };
    let listed = |version| {
        let mut data = Vec::new();
        cls.for_each(version, &mut |rule| data.push(rule.data));
        data
    };
    let (old, other) = (rule(0x8000_0000, 1, 1), rule(0x4000_0000, 1, 2));
    cls.insert(old.clone());
    cls.insert(other.clone());
    let new = rule(0x8000_0000, 2, 3);
    // Taken back, it leaves no trace.
    cls.replace(&old, new.clone());
    cls.unreplace(&old, &new);
    assert_eq!(listed(2), [1, 2]);
    cls.replace(&old, new.clone());
    old.remove_in(2);
    assert_eq!(find(0x8000_0000, 1), (Some(1), u32::MAX));
    assert_eq!(find(0x8000_0000, 2), (Some(3), u32::MAX));
    assert_eq!((listed(1), listed(2)), (vec![1, 2], vec![3, 2]));
    // New tries count the one that stands for both.
    cls.set_prefixes(&[]);
    cls.set_prefixes(&[FieldId::IpSrc]);
    assert!(cls.remove(&old) && !cls.remove(&old));
    assert_eq!(find(0x8000_0000, 2), (Some(3), u32::MAX));
    assert_eq!((listed(2), cls.len()), (vec![3, 2], 2));
    // Its prefix goes with it: one bit tells that nothing begins so.
    assert!(cls.remove(&new));
    assert_eq!(find(0x8000_0000, 2), (None, 0x8000_0000));
    assert!(cls.remove(&other));
    assert_eq!((cls.len(), cls.n_subtables()), (0, 0));
}

#[test]
fn what_is_cleared_goes_for_later_versions_only() {
    let cls: Classifier<Rule> = Classifier::new();
    cls.set_prefixes(&[FieldId::IpSrc]);
    let rule = |src: u32, version, data| {
        let mut m = Match::default();
        let src = u128::from(src).into();
        FieldId::IpSrc.field().set_match_exact(&src, &mut m);
        Arc::new(Rule::new(&m, 1, version, data))
    };
    let listed = |version| {
        let mut data = Vec::new();
        cls.for_each(version, &mut |rule| data.push(rule.data));
        data
    };
    let find = |src: u32, version| {
        let (mut wc, mut flow) = (FlowWildcards::default(), Flow::default());
        flow.dl_type = 0x0800.into();
        flow.nw_src = src.into();
        let found = cls.lookup(version, &flow, Some(&mut wc)).map(|r| r.data);
        (found, u32::from(wc.masks.nw_src))
    };
    let old: Vec<_> = (1..4).map(|src| rule(src, 1, src as usize)).collect();
    old.iter().for_each(|rule| cls.insert(rule.clone()));
    // Taken back, it leaves no trace.
    let cleared = cls.clear(2);
    assert_eq!(
        (listed(1), listed(2), cls.len()),
        (vec![1, 2, 3], vec![], 0)
    );
    cls.unclear(cleared);
    assert_eq!(
        (listed(2), cls.len(), cls.cleared_in()),
        (vec![1, 2, 3], 3, 0)
    );
    let cleared = cls.clear(2);
    // Who comes again is new.
    for (src, data) in [(9, 19), (3, 13), (1, 11)] {
        cls.insert(rule(src, 2, data));
    }
    assert_eq!((listed(1), listed(2)), (vec![1, 2, 3], vec![19, 13, 11]));
    assert_eq!(
        (find(2, 1).0, find(2, 2).0, find(3, 2).0),
        (Some(2), None, Some(13))
    );
    let match_ = old[1].match_ref();
    let exactly = |version| cls.find_exactly(match_, 1, version).map(|r| r.data);
    assert_eq!((exactly(1), exactly(2)), (Some(2), None));
    // It is not here to be removed, and does not count.
    assert!(!cls.remove(&old[1]));
    assert!(cls.remove_all(&old, 2).is_none());
    assert_eq!(listed(2), [19, 13, 11]);
    assert!(cls.forget(1).is_none());
    assert!(cls.forget(2).is_some() && cls.forget(2).is_none());
    drop(cleared);
    assert_eq!(old.iter().map(Arc::strong_count).max(), Some(1));
    assert_eq!((listed(2), find(3, 2).0), (vec![19, 13, 11], Some(13)));
}

#[test]
fn a_rule_is_at_hand_while_it_is_the_only_one_of_its_mask() {
    let rule = |metadata: u64, data| {
        let mut m = Match::default();
        (m.flow.metadata, m.wc.masks.metadata) = (metadata.into(), u64::MAX.into());
        Arc::new(Rule::new(&m, 1, 1, data))
    };
    let cls = Classifier::new();
    let at_hand = || {
        let state: &State<Rule> = &cls.state.load();
        state.subtables[0].only.as_ref().map(|r| r.data)
    };
    let (a, b, newer) = (rule(1, 1), rule(2, 2), rule(1, 3));
    cls.insert(a.clone());
    assert_eq!(at_hand(), Some(1));
    assert_eq!(cls.only.load(Acquire), address(&a));
    cls.insert(b.clone());
    assert_eq!(at_hand(), None);
    assert_eq!(cls.only.load(Acquire), 0);
    cls.remove(&b);
    assert_eq!(at_hand(), Some(1));
    cls.replace(&a, newer.clone());
    assert_eq!(at_hand(), None);
    cls.remove(&a);
    assert_eq!(at_hand(), Some(3));
    cls.replace(&newer, a.clone());
    cls.unreplace(&newer, &a);
    cls.insert(b.clone());
    cls.remove_all(&[b], 1);
    assert_eq!(at_hand(), Some(3));
    // Many masks would be dear to publish with each.
    let other = |i: usize| {
        let mut m = Match::default();
        m.wc.masks.regs[i] = u32::MAX;
        Arc::new(Rule::new(&m, 1, 1, 100 + i))
    };
    (0..32).for_each(|i| cls.insert(other(i)));
    assert_eq!(cls.n_subtables(), FEW_MASKS + 1);
    assert_eq!(at_hand(), None);
}
