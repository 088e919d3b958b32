//! Removes from a client's words what nobody may read in a log: session keys and tokens, even dead, mistyped and
//! misplaced ones, and nameplates.
//!
//! A word is a run of letters that a key is made of, percent-encoded ones too. Where a key belongs, and everywhere in
//! a target, a word that is long enough to help somebody guess the rest becomes `-`. The key of a living session
//! becomes the session's hash.

use crate::session::SessionHash;
use std::io::Write;

/// The longest word that is shown of a target: of a key's 28 letters the first 4 name its slot, so 120 random bits
/// remain.
const TARGET_WORD_MAX: usize = 12;
/// The longest word that is shown of a `User-Agent`, where no key belongs: a token has 24 letters, a key 28.
const AGENT_WORD_MAX: usize = 20;

/// Stands for a word that is not shown.
const HIDDEN: u8 = b'-';

/// Adds the first line of `head`, complete or not. `session` is that of its key.
pub(super) fn request_line(
    out: &mut Vec<u8>,
    head: &[u8],
    mount: &str,
    session: Option<SessionHash>,
) {
    let head = head.trim_ascii_start();
    let line = head.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or(head);
    let Some((method, rest)) = split_once(line, b' ') else {
        return scrub(out, line, TARGET_WORD_MAX);
    };
    scrub(out, method, TARGET_WORD_MAX);
    out.push(b' ');
    let version = rest.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    let before = rest.len().saturating_sub(version.len().saturating_add(1));
    match rest.get(..before).filter(|_| version.starts_with(b"HTTP/")) {
        Some(asked) => {
            target(out, asked, mount, session);
            out.push(b' ');
            scrub(out, version, TARGET_WORD_MAX);
        }
        None => target(out, rest, mount, session),
    }
}

