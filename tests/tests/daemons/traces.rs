//! Connection tracking beside the oracle's, on generated traces: the same states, entries, counters and frames.
//!
//! Time stands still but for what the trace says. `FERROVS_TRACE=N:SEED[:rough]` asks for so many conversations
//! instead of the few of every day; rough ones need a release from 4.0 on, which `FERROVS_ORACLE` names.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use ferrovs_testkit::oracle::oracle;
use ferrovs_testkit::packets::{ethernet, hex};
use ferrovs_testkit::pcap;
use ferrovs_testkit::switch::{Cast, wait_for};
use ferrovs_testkit::trace::{DNAT, DNAT_PORT, KINDS, Kind, Mark, SNAT, SNAT_PORT, Step, trace};
use ferrovs_testkit::{Programs, Switch};
use serde_json::Value;

/// The type of the frame that tells that those of a step are through.
const THROUGH: u16 = 0x9999;
/// Bytes of differences that are shown.
const LONG: usize = 20_000;
/// Steps between two looks at all entries.
const LOOK: usize = 100;

/// What a switch did with a trace.
struct Told {
    /// What left in each step, with the state that each frame had: see [`flows`].
    frames: Vec<Vec<Vec<u8>>>,
    /// Texts of commands, by the step after which they were asked.
    texts: Vec<(usize, String)>,
}

/// The flows: frames get their state, and leave by port 2, with state and mark in place of their source.
fn flows() -> String {
    let mut out = String::new();
    let mut add = |line: String| {
        out += &line;
        out.push('\n');
    };
    add(format!(
        "table=0,priority=100,dl_type={THROUGH:#x},actions=output:2,output:9"
    ));
    for kind in KINDS {
        let zone = kind as u8 + 1;
        let of = |last: &str| format!("dl_dst=02:00:00:00:00:{last}");
        let any = of(&format!("{:02x}/ff:ff:ff:ff:ff:7f", kind as u8));
        let client = of(&format!("{:02x}", kind as u8));
        for (i, ip) in ["ip", "ipv6"].into_iter().enumerate() {
            // Lines of FTP are only rewritten in packets that have room to grow: those that had a tag have.
            let room = match kind {
                Kind::FtpSnat | Kind::FtpDnat => "push_vlan:0x8100,output:8,pop_vlan,",
                _ => "",
            };
            // Open vSwitch writes over the end of buffers where lines are looked at for a translation that is none.
            let back = if kind == Kind::Ftp { "" } else { ",nat" };
            add(format!(
                "table=0,priority=10,{ip},{any},actions={room}ct(table=1,zone={zone}{back})"
            ));
            let nat = match kind {
                Kind::Snat | Kind::FtpSnat => format!(",nat(src={})", SNAT[i]),
                Kind::SnatPort if i == 0 => format!(",nat(src={}:{SNAT_PORT})", SNAT[i]),
                Kind::SnatPort => format!(",nat(src=[{}]:{SNAT_PORT})", SNAT[i]),
                Kind::Dnat if i == 0 => format!(",nat(dst={}:{DNAT_PORT})", DNAT[i]),
                Kind::Dnat => format!(",nat(dst=[{}]:{DNAT_PORT})", DNAT[i]),
                Kind::FtpDnat => format!(",nat(dst={})", DNAT[i]),
                Kind::ZeroSnat => format!(",nat(src={})", ["0.0.0.0", "::"][i]),
                _ => String::new(),
            };
            let more = match kind {
                Kind::Ftp | Kind::FtpSnat | Kind::FtpDnat => ",alg=ftp",
                Kind::Tftp => ",alg=tftp",
                Kind::Marks => {
                    ",exec(load:0x1234->NXM_NX_CT_MARK[],load:0x77->NXM_NX_CT_LABEL[0..31])"
                }
                _ => "",
            };
            // Helpers are for one protocol.
            let first = match kind {
                Kind::Ftp | Kind::FtpSnat | Kind::FtpDnat => ["tcp", "tcp6"][i],
                Kind::Tftp => ["udp", "udp6"][i],
                _ => ip,
            };
            if kind != Kind::Loose {
                add(format!(
                    "table=1,priority=10,{first},{client},ct_state=+new-rel,actions=ct(commit,zone={zone},table=2{nat}{more})"
                ));
                add(format!(
                    "table=1,priority=10,{ip},{any},ct_state=+new+rel,actions=ct(commit,zone={zone},table=2{back})"
                ));
            }
            if kind == Kind::TwoZones {
                add(format!(
                    "table=1,priority=9,{ip},{any},actions=ct(table=3,zone=100)"
                ));
                add(format!(
                    "table=3,priority=10,{ip},{client},ct_state=+new,actions=ct(commit,zone=100,table=2)"
                ));
                add("table=3,priority=0,actions=resubmit(,2)".into());
            }
            let marked = |mark: Mark| format!("dl_src=02:00:00:00:00:{:02x}", mark as u8);
            if kind == Kind::Marks {
                add(format!(
                    "table=1,priority=11,{ip},{any},ct_state=+est,{},actions=ct(commit,zone={zone},table=2,exec(load:5->NXM_NX_CT_MARK[0..7],load:6->NXM_NX_CT_LABEL[64..95]))",
                    marked(Mark::Change)
                ));
                add(format!(
                    "table=1,priority=11,{ip},{any},ct_state=+est,{},actions=ct(commit,force,zone={zone},table=2,exec(load:7->NXM_NX_CT_MARK[]))",
                    marked(Mark::Force)
                ));
            }
        }
    }
    add("table=1,priority=0,actions=resubmit(,2)".into());
    add("table=2,actions=move:NXM_NX_CT_STATE[0..7]->NXM_OF_ETH_SRC[0..7],move:NXM_NX_CT_MARK[]->NXM_OF_ETH_SRC[8..39],output:2".into());
    out
}

