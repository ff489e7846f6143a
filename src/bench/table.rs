//! Tables on standard output: with borders on a terminal, as Markdown everywhere else.

use comfy_table::{CellAlignment, Table, presets};
use std::io::{self, IsTerminal as _, Write as _};

/// Returns a table whose first `names` columns are names. The others are numbers.
pub(super) fn new(names: usize, header: &[&str]) -> Table {
    let mut table = Table::new();
    let terminal = io::stdout().is_terminal();
    table.load_style(if terminal { presets::UTF8_BORDERS_ONLY } else { presets::ASCII_MARKDOWN });
    table.set_header(header);
    for column in table.column_iter_mut().skip(names) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Prints a table below its title.
pub(super) fn print(title: &str, table: &Table) -> io::Result<()> {
    writeln!(io::stdout(), "{title}\n\n{table}\n")
}

/// Prints notes below a table, one a line.
pub(super) fn notes(notes: &[String]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    for note in notes {
        writeln!(out, "{note}")?;
    }
    Ok(())
}

/// Returns a number with `digits` digits after the point, or a dash in place of `None`.
pub(super) fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".into(), |value| format!("{value:.digits$}"))
}
