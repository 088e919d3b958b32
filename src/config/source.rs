//! Where a configuration comes from, and comes from again at a reload. Made by `cli`, read by `master`.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::sys::file;
use zeroize::Zeroizing;

use super::check::Files;
use super::layers::{self, Layers};
use super::text::Text;
use super::{Config, ConfigError, DEFAULT_TEXT, Memory, host, parse_with};

/// Largest size of a configuration; the default, which explains every key, has 25 KiB.
const FILE_BYTES_MAX: usize = 1 << 20;

/// Where a configuration comes from, and comes from again when it is to be read anew: a file or the program itself, and
/// over it the environment and the command line that the program was started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// `None`: the program itself.
    file: Option<PathBuf>,
    /// Names and values of the variables that are keys.
    variables: Vec<(String, String)>,
    /// The addresses that were typed as `--listen`.
    addresses: Vec<String>,
}

impl Source {
    /// The program itself.
    #[must_use]
    pub const fn embedded() -> Self {
        Self { file: None, variables: Vec::new(), addresses: Vec::new() }
    }

    /// A file.
    #[must_use]
    pub const fn file(path: PathBuf) -> Self {
        Self { file: Some(path), variables: Vec::new(), addresses: Vec::new() }
    }

    /// Takes those of `variables` that begin with `IDONTSTORE_` for keys. An empty one says nothing.
    #[must_use]
    pub fn with_environment(
        self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Self {
        let text = |it: OsString| it.to_string_lossy().into_owned();
        let variables = variables.into_iter().map(|(name, value)| (text(name), text(value)));
        let is_key = |(name, value): &(String, String)| {
            !value.trim().is_empty() && !layers::is_not_a_key(name, value)
        };
        let mut variables: Vec<_> = variables.filter(is_key).collect();
        variables.sort_unstable();
        Self { variables, ..self }
    }

    /// Listens on `addresses` and nowhere else, if there are any.
    #[must_use]
    pub fn listening_on(self, addresses: Vec<String>) -> Self {
        Self { addresses, ..self }
    }

    /// Whether nobody has named a file.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        self.file.is_none()
    }

    /// Reads it and checks it.
    pub fn load(&self) -> Result<Config, ConfigError> {
        self.load_on(&host::Host::probe(), file::any)
    }

    /// The same for a program that runs with `running`: `"auto"` stands for the segment and the pipes that it has.
    pub fn load_again(&self, running: &Config) -> Result<Config, ConfigError> {
        let Memory { segment_bytes, geometry, .. } = &running.memory;
        let (segment_bytes, pipes) = (Some(*segment_bytes), Some(geometry.pipes));
        // The master waits for nobody, so it does not read a pipe.
        self.load_on(&host::Host { segment_bytes, pipes, ..host::Host::probe() }, file::regular)
    }

    fn load_on(&self, host: &host::Host, content: Content) -> Result<Config, ConfigError> {
        parse_with(&self.layers(content)?, host, Files::In(self.directory()))
    }

    /// All that it is made of.
    pub(super) fn layers(&self, content: Content) -> Result<Layers, ConfigError> {
        let file = match &self.file {
            None => Text { origin: "built-in".to_owned(), text: DEFAULT_TEXT.to_owned() },
            Some(path) => Text { origin: path.display().to_string(), text: read(path, content)? },
        };
        Ok(Layers::new(file, &self.variables, &self.addresses))
    }

    /// The directory that paths in it are relative to.
    fn directory(&self) -> &Path {
        self.file.as_deref().and_then(Path::parent).unwrap_or(Path::new(""))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            None => f.write_str("the built-in configuration")?,
            Some(path) => write!(f, "configuration {}", path.display())?,
        }
        let over =
            [("the environment", self.variables.len()), ("the command line", self.addresses.len())];
        let over: Vec<_> = over.iter().filter(|(_, count)| *count > 0).map(|(it, _)| *it).collect();
        if over.is_empty() { Ok(()) } else { write!(f, " with {}", over.join(" and ")) }
    }
}

/// How a file is read: [`file::any`] or [`file::regular`].
type Content = fn(&Path, usize) -> Result<Zeroizing<Vec<u8>>, file::ReadError>;

fn read(path: &Path, content: Content) -> Result<String, ConfigError> {
    let text = content(path, FILE_BYTES_MAX).map_err(io::Error::from).and_then(|content| {
        let text = str::from_utf8(&content).map(str::to_owned);
        text.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"))
    });
    text.map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })
}
