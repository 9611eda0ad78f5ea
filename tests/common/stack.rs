//! How much stack a call takes of the thread that makes it.

/// What MariaDB gives the thread of a connection unless `thread_stack` says otherwise, in bytes.
const OF_A_CONNECTION: usize = 292 << 10;

/// What our calls may take of it: a statement may have gone deep before it needs a key.
pub(crate) const MAY_TAKE: usize = OF_A_CONNECTION / 3;

/// What is measured at most, so that a call that takes too much is told of and not killed.
const ROOM: usize = 4 << 20;

/// What is left alone below the frame that fills the stack, for what it calls itself; it counts as taken.
const MARGIN: usize = 4 << 10;

const UNTOUCHED: u8 = 0xA5;

/// Does `work` on a new thread, and says how many bytes deep it went there.
pub(crate) fn taken<T: Send>(work: impl FnOnce() -> T + Send) -> (T, usize) {
    let measured = || {
        let top = fill();
        let done = work();
        (done, depth(top))
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(2 * ROOM);
        thread.spawn_scoped(scope, measured).unwrap().join().unwrap()
    })
}

/// Fills what is below the caller's frame, and says where that is.
#[inline(never)]
fn fill() -> usize {
    let here = std::hint::black_box(0_u8);
    let top = (&raw const here).addr();
    for at in top - ROOM..top - MARGIN {
        let at = std::ptr::without_provenance_mut::<u8>(at);
        // SAFETY: the thread's stack has twice the room, is mapped as a whole, and nothing lives below
        // this frame but what `write_volatile` itself needs, which is less than the margin.
        unsafe { at.write_volatile(UNTOUCHED) };
    }
    top
}

/// How far below `top` the first byte is that is not as `fill` left it.
fn depth(top: usize) -> usize {
    let touched = |at: &usize| {
        let at = std::ptr::without_provenance::<u8>(*at);
        // SAFETY: as in `fill`; every byte has been written there.
        unsafe { at.read_volatile() != UNTOUCHED }
    };
    (top - ROOM..top - MARGIN).find(touched).map_or(MARGIN, |at| top - at)
}
