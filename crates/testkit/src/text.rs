//! Makes texts of two runs comparable: what must differ (identifiers, times, paths, versions) gets a fixed name.

/// Replaces what differs between any two runs.
pub fn normalise(text: &str, dir: &str) -> String {
    let text = text.replace(dir, "RUN");
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        out.push_str(&normalise_line(line));
        out.push('\n');
    }
    out
}

fn normalise_line(line: &str) -> String {
    let line = replace_uuids(line.trim_end());
    let line = replace_number_after(&line, "duration=", "T");
    let line = replace_number_after(&line, "used:", "T");
    let line = replace_number_after(&line, "xid=0x", "X");
    without_version(&as_in_3_7(&line))
}

/// What Open vSwitch 4.0 says otherwise than 3.5 and 3.7 do.
fn as_in_3_7(line: &str) -> String {
    line.replacen(" Port  VLAN  MAC", " port  VLAN  MAC", 1)
}

fn replace_uuids(line: &str) -> String {
    let bytes = line.as_bytes();
    let is_uuid = |at: usize| {
        let Some(part) = bytes.get(at..at + 36) else {
            return false;
        };
        part.iter().enumerate().all(|(i, c)| match i {
            8 | 13 | 18 | 23 => *c == b'-',
            _ => c.is_ascii_hexdigit(),
        })
    };
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if is_uuid(at) {
            out.extend_from_slice(b"UUID");
            at += 36;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn replace_number_after(line: &str, label: &str, name: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(label) {
        let (before, after) = rest.split_at(at + label.len());
        out.push_str(before);
        let digits = after
            .find(|c: char| !(c.is_ascii_hexdigit() || c == '.'))
            .unwrap_or(after.len());
        if digits > 0 {
            out.push_str(name);
        }
        rest = &after[digits..];
    }
    out + rest
}

/// Versions that the oracle and ours may have.
const VERSIONS: &[&str] = &["3.5.0", "3.7.0", "4.0.0"];

/// The text with the version of either program made one.
pub fn without_version(text: &str) -> String {
    VERSIONS
        .iter()
        .fold(text.to_owned(), |text, v| text.replace(v, "VERSION"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_differ_gets_a_fixed_name() {
        let text = "at /tmp/x/db: 8b1c5e0e-6f0a-4c39-8a57-2f2b0a3d8f11, duration=1.5s, n_packets=3, used:never\n";
        assert_eq!(
            normalise(text, "/tmp/x"),
            "at RUN/db: UUID, duration=Ts, n_packets=3, used:never\n"
        );
    }
}
