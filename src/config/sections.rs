//! The sections of the table in `keys`, as checked: their structures, their checks, and their dumps.
//!
//! Invariant: a rule of the name `NAME` is a method of [`Check`], and `show::NAME` prints what it takes.

use super::check::{
    Check, DAY, FILE_PATH_BYTES_MAX, GIB, KEEPALIVE_PROBES_MAX, KIB, Key, LIFETIMES, MIB, MS,
    SEATS_MAX, SECOND, TIB,
};
use super::keys::table;
use super::{AccessFormat, LogFormat, Receipt, dump as show, typed};
use shm::{CONNECTIONS_MAX, Share};
use std::fmt::{self, Write};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

/// Makes the sections as checked, their checks and their dumps.
macro_rules! sections {
    ($(
        $(#[$about:meta])*
        $Section:ident, $section:ident, $expected:literal {
            $($(#[$doc:meta])* $key:ident: $type:ty = $rule:ident($($argument:expr)?),)+
        }
    )+) => {
        $(
            $(#[$about])*
            #[derive(Debug, Clone, PartialEq, Eq)]
            pub struct $Section {
                $($(#[$doc])* pub $key: $type,)+
            }

            impl $Section {
                pub(super) fn write(&self, out: &mut String) -> fmt::Result {
                    writeln!(out, "\n[{}]", stringify!($section))?;
                    $(writeln!(out, "{} = {}", stringify!($key), show::$rule(&self.$key))?;)+
                    Ok(())
                }
            }
        )+

        impl Check<'_> {
            $(
                pub(super) fn $section(
                    &mut self,
                    file: &typed::$Section,
                    default: &typed::$Section,
                ) -> $Section {
                    $Section {
                        $($key: {
                            let name = stringify!($key);
                            let key = Key { name, typed: &file.$key, default: &default.$key };
                            self.$rule(&key $(, $argument)?)
                        },)+
                    }
                }
            )+
        }
    };
}

table!(sections);
