//! Policy rules: which table is asked for the way, by the source address that a packet shall have.
//!
//! Rules are asked in the order of their numbers ("priority": the lowest first), those of one
//! number in the order in which they came. Three are always there, as in the kernel; the kernel's
//! own are mirrored beside them, "User" ones come by `ovs/route/rule/add`. Only rules that look at
//! nothing but the source are mirrored: a tunnel knows no more of its packets.

use std::net::IpAddr;

use super::table::{RT_TABLE_DEFAULT, RT_TABLE_LOCAL, RT_TABLE_MAIN};
use super::{common_len, mask, to_bits};

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub priority: u32,
    pub user: bool,
    /// It speaks of packets that are *not* from there.
    pub invert: bool,
    pub ipv4: bool,
    /// The sources it speaks of, not masked: all if this is nothing.
    pub from: Option<(IpAddr, u8)>,
    pub table: u32,
}

impl Rule {
    fn cached(ipv4: bool, priority: u32, table: u32) -> Rule {
        Rule {
            priority,
            user: false,
            invert: false,
            ipv4,
            from: None,
            table,
        }
    }

    /// Whether it holds for packets from `src`; nothing stands for a source that is still to be chosen.
    fn holds(&self, src: Option<IpAddr>) -> bool {
        let from = |(network, len): (IpAddr, u8)| {
            let len = common_len(network, len);
            src.is_some_and(|src| mask(to_bits(src), len) == mask(to_bits(network), len))
        };
        self.from.is_none_or(from) != self.invert
    }

    /// Whether they say the same, whatever their numbers.
    fn says(&self, other: &Rule) -> bool {
        (self.user, self.invert, self.ipv4, self.from, self.table)
            == (
                other.user,
                other.invert,
                other.ipv4,
                other.from,
                other.table,
            )
    }
}

/// All rules of both families, in the order in which they are asked.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rules(Vec<Rule>);

impl Rules {
    pub const fn none() -> Rules {
        Rules(Vec::new())
    }

    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.0.iter()
    }

    /// The tables to ask, one after the other.
    pub fn tables(&self, ipv4: bool, src: Option<IpAddr>) -> impl Iterator<Item = u32> {
        let asked = move |r: &&Rule| r.ipv4 == ipv4 && r.holds(src);
        self.0.iter().filter(asked).map(|r| r.table)
    }

    fn insert(&mut self, rule: Rule) {
        let at = self.0.partition_point(|r| r.priority <= rule.priority);
        self.0.insert(at, rule);
    }

    /// Adds a rule of the user. Without a number it gets the highest one that is free below the last rule.
    pub fn add(&mut self, mut rule: Rule) {
        if rule.priority == 0 {
            let mut free = self.0.last().map_or(RT_LAST, |r| r.priority);
            for r in self.0.iter().rev() {
                if r.priority == free {
                    free = free.saturating_sub(1);
                } else if r.priority < free {
                    break;
                }
            }
            rule.priority = free;
        }
        self.insert(rule);
    }

    /// Removes the first rule of the user that says the same, and has the same number unless that is 0.
    pub fn del(&mut self, rule: &Rule) -> bool {
        let same = |r: &Rule| r.says(rule) && [0, r.priority].contains(&rule.priority);
        let at = self.0.iter().position(same);
        at.map(|at| self.0.remove(at)).is_some()
    }

    /// Puts the rules that are always there, and the kernel's, in place of those from before.
    pub fn follow(&mut self, kernel: impl Iterator<Item = Rule>) {
        self.0.retain(|r| r.user);
        let fixed = [
            (true, 0, RT_TABLE_LOCAL),
            (true, RT_LAST - 1, RT_TABLE_MAIN),
            (true, RT_LAST, RT_TABLE_DEFAULT),
            (false, 0, RT_TABLE_LOCAL),
            (false, RT_LAST - 1, RT_TABLE_MAIN),
        ];
        for (ipv4, priority, table) in fixed {
            self.insert(Rule::cached(ipv4, priority, table));
        }
        kernel.for_each(|r| self.insert(r));
    }
}

/// The number of the last of the rules that are always there.
const RT_LAST: u32 = 32767;

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(s: &str) -> IpAddr {
        s.parse().unwrap()
    }

    fn user(priority: u32, from: Option<(&str, u8)>, table: u32) -> Rule {
        Rule {
            priority,
            user: true,
            invert: false,
            ipv4: from.is_none_or(|(a, _)| ip(a).is_ipv4()),
            from: from.map(|(a, len)| (ip(a), len)),
            table,
        }
    }

    fn rules() -> Rules {
        let mut rules = Rules::none();
        rules.follow(std::iter::empty());
        rules
    }

    fn asked(rules: &Rules, src: Option<&str>) -> Vec<u32> {
        rules.tables(true, src.map(ip)).collect()
    }

    #[test]
    fn a_rule_holds_for_its_sources_and_one_that_is_inverted_for_others() {
        let mut r = rules();
        r.add(user(5, Some(("10.1.2.3", 16)), 10));
        r.add(Rule {
            invert: true,
            ..user(6, Some(("10.1.0.0", 16)), 11)
        });
        r.add(Rule {
            invert: true,
            ..user(7, None, 12)
        });
        r.add(user(8, Some(("::ffff:10.1.0.1", 128)), 13));
        assert_eq!(asked(&r, Some("10.1.9.9")), [255, 10, 254, 253]);
        assert_eq!(asked(&r, Some("10.2.9.9")), [255, 11, 254, 253]);
        // No source yet: from no network in particular.
        assert_eq!(asked(&r, None), [255, 11, 254, 253]);
        let six: Vec<u32> = r.tables(false, Some(ip("fc00::1"))).collect();
        assert_eq!(six, [255, 254]);
    }

    #[test]
    fn rules_without_a_number_go_before_main_and_then_downwards() {
        let mut r = rules();
        let last = |r: &Rules| r.iter().filter(|r| r.user).map(|r| r.priority).min();
        r.add(user(0, None, 10));
        assert_eq!(last(&r), Some(32765));
        r.add(user(32764, None, 11));
        r.add(user(0, None, 12));
        assert_eq!(last(&r), Some(32763));
        r.add(user(u32::MAX, None, 13));
        r.add(user(0, None, 14));
        assert_eq!(asked(&r, None), [255, 12, 11, 10, 254, 253, 14, 13]);
        // A number counts when it is told.
        assert!(!r.del(&user(7, None, 12)));
        assert!(r.del(&user(0, None, 12)));
        assert!(!r.del(&user(0, None, 12)));
        assert!(!r.del(&Rule::cached(true, 0, RT_TABLE_LOCAL).clone_as_user()));
    }

    #[test]
    fn the_kernels_rules_come_and_go_beside_those_of_the_user() {
        let mut r = rules();
        r.add(user(32766, None, 10));
        let kernel = [
            Rule::cached(true, 32766, 254),
            Rule::cached(true, 3, 77),
            Rule::cached(false, 4, 78),
        ];
        r.follow(kernel.into_iter());
        assert_eq!(asked(&r, None), [255, 77, 10, 254, 254, 253]);
        r.follow(std::iter::empty());
        assert_eq!(asked(&r, None), [255, 10, 254, 253]);
    }

    impl Rule {
        fn clone_as_user(&self) -> Rule {
            Rule {
                user: true,
                ..self.clone()
            }
        }
    }
}
