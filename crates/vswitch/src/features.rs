//! What Open vSwitch does and this program does not: one table, from which come the warnings
//! (`warnings.rs`), `docs/not-yet.md`, the list in the README and the commands that must be unknown.
//!
//! Whoever builds a feature removes its entry; the tests then ask for the documents and the
//! registered commands to follow.

/// Something that is not built.
#[derive(Debug)]
pub struct Feature {
    /// What it is called in the documents.
    pub name: &'static str,
    /// What the log says after "has no effect: ".
    pub why: &'static str,
    /// Settings that the database takes and that have no effect.
    pub settings: &'static [Setting],
    /// Tables whose rows have no effect. Who refers to them is among the settings.
    pub tables: &'static [&'static str],
    /// Commands of the daemon that are unknown here.
    pub commands: &'static [&'static str],
}

/// A column, or a key of a column that is a map.
#[derive(Debug)]
pub struct Setting {
    pub table: &'static str,
    pub column: &'static str,
    pub key: Option<&'static str>,
    /// The value that asks for what happens anyway.
    pub harmless: Option<&'static str>,
}

/// A column.
const fn column(table: &'static str, column: &'static str) -> Setting {
    Setting {
        table,
        column,
        key: None,
        harmless: None,
    }
}

/// A key of a map.
const fn key(table: &'static str, column: &'static str, key: &'static str) -> Setting {
    Setting {
        table,
        column,
        key: Some(key),
        harmless: None,
    }
}

/// A key of a table's `other_config`.
const fn other(table: &'static str, name: &'static str) -> Setting {
    key(table, "other_config", name)
}

impl Setting {
    /// With a value that asks for what happens anyway.
    const fn unless(self, value: &'static str) -> Setting {
        Setting {
            harmless: Some(value),
            ..self
        }
    }
}

impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.key {
            Some(key) => write!(f, "{}:{key}", self.column),
            None => f.write_str(self.column),
        }
    }
}

const NONE: Feature = Feature {
    name: "",
    why: "",
    settings: &[],
    tables: &[],
    commands: &[],
};

/// Everything that is not built, in the documents' order.
pub const NOT_BUILT: &[Feature] = &[
    BONDS, MIRRORS, QOS, STP, SNOOPING, EXPORTERS, MONITORING, IN_BAND, OFFLOAD, DPDK, THREADS,
    OTHER,
];

const BONDS: Feature = Feature {
    name: "bonds, LACP",
    why: "there are no bonds yet, one member carries the traffic",
    settings: &[
        column("Port", "bond_mode"),
        column("Port", "bond_updelay"),
        column("Port", "bond_downdelay"),
        column("Port", "bond_fake_iface"),
        column("Port", "lacp").unless("off"),
        other("Port", "bond-hash-basis"),
        other("Port", "lb-output-action").unless("false"),
        other("Port", "bond-primary"),
        other("Port", "all-members-active").unless("false"),
        other("Port", "bond-detect-mode"),
        other("Port", "bond-miimon-interval"),
        other("Port", "bond-rebalance-interval"),
        other("Port", "lacp-system-id"),
        other("Port", "lacp-system-priority"),
        other("Port", "lacp-time"),
        other("Port", "lacp-fallback-ab").unless("false"),
        other("Interface", "lacp-port-id"),
        other("Interface", "lacp-port-priority"),
        other("Interface", "lacp-aggregation-key"),
    ],
    commands: &[
        "bond/disable-member",
        "bond/enable-member",
        "bond/hash",
        "bond/list",
        "bond/migrate",
        "bond/set-active-member",
        "bond/show",
        "lacp/show",
        "lacp/show-stats",
    ],
    ..NONE
};

const MIRRORS: Feature = Feature {
    name: "mirrors",
    why: "no packet is mirrored yet",
    settings: &[column("Bridge", "mirrors")],
    tables: &["Mirror"],
    ..NONE
};

const QOS: Feature = Feature {
    name: "QoS, queues, ingress policing",
    why: "there is no traffic shaping yet",
    settings: &[
        column("Port", "qos"),
        column("Interface", "ingress_policing_rate"),
        column("Interface", "ingress_policing_kpkts_rate"),
        column("Interface", "ingress_policing_burst"),
        column("Interface", "ingress_policing_kpkts_burst"),
    ],
    tables: &["QoS", "Queue"],
    commands: &["qos/show", "qos/show-types"],
};

