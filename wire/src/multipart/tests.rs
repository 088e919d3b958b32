//! The parser against a naive parser that has the whole body, for random forms and cuts.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;
use crate::http::FileName;

const OVERHEAD_BYTES_MAX: u64 = 64 * 1024;

#[derive(Clone, Debug, Eq, PartialEq)]
struct Read {
    file: FilePart,
    payload: Vec<u8>,
}

/// Feeds a body in pieces of the given sizes, the last one repeated.
fn read_cut(form: &mut Multipart, body: &[u8], cuts: &[usize]) -> Result<Read, Fault> {
    let mut sizes = cuts.iter().copied().chain(std::iter::repeat(*cuts.last().unwrap()));
    let carry_max = form.delimiter.needle().len() + 1;
    let (mut payload, mut buffer, mut at) = (Vec::new(), Vec::new(), 0);
    while at < body.len() {
        let end = (at + sizes.next().unwrap().max(1)).min(body.len());
        buffer.extend_from_slice(&body[at..end]);
        at = end;
        let fed = form.feed(&buffer)?;
        assert!(
            fed.payload.is_empty() || form.file().is_some(),
            "payload before the file's header"
        );
        assert!(fed.carry <= carry_max, "carry of {}", fed.carry);
        payload.extend_from_slice(&buffer[fed.payload.clone()]);
        buffer.drain(..buffer.len() - fed.carry);
    }
    form.finish()?;
    Ok(Read { file: form.file().unwrap().clone(), payload })
}

fn read(body: &[u8], boundary: &str, cuts: &[usize]) -> Result<Read, Fault> {
    read_cut(&mut Multipart::new(boundary.as_bytes(), OVERHEAD_BYTES_MAX), body, cuts)
}

/// The same grammar read with everything at hand: one position after the other.
fn reference(body: &[u8], boundary: &str) -> Result<Read, Fault> {
    let text = [b"\r\n", body].concat();
    let delimiter = format!("\r\n--{boundary}");
    let (mut at, mut file, mut payload, mut is_file) = (0, None, Vec::new(), false);
    loop {
        let begun = at;
        let found = (at..text.len()).find(|&at| {
            let rest = text[at..].strip_prefix(delimiter.as_bytes()).unwrap_or(b"x");
            [&b"--"[..], b"\r\n", b" ", b"\t"].iter().any(|end| rest.starts_with(end))
        });
        at = found.ok_or(Fault::FormTruncated)?;
        if is_file {
            payload = text.get(begun + 2..at).unwrap_or_default().to_vec();
        }
        at += delimiter.len();
        if text[at..].starts_with(b"--") {
            let file = file.ok_or(Fault::NoFilePart)?;
            return Ok(Read { file, payload });
        }
        at += text[at..].iter().take_while(|byte| b" \t".contains(byte)).count();
        for wanted in b"\r\n" {
            match text.get(at) {
                Some(byte) if byte == wanted => at += 1,
                Some(_) => return Err(Fault::DelimiterMalformed),
                None => return Err(Fault::FormTruncated),
            }
        }
        let mut head = PartHead::default();
        loop {
            let line = text[at..].split_inclusive(|&byte| byte == b'\n').next().unwrap_or_default();
            if !line.ends_with(b"\n") {
                return Err(Fault::FormTruncated);
            }
            at += line.len();
            match line.strip_suffix(b"\r\n").ok_or(Fault::PartHeadMalformed)? {
                b"" => break,
                line => head.take_line(line)?,
            }
        }
        at -= 2;
        is_file = head.is_file();
        if is_file {
            if file.is_some() {
                return Err(Fault::SecondFile);
            }
            file = Some(head.into_file());
        }
    }
}

fn form(boundary: &str, parts: &[(&str, &str)]) -> Vec<u8> {
    let parts = parts.iter().map(|(head, body)| format!("--{boundary}\r\n{head}\r\n{body}\r\n"));
    format!("{}--{boundary}--\r\n", parts.collect::<String>()).into_bytes()
}

const FILE: &str = "Content-Disposition: form-data; name=\"f\"; filename=\"a.txt\"\r\n";
const FIELD: &str = "Content-Disposition: form-data; name=\"g\"\r\n";

