//! The texts of a configuration, one over the other: the command line over the environment over the file.
//! `super::Source` makes them; `super::parse_with` and `locate` read them.
//!
//! A variable stands for one key: `IDONTSTORE_LIMITS__SESSIONS_MAX` for `sessions_max` in `[limits]`.
//!
//! Invariant: every value keeps its place in the text where it was typed, so that a problem is shown there. All texts
//! count as one, one behind the other with a byte between them; a place is a range of that.

use super::report::{Problem, UnknownKey};
use super::text::Text;
use std::borrow::Cow;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

/// Prefix of every variable that is a key.
pub(super) const PREFIX: &str = "IDONTSTORE_";
/// Separator of a section and its key.
const BETWEEN: &str = "__";
/// Variables of that prefix that other parts of the program read.
const OTHERS: [&str; 4] =
    ["IDONTSTORE_TAKE_OVER", "IDONTSTORE_TRY", "IDONTSTORE_RELAY", "IDONTSTORE_CODE"];
/// Keys whose value is text also where it looks like a number.
const TEXT_KEYS: [&str; 3] = ["user", "group", "mode"];
const LISTENER: &str = "listener";

/// All texts of a configuration.
#[derive(Debug)]
pub(super) struct Layers {
    /// The file's first, then the variables', then the addresses of the command line.
    texts: Vec<Text>,
    variables: usize,
}

/// A key that there is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    variable: String,
    section: Option<String>,
    name: String,
    is_list: bool,
}

/// Whether a variable of the environment is meant for somebody else: another part of this program, or one of those
/// that container managers set for a service of the same name (`IDONTSTORE_PORT_8080_TCP`).
pub(crate) fn is_not_a_key(variable: &str, value: &str) -> bool {
    let Some(rest) = variable.strip_prefix(PREFIX) else { return true };
    let is_link = format!("_{rest}")
        .split_once("_PORT_")
        .is_some_and(|(_, behind)| behind.starts_with(|digit: char| digit.is_ascii_digit()));
    let is_service = rest.contains("SERVICE_HOST") || rest.contains("SERVICE_PORT");
    let is_port = (rest == "PORT" || rest.ends_with("_PORT")) && value.contains("://");
    OTHERS.contains(&variable) || is_link || is_service || is_port
}

impl Layers {
    /// `variables` are names and values, `addresses` what was typed as `--listen`.
    pub(super) fn new(file: Text, variables: &[(String, String)], addresses: &[String]) -> Self {
        let variable = |(name, value): &(String, String)| Text {
            origin: "environment".to_owned(),
            text: format!("{name}={value}"),
        };
        let address = |it: &String| Text {
            origin: "command line".to_owned(),
            text: format!("--listen {it}"),
        };
        let texts = [file].into_iter();
        let texts =
            texts.chain(variables.iter().map(variable)).chain(addresses.iter().map(address));
        Self { texts: texts.collect(), variables: variables.len() }
    }

    pub(super) fn texts(&self) -> &[Text] {
        &self.texts
    }

    /// The texts, each with its place among all.
    fn placed(&self) -> impl Iterator<Item = (usize, &Text)> {
        self.texts.iter().scan(0, |at, text| {
            let start = *at;
            *at += text.text.len() + 1;
            Some((start, text))
        })
    }

    /// All of it. Unknown variables are problems.
    pub(super) fn table(&self) -> Result<Spanned<DeTable<'_>>, Vec<Problem>> {
        let mut table = self.file()?;
        if let Some((key, value)) = table.get_ref().get_key_value(LISTENER)
            && value.get_ref().is_table()
        {
            return Err(vec![one_listener(key.span())]);
        }
        let known = known();
        let mut problems = Vec::new();
        for (at, text) in self.placed().skip(1).take(self.variables) {
            let (name, value) = text.text.split_once('=').unwrap_or((&text.text, ""));
            match known.iter().find(|it| it.variable == name) {
                Some(key) => put(table.get_mut(), key, at, value),
                None => problems.push(unknown(name, at, &known)),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let addresses: Vec<_> = self.placed().skip(1 + self.variables).collect();
        if let Some((first, _)) = addresses.first() {
            let whole = *first..addresses.last().map_or(*first, |(at, text)| at + text.text.len());
            let listener = |(at, text): &(usize, &'_ Text)| {
                let address = text.text.split_once(' ').map_or("", |(_, address)| address);
                let end = at + text.text.len();
                listener_of(address.to_owned(), end - address.len()..end)
            };
            let list: DeArray<'_> = addresses.iter().map(listener).collect();
            let value = Spanned::new(whole.clone(), DeValue::Array(list));
            table.get_mut().insert(Spanned::new(whole, Cow::Borrowed(LISTENER)), value);
        }
        Ok(table)
    }

    /// Looks at the variable for `key`, and at no other.
    pub(super) fn table_for(
        &self,
        section: Option<&str>,
        key: &str,
    ) -> Result<Spanned<DeTable<'_>>, Vec<Problem>> {
        let mut table = self.file()?;
        let known = known();
        let key = known.iter().find(|it| it.section.as_deref() == section && it.name == key);
        for (at, text) in self.placed().skip(1).take(self.variables) {
            let (name, value) = text.text.split_once('=').unwrap_or((&text.text, ""));
            if let Some(key) = key.filter(|it| it.variable == name) {
                put(table.get_mut(), key, at, value);
            }
        }
        Ok(table)
    }