fn run(cast: Cast, steps: &[Step]) -> Told {
    let sw = Switch::start(cast, &["--enable-dummy=override", "--disable-system"]);
    sw.vsctl("add-br br0 -- set Bridge br0 datapath_type=dummy fail_mode=secure");
    let file = sw.file("out.pcap");
    for (port, options) in [
        (1, String::new()),
        (2, format!("options:tx_pcap={file}")),
        (8, String::new()),
        (9, String::new()),
    ] {
        sw.vsctl(&format!(
            "add-port br0 p{port} -- set Interface p{port} type=dummy ofport_request={port} {options}"
        ));
    }
    sw.appctl("time/stop");
    std::fs::write(sw.file("flows"), flows()).unwrap();
    sw.ofctl(&format!("-O OpenFlow13 add-flows br0 {}", sw.file("flows")));
    let mut texts = Vec::new();
    for (i, step) in steps.iter().enumerate() {
        if step.wait_ms > 0 {
            ask(&sw, "time/warp", &[step.wait_ms.to_string()]);
        }
        receive(&sw, &step.frames);
        receive(&sw, &[ethernet([2; 6], [2; 6], THROUGH, &[])]);
        assert!(
            wait_for(Duration::from_secs(20), || sent(&sw) == i + 1),
            "frames are lost"
        );
        if i % LOOK == LOOK - 1 || i + 1 == steps.len() {
            texts.extend(look(&sw).map(|text| (i, text)));
        }
    }
    sw.appctl("revalidator/wait");
    texts.push((
        steps.len(),
        sorted(&statistics(&sw.ofctl("dump-flows br0"))),
    ));
    // Ends the file.
    sw.vsctl("del-port br0 p2");
    let frames = pcap::read(sw.file("out.pcap").as_ref()).unwrap();
    let is_mark = |f: &Vec<u8>| f[12..14] == THROUGH.to_be_bytes();
    Told {
        frames: frames
            .split(is_mark)
            .map(|step| {
                let mut step: Vec<_> = step.iter().map(|f| without_padding(f)).collect();
                step.sort();
                step
            })
            .collect(),
        texts,
    }
}

/// Asks ovs-vswitchd for a command as `ovs-appctl` does, on a connection of its own; only in a later turn of its loop
/// is the next one heard.
fn ask(sw: &Switch, command: &str, args: &[String]) -> String {
    let pid = sw.pid("ovs-vswitchd").unwrap();
    let mut stream = UnixStream::connect(sw.file(&format!("ovs-vswitchd.{pid}.ctl"))).unwrap();
    let request = serde_json::json!({"id": 0, "method": command, "params": args});
    stream.write_all(request.to_string().as_bytes()).unwrap();
    let mut replies = serde_json::Deserializer::from_reader(stream).into_iter::<Value>();
    let reply = replies.next().unwrap().unwrap();
    assert!(reply["error"].is_null(), "{command}: {reply}");
    reply["result"].as_str().unwrap_or_default().to_string()
}

