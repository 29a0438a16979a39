//! TLS streams to each other: who is let in, who is not, and that nobody can disturb the others.
//!
//! The certificates beside this file were made by `tls/make.sh`. The options are one for the
//! process, as in a program, so the tests take turns.

use ferrovs_runtime::options::Ssl;
use ferrovs_runtime::{Poller, clock};
use ferrovs_stream::{PStream, Stream, tls};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/tls")
        .join(name)
}

/// The options of somebody who trusts `ca`.
fn me(name: &str, ca: &str) -> Ssl {
    Ssl {
        private_key: Some(file(&format!("{name}-key.pem"))),
        certificate: Some(file(&format!("{name}.pem"))),
        ca_cert: Some(file(&format!("{ca}.pem"))),
        ..Ssl::default()
    }
}

fn listen() -> PStream {
    PStream::open("pssl:0:127.0.0.1").unwrap()
}

fn target(listener: &PStream) -> String {
    format!("ssl:127.0.0.1:{}", listener.bound_port().unwrap())
}

fn accept(listener: &mut PStream) -> Stream {
    let end = clock::now() + Duration::from_secs(10);
    loop {
        if let Some(stream) = listener.accept().unwrap() {
            return stream;
        }
        assert!(clock::now() < end, "nobody came");
        sleep(end, |poller| listener.wait(poller));
    }
}

/// Sleeps until what `wait` asks for, or the end.
fn sleep(end: Instant, wait: impl FnOnce(&mut Poller)) {
    let mut poller = Poller::new();
    wait(&mut poller);
    poller.wait_until(end);
    poller.block();
}

/// Shakes hands to the end: how it went for the client and for the server.
fn shake(client: &mut Stream, server: &mut Stream) -> (io::Result<()>, io::Result<()>) {
    let blocks = |r: &io::Result<()>| matches!(r, Err(e) if e.kind() == io::ErrorKind::WouldBlock);
    let end = clock::now() + Duration::from_secs(10);
    loop {
        let results = (client.connect(), server.connect());
        let waiting = (blocks(&results.0), blocks(&results.1));
        // In TLS 1.3 the client is done before the server has looked at its certificate.
        if waiting == (false, false) || (results.0.is_err() && !waiting.0) {
            return results;
        }
        assert!(clock::now() < end, "{results:?}");
        sleep(end, |poller| {
            if waiting.0 {
                client.connect_wait(poller);
            }
            if waiting.1 {
                server.connect_wait(poller);
            }
        });
    }
}

/// What the client gets from a server that would send "hi".
fn greeting(client: &mut Stream, server: &mut Stream) -> io::Result<Vec<u8>> {
    if server.connect().is_ok() {
        assert_eq!(server.send(b"hi")?, 2);
    }
    let mut buffer = [0; 16];
    let end = clock::now() + Duration::from_secs(10);
    loop {
        match client.recv(&mut buffer) {
            Ok(n) => return Ok(buffer[..n].to_vec()),
            Err(e) if e.kind() != io::ErrorKind::WouldBlock => return Err(e),
            Err(_) => assert!(clock::now() < end, "nothing came"),
        }
        sleep(end, |poller| client.recv_wait(poller));
    }
}

/// A connection between the two ends that the options make; whether "hi" came through.
fn try_pair(client: &Ssl, server: &Ssl) -> bool {
    let mut listener = listen();
    let target = target(&listener);
    // Each side's options count when it begins.
    tls::configure(client);
    let mut here = Stream::open(&target).unwrap();
    tls::configure(server);
    let mut there = accept(&mut listener);
    let (a, b) = shake(&mut here, &mut there);
    a.is_ok() && b.is_ok() && greeting(&mut here, &mut there).is_ok_and(|text| text == b"hi")
}

