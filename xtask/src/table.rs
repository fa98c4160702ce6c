//! Tables for the terminal and for Markdown, and numbers as people read them.

use std::time::Duration;

/// A table whose first column is text and whose other columns are numbers, aligned to the right.
#[derive(Debug)]
pub(crate) struct Table {
    /// How many columns, from the left, are text.
    n_text: usize,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column titles.
    pub(crate) fn new(head: &[&str]) -> Self {
        Self {
            n_text: 1,
            head: head.iter().map(ToString::to_string).collect(),
            rows: Vec::new(),
        }
    }

    /// A table that is text in every column.
    pub(crate) fn of_text(head: &[&str]) -> Self {
        Self {
            n_text: head.len(),
            ..Self::new(head)
        }
    }

    /// Adds a row; missing cells stay empty, surplus ones are cut.
    pub(crate) fn row<I, S>(&mut self, cells: I)
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        let mut row: Vec<String> = cells.into_iter().map(Into::into).collect();
        row.resize(self.head.len(), String::new());
        self.rows.push(row);
    }

    /// The table for a terminal, each line ended.
    pub(crate) fn text(&self) -> String {
        let widths = self.widths();
        let mut out = String::new();
        let rule: Vec<String> = widths.iter().map(|w| "─".repeat(*w)).collect();
        for (idx, row) in std::iter::once(&self.head).chain(&self.rows).enumerate() {
            if idx == 1 {
                out.push_str(&format!("{}\n", rule.join("──")));
            }
            out.push_str(self.padded(row, &widths, "  ").trim_end());
            out.push('\n');
        }
        out
    }

    /// The table in Markdown, each line ended.
    pub(crate) fn markdown(&self) -> String {
        let widths: Vec<usize> = self.widths().iter().map(|w| (*w).max(3)).collect();
        let rule: Vec<String> = widths
            .iter()
            .enumerate()
            .map(|(idx, w)| {
                if idx < self.n_text {
                    "-".repeat(*w)
                } else {
                    format!("{}:", "-".repeat(*w - 1))
                }
            })
            .collect();
        let mut out = format!(
            "| {} |\n| {} |\n",
            self.padded(&self.head, &widths, " | "),
            rule.join(" | ")
        );
        for row in &self.rows {
            out.push_str(&format!("| {} |\n", self.padded(row, &widths, " | ")));
        }
        out
    }

    fn padded(&self, row: &[String], widths: &[usize], between: &str) -> String {
        let cells: Vec<String> = row
            .iter()
            .zip(widths)
            .enumerate()
            .map(|(idx, (cell, width))| {
                let fill = " ".repeat(width.saturating_sub(cell.chars().count()));
                if idx < self.n_text {
                    format!("{cell}{fill}")
                } else {
                    format!("{fill}{cell}")
                }
            })
            .collect();
        cells.join(between)
    }

    fn widths(&self) -> Vec<usize> {
        (0..self.head.len())
            .map(|idx| {
                std::iter::once(&self.head)
                    .chain(&self.rows)
                    .map(|row| row[idx].chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect()
    }
}

/// Bytes in decimal units, three digits or so.
pub(crate) fn bytes(count: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let value = count as f64;
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{:.1} kB", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", value / 1e6),
        _ => format!("{:.2} GB", value / 1e9),
    }
}

/// `part` of `whole` in per cent, two decimals; a dash where there is no whole.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "–".to_owned();
    }
    #[allow(clippy::cast_precision_loss, reason = "shown with two decimals")]
    let value = 100.0 * part as f64 / whole as f64;
    format!("{value:.2} %")
}

/// A duration in seconds, one decimal.
pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_in_both_forms() {
        let mut table = Table::new(&["stage", "time"]);
        table.row(["tidy", "1.0 s"]);
        table.row(["doors"]);
        assert_eq!(
            table.text(),
            "stage   time\n────────────\ntidy   1.0 s\ndoors\n"
        );
        assert_eq!(
            table.markdown(),
            "| stage |  time |\n| ----- | ----: |\n| tidy  | 1.0 s |\n| doors |       |\n"
        );
    }

    #[test]
    fn text_is_aligned_to_the_left() {
        let mut table = Table::of_text(&["a", "b"]);
        table.row(["x", "long"]);
        table.row(["y", "z"]);
        assert_eq!(table.text(), "a  b\n───────\nx  long\ny  z\n");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(26_600_000), "26.6 MB");
        assert_eq!(bytes(2_895_200_052), "2.90 GB");
        assert_eq!(percent(1, 3), "33.33 %");
        assert_eq!(percent(0, 0), "–");
        assert_eq!(seconds(Duration::from_millis(1_250)), "1.2 s");
    }
}
