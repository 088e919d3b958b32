//! The section `[auth]`: who may ask for sessions.

use super::{Check, Files, NONE, typed};
use crate::config::Auth;
use crate::session::IssueTokens;
use std::path::PathBuf;

impl Check<'_> {
    pub(super) fn auth(&mut self, file: &typed::Auth, default: &typed::Auth) -> Auth {
        let addresses = file.issue_addresses.as_ref().or(default.issue_addresses.as_ref());
        let elements = addresses.into_iter().flat_map(|list| list.get_ref());
        Auth {
            issue_tokens: self.issue_tokens(file),
            issue_addresses: elements
                .filter_map(|element| self.network("issue_addresses", element))
                .collect(),
        }
    }

    /// The file, if it is valid. `None` for none, which is the default.
    fn issue_tokens(&mut self, file: &typed::Auth) -> Option<PathBuf> {
        let typed = file.issue_tokens.as_ref()?;
        if typed.get_ref().as_str() == Some(NONE) {
            return None;
        }
        let Some(path) = self.absolute(typed) else {
            let allowed = "allowed: \"none\", or the path of a file".to_owned();
            self.problem("bad value for `issue_tokens`".to_owned(), typed.span(), allowed);
            return None;
        };
        if let Files::In(_) = self.files
            && let Err(error) = IssueTokens::load(&path)
        {
            let why = error.source.to_string();
            self.problem("bad `issue_tokens`".to_owned(), typed.span(), why);
        }
        Some(path)
    }
}
