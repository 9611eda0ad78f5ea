//! One dense arena for all secrets of the process: locked into memory, left out of core dumps,
//! zero wherever no secret is.
//!
//! A page per key would meet an unprivileged `RLIMIT_MEMLOCK` of 512 KiB at 128 keys; packed by
//! size, 10,000 keys of 32 bytes take 320 KB. What is known about the memory is kept outside of it.
//!
//! Where the kernel has it, the memory is `memfd_secret`: not even the kernel maps it. Such memory
//! stays shared over a fork, and two processes that give out the same memory each as they like
//! would soon serve each other's keys, or wipe them. So a fork (`--daemonize`) gets a private copy:
//! made before it, and put in the place of the shared memory in the child, at the same addresses.
//! Locks do not survive a fork either: the child locks again.

use std::alloc::{self, Layout};
use std::cell::RefCell;
use std::io;
use std::mem::ManuallyDrop;
use std::process;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use zeroize::Zeroize;

use super::LockState;

/// How much is asked of the kernel at a time, in bytes: a multiple of every page size in use.
const CHUNK: usize = 64 * 1024;

/// The unit in which a chunk is dealt out, in bytes: to slots of one size, or to one large secret.
const PAGE: usize = 4096;

/// Slot sizes in bytes: the key sizes of AES, and steps above. Larger secrets take whole pages.
const SIZES: [usize; 11] = [16, 24, 32, 48, 64, 96, 128, 256, 512, 1024, 2048];

/// One bit for each slot of the smallest size in a page.
type Slots = [u64; PAGE / SIZES[0] / 64];

static ARENA: Mutex<Arena> = Mutex::new(Arena::new());

/// `len` bytes, all zero, for the caller alone until they are given to `free`. `len` is not 0.
pub(super) fn allocate(len: usize) -> NonNull<u8> {
    watch_forks();
    let mut arena = lock();
    arena.settle();
    arena.allocate(len)
}

/// Wipes and takes back what `allocate` gave for the same `len`.
///
/// # Safety
/// `at` came from `allocate(len)`, has not been freed since, and nobody uses the bytes any more.
pub(super) unsafe fn free(at: NonNull<u8>, len: usize) {
    let mut arena = lock();
    arena.settle();
    // SAFETY: the caller owns these `len` bytes, which `allocate` gave it, and ends its use of them.
    unsafe { slice::from_raw_parts_mut(at.as_ptr(), len) }.zeroize();
    arena.release(at, len);
}

/// Locks the memory again if this process is a fork of the one that locked it.
pub(super) fn settle() {
    lock().settle();
}

pub(super) fn state() -> LockState {
    lock().state()
}

fn lock() -> MutexGuard<'static, Arena> {
    ARENA.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Arena {
    chunks: Vec<Chunk>,
    /// Where a slot of each size was last found or freed: (chunk, page).
    hints: [(usize, usize); SIZES.len()],
    /// The process that the locks belong to.
    pid: u32,
    /// Whether the kernel still gives `memfd_secret`.
    hides: bool,
    /// Why some memory could not be locked.
    cause: Option<io::ErrorKind>,
}

// SAFETY: the chunks' addresses are of memory that belongs to the process, not to a thread; all
// use of them through the arena is under its mutex.
unsafe impl Send for Arena {}

impl Arena {
    const fn new() -> Self {
        let hints = [(0, 0); SIZES.len()];
        Self { chunks: Vec::new(), hints, pid: 0, hides: true, cause: None }
    }

    fn allocate(&mut self, len: usize) -> NonNull<u8> {
        let size = SIZES.iter().position(|size| len <= *size);
        let found = match size {
            Some(size) => self.take_slot(size),
            None => self.take_pages(len),
        };
        if let Some(at) = found {
            return at;
        }
        let chunk = self.map(len.next_multiple_of(CHUNK));
        self.chunks.push(chunk);
        let last = self.chunks.len() - 1;
        let taken = match size {
            Some(size) => self.chunks[last].take_slot(0, size),
            None => self.chunks[last].take_pages(len),
        };
        if let Some(size) = size {
            self.hints[size] = (last, 0);
        }
        // A fresh chunk is at least as long as what is asked for.
        taken.unwrap_or_else(|| alloc::handle_alloc_error(Layout::new::<u8>()))
    }

