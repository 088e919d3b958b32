//! The kernel's view of a client's socket: its queues, its acknowledgements, its memory.

use super::Socket;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// The bytes of a socket's queue that were never sent (`linux/sockios.h`).
const SIOCOUTQNSD: libc::Ioctl = 0x894b;

/// The state of a connection whose handshake is not over (`net/tcp_states.h`).
const TCP_SYN_RECV: u8 = 3;

/// Where `tcpi_last_ack_recv` ends in `struct tcp_info` (`linux/tcp.h`), in bytes.
const LAST_ACK_ENDS: usize = 60;

/// Counts that `SO_MEMINFO` gives (`linux/sock_diag.h`): the first is the memory that what was received
/// takes, the second its limit.
const SK_MEMINFO_VARS: usize = 9;

impl Socket {
    /// Bytes that we wrote and the client's TCP has not acknowledged: in flight or still unsent.
    #[must_use]
    pub fn unacknowledged(&self) -> u64 {
        // The kernel says 0 until the handshake is over, whatever was sent (`tcp_ioctl` in `net/ipv4/tcp.c`).
        if !self.is_established() {
            return u64::MAX;
        }
        match self.count(libc::TIOCOUTQ) {
            // Our FIN takes a sequence number of its own, the last one.
            Some(bytes) => bytes.saturating_sub(u64::from(self.shut)),
            // The kernel does not tell: count nothing as acknowledged, so that no count is too high.
            None => u64::MAX,
        }
    }

    /// Whether the handshake is over. TCP Fast Open accepts a connection before that. Once it is over, the kernel is
    /// not asked again.
    fn is_established(&self) -> bool {
        if !self.established.get() {
            // A kernel that does not tell the state has no TCP Fast Open.
            self.established.set(self.state().is_none_or(|state| state != TCP_SYN_RECV));
        }
        self.established.get()
    }

    /// The connection's state, as the kernel numbers them; `None` where it does not tell.
    fn state(&self) -> Option<u8> {
        // The first byte is `tcpi_state`.
        self.info().map(|[state]| state)
    }

    /// The first bytes of what TCP_INFO gives (`struct tcp_info` in `linux/tcp.h`); `None` where the kernel has fewer.
    fn info<const N: usize>(&self) -> Option<[u8; N]> {
        let mut info = [0u8; N];
        let mut bytes = libc::socklen_t::try_from(N).ok()?;
        // SAFETY: TCP_INFO writes at most so many bytes as it is told, into a buffer that outlives the call.
        let done = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                info.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        (done == 0 && bytes as usize == N).then_some(info)
    }

    /// Whether the client's machine has acknowledged nothing for `silence`, though the kernel has asked at least
    /// `times` in a row: by sending bytes again, or by probing a closed window. A machine that lives answers those,
    /// however long its program stands still. (`TCP_USER_TIMEOUT` would also end a closed window that is answered.)
    #[must_use]
    pub fn is_lost(&self, silence: Duration, times: u32) -> bool {
        // `tcpi_retransmits`, `tcpi_probes`, and `tcpi_last_ack_recv` in milliseconds.
        let info: Option<[u8; LAST_ACK_ENDS]> = self.info();
        let Some([_, _, resent, probes, .., a, b, c, d]) = info else { return false };
        let since = Duration::from_millis(u32::from_ne_bytes([a, b, c, d]).into());
        u32::from(resent.max(probes)) >= times && since >= silence
    }

    /// The unsent bytes among those: the client's window or the line has no room.
    #[must_use]
    pub fn unsent(&self) -> u64 {
        self.count(SIOCOUTQNSD).unwrap_or(0)
    }

    /// Asks the socket for a count of bytes. `None` where it does not tell.
    fn count(&self, what: libc::Ioctl) -> Option<u64> {
        let mut bytes: libc::c_int = 0;
        // SAFETY: the three counts of a socket's queues write one int, which lives through the call.
        let done =
            unsafe { libc::ioctl(self.socket.as_raw_fd(), what, std::ptr::from_mut(&mut bytes)) };
        u64::try_from(bytes).ok().filter(|_| done == 0)
    }

    /// Bytes that have come and are unread, as the kernel counts them.
    #[must_use]
    pub fn unread(&self) -> u64 {
        self.count(libc::FIONREAD).unwrap_or(0)
    }

    /// Whether so many bytes are unread that the kernel may take no more: then a FIN behind them stays unseen.
    #[must_use]
    pub fn is_backed_up(&self) -> bool {
        let mut info = [0u32; SK_MEMINFO_VARS];
        let mut bytes = libc::socklen_t::try_from(size_of_val(&info)).unwrap_or(0);
        // SAFETY: SO_MEMINFO writes at most so many bytes as it is told, into words that live through
        // the call.
        let done = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_MEMINFO,
                info.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let [used, limit, ..] = info;
        // The window closes before all is used up: below one segment, which may be half of it.
        done == 0 && used >= limit / 2
    }
}
