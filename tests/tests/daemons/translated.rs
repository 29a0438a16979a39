//! Real clients and servers on both sides of an address translation: HTTP, and FTP both ways with addresses in its lines.

use ferrovs_testkit::switch::Cast;
use ferrovs_testkit::{Host, Programs, Switch};

/// The client as it knows itself, and as the server knows it; the server likewise. The known addresses are longer as
/// text, so that lines of FTP that name them grow.
const CLIENT: [&str; 2] = ["10.1.0.1", "10.100.100.100"];
const SERVER: [&str; 2] = ["10.2.0.1", "10.200.200.200"];

/// Serves HTTP and FTP: bytes that both sides know, and who asks. It ends when asked for /end, or after a minute.
const SERVE: &str = r#"
import http.server, os, re, socket, threading
data = bytes(range(256)) * 1200
class Web(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == '/end': os._exit(0)
        self.send_response(200)
        self.send_header('Peer', self.client_address[0])
        self.end_headers()
        self.wfile.write(data)
    def log_message(self, *a): pass
def ftp(c):
    peer, f = c.getpeername()[0], c.makefile('rb')
    say = lambda text: c.sendall((text + '\r\n').encode())
    say('220 ' + peer)
    goal = waits = None
    for line in f:
        word, _, rest = line.decode().strip().partition(' ')
        word = word.upper()
        if word == 'PORT':
            n = rest.split(',')
            goal = ('.'.join(n[:4]), int(n[4]) * 256 + int(n[5]))
            # What was announced must be whom we see.
            say('200 ok' if goal[0] == peer else '500 not you')
        elif word == 'PASV':
            waits = socket.socket(); waits.bind((c.getsockname()[0], 0)); waits.listen(1)
            p = waits.getsockname()[1]
            say('227 Entering Passive Mode (%s,%d,%d).' % (c.getsockname()[0].replace('.', ','), p >> 8, p & 255))
        elif word in ('RETR', 'STOR'):
            say('150 here')
            if waits: d, _ = waits.accept(); waits.close()
            else:
                d = socket.socket(); d.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                d.bind(('', 20)); d.connect(goal)
            goal = waits = None
            if word == 'RETR': d.sendall(data); d.close(); say('226 done')
            else:
                got = b''.join(iter(lambda: d.recv(65536), b'')); d.close()
                say('226 done' if got == data else '550 damaged')
        elif word == 'QUIT': say('221 bye'); return c.close()
        else: say('200 ok')
def serve():
    l = socket.socket(); l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); l.bind(('', 21)); l.listen(9)
    while True: threading.Thread(target=ftp, args=(l.accept()[0],), daemon=True).start()
threading.Thread(target=serve, daemon=True).start()
http.server.ThreadingHTTPServer(('', 80), Web).serve_forever()
"#;

/// Asks the server by the name of the first argument; it must see the second.
const ASK: &str = r#"
import ftplib, io, sys, urllib.request
name, me = sys.argv[1:]
data = bytes(range(256)) * 1200
for _ in range(3):
    r = urllib.request.urlopen('http://%s/' % name, timeout=10)
    assert r.headers['Peer'] == me, r.headers['Peer']
    assert r.read() == data
f = ftplib.FTP(name, timeout=10)
assert f.welcome == '220 ' + me, f.welcome
f.trust_server_pasv_ipv4_address = True
f.login()
for passive in (True, False, False, True):
    f.set_pasv(passive)
    got = []
    f.retrbinary('RETR x', got.append)
    assert b''.join(got) == data, passive
    f.storbinary('STOR x', io.BytesIO(data))
f.quit()
print('ok')
"#;

/// Two hosts on a switch that translates with `nat`, and how the client names the server.
#[track_caller]
fn ask(nat: &str, name: &str, seen: &str) {
    let sw = Switch::start(Cast::all(Programs::ours()), &[]);
    let client = Host::new(&sw.netns, "p1", &format!("{}/32", CLIENT[0]));
    let server = Host::new(&sw.netns, "p2", &format!("{}/32", SERVER[0]));
    let mac = |h: &Host| {
        h.netns
            .sh("cat /sys/class/net/eth0/address")
            .trim()
            .to_string()
    };
    // Neither asks for the other's address: whatever it is, it is there.
    for (host, other) in [(&client, &server), (&server, &client)] {
        host.netns.sh(&format!(
            "ip route add 10.0.0.0/8 dev eth0; for a in {} {} {} {}; do ip neigh replace $a lladdr {} dev eth0; done",
            CLIENT[0],
            CLIENT[1],
            SERVER[0],
            SERVER[1],
            mac(other)
        ));
    }
    sw.vsctl(
        "add-br br0 -- set Bridge br0 fail_mode=secure \
         -- add-port br0 p1 -- set Interface p1 ofport_request=1 \
         -- add-port br0 p2 -- set Interface p2 ofport_request=2",
    );
    for flow in [
        "table=0,ip,ct_state=-trk,actions=ct(table=1,zone=1,nat)".to_string(),
        format!(
            "table=1,priority=20,in_port=1,tcp,tp_dst=21,ct_state=+new,actions=ct(commit,zone=1,nat({nat}),alg=ftp),2"
        ),
        format!(
            "table=1,priority=10,in_port=1,tcp,tp_dst=80,ct_state=+new,actions=ct(commit,zone=1,nat({nat})),2"
        ),
        "table=1,priority=30,in_port=1,tcp,ct_state=+new+rel,actions=ct(commit,zone=1,nat),2"
            .into(),
        "table=1,priority=30,in_port=2,tcp,ct_state=+new+rel,actions=ct(commit,zone=1,nat),1"
            .into(),
        "table=1,priority=40,in_port=1,tcp,ct_state=+est,actions=2".into(),
        "table=1,priority=40,in_port=2,tcp,ct_state=+est,actions=1".into(),
    ] {
        sw.ofctl(&format!("add-flow br0 {flow}"));
    }
    std::fs::write(sw.file("serve.py"), SERVE).unwrap();
    std::fs::write(sw.file("ask.py"), ASK).unwrap();
    server.netns.sh(&format!(
        "timeout 60 python3 {} >{} 2>&1 &
         for p in 0050 0015; do for i in $(seq 100); do grep -q \":$p .* 0A\" /proc/net/tcp && break; sleep 0.1; done; done",
        sw.file("serve.py"),
        sw.file("serve.log")
    ));
    let out = client
        .netns
        .run(&format!("python3 {} {name} {seen}", sw.file("ask.py")));
    let end = "import urllib.request as u; u.urlopen('http://127.0.0.1/end')";
    server.netns.run(&format!("python3 -c \"{end}\""));
    assert_eq!(
        out.stdout,
        "ok\n",
        "{}\n{}\n{}",
        out.stderr,
        sw.appctl("dpctl/dump-conntrack -m"),
        std::fs::read_to_string(sw.file("serve.log")).unwrap_or_default()
    );
}

#[test]
fn clients_are_hidden() {
    ask(&format!("src={}", CLIENT[1]), SERVER[0], CLIENT[1]);
}

#[test]
fn servers_are_hidden() {
    ask(&format!("dst={}", SERVER[0]), SERVER[1], CLIENT[0]);
}
