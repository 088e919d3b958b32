//! Where the running program is found: of a configuration the one key that says it. Called by `cli` for `-s` and
//! `status`.
//!
//! Invariant: nothing else in the text matters, as long as it is TOML. A relay is to be stopped, and asked how it is,
//! whatever its file has come to be.

use super::check::{Check, Files, Key, within};
use super::layers::Layers;
use super::report::Problem;
use super::typed::Typed;
use super::{ConfigError, DEFAULT_TEXT, Refusal, Source, alone};
use crate::sys::file;
use crate::sys::operator::ListenAddress;
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
        self.find((None, "control_socket"), key, |check, key| check.control_socket(key))
    }

    /// Where it tells its status.
    pub fn admin_listen(&self) -> Result<Option<ListenAddress>, ConfigError> {
        let key = |it: Status| it.admin.listen;
        self.find((Some("admin"), "listen"), key, |check, key| check.admin_listen(key))
    }

    /// Applies `rule` to the key that `T` has room for.
    fn find<T: DeserializeOwned, V>(
        &self,
        (section, name): (Option<&str>, &'static str),
        key: impl Fn(T) -> Typed,
        rule: impl FnOnce(&mut Check<'_>, &Key<'_>) -> V,
    ) -> Result<V, ConfigError> {
        let layers = self.layers(file::any)?;
        let typed = |layers: &Layers| {
            let table = layers.table_for(section, name)?;
            let read = T::deserialize(toml::Deserializer::from(table));
            read.map(&key).map_err(|error| vec![Problem::of_shape(&error)])
        };
        let found = typed(&layers).and_then(|file| {
            let default = typed(&alone(DEFAULT_TEXT, "built-in"))?;
            let key = Key { name, typed: &file, default: &default };
            within(Files::In(Path::new("")), |check| rule(check, &key))
        });
        found.map_err(|problems| ConfigError::Refused(Refusal::new(layers.texts(), problems)))
    }
}
