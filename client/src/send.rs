//! Sends a file or a stream: meets the receiver, offers it, seals and writes it, and waits for the confirmation.
//!
//! One thread reads and seals, one hears what the receiver says, and the caller's writes. Invariant: `Ok` means that the
//! receiver has the whole file under its name, and has checked it.

use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::Code;
use crate::blocks::{END, SealError, Sealing};
use crate::error::{ClientError, shown};
use crate::line::{Hearing, PATIENCE, Telling, shake};
use crate::offer::{Answer, Offer, Sent, Verdict};
use crate::pake::Side;
use crate::rendezvous::{RelayAddress, Waiting};

/// Blocks that are sealed before they are written: 2 MiB.
const BLOCKS_AHEAD: usize = 32;
/// The longest time until the other thread tells why the line broke.
const REASON_TIMEOUT: Duration = Duration::from_secs(5);

/// What is sent.
#[derive(Debug)]
pub struct Source {
    /// Absent: standard input.
    file: Option<Opened>,
    name: String,
}

/// A file, and what it was when it was offered.
#[derive(Debug)]
struct Opened {
    path: PathBuf,
    file: File,
    metadata: Metadata,
}

/// What the sender's threads have to say.
#[derive(Debug)]
enum Event {
    Block(Vec<u8>),
    /// The source is at its end.
    End(Sent),
    /// The source cannot be sent.
    Fault(ClientError),
    /// The receiver has said its last word, or left.
    Verdict(Result<Verdict, ClientError>),
}

impl Source {
    /// Opens a file. A folder, a device and a pipe are no files.
    pub fn file(path: &Path) -> Result<Self, ClientError> {
        let of = |source| ClientError::File { path: path.to_owned(), source };
        let unfit = |what| ClientError::Unfit { path: path.to_owned(), what };
        // A pipe without a writer would keep us here.
        if !std::fs::metadata(path).map_err(of)?.is_file() {
            return Err(unfit(
                "this is no file; a folder can be sent by: tar c FOLDER | idontstore send -",
            ));
        }
        let file = File::open(path).map_err(of)?;
        let metadata = file.metadata().map_err(of)?;
        let name = path.file_name().ok_or_else(|| unfit("this is no file"))?;
        let name = name.to_string_lossy().into_owned();
        Ok(Self { file: Some(Opened { path: path.to_owned(), file, metadata }), name })
    }

    /// Standard input, whose length is not known.
    #[must_use]
    pub fn stdin() -> Self {
        Self { file: None, name: "stdin".to_owned() }
    }

    fn bytes(&self) -> Option<u64> {
        self.file.as_ref().map(|it| it.metadata.len())
    }

    /// The file may have grown while its receiver was waited for.
    fn look_again(&mut self) -> Result<(), ClientError> {
        let Some(opened) = &mut self.file else { return Ok(()) };
        let of = |source| ClientError::File { path: opened.path.clone(), source };
        opened.metadata = opened.file.metadata().map_err(of)?;
        Ok(())
    }

    /// Seals it, and hands the blocks to `events`.
    fn seal(self, sealing: Sealing, events: &SyncSender<Event>) -> Result<Sent, ClientError> {
        let sink = |block| events.send(Event::Block(block)).is_ok();
        let sealed = match &self.file {
            Some(opened) => sealing.seal(&mut &opened.file, sink),
            None => sealing.seal(&mut io::stdin().lock(), sink),
        };
        let path = self.file.as_ref().map_or(Path::new("standard input"), |it| &it.path);
        let sent = sealed.map_err(|error| match error {
            SealError::Source(source) => ClientError::File { path: path.to_owned(), source },
            SealError::System => ClientError::System,
        })?;
        if self.file.as_ref().is_some_and(|it| !it.is_same(&sent)) {
            return Err(ClientError::Changed(path.to_owned()));
        }
        Ok(sent)
    }
}

impl Opened {
    /// Whether what was sent is the file as it was when it was offered.
    fn is_same(&self, sent: &Sent) -> bool {
        let before = &self.metadata;
        self.file.metadata().is_ok_and(|now| {
            let is_untouched = now.modified().ok() == before.modified().ok();
            is_untouched && now.len() == before.len() && sent.bytes == now.len()
        })
    }
}

/// A file that waits for its receiver.
#[derive(Debug)]
pub struct Sender {
    waiting: Waiting,
    code: Code,
    source: Source,
}

