//! A form of `multipart/form-data`, read as it comes, for the one file in it.
//!
//! The worker pushes in the pieces of a request body and gets back the ranges that belong to the file.
//! Invariant: the file's bytes are exact however the body was cut, a second file is a fault and never
//! lost, all that is not the file stays within the overhead limit, and the work is linear in the bytes
//! (see [`Multipart::feed`]).

mod boundary;
mod part;

use std::ops::Range;

use memchr::memmem::Finder;

use crate::http::Fault;
use part::PartHead;

pub use boundary::boundary;
pub use part::FilePart;

/// The result of one call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fed {
    /// The file's bytes among those presented; possibly none.
    pub payload: Range<usize>,
    /// This many of the last bytes may be the beginning of a delimiter: the caller presents them again,
    /// first. There are at most five more than the boundary has.
    pub carry: usize,
}

/// A form that is being read.
#[derive(Debug)]
pub struct Multipart {
    /// CRLF, two dashes and the boundary.
    delimiter: Finder<'static>,
    state: State,
    /// The header line of a part so far.
    line: Vec<u8>,
    part: PartHead,
    file: Option<FilePart>,
    overhead_bytes_left: u64,
    overhead_bytes_max: u64,
    #[cfg(test)]
    steps: u64,
}

/// The state, named after what comes next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// A body, or the text before the first delimiter. The delimiter lacks its CRLF at the start of a
    /// line: at the start of the form, and after a part that has a header and no body.
    Body {
        is_file: bool,
        at_line_start: bool,
    },
    Padding,
    PaddingLineFeed,
    PartHead,
    Epilogue,
}

/// The text at a place where the boundary was found.
enum Found {
    /// A delimiter, with this many bytes after the boundary, and what follows it.
    Delimiter(usize, State),
    /// The boundary is the beginning of a longer line, which is body.
    Body,
    /// Not enough bytes yet.
    Undecided,
}

impl Multipart {
    /// A form with this boundary. `overhead_bytes_max` bounds all that is not the file: the
    /// delimiters, the parts' headers, the other parts, and what stands before and after them.
    #[must_use]
    pub fn new(boundary: &[u8], overhead_bytes_max: u64) -> Self {
        let delimiter = [b"\r\n--", boundary].concat();
        Self {
            delimiter: Finder::new(&delimiter).into_owned(),
            state: State::Body { is_file: false, at_line_start: true },
            line: Vec::new(),
            part: PartHead::default(),
            file: None,
            overhead_bytes_left: overhead_bytes_max,
            overhead_bytes_max,
            #[cfg(test)]
            steps: 0,
        }
    }

    /// The file's part, once its header is complete: before, or together with, the first byte of it.
    #[must_use]
    pub fn file(&self) -> Option<&FilePart> {
        self.file.as_ref()
    }

    /// Checks that the form has ended where the request body has.
    ///
    /// # Errors
    /// [`Fault::FormTruncated`] without the last delimiter, [`Fault::NoFilePart`] without a file.
    pub fn finish(&self) -> Result<(), Fault> {
        match (self.state, &self.file) {
            (State::Epilogue, Some(_)) => Ok(()),
            (State::Epilogue, None) => Err(Fault::NoFilePart),
            _ => Err(Fault::FormTruncated),
        }
    }

