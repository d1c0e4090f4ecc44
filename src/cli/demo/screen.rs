//! The terminal: lines that stay, and one progress line below them that is drawn over in place.

use std::env;
use std::io::{self, IsTerminal, Write};

use anstream::AutoStream;
use anstyle::{AnsiColor, Style};

use super::waterfall::{Drawing, Line, Role, fit};

/// Writes to `out`. The progress line exists only where it can be taken back: on a terminal.
#[derive(Debug)]
pub(super) struct Screen<W: Write> {
    out: W,
    is_terminal: bool,
    /// How lines are drawn here.
    pub(super) drawing: Drawing,
    progress: String,
    is_progress_shown: bool,
    is_after_gap: bool,
}

/// Columns where nothing tells the width.
const WIDTH_DEFAULT: usize = 80;
/// Narrower terminals wrap; wider ones would tear label and bar apart.
const WIDTH_RANGE: (usize, usize) = (40, 120);
const CLEAR_LINE: &str = "\r\u{1b}[2K";

impl Screen<AutoStream<io::Stdout>> {
    /// The standard output, in colour if that is a terminal and `NO_COLOR` does not forbid it.
    pub(super) fn stdout() -> Self {
        let width = terminal_size::terminal_size().map_or(WIDTH_DEFAULT, |(width, _)| usize::from(width.0));
        let drawing = Drawing { width: width.clamp(WIDTH_RANGE.0, WIDTH_RANGE.1), is_unicode: has_unicode() };
        Self::new(anstream::stdout(), io::stdout().is_terminal(), drawing)
    }
}

impl<W: Write> Screen<W> {
    pub(super) const fn new(out: W, is_terminal: bool, drawing: Drawing) -> Self {
        Self { out, is_terminal, drawing, progress: String::new(), is_progress_shown: false, is_after_gap: true }
    }

    /// Writes a line that stays.
    pub(super) fn line(&mut self, line: &Line) -> io::Result<()> {
        self.take_progress_back()?;
        self.is_after_gap = false;
        for (role, text) in line {
            let style = style(*role);
            write!(self.out, "{style}{text}{style:#}")?;
        }
        writeln!(self.out)
    }

    /// Writes a line of plain text that stays.
    pub(super) fn text(&mut self, text: &str) -> io::Result<()> {
        self.line(&vec![(Role::Plain, text.to_owned())])
    }

    /// Writes one blank line, unless there is one already.
    pub(super) fn gap(&mut self) -> io::Result<()> {
        if !self.is_after_gap {
            self.line(&Line::new())?;
            self.is_after_gap = true;
        }
        Ok(())
    }

    /// Shows `progress` below everything else, or nothing if this is no terminal.
    pub(super) fn progress(&mut self, progress: &str) -> io::Result<()> {
        if !self.is_terminal || (self.is_progress_shown && self.progress == progress) {
            return self.out.flush();
        }
        self.take_progress_back()?;
        // A line as wide as the terminal wraps on some of them, and could not be taken back.
        let fitted = fit(progress, self.drawing.width.saturating_sub(1));
        let style = style(Role::Aside);
        write!(self.out, "{style}{fitted}{style:#}")?;
        self.is_progress_shown = true;
        progress.clone_into(&mut self.progress);
        self.out.flush()
    }

    /// Takes the progress line away.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.take_progress_back()?;
        self.out.flush()
    }

    fn take_progress_back(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.is_progress_shown) {
            self.out.write_all(CLEAR_LINE.as_bytes())?;
        }
        Ok(())
    }
}

fn style(role: Role) -> Style {
    let style = Style::new();
    match role {
        Role::Plain => style,
        Role::User => style.bold(),
        Role::Aside => style.dimmed(),
        Role::SessionBar => style.fg_color(Some(AnsiColor::Cyan.into())),
        Role::ConnectionBar => style.fg_color(Some(AnsiColor::Green.into())),
        Role::Warning => style.fg_color(Some(AnsiColor::Yellow.into())),
    }
}

/// Consoles of Windows are written to in UTF-16, whatever their code page. Elsewhere the locale tells, and no locale at
/// all is more often a container than a terminal of the last century.
fn has_unicode() -> bool {
    if cfg!(windows) {
        return true;
    }
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(env::var_os).find(|value| !value.is_empty());
    locale.is_none_or(|locale| {
        let locale = locale.to_string_lossy().to_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWING: Drawing = Drawing { width: 20, is_unicode: true };

    fn written(is_terminal: bool) -> String {
        let mut out = Vec::new();
        let mut screen = Screen::new(&mut out, is_terminal, DRAWING);
        screen.progress("1 session").expect("memory takes everything");
        screen.progress("1 session").expect("memory takes everything");
        screen.text("a line").expect("memory takes everything");
        screen.progress("2 sessions and a text that is too long").expect("memory takes everything");
        screen.finish().expect("memory takes everything");
        anstream::adapter::strip_str(&String::from_utf8(out).expect("text").replace(CLEAR_LINE, "<clear>")).to_string()
    }

    #[test]
    fn the_progress_line_is_taken_back_before_anything_else_is_written() {
        assert_eq!(written(true), "1 session<clear>a line\n2 sessions and a t…<clear>");
    }

    #[test]
    fn a_file_gets_no_progress_line() {
        assert_eq!(written(false), "a line\n");
    }
}
