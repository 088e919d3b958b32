//! The key `previewers`: texts in the User-Agent of clients that make link previews.

use super::{Check, typed};
use toml::{Spanned, Value};

/// The `User-Agent` of each receiver is compared with each of them.
const PREVIEWERS_MAX: usize = 64;
/// Shorter ones are a part of nearly every `User-Agent`.
const NAME_BYTES_MIN: usize = 3;
const NAME_BYTES_MAX: usize = 64;

impl Check<'_> {
    pub(super) fn previewers(&mut self, file: &typed::File, default: &typed::File) -> Vec<String> {
        let typed = file.previewers.as_ref().or(default.previewers.as_ref());
        let Some(typed) = typed else { return Vec::new() };
        if typed.get_ref().len() > PREVIEWERS_MAX {
            let allowed = format!("allowed: {PREVIEWERS_MAX} of them at most");
            self.problem("too many `previewers`".to_owned(), typed.span(), allowed);
        }
        typed.get_ref().iter().filter_map(|name| self.previewer(name)).collect()
    }

    fn previewer(&mut self, typed: &Spanned<Value>) -> Option<String> {
        let name = typed.get_ref().as_str().filter(|name| is_name(name));
        if name.is_none() {
            let allowed = format!(
                "allowed: a part of a User-Agent, such as \"Slackbot\", of {NAME_BYTES_MIN} to \
                 {NAME_BYTES_MAX} printable ASCII characters, with no blank at its ends"
            );
            self.problem("bad value in `previewers`".to_owned(), typed.span(), allowed);
        }
        name.map(str::to_owned)
    }
}

fn is_name(text: &str) -> bool {
    let is_printable = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    (NAME_BYTES_MIN..=NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(is_printable)
        && text.trim() == text
}
