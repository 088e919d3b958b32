//! The access log of the relay under test, read strictly: a line that only a lenient reader accepts fails the test.
//! Called by the tests of logs.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::patience::eventually;

/// A log in a directory of its own, which lives as long as this.
#[derive(Debug)]
pub(crate) struct AccessLog {
    directory: TempDir,
    is_json: bool,
}

/// A line of the log, in either format. `None` stands for an absent value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) client: IpAddr,
    pub(crate) time: String,
    pub(crate) request: Option<String>,
    pub(crate) status: u16,
    pub(crate) bytes: u64,
    pub(crate) referer: Option<String>,
    pub(crate) user_agent: Option<String>,
    pub(crate) session: Option<String>,
    pub(crate) role: Option<String>,
    pub(crate) api: Option<String>,
    pub(crate) payload: Option<u64>,
    pub(crate) offset: Option<u64>,
    pub(crate) skipped: Option<u64>,
    pub(crate) wait: Option<f64>,
    pub(crate) transfer: Option<f64>,
    pub(crate) end: Option<String>,
}

impl AccessLog {
    pub(crate) fn combined() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), is_json: false }
    }

    pub(crate) fn json() -> Self {
        Self { is_json: true, ..Self::combined() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("access.log")
    }

    /// The lines of configuration for it.
    pub(crate) fn keys(&self) -> [String; 2] {
        let format = if self.is_json { "json" } else { "combined" };
        [format!("log.access = {:?}", self.path()), format!("log.access_format = {format:?}")]
    }

    pub(crate) fn text(&self) -> String {
        fs::read_to_string(self.path()).expect("a log in ASCII")
    }

    /// Waits until the log has `count` lines, and returns them; more lines fail the test.
    #[track_caller]
    pub(crate) fn entries(&self, count: usize) -> Vec<Entry> {
        let text = eventually(&format!("{count} lines in the access log"), || {
            let text = self.text();
            (text.matches('\n').count() >= count && text.ends_with('\n')).then_some(text)
        });
        let entries: Vec<_> = text.lines().map(|line| self.parse(line)).collect();
        assert_eq!(entries.len(), count, "{text}");
        entries
    }

    /// Reads a log that was moved away.
    pub(crate) fn entries_of(&self, path: &Path) -> Vec<Entry> {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "a torn end: {text}");
        text.lines().map(|line| self.parse(line)).collect()
    }

    #[track_caller]
    fn parse(&self, line: &str) -> Entry {
        assert!(line.len() < 4095, "{} bytes", line.len());
        assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line:?}");
        let entry = if self.is_json { Entry::of_json(line) } else { Entry::of_combined(line) };
        entry.unwrap_or_else(|| panic!("line {line:?}"))
    }
}

impl Entry {
    fn of_combined(line: &str) -> Option<Self> {
        let (client, rest) = line.split_once(" - - [")?;
        let (time, rest) = rest.split_once("] \"")?;
        let (day, zone) = time.split_once(' ')?;
        let shape: String =
            day.chars().map(|it| if it.is_ascii_digit() { '0' } else { it }).collect();
        let month = day.get(3..6)?;
        assert_eq!(shape.replace(month, "Mon"), "00/Mon/0000:00:00:00");
        assert!("JanFebMarAprMayJunJulAugSepOctNovDec".contains(month));
        assert!(zone.len() == 5 && zone.starts_with(['+', '-']), "{zone}");
        let (request, rest) = rest.split_once("\" ")?;
        let (numbers, rest) = rest.split_once(" \"")?;
        let (status, bytes) = numbers.split_once(' ')?;
        assert_eq!(status.len(), 3);
        let (referer, rest) = rest.split_once("\" \"")?;
        let (user_agent, rest) = rest.split_once("\" ")?;
        let said = |text: &str| (text != "-").then(|| text.to_owned());
        let mut rest = rest.split(' ');
        let mut extra = |name: &str| {
            let value = rest.next()?.strip_prefix(name)?.strip_prefix('=')?;
            Some(said(value))
        };
        Some(Self {
            client: client.parse().ok()?,
            time: time.to_owned(),
            request: said(request),
            status: status.parse().ok()?,
            bytes: bytes.parse().ok()?,
            referer: said(referer),
            user_agent: said(user_agent),
            session: extra("session")?,
            role: extra("role")?,
            api: extra("api")?,
            payload: extra("payload")?.map(|it| it.parse().unwrap()),
            offset: extra("offset")?.map(|it| it.parse().unwrap()),
            skipped: extra("skipped")?.map(|it| it.parse().unwrap()),
            wait: extra("wait")?.map(|it| it.parse().unwrap()),
            transfer: extra("transfer")?.map(|it| it.parse().unwrap()),
            end: extra("end")?,
        })
        .filter(|_| rest.next().is_none())
    }

    fn of_json(line: &str) -> Option<Self> {
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).ok()?;
        assert_eq!(object.len(), 16, "{line}");
        let get = |name: &str| object.get(name).unwrap_or_else(|| panic!("no {name} in {line}"));
        let text = |name: &str| get(name).as_str().map(str::to_owned);
        Some(Self {
            client: text("client")?.parse().ok()?,
            time: text("time")?,
            request: text("request"),
            status: get("status").as_u64()?.try_into().ok()?,
            bytes: get("bytes").as_u64()?,
            referer: text("referer"),
            user_agent: text("user_agent"),
            session: text("session"),
            role: text("role"),
            api: text("api"),
            payload: get("payload").as_u64(),
            offset: get("offset").as_u64(),
            skipped: get("skipped").as_u64(),
            wait: get("wait").as_f64(),
            transfer: get("transfer").as_f64(),
            end: text("end"),
        })
    }

    /// `request status role end`
    pub(crate) fn summary(&self) -> String {
        let [request, role, end] =
            [&self.request, &self.role, &self.end].map(|it| it.as_deref().unwrap_or("-"));
        format!("{request} {} {role} {end}", self.status)
    }
}
