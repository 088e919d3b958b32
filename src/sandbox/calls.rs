//! The list of the system calls that a serving worker makes, and the seccomp filter made of it.
//!
//! A new system call of the worker belongs here; the end-to-end tests run under this list and show what is missing.

use super::Shared;
use libc::{c_int, c_long};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};
use std::collections::BTreeMap;
use std::os::fd::RawFd;

/// Allowed with any arguments.
const CALLS: &[c_long] = &[
    // Connections, bells, the worker channel and the log.
    libc::SYS_close,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_write,
    libc::SYS_writev,
    // A pipe or a terminal that others open blocking, as a log: the worker asks for room first.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
    // Memory; see below for what is mapped.
    libc::SYS_brk,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Clocks, where they are not read without a call; random numbers; locks that libraries use.
    libc::SYS_clock_gettime,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_gettimeofday,
    libc::SYS_sched_yield,
    // Signals, and how a process ends: by itself, by a panic, by a full stack.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
];

/// The counts that the worker asks of a socket's queues (`linux/sockios.h`). The first tells a terminal from other
/// logs. C libraries have different types for them.
#[allow(clippy::unnecessary_cast)]
const IOCTLS: [u64; 3] = [libc::TIOCOUTQ as u64, 0x894b, libc::FIONREAD as u64];

/// The last tells a pipe from other logs.
const FCNTLS: [c_int; 4] = [libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_GETPIPE_SZ];

/// The advice by which an allocator gives memory back.
const ADVICE: [c_int; 2] = [libc::MADV_DONTNEED, libc::MADV_FREE];

const STANDARD_STREAMS: [RawFd; 3] = [0, 1, 2];

/// Every call that is not on the list fails with `EPERM` from now on.
pub(super) fn deny_all_others(shared: &Shared) -> Result<(), seccompiler::Error> {
    apply_filter(&filter(shared)?)
}

fn filter(shared: &Shared) -> Result<BpfProgram, seccompiler::BackendError> {
    let is = |argument, value: u64| condition(argument, SeccompCmpOp::Eq, value);
    let lacks = |argument, bits: c_int| condition(argument, SeccompCmpOp::MaskedEq(word(bits)), 0);
    let has =
        |argument, bit: c_int| condition(argument, SeccompCmpOp::MaskedEq(word(bit)), word(bit));
    // Whether the descriptor in `argument` is this worker's alone.
    let own = |argument| {
        let all = STANDARD_STREAMS.iter().chain(&shared.fds).chain(&shared.log);
        let others = all.map(|fd| condition(argument, SeccompCmpOp::Ne, word(*fd)));
        others.collect::<Result<Vec<_>, _>>()
    };
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        CALLS.iter().map(|call| (*call, Vec::new())).collect();
    let mut allow = |call: c_long, conditions: Vec<SeccompCondition>| {
        let rule = SeccompRule::new(conditions)?;
        rules.entry(call).or_default().push(rule);
        Ok::<_, seccompiler::BackendError>(())
    };
    for request in IOCTLS {
        allow(libc::SYS_ioctl, vec![is(1, request & 0xffff_ffff)?])?;
    }
    for command in FCNTLS {
        allow(libc::SYS_fcntl, vec![is(1, word(command))?])?;
    }
    // Not F_SETFL: flags are shared with all who have the same listener or log. A write to the one must not wait, and
    // a write to the other goes to its end only (O_APPEND, which RWF_NOAPPEND would undo).
    allow(libc::SYS_pwritev2, vec![is(5, word(libc::RWF_NOWAIT))?])?;
    // Payload between a socket and a pipe. A splice(2) that waits, as on a terminal, keeps the pipe locked, and blocks
    // every other process that uses the pipe: the master reads news from one.
    allow(libc::SYS_splice, [own(0)?, own(2)?].concat())?;
    // A log that is replaced by another, under its number. A shared descriptor under another number would escape the
    // rules.
    if let Some(log) = shared.log {
        allow(libc::SYS_dup3, vec![is(1, word(log))?])?;
    }
    // Accepted sockets must be non-blocking: splice(2) on a blocking socket locks the pipe while it waits, and blocks
    // every other process that uses the pipe.
    allow(libc::SYS_accept4, vec![has(3, libc::SOCK_NONBLOCK)?])?;
    for advice in ADVICE {
        allow(libc::SYS_madvise, vec![is(2, word(advice))?])?;
    }
    // A listener that is shut for reading becomes a socket that could be connected, by its first bytes. The log may
    // be a socket that others share, and after a shutdown(2) they would not be heard any more.
    allow(libc::SYS_shutdown, [own(0)?, vec![is(1, word(libc::SHUT_WR))?]].concat())?;
    allow(libc::SYS_sendto, vec![lacks(3, libc::MSG_FASTOPEN)?])?;
    // Not sendmsg(2), which could send a descriptor to others that they have to close. The kernel has to drop what it
    // still holds of a connection that is given up. All connections inherit a listener's linger time, also those that
    // other workers accept, and closing one of them could then take for ever.
    let lingers = vec![is(1, word(libc::SOL_SOCKET))?, is(2, word(libc::SO_LINGER))?];
    allow(libc::SYS_setsockopt, [own(0)?, lingers].concat())?;
    // Memory of the worker's own, never executable.
    allow(libc::SYS_mmap, vec![lacks(2, libc::PROT_EXEC)?, has(3, libc::MAP_ANONYMOUS)?])?;
    allow(libc::SYS_mprotect, vec![lacks(2, libc::PROT_EXEC)?])?;
    // The worker sets its title.
    allow(libc::SYS_prctl, vec![is(0, word(libc::PR_SET_NAME))?])?;
    // An abort signals the process itself.
    allow(libc::SYS_tgkill, vec![is(0, word(nix::unistd::getpid().as_raw()))?])?;
    let refused = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let machine = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, refused, SeccompAction::Allow, machine)?.try_into()
}

fn condition(
    argument: u8,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, seccompiler::BackendError> {
    // All arguments are of 32 bits: the kernel reads no more, whatever stands above.
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
}

fn word(value: c_int) -> u64 {
    value.cast_unsigned().into()
}