fn target(out: &mut Vec<u8>, target: &[u8], mount: &str, session: Option<SessionHash>) {
    let (origin, target) = split_origin(target);
    scrub(out, origin, TARGET_WORD_MAX);
    let (path, query) = match split_once(target, b'?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let below = path.strip_prefix(mount.as_bytes());
    let below = below.filter(|rest| rest.is_empty() || rest.starts_with(b"/"));
    if below.is_some() {
        out.extend_from_slice(mount.as_bytes());
    }
    let mut segments = below.unwrap_or(path).split(|byte| *byte == b'/');
    scrub(out, segments.next().unwrap_or_default(), TARGET_WORD_MAX);
    // Below `n/` stands a nameplate, which a reader of the log could use before the guest does.
    let is_nameplate = below.is_some_and(|rest| rest.starts_with(b"/n/"));
    let at = usize::from(is_nameplate);
    for (index, segment) in segments.enumerate() {
        out.push(b'/');
        match session.filter(|_| index == at && !segment.is_empty()) {
            Some(session) => {
                // A `Vec` takes all that is written to it.
                let _ = write!(out, "{session}");
            }
            None if index == at && (is_nameplate || segment.len() > TARGET_WORD_MAX) => {
                out.push(HIDDEN);
            }
            None => scrub(out, segment, TARGET_WORD_MAX),
        }
    }
    if let Some(query) = query {
        out.push(b'?');
        scrub(out, query, TARGET_WORD_MAX);
    }
}

/// Scheme and host of a target that is a whole URL, and the rest of it.
fn split_origin(url: &[u8]) -> (&[u8], &[u8]) {
    let Some(at) = memchr::memmem::find(url, b"://").filter(|_| !url.starts_with(b"/")) else {
        return (&[], url);
    };
    let host = at.saturating_add(3);
    let behind = url.get(host..).unwrap_or_default();
    let end = behind.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#'));
    url.split_at_checked(host.saturating_add(end.unwrap_or(behind.len()))).unwrap_or((url, &[]))
}

/// Adds the origin of a `Referer`, but not the page there: the page may be a session's.
pub(super) fn referer(out: &mut Vec<u8>, referer: Option<&[u8]>) {
    let Some(referer) = referer else { return };
    let (origin, page) = split_origin(referer);
    scrub(out, origin, AGENT_WORD_MAX);
    match page {
        b"" => {}
        b"/" => out.push(b'/'),
        _ if origin.is_empty() => out.push(HIDDEN),
        _ => out.extend([b'/', HIDDEN]),
    }
}

pub(super) fn user_agent(out: &mut Vec<u8>, user_agent: Option<&[u8]>) {
    scrub(out, user_agent.unwrap_or_default(), AGENT_WORD_MAX);
}

/// Adds `text` without its words of more than `letters_max` letters.
fn scrub(out: &mut Vec<u8>, text: &[u8], letters_max: usize) {
    let mut rest = text;
    while !rest.is_empty() {
        let (mut bytes, mut letters) = (0, 0);
        while let Some(letter) = letter_bytes(rest.get(bytes..).unwrap_or_default()) {
            bytes += letter;
            letters += 1;
        }
        // The delimiter that ends a word belongs to it.
        let (word, other) = rest.split_at_checked(bytes).unwrap_or((rest, &[]));
        if letters > letters_max {
            out.push(HIDDEN);
        } else {
            out.extend_from_slice(word);
        }
        out.extend(other.first());
        rest = other.get(1..).unwrap_or_default();
    }
}

/// The bytes of the letter that `text` begins with; `None` if it begins with none.
fn letter_bytes(text: &[u8]) -> Option<usize> {
    match text {
        [b'%', a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => Some(3),
        [byte, ..] if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') => Some(1),
        _ => None,
    }
}

fn split_once(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let (before, rest) = bytes.split_at_checked(memchr::memchr(at, bytes)?)?;
    Some((before, rest.get(1..)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "AAAB0123456789abcdef_-ABCDEF";
    const TOKEN: &str = "0123456789abcdefghijkl-_";

    fn hash() -> SessionHash {
        SessionHash::new(&[1; 32], &[2; 32])
    }

    fn line(head: &str, session: Option<SessionHash>) -> String {
        let mut out = Vec::new();
        request_line(&mut out, head.as_bytes(), "/a-mount-of-many-letters", session);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_living_sessions_key_becomes_its_hash() {
        let cases = [
            (format!("GET /{KEY} HTTP/1.1\r\nHost: x\r\n\r\n"), "GET /# HTTP/1.1"),
            (format!("\r\nPUT /{KEY}/a.txt HTTP/1.1\r\n"), "PUT /#/a.txt HTTP/1.1"),
            (
                format!("POST /a-mount-of-many-letters/{KEY}?timeout=30 HTTP/1.1\r\n"),
                "POST /a-mount-of-many-letters/#?timeout=30 HTTP/1.1",
            ),
            (format!("GET http://h:1/{KEY} HTTP/1.0\r\n"), "GET http://h:1/# HTTP/1.0"),
            (
                "GET /a-mount-of-many-letters/n/48213?timeout=1 HTTP/1.1\r\n".to_owned(),
                "GET /a-mount-of-many-letters/n/#?timeout=1 HTTP/1.1",
            ),
            ("POST / HTTP/1.1\r\n".to_owned(), "POST / HTTP/1.1"),
            (
                "PUT /a-mount-of-many-letters HTTP/1.1\r\n".to_owned(),
                "PUT /a-mount-of-many-letters HTTP/1.1",
            ),
        ];
        for (head, wanted) in cases {
            assert_eq!(line(&head, Some(hash())), wanted.replace('#', &hash().to_string()));
        }
    }

    #[test]
    fn a_key_that_is_nobodys_is_hidden_wherever_it_stands() {
        let encoded: String = KEY.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let cases = [
            (format!("GET /{KEY} HTTP/1.1"), "GET /- HTTP/1.1"),
            (format!("GET /{} HTTP/1.1", &KEY[..20]), "GET /- HTTP/1.1"),
            (format!("GET /{}.{} HTTP/1.1", &KEY[..10], &KEY[11..]), "GET /- HTTP/1.1"),
            (format!("GET /{encoded} HTTP/1.1"), "GET /- HTTP/1.1"),
            (format!("GET //{KEY}//{KEY} HTTP/1.1"), "GET //-//- HTTP/1.1"),
            (
                "GET /a-mount-of-many-letters/n/48213 HTTP/1.1".to_owned(),
                "GET /a-mount-of-many-letters/n/- HTTP/1.1",
            ),
            ("GET /n/48213 HTTP/1.1".to_owned(), "GET /n/48213 HTTP/1.1"),
            (format!("GET /?a={KEY}&b={encoded}&c=d HTTP/1.1"), "GET /?a=-&b=-&c=d HTTP/1.1"),
            (format!("GET /#{KEY} HTTP/1.1"), "GET /- HTTP/1.1"),
            (format!("{KEY} / HTTP/1.1"), "- / HTTP/1.1"),
            (format!("GET / HTTP/{KEY}"), "GET / HTTP/-"),
            (format!("GET /{KEY}"), "GET /-"),
            (format!("GET /a {KEY}"), "GET /-"),
            (KEY.to_owned(), "-"),
            (format!("GET http://{KEY}/ HTTP/1.1"), "GET http://-/ HTTP/1.1"),
            ("GET /favicon.ico HTTP/1.1".to_owned(), "GET /favicon.ico HTTP/1.1"),
            ("\u{16}\u{3}\u{1}".to_owned(), "\u{16}\u{3}\u{1}"),
        ];
        for (head, wanted) in cases {
            assert_eq!(line(&head, None), wanted);
        }
    }

    #[test]
    fn a_referer_leads_to_no_page() {
        for (given, wanted) in [
            (format!("https://relay.example/{KEY}"), "https://relay.example/-"),
            ("https://relay.example:8443/".to_owned(), "https://relay.example:8443/"),
            ("https://relay.example".to_owned(), "https://relay.example"),
            (format!("https://relay.example?{KEY}"), "https://relay.example/-"),
            (format!("/{KEY}"), "-"),
            (format!("https://{TOKEN}@h/"), "https://-@h/"),
        ] {
            let mut out = Vec::new();
            referer(&mut out, Some(given.as_bytes()));
            assert_eq!(String::from_utf8(out).unwrap(), wanted);
        }
    }

    #[test]
    fn a_user_agent_keeps_its_words_but_those_that_could_be_a_token() {
        let given =
            format!("Mozilla/5.0 (X11; Linux x86_64) python-requests/2.31 {TOKEN} x={KEY};");
        let mut out = Vec::new();
        user_agent(&mut out, Some(given.as_bytes()));
        let wanted = "Mozilla/5.0 (X11; Linux x86_64) python-requests/2.31 - x=-;";
        assert_eq!(String::from_utf8(out).unwrap(), wanted);
    }

    proptest! {
        #[test]
        fn no_key_gets_through_whatever_is_around_it(
            before in "[ -~]{0,20}", after in "[ -~]{0,20}", session in any::<bool>()
        ) {
            let head = format!("{before}{KEY}{after}");
            prop_assert!(!line(&head, session.then(hash)).contains(KEY));
        }
    }
}
