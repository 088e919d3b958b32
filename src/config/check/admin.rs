//! The section `[admin]`, apart from its address: the names it answers to, and the rights of its socket.

use super::super::report::Problem;
use super::{Check, Key, NONE, typed};
use crate::sys::operator::{Access, ListenAddress};
use crate::sys::user::Group;
use toml::{Spanned, Value};

/// A host name has 253 characters at most (RFC 1035, section 2.3.4).
const HOST_BYTES_MAX: usize = 253;
/// Every request is compared with each of them.
const HOSTS_MAX: usize = 64;
/// Read and write for owner, group and others: connecting takes the right to write (unix(7)).
const MODE_BITS: u32 = 0o666;
const MODE_OF_OWNER: u32 = 0o600;
const MODE_OF_GROUP: u32 = 0o020;

impl Check<'_> {
    pub(super) fn admin_hosts(
        &mut self,
        file: &typed::Admin,
        default: &typed::Admin,
    ) -> Vec<String> {
        let Some(typed) = file.hosts.as_ref().or(default.hosts.as_ref()) else { return Vec::new() };
        if typed.get_ref().len() > HOSTS_MAX {
            let allowed = format!("allowed: {HOSTS_MAX} names at most");
            self.problem("too many `hosts`".to_owned(), typed.span(), allowed);
        }
        typed.get_ref().iter().filter_map(|name| self.admin_host(name)).collect()
    }

    fn admin_host(&mut self, typed: &Spanned<Value>) -> Option<String> {
        let name = typed.get_ref().as_str().filter(|name| is_host(name));
        if name.is_none() {
            let allowed = "allowed: a host name without a port, such as \"relay.example\"; IP addresses \
                           and localhost are always answered";
            self.problem("bad value in `hosts`".to_owned(), typed.span(), allowed.to_owned());
        }
        name.map(str::to_ascii_lowercase)
    }

    pub(super) fn admin_access(
        &mut self,
        file: &typed::Admin,
        default: &typed::Admin,
        listen: Option<&ListenAddress>,
    ) -> Access {
        let (group_key, mode_key) = (key!(file, default, group), key!(file, default, mode));
        let allowed = "\"none\", the name of a group of this machine, or its number as text";
        let group = self.value(&group_key, allowed, |value| match value.as_str()? {
            NONE => Some(None),
            name => Group::find(name).map(Some),
        });
        let allowed = "an octal number as text, such as \"0600\" or \"0660\": the owner reads and writes, \
                       nobody executes";
        let mode = self.value(&mode_key, allowed, |value| mode(value.as_str()?));
        let has_group = mode & MODE_OF_GROUP != 0;
        if group.is_some() && !has_group {
            let why = "allowed: with a `mode` by which the group may write, such as \"0660\"";
            self.contradiction("`group` without a right", &group_key, why);
        }
        let access = Access { group, mode };
        if access != Access::default() && !matches!(listen, Some(ListenAddress::Unix(_))) {
            let key = if access.group.is_some() { &group_key } else { &mode_key };
            let why = "allowed: where `listen` is \"unix:\" and a path";
            self.contradiction("a Unix socket's rights without a Unix socket", key, why);
        }
        access
    }

    fn contradiction(&mut self, title: &str, key: &Key<'_>, why: &str) {
        let place = (key.span().unwrap_or_default(), why.to_owned());
        self.problems.push(Problem {
            title: title.to_owned(),
            place,
            related: Vec::new(),
            help: None,
        });
    }
}

/// Letters, digits and hyphens between dots, and underscores, which container networks use.
fn is_host(name: &str) -> bool {
    let is_label = |label: &str| {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        !label.is_empty() && label.bytes().all(good)
    };
    let has_letter = name.bytes().any(|byte| byte.is_ascii_alphabetic());
    name.len() <= HOST_BYTES_MAX && has_letter && name.split('.').all(is_label)
}

fn mode(text: &str) -> Option<u32> {
    let is_octal = (3..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let mode = u32::from_str_radix(text, 8).ok().filter(|_| is_octal)?;
    (mode & !MODE_BITS == 0 && mode & MODE_OF_OWNER == MODE_OF_OWNER).then_some(mode)
}