/// Pieces that make up a form, or almost. The boundary is `b`, so that it is often hit.
fn rough_form() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "--b",
        "\r\n--b",
        "\r\n--b\r\n",
        "--",
        "\r\n",
        "\r",
        "\n",
        "-",
        "b",
        " ",
        "\t",
        "x",
        ":",
        FILE,
        FILE,
        FIELD,
        "\r\n\r\n",
        "Content-Type: text/plain\r\n",
        "\r\n--b--\r\n",
    ]);
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat().into_bytes())
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1usize..40, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn a_rough_form_is_read_as_the_reference_reads_it(body in rough_form(), begun in any::<bool>(), cuts in cuts()) {
        let begin = if begun { format!("--b\r\n{FILE}\r\n") } else { String::new() };
        let body = [begin.as_bytes(), &body].concat();
        let wanted = reference(&body, "b");
        for cuts in [&cuts[..], &[1], &[usize::MAX / 2]] {
            prop_assert_eq!(read(&body, "b", cuts), wanted.clone(), "{:?}", cuts);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn the_file_is_exact_for_every_cut(
        payload in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'\r'), Just(b'\n'), Just(b'-')], 0..2000),
        boundary in "-{0,24}[ -~\t]{1,160}",

        cuts in prop::collection::vec(1usize..700, 1..12),
        before in 0usize..3,
        after in 0usize..3,
    ) {
        let delimiter = format!("\r\n--{boundary}");
        prop_assume!(memchr::memmem::find(&payload, delimiter.as_bytes()).is_none());
        prop_assume!(!payload.starts_with(&delimiter.as_bytes()[2..]));
        let mut body = Vec::new();
        for _ in 0..before {
            body.extend_from_slice(format!("--{boundary}\r\n{FIELD}\r\nfield\r\n").as_bytes());
        }
        body.extend_from_slice(format!("--{boundary} \t\r\n{FILE}\r\n").as_bytes());
        body.extend_from_slice(&payload);
        for _ in 0..after {
            body.extend_from_slice(format!("\r\n--{boundary}\r\n{FIELD}\r\nanother").as_bytes());
        }
        let second = format!("\r\n--{boundary}\r\n{FILE}\r\nmore\r\n--{boundary}--");
        let two = [&body, second.as_bytes()].concat();
        body.extend_from_slice(format!("\r\n--{boundary}--").as_bytes());
        let overhead = (body.len() - payload.len()) as u64;
        for cuts in [&cuts[..], &[1], &[body.len()]] {
            let mut exact = Multipart::new(boundary.as_bytes(), overhead);
            let is = read_cut(&mut exact, &body, cuts).unwrap();
            prop_assert_eq!(&is.payload, &payload);
            prop_assert_eq!(is.file.name, FileName::from_bytes(b"a.txt"));
            let mut form = Multipart::new(boundary.as_bytes(), overhead + second.len() as u64);
            prop_assert_eq!(read_cut(&mut form, &two, cuts), Err(Fault::SecondFile));
            let bytes_max = overhead - 1;
            let mut tight = Multipart::new(boundary.as_bytes(), bytes_max);
            let refused = read_cut(&mut tight, &body, cuts);
            prop_assert_eq!(refused, Err(Fault::FormOverhead { bytes_max }));
        }
    }
}

#[test]
fn a_form_of_curl_is_read() {
    let head = "Content-Disposition: form-data; name=\"file\"; filename=\"\u{e4} b.pdf\"\r\n\
                Content-Type: application/pdf\r\n";
    let body =
        form("------------------------x9", &[(FIELD, "1"), (head, "\r\n--------x"), (FIELD, "2")]);
    let is = read(&body, "------------------------x9", &[10]).unwrap();
    assert_eq!(is.payload, b"\r\n--------x");
    assert_eq!(is.file.name.unwrap().as_str(), "\u{e4} b.pdf");
    assert_eq!(is.file.content_type.unwrap(), b"application/pdf");
}

