//! `--help` of each program, as Open vSwitch's prints it.

use ferrovs_testkit::Programs;
use ferrovs_testkit::command::run;
use ferrovs_testkit::oracle::oracle;

const PROGRAMS: [&str; 9] = [
    "ovs-appctl",
    "ovs-dpctl",
    "ovs-ofctl",
    "ovs-vsctl",
    "ovs-vswitchd",
    "ovsdb-client",
    "ovsdb-server",
    "ovsdb-tool",
    "vtep-ctl",
];

const SERVER_NAME: &str = "  --ssl-server-name=NAME    server name for TLS Server Name
                            Indication (SNI)\n";
/// Options that no program of ours has.
const REPLAY: &str = "Replay options:
  --record[=DIR]            turn on writing replay files
  --replay[=DIR]            run from replay files\n\n";

/// The text of version 3.7, whichever version wrote it: 3.5 does not know the server's name yet,
/// 4.0 takes listening sockets from others.
fn as_of_3_7(text: &str) -> String {
    let text = text.replace("with TLSv1.2 and earlier", "with TLSv1.2");
    let text = text.replace(SERVER_NAME, "");
    let ciphersuites = "                            enable with TLSv1.3 and later\n";
    let text = text.replace(ciphersuites, &format!("{ciphersuites}{SERVER_NAME}"));
    let lines = text.split_inclusive('\n');
    let text: String = lines.filter(|l| !l.starts_with("  pfd:FD ")).collect();
    text.replace(REPLAY, "")
}

#[test]
fn every_program_explains_itself_as_open_vswitch_does() {
    let (theirs, ours) = (oracle(), Programs::ours());
    let env = ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"]
        .map(|name| (name.to_owned(), "/d".to_owned()));
    for program in PROGRAMS {
        let help = |of: &Programs| run(&of.path(program), &["--help"], &env).ok();
        let (theirs, ours) = (as_of_3_7(&help(&theirs)), help(&ours));
        for (a, b) in theirs.lines().zip(ours.lines()) {
            assert_eq!(a, b, "{program}");
        }
        assert_eq!(theirs.lines().count(), ours.lines().count(), "{program}");
    }
}