    fn take_slot(&mut self, size: usize) -> Option<NonNull<u8>> {
        let (chunk, page) = self.hints[size];
        if let Some(at) = self.chunks.get_mut(chunk).and_then(|chunk| chunk.take_slot(page, size)) {
            return Some(at);
        }
        // A page that has slots of this size already, before one that is free.
        for wanted in [Fit::Started, Fit::Fresh] {
            for (number, chunk) in self.chunks.iter_mut().enumerate() {
                let Some(page) = chunk.pages.iter().position(|page| page.fits(size, wanted)) else {
                    continue;
                };
                self.hints[size] = (number, page);
                return chunk.take_slot(page, size);
            }
        }
        None
    }

    fn take_pages(&mut self, len: usize) -> Option<NonNull<u8>> {
        self.chunks.iter_mut().find_map(|chunk| chunk.take_pages(len))
    }

    fn release(&mut self, at: NonNull<u8>, len: usize) {
        let address = at.as_ptr() as usize;
        let Some(number) = self.chunks.iter().position(|chunk| chunk.has(address)) else { return };
        let chunk = &mut self.chunks[number];
        let page = chunk.release(address, len);
        let is_empty = chunk.is_empty();
        if let Some(size) = SIZES.iter().position(|size| len <= *size) {
            self.hints[size] = (number, page);
        }
        if is_empty {
            self.shrink(number);
        }
    }

    /// Gives the empty chunk `number` back unless it is the only spare one. With the last secret,
    /// everything goes: the library may be unloaded now.
    fn shrink(&mut self, number: usize) {
        let empty = self.chunks.iter().filter(|chunk| chunk.is_empty()).count();
        if empty == self.chunks.len() {
            self.chunks = Vec::new();
        } else if empty > 1 {
            self.chunks.remove(number);
        } else {
            return;
        }
        self.hints = [(0, 0); SIZES.len()];
    }

    fn map(&mut self, len: usize) -> Chunk {
        let hidden = if self.hides { Chunk::map_hidden(len) } else { None };
        self.hides = hidden.is_some();
        let mapped = hidden.or_else(|| Chunk::map_private(len));
        let mut chunk = mapped.unwrap_or_else(|| Chunk::heap(len));
        self.note(chunk.lock());
        chunk
    }

    /// In a forked child, leaves the memory shared with the parent and locks its own.
    fn settle(&mut self) {
        let pid = process::id();
        if self.pid == pid {
            return;
        }
        let forked = self.pid != 0;
        self.pid = pid;
        for at in 0..if forked { self.chunks.len() } else { 0 } {
            let parted = self.chunks[at].part();
            self.note(parted);
        }
    }

    fn note(&mut self, outcome: io::Result<()>) {
        if let Err(cause) = outcome {
            self.cause = Some(cause.kind());
        }
    }

    fn state(&self) -> LockState {
        let sum = |wanted: fn(&Chunk) -> bool| {
            self.chunks.iter().filter(|chunk| wanted(chunk)).map(|chunk| chunk.len).sum()
        };
        LockState {
            locked: sum(|chunk| chunk.locked),
            unlocked: sum(|chunk| !chunk.locked),
            hidden: sum(|chunk| chunk.kind == MemoryKind::Hidden),
            cause: self.cause,
        }
    }
}

/// What a page holds.
#[derive(Clone)]
enum Page {
    /// Nothing.
    Free,
    /// Slots of `SIZES[size]` bytes; a bit is set for each one in use.
    Slots { size: usize, used: Slots, count: usize },
    /// The whole page is part of a large secret.
    Whole,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    Started,
    Fresh,
}

impl Page {
    fn fits(&self, size: usize, wanted: Fit) -> bool {
        match self {
            Self::Free => wanted == Fit::Fresh,
            Self::Slots { size: own, count, .. } => {
                wanted == Fit::Started && *own == size && *count < PAGE / SIZES[size]
            }
            Self::Whole => false,
        }
    }

    /// A free slot of `SIZES[size]` bytes, now in use.
    fn take(&mut self, size: usize) -> Option<usize> {
        if matches!(self, Self::Free) {
            *self = Self::Slots { size, used: Slots::default(), count: 0 };
        }
        match self {
            Self::Slots { size: own, used, count }
                if *own == size && *count < PAGE / SIZES[size] =>
            {
                let word = used.iter().position(|word| *word != u64::MAX)?;
                let bit = used[word].trailing_ones() as usize;
                used[word] |= 1 << bit;
                *count += 1;
                Some(word * 64 + bit)
            }
            _ => None,
        }
    }

