//! The rules for a file name that is harmless on every system, and for cutting a long one.
//!
//! `super` alone calls this. Invariant: a clean name stays as it is when it is cleaned again.

use super::FILE_NAME_BYTES_MAX;

/// An extension with its dot is kept where a long name is cut, unless it is longer than this.
pub(super) const EXTENSION_BYTES_MAX: usize = FILE_NAME_BYTES_MAX / 2;

/// Makes a name harmless that is saved without decoding it again.
pub(super) fn clean(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let base = text.rsplit(['/', '\\']).next()?;
    let visible = base.chars().filter(|&it| !is_invisible(it));
    let clean: String = visible.map(|it| if is_special(it) { '_' } else { it }).collect();
    let clean = clean.trim_matches(|it: char| it == '.' || it.is_whitespace());
    let mut clean = cut(clean);
    if is_device(&clean) {
        clean = cut(&format!("_{clean}"));
    }
    (!clean.is_empty()).then_some(clean)
}

/// The name with `_` in place of each percent sign that begins an escape.
pub(super) fn without_escapes(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut pieces = name.split('%');
    out.extend(pieces.next());
    for piece in pieces {
        let is_escape = matches!(piece.as_bytes(), [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit());
        out.push(if is_escape { '_' } else { '%' });
        out.push_str(piece);
    }
    out
}

/// Whether this is a control, format or separator character (Cc, Cf, Zl, Zp): these are invisible, or
/// turn the direction of text.
pub fn is_invisible(it: char) -> bool {
    it.is_control()
        || matches!(it,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
            | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{2066}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0001}' | '\u{e0020}'..='\u{e007f}')
}

/// Whether Windows forbids this in every name. A slash of either kind never comes here.
pub(super) fn is_special(it: char) -> bool {
    matches!(it, ':' | '*' | '?' | '"' | '<' | '>' | '|')
}

/// Whether Windows takes this for a device, as it does whatever the extension.
pub(super) fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end();
    let stem = stem.to_ascii_uppercase();
    let is_port = |number: &str| {
        let mut digits = number.chars();
        let is_digit = digits.next().is_some_and(|it| it.is_ascii_digit() || "¹²³".contains(it));
        is_digit && digits.next().is_none()
    };
    ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"].contains(&stem.as_str())
        || ["COM", "LPT"].iter().any(|port| stem.strip_prefix(port).is_some_and(is_port))
}

/// Cuts a name to its limit: in front of its extension, if that is short enough to be one.
fn cut(name: &str) -> String {
    if name.len() <= FILE_NAME_BYTES_MAX {
        return name.to_owned();
    }
    let dot = name.rfind('.').filter(|dot| name.len() - dot <= EXTENSION_BYTES_MAX);
    let (stem, extension) = name.split_at(dot.unwrap_or(name.len()));
    let stem_bytes = stem.floor_char_boundary(FILE_NAME_BYTES_MAX - extension.len());
    let stem = stem.split_at(stem_bytes).0;
    let end = |it: char| it == '.' || it.is_whitespace();
    if extension.is_empty() {
        stem.trim_end_matches(end).to_owned()
    } else {
        format!("{stem}{extension}")
    }
}
