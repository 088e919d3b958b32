//! Why a configuration was refused, as a person wants to read it: file, line, column, the text underlined, and what is
//! allowed there. Built by `check` and by `super::parse`, printed by `cli`.
//!
//! Invariant: a report has at least one problem, and every problem shows its place as `FILE:LINE:COLUMN`.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::text::Text;

/// Two names this close are taken for a slip of the finger (Jaro-Winkler similarity, 1 being equal).
const SLIP_SIMILARITY_MIN: f64 = 0.8;

/// The first words of PEM text, and of its last line.
const PEM_BEGINS: &str = "-----BEGIN ";
const PEM_ENDS: &str = "-----END ";

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read, or is not UTF-8.
    #[error("cannot read the configuration {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The text is not a valid configuration.
    #[error("the configuration {origin} is refused\n\n{refusal}", refusal = .0, origin = .0.origin)]
    Refused(Refusal),
}

/// The texts of a configuration and all that is wrong with them; displayed, it is one underlined excerpt a problem.
#[derive(Debug)]
pub struct Refusal {
    /// The name of the first text.
    origin: String,
    texts: Vec<Text>,
    problems: Vec<Problem>,
}

/// A thing that is wrong, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) title: String,
    /// Byte range of the offending text, among all texts, and what is to be said right there.
    pub(super) place: (Range<usize>, String),
    /// Other places that have to do with it.
    pub(super) related: Vec<(Range<usize>, String)>,
    pub(super) help: Option<String>,
}

impl Refusal {
    pub(super) fn new(texts: &[Text], problems: Vec<Problem>) -> Self {
        let origin = texts.first().map(|it| it.origin.clone()).unwrap_or_default();
        let shown = |it: &Text| Text { origin: it.origin.clone(), text: without_secrets(&it.text) };
        Self { origin, texts: texts.iter().map(shown).collect(), problems }
    }
}

/// A run of this many letters and digits, small and large ones, or of digits to the base of 16, is no word: it may be a
/// key or a token.
const SECRET_CHARS_MIN: usize = 20;

/// The text with a star for each byte of what may be a secret, so that a report can quote its lines.
fn without_secrets(text: &str) -> String {
    let is_part = |it: char| it.is_ascii_alphanumeric() || "+/=_-".contains(it);
    let mut shown = without_pem(text);
    let runs: Vec<_> = shown
        .split(|it| !is_part(it))
        .filter(|run| run.split('/').any(looks_random))
        .map(str::to_owned)
        .collect();
    for run in runs {
        shown = shown.replace(&run, &"*".repeat(run.len()));
    }
    shown
}

/// Whether it is long and mixed, as what was encoded in base64 or base 16 is, and no name is.
fn looks_random(text: &str) -> bool {
    let has = |of: fn(&u8) -> bool| text.as_bytes().iter().any(of);
    let is_base64 = || has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase);
    let is_hexadecimal = || text.bytes().all(|it| it.is_ascii_hexdigit());
    text.len() >= SECRET_CHARS_MIN && has(u8::is_ascii_digit) && (is_base64() || is_hexadecimal())
}

/// The text with a star for each byte of what may be a private key: somebody has written a key where the name of its
/// file belongs, or named the key's file as the configuration. Every place stays where it is.
fn without_pem(text: &str) -> String {
    let Some((before, pem)) = text.split_once(PEM_BEGINS) else { return text.to_owned() };
    let secret = pem.rfind(PEM_ENDS).unwrap_or(pem.len());
    let (secret, after) = pem.split_at_checked(secret).unwrap_or((pem, ""));
    let hidden = |byte: u8| if byte.is_ascii_whitespace() { char::from(byte) } else { '*' };
    let hidden: String = secret.bytes().map(hidden).collect();
    [before, PEM_BEGINS, &hidden, after].concat()
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let renderer = Renderer::plain();
        for (index, problem) in self.problems.iter().enumerate() {
            let gap = if index == 0 { "" } else { "\n\n" };
            write!(f, "{gap}{}", renderer.render(&[problem.group(&self.texts)]))?;
        }
        Ok(())
    }
}