#[test]
fn a_peer_is_let_in_by_its_authority_alone() {
    let _turn = turn();
    let server = me("server", "ca");
    assert!(try_pair(&me("client", "ca"), &server));
    assert!(try_pair(&me("v1", "ca"), &me("v1", "ca")));
    assert!(try_pair(&me("self", "self"), &me("self", "self")));
    for stranger in ["wrong", "old", "self"] {
        assert!(!try_pair(&me(stranger, "ca"), &server), "{stranger}");
        assert!(
            !try_pair(&me("client", "ca"), &me(stranger, "ca")),
            "{stranger}"
        );
    }
    assert!(!try_pair(&me("client", "other"), &server));
    assert!(!try_pair(&me("client", "ca"), &me("v1", "other")));
    // A file without authorities makes everybody a stranger.
    let mut nobody = me("server", "ca");
    nobody.ca_cert = Some(file("make.sh"));
    assert!(!try_pair(&me("client", "ca"), &nobody));
    let mut anybody = me("server", "ca");
    anybody.ca_cert = Some("none".into());
    assert!(try_pair(&me("wrong", "ca"), &anybody));
}

#[test]
fn the_name_of_a_peer_is_known_once_it_was_verified() {
    let _turn = turn();
    tls::configure(&me("server", "ca"));
    let mut listener = listen();
    let mut here = Stream::open(&target(&listener)).unwrap();
    let mut there = accept(&mut listener);
    assert_eq!(there.peer_name(), None);
    let (a, b) = shake(&mut here, &mut there);
    assert!(a.is_ok() && b.is_ok());
    assert_eq!(there.peer_name().as_deref(), Some("server-name"));
}

#[test]
fn a_client_without_a_certificate_is_not_let_in() {
    let _turn = turn();
    tls::configure(&me("server", "ca"));
    let mut listener = listen();
    let port = listener.bound_port().unwrap();
    let client = std::thread::spawn(move || {
        use rustls::pki_types::{CertificateDer, pem::PemObject};
        let mut roots = rustls::RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(file("ca.pem")).unwrap();
        roots.add(ca).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = "server.example".try_into().unwrap();
        let mut connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut text = Vec::new();
        rustls::Stream::new(&mut connection, &mut socket).read_to_end(&mut text)
    });
    let mut there = accept(&mut listener);
    let end = clock::now() + Duration::from_secs(10);
    let error = loop {
        match there.connect() {
            Ok(()) => panic!("a stranger came in"),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                assert!(clock::now() < end, "nobody speaks");
                sleep(end, |poller| there.connect_wait(poller));
            }
            Err(e) => break e,
        }
    };
    assert_eq!(
        error.to_string(),
        ferrovs_stream::protocol_error().to_string()
    );
    drop(there);
    assert!(client.join().unwrap().is_err());
}

#[test]
fn who_stalls_in_the_handshake_keeps_nobody_waiting() {
    let _turn = turn();
    tls::configure(&me("server", "ca"));
    let mut listener = listen();
    let port = listener.bound_port().unwrap();
    let mut stalled = Vec::new();
    for n in 0..20 {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket
            .write_all(&[0x16, 3, 1, 2, 0, 1, 0][..n % 8])
            .unwrap();
        let mut there = accept(&mut listener);
        let start = clock::now();
        let error = there.connect().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(start.elapsed() < Duration::from_millis(500));
        stalled.push((socket, there));
    }
    let mut here = Stream::open(&target(&listener)).unwrap();
    let mut there = accept(&mut listener);
    shake(&mut here, &mut there).0.unwrap();
    assert_eq!(greeting(&mut here, &mut there).unwrap(), b"hi");
}

