//! A whole value in locked memory: what a key is expanded to is as good as the key.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr;

use super::{SecretBytes, arena};

/// A value that lies where secrets do, and is wiped there.
pub struct Locked<T> {
    /// Has the value at its beginning.
    room: SecretBytes,
    value: PhantomData<T>,
}

impl<T> Locked<T> {
    /// Takes in `value`, which has no secret yet: they are to be made in its new place.
    #[must_use]
    pub fn new(value: T) -> Self {
        // The arena puts what is as long as a power of two where its length divides the address, or on
        // pages of its own.
        const { assert!(align_of::<T>() <= 2048, "the arena knows no such place") };
        let len = size_of::<T>().next_power_of_two();
        let room = SecretBytes { at: arena::allocate(len), len };
        let at = room.at.cast::<T>();
        assert!(at.is_aligned(), "the arena's place is not aligned");
        // SAFETY: `at` is aligned and has as many bytes as a `T`, ours alone.
        unsafe { at.write(value) };
        Self { room, value: PhantomData }
    }
}

impl<T> Deref for Locked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `new` put a `T` there, which stays until drop; nobody changes it while `self` is borrowed.
        unsafe { self.room.at.cast().as_ref() }
    }
}

impl<T> DerefMut for Locked<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and `self` is borrowed exclusively.
        unsafe { self.room.at.cast().as_mut() }
    }
}

impl<T> Drop for Locked<T> {
    fn drop(&mut self) {
        // SAFETY: the value is there, and nobody can use it after this; `room` wipes its bytes next.
        unsafe { ptr::drop_in_place(self.room.at.cast::<T>().as_ptr()) };
    }
}
