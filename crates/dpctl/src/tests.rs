//! Answers that need no datapath.

use super::*;

fn run(name: &str, args: &[&str]) -> Result<String, String> {
    #[allow(clippy::disallowed_methods)]
    let now = Instant::now();
    let command = COMMANDS.iter().find(|c| c.name == name).unwrap();
    Context::new(&[], "ovs-dpctl", now, |_, _| Err(String::new())).run_with_options(command, args)
}

#[test]
fn without_datapaths_open_vswitch_says_so() {
    assert_eq!(run("dpctl/dump-dps", &[]).unwrap(), "");
    assert_eq!(
        run("dpctl/dump-flows", &["-m"]).unwrap_err(),
        "ovs-dpctl: no datapaths exist\novs-dpctl: datapath not found (Invalid argument)\n"
    );
    assert_eq!(
        run("dpctl/show", &["x"]).unwrap_err(),
        "ovs-dpctl: opening datapath x failed (No such file or directory)\n"
    );
    assert_eq!(
        run("dpctl/show", &["-x"]).unwrap_err(),
        "Unrecognized option -x"
    );
}

#[test]
fn actions_are_sorted_into_what_packets_with_the_same_tags_meet() {
    let flow =
        "in_port(1),eth(),eth_type(0x8100),vlan(vid=9,pcp=1),encap(eth_type(0x0800),ipv4(frag=no))";
    assert_eq!(
        run(
            "dpctl/normalize-actions",
            &[flow, "2,pop_vlan,3,1,push_vlan(vid=3,pcp=0),5,4"]
        )
        .unwrap(),
        "input flow: in_port(1),eth(src=00:00:00:00:00:00,dst=00:00:00:00:00:00),eth_type(0x8100),\
         vlan(vid=9,pcp=1),encap(eth_type(0x0800),ipv4(src=0.0.0.0,dst=0.0.0.0,proto=0,tos=0,ttl=0,frag=no))\n\
         no vlan: no mpls: 1,3vlan(vid=3,pcp=0): no mpls: 4,5vlan(vid=9,pcp=1): no mpls: 2"
    );
}