#[test]
fn the_authority_of_the_first_peer_is_kept_and_then_demanded() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let kept = dir.path().join("kept.pem");
    let mut learner = me("client", "ca");
    learner.ca_cert = None;
    learner.bootstrap_ca_cert = Some(kept.clone());
    // The peer sends its authority along without being told to.
    assert!(!try_pair(&learner, &me("server", "ca")));
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    assert_eq!(read(&kept), read(&file("ca.pem")));
    assert!(try_pair(&learner, &me("server", "ca")));
    let mut impostor = me("wrong", "other");
    impostor.ca_cert = Some("none".into());
    assert!(!try_pair(&learner, &impostor));
    // A server has nobody to learn from, and lets nobody in.
    let mut server = me("server", "ca");
    server.ca_cert = None;
    server.bootstrap_ca_cert = Some(dir.path().join("other.pem"));
    assert!(!try_pair(&me("client", "ca"), &server));
}

#[test]
fn files_that_change_count_from_the_next_connection_on() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let options = Ssl {
        private_key: Some(dir.path().join("key")),
        certificate: Some(dir.path().join("certificate")),
        ca_cert: Some(dir.path().join("ca")),
        ..Ssl::default()
    };
    let put = |from: &str, to: &str| {
        std::fs::remove_file(dir.path().join(to)).ok();
        std::fs::copy(file(from), dir.path().join(to)).unwrap();
    };
    put("server-key.pem", "key");
    put("server.pem", "certificate");
    put("ca.pem", "ca");
    tls::configure(&options);
    let mut listener = listen();
    let mut name = || {
        let mut here = Stream::open(&target(&listener)).unwrap();
        let mut there = accept(&mut listener);
        let (a, b) = shake(&mut here, &mut there);
        a.and(b).map(|()| here.peer_name().unwrap()).ok()
    };
    assert_eq!(name().as_deref(), Some("server-name"));
    // While only half of a pair is new, the old pair serves.
    put("client.pem", "certificate");
    assert_eq!(name().as_deref(), Some("server-name"));
    put("client-key.pem", "key");
    assert_eq!(name().as_deref(), Some("client-name"));
    put("other.pem", "ca");
    assert_eq!(name(), None);
    put("ca.pem", "ca");
    assert_eq!(name().as_deref(), Some("client-name"));
}

/// A generator that is the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }
}

#[test]
fn garbage_ends_its_own_connection_and_nothing_else() {
    let _turn = turn();
    tls::configure(&me("server", "ca"));
    let mut listener = listen();
    let port = listener.bound_port().unwrap();
    // What a client of ours begins with, to be damaged.
    let plain = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = plain.local_addr().unwrap().port();
    let mut client = Stream::open(&format!("ssl:127.0.0.1:{at}")).unwrap();
    let (mut seen, _) = plain.accept().unwrap();
    client.connect().unwrap_err();
    let mut hello = vec![0; 4096];
    let n = seen.read(&mut hello).unwrap();
    hello.truncate(n);
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for round in 0..300 {
        let mut bytes = hello.clone();
        if round % 5 == 0 {
            bytes = (0..dice.roll(600)).map(|_| dice.roll(256) as u8).collect();
        } else {
            for _ in 0..=dice.roll(4) {
                let place = dice.roll(bytes.len());
                bytes[place] = dice.roll(256) as u8;
            }
            bytes.truncate(1 + dice.roll(bytes.len()));
        }
        let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut there = accept(&mut listener);
        socket.write_all(&bytes).ok();
        there.connect().ok();
        there.recv(&mut [0; 64]).ok();
        // The other way: a client of ours among garbage.
        if round % 3 == 0 {
            let mut here = Stream::open(&format!("ssl:127.0.0.1:{at}")).unwrap();
            let (mut liar, _) = plain.accept().unwrap();
            here.connect().unwrap_err();
            liar.write_all(&bytes).ok();
            drop(liar);
            here.connect().ok();
            here.recv(&mut [0; 64]).ok();
        }
    }
    let mut here = Stream::open(&target(&listener)).unwrap();
    let mut there = accept(&mut listener);
    shake(&mut here, &mut there).0.unwrap();
    assert_eq!(greeting(&mut here, &mut there).unwrap(), b"hi");
}
