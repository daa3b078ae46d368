//! How storage grows without stopping anyone.
//!
//! A `Vec` that doubles copies all it holds, milliseconds at a million entries. So past a small size it takes a stretch
//! of address space at once, large enough that the allocator maps it: the system commits it page by page as it is
//! used, and when it must grow moves pages, not bytes.

use crate::refused::Refused;

/// Doubled by copying up to here.
const SMALL: usize = 128 << 10;
/// More than 32 MiB, from where on glibc always maps, and never lets freed maps change that.
const LARGE: usize = 33 << 20;

/// Makes sure that the next push cannot fail. `most` is the length that will never be exceeded, if that is known.
#[inline]
pub(crate) fn reserve_one<T>(items: &mut Vec<T>, most: usize) -> Result<(), Refused> {
    if items.len() < items.capacity() {
        return Ok(());
    }
    grow(items, most)
}

#[cold]
fn grow<T>(items: &mut Vec<T>, most: usize) -> Result<(), Refused> {
    let len = items.len();
    let doubled = len.max(8);
    let more = if len * size_of::<T>() < SMALL { doubled } else { doubled.max(LARGE / size_of::<T>() - 1) };
    let more = more.min(most.saturating_sub(len)).max(1);
    items.try_reserve_exact(more).or_else(|_| items.try_reserve(1)).map_err(Refused::from)
}

/// Bytes that stand behind a vector: address space that was only reserved has no memory yet.
pub(crate) fn bytes<T>(items: &Vec<T>) -> usize {
    let reserved = items.capacity() * size_of::<T>();
    if reserved <= 2 * SMALL {
        reserved
    } else {
        items.len() * size_of::<T>()
    }
}

/// The place of `index`, made if need be. Once made it stays, so later calls for it cannot fail.
#[inline]
pub(crate) fn slot<T: Copy>(items: &mut Vec<T>, index: u32, blank: T) -> Result<&mut T, Refused> {
    let index = index as usize;
    while items.len() <= index {
        reserve_one(items, usize::MAX)?;
        items.push(blank);
    }
    Ok(&mut items[index])
}
