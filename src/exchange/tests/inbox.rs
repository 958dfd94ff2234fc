//! The inbox of a streamed body.

use std::any::Any;
use std::sync::Arc;

use super::until;
use crate::exchange::inbox::{Broken, Inbox, PIECE, Read, Taken};
use crate::exchange::piece::{Piece, Room};

/// Memory that a test lends.
struct Lent(*mut [u8]);

// SAFETY: nobody else has the memory.
unsafe impl Send for Lent {}

// SAFETY: it is a boxed slice's, and nobody else's.
unsafe impl Room for Lent {
    fn memory(&self) -> (*mut u8, usize) {
        (self.0.cast(), self.0.len())
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // SAFETY: made from a box, below.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

/// Lends what is wanted for reads of so many bytes from there on; returns how much that was.
fn lend(inbox: &Inbox, size: usize, origin: u64) -> usize {
    inbox.expect(size, origin); // once says nothing
    let wanted = inbox.expect(size, origin);
    for _ in 0..wanted {
        inbox.lend(Box::new(Lent(Box::into_raw(vec![0; size].into_boxed_slice()))));
    }
    wanted
}

/// Writes behind what there is.
fn fill(piece: &mut Piece, bytes: &[u8]) {
    assert!(bytes.len() <= piece.room() - piece.len());
    // SAFETY: there is room for that.
    unsafe {
        piece.start().add(piece.len()).copy_from(bytes.as_ptr(), bytes.len());
        piece.grow(bytes.len());
    }
}

/// Receives as the event loop does: all that fits into a piece, and so on.
fn receive(inbox: &Inbox, bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let mut piece = inbox.spare(0);
        let (now, later) = rest.split_at(rest.len().min(piece.room()));
        fill(&mut piece, now);
        inbox.feed(piece);
        rest = later;
    }
}

fn whole(taken: (Taken, bool)) -> Vec<u8> {
    match taken.0 {
        Taken::Whole(piece) => {
            assert!(piece.is_lent());
            piece.bytes().to_vec()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn lent_memory_comes_back_with_what_was_to_be_read() {
    let inbox = Inbox::new(12);
    assert_eq!(lend(&inbox, 7, 0), 0, "more than half of what may wait");
    assert_eq!(lend(&inbox, 4, 0), 4, "a full inbox of them, and one to receive into");
    assert!(matches!(inbox.take(4, false), (Taken::Pending, false)));
    receive(&inbox, b"abcdefgh");
    assert_eq!(whole(inbox.take(4, false)), b"abcd");
    assert!(matches!(inbox.take(3, false), (Taken::Other, false)), "another size");
    assert_eq!(lend(&inbox, 4, 4), 1);
    assert_eq!(whole(inbox.take(4, false)), b"efgh");
    receive(&inbox, b"ij");
    assert!(matches!(inbox.take(4, false), (Taken::Other, false)), "not all of it");
    inbox.close(Ok(()));
    assert_eq!(whole(inbox.take(4, false)), b"ij");
    assert!(matches!(inbox.take(4, false), (Taken::Other, false)));
    assert_eq!(inbox.try_read(&mut [0; 4]), Ok((Read::Bytes(0), false)));
}

#[test]
fn a_read_that_takes_what_there_is_takes_a_piece() {
    let inbox = Inbox::new(12);
    lend(&inbox, 4, 0);
    receive(&inbox, b"ab");
    assert_eq!(whole(inbox.take(4, true)), b"ab");
    inbox.feed(b"copied".to_vec());
    assert!(matches!(inbox.take(4, true), (Taken::Other, false)));
}

#[test]
fn what_a_reader_has_begun_with_it_reads_on() {
    let inbox = Inbox::new(12);
    lend(&inbox, 4, 0);
    receive(&inbox, b"abcdefgh");
    let mut buffer = [0; 3];
    assert_eq!(inbox.try_read(&mut buffer), Ok((Read::Bytes(3), false)));
    assert!(matches!(inbox.take(4, false), (Taken::Other, false)));
    assert_eq!(inbox.try_read(&mut buffer), Ok((Read::Bytes(3), false)));
    assert_eq!(&buffer, b"def");
    assert_eq!(inbox.expect(4, 6), 2, "two are read by others, and gone");
}

#[test]
fn lent_memory_begins_where_a_read_will() {
    let inbox = Inbox::new(100);
    inbox.feed(b"abc".to_vec());
    lend(&inbox, 10, 1); // at 1, 11, 21 ...
    let mut gap = inbox.spare(0);
    assert!(!gap.is_lent() && gap.room() == 8);
    fill(&mut gap, b"12345678");
    assert!(!gap.is_worth_its_memory());
    inbox.give_back(gap);
    assert!(inbox.spare(8).is_lent());
    receive(&inbox, b"defghijklmnopqrstu");
    assert_eq!(inbox.try_read(&mut [0; 11]), Ok((Read::Bytes(11), false)));
    assert_eq!(whole(inbox.take(10, false)), b"lmnopqrstu");
}

#[test]
fn memory_of_another_size_is_let_go() {
    let inbox = Inbox::new(12);
    assert_eq!(lend(&inbox, 4, 0), 4);
    let (used, unused) = (inbox.spare(0), inbox.spare(0));
    assert!(used.is_lent() && unused.is_lent());
    assert_eq!(inbox.expect(6, 0), 0);
    assert_eq!(inbox.expect(6, 0), 1, "of the four, two are in use");
    inbox.give_back(unused);
    assert_eq!(inbox.expect(6, 0), 2);
    inbox.lend(Box::new(Lent(Box::into_raw(Box::new([0; 4]))))); // which comes too late
    assert!(inbox.expect(6, 0) == 2 && !inbox.spare(0).is_lent());
    inbox.feed(used);
    assert!(!inbox.spare(0).is_lent());
}

#[test]
fn who_reads_now_so_much_and_now_so_much_lends_nothing() {
    let inbox = Inbox::new(12);
    for _ in 0..3 {
        assert_eq!((inbox.expect(4, 0), inbox.expect(5, 0)), (0, 0));
    }
    assert_eq!(inbox.expect(5, 0), 3);
    assert_eq!((inbox.expect(4, 0), inbox.expect(5, 0)), (0, 3), "one of another size is no reason to change");
}

#[test]
fn no_more_is_lent_than_is_of_use() {
    let inbox = Inbox::new(1 << 30);
    assert_eq!((lend(&inbox, 100, 0), lend(&inbox, 100, 0)), (17, 0));
}

#[test]
fn where_both_sides_are_fast_more_may_wait() {
    let inbox = Arc::new(Inbox::new(4));
    let reader = Arc::clone(&inbox);
    let thread = std::thread::spawn(move || reader.wait(1));
    until("the reader waits", || inbox.is_awaited());
    inbox.feed(b"abcd".to_vec());
    inbox.feed(vec![0; 11]);
    assert!(!inbox.is_paused());
    inbox.feed(b"e".to_vec());
    assert!(inbox.is_paused());
    thread.join().unwrap();
}

#[test]
fn a_reader_is_short_of_what_it_waits_for() {
    let inbox = Arc::new(Inbox::new(12));
    assert!(!inbox.is_short_of(0), "nobody waits");
    let reader = Arc::clone(&inbox);
    let thread = std::thread::spawn(move || reader.wait(5));
    until("the reader waits", || inbox.is_awaited());
    inbox.feed(b"ab".to_vec());
    assert!(inbox.is_short_of(2) && !inbox.is_short_of(3));
    inbox.close(Ok(()));
    thread.join().unwrap();
}

#[test]
fn bytes_come_out_in_order_and_room_is_told_of() {
    let inbox = Inbox::new(6000);
    inbox.feed(vec![b'a'; 3000]);
    assert!(!inbox.is_paused());
    inbox.feed(vec![b'b'; 6000]);
    assert!(inbox.is_paused(), "full");
    assert!(!inbox.resume());
    let mut buffer = [0; 3000];
    assert_eq!(inbox.try_read(&mut buffer[..1]), Ok((Read::Bytes(1), false)));
    assert_eq!(inbox.try_read(&mut buffer), Ok((Read::Bytes(3000), true)), "none but the piece that is read");
    assert_eq!(&buffer[2997..], b"aab");
    assert_eq!(inbox.try_read(&mut buffer), Ok((Read::Bytes(3000), false)));
    assert_eq!(&buffer[..1], b"b");
    assert!(inbox.resume() && !inbox.resume());
    inbox.close(Ok(()));
    assert_eq!(inbox.try_read(&mut buffer), Ok((Read::Bytes(2999), false)));
    assert_eq!(inbox.try_read(&mut buffer), Ok((Read::Bytes(0), false)));
}

#[test]
fn what_came_before_the_break_is_still_read() {
    let inbox = Inbox::new(4);
    inbox.feed(b"ab".to_vec());
    inbox.close(Err(Broken::ClientGone));
    inbox.close(Ok(()));
    let mut buffer = [0; 8];
    assert_eq!(inbox.try_read(&mut buffer), Ok((Read::Bytes(2), false)));
    assert_eq!(inbox.try_read(&mut buffer), Err(Broken::ClientGone));
}

#[test]
fn a_reader_waits_for_bytes_and_for_the_end() {
    let inbox = Arc::new(Inbox::new(4));
    assert_eq!(inbox.try_read(&mut [0; 1]), Ok((Read::Pending, false)));
    let reader = Arc::clone(&inbox);
    let thread = std::thread::spawn(move || {
        let mut all = Vec::new();
        loop {
            let mut buffer = [0; 2];
            match reader.try_read(&mut buffer).unwrap().0 {
                Read::Pending => reader.wait(1),
                Read::Bytes(0) => return all,
                Read::Bytes(count) => all.extend_from_slice(&buffer[..count]),
            }
        }
    });
    until("the reader waits", || inbox.is_awaited());
    for piece in [&b"abc"[..], b"", b"defgh"] {
        inbox.feed(piece.to_vec());
    }
    inbox.close(Ok(()));
    assert_eq!(thread.join().unwrap(), b"abcdefgh");
    assert!(!inbox.is_awaited());
}

#[test]
fn a_reader_that_need_not_wait_makes_nobody_forgotten() {
    let inbox = Arc::new(Inbox::new(12));
    inbox.feed(b"ab".to_vec());
    let reader = Arc::clone(&inbox);
    let thread = std::thread::spawn(move || reader.wait(6));
    until("the reader waits", || inbox.is_awaited());
    inbox.wait(1);
    inbox.feed(b"cdef".to_vec());
    thread.join().unwrap();
}

#[test]
fn who_waits_is_woken_for_several_pieces_at_once() {
    let inbox = Arc::new(Inbox::new(12));
    for half_full in [true, false] {
        let reader = Arc::clone(&inbox);
        let thread = std::thread::spawn(move || {
            reader.wait(2);
            reader.try_read(&mut [0; 12]).unwrap().0
        });
        until("the reader waits", || inbox.is_awaited());
        inbox.feed(b"abc".to_vec());
        assert!(inbox.is_awaited() && !thread.is_finished());
        if half_full {
            inbox.feed(b"def".to_vec());
        } else {
            inbox.flush();
        }
        assert_eq!(thread.join().unwrap(), Read::Bytes(if half_full { 6 } else { 3 }));
    }
}

#[test]
fn memory_is_used_again() {
    let inbox = Inbox::new(PIECE);
    let mut piece = inbox.spare(0);
    assert!(piece.is_empty() && piece.room() == PIECE);
    let memory = piece.start();
    fill(&mut piece, b"ab");
    inbox.feed(piece);
    inbox.feed(b"c".to_vec()); // an exact one, which is not worth keeping
    assert_eq!(inbox.try_read(&mut [0; 3]), Ok((Read::Bytes(3), false)));
    let mut again = inbox.spare(0);
    assert!(again.is_empty() && again.start() == memory);
    inbox.give_back(again);
    assert_eq!(inbox.spare(0).start(), memory);
    inbox.feed(b"d".to_vec());
    inbox.try_read(&mut [0; 3]).unwrap();
    assert_eq!(inbox.spare(0).room(), PIECE);
}

#[test]
fn who_waits_for_much_is_not_woken_for_little() {
    for (wanted, end) in [(6, None), (1000, None), (6, Some(Ok(()))), (6, Some(Err(Broken::ClientGone)))] {
        let inbox = Arc::new(Inbox::new(12));
        let reader = Arc::clone(&inbox);
        let thread = std::thread::spawn(move || {
            reader.wait(wanted);
            reader.try_read(&mut [0; 12]).unwrap().0
        });
        until("the reader waits", || inbox.is_awaited());
        inbox.feed(b"abcde".to_vec());
        inbox.flush();
        assert!(inbox.is_awaited() && inbox.is_short_of(0));
        match end {
            Some(end) => inbox.close(end),
            None => inbox.feed(b"f".to_vec()),
        }
        assert_eq!(thread.join().unwrap(), Read::Bytes(if end.is_some() { 5 } else { 6 }), "{wanted}");
    }
}

#[test]
fn what_comes_byte_by_byte_is_joined() {
    let inbox = Inbox::new(256 << 10);
    let sent: Vec<u8> = (0..40_000_u32).map(|number| number as u8).collect();
    for byte in &sent[..20_000] {
        inbox.feed(vec![*byte]);
    }
    assert!(inbox.pieces() <= 5, "{} pieces", inbox.pieces());
    let mut read = vec![0; sent.len()];
    assert_eq!(inbox.try_read(&mut read[..7]), Ok((Read::Bytes(7), false)));
    for byte in &sent[20_000..] {
        inbox.feed(vec![*byte]);
    }
    assert_eq!(inbox.try_read(&mut read[7..]), Ok((Read::Bytes(sent.len() - 7), false)));
    assert!(read == sent);
}
