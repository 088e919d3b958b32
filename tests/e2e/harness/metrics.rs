//! Reads `/metrics` strictly, by the rules of the OpenMetrics text format: a line that only a lenient reader accepts
//! fails the test. Also reaches the admin listener of the relay under test.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::raw::Raw;
use super::relay::Relay;
use super::response::Response;

/// The line of configuration that a test with an admin listener needs.
pub(crate) const ADMIN: &str = "admin.listen = \"127.0.0.1:0\"";

const PREFIX: &str = "idontstore_";

/// A family: the name, type and help of a metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Family {
    pub(crate) kind: String,
    pub(crate) help: String,
    pub(crate) unit: Option<String>,
    /// The names of its samples' labels.
    pub(crate) labels: BTreeSet<String>,
    /// The name that its samples have.
    pub(crate) sample: String,
}

/// All samples of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Metrics {
    pub(crate) families: BTreeMap<String, Family>,
    /// Values by name with labels, as written.
    values: BTreeMap<String, u64>,
}

impl Relay {
    /// The address of the admin listener, on TCP.
    pub(crate) fn admin(&self) -> SocketAddr {
        let said = self.wait_for_output("admin listener on ");
        let line = said.lines().find_map(|line| line.strip_prefix("admin listener on "));
        line.expect("an admin listener").parse().expect("one on TCP")
    }

    /// Returns the admin listener's answer to a `GET`.
    pub(crate) fn ask_admin(&self, path: &str) -> Response {
        Raw::connect(self.admin()).get(path).read_response()
    }

    pub(crate) fn metrics(&self) -> Metrics {
        let accept = [("Accept", "application/openmetrics-text")];
        let mut raw = Raw::connect(self.admin());
        let answer = raw.request("GET", "/metrics", &accept).read_response().expect(200);
        assert_eq!(
            answer.head.must("Content-Type"),
            "application/openmetrics-text; version=1.0.0; charset=utf-8"
        );
        Metrics::parse(answer.text())
    }

    /// `/status`, as a document.
    pub(crate) fn status(&self) -> serde_json::Value {
        let answer = self.ask_admin("/status").expect(200);
        assert_eq!(answer.head.must("Content-Type"), "application/json");
        serde_json::from_str(answer.text()).expect("a JSON document")
    }
}

impl Metrics {
    #[track_caller]
    pub(crate) fn parse(text: &str) -> Self {
        let body = text.strip_suffix("# EOF\n").expect("an end mark");
        let mut metrics = Self { families: BTreeMap::new(), values: BTreeMap::new() };
        // The family whose lines are being read; it may not come again later.
        let mut current = String::new();
        for line in body.lines() {
            match line.strip_prefix("# ") {
                Some(said) => metrics.describe(said, &mut current),
                None => metrics.sample(line, &current),
            }
        }
        for (name, family) in &metrics.families {
            assert!(!family.kind.is_empty() && !family.help.is_empty(), "{name}: {family:?}");
            assert!(!family.sample.is_empty(), "{name} has no sample");
            if let Some(unit) = &family.unit {
                assert!(name.ends_with(&format!("_{unit}")), "{name} is in {unit}");
            }
        }
        metrics
    }

    fn describe(&mut self, said: &str, current: &mut String) {
        let mut words = said.splitn(3, ' ');
        let (what, name) = (words.next().unwrap(), words.next().expect("a name"));
        let text = words.next().expect("something said").to_owned();
        assert!(name.starts_with(PREFIX) && is_name(name), "name {name:?}");
        if current != name {
            *current = name.to_owned();
            let family = Family {
                kind: String::new(),
                help: String::new(),
                unit: None,
                labels: BTreeSet::new(),
                sample: String::new(),
            };
            assert!(self.families.insert(current.clone(), family).is_none(), "{name} comes twice");
        }
        let family = self.families.get_mut(name).expect("it was just made");
        assert!(family.sample.is_empty(), "{what} of {name} behind its samples");
        match what {
            "HELP" => assert!(std::mem::replace(&mut family.help, text).is_empty(), "{said}"),
            "TYPE" => assert!(std::mem::replace(&mut family.kind, text).is_empty(), "{said}"),
            "UNIT" => assert!(family.unit.replace(text).is_none(), "{said}"),
            _ => panic!("# {said}"),
        }
    }

    fn sample(&mut self, line: &str, current: &str) {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?}"));
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}').expect("closed labels")),
            None => (series, ""),
        };
        let family = self.families.get_mut(current).expect("a sample behind its family");
        let suffix = match family.kind.as_str() {
            "counter" => "_total",
            "info" => "_info",
            "gauge" => "",
            other => panic!("type {other:?}"),
        };
        assert_eq!(name, format!("{current}{suffix}"), "a sample of another family");
        let labels: Vec<_> = labels.split(',').filter(|label| !label.is_empty()).collect();
        let names: BTreeSet<_> = labels.iter().map(|label| label_name(label)).collect();
        assert_eq!(names.len(), labels.len(), "a label twice: {line}");
        assert!(family.sample.is_empty() || family.labels == names, "other labels: {line}");
        (family.labels, family.sample) = (names, name.to_owned());
        let value = value.parse().unwrap_or_else(|_| panic!("value in {line:?}"));
        assert!(self.values.insert(series.to_owned(), value).is_none(), "{series} twice");
    }

    /// The value of a series, named as it is written but for the prefix.
    #[track_caller]
    pub(crate) fn value(&self, series: &str) -> u64 {
        let value = self.values.get(&format!("{PREFIX}{series}"));
        *value.unwrap_or_else(|| panic!("no {series} in {:#?}", self.values))
    }

    /// The growth of each counter since `before`; counters that have not grown are left out.
    #[track_caller]
    pub(crate) fn since(&self, before: &Self) -> BTreeMap<&str, u64> {
        let counters = self.values.iter().filter(|(series, _)| series.contains("_total"));
        let grown = counters.filter_map(|(series, value)| {
            let more = value.checked_sub(before.values[series]);
            let more = more.unwrap_or_else(|| panic!("{series} went back to {value}"));
            (more > 0).then(|| (series.strip_prefix(PREFIX).unwrap(), more))
        });
        grown.collect()
    }
}

fn is_name(text: &str) -> bool {
    let lower = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    !text.is_empty() && text.bytes().all(lower)
}

/// The name in `name="value"`; panics if the value contains a character that must be escaped.
fn label_name(label: &str) -> String {
    let (name, value) = label.split_once('=').unwrap_or_else(|| panic!("label {label:?}"));
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-:[]".contains(&byte);
    assert!(is_name(name) && value.is_some_and(|it| it.bytes().all(plain)), "label {label:?}");
    name.to_owned()
}
