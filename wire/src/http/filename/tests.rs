//! Names as clients write them, and what is left of them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::harmless::{EXTENSION_BYTES_MAX, is_device, is_invisible, is_special};
use super::*;

fn disposition(value: &str) -> Option<String> {
    FileName::from_disposition(value.as_bytes()).map(|name| name.0)
}

fn bytes(name: &[u8]) -> Option<String> {
    FileName::from_bytes(name).map(|name| name.0)
}

#[test]
fn a_name_is_made_harmless() {
    let name = |text: &str| Some(text.to_owned());
    assert_eq!(bytes(b"report.pdf"), name("report.pdf"));
    assert_eq!(bytes(b"../../etc/passwd"), name("passwd"));
    assert_eq!(bytes(b"C:\\Users\\a b.txt"), name("a b.txt"));
    assert_eq!(bytes(b"a/b\\c"), name("c"));
    assert_eq!(bytes(b"...bashrc"), name("bashrc"));
    assert_eq!(bytes(b"\x01.\x7f.\0a\r\nb\xc2\x85"), name("ab"));
    assert_eq!(bytes(b"\xff\xc3\xa4"), name("\u{fffd}\u{e4}"));
    assert_eq!(bytes(b" . .a. b.. \t."), name("a. b"));
    assert_eq!(bytes("\u{a0}\u{3000}a\u{a0}b\u{2003}".as_bytes()), name("a\u{a0}b"));
    assert_eq!(bytes(b"what? \"a\":<b>*|.txt"), name("what_ _a___b___.txt"));
    for nothing in [&b""[..], b"/", b"a/", b"..", b"\\", b"\r\n", b"a/.\0.", b" . "] {
        assert_eq!(bytes(nothing), None, "{nothing:?}");
    }
}

#[test]
fn what_nobody_can_see_is_left_out_of_a_name() {
    let turned = "harmless\u{202e}gpj.exe";
    assert_eq!(bytes(turned.as_bytes()).as_deref(), Some("harmlessgpj.exe"));
    for hidden in [
        '\0',
        '\u{1b}',
        '\u{7f}',
        '\u{85}',
        '\u{ad}',
        '\u{61c}',
        '\u{180e}',
        '\u{200b}',
        '\u{200d}',
        '\u{200e}',
        '\u{2028}',
        '\u{2029}',
        '\u{202a}',
        '\u{2060}',
        '\u{2066}',
        '\u{2069}',
        '\u{feff}',
        '\u{fff9}',
        '\u{1d173}',
        '\u{e0001}',
        '\u{e007f}',
    ] {
        let name = format!("{hidden}.a{hidden}b.{hidden}");
        assert_eq!(bytes(name.as_bytes()).as_deref(), Some("ab"), "{hidden:?}");
    }
    let seen = "\u{e4}\u{5d0}\u{627}\u{4e2d} \u{1f600}\u{301}.txt";
    assert_eq!(bytes(seen.as_bytes()).as_deref(), Some(seen));
}

#[test]
fn a_device_of_windows_is_no_name() {
    for device in [
        "CON",
        "con",
        "Nul.txt",
        "aux.tar.gz",
        "prn .c",
        "COM1",
        "lpt9.x",
        "com\u{b9}",
        "COM0",
        "conin$",
        "CONOUT$.txt",
    ] {
        assert_eq!(bytes(device.as_bytes()), Some(format!("_{device}")), "{device}");
    }
    assert_eq!(bytes(b".con").as_deref(), Some("_con"));
    for plain in ["CONS", "xcon", "a.con", "com", "com10", "com\u{661}", "lptx.txt", "null"] {
        assert_eq!(bytes(plain.as_bytes()).as_deref(), Some(plain));
    }
    let long = format!("con{}x.txt", " ".repeat(300));
    let cut = bytes(long.as_bytes()).unwrap();
    assert!(cut.starts_with("_con ") && cut.ends_with(" .txt") && cut.len() == 255);
}

#[test]
fn a_long_name_is_cut_between_characters() {
    let long = "a".repeat(254) + "\u{e4}\u{e4}";
    assert_eq!(bytes(long.as_bytes()), Some("a".repeat(254)));
    assert_eq!(bytes(&long.as_bytes()[1..]).unwrap().len(), 255);
    assert_eq!(bytes("\u{1f600}".repeat(100).as_bytes()).unwrap().len(), 252);
}

