//! What a polling thread says of its work: `ovs-appctl dpif-netdev/pmd-stats-show` and `pmd-perf-show`.

/// The sums over all polling threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub received: u64,
    pub simple: u64,
    pub exact: u64,
    pub signature: u64,
    pub megaflow: u64,
    pub missed: u64,
    /// Cycles of the processor in rounds that found packets.
    pub busy: u64,
}

impl Counts {
    /// Reads the text; what the main thread did is left out.
    pub fn parse(text: &str) -> Counts {
        let mut sum = Counts::default();
        let mut is_polling = false;
        for line in text.lines() {
            if !line.starts_with(' ') {
                is_polling = line.starts_with("pmd thread");
            }
            let Some((label, value)) = line.trim().split_once(':') else {
                continue;
            };
            if is_polling {
                sum.add(label, value.trim());
            }
        }
        sum
    }

    fn add(&mut self, label: &str, value: &str) {
        let count = match label {
            "packets received" => &mut self.received,
            "simple match hits" => &mut self.simple,
            "emc hits" => &mut self.exact,
            "smc hits" => &mut self.signature,
            "megaflow hits" => &mut self.megaflow,
            "miss with success upcall" | "miss with failed upcall" => &mut self.missed,
            "avg processing cycles per packet" => &mut self.busy,
            _ => return,
        };
        // "123.45 (cycles/packets)", or a number.
        let number = match value.split_once('(') {
            Some((_, fraction)) => fraction.split('/').next().unwrap_or_default(),
            None => value,
        };
        *count += number.trim().parse::<u64>().unwrap_or_default();
    }

    /// Cycles for one packet; none where there was no packet.
    pub fn cycles(&self) -> Option<f64> {
        (self.received > 0).then(|| self.busy as f64 / self.received as f64)
    }
}

/// How many packets of those received were sent, as a share, from what `pmd-perf-show` says.
pub fn sent_share(text: &str) -> f64 {
    let sum = |label: &str| -> u64 {
        let numbers = text.lines().filter_map(|line| {
            let value = line.trim().strip_prefix(label)?;
            value.split_whitespace().next()?.parse::<u64>().ok()
        });
        numbers.sum()
    };
    let (received, sent) = (sum("Rx packets:"), sum("Tx packets:"));
    sent as f64 / received as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_sent_packets_is_of_all_threads() {
        let text = |sent: u64| {
            format!(
                "  Rx packets:                  10000  (9969 Kpps, 120 cycles/pkt)\n  \
                 Datapath passes:             10000  (1.00 passes/pkt)\n  \
                 Tx packets:       {sent:16}  (9 Kpps)\n"
            )
        };
        assert_eq!(sent_share(&text(9_000)), 0.9);
        assert_eq!(sent_share(&[text(9_000), text(10_000)].concat()), 0.95);
        assert_eq!(sent_share(&text(0)), 0.0);
    }

    const TEXT: &str = "\
pmd thread numa_id 0 core_id 1:
  packets received: 1000
  packet recirculations: 0
  avg. datapath passes per packet: 1.00
  phwol hits: 0
  mfex opt hits: 0
  simple match hits: 1
  emc hits: 900
  smc hits: 2
  megaflow hits: 90
  avg. subtable lookups per megaflow hit: 1.00
  miss with success upcall: 6
  miss with failed upcall: 1
  avg. packets per output batch: 32.00
  idle cycles: 500 (2.00%)
  processing cycles: 71500 (98.00%)
  avg cycles per packet: 72.00 (72000/1000)
  avg processing cycles per packet: 71.50 (71500/1000)
main thread:
  packets received: 7
  packet recirculations: 0
  emc hits: 3
";

    #[test]
    fn only_polling_threads_count() {
        let counts = Counts::parse(TEXT);
        let expected = Counts {
            received: 1000,
            simple: 1,
            exact: 900,
            signature: 2,
            megaflow: 90,
            missed: 7,
            busy: 71_500,
        };
        assert_eq!(counts, expected);
        assert_eq!(counts.cycles(), Some(71.5));
    }

    #[test]
    fn threads_are_summed_and_none_cost_nothing() {
        let twice = [TEXT, TEXT].concat();
        assert_eq!(Counts::parse(&twice).received, 2000);
        assert_eq!(Counts::parse(&twice).cycles(), Some(71.5));
        assert_eq!(
            Counts::parse("main thread:\n  packets received: 7\n").cycles(),
            None
        );
    }
}