    /// Takes back the slot that starts `offset` bytes into the page.
    fn give_back(&mut self, offset: usize) {
        if let Self::Slots { size, used, count } = self {
            let slot = offset / SIZES[*size];
            used[slot / 64] &= !(1 << (slot % 64));
            *count -= 1;
            if *count == 0 {
                *self = Self::Free;
            }
        }
    }
}

/// Where a chunk's memory is from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MemoryKind {
    /// `memfd_secret`: always locked, never dumped; shared over a fork.
    Hidden,
    /// Anonymous memory of our own.
    Private,
    /// The allocator, when the kernel gave nothing else: neither locked nor left out of a dump.
    Heap,
}

/// A piece of memory from the kernel. Owns it: dropping unmaps.
struct Chunk {
    base: NonNull<u8>,
    len: usize,
    kind: MemoryKind,
    locked: bool,
    pages: Vec<Page>,
    /// Around a fork, private memory with the same bytes.
    copy: Option<NonNull<u8>>,
}

impl Chunk {
    fn new(base: NonNull<u8>, len: usize, kind: MemoryKind) -> Self {
        let pages = vec![Page::Free; len / PAGE];
        Self { base, len, kind, locked: false, pages, copy: None }
    }

    fn map_hidden(len: usize) -> Option<Self> {
        // SAFETY: this system call takes one flag word and touches no memory of ours.
        let fd = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
        let fd = libc::c_int::try_from(fd).ok().filter(|fd| *fd >= 0)?;
        let size = libc::off_t::try_from(len).ok();
        // SAFETY: `fd` is the descriptor just made, and ours alone.
        let sized = size.is_some_and(|size| unsafe { libc::ftruncate(fd, size) } == 0);
        let base = if sized { map(len, libc::MAP_SHARED, fd) } else { None };
        // SAFETY: `fd` is still ours; the mapping does not need it any more.
        unsafe { libc::close(fd) };
        base.map(|base| Self::new(base, len, MemoryKind::Hidden))
    }

    fn map_private(len: usize) -> Option<Self> {
        map_undumped(len).map(|base| Self::new(base, len, MemoryKind::Private))
    }

    fn heap(len: usize) -> Self {
        let Ok(layout) = Layout::from_size_align(len, PAGE) else {
            alloc::handle_alloc_error(Layout::new::<u8>());
        };
        // SAFETY: `len` is a positive multiple of CHUNK, so the layout has a size.
        let base = unsafe { alloc::alloc_zeroed(layout) };
        let Some(base) = NonNull::new(base) else { alloc::handle_alloc_error(layout) };
        Self::new(base, len, MemoryKind::Heap)
    }

