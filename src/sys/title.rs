//! The titles of master and workers in `ps`.
//!
//! Linux shows the memory where the arguments were put at exec. A title is written over them and,
//! as it is longer, over the environment behind them, which is moved away first.

use std::ffi::CString;
use std::sync::OnceLock;

/// The memory of arguments and environment: address and length.
static ARGUMENTS: OnceLock<(usize, usize)> = OnceLock::new();

/// Finds the arguments and moves the environment out of their way.
///
/// Precondition: one thread, and nobody holds a pointer into the environment. Call it before [`set`], once; if it
/// fails, titles stay as they are.
pub fn prepare() {
    let Some((start, end)) = bounds() else { return };
    let variables: Vec<_> = std::env::vars_os().collect();
    // SAFETY: one thread, so nobody reads the environment while it is replaced. Setting a variable
    // in an empty environment makes the C library allocate its own copy.
    unsafe {
        libc::clearenv();
        for (name, value) in variables {
            std::env::set_var(name, value);
        }
    }
    let _ = ARGUMENTS.set((start, end - start));
}

/// Shows `title` in `ps` and in the process's short name.
pub fn set(title: &str) {
    if let Some(&(start, length)) = ARGUMENTS.get() {
        let shown = title.as_bytes().get(..length.saturating_sub(1)).unwrap_or(title.as_bytes());
        // SAFETY: the range is the stack memory of the arguments and the old environment, writable
        // and `length` long; nothing reads it any more (`prepare`). The title is shorter, the rest
        // is cleared, which also ends it.
        unsafe {
            std::ptr::write_bytes(start as *mut u8, 0, length);
            std::ptr::copy_nonoverlapping(shown.as_ptr(), start as *mut u8, shown.len());
        }
    }
    // "idontstore: worker process 1" as "worker 1": the kernel keeps 15 bytes.
    let short = title.rsplit(": ").next().unwrap_or(title).replace(" process", "");
    if let Ok(name) = CString::new(short) {
        let _ = nix::sys::prctl::set_name(&name);
    }
}

/// Start of the arguments and end of the environment, from `/proc/self/stat` (fields 48 to 51 of
/// proc(5)), if the one follows the other as it does at exec.
fn bounds() -> Option<(usize, usize)> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is a name in parentheses and may hold anything; numbers follow the last one.
    let (_, fields) = stat.rsplit_once(") ")?;
    let numbers: Vec<usize> =
        fields.split(' ').skip(45).take(4).map(str::parse).collect::<Result<_, _>>().ok()?;
    let &[arg_start, arg_end, env_start, env_end] = numbers.as_slice() else { return None };
    (arg_start < arg_end && arg_end <= env_start && env_start <= env_end)
        .then_some((arg_start, env_end))
}