    /// Reads the next bytes, which begin with those of the last call's `carry`.
    ///
    /// Linear: the search goes forward only, `memmem` is linear for any needle and haystack, a
    /// boundary that turns out to be body is stepped over whole (a delimiter begins with the only
    /// CR in it, so none can begin inside another), and only `carry` bytes are seen twice. A part's header is kept
    /// here and not seen again.
    ///
    /// # Errors
    /// The first fault; the parser is then of no more use, and payload found before it in the same
    /// call is not told of.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Fed, Fault> {
        let mut payload = 0..0;
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let State::Body { is_file, at_line_start } = self.state else {
                at += self.framing(rest)?;
                continue;
            };
            let (body, found) = self.search(rest, at_line_start);
            if is_file {
                payload = at..at + body;
            } else {
                self.charge(body)?;
            }
            at += body;
            match found {
                Some((delimiter, next)) => {
                    self.charge(delimiter)?;
                    at += delimiter;
                    self.state = next;
                }
                None => {
                    self.state = State::Body { is_file, at_line_start: at_line_start && body == 0 };
                    break;
                }
            }
        }
        Ok(Fed { payload, carry: bytes.len().saturating_sub(at) })
    }

    /// Counts the first bytes that are certainly body, and finds the delimiter after them, if there is
    /// one: its length and what follows.
    fn search(&mut self, bytes: &[u8], at_line_start: bool) -> (usize, Option<(usize, State)>) {
        if at_line_start {
            match self.at_line_start(bytes) {
                Found::Delimiter(length, next) => return (0, Some((length, next))),
                Found::Undecided => return (0, None),
                Found::Body => {}
            }
        }
        let delimiter_bytes = self.delimiter.needle().len();
        let mut from = 0;
        loop {
            let rest = bytes.get(from..).unwrap_or_default();
            let Some(at) = self.delimiter.find(rest) else {
                self.step(rest.len());
                return (bytes.len() - self.undecided(rest), None);
            };
            let behind = at + delimiter_bytes;
            self.step(behind);
            match after_boundary(rest.get(behind..).unwrap_or_default()) {
                Found::Delimiter(length, next) => {
                    return (from + at, Some((delimiter_bytes + length, next)));
                }
                Found::Undecided => return (from + at, None),
                Found::Body => from += behind,
            }
        }
    }

    fn at_line_start(&self, bytes: &[u8]) -> Found {
        let dashes = self.delimiter.needle().get(2..).unwrap_or_default();
        match bytes.strip_prefix(dashes) {
            Some(rest) => match after_boundary(rest) {
                Found::Delimiter(length, next) => Found::Delimiter(dashes.len() + length, next),
                other => other,
            },
            None if dashes.starts_with(bytes) => Found::Undecided,
            None => Found::Body,
        }
    }

    /// Counts the last bytes that may be the beginning of a delimiter. A delimiter begins with the only
    /// CR in it, so only the last CR can begin one.
    fn undecided(&self, bytes: &[u8]) -> usize {
        let needle = self.delimiter.needle();
        let tail = bytes.get(bytes.len().saturating_sub(needle.len() - 1)..).unwrap_or_default();
        memchr::memrchr(b'\r', tail)
            .and_then(|at| tail.get(at..))
            .filter(|begun| needle.starts_with(begun))
            .map_or(0, <[u8]>::len)
    }

    /// Reads framing outside of a body, and returns how many bytes.
    fn framing(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let read = match self.state {
            State::Epilogue => bytes.len(),
            State::PartHead => memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1),
            _ => 1,
        };
        self.step(read);
        self.charge(read)?;
        let read_bytes = bytes.get(..read).unwrap_or_default();
        self.state = match (self.state, read_bytes) {
            (State::Padding, b" " | b"\t") => State::Padding,
            (State::Padding, b"\r") => State::PaddingLineFeed,
            (State::PaddingLineFeed, b"\n") => State::PartHead,
            (State::Padding | State::PaddingLineFeed, _) => return Err(Fault::DelimiterMalformed),
            (State::PartHead, line) => self.part_head(line)?,
            (other, _) => other,
        };
        Ok(read)
    }

    /// Takes a line of a part's header, or a piece of one.
    fn part_head(&mut self, piece: &[u8]) -> Result<State, Fault> {
        self.line.extend_from_slice(piece);
        if !self.line.ends_with(b"\n") {
            return Ok(State::PartHead);
        }
        let line = self.line.strip_suffix(b"\r\n").ok_or(Fault::PartHeadMalformed)?;
        if !line.is_empty() {
            self.part.take_line(line)?;
            self.line.clear();
            return Ok(State::PartHead);
        }
        self.line.clear();
        let part = std::mem::take(&mut self.part);
        let is_file = part.is_file();
        if is_file {
            if self.file.is_some() {
                return Err(Fault::SecondFile);
            }
            self.file = Some(part.into_file());
        }
        Ok(State::Body { is_file, at_line_start: true })
    }

    fn charge(&mut self, bytes: usize) -> Result<(), Fault> {
        let left = self.overhead_bytes_left.checked_sub(bytes as u64);
        let fault = Fault::FormOverhead { bytes_max: self.overhead_bytes_max };
        self.overhead_bytes_left = left.ok_or(fault)?;
        Ok(())
    }

    /// Counts the bytes looked at, so that a test can show that they do not grow faster than the body.
    #[inline]
    fn step(&mut self, bytes: usize) {
        #[cfg(test)]
        {
            self.steps += bytes as u64 + 1;
        }
        let _ = bytes;
    }
}

/// Decides by what follows the boundary whether a part ends: CRLF, padding or the last two dashes.
fn after_boundary(bytes: &[u8]) -> Found {
    match bytes {
        [] | [b'-'] | [b'\r'] => Found::Undecided,
        [b'\r', b'\n', ..] => Found::Delimiter(2, State::PartHead),
        [b'-', b'-', ..] => Found::Delimiter(2, State::Epilogue),
        [b' ' | b'\t', ..] => Found::Delimiter(1, State::Padding),
        _ => Found::Body,
    }
}

#[cfg(test)]
mod tests;