    /// Locks the memory into RAM.
    fn lock(&mut self) -> io::Result<()> {
        self.locked = match self.kind {
            MemoryKind::Hidden => true,
            MemoryKind::Heap => return Err(io::ErrorKind::OutOfMemory.into()),
            MemoryKind::Private => {
                // SAFETY: `base` and `len` are this chunk's own mapping.
                let failed = unsafe { libc::mlock(self.base.as_ptr().cast(), self.len) };
                failed == 0
            }
        };
        if self.locked { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Makes the copy that a forked child will use.
    fn copy(&mut self) -> io::Result<()> {
        if self.kind == MemoryKind::Hidden && self.copy.is_none() {
            let copy = map_undumped(self.len).ok_or_else(io::Error::last_os_error)?;
            // SAFETY: two mappings of `len` bytes. A secret that another thread is just filling may
            // be copied by half: that thread, the only one to know of it, is not in the child.
            unsafe { ptr::copy_nonoverlapping(self.base.as_ptr(), copy.as_ptr(), self.len) };
            self.copy = Some(copy);
        }
        Ok(())
    }

    /// In a forked child, puts the copy in the place of the memory shared with the parent, at the
    /// same address, and locks it.
    fn part(&mut self) -> io::Result<()> {
        self.copy()?;
        if let Some(copy) = self.copy.take() {
            let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
            let (from, to) = (copy.as_ptr().cast(), self.base.as_ptr().cast::<libc::c_void>());
            // SAFETY: moves the copy, which is ours alone, over this chunk's own mapping, in one step
            // for every thread; addresses into the chunk stay valid and their bytes the same.
            let moved = unsafe { libc::mremap(from, self.len, self.len, flags, to) };
            if moved == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            self.kind = MemoryKind::Private;
        }
        self.lock()
    }

    fn drop_copy(&mut self) {
        if let Some(copy) = self.copy.take() {
            // SAFETY: `copy` is a mapping of `len` bytes that only this chunk knows of.
            unsafe { libc::munmap(copy.as_ptr().cast(), self.len) };
        }
    }

    fn take_slot(&mut self, page: usize, size: usize) -> Option<NonNull<u8>> {
        let slot = self.pages.get_mut(page)?.take(size)?;
        Some(self.at(page * PAGE + slot * SIZES[size]))
    }

    fn take_pages(&mut self, len: usize) -> Option<NonNull<u8>> {
        let count = len.div_ceil(PAGE);
        let is_free = |pages: &[Page]| pages.iter().all(|page| matches!(page, Page::Free));
        let first = self.pages.windows(count).position(is_free)?;
        self.pages[first..first + count].fill(Page::Whole);
        Some(self.at(first * PAGE))
    }

    /// Takes back `len` bytes at `address`; returns their page.
    fn release(&mut self, address: usize, len: usize) -> usize {
        let offset = address - self.base.as_ptr() as usize;
        let page = offset / PAGE;
        if matches!(self.pages[page], Page::Whole) {
            self.pages[page..page + len.div_ceil(PAGE)].fill(Page::Free);
        } else {
            self.pages[page].give_back(offset % PAGE);
        }
        page
    }

    fn at(&self, offset: usize) -> NonNull<u8> {
        // SAFETY: callers compute `offset` from a page and a slot of this chunk, so it lies within
        // its `len` bytes.
        unsafe { self.base.add(offset) }
    }

    fn has(&self, address: usize) -> bool {
        let base = self.base.as_ptr() as usize;
        (base..base + self.len).contains(&address)
    }

    fn is_empty(&self) -> bool {
        self.pages.iter().all(|page| matches!(page, Page::Free))
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        match self.kind {
            MemoryKind::Heap => {
                if let Ok(layout) = Layout::from_size_align(self.len, PAGE) {
                    // SAFETY: `base` came from the allocator with this very layout.
                    unsafe { alloc::dealloc(self.base.as_ptr(), layout) };
                }
            }
            // SAFETY: `base` and `len` are this chunk's own mapping, and no secret is in it.
            _ => unsafe {
                libc::munmap(self.base.as_ptr().cast(), self.len);
            },
        }
    }
}

/// New readable and writable memory, all zero.
fn map(len: usize, flags: libc::c_int, fd: libc::c_int) -> Option<NonNull<u8>> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping, at an address that the kernel chooses, replaces nothing of ours.
    let base = unsafe { libc::mmap(ptr::null_mut(), len, access, flags, fd, 0) };
    if base == libc::MAP_FAILED { None } else { NonNull::new(base.cast()) }
}

/// As `map`, private, and left out of core dumps.
fn map_undumped(len: usize) -> Option<NonNull<u8>> {
    let base = map(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)?;
    // SAFETY: `base` and `len` are the mapping just made. The advice changes none of its bytes.
    unsafe { libc::madvise(base.as_ptr().cast(), len, libc::MADV_DONTDUMP) };
    Some(base)
}

thread_local! {
    /// The arena, held while the process forks, so that the child does not find it half changed.
    /// Without a destructor, which would keep the library from being unloaded.
    static HELD: RefCell<ManuallyDrop<Option<MutexGuard<'static, Arena>>>> =
        const { RefCell::new(ManuallyDrop::new(None)) };
}

/// Has the C library call us around every fork.
fn watch_forks() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: three functions without arguments, in this library; the C library forgets them
        // when it unloads the library that registered them.
        unsafe {
            libc::pthread_atfork(Some(before_fork), Some(in_parent), Some(in_child));
        }
    });
}

extern "C" fn before_fork() {
    let mut arena = lock();
    for at in 0..arena.chunks.len() {
        let copied = arena.chunks[at].copy();
        arena.note(copied);
    }
    let _ = HELD.try_with(|held| {
        if let Ok(mut held) = held.try_borrow_mut() {
            **held = Some(arena);
        }
    });
}

extern "C" fn in_parent() {
    if let Some(mut arena) = held() {
        arena.chunks.iter_mut().for_each(Chunk::drop_copy);
    }
}

extern "C" fn in_child() {
    if let Some(mut arena) = held() {
        arena.settle();
    }
}

fn held() -> Option<MutexGuard<'static, Arena>> {
    HELD.try_with(|held| held.try_borrow_mut().ok().and_then(|mut held| held.take())).ok().flatten()
}
