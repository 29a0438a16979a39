//! Colors in flows for a terminal, as `--color` asks for them and the environment variable `OVS_COLORS` chooses them.
//!
//! A flow is formatted plain, and its text is painted afterwards: matches and actions are lists of words, and the word
//! in front of a value says which part of the flow it is; of an action its row says how it is painted ([`Paint`]). A
//! program that wants colors sets them once.

use std::sync::OnceLock;

use crate::action::row::Row;

/// The parts that have a color of their own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `actions=`.
    Actions,
    Drop,
    Learn,
    /// The name of a value.
    Param,
    /// The name of an action and its parentheses.
    Paren,
    /// What decides where packets and values go.
    Special,
    /// A word that is a value.
    Value,
}

/// The name of each part in `OVS_COLORS`, and the color that it has by itself.
const PARTS: [(&str, &str); 7] = [
    ("ac", "1;31"),
    ("dr", "34"),
    ("le", "31"),
    ("pm", "36"),
    ("pr", "35"),
    ("sp", "33"),
    ("vl", "32"),
];

/// The color of each part, as the numbers of the terminal's command.
#[derive(Debug)]
pub struct Colors([String; PARTS.len()]);

static COLORS: OnceLock<Colors> = OnceLock::new();

/// Paints all flows that this program formats from now on; the first call counts.
pub fn set_colors(colors: Colors) {
    let _ = COLORS.set(colors);
}

/// The colors that the program has set.
pub(crate) fn colors() -> Option<&'static Colors> {
    COLORS.get()
}

/// What flow statistics say in front of a word.
pub(crate) fn head(part: Part, name: &str, out: &mut String) {
    match colors() {
        Some(colors) => colors.paint(part, name, out),
        None => out.push_str(name),
    }
}

/// Paints what stands behind `start`.
pub(crate) fn repaint(start: usize, out: &mut String, paint: fn(&Colors, &str, &mut String)) {
    if let Some(colors) = colors() {
        let plain = out.split_off(start);
        paint(colors, &plain, out);
    }
}

impl Colors {
    /// Colors from `PART=NUMBERS:PART=NUMBERS...`. What is not of this form is passed over.
    pub fn new(choice: &str) -> Colors {
        let mut colors = PARTS.map(|(_, color)| color.to_owned());
        for word in choice.split(':') {
            let Some((name, color)) = word.split_once('=') else {
                continue;
            };
            let place = PARTS.iter().position(|(part, _)| *part == name);
            let is_color = color.bytes().all(|b| b.is_ascii_digit() || b == b';');
            if let (Some(i), true) = (place, is_color) {
                color.clone_into(&mut colors[i]);
            }
        }
        Colors(colors)
    }

    fn paint(&self, part: Part, text: &str, out: &mut String) {
        let color = &self.0[part as usize];
        for piece in ["\x1b[", color, "m\x1b[K", text, "\x1b[m\x1b[K"] {
            out.push_str(piece);
        }
    }

    /// Paints a match.
    pub(crate) fn match_(&self, text: &str, out: &mut String) {
        each(text, out, |item, out| {
            let name = word(item);
            match item[name.len()..].chars().next() {
                _ if is_plain_field(name) => out.push_str(item),
                None => self.paint(Part::Value, item, out),
                Some('=') if name == "priority" => self.named(Part::Special, name, item, out),
                // Here the sign belongs to the value.
                Some('=') if name == "conj_id" => {
                    self.paint(Part::Param, name, out);
                    out.push_str(&item[name.len()..]);
                }
                Some(_) => self.named(Part::Param, name, item, out),
            }
        });
    }

    /// Paints a list of actions.
    pub(crate) fn actions(&self, text: &str, out: &mut String) {
        each(text, out, |item, out| self.action(item, out));
    }