    fn file(&self) -> Result<Spanned<DeTable<'_>>, Vec<Problem>> {
        let text = self.texts.first().map_or("", |file| &file.text);
        DeTable::parse(text).map_err(|error| vec![Problem::of_shape(&error)])
    }
}

/// Every key, as the built-in default documents it.
fn known() -> Vec<Known> {
    let key = |section: Option<&str>, name: &str, value: &toml::Value| Known {
        variable: section.iter().chain([&name]).map(|it| it.to_ascii_uppercase()).fold(
            PREFIX.trim_end_matches('_').to_owned(),
            |all, it| {
                let between = if all.len() < PREFIX.len() { "_" } else { BETWEEN };
                format!("{all}{between}{it}")
            },
        ),
        section: section.map(str::to_owned),
        name: name.to_owned(),
        is_list: value.is_array(),
    };
    let default: toml::Table = super::DEFAULT_TEXT.parse().unwrap_or_default();
    let mut known = Vec::new();
    for (name, value) in &default {
        match value {
            toml::Value::Table(keys) => {
                known.extend(keys.iter().map(|(it, value)| key(Some(name), it, value)));
            }
            value => known.push(key(None, name, value)),
        }
    }
    known
}

/// Puts what the variable at `at` says in the key's place.
fn put<'t>(table: &mut DeTable<'t>, key: &Known, at: usize, text: &'t str) {
    let name_end = at + key.variable.len();
    let behind = text.trim_start();
    let value_at = name_end + 1 + (text.len() - behind.len());
    let value = read(key, behind.trim_end(), value_at);
    let name = |it: &str| Spanned::new(at..name_end, Cow::Owned(it.to_owned()));
    let Some(section) = &key.section else {
        table.insert(name(&key.name), value);
        return;
    };
    if !table.contains_key(section.as_str()) {
        let empty = Spanned::new(at..name_end, DeValue::Table(DeTable::new()));
        table.insert(name(section), empty);
    }
    // A section that is no table is a problem of its own.
    if let Some(section) = table.get_mut(section.as_str())
        && let DeValue::Table(section) = section.get_mut()
    {
        section.insert(name(&key.name), value);
    }
}

/// Reads the text of a variable, which stands at `at`: a value as TOML writes it, or else text. A list has commas
/// between its elements.
fn read<'t>(key: &Known, text: &'t str, at: usize) -> Spanned<DeValue<'t>> {
    let typed = DeValue::parse(text).ok().filter(|typed| match (key, typed.get_ref()) {
        (Known { is_list: true, .. }, typed) => typed.is_array(),
        (_, typed) if TEXT_KEYS.contains(&key.name.as_str()) => typed.is_str(),
        _ => true,
    });
    let whole = at..at + text.len();
    let value = match typed {
        Some(typed) => moved(typed, at),
        None if key.is_list => {
            let from = text.as_ptr().addr();
            let element = |element: &'t str| {
                let start = at + (element.as_ptr().addr() - from);
                let value = DeValue::String(Cow::Borrowed(element));
                Spanned::new(start..start + element.len(), value)
            };
            let elements = text.split(',').map(str::trim).filter(|it| !it.is_empty());
            Spanned::new(whole.clone(), DeValue::Array(elements.map(element).collect()))
        }
        None => Spanned::new(whole.clone(), DeValue::String(Cow::Borrowed(text))),
    };
    if key.name != LISTENER {
        return value;
    }
    // A listener may be written as its address alone.
    let listener = |it: Spanned<DeValue<'t>>| match it.get_ref() {
        DeValue::String(address) => listener_of(address.to_string(), it.span()),
        _ => it,
    };
    match value.into_inner() {
        DeValue::Array(list) => {
            Spanned::new(whole, DeValue::Array(list.into_iter().map(listener).collect()))
        }
        other => Spanned::new(whole, other),
    }
}

