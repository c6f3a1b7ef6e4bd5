use std::io::IsTerminal;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// A headline and a bar for each row on a terminal. If the output is no terminal, nothing is drawn.
pub struct View {
    bars: Option<MultiProgress>,
    headline: Option<ProgressBar>,
    rows: Vec<ProgressBar>,
}

impl View {
    pub fn new() -> Self {
        let bars = std::io::stdout().is_terminal().then(MultiProgress::new);
        let headline = bars.as_ref().map(|bars| bars.add(ProgressBar::new_spinner()));
        Self { bars, headline, rows: Vec::new() }
    }

    /// Returns whether the output is a terminal.
    pub fn is_drawn(&self) -> bool {
        self.bars.is_some()
    }

    /// Sets the text above the rows.
    pub fn headline(&self, text: String) {
        if let Some(headline) = &self.headline {
            headline.set_message(text);
        }
    }

    /// Adds rows with these names.
    pub fn add(&mut self, names: impl IntoIterator<Item = String>) {
        let Some(bars) = &self.bars else { return };
        for name in names {
            let style = ProgressStyle::with_template("{prefix:22} {bar:30.green/dim} {msg}");
            let bar = bars.add(ProgressBar::new(100)).with_prefix(name);
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            self.rows.push(bar);
        }
    }

    /// Removes all rows.
    pub fn clear(&mut self) {
        for row in self.rows.drain(..) {
            row.finish_and_clear();
            if let Some(bars) = &self.bars {
                bars.remove(&row);
            }
        }
    }

    /// Sets the length of the bar of a row, %, and the text beside it.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a percentage
    pub fn set(&self, row: usize, percent: f64, text: String) {
        if let Some(bar) = self.rows.get(row) {
            bar.set_position(percent as u64);
            bar.set_message(text);
        }
    }

    /// Leaves the bars as they are, and ends the drawing.
    pub fn finish(&self) {
        if let Some(headline) = &self.headline {
            headline.finish_and_clear();
        }
        self.rows.iter().for_each(ProgressBar::abandon);
        println!();
    }
}
