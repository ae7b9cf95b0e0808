//! Colours: six meanings, and whether they are wanted.
//!
//! Everything stays legible without them: colour repeats what a word says, it never replaces one.

/// What a colour means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// Wrong, lost, taken away.
    Bad,
    /// Of lesser interest.
    Faint,
    /// As it should be.
    Good,
    /// A heading.
    Head,
    /// Something to know: hints, places.
    Note,
    /// As everything else.
    #[default]
    Plain,
    /// Held, changing, not known.
    Warn,
}

/// Whether colours are wanted on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Palette {
    colour: bool,
}

impl Palette {
    /// With or without colours.
    #[must_use]
    pub const fn new(colour: bool) -> Self {
        Self { colour }
    }

    /// Whether there are colours; also whether a person watches.
    #[must_use]
    pub const fn is_coloured(self) -> bool {
        self.colour
    }

    /// The text in the style's colour, where colours are wanted.
    #[must_use]
    pub fn paint(self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Bad => "1;31",
            Style::Faint => "2",
            Style::Good => "32",
            Style::Head => "1",
            Style::Note => "36",
            Style::Plain => return text.to_owned(),
            Style::Warn => "33",
        };
        if self.colour && !text.is_empty() {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_gets_plain_text() {
        assert_eq!(Palette::new(false).paint(Style::Bad, "lost"), "lost");
        assert_eq!(
            Palette::new(true).paint(Style::Bad, "lost"),
            "\u{1b}[1;31mlost\u{1b}[0m"
        );
    }
}