impl Sender {
    /// Asks the relay for a session.
    pub fn register(relay: &RelayAddress, source: Source) -> Result<Self, ClientError> {
        let waiting = Waiting::register(relay)?;
        let code = Code::draw(waiting.key()).map_err(|_| ClientError::System)?;
        // The receiver types it as a word, and a word that begins with a dash is an option.
        let is_word = !waiting.key().starts_with('-');
        match Code::parse(&code.to_string()) {
            Ok(read) if read == code && is_word => Ok(Self { waiting, code, source }),
            _ => Err(ClientError::NoRelay),
        }
    }

    /// The code, for a person to pass on.
    #[must_use]
    pub fn code(&self) -> &Code {
        &self.code
    }

    /// The time within which the receiver has to come.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        self.waiting.lifetime()
    }

    /// Waits for the receiver, and sends. Returns the bytes of the file.
    pub fn send(self) -> Result<u64, ClientError> {
        let Self { waiting, code, mut source } = self;
        let stream = waiting.peer()?;
        let (mut telling, mut hearing) = shake(stream, Side::Sender, &code.password())?;
        let sealing = Sealing::draw()?;
        source.look_again()?;
        telling.tell(&Offer {
            name: source.name.clone(),
            bytes: source.bytes(),
            identity: sealing.identity(),
        })?;
        match hearing.hear(Some(PATIENCE))? {
            Answer::Accepted => {}
            Answer::Refused(why) => return Err(ClientError::Refused(shown(&why))),
        }
        let (to, events) = sync_channel(BLOCKS_AHEAD);
        let verdict = to.clone();
        // Neither is waited for: the one may read from a terminal, and the other ends with the line.
        thread::spawn(move || {
            let sealed = source.seal(sealing, &to);
            let _ = to.send(sealed.map_or_else(Event::Fault, Event::End));
        });
        thread::spawn(move || {
            let heard = hear_verdict(&mut hearing);
            let _ = verdict.send(Event::Verdict(heard));
        });
        write(&mut telling, &events)
    }
}

/// Waits for the receiver's last word. Any word but a confirmation ends the line, so nobody waits to write.
fn hear_verdict(hearing: &mut Hearing) -> Result<Verdict, ClientError> {
    let heard = hearing.hear(None);
    if !matches!(heard, Ok(Verdict::Confirmed)) {
        cut(hearing.line.get_ref());
    }
    heard
}

/// Writes what the threads have until the receiver has said its last word.
fn write(telling: &mut Telling, events: &Receiver<Event>) -> Result<u64, ClientError> {
    let mut sent_bytes = None;
    loop {
        let written = match events.recv().map_err(|_| ClientError::System)? {
            Event::Block(block) => telling.stream.write_all(&block).map_err(ClientError::line),
            Event::End(sent) => {
                sent_bytes = Some(sent.bytes);
                let ended = telling.stream.write_all(&END).map_err(ClientError::line);
                let told = ended.and_then(|()| telling.tell(&sent));
                telling.finish();
                told
            }
            Event::Fault(error) => {
                cut(&telling.stream);
                return Err(error);
            }
            Event::Verdict(Ok(Verdict::Confirmed)) => match sent_bytes {
                Some(bytes) => return Ok(bytes),
                None => {
                    cut(&telling.stream);
                    return Err(ClientError::Forged("a confirmation before the end".to_owned()));
                }
            },
            Event::Verdict(Ok(Verdict::Failed(why))) => {
                return Err(ClientError::Failed(shown(&why)));
            }
            Event::Verdict(Err(error)) => return Err(error),
        };
        if let Err(error) = written {
            return Err(reason(events, error));
        }
    }
}

/// The receiver's word if there is one, since it says more than a broken line.
fn reason(events: &Receiver<Event>, error: ClientError) -> ClientError {
    let ends = Instant::now() + REASON_TIMEOUT;
    loop {
        match events.recv_timeout(ends.saturating_duration_since(Instant::now())) {
            Ok(Event::Verdict(Ok(Verdict::Failed(why)))) => {
                return ClientError::Failed(shown(&why));
            }
            Ok(Event::Verdict(Err(forged @ ClientError::Forged(_)))) => return forged,
            Ok(Event::Verdict(_)) | Err(_) => return error,
            Ok(_) if Instant::now() >= ends => return error,
            Ok(_) => {}
        }
    }
}

fn cut(stream: &TcpStream) {
    let _ = stream.shutdown(Shutdown::Both);
}
