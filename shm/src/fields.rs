//! Where each field of a struct in shared memory lies, and how long it is.
//!
//! The fingerprint of a layout covers all of it, so that two programs which place any field differently do not share a
//! segment. `docs/internals/shared-memory.md` shows the same numbers, and a test compares the two.

/// A field of a struct in shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    /// Bytes from the beginning of the struct.
    pub(crate) offset: usize,
    pub(crate) bytes: usize,
}

/// A struct in shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Struct {
    pub(crate) name: &'static str,
    pub(crate) bytes: usize,
    pub(crate) fields: &'static [Field],
}

/// Bytes of the field that `_get` leads to.
pub(crate) const fn bytes_of<S, F>(_get: fn(&S) -> &F) -> usize {
    size_of::<F>()
}

/// Lists the fields of a struct as `FIELDS`. A field that is left out does not compile.
macro_rules! fields {
    ($type:ident { $($field:ident),* $(,)? }) => {
        impl $type {
            pub(crate) const FIELDS: $crate::fields::Struct = $crate::fields::Struct {
                name: stringify!($type),
                bytes: size_of::<$type>(),
                fields: &[$($crate::fields::Field {
                    name: stringify!($field),
                    offset: core::mem::offset_of!($type, $field),
                    bytes: $crate::fields::bytes_of(|it: &$type| &it.$field),
                }),*],
            };
        }

        const _: fn(&$type) = |$type { $($field: _),* }| {};
    };
}

pub(crate) use fields;
