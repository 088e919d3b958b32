//! The section `[cors]`: the origins whose pages may use the API.

use super::{Check, typed};
use crate::config::Cors;
use crate::http::{self, Origins};
use toml::{Spanned, Value};

/// Every request from a page is compared with each of them.
const ORIGINS_MAX: usize = 64;
/// The word that lets every origin in, if it stands alone.
pub(in crate::config) const ANY_ORIGIN: &str = "*";

impl Check<'_> {
    pub(super) fn cors(&mut self, file: &typed::Cors, default: &typed::Cors) -> Cors {
        let Some(typed) = file.origins.as_ref().or(default.origins.as_ref()) else {
            return Cors { origins: Origins::Nobody };
        };
        let elements = typed.get_ref();
        if elements.len() > ORIGINS_MAX {
            let allowed = format!("allowed: {ORIGINS_MAX} origins at most");
            self.problem("too many `origins`".to_owned(), typed.span(), allowed);
        }
        let is_any = |it: &&Spanned<Value>| it.get_ref().as_str() == Some(ANY_ORIGIN);
        let origins = match (elements.as_slice(), elements.iter().find(is_any)) {
            ([], _) => Origins::Nobody,
            ([_], Some(_)) => Origins::Anybody,
            (_, Some(any)) => {
                let allowed = "allowed: \"*\" alone, as it is every origin".to_owned();
                self.problem("`origins` beside \"*\"".to_owned(), any.span(), allowed);
                Origins::Anybody
            }
            (each, None) => Origins::Listed(each.iter().filter_map(|it| self.origin(it)).collect()),
        };
        Cors { origins }
    }

    fn origin(&mut self, typed: &Spanned<Value>) -> Option<String> {
        let origin = typed.get_ref().as_str().filter(|text| http::is_origin(text));
        if origin.is_none() {
            let allowed = "allowed: \"*\", or an origin as browsers send it, such as \"https://page.example\" or \
                           \"http://localhost:3000\": small letters, no path, no slash at its end, no port that is \
                           the scheme's own";
            self.problem("bad value in `origins`".to_owned(), typed.span(), allowed.to_owned());
        }
        origin.map(str::to_owned)
    }
}
