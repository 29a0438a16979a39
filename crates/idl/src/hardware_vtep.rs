//! The hardware_vtep database, schema 1.7.0, declared once: what vtep-ctl works on.
//!
//! A VTEP is a physical switch whose VLANs are bound to logical switches that tunnels extend over
//! other switches and hypervisors; the columns say who knows which MAC address behind which
//! tunnel endpoint. Tables stand in the order of the published schema, columns in order of name.

use crate::database;
use crate::kind::{Bool, Int, Map, Opt, Ref, Set, Str};
use crate::schema::{
    BOOLEAN, INTEGER, STRING, at_least, choice, map, one, optional, range, set, set_of, strong,
};
use ferrovs_ovsdb::types::UNLIMITED;

/// The text of `vtep.ovsschema`.
pub fn schema_json_text() -> String {
    crate::schema::schema_json_text(&HARDWARE_VTEP)
}

database! {
    /// The hardware_vtep database.
    HARDWARE_VTEP = "hardware_vtep" "1.7.0" "353943336 11434";

    /// Top-level configuration: one row that managers and switches hang from.
    table Global = "Global" (is_root: true, max_rows: Some(1)) {
        /// OVSDB connections.
        MANAGERS managers: Set<Ref> = set(strong("Manager"));
        /// Further settings.
        OTHER_CONFIG other_config: Map<Str, Str> = map(STRING, STRING);
        /// Physical switches.
        SWITCHES switches: Set<Ref> = set(strong("Physical_Switch"));
    }

    /// A physical switch that implements a VTEP.
    table PhysicalSwitch = "Physical_Switch" (indexes: &[&["name"]]) {
        /// Free text.
        DESCRIPTION description: Str = one(STRING);
        /// Addresses for management.
        MANAGEMENT_IPS management_ips: Set<Str> = set(STRING);
        /// Name.
        NAME name: Str = one(STRING);
        /// Further settings.
        OTHER_CONFIG other_config: Map<Str, Str> = map(STRING, STRING);
        /// Ports.
        PORTS ports: Set<Ref> = set(strong("Physical_Port"));
        /// Faults of the switch (written).
        SWITCH_FAULT_STATUS switch_fault_status: Set<Str> = set(STRING).ephemeral();
        /// Addresses at which it terminates tunnels.
        TUNNEL_IPS tunnel_ips: Set<Str> = set(STRING);
        /// Tunnels created by this switch.
        TUNNELS tunnels: Set<Ref> = set(strong("Tunnel"));
    }

    /// A port within a physical switch.
    table PhysicalPort = "Physical_Port" {
        /// VLAN to ACL.
        ACL_BINDINGS acl_bindings: Map<Int, Ref> = map(range(0, 4095), strong("ACL"));
        /// Free text.
        DESCRIPTION description: Str = one(STRING);
        /// Name.
        NAME name: Str = one(STRING);
        /// Further settings.
        OTHER_CONFIG other_config: Map<Str, Str> = map(STRING, STRING);
        /// Faults of the port (written).
        PORT_FAULT_STATUS port_fault_status: Set<Str> = set(STRING).ephemeral();
        /// VLAN to logical switch.
        VLAN_BINDINGS vlan_bindings: Map<Int, Ref> = map(range(0, 4095), strong("Logical_Switch"));
        /// VLAN to its statistics.
        VLAN_STATS vlan_stats: Map<Int, Ref> = map(range(0, 4095), strong("Logical_Binding_Stats")).ephemeral();
    }

    /// A tunnel between two locators, and what BFD knows of it.
    table Tunnel = "Tunnel" {
        /// BFD settings by the VTEP.
        BFD_CONFIG_LOCAL bfd_config_local: Map<Str, Str> = map(STRING, STRING);
        /// BFD settings by the controller.
        BFD_CONFIG_REMOTE bfd_config_remote: Map<Str, Str> = map(STRING, STRING);
        /// BFD timers by the controller.
        BFD_PARAMS bfd_params: Map<Str, Str> = map(STRING, STRING);
        /// BFD state (written).
        BFD_STATUS bfd_status: Map<Str, Str> = map(STRING, STRING).ephemeral();
        /// Own end.
        LOCAL local: Ref = one(strong("Physical_Locator"));
        /// Other end.
        REMOTE remote: Ref = one(strong("Physical_Locator"));
    }

    /// Statistics of the binding of a VLAN to a logical switch.
    table LogicalBindingStats = "Logical_Binding_Stats" {
        /// Bytes from the VLAN.
        BYTES_FROM_LOCAL bytes_from_local: Int = one(INTEGER).ephemeral();
        /// Bytes to the VLAN.
        BYTES_TO_LOCAL bytes_to_local: Int = one(INTEGER).ephemeral();
        /// Packets from the VLAN.
        PACKETS_FROM_LOCAL packets_from_local: Int = one(INTEGER).ephemeral();
        /// Packets to the VLAN.
        PACKETS_TO_LOCAL packets_to_local: Int = one(INTEGER).ephemeral();
    }

    /// A logical Ethernet switch.
    table LogicalSwitch = "Logical_Switch" (is_root: true, indexes: &[&["name"]]) {
        /// Free text.
        DESCRIPTION description: Str = one(STRING);
        /// Name.
        NAME name: Str = one(STRING);
        /// Further settings.
        OTHER_CONFIG other_config: Map<Str, Str> = map(STRING, STRING);
        /// Who replicates broadcast, multicast and unknown unicast.
        REPLICATION_MODE replication_mode: Opt<Str> = optional(choice(&["service_node", "source_node"]));
        /// Tunnel key, if it is one per switch.
        TUNNEL_KEY tunnel_key: Opt<Int> = optional(INTEGER);
    }

    /// Unicast MAC addresses that the VTEP learned on its ports.
    table UcastMacsLocal = "Ucast_Macs_Local" (is_root: true) {
        /// The MAC address, or "unknown-dst".
        MAC mac ("MAC"): Str = one(STRING);
        /// The IP address that goes with the MAC.
        IPADDR ipaddr: Str = one(STRING);
        /// Where the address is.
        LOCATOR locator: Ref = one(strong("Physical_Locator"));
        /// The logical switch.
        LOGICAL_SWITCH logical_switch: Ref = one(strong("Logical_Switch"));
    }

    /// Unicast MAC addresses that the network virtualization controller knows.
    table UcastMacsRemote = "Ucast_Macs_Remote" (is_root: true) {
        /// The MAC address, or "unknown-dst".
        MAC mac ("MAC"): Str = one(STRING);
        /// The IP address that goes with the MAC.
        IPADDR ipaddr: Str = one(STRING);
        /// Where the address is.
        LOCATOR locator: Ref = one(strong("Physical_Locator"));
        /// The logical switch.
        LOGICAL_SWITCH logical_switch: Ref = one(strong("Logical_Switch"));
    }

    /// Multicast MAC addresses on the VTEP's ports.
    table McastMacsLocal = "Mcast_Macs_Local" (is_root: true) {
        /// The MAC address, or "unknown-dst".
        MAC mac ("MAC"): Str = one(STRING);
        /// The IP address that goes with the MAC.
        IPADDR ipaddr: Str = one(STRING);
        /// Where copies go.
        LOCATOR_SET locator_set: Ref = one(strong("Physical_Locator_Set"));
        /// The logical switch.
        LOGICAL_SWITCH logical_switch: Ref = one(strong("Logical_Switch"));
    }

    /// Multicast MAC addresses elsewhere.
    table McastMacsRemote = "Mcast_Macs_Remote" (is_root: true) {
        /// The MAC address, or "unknown-dst".
        MAC mac ("MAC"): Str = one(STRING);
        /// The IP address that goes with the MAC.
        IPADDR ipaddr: Str = one(STRING);
        /// Where copies go.
        LOCATOR_SET locator_set: Ref = one(strong("Physical_Locator_Set"));
        /// The logical switch.
        LOGICAL_SWITCH logical_switch: Ref = one(strong("Logical_Switch"));
    }

    /// A logical router or VRF.
    table LogicalRouter = "Logical_Router" (is_root: true, indexes: &[&["name"]]) {
        /// Faults of the router (written).
        LR_FAULT_STATUS lr_fault_status ("LR_fault_status"): Set<Str> = set(STRING).ephemeral();
        /// Prefix to ACL.
        ACL_BINDING acl_binding: Map<Str, Ref> = map(STRING, strong("ACL"));
        /// Free text.
        DESCRIPTION description: Str = one(STRING);
        /// Name.
        NAME name: Str = one(STRING);
        /// Further settings.
        OTHER_CONFIG other_config: Map<Str, Str> = map(STRING, STRING);
        /// Prefix to next hop.
        STATIC_ROUTES static_routes: Map<Str, Str> = map(STRING, STRING);
        /// Prefix to logical switch.
        SWITCH_BINDING switch_binding: Map<Str, Ref> = map(STRING, strong("Logical_Switch"));
    }

    /// Source MACs of ARP requests by the VTEP's own distributed routers.
    table ArpSourcesLocal = "Arp_Sources_Local" (is_root: true) {
        /// Where the address is.
        LOCATOR locator: Ref = one(strong("Physical_Locator"));
        /// The source MAC.
        SRC_MAC src_mac: Str = one(STRING);
    }

    /// Source MACs of ARP requests by other VTEPs' distributed routers.
    table ArpSourcesRemote = "Arp_Sources_Remote" (is_root: true) {
        /// Where the address is.
        LOCATOR locator: Ref = one(strong("Physical_Locator"));
        /// The source MAC.
        SRC_MAC src_mac: Str = one(STRING);
    }

    /// A set of one or more physical locators.
    table PhysicalLocatorSet = "Physical_Locator_Set" {
        /// Its members.
        LOCATORS locators: Set<Ref> = set_of(strong("Physical_Locator"), 1, UNLIMITED).immutable();
    }

    /// An endpoint to which traffic of logical switches may be encapsulated and sent.
    table PhysicalLocator = "Physical_Locator" (indexes: &[&["encapsulation_type", "dst_ip", "tunnel_key"]]) {
        /// Address of the endpoint.
        DST_IP dst_ip: Str = one(STRING).immutable();
        /// Kind of tunnel.
        ENCAPSULATION_TYPE encapsulation_type: Str = one(choice(&["vxlan_over_ipv4"])).immutable();
        /// Tunnel key, if it is one per locator.
        TUNNEL_KEY tunnel_key: Opt<Int> = optional(INTEGER);
    }

    /// One rule of an ACL.
    table AclEntry = "ACL_entry" (is_root: true) {
        /// Faults of the entry (written).
        ACLE_FAULT_STATUS acle_fault_status: Set<Str> = set(STRING).ephemeral();
        /// What becomes of it.
        ACTION action: Str = one(choice(&["permit", "deny"]));
        /// Destination address to match.
        DEST_IP dest_ip: Opt<Str> = optional(STRING);
        /// Destination MAC to match.
        DEST_MAC dest_mac: Opt<Str> = optional(STRING);
        /// Mask of the destination address.
        DEST_MASK dest_mask: Opt<Str> = optional(STRING);
        /// Highest destination port.
        DEST_PORT_MAX dest_port_max: Opt<Int> = optional(INTEGER);
        /// Lowest destination port.
        DEST_PORT_MIN dest_port_min: Opt<Int> = optional(INTEGER);
        /// Of which traffic.
        DIRECTION direction: Str = one(choice(&["ingress", "egress"]));
        /// Ethertype to match.
        ETHERTYPE ethertype: Opt<Str> = optional(STRING);
        /// ICMP code to match.
        ICMP_CODE icmp_code: Opt<Int> = optional(INTEGER);
        /// ICMP type to match.
        ICMP_TYPE icmp_type: Opt<Int> = optional(INTEGER);
        /// IP protocol to match.
        PROTOCOL protocol: Opt<Int> = optional(INTEGER);
        /// Place among the entries.
        SEQUENCE sequence: Int = one(INTEGER);
        /// Source address to match.
        SOURCE_IP source_ip: Opt<Str> = optional(STRING);
        /// Source MAC to match.
        SOURCE_MAC source_mac: Opt<Str> = optional(STRING);
        /// Mask of the source address.
        SOURCE_MASK source_mask: Opt<Str> = optional(STRING);
        /// Highest source port.
        SOURCE_PORT_MAX source_port_max: Opt<Int> = optional(INTEGER);
        /// Lowest source port.
        SOURCE_PORT_MIN source_port_min: Opt<Int> = optional(INTEGER);
        /// TCP flags to match.
        TCP_FLAGS tcp_flags: Opt<Int> = optional(INTEGER);
        /// Mask of the TCP flags.
        TCP_FLAGS_MASK tcp_flags_mask: Opt<Int> = optional(INTEGER);
    }

    /// An access control list.
    table Acl = "ACL" (is_root: true, indexes: &[&["acl_name"]]) {
        /// Its rules.
        ACL_ENTRIES acl_entries: Set<Ref> = set_of(strong("ACL_entry"), 1, UNLIMITED);
        /// Faults of the ACL (written).
        ACL_FAULT_STATUS acl_fault_status: Set<Str> = set(STRING).ephemeral();
        /// Unique name.
        ACL_NAME acl_name: Str = one(STRING);
    }

    /// Configuration of an OVSDB connection.
    table Manager = "Manager" (indexes: &[&["target"]]) {
        /// Milliseconds of silence before a probe; 0 for none.
        INACTIVITY_PROBE inactivity_probe: Opt<Int> = optional(INTEGER);
        /// Whether a session is up (written).
        IS_CONNECTED is_connected: Bool = one(BOOLEAN).ephemeral();
        /// Most milliseconds between attempts to connect.
        MAX_BACKOFF max_backoff: Opt<Int> = optional(at_least(1000));
        /// Further settings.
        OTHER_CONFIG other_config: Map<Str, Str> = map(STRING, STRING);
        /// State of the connection (written).
        STATUS status: Map<Str, Str> = map(STRING, STRING).ephemeral();
        /// Connection method.
        TARGET target: Str = one(STRING);
    }
}

#[cfg(test)]
mod tests;
