//! The targets without the fuzzer: on the seeds, and on bytes at random.

use std::path::Path;

use ferrovs_testkit::database::{Choose, Random};

fn replay(name: &str, run: fn(&[u8])) {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("seeds")
        .join(name);
    let mut n = 0;
    for entry in std::fs::read_dir(&seeds).unwrap() {
        run(&std::fs::read(entry.unwrap().path()).unwrap());
        n += 1;
    }
    assert!(n > 0, "{name} has seeds");
    let cases = std::env::var("FUZZ_CASES").map_or(200, |n| n.parse().unwrap());
    let mut random = Random::new(1);
    for _ in 0..cases {
        let len = random.below(3000);
        let data: Vec<u8> = (0..len).map(|_| random.below(256) as u8).collect();
        let file = std::env::temp_dir().join(format!("ferrovs-fuzz-{name}"));
        if std::panic::catch_unwind(|| run(&data)).is_err() {
            std::fs::write(&file, &data).unwrap();
            panic!("the input is in {}", file.display());
        }
    }
}

/// Seeds with some bytes changed: most bytes at random are no frame of anything.
fn mutate(name: &str, run: fn(&[u8])) {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("seeds")
        .join(name);
    let entries = std::fs::read_dir(&seeds).unwrap();
    let seeds: Vec<Vec<u8>> = entries
        .map(|e| std::fs::read(e.unwrap().path()).unwrap())
        .collect();
    let cases = std::env::var("FUZZ_CASES").map_or(2000, |n| n.parse().unwrap());
    let mut random = Random::new(2);
    for _ in 0..cases {
        let mut data = seeds[random.below(seeds.len())].clone();
        for _ in 0..1 + random.below(6) {
            let at = random.below(data.len());
            data[at] = match random.below(3) {
                0 => random.below(256) as u8,
                1 => data[at] ^ 1 << random.below(8),
                _ => [0, 1, 0x7f, 0xff][random.below(4)],
            };
        }
        if random.below(8) == 0 {
            data.truncate(1 + random.below(data.len()));
        }
        let file = std::env::temp_dir().join(format!("ferrovs-fuzz-{name}"));
        if std::panic::catch_unwind(|| run(&data)).is_err() {
            std::fs::write(&file, &data).unwrap();
            panic!("the input is in {}", file.display());
        }
    }
}

#[test]
fn frames_come_out_bounded() {
    replay("frames", ferrovs_fuzz::frames::run);
    mutate("frames", ferrovs_fuzz::frames::run);
}

#[test]
fn connections_are_counted() {
    replay("conntrack", ferrovs_fuzz::conntrack::run);
    mutate("conntrack", ferrovs_fuzz::conntrack::run);
}

#[test]
fn json_text_is_parsed_one_way() {
    replay("json", ferrovs_fuzz::json::run);
}

#[test]
fn schemas_print_as_they_are() {
    replay("schema", ferrovs_fuzz::schema::run);
}

#[test]
fn transactions_keep_every_promise() {
    replay("transact", ferrovs_fuzz::transact::run);
}

#[test]
fn logs_replay_and_recover() {
    replay("log", ferrovs_fuzz::log::run);
}

#[test]
fn servers_survive_their_clients() {
    replay("server", ferrovs_fuzz::server::run);
}

#[test]
fn bridges_survive_their_controllers() {
    replay("bridge", ferrovs_fuzz::bridge::run);
}

#[test]
fn flows_print_as_they_are() {
    replay("flow_text", ferrovs_fuzz::flow_text::run);
}

#[test]
fn messages_are_shown_and_come_back() {
    replay("openflow", ferrovs_fuzz::openflow::run);
}

#[test]
fn outer_headers_come_off() {
    replay("tunnels", ferrovs_fuzz::tunnels::run);
    mutate("tunnels", ferrovs_fuzz::tunnels::run);
}

#[test]
fn neighbours_are_bounded() {
    replay("neighbours", ferrovs_fuzz::neighbours::run);
    mutate("neighbours", ferrovs_fuzz::neighbours::run);
}

#[test]
fn clusters_survive_their_servers() {
    replay("raft", ferrovs_fuzz::raft::run);
    mutate("raft", ferrovs_fuzz::raft::run);
}

#[test]
fn datapaths_texts_print_as_they_are() {
    replay("dp_text", ferrovs_fuzz::dp_text::run);
    mutate("dp_text", ferrovs_fuzz::dp_text::run);
}

#[test]
fn reports_of_the_kernel_are_read() {
    replay("netlink", ferrovs_fuzz::netlink::run);
    mutate("netlink", ferrovs_fuzz::netlink::run);
}

#[test]
fn control_sockets_survive_their_clients() {
    replay("unixctl", ferrovs_fuzz::unixctl::run);
}

#[test]
fn captures_are_read_frame_by_frame() {
    replay("replay", ferrovs_fuzz::replay::run);
    mutate("replay", ferrovs_fuzz::replay::run);
}
