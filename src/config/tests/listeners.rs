//! Addresses: of listeners, of the admin listener, of proxies, and the files that go with them.

use super::*;

#[test]
fn the_admin_listener_has_an_address_of_its_own() {
    let listen = |text: &str| format!("[admin]\nlisten = \"{text}\"\n");
    for text in ["none", "[::1]:9180", "127.0.0.1:0", "unix:/run/a.sock"] {
        let config = parse(&listen(text), "good").unwrap();
        let read = config.admin.listen.map_or_else(|| "none".to_owned(), |it| it.to_string());
        assert_eq!(read, text);
    }
    for text in ["", "9180", "localhost:9180", "unix:a.sock", "/run/a.sock"] {
        assert_refused(&listen(text), &["bad value for `listen`", "test.toml:2:10", "\"none\""]);
    }
    let both = "[[listener]]\naddress = \"127.0.0.1:81\"\n[admin]\nlisten = \"127.0.0.1:81\"\n";
    assert_refused(
        both,
        &["the admin listener shares 127.0.0.1:81 with a listener", "test.toml:4:10"],
    );
}

#[test]
fn the_admin_listener_answers_to_names_and_opens_its_socket() {
    let text = |lines: &str| format!("[admin]\nlisten = \"unix:/run/a.sock\"\n{lines}\n");
    let good =
        text("hosts = [\"Relay.example\", \"idontstore_1\"]\ngroup = \"0\"\nmode = \"0660\"");
    let Admin { hosts, access, .. } = parse(&good, "good").unwrap().admin;
    assert_eq!(hosts, ["relay.example", "idontstore_1"]);
    assert_eq!((access.group.unwrap().name.as_str(), access.mode), ("0", 0o660));
    for name in ["", "relay.example:9180", "*", "*.example", "a..b", "10.0.0.1", "::1", "a b", "ä"]
    {
        let bad = text(&format!("hosts = [\"{name}\"]"));
        assert_refused(&bad, &["bad value in `hosts`", "test.toml:3:10", "without a port"]);
    }
    assert_refused(&text("hosts = [7]"), &["bad value in `hosts`"]);
    for mode in ["\"660\"", "\"0666\"", "\"0640\""] {
        parse(&text(&format!("mode = {mode}")), "good").unwrap();
    }
    for mode in
        ["\"0770\"", "\"0060\"", "\"00660\"", "\"+660\"", "\"0680\"", "660", "0o660", "\"\""]
    {
        assert_refused(&text(&format!("mode = {mode}")), &["bad value for `mode`", "\"0660\""]);
    }
    assert_refused(
        &text("group = \"no such group\""),
        &["bad value for `group`", "of this machine"],
    );
    assert_refused(&text("group = \"0\""), &["`group` without a right", "test.toml:3:9"]);
    let tcp = "[admin]\nlisten = \"127.0.0.1:9180\"\nmode = \"0666\"\n";
    assert_refused(tcp, &["without a Unix socket", "test.toml:3:8"]);
    assert_refused("admin.group = \"0\"\nadmin.mode = \"0660\"\n", &["without a Unix socket"]);
}

#[test]
fn listeners_are_addresses_and_none_twice() {
    for bad in [
        "'localhost:80'",
        "'127.0.0.1'",
        "':+80'",
        "':'",
        "'::80'",
        "80",
        "'127.0.0.1:65536'",
        "'::1:80'",
        "''",
    ] {
        assert_refused(
            &format!("[[listener]]\naddress = {bad}\n"),
            &["test.toml:2:11", "bad value for `address`", "such as \"127.0.0.1:8080\""],
        );
    }
    assert_refused("listener = []\n", &["test.toml:1:12", "0 listeners", "allowed: 1 to 64"]);
    let twice = "[[listener]]\naddress = '[::1]:80'\n[[listener]]\naddress = '[0::1]:80'\n";
    assert_refused(twice, &["test.toml:4:11", "two listeners at [::1]:80", "first here"]);
    let part = "[[listener]]\naddress = '127.0.0.1:80'\n[[listener]]\naddress = '0.0.0.0:80'\n";
    let said = "listeners at 127.0.0.1:80 and at 0.0.0.0:80";
    assert_refused(part, &["test.toml:4:11", said, "first here"]);
    let both = "[[listener]]\naddress = '0.0.0.0:80'\n[[listener]]\naddress = '[::]:80'\n";
    let said = "listeners at 0.0.0.0:80 and at [::]:80 overlap";
    assert_refused(both, &["test.toml:4:11", said, "`[::]` serves IPv4, too"]);
    let apart = parse(&format!("{both}ipv6_only = true\n"), "test").unwrap();
    assert_eq!(apart.listeners[1].endpoint().to_string(), "[::]:80 (ipv6_only)");
    let wrong = "[[listener]]\naddress = '0.0.0.0:80'\nipv6_only = true\n";
    assert_refused(wrong, &["test.toml:3:13", "`ipv6_only` at 0.0.0.0:80"]);
    let mapped = "[[listener]]\naddress = '[::ffff:127.0.0.1]:80'\n";
    assert_eq!(parse(mapped, "test").unwrap().listeners[0].address.to_string(), "127.0.0.1:80");
}

