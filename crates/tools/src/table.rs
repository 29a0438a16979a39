//! Output tables: what `list`, `find`, `dump` and `monitor` print, in five formats.
//!
//! A table is a caption, headings and rows of cells; a cell is plain text or a datum with its type.
//! The [`Style`] comes from the command line (`--format`, `--data`, `--no-headings`, `--pretty`,
//! `--bare`, `--max-column-width`) and decides everything about the text.

use ferrovs_ovsdb::{ColumnType, Datum};
use ferrovs_runtime::fatal;
use ferrovs_runtime::options::{Arg, Found, Opt};
use ferrovs_stream::json::{Map, Value, to_string, to_string_pretty};

/// How a table is laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    Table,
    List,
    Html,
    Csv,
    Json,
}

/// How a datum is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CellFormat {
    String,
    Bare,
    Json,
}

/// How tables are printed.
#[derive(Clone, Debug)]
pub struct Style {
    pub format: Format,
    pub cell: Option<CellFormat>,
    pub headings: bool,
    pub pretty: bool,
    pub max_column_width: usize,
}

/// The options that make a style.
pub const OPTIONS: &[Opt] = &[
    Opt::both("format", 'f', Arg::Required),
    Opt::both("data", 'd', Arg::Required),
    Opt::long("no-headings", Arg::None),
    Opt::long("pretty", Arg::None),
    Opt::long("bare", Arg::None),
    Opt::long("max-column-width", Arg::Required),
];

