//! Where the running program is found: of a configuration the one key that says it. Called by `cli` for `-s` and
//! `status`.
//!
//! Must always hold: nothing else in the text matters, as long as it is TOML. A relay is to be stopped, and asked how it
//! is, whatever its file has come to be.

use super::check::{Check, Files, Key, within};
use super::report::Fault;
use super::typed::Typed;
use super::{ConfigError, DEFAULT_TEXT, Refusal, Source, read};
use crate::sys::file;
use crate::sys::private::Address;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
struct Control {
    control_socket: Typed,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    admin: Admin,
}

#[derive(Default, Deserialize)]
#[serde(expecting = "a section `[admin]`")]
struct Admin {
    listen: Typed,
}

impl Source {
    /// Where it takes requests.
    pub fn control_socket(&self) -> Result<Option<PathBuf>, ConfigError> {
        let key = |it: Control| it.control_socket;
        self.find("control_socket", key, |check, key| check.control_socket(key))
    }

    /// Where it tells its status.
    pub fn admin_listen(&self) -> Result<Option<Address>, ConfigError> {
        self.find("listen", |it: Status| it.admin.listen, |check, key| check.admin_listen(key))
    }

    /// What `rule` makes of the key that `T` has room for.
    fn find<T: DeserializeOwned, V>(
        &self,
        name: &'static str,
        key: impl Fn(T) -> Typed,
        rule: impl FnOnce(&mut Check<'_>, &Key<'_>) -> V,
    ) -> Result<V, ConfigError> {
        let (origin, text) = match self {
            Self::Embedded => ("built-in".to_owned(), DEFAULT_TEXT.to_owned()),
            Self::File(path) => (path.display().to_string(), read(path, file::any)?),
        };
        let typed = |text| match toml::from_str(text) {
            Ok(typed) => Ok(key(typed)),
            Err(error) => Err(vec![Fault::of_shape(&error)]),
        };
        let found = typed(&text).and_then(|file| {
            let default = typed(DEFAULT_TEXT)?;
            let key = Key { name, typed: &file, default: &default };
            within(Files::In(Path::new("")), |check| rule(check, &key))
        });
        found.map_err(|faults| ConfigError::Refused(Refusal::new(&origin, &text, faults)))
    }
}
