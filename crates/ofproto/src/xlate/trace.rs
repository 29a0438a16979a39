//! The record of a translation as a tree, for `ofproto/trace`.

/// What a line tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    Bridge,
    Table,
    Action,
    Bucket,
    Thaw,
    /// ` -> text`
    Detail,
    /// ` >> text`
    Warn,
    /// ` >>>> text <<<<`
    Error,
}

impl NodeKind {
    /// Whether nothing stands below such a line.
    fn is_terminal(self) -> bool {
        matches!(
            self,
            NodeKind::Action
                | NodeKind::Detail
                | NodeKind::Warn
                | NodeKind::Error
                | NodeKind::Bucket
        )
    }
}

#[derive(Debug)]
struct Node {
    kind: NodeKind,
    text: String,
    below: Vec<Node>,
}

/// The tree while it grows: `open` and `close` move between its levels.
#[derive(Debug, Default)]
pub struct Trace {
    root: Vec<Node>,
    depth: usize,
    /// Whether ports are told by name.
    names: bool,
}

impl Trace {
    /// With `names`, the lines tell ports by name.
    pub fn new(names: bool) -> Trace {
        Trace {
            names,
            ..Trace::default()
        }
    }

    pub fn has_names(&self) -> bool {
        self.names
    }

    fn level(&mut self) -> &mut Vec<Node> {
        let mut level = &mut self.root;
        for _ in 0..self.depth {
            // `open` has put a node at the end of each level above.
            let last = level.len() - 1;
            level = &mut level[last].below;
        }
        level
    }

    /// Adds a line and makes it the parent of those to come.
    pub fn open(&mut self, kind: NodeKind, text: &str) {
        self.leaf(kind, text);
        self.depth += 1;
    }

    pub fn close(&mut self) {
        self.depth -= 1;
    }

    pub fn leaf(&mut self, kind: NodeKind, text: &str) {
        self.level().push(Node {
            kind,
            text: text.to_string(),
            below: Vec::new(),
        });
    }

    /// The tree as text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        print(&mut out, &self.root, 0);
        out
    }
}

fn print(out: &mut String, nodes: &[Node], level: usize) {
    for (i, node) in nodes.iter().enumerate() {
        if node.kind == NodeKind::Bridge {
            out.push('\n');
        }
        // A table that ends its list does not go deeper: chains of resubmits stay readable.
        let more = usize::from(i + 1 < nodes.len() || node.kind.is_terminal());
        let indent = " ".repeat((level + more) * 4);
        let text = &node.text;
        *out += &match node.kind {
            NodeKind::Detail => format!("{indent} -> {text}\n"),
            NodeKind::Warn => format!("{indent} >> {text}\n"),
            NodeKind::Error => format!("{indent} >>>> {text} <<<<\n"),
            NodeKind::Bridge => format!("{indent}{text}\n{indent}{}\n", "-".repeat(text.len())),
            NodeKind::Table | NodeKind::Action | NodeKind::Bucket | NodeKind::Thaw => {
                format!("{indent}{text}\n")
            }
        };
        print(out, &node.below, level + more + more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_in_the_middle_is_indented_and_one_at_the_end_is_not() {
        let mut trace = Trace::default();
        trace.open(NodeKind::Bridge, "bridge(\"br0\")");
        trace.open(NodeKind::Table, " 0. in_port=1, priority 32768");
        trace.leaf(NodeKind::Action, "resubmit(,1)");
        trace.open(NodeKind::Table, " 1. priority 5");
        trace.leaf(NodeKind::Action, "dec_ttl");
        trace.leaf(NodeKind::Warn, "IPv4 decrement TTL exception");
        trace.close();
        trace.leaf(NodeKind::Action, "resubmit(,2)");
        trace.open(NodeKind::Table, " 2. No match.");
        trace.leaf(NodeKind::Action, "drop");
        let want = "
bridge(\"br0\")
-------------
 0. in_port=1, priority 32768
    resubmit(,1)
     1. priority 5
            dec_ttl
             >> IPv4 decrement TTL exception
    resubmit(,2)
 2. No match.
    drop
";
        assert_eq!(trace.text(), want);
    }
}
