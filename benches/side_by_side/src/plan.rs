//! How much to do, and with what: the command line, and the programs that are there.

use crate::Outcome;
use crate::process::scratch;
use crate::stream::Tls;
use crate::targets::proxy::server;
use rustls::crypto::aws_lc_rs;
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

pub(crate) const USAGE: &str = "\
usage: side_by_side [OPTIONS]
  --smoke              every scene with tiny sizes, once: does it work? Nothing is measured
  --rounds=N           how often each contender runs, by turns (5)
  --further-rounds=N   how often more, at most, those run that have too few near runs (3)
  --scenes=NAME,NAME   only these (all); a wrong name lists them
  --contenders=A,B     only those whose names have one of these in them (all)
  --bulk-mib=N         payload of the bulk scenes (4096)
  --https-mib=N        payload of the HTTPS scene (1024)
  --seconds=N          how long exchanges and requests go on in a run (3)
  --verify             compare each received byte with what was sent (with --smoke always)
  --results=DIRECTORY  where the table and the plot go (printed only)
  --relay=FILE         the idontstore binary (the one beside this program)
  --commit=NAME        the commit that it was built from, for the table
  --piping=FILE        Piping Server's index.js (none)
  --twist=FILE         the twist of a Python that has Magic Wormhole's transit relay (none)";

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) smoke: bool,
    pub(crate) verifies: bool,
    pub(crate) rounds: usize,
    /// Further rounds, at most, for contenders that have too few near runs.
    pub(crate) further_rounds: usize,
    pub(crate) scenes: Vec<String>,
    contenders: Vec<String>,
    pub(crate) results: Option<PathBuf>,
    pub(crate) bulk_bytes: u64,
    pub(crate) https_bytes: u64,
    /// So many transfers at once, of so many bytes each.
    pub(crate) crowd: usize,
    pub(crate) crowd_bytes: u64,
    pub(crate) span: Duration,
    /// Messages whose latency is taken in a run.
    pub(crate) messages: usize,
    /// Receivers that wait, and for how long they are watched.
    pub(crate) idle: usize,
    pub(crate) idle_span: Duration,
    relay: PathBuf,
    /// The commit from which the relay was built.
    pub(crate) commit: Option<String>,
    pub(crate) piping: Option<PathBuf>,
    /// Twisted's program, which starts Magic Wormhole's transit relay.
    pub(crate) twist: Option<PathBuf>,
}

impl Plan {
    pub(crate) fn read(arguments: &[String]) -> Outcome<Self> {
        let smoke = arguments.iter().any(|it| it == "--smoke");
        let beside = std::env::current_exe()?.with_file_name("idontstore");
        let mut plan = if smoke { Self::smoke(beside) } else { Self::full(beside) };
        for argument in arguments {
            match argument.split_once('=').unwrap_or((argument, "")) {
                ("--smoke", "") => {}
                ("--verify", "") => plan.verifies = true,
                ("--rounds", value) => plan.rounds = value.parse::<usize>()?.max(1),
                ("--further-rounds", value) => plan.further_rounds = value.parse()?,
                ("--scenes", value) => plan.scenes = list(value),
                ("--contenders", value) => plan.contenders = list(value),
                ("--bulk-mib", value) => plan.bulk_bytes = value.parse::<u64>()?.max(1) * MIB,
                ("--https-mib", value) => plan.https_bytes = value.parse::<u64>()?.max(1) * MIB,
                ("--seconds", value) => plan.span = Duration::from_secs_f64(value.parse()?),
                ("--results", value) => plan.results = Some(value.into()),
                ("--relay", value) => plan.relay = value.into(),
                ("--commit", value) => plan.commit = Some(value.to_owned()),
                ("--piping", value) => plan.piping = Some(value.into()),
                ("--twist", value) => plan.twist = Some(value.into()),
                _ => return Err(format!("{argument} is not known\n{USAGE}").into()),
            }
        }
        if !plan.relay.exists() {
            return Err("there is no idontstore beside this program; cargo build --release".into());
        }
        Ok(plan)
    }

    pub(crate) fn relay(&self) -> &PathBuf {
        &self.relay
    }

    pub(crate) fn lets_in(&self, contender: &str) -> bool {
        self.contenders.is_empty() || self.contenders.iter().any(|it| contender.contains(it))
    }

    fn full(relay: PathBuf) -> Self {
        Self {
            smoke: false,
            verifies: false,
            rounds: 5,
            further_rounds: 3,
            scenes: Vec::new(),
            contenders: Vec::new(),
            results: None,
            bulk_bytes: 4096 * MIB,
            https_bytes: 1024 * MIB,
            crowd: 100,
            crowd_bytes: 64 * MIB,
            span: Duration::from_secs(3),
            messages: 5000,
            idle: 10_000,
            idle_span: Duration::from_secs(10),
            relay,
            commit: None,
            piping: None,
            twist: None,
        }
    }

    fn smoke(relay: PathBuf) -> Self {
        Self {
            smoke: true,
            verifies: true,
            rounds: 1,
            further_rounds: 0,
            bulk_bytes: 32 * MIB,
            https_bytes: 8 * MIB,
            crowd: 20,
            crowd_bytes: MIB,
            span: Duration::from_millis(200),
            messages: 100,
            idle: 200,
            idle_span: Duration::from_millis(200),
            ..Self::full(relay)
        }
    }
}

fn list(value: &str) -> Vec<String> {
    value.split(',').map(str::to_owned).collect()
}

/// The plan, the programs and the files that the scenes set themselves up with.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) plan: Plan,
    pub(crate) certificate: Certificate,
}

impl Stage {
    pub(crate) fn relay(&self) -> &PathBuf {
        &self.plan.relay
    }
}

/// Whether a program can be started.
pub(crate) fn is_there(name: &str) -> bool {
    version(name).is_some()
}

/// The version that a program prints, in a line.
pub(crate) fn version(name: &str) -> Option<String> {
    let output = Command::new(server(name)).arg("-v").output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().next().unwrap_or_default();
    // The text behind this says when the program was built, and by whom.
    Some(
        line.split(" [")
            .next()
            .unwrap_or_default()
            .split(" 20")
            .next()
            .unwrap_or_default()
            .to_owned(),
    )
}

/// A certificate of our own making, for each target that speaks HTTPS, and the generator's trust in it. All targets
/// speak TLS 1.3 with AES-128-GCM.
#[derive(Debug)]
pub(crate) struct Certificate {
    directory: TempDir,
    pub(crate) client: Tls,
    /// The configuration for the library by itself, and for an origin behind a proxy. The server issues no tickets:
    /// no proxy resumes a session.
    pub(crate) server: Arc<ServerConfig>,
}

impl Certificate {
    pub(crate) fn make() -> Outcome<Self> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let directory = scratch()?;
        fs::write(directory.path().join("certificate.pem"), &certificate)?;
        fs::write(directory.path().join("key.pem"), &key)?;
        fs::write(directory.path().join("both.pem"), [certificate, key].concat())?;
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
        let provider = Arc::new(provider);
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone())?;
        let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], made.signing_key.into())?;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(Self { directory, client: Arc::new(client), server: Arc::new(server) })
    }

    pub(crate) fn certificate_file(&self) -> PathBuf {
        self.directory.path().join("certificate.pem")
    }

    /// The certificate and behind it its key.
    pub(crate) fn both_file(&self) -> PathBuf {
        self.directory.path().join("both.pem")
    }

    pub(crate) fn key_file(&self) -> PathBuf {
        self.directory.path().join("key.pem")
    }
}