#[test]
fn the_admin_listener_is_none_of_the_clients_also_by_another_name() {
    let admin = |listener: &str, admin: &str| format!("{listener}[admin]\nlisten = '{admin}'\n");
    let everywhere = "[[listener]]\naddress = '0.0.0.0:80'\n";
    let said = "the admin listener shares 0.0.0.0:80 with a listener";
    assert_refused(&admin(everywhere, "127.0.0.1:80"), &["test.toml:4:10", said]);
    let said = "the admin listener shares 127.0.0.1:8080 with a listener";
    for same in ["127.0.0.1:8080", "0.0.0.0:8080"] {
        assert_refused(&admin("", same), &["test.toml:2:10", said]);
    }
    assert!(parse(&admin(everywhere, "[::1]:80"), "test").is_ok());
}

#[test]
fn no_path_is_used_twice() {
    let directory = tempfile::tempdir().unwrap();
    let [one, link] = ["one", "link"].map(|name| directory.path().join(name));
    std::os::unix::fs::symlink(directory.path(), &link).unwrap();
    let again = link.join("one");
    let text = format!(
        "control_socket = {one:?}\n[log]\naccess = {again:?}\n[admin]\nlisten = 'unix:{}'\n",
        one.display()
    );
    assert_refused(
        &text,
        &[
            "`control_socket` and `admin.listen` are one path",
            "`control_socket` and `log.access` are one path",
            "test.toml:3:10",
            "test.toml:5:10",
        ],
    );
    let key = format!(
        "log.access = {one:?}\n[[listener]]\naddress = '[::1]:80'\n\
         tls = {{ certificate = {again:?}, key = {again:?} }}\n"
    );
    assert_refused(&key, &["`log.access` and `certificate` are one path"]);
    let tokens = format!("log.access = {one:?}\nauth.issue_tokens = {again:?}\n");
    assert_refused(&tokens, &["`log.access` and `issue_tokens` are one path"]);
}

#[test]
fn trusted_proxies_are_networks_and_addresses() {
    for bad in ["'10.0.0.1/8'", "'localhost'", "'10.0.0.0/33'", "'::1/'", "10", "''", "['::1']"] {
        assert_refused(
            &format!("trusted_proxies = ['::1', {bad}, '10.0.0.0/8']\n"),
            &["test.toml:1:27", "bad value in `trusted_proxies`", "such as \"10.0.0.0/8\""],
        );
    }
    assert_refused("trusted_proxies = '::1'\n", &["test.toml:1:19", "expected a sequence"]);
}

#[test]
fn proxy_protocol_takes_somebody_trusted() {
    let listener =
        |bad: &str| format!("[[listener]]\naddress = '[::1]:80'\nproxy_protocol = {bad}\n");
    for bad in ["1", "'true'", "'v2'"] {
        assert_refused(&listener(bad), &["test.toml:3:18", "allowed: true or false"]);
    }
    assert_refused(&listener("true"), &["test.toml:3:18", "without `trusted_proxies`"]);
    let nobody = format!("trusted_proxies = []\n{}", listener("true"));
    assert_refused(&nobody, &["test.toml:4:18", "without `trusted_proxies`"]);
    assert!(parse(&format!("trusted_proxies = ['::1']\n{}", listener("true")), "test").is_ok());
    assert!(parse(&listener("false"), "test").is_ok());
}

#[test]
fn tls_takes_two_files_and_says_which_is_missing() {
    let listener = "[[listener]]\naddress = \"127.0.0.1:0\"\n";
    let refused = |tls: &str, parts: &[&str]| assert_refused(&format!("{listener}{tls}\n"), parts);
    refused("tls = true", &["test.toml:3:7", "`certificate` and a `key`"]);
    refused("tls = { certificate = \"a.pem\" }", &["test.toml:3:7", "missing field `key`"]);
    refused("tls = { certificate = 1, key = \"\" }", &["test.toml:3:23", "test.toml:3:32"]);
    refused(
        "tls = { certificate = \"/no/such.pem\", key = \"k.pem\" }",
        &["test.toml:3:23", "bad `certificate` for TLS", "cannot read it"],
    );
    refused("tls = { certificat = \"a.pem\" }", &["did you mean `certificate`"]);
}
