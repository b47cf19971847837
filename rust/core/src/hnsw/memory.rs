//! Memory of the graph: blocks of one size, each some words that change (links, facts) and a code that does not. Blocks
//! lie in segments that double in size and never move, so they are read without a lock while others are added.

#![expect(unsafe_code, reason = "blocks are laid out by hand in memory from the system")]
#![expect(
    clippy::cast_ptr_alignment,
    reason = "blocks begin where cache lines do, and so do their codes"
)]

use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use memmap2::{MmapOptions, MmapRaw};

use crate::kernel::distance::Line;
use crate::pool::on_every_core;

/// Bytes of the first segment, about; every further one is twice as long as the one before.
const FIRST: usize = 1 << 20;

/// From this length on a segment asks for huge pages.
const HUGE: usize = 4 << 20;

/// Blocks that one thread writes at a time, where many are added.
const STROKE: usize = 512;

/// Doubling from the first segment on, these hold as many blocks as an id can name.
const SEGMENTS: usize = 32;

/// Blocks by position.
pub(super) struct Blocks {
    /// Words at the start of a block.
    words: usize,
    /// Lines of code after them.
    lines: usize,
    /// Blocks in the first segment: `1 << first`.
    first: u32,
    segments: [OnceLock<MmapRaw>; SEGMENTS],
    len: AtomicUsize,
    /// Held by whoever adds a block.
    adding: Mutex<()>,
}

impl Blocks {
    /// No blocks yet, each to have `words` words, rounded up to whole cache lines, and `lines` lines.
    pub(super) fn new(words: usize, lines: usize) -> Self {
        let words = words.next_multiple_of(Line::LEN / 4);
        let bytes = 4 * words + Line::LEN * lines;
        Self {
            words,
            lines,
            first: (FIRST / bytes).max(16).ilog2(),
            segments: [const { OnceLock::new() }; SEGMENTS],
            len: AtomicUsize::new(0),
            adding: Mutex::new(()),
        }
    }

    /// Blocks there are. Whoever reads this sees all that was written into them.
    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// Words of a block.
    pub(super) fn words_each(&self) -> usize {
        self.words
    }

    /// Bytes of a block.
    pub(super) fn block_bytes(&self) -> usize {
        4 * self.words + Line::LEN * self.lines
    }

    /// Bytes of all blocks; what is reserved beyond them the system has not given yet.
    pub(super) fn bytes(&self) -> usize {
        self.len() * self.block_bytes()
    }

    /// Adds a block that `fill` writes. Its words and code are zero before.
    pub(super) fn push(&self, fill: impl FnOnce(&[AtomicU32], &mut [Line])) -> usize {
        let adding = self.adding.lock().expect("nothing panics while a block is written");
        let at = self.len();
        assert!(at < i32::MAX as usize, "a graph names its rows with 31 bits");
        // SAFETY: nobody else adds while the lock is held.
        let (words, code) = unsafe { self.fresh(at) };
        fill(words, code);
        self.len.store(at + 1, Ordering::Release);
        drop(adding);
        at
    }

    /// Adds `count` blocks that `fill`, given which of them it is, writes on every core. They are zero before. `begin` is
    /// told of each stretch of them first; if either fails, none is added.
    pub(super) fn extend<E: Send>(
        &self,
        count: usize,
        begin: impl Fn(Range<usize>) -> Result<(), E> + Sync,
        fill: impl Fn(usize, &[AtomicU32], &mut [Line]) -> Result<(), E> + Sync,
    ) -> Result<(), E> {
        let adding = self.adding.lock().expect("nothing panics while blocks are written");
        let first = self.len();
        assert!(count <= i32::MAX as usize - first, "a graph names its rows with 31 bits");
        on_every_core(count.div_ceil(STROKE), |stroke| {
            let stretch = stroke * STROKE..count.min((stroke + 1) * STROKE);
            begin(stretch.clone())?;
            for at in stretch {
                // SAFETY: nobody else adds while the lock is held, and every stroke has blocks of its own.
                let (words, code) = unsafe { self.fresh(first + at) };
                fill(at, words, code)?;
            }
            Ok(())
        })?;
        self.len.store(first + count, Ordering::Release);
        drop(adding);
        Ok(())
    }