#[test]
fn the_file_is_known_before_its_first_byte() {
    let mut parser = Multipart::new(b"b", 1000);
    parser.feed(format!("--b\r\n{FILE}\r").as_bytes()).unwrap();
    assert_eq!(parser.file(), None);
    assert_eq!(parser.feed(b"\n").unwrap(), Fed { payload: 0..0, carry: 0 });
    assert!(parser.file().is_some());
    assert_eq!(parser.feed(b"abc\r\n").unwrap(), Fed { payload: 0..3, carry: 2 });
}

/// A receiver must not wait for bytes that are certainly the file's.
#[test]
fn only_what_may_begin_a_delimiter_is_held_back() {
    let mut parser = Multipart::new(b"bcd", 1000);
    parser.feed(format!("--bcd\r\n{FILE}\r\n").as_bytes()).unwrap();
    for (bytes, carry) in [
        ("x", 0),
        ("\n", 0),
        ("--bcd", 0),
        ("\rx", 0),
        ("\r\n-b", 0),
        ("\r\n--bx", 0),
        ("\r\r", 1),
        ("\r\n", 2),
        ("x\r\n--b", 5),
        ("\r\n--bcd", 7),
        ("\r\n--bcd-", 8),
        ("\r\n--bcd\r", 8),
        ("\r\n--bcd-x", 0),
        ("\r\n--bcdx", 0),
    ] {
        let fed = parser.feed(bytes.as_bytes()).unwrap();
        assert_eq!(fed, Fed { payload: 0..bytes.len() - carry, carry }, "{bytes:?}");
    }
}

#[test]
fn an_empty_file_is_a_file_with_and_without_its_line_end() {
    for end in ["\r\n--b--", "--b--"] {
        let body = format!("--b\r\n{FILE}\r\n{end}");
        assert_eq!(read(body.as_bytes(), "b", &[3]).unwrap().payload, b"");
    }
}

#[test]
fn a_file_whose_name_is_all_dots_is_a_file_without_a_name() {
    let head = "content-disposition:form-data;filename=\"..\"\r\nContent-Type: \r\n";
    let is = read(&form("b", &[(head, "x")]), "b", &[99]).unwrap();
    assert_eq!(is.file, FilePart { name: None, content_type: None });
    assert_eq!(is.payload, b"x");
}

#[test]
fn a_form_without_a_file_is_refused_and_so_is_half_a_form() {
    let empty_name = "Content-Disposition: form-data; name=\"f\"; filename=\"\"\r\n";
    let none = form("b", &[(FIELD, "1"), (empty_name, "2"), ("", "3")]);
    assert_eq!(read(&none, "b", &[5]), Err(Fault::NoFilePart));
    assert_eq!(read(b"--b--", "b", &[5]), Err(Fault::NoFilePart));
    let whole = form("b", &[(FILE, "x")]);
    for end in 0..whole.len() - 2 {
        assert_eq!(read(&whole[..end], "b", &[7]), Err(Fault::FormTruncated), "{end}");
    }
}

#[test]
fn a_second_file_is_a_fault_and_an_empty_input_is_none() {
    let empty = "Content-Disposition: form-data; name=\"f\"; filename=\"\"\r\n";
    let one = form("b", &[(empty, ""), (FILE, "x"), (empty, ""), (FIELD, "y")]);
    assert_eq!(read(&one, "b", &[9]).unwrap().payload, b"x");
    let starred = "Content-Disposition: form-data; filename*0*=UTF-8''b\r\n";
    for second in [FILE, starred, "content-disposition: form-data; FILENAME=..\r\n"] {
        let two = form("b", &[(FILE, "x"), (FIELD, "y"), (second, "z")]);
        assert_eq!(read(&two, "b", &[9]), Err(Fault::SecondFile), "{second:?}");
        assert_eq!(read(&two, "b", &[1000]), Err(Fault::SecondFile), "{second:?}");
    }
}