const STP: Feature = Feature {
    name: "spanning tree (STP, RSTP)",
    why: "there is no spanning tree yet, loops stay loops",
    settings: &[
        column("Bridge", "stp_enable"),
        column("Bridge", "rstp_enable"),
        other("Bridge", "stp-system-id"),
        other("Bridge", "stp-priority"),
        other("Bridge", "stp-hello-time"),
        other("Bridge", "stp-max-age"),
        other("Bridge", "stp-forward-delay"),
        other("Bridge", "rstp-address"),
        other("Bridge", "rstp-priority"),
        other("Bridge", "rstp-ageing-time"),
        other("Bridge", "rstp-force-protocol-version"),
        other("Bridge", "rstp-max-age"),
        other("Bridge", "rstp-forward-delay"),
        other("Bridge", "rstp-transmit-hold-count"),
        other("Port", "stp-enable").unless("false"),
        other("Port", "stp-port-num"),
        other("Port", "stp-port-priority"),
        other("Port", "stp-path-cost"),
        other("Port", "rstp-enable").unless("false"),
        other("Port", "rstp-port-priority"),
        other("Port", "rstp-port-num"),
        other("Port", "rstp-path-cost"),
        other("Port", "rstp-port-admin-edge"),
        other("Port", "rstp-port-auto-edge"),
        other("Port", "rstp-port-mcheck"),
    ],
    commands: &["rstp/show", "rstp/tcn", "stp/show", "stp/tcn"],
    ..NONE
};

const SNOOPING: Feature = Feature {
    name: "multicast snooping",
    why: "there is no multicast snooping yet, multicast is flooded",
    settings: &[
        column("Bridge", "mcast_snooping_enable"),
        other("Bridge", "mcast-snooping-aging-time"),
        other("Bridge", "mcast-snooping-table-size"),
        other("Bridge", "mcast-snooping-disable-flood-unregistered").unless("false"),
        other("Port", "mcast-snooping-flood").unless("true"),
        other("Port", "mcast-snooping-flood-reports").unless("true"),
    ],
    commands: &["mdb/flush", "mdb/show"],
    ..NONE
};

const EXPORTERS: Feature = Feature {
    name: "sFlow, NetFlow, IPFIX",
    why: "no flows are exported yet",
    settings: &[
        column("Bridge", "netflow"),
        column("Bridge", "sflow"),
        column("Bridge", "ipfix"),
        column("Flow_Sample_Collector_Set", "id"),
    ],
    tables: &["NetFlow", "sFlow", "IPFIX", "Flow_Sample_Collector_Set"],
    ..NONE
};

const MONITORING: Feature = Feature {
    name: "BFD, CFM",
    why: "links are not monitored yet",
    settings: &[
        key("Interface", "bfd", "enable").unless("false"),
        key("Interface", "bfd", "min_rx"),
        key("Interface", "bfd", "min_tx"),
        key("Interface", "bfd", "decay_min_rx"),
        key("Interface", "bfd", "forwarding_if_rx").unless("false"),
        key("Interface", "bfd", "cpath_down").unless("false"),
        key("Interface", "bfd", "check_tnl_key").unless("false"),
        key("Interface", "bfd", "bfd_local_src_mac"),
        key("Interface", "bfd", "bfd_local_dst_mac"),
        key("Interface", "bfd", "bfd_remote_dst_mac"),
        key("Interface", "bfd", "bfd_src_ip"),
        key("Interface", "bfd", "bfd_dst_ip"),
        key("Interface", "bfd", "oam").unless("false"),
        key("Interface", "bfd", "mult"),
        column("Interface", "cfm_mpid"),
        other("Interface", "cfm_interval"),
        other("Interface", "cfm_extended").unless("false"),
        other("Interface", "cfm_demand").unless("false"),
        other("Interface", "cfm_opstate"),
        other("Interface", "cfm_ccm_vlan"),
        other("Interface", "cfm_ccm_pcp"),
    ],
    commands: &[
        "bfd/set-forwarding",
        "bfd/show",
        "cfm/set-fault",
        "cfm/show",
    ],
    ..NONE
};

const IN_BAND: Feature = Feature {
    name: "in-band control",
    why: "there is no in-band control yet, the controller must be reachable without the bridge",
    settings: &[
        column("Controller", "connection_mode").unless("out-of-band"),
        column("Controller", "local_ip"),
        column("Controller", "local_netmask"),
        column("Controller", "local_gateway"),
        other("Bridge", "disable-in-band").unless("true"),
        other("Bridge", "in-band-queue"),
        column("Manager", "connection_mode").unless("out-of-band"),
    ],
    ..NONE
};

