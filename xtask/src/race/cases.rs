//! What is raced: the table from which runs, table and chart derive.

/// What the frames are, 64 bytes each, in turn through all flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Frames {
    /// UDP between addresses and ports of each flow's own.
    Udp,
    /// The same, whose Ethernet addresses need so many masks, by the rules of [`Rules::Masks`].
    Masks(u32),
    /// The same behind outer headers of VXLAN.
    Vxlan,
    /// UDP both ways, in turn.
    Connections,
    /// UDP, played once instead of again and again: each frame is a new connection.
    Once,
}

/// The OpenFlow rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// All that comes in goes out: nothing but the port is looked at.
    Port,
    /// All that comes in is dropped.
    Drop,
    /// UDP to a prefix: one mask.
    Prefix,
    /// Each rule matches one bit more than that before: as many masks as rules.
    Masks,
    /// Connection tracking: new connections are committed, established ones sent.
    Track,
}

/// Which caches are before the classifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caches {
    /// As a user has them: one of 100 packets' flows gets into the exact match cache.
    Default,
    /// Each packet's flow gets into the exact match cache.
    Exact,
    /// The signature match cache.
    Signature,
    None,
}

/// Where packets come in and go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// From one port of a bridge to another.
    Forward,
    /// Into a tunnel, whose packets leave by another bridge.
    Encapsulate,
    /// Out of a tunnel, whose packets come in by another bridge.
    Decapsulate,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its beginning chooses it on the command line.
    pub name: &'static str,
    pub flows: u32,
    pub frames: Frames,
    pub rules: Rules,
    pub caches: Caches,
    pub ports: Ports,
}

const fn case(
    name: &'static str,
    flows: u32,
    frames: Frames,
    rules: Rules,
    caches: Caches,
    ports: Ports,
) -> Case {
    Case {
        name,
        flows,
        frames,
        rules,
        caches,
        ports,
    }
}

/// Cases of one kind, under a heading of the chart.
pub struct Group {
    pub name: &'static str,
    pub cases: &'static [Case],
}

const K: u32 = 1_000;

#[rustfmt::skip]
pub const GROUPS: &[Group] = &[
    Group { name: "One rule", cases: &[
        case("simple match", 1, Frames::Udp, Rules::Port, Caches::Default, Ports::Forward),
        case("drop", 1, Frames::Udp, Rules::Drop, Caches::Default, Ports::Forward),
        case("EMC, 1 flow", 1, Frames::Udp, Rules::Prefix, Caches::Exact, Ports::Forward),
        case("EMC, 1k flows", K, Frames::Udp, Rules::Prefix, Caches::Exact, Ports::Forward),
        case("default caches, 10k flows", 10 * K, Frames::Udp, Rules::Prefix, Caches::Default, Ports::Forward),
        case("default caches, 100k flows", 100 * K, Frames::Udp, Rules::Prefix, Caches::Default, Ports::Forward),
        case("megaflow, 1 flow", 1, Frames::Udp, Rules::Prefix, Caches::None, Ports::Forward),
        case("megaflow, 10k flows", 10 * K, Frames::Udp, Rules::Prefix, Caches::None, Ports::Forward),
        case("megaflow, 100k flows", 100 * K, Frames::Udp, Rules::Prefix, Caches::None, Ports::Forward),
    ] },
    Group { name: "Many masks, 10k flows", cases: &[
        case("10 masks, megaflow", 10 * K, Frames::Masks(10), Rules::Masks, Caches::None, Ports::Forward),
        case("10 masks, default caches", 10 * K, Frames::Masks(10), Rules::Masks, Caches::Default, Ports::Forward),
        case("10 masks, signature cache", 10 * K, Frames::Masks(10), Rules::Masks, Caches::Signature, Ports::Forward),
        case("100 masks, megaflow", 10 * K, Frames::Masks(100), Rules::Masks, Caches::None, Ports::Forward),
        case("100 masks, default caches", 10 * K, Frames::Masks(100), Rules::Masks, Caches::Default, Ports::Forward),
        case("100 masks, signature cache", 10 * K, Frames::Masks(100), Rules::Masks, Caches::Signature, Ports::Forward),
        case("1000 masks, megaflow", 10 * K, Frames::Masks(1000), Rules::Masks, Caches::None, Ports::Forward),
        case("1000 masks, default caches", 10 * K, Frames::Masks(1000), Rules::Masks, Caches::Default, Ports::Forward),
        case("1000 masks, signature cache", 10 * K, Frames::Masks(1000), Rules::Masks, Caches::Signature, Ports::Forward),
    ] },
    Group { name: "VXLAN", cases: &[
        case("VXLAN encapsulation, 1 flow", 1, Frames::Udp, Rules::Prefix, Caches::Default, Ports::Encapsulate),
        case("VXLAN encapsulation, 10k flows", 10 * K, Frames::Udp, Rules::Prefix, Caches::Default, Ports::Encapsulate),
        case("VXLAN decapsulation, 1 flow", 1, Frames::Vxlan, Rules::Prefix, Caches::Default, Ports::Decapsulate),
        case("VXLAN decapsulation, 10k flows", 10 * K, Frames::Vxlan, Rules::Prefix, Caches::Default, Ports::Decapsulate),
    ] },
    Group { name: "Connection tracking", cases: &[
        case("conntrack, 1 established", 1, Frames::Connections, Rules::Track, Caches::Default, Ports::Forward),
        case("conntrack, 1k established", K, Frames::Connections, Rules::Track, Caches::Default, Ports::Forward),
        case("conntrack, 50k established", 50 * K, Frames::Connections, Rules::Track, Caches::Default, Ports::Forward),
        // What the source of the next case costs alone: DPDK's reads a file that is not played again packet by packet.
        case("drop, played once", 100 * K, Frames::Once, Rules::Drop, Caches::Default, Ports::Forward),
        case("conntrack, new connections", 100 * K, Frames::Once, Rules::Track, Caches::Default, Ports::Forward),
    ] },
];