/// A frame up to where its IP packet says that it ends.
fn without_padding(frame: &[u8]) -> Vec<u8> {
    let length = |at: usize| {
        frame
            .get(at..at + 2)
            .map(|b| usize::from(b[0]) << 8 | usize::from(b[1]))
    };
    let end = match frame[12..14] {
        [8, 0] => length(16).map(|n| 14 + n),
        _ => length(18).map(|n| 54 + n),
    };
    frame[..end.unwrap_or(0).clamp(14, frame.len())].to_vec()
}

fn receive(sw: &Switch, frames: &[Vec<u8>]) {
    let mut args = vec!["p1".to_string()];
    args.extend(frames.iter().map(|f| hex(f)));
    ask(sw, "netdev-dummy/receive", &args);
}

/// How many frames left by port 9.
fn sent(sw: &Switch) -> usize {
    let shown = ask(sw, "dpctl/show", &["-s".into()]);
    let port = shown.split(" p9 (dummy").nth(1).unwrap_or_default();
    let count = port.split("TX packets:").nth(1).unwrap_or_default();
    let digits = count.split(|c: char| !c.is_ascii_digit()).next();
    digits.and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// What is known between two steps.
fn look(sw: &Switch) -> [String; 2] {
    [
        sorted(&ask(
            sw,
            "dpctl/dump-conntrack",
            &["-m".into(), "-s".into()],
        )),
        fragments(&ask(sw, "dpctl/ipf-get-status", &[])),
    ]
}

/// What is known of fragments, without what depends on when those are thrown away that wait.
fn fragments(status: &str) -> String {
    let waits = |l: &&str| {
        ["num frag", "expired", "purged"]
            .iter()
            .any(|w| l.contains(w))
    };
    let lines: Vec<&str> = status.lines().filter(|l| !waits(l)).collect();
    lines.join("\n")
}

fn sorted(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// Flows with the packets that they counted, without what the clock says, and without bytes: those behind the packet
/// are not always kept when a line of FTP grows.
fn statistics(flows: &str) -> String {
    let line = |l: &str| -> String {
        let words = l.split(", ").filter(|w| {
            let word = w.trim_start();
            !["n_bytes=", "duration=", "idle_age=", "hard_age="]
                .iter()
                .any(|t| word.starts_with(t))
        });
        words.collect::<Vec<_>>().join(", ")
    };
    flows.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The first lines that only one of two texts has.
fn differences(theirs: &str, ours: &str) -> String {
    let mut count: BTreeMap<&str, i32> = BTreeMap::new();
    for line in theirs.lines() {
        *count.entry(line).or_default() += 1;
    }
    for line in ours.lines() {
        *count.entry(line).or_default() -= 1;
    }
    let lines = count.iter().filter(|(_, n)| **n != 0);
    let lines = lines.map(|(line, n)| {
        format!(
            "{} {line}\n",
            if *n > 0 {
                "Open vSwitch:"
            } else {
                "Ferrovs:     "
            }
        )
    });
    lines.take(40).collect()
}

fn assert_same(theirs: &Told, ours: &Told) {
    let mut all = String::new();
    for (step, (a, b)) in theirs.frames.iter().zip(&ours.frames).enumerate() {
        let text = |frames: &[Vec<u8>]| frames.iter().map(|f| hex(f) + "\n").collect::<String>();
        if a != b && all.len() < LONG {
            all += &format!("step {step}:\n{}", differences(&text(a), &text(b)));
        }
    }
    for ((step, a), (_, b)) in theirs.texts.iter().zip(&ours.texts) {
        if a != b && all.len() < LONG {
            all += &format!("after step {step}:\n{}", differences(a, b));
        }
    }
    assert!(all.is_empty(), "{all}");
    assert_eq!(theirs.frames.len(), ours.frames.len());
}

#[test]
fn connections_of_a_trace_are_what_the_oracle_says() {
    let asked = std::env::var("FERROVS_TRACE").unwrap_or_default();
    let mut words = asked.split(':');
    let mut number = |default| words.next().and_then(|w| w.parse().ok()).unwrap_or(default);
    let (n, seed) = (number(300), number(1));
    let steps = trace(n as usize, seed, words.next() == Some("rough"));
    let (theirs, ours) = std::thread::scope(|s| {
        let theirs = s.spawn(|| run(Cast::all(oracle()), &steps));
        let ours = run(Cast::all(Programs::ours()), &steps);
        (theirs.join().unwrap(), ours)
    });
    assert!(theirs.frames.len() > LOOK);
    assert_same(&theirs, &ours);
}
