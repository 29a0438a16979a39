//! The rows of the actions: one for each, in a file for each family.
//!
//! A row says how the action is called in texts, how many bytes it takes in a message to a datapath, how it is written
//! and how it is read. [`rows`] makes of them the three functions of a family; the functions here ask the families
//! in turn, so that an action is known everywhere once it has its row.
//!
//! ```text
//!   "name" [(..) in parentheses, bare, or either]  pattern => {
//!       size: expression
//!       write(output, names): expression
//!       read(parser): expression that may end with `?`
//!   }
//! ```

use super::ActionParser;
use crate::action::Action;
use crate::text::PortNames;

mod ct;
mod flow;
mod header;
mod set;
mod tunnel;
mod userspace;

/// What each attribute of a message begins with.
const HEADER: usize = 4;

/// The size of an attribute with so many bytes inside.
const fn attribute(inside: usize) -> usize {
    HEADER + inside.next_multiple_of(4)
}

/// How an action is written in text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Args {
    /// `name`.
    Bare,
    /// `name(..)`.
    Inside,
    /// Both.
    Either,
}

impl Args {
    fn fit(self, inside: bool) -> bool {
        match self {
            Args::Bare => !inside,
            Args::Inside => inside,
            Args::Either => true,
        }
    }
}

macro_rules! rows {
    ($($name:literal $args:ident $pat:pat => {
        size: $size:expr,
        write($out:ident, $names:ident): $write:expr,
        read($p:ident, $inside:ident): $read:expr $(,)?
    })*) => {
        /// The bytes that an action of the family takes in a message.
        #[allow(unused_variables)]
        pub(super) fn size(action: &$crate::action::Action) -> Option<usize> {
            Some(match action {
                $($pat => $size,)*
                _ => return None,
            })
        }

        /// Writes an action of the family; None if it is of another.
        #[allow(unused_variables)]
        pub(super) fn write(
            out: &mut String,
            action: &$crate::action::Action,
            names: Option<&$crate::text::PortNames>,
        ) -> Option<()> {
            match action {
                $($pat => {
                    let ($out, $names) = (out, names);
                    $write;
                })*
                _ => return None,
            }
            Some(())
        }

        /// Reads what follows the name of an action, and an opening parenthesis if `inside`. The outer none says
        /// that the family has no such action, the inner one that it cannot be read.
        #[allow(unused_variables)]
        pub(super) fn read(
            p: &mut $crate::text::ActionParser<'_, '_>,
            name: &str,
            inside: bool,
        ) -> Option<Option<$crate::action::Action>> {
            type Read =
                fn(&mut $crate::text::ActionParser<'_, '_>, bool) -> Option<$crate::action::Action>;
            let read: Read = match name {
                $($name if $crate::text::actions::rows::Args::$args.fit(inside) => |$p, $inside| $read,)*
                _ => return None,
            };
            Some(read(p, inside))
        }
    };
}
use rows;

/// The bytes that `actions` take in a message to a datapath: no flow may have more than fit into one.
pub fn message_size(actions: &[Action]) -> usize {
    actions.iter().map(size).sum()
}

fn size(action: &Action) -> usize {
    flow::size(action)
        .or_else(|| header::size(action))
        .or_else(|| set::size(action))
        .or_else(|| ct::size(action))
        .or_else(|| tunnel::size(action))
        .or_else(|| userspace::size(action))
        .unwrap_or_default()
}

/// Writes one action.
pub(super) fn write(out: &mut String, action: &Action, names: Option<&PortNames>) {
    _ = flow::write(out, action, names)
        .or_else(|| header::write(out, action, names))
        .or_else(|| set::write(out, action, names))
        .or_else(|| ct::write(out, action, names))
        .or_else(|| tunnel::write(out, action, names))
        .or_else(|| userspace::write(out, action, names));
}

/// Reads the action called `name`; the outer none says that there is none.
pub(super) fn read(
    p: &mut ActionParser<'_, '_>,
    name: &str,
    inside: bool,
) -> Option<Option<Action>> {
    flow::read(p, name, inside)
        .or_else(|| header::read(p, name, inside))
        .or_else(|| set::read(p, name, inside))
        .or_else(|| ct::read(p, name, inside))
        .or_else(|| tunnel::read(p, name, inside))
        .or_else(|| userspace::read(p, name, inside))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{format_actions, parse_actions};

    #[test]
    fn sizes_are_those_of_messages() {
        for (text, size) in [
            ("1", 8),
            ("set(eth(src=00:00:00:00:00:01)),1", 40),
            ("pop_vlan,push_vlan(vid=1,pcp=0)", 12),
            ("clone(1,2),3", 28),
            ("set(tcp(src=1))", 16),
        ] {
            let actions = parse_actions(text, None).unwrap();
            assert_eq!(message_size(&actions), size, "{text}");
        }
    }

    #[test]
    fn every_action_has_a_row() {
        let header = "header(size=50,type=4,eth(dst=f8:bc:12:44:34:b6,src=f8:bc:12:46:58:e0,dl_type=0x0800),\
             ipv4(src=1.1.2.88,dst=1.1.2.92,proto=17,tos=0,ttl=64,frag=0x4000),\
             udp(src=0,dst=4789,csum=0x0),vxlan(flags=0x8000000,vni=0x1c7))";
        for text in [
            "1",
            "userspace(pid=9,userdata(0102030405060708))",
            "set(skb_mark(0x1))",
            "push_vlan(vid=1,pcp=0)",
            "pop_vlan",
            "sample(sample=50.0%,actions(1))",
            "recirc(0x1)",
            "hash(l4(0))",
            "push_mpls(label=1,tc=0,ttl=64,bos=1,eth_type=0x8847)",
            "pop_mpls(eth_type=0x800)",
            "ct",
            "ct(commit,zone=1)",
            "ct_clear",
            "trunc(100)",
            "push_eth(src=00:00:00:00:00:01,dst=00:00:00:00:00:02)",
            "pop_eth",
            "push_nsh(flags=0,ttl=63,mdtype=1,np=3,spi=0x1,si=255,c1=0x1,c2=0x2,c3=0x3,c4=0x4)",
            "pop_nsh()",
            "meter(1)",
            "clone(1)",
            "check_pkt_len(size=100,gt(1),le(drop))",
            "add_mpls(label=1,tc=0,ttl=64,bos=1,eth_type=0x8847)",
            "dec_ttl(le_1(1))",
            "psample(group=1,cookie=0x1234)",
            &format!("tnl_push(tnl_port(1),{header},out_port(2))"),
            "tnl_pop(4)",
            "lb_output(1)",
        ] {
            let actions = parse_actions(text, None).expect(text);
            let mut again = String::new();
            format_actions(&mut again, &actions, None);
            assert_eq!(again, text);
            assert_ne!(message_size(&actions), 0, "{text}");
        }
        assert_ne!(message_size(&[Action::Drop(Default::default())]), 0);
    }
}
