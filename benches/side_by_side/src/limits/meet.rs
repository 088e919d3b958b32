//! *meet*: the barest relay in one process. The process pairs a `PUT` and a `GET` of the same path, passes the body
//! on and answers both; connections are kept alive. The parser knows one way to write a request, no chunked body, no
//! deadline and no error: at anything else it closes the connection.

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

const REQUEST_BYTES_MAX: usize = 16 << 10;
const EVENTS_MAX: usize = 64;
const LISTENER: u64 = u64::MAX;
const DONE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

struct Client {
    socket: TcpStream,
    /// A request as far as it has come.
    request: Vec<u8>,
}

/// The client that waits for the other side of a path.
enum Waiting {
    Receiver(u64),
    Sender(u64, Vec<u8>),
}

struct Meet {
    epoll: Epoll,
    clients: HashMap<u64, Client>,
    waiting: HashMap<Vec<u8>, Waiting>,
    next: u64,
}

pub(super) fn serve(listener: &TcpListener, ready: impl Fn()) -> io::Result<Infallible> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    listener.set_nonblocking(true)?;
    epoll.add(listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
    let mut meet = Meet { epoll, clients: HashMap::new(), waiting: HashMap::new(), next: 0 };
    let (mut events, mut buffer) = ([EpollEvent::empty(); EVENTS_MAX], [0; REQUEST_BYTES_MAX]);
    ready();
    loop {
        let count = meet.epoll.wait(&mut events, EpollTimeout::NONE)?;
        for event in &events[..count] {
            if event.data() == LISTENER {
                meet.accept(listener)?;
            } else if meet.read(event.data(), &mut buffer).is_none() {
                meet.leave(event.data());
            }
        }
    }
}

impl Meet {
    fn accept(&mut self, listener: &TcpListener) -> io::Result<()> {
        while let Ok((socket, _)) = listener.accept() {
            socket.set_nonblocking(true)?;
            socket.set_nodelay(true)?;
            self.epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, self.next))?;
            self.clients.insert(self.next, Client { socket, request: Vec::new() });
            self.next += 1;
        }
        Ok(())
    }

    /// The socket leaves epoll as it is closed.
    fn leave(&mut self, id: u64) {
        self.clients.remove(&id);
        self.waiting.retain(|_, who| match who {
            Waiting::Receiver(waiting) | Waiting::Sender(waiting, _) => *waiting != id,
        });
    }

    /// `None`: the connection is over.
    fn read(&mut self, id: u64, buffer: &mut [u8]) -> Option<()> {
        let client = self.clients.get_mut(&id)?;
        let bytes = client.socket.read(buffer).ok().filter(|bytes| *bytes > 0)?;
        client.request.extend_from_slice(&buffer[..bytes]);
        let Some(head) = client.request.windows(4).position(|it| it == b"\r\n\r\n") else {
            return (client.request.len() < REQUEST_BYTES_MAX).then_some(());
        };
        let (head, body) = (std::str::from_utf8(&client.request[..head]).ok()?, head + 4);
        let mut words = head.split(' ');
        let (method, path) = (words.next()?, words.next()?.as_bytes().to_vec());
        if method == "GET" {
            client.request.clear();
            return self.receiver(id, path);
        }
        let length =
            head.split("Content-Length: ").nth(1)?.split('\r').next()?.parse::<usize>().ok()?;
        if client.request.len() < body + length {
            return Some(());
        }
        let body = client.request.split_off(body);
        client.request.clear();
        self.sender(id, path, body)
    }

    fn receiver(&mut self, id: u64, path: Vec<u8>) -> Option<()> {
        if let Some(Waiting::Sender(sender, body)) = self.waiting.remove(&path) {
            return self.pass(sender, id, &body);
        }
        self.waiting.insert(path, Waiting::Receiver(id));
        Some(())
    }

    fn sender(&mut self, id: u64, path: Vec<u8>, body: Vec<u8>) -> Option<()> {
        if let Some(Waiting::Receiver(receiver)) = self.waiting.remove(&path) {
            return self.pass(id, receiver, &body);
        }
        self.waiting.insert(path, Waiting::Sender(id, body));
        Some(())
    }

    /// A socket's buffer has room for both: bodies are small.
    fn pass(&mut self, sender: u64, receiver: u64, body: &[u8]) -> Option<()> {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        let answer = [head.as_bytes(), body].concat();
        self.clients.get_mut(&receiver)?.socket.write_all(&answer).ok()?;
        self.clients.get_mut(&sender)?.socket.write_all(DONE).ok()
    }
}
