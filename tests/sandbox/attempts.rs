//! Attempts that a process could make once a stranger controls it: each as one bare system call, since what a library
//! makes of it is not what is asked. Where nothing refuses them, they fail for another reason or do no harm.

use std::ffi::{CString, c_long};
use std::fs::File;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::ptr::{null, null_mut};

use idontstore::sandbox::Shared;
use libc::{AT_FDCWD, syscall};
use tempfile::TempDir;

/// An attempt: gives less than zero, and an errno, where it failed.
pub(crate) struct Attempt {
    pub(crate) name: &'static str,
    /// A free process needs to be root for it.
    pub(crate) takes_root: bool,
    /// There are machines, and containers, where nobody may.
    pub(crate) machine_may_refuse: bool,
    pub(crate) make: fn(&Stage) -> c_long,
}

/// Files and sockets to make attempts on. All of it is gone when this is.
pub(crate) struct Stage {
    file: CString,
    new: CString,
    directory: CString,
    open_file: File,
    open_directory: File,
    /// Written at its end alone.
    log: File,
    listener: TcpListener,
    /// A socket that other processes write to as well.
    shared: UnixStream,
    /// Neither bound nor connected.
    socket: OwnedFd,
    /// Writable memory.
    page: *mut libc::c_void,
    /// A child of the test: not of the process that tries.
    victim: Child,
    victim_fd: OwnedFd,
    _kept: TempDir,
}

const PAGE_BYTES: usize = 4096;