    fn action(&self, item: &str, out: &mut String) {
        if item.starts_with('\x1b') {
            // Whoever formatted it knew better.
            return out.push_str(item);
        }
        let name = word(item);
        let paint = Row::of_word(name).map_or(Paint::ACTION, |row| row.paint);
        match (item[name.len()..].chars().next(), paint.alone) {
            (Some('('), _) => (paint.call)(self, name, &item[name.len() + 1..], out),
            (Some(_), _) => (paint.named)(self, name, item, out),
            // The empty list.
            (None, _) if name == "drop" => self.paint(Part::Drop, name, out),
            (None, Some(part)) => self.paint(part, name, out),
            // A port.
            (None, None) => out.push_str(name),
        }
    }

    /// An action with a value behind it, and in that the field that it goes to.
    pub(crate) fn field_target(&self, name: &str, item: &str, out: &mut String) {
        let (front, target) = item.rsplit_once("->").unwrap_or((item, ""));
        self.named(Part::Special, name, front, out);
        self.paint(Part::Special, "->", out);
        out.push_str(target);
    }

    /// One that says where the packet goes.
    pub(crate) fn to(&self, name: &str, item: &str, out: &mut String) {
        self.named(Part::Special, name, item, out);
    }

    fn param(&self, name: &str, item: &str, out: &mut String) {
        self.named(Part::Param, name, item, out);
    }

    /// Parentheses around what `inside` paints.
    fn parentheses(&self, name: &str, rest: &str, out: &mut String, inside: Inside) {
        self.paint(Part::Paren, &format!("{name}("), out);
        inside(self, inner(rest), out);
        self.paint(Part::Paren, ")", out);
    }

    /// An action with its arguments, which have no colors: `rest` is what stands behind the parenthesis that opens them.
    fn plain(&self, name: &str, rest: &str, out: &mut String) {
        self.parentheses(name, rest, out, |_, inner, out| out.push_str(inner));
    }

    /// With arguments that have names.
    pub(crate) fn arguments(&self, name: &str, rest: &str, out: &mut String) {
        self.parentheses(name, rest, out, |colors, inner, out| {
            each(inner, out, |item, out| colors.argument(item, out));
        });
    }

    /// With a list of actions in it.
    pub(crate) fn list(&self, name: &str, rest: &str, out: &mut String) {
        self.parentheses(name, rest, out, Colors::actions);
    }

    pub(crate) fn output(&self, name: &str, rest: &str, out: &mut String) {
        self.paint(Part::Special, name, out);
        out.push('(');
        out.push_str(rest);
    }

    pub(crate) fn check_pkt_larger(&self, name: &str, rest: &str, out: &mut String) {
        self.paint(Part::Param, &format!("{name}("), out);
        out.push_str(rest);
    }

    pub(crate) fn dec_ttl(&self, name: &str, rest: &str, out: &mut String) {
        self.paint(Part::Paren, name, out);
        self.plain("", rest, out);
    }

    pub(crate) fn nat(&self, name: &str, rest: &str, out: &mut String) {
        self.paint(Part::Paren, name, out);
        self.parentheses("", rest, out, |colors, inner, out| {
            each(inner, out, |item, out| colors.nat_item(item, out));
        });
    }

    pub(crate) fn ct(&self, name: &str, rest: &str, out: &mut String) {
        self.parentheses(name, rest, out, |colors, inner, out| {
            each(inner, out, |item, out| colors.ct_item(item, out));
        });
    }

    pub(crate) fn encap(&self, name: &str, rest: &str, out: &mut String) {
        self.parentheses(name, rest, out, Colors::header);
    }

    pub(crate) fn learn(&self, name: &str, rest: &str, out: &mut String) {
        self.paint(Part::Learn, &format!("{name}("), out);
        self.learn_items(inner(rest), out);
        self.paint(Part::Learn, ")", out);
    }

