//! Two attributes in place of `#[test]` for the end-to-end tests: each test says whether it runs over HTTPS as well. The
//! test `tidy` refuses a bare `#[test]`, unless its module says `Not run again over HTTPS:` and why.
//!
//! Attributes, unlike a `macro_rules`, let rustfmt format the tests behind them.

use proc_macro::{TokenStream, TokenTree};

/// Runs a test twice: as it is, and as `NAME_over_https` on relays whose first listener speaks TLS.
#[proc_macro_attribute]
pub fn over_both(arguments: TokenStream, test: TokenStream) -> TokenStream {
    let Some(name) = name(&test) else { return fault("over_both stands in front of a function") };
    if !arguments.is_empty() {
        return fault("over_both takes no arguments");
    }
    let again = format!("#[test] fn {name}_over_https() {{ crate::harness::over_tls({name}); }}");
    tokens("#[test]").chain(test).chain(tokens(&again)).collect()
}

/// Runs a test over HTTP alone. The argument says why: `#[over_http("what is encrypted passes through no pipe")]`.
#[proc_macro_attribute]
pub fn over_http(arguments: TokenStream, test: TokenStream) -> TokenStream {
    let reason = arguments.to_string();
    let is_text = reason.len() > 2 && reason.starts_with('"') && reason.ends_with('"');
    if !is_text {
        return fault("over_http takes the reason, as a text");
    }
    tokens("#[test]").chain(test).collect()
}

/// The name behind `fn`.
fn name(function: &TokenStream) -> Option<String> {
    let mut tokens = function.clone().into_iter();
    tokens.find(|it| matches!(it, TokenTree::Ident(word) if word.to_string() == "fn"))?;
    tokens.next().map(|name| name.to_string())
}

fn tokens(code: &str) -> impl Iterator<Item = TokenTree> + use<> {
    code.parse::<TokenStream>().expect("code of our own").into_iter()
}

fn fault(what: &str) -> TokenStream {
    tokens(&format!("compile_error!({what:?});")).collect()
}
