//! Growable storage that never moves what it holds.
//!
//! `Vec` doubles by copying, which stops the caller for milliseconds at a million entries. Here storage grows by one
//! chunk at a time, so that no single insert pays for those before it. Only the first chunk doubles, so that a
//! container of ten entries stays small.

// The one file of this crate with `unsafe`: one bounds check for each step of a look-up instead of two.
#![allow(unsafe_code)]

use crate::refused::Refused;

const BITS: u32 = 12;
const CHUNK: usize = 1 << BITS;

const fn split(index: u32) -> (usize, usize) {
    ((index >> BITS) as usize, index as usize & (CHUNK - 1))
}

/// A stack indexed by `u32`: push and pop at the end, O(1) without exception.
#[derive(Debug)]
pub(crate) struct Chunks<T> {
    chunks: Vec<Vec<T>>,
    len: u32,
}

impl<T> Chunks<T> {
    pub(crate) const fn new() -> Self {
        Chunks { chunks: Vec::new(), len: 0 }
    }

    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    pub(crate) fn bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.capacity() * size_of::<T>()).sum::<usize>()
            + self.chunks.capacity() * size_of::<Vec<T>>()
    }

    #[inline(always)]
    pub(crate) fn get(&self, index: u32) -> &T {
        assert!(index < self.len);
        let (chunk, offset) = split(index);
        // SAFETY: an index below `len` was pushed and not popped: its chunk exists and holds it (`push`, `pop`).
        unsafe { self.chunks.get_unchecked(chunk).get_unchecked(offset) }
    }

    #[inline(always)]
    pub(crate) fn get_mut(&mut self, index: u32) -> &mut T {
        assert!(index < self.len);
        let (chunk, offset) = split(index);
        // SAFETY: as in `get`.
        unsafe { self.chunks.get_unchecked_mut(chunk).get_unchecked_mut(offset) }
    }

    pub(crate) fn push(&mut self, item: T) -> Result<u32, Refused> {
        let index = self.len;
        // The last number is kept free: it means "none" wherever an index is stored.
        let len = index.checked_add(1).filter(|&len| len < u32::MAX).ok_or(Refused::NoMemory)?;
        let (chunk, offset) = split(index);
        if chunk == self.chunks.len() {
            self.chunks.try_reserve(1)?;
            self.chunks.push(Vec::new());
        }
        let chunk_vec = &mut self.chunks[chunk];
        if offset == chunk_vec.capacity() {
            let room = if chunk == 0 { offset.clamp(8, CHUNK - offset) } else { CHUNK };
            chunk_vec.try_reserve_exact(room)?;
        }
        chunk_vec.push(item);
        self.len = len;
        Ok(index)
    }

    pub(crate) fn pop(&mut self) -> Option<T> {
        self.len = self.len.checked_sub(1)?;
        let (chunk, offset) = split(self.len);
        let item = self.chunks[chunk].pop();
        if offset == 0 {
            self.chunks.truncate(chunk);
        }
        item
    }
}

/// Facts about some tokens, each `blank` until set: memory is taken only near the tokens that have one.
#[derive(Debug)]
pub(crate) struct Sparse<T> {
    chunks: Vec<Vec<T>>,
    blank: T,
}

impl<T: Copy> Sparse<T> {
    pub(crate) const fn new(blank: T) -> Self {
        Sparse { chunks: Vec::new(), blank }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.capacity() * size_of::<T>()).sum::<usize>()
    }

    #[inline]
    pub(crate) fn get(&self, index: u32) -> T {
        let (chunk, offset) = split(index);
        self.chunks.get(chunk).and_then(|chunk| chunk.get(offset)).copied().unwrap_or(self.blank)
    }

    /// The place of `index`, made if need be. Once made it stays, so later calls for it cannot fail.
    #[inline]
    pub(crate) fn slot(&mut self, index: u32) -> Result<&mut T, Refused> {
        let (chunk, offset) = split(index);
        if self.chunks.get(chunk).is_none_or(|chunk| chunk.len() <= offset) {
            self.grow(chunk, offset)?;
        }
        Ok(&mut self.chunks[chunk][offset])
    }

    #[cold]
    fn grow(&mut self, chunk: usize, offset: usize) -> Result<(), Refused> {
        if chunk >= self.chunks.len() {
            self.chunks.try_reserve(chunk + 1 - self.chunks.len())?;
            self.chunks.resize_with(chunk + 1, Vec::new);
        }
        let room = if chunk == 0 { (offset + 1).next_power_of_two().max(8) } else { CHUNK };
        let chunk = &mut self.chunks[chunk];
        chunk.try_reserve_exact(room - chunk.len())?;
        chunk.resize(room, self.blank);
        Ok(())
    }
}
