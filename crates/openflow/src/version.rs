//! OpenFlow versions, and the flow formats ("protocols") that a connection can speak.
//!
//! A protocol is a version plus, for 1.0, two choices: the flow format (OpenFlow 1.0 or Nicira's extended match)
//! and whether the upper byte of a flow mod's command is a table number. Sets of protocols are bit sets ordered
//! from the least to the most capable.

use bitflags::bitflags;

/// A version of the OpenFlow protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Version {
    V10 = 1,
    V11 = 2,
    V12 = 3,
    V13 = 4,
    V14 = 5,
    V15 = 6,
}

impl Version {
    pub const ALL: [Version; 6] = [
        Version::V10,
        Version::V11,
        Version::V12,
        Version::V13,
        Version::V14,
        Version::V15,
    ];

    /// The version with this number in a message header.
    pub fn from_wire(wire: u8) -> Option<Version> {
        Self::ALL.get(usize::from(wire).wrapping_sub(1)).copied()
    }

    pub fn wire(self) -> u8 {
        self as u8
    }

    /// The 3 of 1.3.
    pub fn minor(self) -> u8 {
        self as u8 - 1
    }

    /// `OpenFlow13` as in option `-O` and column `protocols`.
    pub fn name(self) -> &'static str {
        [
            "OpenFlow10",
            "OpenFlow11",
            "OpenFlow12",
            "OpenFlow13",
            "OpenFlow14",
            "OpenFlow15",
        ][self.minor() as usize]
    }

    /// Accepts `OpenFlow13` and `OpenFlow1.3`, in any case.
    pub fn from_name(name: &str) -> Option<Version> {
        let lower = name.to_ascii_lowercase();
        let rest = lower.strip_prefix("openflow1")?;
        let rest = rest.strip_prefix('.').unwrap_or(rest);
        match rest.as_bytes() {
            [d @ b'0'..=b'5'] => Self::from_wire(d - b'0' + 1),
            _ => None,
        }
    }
}

/// A set of versions: bit `n` stands for the version whose header number is `n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Versions(pub u32);

impl Versions {
    pub const ALL: Versions = Versions(0x7e);
    pub const NONE: Versions = Versions(0);

    pub fn of(version: Version) -> Versions {
        Versions(1 << version.wire())
    }

    /// `version` and all before it.
    pub fn up_to(version: Version) -> Versions {
        Versions((1u32 << (version.wire() + 1)) - 2)
    }

    pub fn contains(self, version: Version) -> bool {
        self.0 & (1 << version.wire()) != 0
    }

    pub fn insert(&mut self, version: Version) {
        self.0 |= 1 << version.wire();
    }

    pub fn union(self, other: Versions) -> Versions {
        Versions(self.0 | other.0)
    }

    pub fn intersect(self, other: Versions) -> Versions {
        Versions(self.0 & other.0)
    }

    pub fn is_empty(self) -> bool {
        self.0 & Self::ALL.0 == 0
    }

    /// The newest version in the set.
    pub fn newest(self) -> Option<Version> {
        Version::ALL.into_iter().rev().find(|&v| self.contains(v))
    }

    pub fn iter(self) -> impl Iterator<Item = Version> {
        Version::ALL.into_iter().filter(move |&v| self.contains(v))
    }
}

impl FromIterator<Version> for Versions {
    fn from_iter<I: IntoIterator<Item = Version>>(iter: I) -> Self {
        let mut set = Versions::NONE;
        iter.into_iter().for_each(|v| set.insert(v));
        set
    }
}

bitflags! {
    /// A set of flow formats; a connection uses one of them.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Protocol: u32 {
        const OF10_STD = 1 << 0;
        const OF10_STD_TID = 1 << 1;
        const OF10_NXM = 1 << 2;
        const OF10_NXM_TID = 1 << 3;
        const OF11_STD = 1 << 4;
        const OF12_OXM = 1 << 5;
        const OF13_OXM = 1 << 6;
        const OF14_OXM = 1 << 7;
        const OF15_OXM = 1 << 8;

        const OF10_STD_ANY = 0b0011;
        const OF10_NXM_ANY = 0b1100;
        const OF10_ANY = 0b1111;
        const NXM_OXM_ANY = 0b1_1110_1100;
        /// Formats in which a flow mod names its table.
        const TID = 0b1_1111_1010;
    }
}

const PROTOCOL_NAMES: [(Protocol, &str); 9] = [
    (Protocol::OF10_STD, "OpenFlow10-table_id"),
    (Protocol::OF10_STD_TID, "OpenFlow10+table_id"),
    (Protocol::OF10_NXM, "NXM-table_id"),
    (Protocol::OF10_NXM_TID, "NXM+table_id"),
    (Protocol::OF11_STD, "OpenFlow11"),
    (Protocol::OF12_OXM, "OXM-OpenFlow12"),
    (Protocol::OF13_OXM, "OXM-OpenFlow13"),
    (Protocol::OF14_OXM, "OXM-OpenFlow14"),
    (Protocol::OF15_OXM, "OXM-OpenFlow15"),
];