#[test]
fn a_long_name_keeps_its_extension() {
    let cut = bytes(("\u{e4}".repeat(200) + ".tar.gz").as_bytes()).unwrap();
    assert_eq!(cut, "\u{e4}".repeat(126) + ".gz");
    let longest = format!(".{}", "e".repeat(EXTENSION_BYTES_MAX - 1));
    let cut = bytes(("a".repeat(255) + &longest).as_bytes()).unwrap();
    assert_eq!(cut, "a".repeat(FILE_NAME_BYTES_MAX - EXTENSION_BYTES_MAX) + &longest);
    let none = "a".repeat(200) + "." + &"e".repeat(EXTENSION_BYTES_MAX);
    assert_eq!(bytes(none.as_bytes()).unwrap(), none[..255]);
    let ends_in_dots = format!("{}{}b{}", "a".repeat(250), ". ".repeat(4), "b".repeat(200));
    assert_eq!(bytes(ends_in_dots.as_bytes()).unwrap(), "a".repeat(250));
}

#[test]
fn a_path_segment_is_decoded_first() {
    let path = |text| FileName::from_path_segment(text).map(|name| name.0);
    assert_eq!(path("a%20b.txt").as_deref(), Some("a b.txt"));
    assert_eq!(path("x%2Fy").as_deref(), Some("y"));
    assert_eq!(path("%2e%2E%2f.%2e").as_deref(), None);
    assert_eq!(path("100%").as_deref(), Some("100%"));
    assert_eq!(path("%C3%A4%zz").as_deref(), Some("\u{e4}%zz"));
    assert_eq!(path(""), None);
}

