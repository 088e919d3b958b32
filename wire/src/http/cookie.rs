//! Tokens in `Cookie`, `Authorization` and `Set-Cookie`.
//!
//! The routes take a request's tokens from here, and compare them with the session's.

use super::response::http_date_after;
use std::time::{Duration, SystemTime};

/// The values of the cookies of this name among all `Cookie` fields, in the order sent, without quotes.
pub fn cookies<'a>(
    fields: impl Iterator<Item = &'a [u8]>,
    name: &str,
) -> impl Iterator<Item = &'a [u8]> {
    let pairs = fields.flat_map(|field| field.split(|&byte| byte == b';'));
    pairs.filter_map(move |pair| {
        let (is, value) = pair.trim_ascii().split_at_checked(name.len())?;
        let value = value.strip_prefix(b"=")?;
        (is == name.as_bytes()).then(|| unquoted(value))
    })
}

/// The token of `Authorization: Bearer`.
#[must_use]
pub fn bearer(authorization: Option<&[u8]>) -> Option<&[u8]> {
    let (scheme, rest) = authorization?.split_at_checked(b"bearer".len())?;
    let token = rest.trim_ascii();
    let is_bearer = scheme.eq_ignore_ascii_case(b"bearer") && rest.starts_with(b" ");
    (is_bearer && !token.is_empty()).then_some(token)
}

/// The value of a `Set-Cookie` that gives a message session's token to its host, for `lifetime` from
/// `now`, and for that session's `path` alone; with `https` over HTTPS alone.
///
/// The path is not quoted: most clients take quotes for a part of it (RFC 6265, section 5.2), and then
/// send the token nowhere, or to every session. `Max-Age` is for clients whose clock is wrong, `Expires`
/// for old clients that know nothing else.
#[must_use]
pub fn token_cookie(
    token: &str,
    path: &str,
    https: bool,
    now: SystemTime,
    lifetime: Duration,
) -> String {
    let (expires, secure) = (http_date_after(now, lifetime), if https { "; Secure" } else { "" });
    let seconds = lifetime.as_secs();
    format!("token=\"{token}\"; Path={path}; Expires={expires}; Max-Age={seconds}{secure}")
}

/// The value of a `Set-Cookie` that makes the client forget the token.
#[must_use]
pub fn expired_token_cookie(path: &str) -> String {
    token_cookie("", path, false, SystemTime::UNIX_EPOCH, Duration::ZERO)
}

fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token<'a>(fields: &[&'a str]) -> Option<&'a str> {
        let value = cookies(fields.iter().map(|field| field.as_bytes()), "token").next()?;
        std::str::from_utf8(value).ok()
    }

    #[test]
    fn a_cookie_is_found_quoted_or_bare() {
        assert_eq!(token(&["token=abc"]), Some("abc"));
        assert_eq!(token(&["a=b; token=\"abc\"; c=d"]), Some("abc"));
        assert_eq!(token(&["a=b", "xtoken=1;token=2", "token=3"]), Some("2"));
        assert_eq!(token(&["token="]), Some(""));
        assert_eq!(token(&["token=\""]), Some("\""));
        assert_eq!(token(&["Token=abc; tokens=1; token; a=token=b"]), None);
        assert_eq!(token(&[]), None);
    }

    #[test]
    fn a_cookie_says_its_path_bare_and_its_time_twice() {
        let (now, lifetime) = (SystemTime::UNIX_EPOCH, Duration::from_millis(90_500));
        let given = token_cookie("abc", "/session/KEY", true, now, lifetime);
        let expires = "Expires=Thu, 01 Jan 1970 00:01:30 GMT";
        let rest = format!("Path=/session/KEY; {expires}; Max-Age=90; Secure");
        assert_eq!(given, format!("token=\"abc\"; {rest}"));
        let expires = "Expires=Thu, 01 Jan 1970 00:00:00 GMT";
        let taken = format!("token=\"\"; Path=/session/KEY; {expires}; Max-Age=0");
        assert_eq!(expired_token_cookie("/session/KEY"), taken);
    }

    #[test]
    fn a_bearer_token_is_found() {
        assert_eq!(bearer(Some(b"Bearer abc")), Some(&b"abc"[..]));
        assert_eq!(bearer(Some(b"BEARER  abc ")), Some(&b"abc"[..]));
        for nothing in [&b""[..], b"Bearer", b"Bearer ", b"Bearerabc", b"Basic abc", b"Bearer\tabc"]
        {
            assert_eq!(bearer(Some(nothing)), None);
        }
        assert_eq!(bearer(None), None);
    }
}