    fn learn_items(&self, inner: &str, out: &mut String) {
        for (i, item) in items(inner).enumerate() {
            let name = word(item);
            // Two words take their comma along.
            let (comma, part) = match name {
                "fin_hard_timeout" => (",", Part::Param),
                "priority" => (",", Part::Special),
                "table" => ("", Part::Special),
                "send_flow_rem" | "delete_learned" => ("", Part::Value),
                _ => ("", Part::Param),
            };
            if i > 0 && comma.is_empty() {
                out.push(',');
            }
            let value = &item[name.len()..];
            match value.strip_prefix('=') {
                _ if value.starts_with(':') => self.action(item, out),
                // From one field of the packet into another.
                Some(source) if name.ends_with(']') && source.ends_with(']') => {
                    self.paint(Part::Param, name, out);
                    self.paint(Part::Param, "=", out);
                    out.push_str(source);
                }
                Some(value) => {
                    self.paint(part, &format!("{comma}{name}="), out);
                    out.push_str(value);
                }
                None => self.paint(part, item, out),
            }
        }
    }

    fn ct_item(&self, item: &str, out: &mut String) {
        match word(item) {
            name @ ("commit" | "force") => self.paint(Part::Value, name, out),
            "table" => self.named(Part::Special, "table", item, out),
            _ if item.ends_with(",)") => out.push_str(item),
            name @ "exec" => {
                self.paint(Part::Paren, &format!("{name}("), out);
                self.actions(inner(&item[(name.len() + 1).min(item.len())..]), out);
                // The comma behind what may follow is of the same color, and so stays also at the end.
                self.paint(Part::Paren, "),", out);
            }
            _ => self.action(item, out),
        }
    }

    fn nat_item(&self, item: &str, out: &mut String) {
        match item.split_once('=') {
            Some((name, range)) => {
                self.paint(Part::Param, name, out);
                self.paint(Part::Param, "=", out);
                out.push_str(range);
            }
            None if item == "src" || item == "dst" => self.paint(Part::Param, item, out),
            None => self.paint(Part::Value, item, out),
        }
    }

    /// `HEADER` or `HEADER(PROPERTIES)`.
    fn header(&self, inner: &str, out: &mut String) {
        match inner.split_once('(') {
            Some((header, properties)) => {
                out.push_str(header);
                self.paint(Part::Paren, "(", out);
                out.push_str(properties.strip_suffix(')').unwrap_or(properties));
                self.paint(Part::Paren, ")", out);
            }
            None => out.push_str(inner),
        }
    }

    fn argument(&self, item: &str, out: &mut String) {
        let name = word(item);
        match item {
            "pause" => self.paint(Part::Value, item, out),
            "ingress" | "egress" => self.paint(Part::Param, item, out),
            _ if name.len() < item.len() => self.named(Part::Param, name, item, out),
            _ => out.push_str(item),
        }
    }

    /// A name with the sign behind it, and then the value as it is.
    fn named(&self, part: Part, name: &str, item: &str, out: &mut String) {
        let end = (name.len() + 1).min(item.len());
        self.paint(part, &item[..end], out);
        out.push_str(&item[end..]);
    }
}

/// How an action is painted.
#[derive(Clone, Copy)]
pub(crate) struct Paint {
    /// What its word is where nothing follows it.
    pub alone: Option<Part>,
    /// Paints the word, the sign behind it and a value.
    pub named: Piece,
    /// Paints the word and its arguments: what stands behind the parenthesis that opens them.
    pub call: Piece,
}

/// Paints an action, of which it gets the word and the rest.
type Piece = fn(&Colors, &str, &str, &mut String);
/// Paints what stands in parentheses.
type Inside = fn(&Colors, &str, &mut String);

impl Paint {
    /// As most actions are painted.
    pub const ACTION: Paint = Paint {
        alone: None,
        named: Colors::param,
        call: Colors::plain,
    };

    /// One whose word stands alone.
    pub const fn alone(part: Part) -> Paint {
        Paint {
            alone: Some(part),
            ..Paint::ACTION
        }
    }