    /// A block that is not counted yet, in memory that is there from now on.
    ///
    /// # Safety
    ///
    /// The block lies at or beyond `len`, and nobody else asks for it.
    #[expect(
        clippy::mut_from_ref,
        reason = "the memory behind a block is nobody's before it is counted"
    )]
    unsafe fn fresh(&self, at: usize) -> (&[AtomicU32], &mut [Line]) {
        let (segment, place) = self.place(at);
        let memory = self.segments[segment].get_or_init(|| self.segment(segment));
        let block = memory.as_mut_ptr().wrapping_add(place * self.block_bytes());
        let code = block.wrapping_add(4 * self.words).cast::<Line>();
        // SAFETY: the block lies in its segment (`segment` makes them long enough), aligned to its lines. Words are only
        // ever reached as atomics. The code is reached by nobody else: readers stop at `len`, and the caller is alone.
        unsafe {
            (
                std::slice::from_raw_parts(block.cast::<AtomicU32>(), self.words),
                std::slice::from_raw_parts_mut(code, self.lines),
            )
        }
    }

    /// The words of a block.
    pub(super) fn words(&self, at: usize) -> &[AtomicU32] {
        // SAFETY: `block` gives the address of a whole block; its words are only ever reached as atomics.
        unsafe { std::slice::from_raw_parts(self.block(at).cast::<AtomicU32>(), self.words) }
    }

    /// The code of a block.
    pub(super) fn code(&self, at: usize) -> &[Line] {
        self.both(at).1
    }

    /// The words and the code of a block.
    pub(super) fn both(&self, at: usize) -> (&[AtomicU32], &[Line]) {
        let block = self.block(at);
        let code = block.wrapping_add(4 * self.words).cast::<Line>();
        // SAFETY: `block` gives the address of a whole block, aligned to its lines. Its words are only ever reached as
        // atomics; its code was written before `len` counted it and is never written again.
        unsafe {
            (
                std::slice::from_raw_parts(block.cast::<AtomicU32>(), self.words),
                std::slice::from_raw_parts(code, self.lines),
            )
        }
    }

    /// Where a block begins. Panics beyond the last.
    fn block(&self, at: usize) -> *const u8 {
        assert!(at < self.len(), "a block that was added");
        let (segment, place) = self.place(at);
        let memory = self.segments[segment].get().expect("made with its first block");
        memory.as_ptr().wrapping_add(place * self.block_bytes())
    }

    /// The segment of a block and its place there: segment s holds `1 << (first + s)` of them.
    fn place(&self, at: usize) -> (usize, usize) {
        let shifted = at + (1 << self.first);
        let order = shifted.ilog2();
        ((order - self.first) as usize, shifted - (1 << order))
    }

    fn segment(&self, segment: usize) -> MmapRaw {
        let bytes = self.block_bytes() << (self.first as usize + segment);
        let map = MmapOptions::new().len(bytes).no_reserve_swap().map_anon();
        let map = map.expect("the system has memory for the index");
        #[cfg(target_os = "linux")]
        if bytes >= HUGE {
            // a system without huge pages says no, and that is all right
            let _: std::io::Result<()> = map.advise(memmap2::Advice::HugePage);
        }
        MmapRaw::from(map)
    }
}

/// The numbers of a code that holds f32, as they lie there.
pub(super) fn floats(code: &[Line]) -> &[f32] {
    // SAFETY: lines are plain bytes, aligned for f32, and any four bytes are one. They were written little-endian, as
    // every machine is that this library runs on.
    unsafe { std::slice::from_raw_parts(code.as_ptr().cast(), code.len() * Line::LEN / 4) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_keep_what_was_written_while_others_are_added() {
        let blocks = Blocks::new(5, 3);
        assert_eq!((blocks.words_each(), blocks.block_bytes()), (16, 64 + 192));
        let fill = |at: usize| {
            blocks.push(|words, code| {
                words[4].store(at as u32 * 3, Ordering::Relaxed);
                code[2] = Line([at as i8; Line::LEN]);
            })
        };
        let first = fill(0);
        let (words, code) = (blocks.words(first), blocks.code(first));
        for at in 1..10_000 {
            assert_eq!(fill(at), at);
        }
        assert_eq!(words.as_ptr().align_offset(Line::LEN), 0);
        assert_eq!((words[4].load(Ordering::Relaxed), code[2]), (0, Line::ZERO));
        for at in (0..10_000).step_by(7) {
            assert_eq!(blocks.words(at)[4].load(Ordering::Relaxed), at as u32 * 3);
            assert_eq!(blocks.code(at), [Line::ZERO, Line::ZERO, Line([at as i8; Line::LEN])]);
        }
        assert_eq!(blocks.bytes(), 10_000 * 256);
    }

    #[test]
    fn blocks_that_come_together_lie_where_those_that_come_one_by_one_do() {
        let (one_by_one, together) = (Blocks::new(3, 1), Blocks::new(3, 1));
        let write = |at: usize, words: &[AtomicU32], code: &mut [Line]| {
            words[2].store(at as u32, Ordering::Relaxed);
            code[0] = Line([at as i8; Line::LEN]);
            Ok::<_, &str>(())
        };
        for at in 0..20_000 {
            one_by_one.push(|words, code| write(at, words, code).unwrap());
        }
        for at in 0..7 {
            together.push(|words, code| write(at, words, code).unwrap());
        }
        let (none, begun) = (together.bytes(), AtomicUsize::new(0));
        let count = |stretch: Range<usize>| {
            begun.fetch_add(stretch.len(), Ordering::Relaxed);
            if stretch.contains(&9000) { Err("no") } else { Ok(()) }
        };
        assert_eq!(together.extend(19_993, count, |_, _, _| Ok(())), Err("no"));
        assert_eq!(together.bytes(), none, "blocks of which some could not be written");
        begun.store(0, Ordering::Relaxed);
        let count = |stretch: Range<usize>| {
            begun.fetch_add(stretch.len(), Ordering::Relaxed);
            Ok(())
        };
        together.extend(19_993, count, |at, words, code| write(at + 7, words, code)).unwrap();
        assert_eq!(begun.into_inner(), 19_993);
        together.extend(0, |_| Err("a stretch"), |_, _, _| Err("a block")).unwrap();
        assert_eq!((together.len(), together.bytes()), (one_by_one.len(), one_by_one.bytes()));
        for at in 0..20_000 {
            let word = |blocks: &Blocks| blocks.words(at)[2].load(Ordering::Relaxed);
            assert_eq!(word(&together), word(&one_by_one));
            assert_eq!(together.code(at), one_by_one.code(at));
        }
    }

    #[test]
    #[should_panic(expected = "a block that was added")]
    fn a_block_that_was_not_added_is_refused() {
        Blocks::new(1, 1).words(0);
    }
}
