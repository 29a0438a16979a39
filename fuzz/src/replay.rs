//! Capture files, as `replay` devices read them.
//!
//! What must hold: nothing panics, no more frames come out than the file has room for, and each is one of its parts.

use std::collections::BTreeMap;
use std::path::Path;

use ferrovs_packet::buffer::Batch;
use ferrovs_testkit::database::Choose;

use crate::input::Input;

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let again = input.below(2) == 0;
    let mut file = Vec::new();
    if input.below(4) != 0 {
        let magic: u32 = [0xa1b2_c3d4, 0xa1b2_3c4d, 0xd4c3_b2a1, 0x4d3c_b2a1][input.below(4)];
        file.extend(magic.to_be_bytes());
        file.extend([0; 20]);
    }
    file.extend_from_slice(input.rest());
    let folder = if Path::new("/dev/shm").is_dir() {
        "/dev/shm".into()
    } else {
        std::env::temp_dir()
    };
    let path = folder.join(format!("ferrovs-fuzz-replay-{}", std::process::id()));
    std::fs::write(&path, &file).expect("there is room");
    let device = ferrovs_netdev::open("r0", "replay").expect("it opens");
    let options = BTreeMap::from([
        ("pcap".to_owned(), path.to_string_lossy().into_owned()),
        ("loop".to_owned(), again.to_string()),
    ]);
    let read = device.set_config(&options);
    _ = std::fs::remove_file(&path);
    if read.is_err() {
        return;
    }
    let mut queue = device.rxq_open(0).expect("it has a queue");
    let (mut frames, mut rounds) = (0, 0);
    loop {
        let mut batch = Batch::new();
        let n = queue.recv(&mut batch).expect("a file does not fail");
        assert_eq!(n, batch.len());
        for p in batch.iter() {
            assert!(p.size() >= 14 && p.size() <= file.len());
            let part = p.data();
            assert!(file.windows(part.len()).any(|w| w == part));
        }
        frames += n;
        rounds += 1;
        if n == 0 || rounds == 8 {
            break;
        }
    }
    assert!(again || frames <= file.len() / 30);
}