/// All cases, in order.
pub fn all() -> impl Iterator<Item = &'static Case> {
    GROUPS.iter().flat_map(|group| group.cases)
}

/// Whether the name begins with one of these, in capitals or not; with none, all names do.
pub fn is_chosen(name: &str, prefixes: &[String]) -> bool {
    let starts = |prefix: &String| {
        name.get(..prefix.len())
            .is_some_and(|n| n.eq_ignore_ascii_case(prefix))
    };
    prefixes.is_empty() || prefixes.iter().any(starts)
}

impl Rules {
    /// The rules as lines for `ovs-ofctl add-flows`: from port 1 to port 2.
    pub fn text(self, frames: Frames) -> String {
        match (self, frames) {
            (Rules::Port, _) => "in_port=1,actions=output:2\n".to_owned(),
            (Rules::Drop, _) => "in_port=1,actions=drop\n".to_owned(),
            (Rules::Masks, Frames::Masks(n)) => masks(n),
            (Rules::Prefix | Rules::Masks, _) => {
                "in_port=1,udp,nw_dst=20.0.0.0/8,actions=output:2\n".to_owned()
            }
            (Rules::Track, _) => "\
table=0,priority=10,ip,ct_state=-trk,actions=ct(table=1)
table=1,priority=10,ip,ct_state=+trk+new,actions=ct(commit),output:2
table=1,priority=10,ip,ct_state=+trk+est,actions=output:2
"
            .to_owned(),
        }
    }
}

/// Bits of an Ethernet address that rules of masks use: all but that of multicast.
pub const MAC_BITS: u32 = 47;

/// The Ethernet address of which only bit `k` is set, the highest first, multicast's left out.
pub fn mac_bit(k: u32) -> [u8; 6] {
    let position = if k < 7 { k } else { k + 1 };
    let mut mac = [0; 6];
    mac[(position / 8) as usize] = 0x80 >> (position % 8);
    mac
}

/// Rule `k` matches `k` bits of an address that are 0 and the next one, which is 1. What one address has not bits enough
/// for is done by two tables, each on one address: each pair of their masks is one of the datapath's.
fn masks(n: u32) -> String {
    let rule = |table: u32, field: &str, k: u32, actions: &str| {
        let mask = (0..=k)
            .map(mac_bit)
            .fold([0; 6], |sum, bit| std::array::from_fn(|i| sum[i] | bit[i]));
        let (value, mask) = (mac_text(mac_bit(k)), mac_text(mask));
        let priority = 1000 - k;
        format!(
            "table={table},priority={priority},in_port=1,udp,{field}={value}/{mask},actions={actions}\n"
        )
    };
    let sources = n.div_ceil(MAC_BITS);
    let first = (0..n.min(MAC_BITS)).map(|k| rule(0, "dl_dst", k, "resubmit(,1)"));
    let second = (0..sources).map(|k| rule(1, "dl_src", k, "output:2"));
    first.chain(second).collect()
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_chosen_by_the_beginning_of_its_name() {
        let chosen = |prefix: &str| {
            let prefixes = [prefix.to_owned()];
            all().filter(|c| is_chosen(c.name, &prefixes)).count()
        };
        assert_eq!(chosen("vxlan"), 4);
        assert_eq!(chosen("10 masks"), 3);
        assert_eq!(chosen("nothing"), 0);
        assert!(is_chosen("drop", &[]));
    }

    #[test]
    fn names_are_unlike() {
        let mut names: Vec<_> = all().map(|c| c.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all().count());
    }

    #[test]
    fn each_rule_of_masks_matches_a_bit_more() {
        let text = Rules::Masks.text(Frames::Masks(10));
        let rules: Vec<&str> = text.lines().collect();
        assert_eq!(rules.len(), 10 + 1);
        assert_eq!(
            rules[0],
            "table=0,priority=1000,in_port=1,udp,dl_dst=80:00:00:00:00:00/80:00:00:00:00:00,actions=resubmit(,1)"
        );
        // The bit of multicast is left out.
        assert!(rules[7].contains("dl_dst=00:80:00:00:00:00/fe:80:00:00:00:00"));
        assert_eq!(
            Rules::Masks.text(Frames::Masks(1000)).lines().count(),
            47 + 22
        );
    }
}