impl Protocol {
    /// The protocol that a connection of `version` starts with.
    pub fn default_for(version: Version) -> Protocol {
        match version {
            Version::V10 => Protocol::OF10_STD,
            Version::V11 => Protocol::OF11_STD,
            Version::V12 => Protocol::OF12_OXM,
            Version::V13 => Protocol::OF13_OXM,
            Version::V14 => Protocol::OF14_OXM,
            Version::V15 => Protocol::OF15_OXM,
        }
    }

    /// Every protocol of `version`.
    pub fn all_of(version: Version) -> Protocol {
        match version {
            Version::V10 => Protocol::OF10_ANY,
            v => Protocol::default_for(v),
        }
    }

    /// The single protocols of the set, least capable first.
    pub fn each(self) -> impl Iterator<Item = Protocol> {
        PROTOCOL_NAMES
            .into_iter()
            .map(|(p, _)| p)
            .filter(move |&p| self.contains(p))
    }

    /// The version of a single protocol, or of the oldest in a set.
    pub fn version(self) -> Version {
        if self.intersects(Protocol::OF10_ANY) {
            Version::V10
        } else if self.contains(Protocol::OF11_STD) {
            Version::V11
        } else if self.contains(Protocol::OF12_OXM) {
            Version::V12
        } else if self.contains(Protocol::OF13_OXM) {
            Version::V13
        } else if self.contains(Protocol::OF14_OXM) {
            Version::V14
        } else {
            Version::V15
        }
    }

    /// The versions that the protocols of the set belong to.
    pub fn versions(self) -> Versions {
        self.each().map(Protocol::version).collect()
    }

    /// The same format with or without table numbers in flow mods.
    pub fn with_tid(self, tid: bool) -> Protocol {
        match (self, tid) {
            (Protocol::OF10_STD | Protocol::OF10_STD_TID, true) => Protocol::OF10_STD_TID,
            (Protocol::OF10_STD | Protocol::OF10_STD_TID, false) => Protocol::OF10_STD,
            (Protocol::OF10_NXM | Protocol::OF10_NXM_TID, true) => Protocol::OF10_NXM_TID,
            (Protocol::OF10_NXM | Protocol::OF10_NXM_TID, false) => Protocol::OF10_NXM,
            (p, _) => p,
        }
    }

    pub fn has_tid(self) -> bool {
        self.intersects(Protocol::TID)
    }

    /// Whether a 1.0 protocol carries Nicira's extended match.
    pub fn is_nxm(self) -> bool {
        self.intersects(Protocol::OF10_NXM_ANY)
    }

    /// The name of a single protocol.
    pub fn name(self) -> Option<&'static str> {
        PROTOCOL_NAMES
            .iter()
            .find(|(p, _)| *p == self)
            .map(|(_, n)| *n)
    }

    /// Comma separated names; whole groups come first, by their own names.
    pub fn names(self) -> String {
        if self.is_empty() {
            return "none".to_owned();
        }
        if self == Protocol::all() {
            return "any".to_owned();
        }
        let oxm = Protocol::OF12_OXM | Protocol::OF13_OXM | Protocol::OF14_OXM | Protocol::OF15_OXM;
        let groups = [
            (Protocol::OF10_STD_ANY, "OpenFlow10"),
            (Protocol::OF10_NXM_ANY, "NXM"),
            (oxm, "OXM"),
        ];
        let mut left = self;
        let mut out: Vec<&str> = Vec::new();
        for (group, name) in groups {
            if left.contains(group) {
                out.push(name);
                left -= group;
            }
        }
        out.extend(left.each().filter_map(Protocol::name));
        out.join(",")
    }

    /// The set that `name` means: a protocol, a group (`any`, `OpenFlow10`, `NXM`, `OXM`) or a version name.
    pub fn by_name(name: &str) -> Option<Protocol> {
        let same = |s: &str| s.eq_ignore_ascii_case(name);
        if same("any") {
            return Some(Protocol::all());
        }
        if same("OpenFlow10") {
            return Some(Protocol::OF10_STD_ANY);
        }
        if same("NXM") {
            return Some(Protocol::OF10_NXM_ANY);
        }
        if same("OXM") {
            return Some(
                Protocol::OF12_OXM | Protocol::OF13_OXM | Protocol::OF14_OXM | Protocol::OF15_OXM,
            );
        }
        if let Some((p, _)) = PROTOCOL_NAMES.iter().find(|(_, n)| same(n)) {
            return Some(*p);
        }
        Version::from_name(name).map(|v| match v {
            Version::V10 => Protocol::OF10_STD_ANY,
            v => Protocol::default_for(v),
        })
    }
}
