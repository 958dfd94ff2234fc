//! Asks the kernel, by /proc, whether another thread of this process sleeps.

use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt;

thread_local! {
    /// The last thread that was looked at, and its file in /proc: opening the file takes twice as long as reading it.
    static LAST: RefCell<Option<(Tid, File)>> = const { RefCell::new(None) };
}

/// A thread's number in the kernel; 0 if it is unknown.
pub(super) type Tid = u32;

/// Returns the number of the calling thread.
pub(super) fn current() -> Tid {
    #[cfg(all(test, not(loom)))]
    if let Some(thread) = super::simulation::Thread::current() {
        return thread.tid();
    }
    let link = if cfg!(loom) { None } else { std::fs::read_link("/proc/thread-self").ok() };
    link.and_then(|path| path.file_name()?.to_str()?.parse().ok()).unwrap_or(0)
}

/// Whether the thread waits for something other than a processor. True if that is unknown.
pub(super) fn is_asleep(tid: Tid) -> bool {
    #[cfg(all(test, not(loom)))]
    if let Some(thread) = super::simulation::Thread::current() {
        return thread.is_asleep(tid);
    }
    if tid == 0 {
        return true;
    }
    LAST.with_borrow_mut(|last| {
        let known = last.take_if(|(last, _)| *last == tid).map(|(_, file)| file);
        let file = known.or_else(|| File::open(format!("/proc/self/task/{tid}/stat")).ok())?;
        let state = state(&file)?;
        *last = Some((tid, file));
        Some(state)
    }) != Some(b'R')
}

/// The state's letter, of "1234 (a name, perhaps with a parenthesis) R ...". `None`: the thread is gone.
fn state(stat: &File) -> Option<u8> {
    let mut start = [0; 64];
    let length = stat.read_at(&mut start, 0).ok()?;
    let end = start[..length].iter().rposition(|&byte| byte == b')')?;
    start[..length].get(end + 2).copied()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_that_waits_is_asleep_and_one_that_computes_is_not() {
        assert!(!is_asleep(current()));
        let (sender, receiver) = channel();
        let (release, held) = channel::<()>();
        let waits = thread::spawn(move || {
            sender.send(current()).unwrap();
            held.recv().unwrap_err();
        });
        let tid = receiver.recv().unwrap();
        assert_ne!(tid, current());
        super::super::tests::eventually("it waits", || is_asleep(tid));
        drop(release);
        waits.join().unwrap();
    }

    #[test]
    fn one_that_is_gone_or_unknown_is_taken_for_asleep() {
        assert!(is_asleep(thread::spawn(current).join().unwrap()) && is_asleep(0));
    }
}