/// The lines about them in `--help` texts.
pub const USAGE: &str = "\nOutput formatting options:
  -f, --format=FORMAT         set output formatting to FORMAT
                              (\"table\", \"html\", \"csv\", or \"json\")
  -d, --data=FORMAT           set table cell output formatting to
                              FORMAT (\"string\", \"bare\", or \"json\")
  --no-headings               omit table heading row
  --pretty                    pretty-print JSON in output
  --bare                      equivalent to \"--format=list --data=bare --no-headings\"\n";

impl Style {
    pub fn new(format: Format) -> Style {
        Style {
            format,
            cell: None,
            headings: true,
            pretty: false,
            max_column_width: 0,
        }
    }

    /// Takes an option of [`OPTIONS`]; false if it is none of them.
    pub fn handle(&mut self, found: &Found) -> bool {
        let value = found.required();
        match found.opt.long {
            "format" => {
                self.format = match value {
                    "table" => Format::Table,
                    "list" => Format::List,
                    "html" => Format::Html,
                    "csv" => Format::Csv,
                    "json" => Format::Json,
                    _ => fatal(format_args!("unknown output format \"{value}\"")),
                };
            }
            "data" => {
                self.cell = Some(match value {
                    "string" => CellFormat::String,
                    "bare" => CellFormat::Bare,
                    "json" => CellFormat::Json,
                    _ => fatal(format_args!("unknown data format \"{value}\"")),
                });
            }
            "no-headings" => self.headings = false,
            "pretty" => self.pretty = true,
            "bare" => {
                self.format = Format::List;
                self.cell = Some(CellFormat::Bare);
                self.headings = false;
            }
            "max-column-width" => self.max_column_width = value.trim().parse().unwrap_or(0),
            _ => return false,
        }
        true
    }

    fn cell_format(&self) -> CellFormat {
        self.cell.unwrap_or(match self.format {
            Format::Json => CellFormat::Json,
            _ => CellFormat::String,
        })
    }
}

/// One cell.
#[derive(Clone, Debug)]
pub enum Cell {
    /// Nothing is known.
    Empty,
    Text(String),
    Json(Value),
    Datum(Datum, ColumnType),
}

impl Cell {
    fn text(&self, style: &Style) -> String {
        match self {
            Cell::Empty => String::new(),
            Cell::Text(text) => text.clone(),
            Cell::Json(json) => to_string(json),
            Cell::Datum(datum, ty) => match style.cell_format() {
                CellFormat::String => datum.to_text(ty),
                CellFormat::Bare => datum.to_bare(),
                CellFormat::Json => to_string(&datum.to_json(ty)),
            },
        }
    }

    fn json(&self) -> Value {
        match self {
            Cell::Empty => Value::Null,
            Cell::Text(text) => text.as_str().into(),
            Cell::Json(json) => json.clone(),
            Cell::Datum(datum, ty) => datum.to_json(ty),
        }
    }
}

/// A table.
#[derive(Clone, Debug, Default)]
pub struct Table {
    pub caption: Option<String>,
    /// Printed beside the caption, or as a member of the JSON form.
    pub timestamp: Option<String>,
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    pub fn new(columns: Vec<String>) -> Table {
        Table {
            columns,
            ..Table::default()
        }
    }

    /// The text of the table. `first` is about the whole output: later tables are set apart.
    pub fn format(&self, style: &Style, first: &mut bool) -> String {
        let set_apart = !std::mem::replace(first, false);
        let mut out = String::new();
        if set_apart && matches!(style.format, Format::Table | Format::List | Format::Csv) {
            out.push('\n');
        }
        match style.format {
            Format::Table => self.as_table(style, &mut out),
            Format::List => self.as_list(style, &mut out),
            Format::Html => self.as_html(style, &mut out),
            Format::Csv => self.as_csv(style, &mut out),
            Format::Json => self.as_json(style, &mut out),
        }
        out
    }

    fn push_title(&self, out: &mut String) {
        for line in self.timestamp.iter().chain(&self.caption) {
            out.push_str(line);
            out.push('\n');
        }
    }

    fn as_table(&self, style: &Style, out: &mut String) {
        self.push_title(out);
        let mut lines: Vec<Vec<String>> = Vec::new();
        if style.headings {
            lines.push(self.columns.clone());
        }
        lines.extend(
            self.rows
                .iter()
                .map(|row| row.iter().map(|c| c.text(style)).collect()),
        );
        let width = |text: &str| text.chars().count();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|i| {
                let content = lines.iter().skip(usize::from(style.headings));
                let widest = content.map(|line| width(&line[i])).max().unwrap_or(0);
                let widest = match style.max_column_width {
                    0 => widest,
                    limit => widest.min(limit),
                };
                let heading = if style.headings {
                    width(&self.columns[i])
                } else {
                    0
                };
                widest.max(heading)
            })
            .collect();
        let mut push_line = |cells: &[String]| {
            // Blanks go before what follows them, so no line ends in blanks.
            let mut blanks = 0;
            for (cell, &wide) in cells.iter().zip(&widths) {
                let cut: String = match style.max_column_width {
                    0 => cell.clone(),
                    _ => cell.chars().take(wide).collect(),
                };
                if !cut.is_empty() {
                    out.extend(std::iter::repeat_n(' ', blanks));
                    out.push_str(&cut);
                    blanks = 0;
                }
                blanks += wide + 1 - width(&cut);
            }
            out.push('\n');
        };
        for (i, line) in lines.iter().enumerate() {
            push_line(line);
            if style.headings && i == 0 {
                let rule: Vec<String> = widths.iter().map(|&w| "-".repeat(w)).collect();
                push_line(&rule);
            }
        }
    }

    fn as_list(&self, style: &Style, out: &mut String) {
        self.push_title(out);
        for (i, row) in self.rows.iter().enumerate() {
            if i > 0 {
                out.push('\n');
            }
            for (name, cell) in self.columns.iter().zip(row) {
                if style.headings {
                    out.push_str(&format!("{name:<20}: "));
                }
                out.push_str(&cell.text(style));
                out.push('\n');
            }
        }
    }

    fn as_csv(&self, style: &Style, out: &mut String) {
        self.push_title(out);
        let mut push_line = |cells: Vec<String>| {
            let quoted: Vec<String> = cells.iter().map(|c| csv_quote(c)).collect();
            out.push_str(&quoted.join(","));
            out.push('\n');
        };
        if style.headings {
            push_line(self.columns.clone());
        }
        for row in &self.rows {
            push_line(row.iter().map(|c| c.text(style)).collect());
        }
    }

    fn as_html(&self, style: &Style, out: &mut String) {
        out.push_str("<table border=1>\n");
        if let Some(caption) = &self.caption {
            out.push_str(&format!(
                "    <caption>{}</caption>\n",
                html_escape(caption)
            ));
        }
        if style.headings {
            out.push_str("  <tr>\n");
            for name in &self.columns {
                out.push_str(&format!("    <th>{}</th>\n", html_escape(name)));
            }
            out.push_str("  </tr>\n");
        }
        for row in &self.rows {
            out.push_str("  <tr>\n");
            for (name, cell) in self.columns.iter().zip(row) {
                let link = if name == "_uuid" {
                    "name=\""
                } else {
                    "href=\"#"
                };
                let text = html_links(&cell.text(style), link);
                out.push_str(&format!("    <td>{text}</td>\n"));
            }
            out.push_str("  </tr>\n");
        }
        out.push_str("</table>\n");
    }

    fn as_json(&self, style: &Style, out: &mut String) {
        let mut object = Map::new();
        if let Some(caption) = &self.caption {
            object.insert("caption".into(), caption.as_str().into());
        }
        if let Some(at) = &self.timestamp {
            object.insert("time".into(), at.as_str().into());
        }
        object.insert("headings".into(), self.columns.clone().into());
        let rows = self
            .rows
            .iter()
            .map(|row| row.iter().map(Cell::json).collect());
        object.insert("data".into(), rows.collect::<Vec<Value>>().into());
        let object = Value::Object(object);
        let text = if style.pretty {
            to_string_pretty(&object)
        } else {
            to_string(&object)
        };
        out.push_str(&text);
        out.push('\n');
    }
}

fn csv_quote(text: &str) -> String {
    if text.contains(['\n', '\r', '"', ',']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_string()
    }
}

fn html_escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

/// Escapes text and makes a short link of each UUID in it.
fn html_links(text: &str, link: &str) -> String {
    let mut out = String::new();
    let mut plain = 0;
    let mut at = 0;
    while at + 36 <= text.len() {
        match text.get(at..at + 36) {
            Some(uuid) if ferrovs_ovsdb::uuid::parse(uuid).is_some() => {
                out.push_str(&html_escape(&text[plain..at]));
                out.push_str(&format!("<a {link}{uuid}\">{}</a>", &uuid[..8]));
                at += 36;
                plain = at;
            }
            _ => at += 1,
        }
    }
    out + &html_escape(&text[plain..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(vec!["name".into(), "x".into()]);
        table
            .rows
            .push(vec![Cell::Text("a,b".into()), Cell::Text("1".into())]);
        table
            .rows
            .push(vec![Cell::Text("c".into()), Cell::Text(String::new())]);
        table
    }

    #[test]
    fn each_format_looks_as_open_vswitch_prints_it() {
        let text = |format| sample().format(&Style::new(format), &mut true);
        assert_eq!(text(Format::Table), "name x\n---- -\na,b  1\nc\n");
        assert_eq!(
            text(Format::List),
            "name                : a,b\nx                   : 1\n\nname                : c\nx                   : \n"
        );
        assert_eq!(text(Format::Csv), "name,x\n\"a,b\",1\nc,\n");
        assert_eq!(
            text(Format::Json),
            "{\"data\":[[\"a,b\",\"1\"],[\"c\",\"\"]],\"headings\":[\"name\",\"x\"]}\n"
        );
    }

    #[test]
    fn tables_after_the_first_are_set_apart() {
        let mut first = true;
        let style = Style::new(Format::Csv);
        assert!(!sample().format(&style, &mut first).starts_with('\n'));
        assert!(sample().format(&style, &mut first).starts_with('\n'));
    }
}