    pub const fn named(named: Piece) -> Paint {
        Paint {
            named,
            ..Paint::ACTION
        }
    }

    pub const fn call(call: Piece) -> Paint {
        Paint {
            call,
            ..Paint::ACTION
        }
    }
}

/// What stands in front of the parenthesis that closes.
fn inner(rest: &str) -> &str {
    rest.strip_suffix(')').unwrap_or(rest)
}

/// Fields that have no color.
fn is_plain_field(name: &str) -> bool {
    let plain = [
        "packet_type",
        "tun_gbp_flags",
        "tun_metadata",
        "tun_erspan_",
        "gtpu_",
        "tun_gtpu_",
    ];
    plain.iter().any(|start| name.starts_with(start))
}

/// The word at the front.
fn word(item: &str) -> &str {
    let end = item.find(['=', ':', '(']);
    &item[..end.unwrap_or(item.len())]
}

/// Paints the items of a list, and leaves its commas as they are.
fn each(text: &str, out: &mut String, mut paint: impl FnMut(&str, &mut String)) {
    for (i, item) in items(text).enumerate() {
        if i > 0 {
            out.push(',');
        }
        paint(item, out);
    }
}

/// The items of a list: commas in parentheses and in the names of ports divide nothing.
fn items(text: &str) -> impl Iterator<Item = &str> {
    let (mut depth, mut quoted) = (0usize, false);
    let mut rest = (!text.is_empty()).then_some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = text.find(|c| {
            match c {
                '"' => quoted = !quoted,
                '(' if !quoted => depth += 1,
                ')' if !quoted => depth = depth.saturating_sub(1),
                _ => {}
            }
            c == ',' && depth == 0 && !quoted
        });
        rest = end.map(|end| &text[end + 1..]);
        Some(&text[..end.unwrap_or(text.len())])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The painted text with `{name of the part text}` in the place of the terminal's commands.
    fn shown(painted: &str) -> String {
        let mut out = painted.replace("\x1b[m\x1b[K", "}");
        for (name, color) in PARTS {
            out = out.replace(&format!("\x1b[{color}m\x1b[K"), &format!("{{{name} "));
        }
        out
    }

    #[test]
    fn matches_have_the_colors_of_open_vswitch() {
        let painted = |text: &str| {
            let mut out = String::new();
            Colors::new("").match_(text, &mut out);
            shown(&out)
        };
        assert_eq!(
            painted("priority=5,ct_state=-new+trk,tcp,reg0=0x5,in_port=\"a,b\",nw_src=1.2.3.0/24"),
            "{sp priority=}5,{pm ct_state=}-new+trk,{vl tcp},{pm reg0=}0x5,{pm in_port=}\"a,b\",\
             {pm nw_src=}1.2.3.0/24"
        );
        assert_eq!(
            painted("conj_id=5,packet_type=(1,0x800),tun_gbp_flags=0x1,tun_metadata0=0x5"),
            "{pm conj_id}=5,packet_type=(1,0x800),tun_gbp_flags=0x1,tun_metadata0=0x5"
        );
        assert_eq!(painted(""), "");
    }

    #[test]
    fn actions_have_the_colors_of_open_vswitch() {
        for (plain, want) in [
            ("drop", "{dr drop}"),
            ("NORMAL,IN_PORT,LOCAL", "NORMAL,IN_PORT,LOCAL"),
            (
                "output:1,resubmit:2,group:5,exit",
                "{sp output:}1,{sp resubmit:}2,{sp group:}5,{sp exit}",
            ),
            (
                "output(port=1,max_len=100)",
                "{sp output}(port=1,max_len=100)",
            ),
            ("resubmit(,2)", "{pr resubmit(},2{pr )}"),
            (
                "dec_ttl,dec_ttl(1,2)",
                "{pr dec_ttl},{pr dec_ttl}{pr (}1,2{pr )}",
            ),
            (
                "strip_vlan,pop_mpls:0x0800",
                "{vl strip_vlan},{pm pop_mpls:}0x0800",
            ),
            ("set_field:0x5->reg0", "{sp set_field:}0x5{sp ->}reg0"),
            (
                "move:NXM_NX_REG0[]->NXM_NX_REG1[]",
                "{sp move:}NXM_NX_REG0[]{sp ->}NXM_NX_REG1[]",
            ),
            (
                "check_pkt_larger(100)->NXM_NX_REG0[0]",
                "{pm check_pkt_larger(}100)->NXM_NX_REG0[0]",
            ),
            (
                "write_actions(output:1,drop)",
                "{pr write_actions(}{sp output:}1,{dr drop}{pr )}",
            ),
            (
                "encap(nsh(md_type=1))",
                "{pr encap(}nsh{pr (}md_type=1{pr )}{pr )}",
            ),
            (
                "decap(packet_type(ns=0,type=0))",
                "{pr decap(}packet_type(ns=0,type=0){pr )}",
            ),
            (
                "bundle(eth_src,0,hrw,ofport,members:1,2)",
                "{pr bundle(}eth_src,0,hrw,ofport,{pm members:}1,2{pr )}",
            ),
            (
                "controller(reason=no_match,max_len=5,pause)",
                "{pr controller(}{pm reason=}no_match,{pm max_len=}5,{vl pause}{pr )}",
            ),
            (
                "sample(probability=5,sampling_port=1,ingress)",
                "{pr sample(}{pm probability=}5,{pm sampling_port=}1,{pm ingress}{pr )}",
            ),
            (
                "ct(commit,force,table=2,zone=1,nat(src=1.2.3.4-1.2.3.5,random))",
                "{pr ct(}{vl commit},{vl force},{sp table=}2,{pm zone=}1,{pr nat}{pr (}{pm src}{pm =}1.2.3.4-1.2.3.5,\
                 {vl random}{pr )}{pr )}",
            ),
            (
                "ct(commit,exec(set_field:0x1->ct_mark))",
                "{pr ct(}{vl commit},{pr exec(}{sp set_field:}0x1{sp ->}ct_mark{pr ),}{pr )}",
            ),
            (
                "learn(table=5,idle_timeout=1,fin_hard_timeout=4,priority=5,send_flow_rem,NXM_OF_VLAN_TCI[0..11],\
                 NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],reg0[0..3]=0x3,load:0x5->NXM_NX_REG0[],output:NXM_NX_REG0[])",
                "{le learn(}{sp table=}5,{pm idle_timeout=}1{pm ,fin_hard_timeout=}4{sp ,priority=}5,\
                 {vl send_flow_rem},{pm NXM_OF_VLAN_TCI[0..11]},{pm NXM_OF_ETH_DST[]}{pm =}NXM_OF_ETH_SRC[],\
                 {pm reg0[0..3]=}0x3,{sp load:}0x5{sp ->}NXM_NX_REG0[],{sp output:}NXM_NX_REG0[]{le )}",
            ),
        ] {
            let mut out = String::new();
            Colors::new("").actions(plain, &mut out);
            assert_eq!(shown(&out), want, "{plain}");
        }
    }

    #[test]
    fn colors_are_chosen_part_by_part() {
        let painted = |choice: &str| {
            let mut out = String::new();
            Colors::new(choice).actions("drop", &mut out);
            out.replace("\x1b[K", "")
        };
        assert_eq!(painted("dr=31"), "\x1b[31mdrop\x1b[m");
        assert_eq!(painted("x:dr=31;1:dr=01;36:yy=3"), "\x1b[01;36mdrop\x1b[m");
        assert_eq!(painted("dr="), "\x1b[mdrop\x1b[m");
        assert_eq!(painted("dr=ab:drop=3:dr"), "\x1b[34mdrop\x1b[m");
    }
}