impl Stage {
    pub(crate) fn set() -> Self {
        // Where everybody may write, so that it is not the directory that refuses.
        let kept = tempfile::tempdir().unwrap();
        let all = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(kept.path(), all).unwrap();
        let path = |name| CString::new(kept.path().join(name).into_os_string().into_vec()).unwrap();
        let (file, new, directory) = (path("file"), path("new"), path(""));
        std::fs::write(kept.path().join("file"), "text").unwrap();
        let all = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        std::fs::set_permissions(kept.path().join("file"), all).unwrap();
        let victim = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        // SAFETY: numbers in, a descriptor or -1 out; and memory of nobody else's.
        let (victim_fd, socket, page) = unsafe {
            let victim_fd = syscall(libc::SYS_pidfd_open, victim.id(), 0);
            let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
            let (rights, flags) = (libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            let page = libc::mmap(null_mut(), PAGE_BYTES, rights, flags, -1, 0);
            let victim_fd = RawFd::try_from(victim_fd).unwrap();
            assert!(victim_fd >= 0 && socket >= 0 && page != libc::MAP_FAILED);
            (OwnedFd::from_raw_fd(victim_fd), OwnedFd::from_raw_fd(socket), page)
        };
        Self {
            open_file: File::open(kept.path().join("file")).unwrap(),
            open_directory: File::open(kept.path()).unwrap(),
            log: File::options().append(true).open(kept.path().join("file")).unwrap(),
            listener: TcpListener::bind("127.0.0.1:0").unwrap(),
            shared: UnixStream::pair().unwrap().0,
            file,
            new,
            directory,
            socket,
            page,
            victim,
            victim_fd,
            _kept: kept,
        }
    }

    /// The part that other processes have, too.
    pub(crate) fn shared(&self) -> Shared {
        let fds = vec![self.listener.as_raw_fd(), self.shared.as_raw_fd()];
        Shared { fds, log: Some(self.log.as_raw_fd()) }
    }

    fn victim(&self) -> libc::pid_t {
        self.victim.id().cast_signed()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.victim.kill();
        let _ = self.victim.wait();
        // SAFETY: mapped by `set`, and nobody has it any more.
        unsafe { libc::munmap(self.page, PAGE_BYTES) };
    }
}

/// The end of a process that an attempt has made.
fn leave_if_born(made: c_long) -> c_long {
    if made == 0 {
        // SAFETY: the new process ends here, as it was not to be.
        unsafe { libc::_exit(0) }
    }
    made
}

fn socket(family: libc::c_int) -> c_long {
    // SAFETY: numbers alone.
    unsafe { syscall(libc::SYS_socket, family, libc::SOCK_DGRAM, 0) }
}

fn open(path: &CString, flags: libc::c_int) -> c_long {
    // SAFETY: the path lives through the call.
    unsafe { syscall(libc::SYS_openat, AT_FDCWD, path.as_ptr(), flags, 0o600) }
}

fn loopback(port: u16) -> libc::sockaddr_in {
    // SAFETY: all zeros is an address.
    let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    address.sin_family = u16::try_from(libc::AF_INET).unwrap();
    address.sin_port = port.to_be();
    address.sin_addr.s_addr = u32::from(std::net::Ipv4Addr::LOCALHOST).to_be();
    address
}

fn connect(stage: &Stage) -> c_long {
    let address = loopback(stage.listener.local_addr().unwrap().port());
    let bytes = size_of_val(&address);
    // SAFETY: the address lives through the call.
    unsafe { syscall(libc::SYS_connect, stage.socket.as_raw_fd(), &raw const address, bytes) }
}

fn connect_by_first_bytes(stage: &Stage) -> c_long {
    let address = loopback(stage.listener.local_addr().unwrap().port());
    let (fd, flags) = (stage.socket.as_raw_fd(), libc::MSG_FASTOPEN | libc::MSG_DONTWAIT);
    let (text, bytes) = (c"text".as_ptr(), size_of_val(&address));
    // SAFETY: text and address live through the call.
    unsafe { syscall(libc::SYS_sendto, fd, text, 4, flags, &raw const address, bytes) }
}

fn connect_by_first_message(stage: &Stage) -> c_long {
    let mut address = loopback(stage.listener.local_addr().unwrap().port());
    let mut part = libc::iovec { iov_base: c"text".as_ptr().cast_mut().cast(), iov_len: 4 };
    // SAFETY: all zeros is a message of nothing to nobody.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = (&raw mut address).cast();
    message.msg_namelen = u32::try_from(size_of_val(&address)).unwrap();
    (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
    let flags = libc::MSG_FASTOPEN | libc::MSG_DONTWAIT;
    // SAFETY: all that the message leads to lives through the call.
    unsafe { syscall(libc::SYS_sendmsg, stage.socket.as_raw_fd(), &raw const message, flags) }
}

fn send_a_descriptor(stage: &Stage) -> c_long {
    let mut part = libc::iovec { iov_base: c"text".as_ptr().cast_mut().cast(), iov_len: 4 };
    let mut room = [0u64; 8];
    let fd = stage.socket.as_raw_fd();
    // SAFETY: all zeros is a message of nothing to nobody; the room is large enough for a header and a number.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
        message.msg_control = (&raw mut room).cast();
        message.msg_controllen = libc::CMSG_SPACE(4).try_into().unwrap();
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(4).try_into().unwrap();
        libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(fd);
        let (to, flags) = (stage.shared.as_raw_fd(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
        syscall(libc::SYS_sendmsg, to, &raw const message, flags)
    }
}

/// Bytes at the beginning of a log, which is there to be written at its end.
fn write_over_the_log(stage: &Stage) -> c_long {
    /// `linux/fs.h`, since Linux 6.9.
    const RWF_NOAPPEND: libc::c_int = 0x20;
    let part = libc::iovec { iov_base: c"TEXT".as_ptr().cast_mut().cast(), iov_len: 4 };
    // SAFETY: the part lives through the call, and is only read.
    unsafe {
        let fd = stage.log.as_raw_fd();
        syscall(libc::SYS_pwritev2, fd, &raw const part, 1, 0, 0, RWF_NOAPPEND)
    }
}

fn bind(stage: &Stage) -> c_long {
    let address = loopback(0);
    let bytes = size_of_val(&address);
    // SAFETY: the address lives through the call.
    unsafe { syscall(libc::SYS_bind, stage.socket.as_raw_fd(), &raw const address, bytes) }
}

fn set_option(stage: &Stage, level: libc::c_int, name: libc::c_int) -> c_long {
    let value = 0;
    let (fd, bytes) = (stage.socket.as_raw_fd(), size_of_val(&value));
    // SAFETY: the value lives through the call, and is too short for what is longer.
    unsafe { syscall(libc::SYS_setsockopt, fd, level, name, &raw const value, bytes) }
}

fn map(rights: libc::c_int, fd: RawFd) -> c_long {
    let anonymous = if fd < 0 { libc::MAP_ANONYMOUS } else { 0 };
    let (at, bytes, flags) = (null_mut::<u8>(), PAGE_BYTES, libc::MAP_PRIVATE | anonymous);
    // SAFETY: memory that nobody has.
    unsafe { syscall(libc::SYS_mmap, at, bytes, rights, flags, fd, 0) }
}

const NOWHERE: *const libc::c_char = c"/nonexistent".as_ptr();
const EXECUTABLE: libc::c_int = libc::PROT_READ | libc::PROT_EXEC;

/// Attempts that any process may make.
const fn anybody(name: &'static str, make: fn(&Stage) -> c_long) -> Attempt {
    Attempt { name, takes_root: false, machine_may_refuse: false, make }
}

/// Attempts that root may make.
const fn root(name: &'static str, make: fn(&Stage) -> c_long) -> Attempt {
    Attempt { name, takes_root: true, machine_may_refuse: false, make }
}

/// Attempts that not even root may make everywhere.
const fn maybe(name: &'static str, make: fn(&Stage) -> c_long) -> Attempt {
    Attempt { name, takes_root: true, machine_may_refuse: true, make }
}

// SAFETY of all of them: pointers are null, or lead to what lives as long as the stage; numbers that are
// wrong make the kernel fail, not us.
macro_rules! call {
    ($name:ident $(, $argument:expr)*) => {
        // SAFETY: see above.
        unsafe { syscall(libc::$name $(, $argument)*) }
    };
}

pub(crate) const ALL: &[Attempt] = &[
    // Files.
    anybody("open to read", |it| open(&it.file, libc::O_RDONLY)),
    anybody("open to write", |it| open(&it.file, libc::O_WRONLY)),
    anybody("open to make", |it| open(&it.new, libc::O_WRONLY | libc::O_CREAT)),
    anybody("open without a name", |it| open(&it.directory, libc::O_WRONLY | libc::O_TMPFILE)),
    anybody("open a place", |it| open(&it.file, libc::O_PATH)),
    anybody("openat2", |it| {
        let how = [0u64; 3];
        call!(SYS_openat2, AT_FDCWD, it.file.as_ptr(), &raw const how, size_of_val(&how))
    }),
    maybe("open_by_handle_at", |it| {
        call!(SYS_open_by_handle_at, it.open_directory.as_raw_fd(), null::<u8>(), libc::O_RDONLY)
    }),
    anybody("read the open directory", |it| {
        call!(SYS_getdents64, it.open_directory.as_raw_fd(), it.page, 0)
    }),
    anybody("stat", |it| {
        let mut found = [0u64; 64];
        call!(SYS_newfstatat, AT_FDCWD, it.file.as_ptr(), &raw mut found, 0)
    }),
    anybody("statx", |it| {
        let mut found = [0u64; 64];
        call!(SYS_statx, AT_FDCWD, it.file.as_ptr(), 0, libc::STATX_BASIC_STATS, &raw mut found)
    }),
    anybody("faccessat", |it| call!(SYS_faccessat, AT_FDCWD, it.file.as_ptr(), libc::R_OK)),
    anybody("readlinkat", |it| {
        let mut found = [0u8; 64];
        call!(SYS_readlinkat, AT_FDCWD, it.file.as_ptr(), &raw mut found, found.len())
    }),
    anybody("mkdirat", |it| call!(SYS_mkdirat, AT_FDCWD, it.new.as_ptr(), 0o700)),
    anybody("rmdir", |it| call!(SYS_unlinkat, AT_FDCWD, it.new.as_ptr(), libc::AT_REMOVEDIR)),
    anybody("symlinkat", |it| call!(SYS_symlinkat, it.file.as_ptr(), AT_FDCWD, it.new.as_ptr())),
    anybody("linkat", |it| {
        call!(SYS_linkat, AT_FDCWD, it.file.as_ptr(), AT_FDCWD, it.new.as_ptr(), 0)
    }),
    anybody("mknodat", |it| {
        call!(SYS_mknodat, AT_FDCWD, it.new.as_ptr(), libc::S_IFIFO | 0o600, 0)
    }),
    anybody("fchmodat", |it| call!(SYS_fchmodat, AT_FDCWD, it.file.as_ptr(), 0o666)),
    anybody("truncate", |it| call!(SYS_truncate, it.file.as_ptr(), 0)),
    anybody("ftruncate", |it| call!(SYS_ftruncate, it.open_file.as_raw_fd(), 0)),
    anybody("chdir", |it| call!(SYS_chdir, it.directory.as_ptr())),
    anybody("renameat2", |it| {
        call!(SYS_renameat2, AT_FDCWD, it.file.as_ptr(), AT_FDCWD, it.file.as_ptr(), 0)
    }),
    anybody("unlinkat", |it| call!(SYS_unlinkat, AT_FDCWD, it.file.as_ptr(), 0)),
    anybody("memfd_create", |_| call!(SYS_memfd_create, c"memory".as_ptr(), 0)),
    anybody("inotify_init1", |_| call!(SYS_inotify_init1, 0)),
    // Bytes from one descriptor to another.
    anybody("vmsplice", |_| call!(SYS_vmsplice, -1, null::<u8>(), 0, 0)),
    anybody("tee", |_| call!(SYS_tee, -1, -1, 0, 0)),
    anybody("sendfile", |_| call!(SYS_sendfile, -1, -1, null::<u8>(), 0)),
    anybody("copy_file_range", |_| {
        call!(SYS_copy_file_range, -1, null::<u8>(), -1, null::<u8>(), 0, 0)
    }),
    anybody("pipe2", |_| {
        let mut pipe = [0; 2];
        call!(SYS_pipe2, &raw mut pipe, 0)
    }),
    anybody("another size of a pipe", |_| call!(SYS_fcntl, -1, libc::F_SETPIPE_SZ, PAGE_BYTES)),
    // Programs and processes.
    anybody("execve", |_| call!(SYS_execve, NOWHERE, null::<u8>(), null::<u8>())),
    anybody("execve what is open", |it| {
        let (fd, name) = (it.open_directory.as_raw_fd(), c"missing".as_ptr());
        call!(SYS_execveat, fd, name, null::<u8>(), null::<u8>(), 0)
    }),
    anybody("fork", |_| leave_if_born(call!(SYS_clone, libc::SIGCHLD, 0, 0, 0, 0))),
    anybody("clone3", |_| call!(SYS_clone3, null::<u8>(), 0)),
    anybody("unshare", |_| call!(SYS_unshare, 0)),
    anybody("setns", |_| call!(SYS_setns, -1, 0)),
    anybody("kill", |it| call!(SYS_kill, it.victim(), 0)),
    anybody("tgkill another", |it| call!(SYS_tgkill, it.victim(), it.victim(), 0)),
    anybody("pidfd_open", |it| call!(SYS_pidfd_open, it.victim(), 0)),
    anybody("pidfd_send_signal", |it| {
        call!(SYS_pidfd_send_signal, it.victim_fd.as_raw_fd(), 0, null::<u8>(), 0)
    }),
    root("pidfd_getfd", |it| call!(SYS_pidfd_getfd, it.victim_fd.as_raw_fd(), 0, 0)),
    anybody("ptrace", |it| call!(SYS_ptrace, libc::PTRACE_PEEKDATA, it.victim(), 0, 0)),
    root("process_vm_readv", |it| {
        call!(SYS_process_vm_readv, it.victim(), null::<u8>(), 0, null::<u8>(), 0, 0)
    }),
    root("process_vm_writev", |it| {
        call!(SYS_process_vm_writev, it.victim(), null::<u8>(), 0, null::<u8>(), 0, 0)
    }),
    // Sockets.
    anybody("socket AF_INET", |_| socket(libc::AF_INET)),
    anybody("socket AF_INET6", |_| socket(libc::AF_INET6)),
    anybody("socket AF_UNIX", |_| socket(libc::AF_UNIX)),
    anybody("socket AF_NETLINK", |_| socket(libc::AF_NETLINK)),
    root("socket AF_PACKET", |_| socket(libc::AF_PACKET)),
    anybody("socketpair", |_| {
        let mut pair = [0; 2];
        call!(SYS_socketpair, libc::AF_UNIX, libc::SOCK_STREAM, 0, &raw mut pair)
    }),
    anybody("bind", bind),
    anybody("listen", |it| call!(SYS_listen, it.socket.as_raw_fd(), 1)),
    anybody("connect", connect),
    anybody("connect by first bytes", connect_by_first_bytes),
    anybody("connect by a first message", connect_by_first_message),
    anybody("shut a listener", |stage| {
        // SAFETY: numbers alone.
        unsafe { syscall(libc::SYS_shutdown, stage.listener.as_raw_fd(), libc::SHUT_RDWR) }
    }),
    anybody("make others wait in a listener", |stage| {
        // SAFETY: numbers alone.
        unsafe { syscall(libc::SYS_fcntl, stage.listener.as_raw_fd(), libc::F_SETFL, 0) }
    }),
    anybody("accept a socket that waits", |stage| {
        let nobody = std::ptr::null::<libc::sockaddr>();
        // SAFETY: the address is not asked for. A file is no listener, so the kernel does not wait.
        unsafe { syscall(libc::SYS_accept4, stage.open_file.as_raw_fd(), nobody, nobody, 0) }
    }),
    anybody("make others wait, otherwise", |stage| {
        let off = 0;
        // SAFETY: the number lives through the call.
        unsafe {
            syscall(libc::SYS_ioctl, stage.listener.as_raw_fd(), libc::FIONBIO, &raw const off)
        }
    }),
    anybody("write a log anywhere", |it| {
        call!(SYS_fcntl, it.log.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK)
    }),
    anybody("write over a log", write_over_the_log),
    anybody("send a descriptor", send_a_descriptor),
    anybody("let others linger", |it| {
        let linger = libc::linger { l_onoff: 1, l_linger: 1 };
        let (fd, bytes) = (it.listener.as_raw_fd(), size_of_val(&linger));
        call!(SYS_setsockopt, fd, libc::SOL_SOCKET, libc::SO_LINGER, &raw const linger, bytes)
    }),
    anybody("delay what others send", |it| set_option(it, libc::IPPROTO_TCP, libc::TCP_NODELAY)),
    anybody("let others give up early", |it| {
        set_option(it, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT)
    }),
    anybody("let nobody be heard any more", |it| {
        call!(SYS_shutdown, it.shared.as_raw_fd(), libc::SHUT_WR)
    }),
    anybody("hold a pipe that others use", |it| {
        let (from, flags) = (it.shared.as_raw_fd(), libc::SPLICE_F_NONBLOCK);
        call!(SYS_splice, from, null::<u8>(), -1, null::<u8>(), 1, flags)
    }),
    anybody("hold what others wait for", |it| {
        let (to, flags) = (it.shared.as_raw_fd(), libc::SPLICE_F_NONBLOCK);
        call!(SYS_splice, -1, null::<u8>(), to, null::<u8>(), 1, flags)
    }),
    anybody("hide what others have", |it| {
        const UNUSED: RawFd = 999;
        call!(SYS_dup3, it.listener.as_raw_fd(), UNUSED, libc::O_CLOEXEC)
    }),
    anybody("a filter on a socket", |it| set_option(it, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER)),
    anybody("another protocol on a socket", |it| set_option(it, libc::IPPROTO_TCP, libc::TCP_ULP)),
    anybody("ioctl of a terminal", |it| {
        call!(SYS_ioctl, it.open_file.as_raw_fd(), libc::TIOCSTI, null::<u8>())
    }),
    anybody("fcntl F_SETOWN", |it| call!(SYS_fcntl, it.listener.as_raw_fd(), libc::F_SETOWN, 0)),
    // Memory.
    anybody("mmap a program", |_| map(EXECUTABLE, -1)),
    anybody("mmap a file", |it| map(libc::PROT_READ, it.open_file.as_raw_fd())),
    anybody("mprotect a program", |it| call!(SYS_mprotect, it.page, PAGE_BYTES, EXECUTABLE)),
    anybody("pkey_mprotect a program", |it| {
        call!(SYS_pkey_mprotect, it.page, PAGE_BYTES, EXECUTABLE, -1)
    }),
    maybe("userfaultfd", |_| call!(SYS_userfaultfd, -1)),
    // Privileges.
    root("setresuid back", |_| call!(SYS_setresuid, 0, 0, 0)),
    root("setgroups", |_| call!(SYS_setgroups, 0, null::<u8>())),
    anybody("capset", |_| call!(SYS_capset, null::<u8>(), null::<u8>())),
    anybody("prctl PR_SET_DUMPABLE", |_| call!(SYS_prctl, libc::PR_SET_DUMPABLE, 1, 0, 0, 0)),
    anybody("prctl PR_SET_PDEATHSIG", |_| call!(SYS_prctl, libc::PR_SET_PDEATHSIG, 0, 0, 0, 0)),
    anybody("prlimit64", |_| {
        call!(SYS_prlimit64, 0, libc::RLIMIT_CORE, null::<u8>(), null::<u8>())
    }),
    anybody("personality", |_| call!(SYS_personality, 0xffff_ffff_u32)),
    anybody("seccomp", |_| call!(SYS_seccomp, 99, 0, null::<u8>())),
    // The machine.
    root("mount", |_| call!(SYS_mount, NOWHERE, NOWHERE, null::<u8>(), 0, null::<u8>())),
    root("umount2", |_| call!(SYS_umount2, NOWHERE, 0)),
    root("pivot_root", |_| call!(SYS_pivot_root, NOWHERE, NOWHERE)),
    root("chroot", |_| call!(SYS_chroot, NOWHERE)),
    maybe("swapon", |_| call!(SYS_swapon, NOWHERE, 0)),
    maybe("reboot", |_| call!(SYS_reboot, 0, 0, 0, null::<u8>())),
    root("sethostname", |_| call!(SYS_sethostname, null::<u8>(), -1)),
    maybe("clock_settime", |_| call!(SYS_clock_settime, libc::CLOCK_REALTIME, null::<u8>())),
    maybe("init_module", |_| call!(SYS_init_module, null::<u8>(), 0, c"".as_ptr())),
    maybe("finit_module", |_| call!(SYS_finit_module, -1, c"".as_ptr(), 0)),
    maybe("delete_module", |_| call!(SYS_delete_module, c"nonexistent".as_ptr(), 0)),
    maybe("bpf", |_| call!(SYS_bpf, 0, null::<u8>(), 0)),
    maybe("perf_event_open", |_| call!(SYS_perf_event_open, null::<u8>(), 0, 0, -1, 0)),
    maybe("io_uring_setup", |_| call!(SYS_io_uring_setup, 1, null::<u8>())),
    maybe("keyctl", |_| call!(SYS_keyctl, 0, -1, 0)),
    maybe("add_key", |_| call!(SYS_add_key, null::<u8>(), null::<u8>(), null::<u8>(), 0, 0)),
    #[cfg(target_arch = "x86_64")]
    root("iopl", |_| call!(SYS_iopl, 0)),
    #[cfg(target_arch = "x86_64")]
    root("ioperm", |_| call!(SYS_ioperm, 0, 1, 0)),
];