impl Problem {
    /// A problem in the shape of the text: no TOML, an unknown key, a value where a section belongs.
    pub(super) fn of_shape(error: &toml::de::Error) -> Self {
        let span = error.span().unwrap_or(0..0);
        match UnknownKey::of_message(error.message()) {
            Some(unknown) => unknown.problem(span),
            None => Self {
                title: "this is not a valid configuration".to_owned(),
                place: (span, error.message().to_owned()),
                related: Vec::new(),
                help: None,
            },
        }
    }

    /// An excerpt of each text that it has a place in, the offending one first.
    fn group<'a>(&'a self, texts: &'a [Text]) -> Group<'a> {
        let places = || [&self.place].into_iter().chain(&self.related).enumerate();
        let main = text_at(texts, self.place.0.start);
        let mut shown: Vec<_> = places().map(|(_, (span, _))| text_at(texts, span.start)).collect();
        shown.sort_unstable_by_key(|(number, _)| (*number != main.0, *number));
        shown.dedup();
        let snippet = |(number, start): (usize, usize)| {
            let Text { origin, text } = texts.get(number)?;
            let here = places()
                .filter(|(_, (span, _))| text_at(texts, span.start).0 == number)
                .map(|(index, (span, label))| {
                    let kind = match index {
                        0 => AnnotationKind::Primary,
                        _ => AnnotationKind::Context,
                    };
                    let label = (!label.is_empty()).then_some(label.as_str());
                    kind.span(within(span, start, text)).label(label)
                });
            Some(Snippet::source(text.as_str()).path(origin.as_str()).annotations(here))
        };
        let group = shown
            .into_iter()
            .filter_map(snippet)
            .fold(None, |group: Option<Group<'a>>, snippet| {
                Some(match group {
                    Some(group) => group.element(snippet),
                    None => Level::ERROR.primary_title(self.title.as_str()).element(snippet),
                })
            })
            .unwrap_or_else(|| Group::with_title(Level::ERROR.primary_title(self.title.as_str())));
        match &self.help {
            Some(help) => group.element(Level::HELP.message(help.as_str())),
            None => group,
        }
    }
}

/// The number of the text that has this place, and where it begins.
fn text_at(texts: &[Text], place: usize) -> (usize, usize) {
    let mut start = 0;
    for (number, Text { text, .. }) in texts.iter().enumerate() {
        if place <= start + text.len() || number + 1 == texts.len() {
            return (number, start);
        }
        start += text.len() + 1;
    }
    (0, 0)
}

/// The range in the text that begins at `start`, cut to what that has: an error at the end of the text points past it.
fn within(span: &Range<usize>, start: usize, text: &str) -> Range<usize> {
    let end = span.end.saturating_sub(start).min(text.len());
    span.start.saturating_sub(start).min(end)..end
}

/// A key that does not exist, and those that do.
pub(super) struct UnknownKey<'m> {
    pub(super) name: &'m str,
    pub(super) known: Vec<&'m str>,
}

impl<'m> UnknownKey<'m> {
    /// serde hands on names only inside its message: ``unknown field `x`, expected one of `a`, `b` ``.
    fn of_message(message: &'m str) -> Option<Self> {
        let mut quoted = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
        Some(Self { name: quoted.next()?, known: quoted.collect() })
    }

    fn problem(&self, span: Range<usize>) -> Problem {
        let label =
            self.nearest().map(|name| format!("did you mean `{name}`?")).unwrap_or_default();
        Problem {
            title: format!("unknown key `{}`", self.name),
            place: (span, label),
            related: Vec::new(),
            help: Some(format!("allowed here: {}", self.known.join(", "))),
        }
    }

    /// The name that was most likely meant.
    pub(super) fn nearest(&self) -> Option<&'m str> {
        self.known
            .iter()
            .map(|known| (strsim::jaro_winkler(self.name, known), *known))
            .filter(|(similarity, _)| *similarity >= SLIP_SIMILARITY_MIN)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, known)| known)
    }
}