#[test]
fn a_folded_line_is_one_line() {
    let head = "Content-Disposition: form-data;\r\n name=\"f\";\r\n\tfilename=\"a\r\n b.txt\"\r\n\
                X-Other: a\r\n b: c\r\nContent-Type:\r\n text/plain\r\n ; charset=utf-8 \r\n\t\r\n";
    let is = read(&form("b", &[(head, "x")]), "b", &[9]).unwrap();
    assert_eq!(is.file.name.unwrap().as_str(), "a b.txt");
    assert_eq!(is.file.content_type.unwrap(), b"text/plain ; charset=utf-8");
    // As Python's email.mime writes a long name.
    let head = "Content-Disposition: form-data; name=\"f\";\r\n filename*0*=utf-8''%C3%A4;\r\n filename*1*=.txt\r\n";
    let is = read(&form("b", &[(head, "x")]), "b", &[9]).unwrap();
    assert_eq!(is.file.name.unwrap().as_str(), "\u{e4}.txt");
    let first = form("b", &[(&format!(" folded\r\n{FILE}"), "x")]);
    assert_eq!(read(&first, "b", &[9]), Err(Fault::PartHeadMalformed));
    // Folds of one part are not the next one's.
    let second = form("b", &[(FIELD, "x"), (&format!("\tfolded\r\n{FILE}"), "x")]);
    assert_eq!(read(&second, "b", &[9]), Err(Fault::PartHeadMalformed));
}

#[test]
fn control_characters_in_a_name_are_left_out() {
    let head = "Content-Disposition: form-data; filename=\"a\0\x01\x1b\x7f\t\u{85}b.txt\"\r\n";
    let is = read(&form("b", &[(head, "x")]), "b", &[9]).unwrap();
    assert_eq!(is.file.name.unwrap().as_str(), "ab.txt");
}

#[test]
fn a_parts_type_that_is_none_is_left_out() {
    for none in ["", " ", "text", "text/\u{e4}", "te\x01xt/plain", "text/plain; a=\0"] {
        let head = format!("{FILE}Content-Type: {none}\r\n");
        let is = read(&form("b", &[(&head, "x")]), "b", &[9]).unwrap();
        assert_eq!(is.file.content_type, None, "{none:?}");
    }
}

#[test]
fn malformed_lines_are_refused() {
    for line in [
        "no colon",
        " a: b",
        "a : b",
        ": b",
        "a: b\rc",
        "a: b\r\n c\rd",
        "a: b\n",
        "(: b",
        "\u{e4}: b",
    ] {
        let body = form("b", &[(&format!("{line}\r\n"), "x")]);
        assert_eq!(read(&body, "b", &[9]), Err(Fault::PartHeadMalformed), "{line:?}");
    }
    let doubled = form("b", &[(&format!("{FILE}{FIELD}"), "x")]);
    assert_eq!(read(&doubled, "b", &[9]), Err(Fault::PartHeadMalformed));
    for padding in [" x\r\n", "\t\n", " \rx", "  --\r\n"] {
        let body = format!("--b{padding}{FILE}\r\nx\r\n--b--");
        assert_eq!(read(body.as_bytes(), "b", &[9]), Err(Fault::DelimiterMalformed), "{padding:?}");
    }
}

/// Bodies made to have as many false beginnings as can be.
#[test]
fn the_work_grows_with_the_body_and_no_faster() {
    let boundary = "-".repeat(34) + "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab";
    let prefix = &boundary[..boundary.len() - 1];
    let pieces = [
        "\r\n--",
        "\r\n",
        "\r",
        "-",
        "\n",
        &format!("\r\n--{prefix}"),
        &format!("\r\n--{boundary}x"),
        prefix,
    ];
    let steps = |piece: &str, bytes: usize, cut: usize| {
        let filler = piece.repeat(bytes / piece.len());
        let body = form(&boundary, &[(FILE, &filler)]);
        let mut parser = Multipart::new(boundary.as_bytes(), OVERHEAD_BYTES_MAX);
        assert_eq!(read_cut(&mut parser, &body, &[cut]).unwrap().payload.len(), filler.len());
        parser.steps
    };
    for piece in pieces {
        for cut in [1, 7, 76, 4096, 1 << 20] {
            let (once, eightfold) = (steps(piece, 16 << 10, cut), steps(piece, 128 << 10, cut));
            assert!(eightfold <= 9 * once, "{piece:?} by {cut}: {once}, then {eightfold}");
            // Byte by byte, each byte can be seen again while a delimiter of 75 is in doubt.
            let per_byte = if cut >= 4096 { 3 } else { 80 };
            assert!(eightfold <= per_byte * (129 << 10), "{piece:?} by {cut}: {eightfold}");
        }
    }
}
