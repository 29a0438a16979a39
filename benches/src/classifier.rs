//! The classifier of OpenFlow tables: 8,000 rules of four kinds, two of them with prefixes that a trie keeps.

use std::sync::Arc;

use ferrovs_classifier::{Classifier, ClsRule};
use ferrovs_packet::field::FieldId;
use ferrovs_packet::flow::{Flow, FlowWildcards, Match};
use ferrovs_packet::types::{eth_type, ip_proto};

use crate::{Bench, counted};

type Rule = ClsRule<u32>;

pub const BENCHES: &[Bench] = &[
    ("classifier/insert", || {
        let cls = classifier();
        counted(rules(), |rule| cls.insert(rule))
    }),
    ("classifier/delete", || {
        let (cls, rules) = (classifier(), rules());
        rules.iter().for_each(|rule| cls.insert(rule.clone()));
        counted(&rules, |rule| assert!(cls.remove(rule)))
    }),
    ("classifier/delete-all", || {
        let (cls, rules) = (classifier(), rules());
        rules.iter().for_each(|rule| cls.insert(rule.clone()));
        counted([()], |()| cls.remove_all(&rules, 1));
        rules.len() as u64
    }),
    ("classifier/lookup", || {
        let cls = classifier();
        rules().into_iter().for_each(|rule| cls.insert(rule));
        let flows: Vec<Flow> = (0..2000).map(|n| flow(n * 5)).collect();
        counted(&flows, |flow| {
            let mut wc = FlowWildcards::default();
            cls.lookup(1, flow, Some(&mut wc))
        })
    }),
];

fn classifier() -> Classifier<Rule> {
    let cls = Classifier::new();
    cls.set_prefixes(&[FieldId::IpDst, FieldId::IpSrc]);
    cls
}

fn flow(n: u32) -> Flow {
    Flow {
        in_port: n % 8,
        dl_type: eth_type::IP.into(),
        nw_proto: ip_proto::TCP,
        nw_src: (0x0a00_0000 | n << 8).into(),
        nw_dst: (0xc0a8_0000 | n).into(),
        tp_dst: (n as u16 % 1000).into(),
        ..Flow::default()
    }
}

fn rules() -> Vec<Arc<Rule>> {
    let rule = |n: u32| {
        let mut wc = FlowWildcards::default();
        let masks = &mut wc.masks;
        masks.dl_type = u16::MAX.into();
        match n % 4 {
            0 => masks.nw_dst = u32::MAX.into(),
            1 => masks.nw_src = 0xffff_ff00.into(),
            2 => {
                masks.in_port = u32::MAX;
                masks.nw_dst = 0xffff_fff0.into();
            }
            _ => {
                masks.nw_proto = u8::MAX;
                masks.nw_dst = u32::MAX.into();
                masks.tp_dst = u16::MAX.into();
            }
        }
        Arc::new(Rule::new(&Match::new(&flow(n), &wc), (n % 4) as i32, 1, n))
    };
    (0..8000).map(rule).collect()
}