#[test]
fn a_disposition_is_read_as_clients_write_it() {
    let name = |text: &str| Some(text.to_owned());
    assert_eq!(disposition(r#"form-data; name="f"; filename="a b.txt""#), name("a b.txt"));
    assert_eq!(disposition("attachment;FileName=a.txt ; size=3"), name("a.txt"));
    assert_eq!(disposition(r#"x; filename="a\"b\\c.txt""#), name("c.txt"));
    assert_eq!(disposition(r#"x; filename="a\"b;c""#), name("a_b;c"));
    assert_eq!(disposition(r#"x; filename="a%22b%0D%0A%41.txt""#), name("a_b%41.txt"));
    assert_eq!(disposition(r#"x; filename="C:\dir\file.txt""#), name("file.txt"));
    assert_eq!(disposition("x; filename=\"\u{e4}.txt\""), name("\u{e4}.txt"));
    assert_eq!(disposition(r#"x; filename="open"#), name("open"));
    let both = "x; filename=\"e.txt\"; filename*=utf-8'en'%c3%a4%2F%20.txt";
    assert_eq!(disposition(both), name("txt"));
    let latin = "x; filename*=ISO-8859-1''%e4.txt; filename=a.txt";
    assert_eq!(disposition(latin), name("a.txt"));
    assert_eq!(disposition("x; filename*=UTF-8''..; filename=a.txt"), name("a.txt"));
    for nothing in ["", "filename=a", "x; filename=", "x; filename=\"\"", "x; name=\"filename=a\""]
    {
        assert_eq!(disposition(nothing), None, "{nothing}");
    }
}

#[test]
fn a_name_in_pieces_is_joined() {
    let name = |text: &str| Some(text.to_owned());
    assert_eq!(
        disposition("x; filename*0=\"a long\"; filename*1=\" name.txt\""),
        name("a long name.txt")
    );
    assert_eq!(disposition("x; FileName*2=c;filename*0=a;filename*1=b"), name("abc"));
    let mixed = "x; filename*0*=UTF-8''%c3; filename*1*=%A4%2D'; filename*2=\"%2D.txt\"";
    assert_eq!(disposition(mixed), name("\u{e4}-'%2D.txt"));
    assert_eq!(disposition("x; filename*0*=us-ascii'en'a%2e; filename*1*=txt"), name("a.txt"));
    // The reader leaves out what is not in the row, and counts other forms of the name as before.
    assert_eq!(disposition("x; filename*0=a; filename*2=c"), name("a"));
    assert_eq!(disposition("x; filename*0=a; filename*0=b; filename*01=c"), name("a"));
    assert_eq!(disposition("x; filename*1=b; filename=plain.txt"), name("plain.txt"));
    assert_eq!(disposition("x; filename*0=pieces; filename=plain"), name("pieces"));
    assert_eq!(disposition("x; filename*0=pieces; filename*=UTF-8''whole"), name("whole"));
    let latin = "x; filename*0*=ISO-8859-1''%e4; filename*1*=.txt";
    assert_eq!(disposition(latin), None);
    let many: String = (0..100_000).map(|number| format!("; filename*{number}=a")).collect();
    assert_eq!(disposition(&format!("x{many}")), Some("a".repeat(SECTIONS_MAX)));
}

#[test]
fn a_file_is_named_even_if_nothing_of_the_name_is_left() {
    assert!(names_a_file(b"form-data; filename=\"..\""));
    assert!(names_a_file(b"form-data; filename*=x"));
    assert!(names_a_file(b"form-data; filename*0=x"));
    assert!(names_a_file(b"form-data; filename*1=x"));
    assert!(!names_a_file(b"form-data; filename=\"\"; filename*=UTF-8''"));
    assert!(!names_a_file(b"form-data; filename*0=\"\""));
    assert!(!names_a_file(b"form-data; filename=\"\"; name=a"));
    assert!(!names_a_file(b"form-data"));
}

#[test]
fn an_attachment_has_the_name_in_both_forms() {
    let of = |name: &str| Attachment(FileName::from_bytes(name.as_bytes()).as_ref()).to_string();
    assert_eq!(of(""), "attachment");
    let plain = "attachment; filename=\"a b-c_1.txt\"; filename*=UTF-8''a%20b-c_1.txt";
    assert_eq!(of("a b-c_1.txt"), plain);
    let rough = "attachment; filename=\"'()%;=,\u{e4}~.x\"; \
                 filename*=UTF-8''%27%28%29%25%3B%3D%2C%C3%A4~.x";
    assert_eq!(of("'()%;=,\u{e4}~.x"), rough);
    // No client can be told to decode the first form.
    let escaped =
        "attachment; filename=\"100% _20_20%2.x\"; filename*=UTF-8''100%25%20%2520%2520%252.x";
    assert_eq!(of("100% %20%20%2.x"), escaped);
    let quoted = "attachment; filename=\"b_c.x\"; filename*=UTF-8''b_c.x";
    assert_eq!(of("a\\b\"c.x"), quoted);
}

#[test]
fn a_name_that_would_do_harm_decoded_once_more_loses_its_escapes() {
    let name = |text: &str| Some(text.to_owned());
    for harmless in ["a%20b.txt", "100%.txt", "%41%C3%A4", "a%2520b", "%zz%2", "%%41"] {
        assert_eq!(bytes(harmless.as_bytes()), name(harmless), "{harmless}");
    }
    for (harmful, kept) in [
        ("%2ebashrc", "_2ebashrc"),
        ("%2E%2e%2Fetc%5cpasswd.%20", "_2E_2e_2Fetc_5cpasswd._20"),
        ("a%0ab", "a_0ab"),
        ("%252fx%20y", "_252fx_20y"),
        ("a%E2%80%AEgpj.exe", "a_E2_80_AEgpj.exe"),
        ("%4eUL.txt", "_4eUL.txt"),
        ("a%22b%", "a_22b%"),
        ("M%E4rz", "M_E4rz"),
        ("%%2e%2e", "%_2e_2e"),
    ] {
        assert_eq!(bytes(harmful.as_bytes()), name(kept), "{harmful}");
    }
    // However often it was encoded.
    let deep = format!("%{}2fx", "25".repeat(120));
    assert_eq!(bytes(deep.as_bytes()), name(&deep.replace('%', "_")));
}

proptest::proptest! {
    #[test]
    fn any_name_comes_out_as_it_is_sent_on(name in "\\PC{1,80}", bytes in ".{0,300}") {
        for name in [name, bytes].into_iter().filter_map(|it| FileName::from_bytes(it.as_bytes())) {
            let text = name.as_str();
            assert!(text.len() <= FILE_NAME_BYTES_MAX && !text.starts_with('.'));
            assert!(!text.ends_with('.') && text.trim() == text && !is_device(text));
            assert!(!text.contains(|c: char| c == '/' || c == '\\' || is_special(c) || is_invisible(c)));
            let sent = Attachment(Some(&name)).to_string();
            assert!(!sent.bytes().any(|byte| byte.is_ascii_control() || byte == b'\\'));
            let (plain, extended) = sent.split_once("; filename*=").unwrap();
            assert!(extended.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"'));
            let plain = plain.strip_prefix("attachment; filename=\"").unwrap().strip_suffix('"').unwrap();
            assert!(!plain.contains('"'));
            // A name is the same, percent-decoded or not.
            assert_eq!(percent_decode(plain.as_bytes()).decode_utf8().unwrap(), plain);
            assert_eq!(FileName::from_disposition(sent.as_bytes()), Some(name.clone()));
            assert_eq!(FileName::from_bytes(text.as_bytes()), Some(name));
        }
    }
}