const OFFLOAD: Feature = Feature {
    name: "kernel datapath, hardware offload",
    why: "nothing is offloaded to hardware",
    settings: &[
        other("Open_vSwitch", "n-offload-threads"),
        other("Open_vSwitch", "offloaded-stats-delay"),
        other("Open_vSwitch", "offload-rebalance").unless("false"),
        other("Open_vSwitch", "tc-policy"),
    ],
    commands: &["dpif-netlink/dispatch-mode"],
    ..NONE
};

const DPDK: Feature = Feature {
    name: "DPDK",
    why: "there is no DPDK",
    settings: &[
        other("Open_vSwitch", "dpdk-init").unless("false"),
        other("Open_vSwitch", "dpdk-lcore-mask"),
        other("Open_vSwitch", "dpdk-alloc-mem"),
        other("Open_vSwitch", "dpdk-socket-mem"),
        other("Open_vSwitch", "dpdk-socket-limit"),
        other("Open_vSwitch", "dpdk-hugepage-dir"),
        other("Open_vSwitch", "dpdk-extra"),
        other("Open_vSwitch", "vhost-iommu-support").unless("false"),
        other("Open_vSwitch", "vhost-postcopy-support").unless("false"),
        other("Open_vSwitch", "per-port-memory").unless("false"),
        other("Open_vSwitch", "shared-mempool-config"),
        key("Interface", "options", "vhost-max-queue-pairs"),
    ],
    ..NONE
};

const THREADS: Feature = Feature {
    name: "tuning of threads and lookups",
    why: "this part of the userspace datapath is not adjustable yet",
    settings: &[other("Open_vSwitch", "userspace-tso-enable").unless("true")],
    ..NONE
};

const OTHER: Feature = Feature {
    name: "other settings",
    why: "this setting is not honoured yet",
    settings: &[other("Open_vSwitch", "explicit-sampled-drops").unless("false")],
    commands: &["ofproto/detrace"],
    ..NONE
};

/// The table of `docs/not-yet.md`, a line for each feature.
pub fn table() -> String {
    let mut out = String::from(
        "| not yet | settings that are warned of and have no effect | unknown commands |\n|---|---|---|\n",
    );
    for feature in NOT_BUILT {
        let commands: Vec<String> = feature.commands.iter().map(|c| format!("`{c}`")).collect();
        out += &format!(
            "| {} | {} | {} |\n",
            feature.name,
            settings(feature),
            commands.join(" ")
        );
    }
    out
}

/// The settings of a feature by table; keys of one column after its name.
fn settings(feature: &Feature) -> String {
    let mut columns: Vec<(&str, &str, Vec<&str>)> = Vec::new();
    for s in feature.settings {
        let at = columns
            .iter()
            .position(|(table, column, _)| (*table, *column) == (s.table, s.column));
        let at = at.unwrap_or_else(|| {
            columns.push((s.table, s.column, Vec::new()));
            columns.len() - 1
        });
        columns[at].2.extend(s.key);
    }
    let mut parts: Vec<String> = columns
        .into_iter()
        .map(|(table, column, keys)| match keys.is_empty() {
            true => format!("`{table}.{column}`"),
            false => format!("`{table}.{column}:` {}", keys.join(" ")),
        })
        .collect();
    parts.extend(feature.tables.iter().map(|t| format!("`{t}` rows")));
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferrovs_idl::open_vswitch::OPEN_VSWITCH;

    #[test]
    fn every_setting_is_one_of_the_schema_and_stands_there_once() {
        let mut seen = std::collections::BTreeSet::new();
        for feature in NOT_BUILT {
            for s in feature.settings {
                let table = OPEN_VSWITCH
                    .table(s.table)
                    .unwrap_or_else(|| panic!("{s:?}"));
                let column = table
                    .column_index(s.column)
                    .unwrap_or_else(|| panic!("{s:?}"));
                let is_map = table.columns[column].def.column_type().is_map();
                assert_eq!(is_map && s.table != "Datapath", s.key.is_some(), "{s:?}");
                assert!(seen.insert((s.table, s.column, s.key)), "{s:?} twice");
                assert!(!feature.why.is_empty(), "{}", feature.name);
            }
            for table in feature.tables {
                assert!(OPEN_VSWITCH.table(table).is_some(), "{table}");
            }
        }
    }

    #[test]
    fn the_documents_tell_what_is_not_built() {
        let document = include_str!("../../../docs/not-yet.md");
        assert!(
            document.ends_with(&table()),
            "docs/not-yet.md must end in this table:\n{}",
            table()
        );
        let readme = include_str!("../../../README.md");
        for feature in NOT_BUILT {
            let line = format!("- {}", feature.name);
            assert!(
                readme.lines().any(|l| l == line),
                "README.md lacks \"{line}\""
            );
        }
    }
}
