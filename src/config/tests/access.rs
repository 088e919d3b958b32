//! Who is let in, and from where: `[cors]` and `[auth]`.

use super::*;

#[test]
fn origins_are_those_that_browsers_send() {
    let origins =
        |text: &str| parse(&format!("[cors]\norigins = {text}\n"), "good").unwrap().cors.origins;
    assert_eq!(origins("[]"), Origins::Nobody);
    assert_eq!(origins("[\"*\"]"), Origins::Anybody);
    let listed = ["https://page.example", "http://[::1]:3000"].map(str::to_owned).to_vec();
    assert_eq!(origins(&format!("{listed:?}")), Origins::Listed(listed));
    let refused = |text: &str, parts: &[&str]| {
        assert_refused(&format!("[cors]\norigins = {text}\n"), parts);
    };
    for bad in ["\"null\"", "\"https://page.example/\"", "\"page.example\"", "7"] {
        refused(&format!("[{bad}]"), &["bad value in `origins`", "test.toml:2:12"]);
    }
    refused("[\"https://a.example\", \"*\"]", &["beside", "test.toml:2:33", "\"*\" alone"]);
    let many = vec!["https://page.example"; 65];
    refused(&format!("{many:?}"), &["too many `origins`", "64 origins"]);
}

#[test]
fn who_may_ask_for_sessions_is_read_from_a_file_of_tokens() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokens");
    let text = format!("[auth]\nissue_tokens = {path:?}\nissue_addresses = [\"10.0.0.0/8\"]\n");
    std::fs::write(&path, "0123456789abcdef\n").unwrap();
    let auth = parse(&text, "good").unwrap().auth;
    assert_eq!(auth.issue_tokens, Some(path.clone()));
    assert!(auth.issue_addresses.contains("10.1.2.3".parse().unwrap()));
    assert!(!auth.lets_anybody_issue());
    assert!(embedded().auth.lets_anybody_issue());
    std::fs::write(&path, "a secret\n").unwrap();
    assert_refused(&text, &["bad `issue_tokens`", "test.toml:2:16", "line 1 of it is no token"]);
    assert!(!refusal(&text).contains("a secret"));
    std::fs::remove_file(&path).unwrap();
    assert_refused(&text, &["bad `issue_tokens`", "No such file"]);
    // What a running program has printed was looked at before.
    assert!(parse_dump(&text, "good").is_ok());
    assert_refused("[auth]\nissue_tokens = 7\n", &["bad value for `issue_tokens`", "\"none\""]);
    let bad = "[auth]\nissue_addresses = [\"10.0.0.1/8\"]\n";
    assert_refused(bad, &["bad value in `issue_addresses`", "test.toml:2:20"]);
}

#[test]
fn what_is_restricted_is_dumped_and_read_back() {
    let text = "[cors]\norigins = [\"https://page.example\"]\n[auth]\nissue_tokens = \"/no/such/file\"\n\
                issue_addresses = [\"10.0.0.0/8\", \"::1\"]\n";
    let config = parse_dump(text, "first").unwrap();
    let again = parse_dump(&config.dump(), "again").unwrap();
    assert_eq!(
        (&again.cors, &again.auth, &again.limits),
        (&config.cors, &config.auth, &config.limits)
    );
    assert!(config.dump().contains("origins = [\"https://page.example\"]"), "{}", config.dump());
}