fn listener_of<'t>(address: String, span: Range<usize>) -> Spanned<DeValue<'t>> {
    let mut listener = DeTable::new();
    let value = Spanned::new(span.clone(), DeValue::String(Cow::Owned(address)));
    listener.insert(Spanned::new(span.clone(), Cow::Borrowed("address")), value);
    Spanned::new(span, DeValue::Table(listener))
}

/// The value as if its text had begun at `by`.
fn moved(value: Spanned<DeValue<'_>>, by: usize) -> Spanned<DeValue<'_>> {
    let shift = |span: Range<usize>| span.start + by..span.end + by;
    let span = shift(value.span());
    let inner = match value.into_inner() {
        DeValue::Array(list) => DeValue::Array(list.into_iter().map(|it| moved(it, by)).collect()),
        DeValue::Table(table) => DeValue::Table(
            table
                .into_iter()
                .map(|(key, value)| {
                    (Spanned::new(shift(key.span()), key.into_inner()), moved(value, by))
                })
                .collect(),
        ),
        plain => plain,
    };
    Spanned::new(span, inner)
}

fn one_listener(place: Range<usize>) -> Problem {
    Problem {
        title: "`listener` is a list".to_owned(),
        place: (place, "write `[[listener]]`, with two brackets".to_owned()),
        related: Vec::new(),
        help: Some("there may be several: each begins with `[[listener]]`".to_owned()),
    }
}

fn unknown(name: &str, at: usize, known: &[Known]) -> Problem {
    let all: Vec<_> = known.iter().map(|it| it.variable.as_str()).collect();
    let near = match name {
        "IDONTSTORE_PORT" | "IDONTSTORE_LISTEN" | "IDONTSTORE_ADDRESS" => {
            Some("IDONTSTORE_LISTENER")
        }
        name => UnknownKey { name, known: all }.nearest(),
    };
    let label = match near {
        Some("IDONTSTORE_LISTENER") => {
            "write `IDONTSTORE_LISTENER=:8080`, or whichever address and port".to_owned()
        }
        Some(near) => format!("did you mean `{near}`?"),
        None => String::new(),
    };
    let example = format!(
        "a key is written as {PREFIX}KEY, or {PREFIX}SECTION{BETWEEN}KEY, such as \
         IDONTSTORE_LIMITS__SESSIONS_PER_ADDRESS_MAX; `idontstore -T` prints all keys"
    );
    Problem {
        title: format!("the variable {name} stands for no key"),
        place: (at..at + name.len(), label),
        related: Vec::new(),
        help: Some(example),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::{Config, Source};

    fn load(variables: &[(&str, &str)], file: &str) -> Result<Config, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("my.toml");
        std::fs::write(&path, file).unwrap();
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        let source = Source::file(path).with_environment(variables);
        source.load().map_err(|error| error.to_string())
    }

    #[test]
    fn every_key_has_a_variable() {
        let known = known();
        let variables: Vec<_> = known.iter().map(|it| it.variable.as_str()).collect();
        for variable in [
            "IDONTSTORE_WORKERS",
            "IDONTSTORE_LISTENER",
            "IDONTSTORE_LIMITS__SESSIONS_PER_ADDRESS_MAX",
            "IDONTSTORE_TIMEOUTS__WAIT_TIMEOUT",
        ] {
            assert!(variables.contains(&variable), "{variable} in {variables:?}");
        }
        let dump = crate::config::embedded().dump();
        for key in dump.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key) {
            let of_listener =
                ["address", "protocols", "proxy_protocol", "ipv6_only"].contains(&key);
            let end = key.to_ascii_uppercase();
            let is_known = known.iter().any(|it| it.name == key && it.variable.ends_with(&end));
            assert!(of_listener || is_known, "{key}");
        }
    }

    #[test]
    fn a_variable_is_over_the_file_and_the_file_over_the_default() {
        let variables = [
            ("IDONTSTORE_WORKERS", "3"),
            ("IDONTSTORE_TIMEOUTS__WAIT_TIMEOUT", "90s"),
            ("IDONTSTORE_TIMEOUTS__HEAD_TIMEOUT", " \"7s\" "),
            ("IDONTSTORE_USER", "0"),
            ("IDONTSTORE_TRUSTED_PROXIES", "10.0.0.0/8, ::1"),
            ("IDONTSTORE_ADMIN__HOSTS", "['relay.example']"),
            ("IDONTSTORE_LOG__LEVEL", ""),
            ("PATH", "/bin"),
        ];
        let file = "workers = 2\ngenerations_max = 7\n[timeouts]\nwait_timeout = '1s'\n[log]\nlevel = 'warn'\n";
        let config = load(&variables, file).unwrap();
        assert_eq!((config.workers.get(), config.generations_max), (3, 7));
        assert_eq!(config.timeouts.wait_timeout.as_secs(), 90);
        assert_eq!(config.timeouts.head_timeout.as_secs(), 7);
        assert_eq!(config.user.name, "0");
        assert_eq!(config.trusted_proxies.iter().count(), 2);
        assert_eq!(config.admin.hosts, ["relay.example"]);
        assert_eq!(config.log.level, tracing::Level::WARN, "an empty variable says nothing");
    }

    #[test]
    fn listeners_of_a_variable_replace_the_files() {
        let file = "[[listener]]\naddress = '127.0.0.1:1'\n";
        let read = |text| {
            let config = load(&[("IDONTSTORE_LISTENER", text)], file).unwrap();
            config.listeners.iter().map(|it| it.address.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(read("127.0.0.1:2"), ["127.0.0.1:2"]);
        assert_eq!(read("127.0.0.1:2, [::1]:3"), ["127.0.0.1:2", "[::1]:3"]);
        assert_eq!(read("['127.0.0.1:2']"), ["127.0.0.1:2"]);
        assert_eq!(read("[{ address = '127.0.0.1:4', ipv6_only = false }]"), ["127.0.0.1:4"]);
    }

    #[test]
    fn what_is_wrong_names_the_variable() {
        let refused = |name, value, file| load(&[(name, value)], file).unwrap_err();
        for (name, value, parts) in [
            ("IDONTSTORE_WORKERS", "many", &["bad value for `workers`", "environment:1:20"][..]),
            ("IDONTSTORE_LISTENER", "127.0.0.1", &["bad value for `address`", "environment:1:21"]),
            ("IDONTSTORE_TRUSTED_PROXIES", "::1,x", &["trusted_proxies", "environment:1:32"]),
            (
                "IDONTSTORE_WORKRES",
                "1",
                &["stands for no key", "did you mean `IDONTSTORE_WORKERS`"],
            ),
            ("IDONTSTORE_PORT", "80", &["stands for no key", "IDONTSTORE_LISTENER=:8080"]),
            ("IDONTSTORE_LIMITS", "80", &["stands for no key", "SECTION__KEY"]),
        ] {
            let report = refused(name, value, "workers = 2\n");
            for part in parts.iter().chain([&format!("{name}={value}").as_str()]) {
                assert!(report.contains(part), "{part:?} is missing in:\n{report}");
            }
        }
        // A problem with places in two texts.
        let file = "[[listener]]\naddress = '127.0.0.1:81'\n";
        let report = refused("IDONTSTORE_ADMIN__LISTEN", "127.0.0.1:81", file);
        for part in ["IDONTSTORE_ADMIN__LISTEN=127.0.0.1:81", "my.toml", "environment:1:26"] {
            assert!(report.contains(part), "{part:?} is missing in:\n{report}");
        }
    }

    #[test]
    fn what_is_not_for_us_is_left_alone() {
        for (name, value) in [
            ("IDONTSTORE_TRY", "5"),
            ("IDONTSTORE_TAKE_OVER", "5"),
            ("IDONTSTORE_RELAY", "https://relay.example"),
            ("IDONTSTORE_CODE", "1-a-b"),
            ("IDONTSTORE_PORT", "tcp://10.0.0.1:8080"),
            ("IDONTSTORE_PORT_8080_TCP_ADDR", "10.0.0.1"),
            ("IDONTSTORE_SERVICE_HOST", "10.0.0.1"),
            ("IDONTSTORE_SERVICE_PORT_HTTP", "80"),
            ("IDONTSTORE_ADMIN_SERVICE_HOST", "10.0.0.1"),
            ("IDONTSTORE_ADMIN_PORT_9180_TCP", "tcp://10.0.0.1:9180"),
        ] {
            assert!(is_not_a_key(name, value), "{name}");
            load(&[(name, value)], "").unwrap();
        }
    }

    #[test]
    fn one_bracket_is_told_of_the_second() {
        let report = load(&[], "[listener]\naddress = '127.0.0.1:1'\n").unwrap_err();
        assert!(report.contains("write `[[listener]]`"), "{report}");
    }
}
