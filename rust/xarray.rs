// SPDX-License-Identifier: GPL-2.0

//! An XArray of plain values, each of which covers an aligned block of indices.
//!
//! C header: [`include/linux/xarray.h`](srctree/include/linux/xarray.h)
//!
//! Reference: <https://docs.kernel.org/core-api/xarray.html>
//!
//! The kernel crate's `XArray` holds pointers, one an index, and is read under its lock. This one
//! holds integers, is read under RCU, and accounts its nodes to the task's memory cgroup.
//!
//! A block has 2^order indices, and an order is always a multiple of [`CHUNK_SHIFT`]: so a block is
//! exactly one slot of one node, the array has no sibling entries, and a block is split or joined by
//! exchanging one pointer.

use super::{
    bindings,
    sched::cond_resched, //
};
use core::ptr;
use kernel::{
    bindings::{
        xa_node,
        xa_state,
        xarray,
        xas_destroy,
        xas_load,
        xas_nomem,
        xas_split,
        xas_split_alloc,
        xas_store,
        GFP_KERNEL_ACCOUNT, //
    },
    error::to_result,
    prelude::*,
    sync::rcu,
    types::{
        NotThreadSafe,
        Opaque, //
    },
};

/// Bits of the index that a node of the tree resolves.
pub(crate) const CHUNK_SHIFT: u32 = bindings::KMA_XA_CHUNK_SHIFT;
const CHUNK_SIZE: usize = 1 << CHUNK_SHIFT;

/// The aligned block of 2^order indices around `index`, as its first and its last index.
fn block(index: u64, order: u32) -> (u64, u64) {
    let mask = (1 << order) - 1;
    (index & !mask, index | mask)
}

/// What an index is found in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// The value of all indices from the one that was asked for to [`Self::last`]. A reservation is
    /// no value.
    pub(crate) value: Option<u64>,
    /// Last index of the slot.
    pub(crate) last: u64,
    /// Order of the slot, `None` beyond the end of the tree.
    pub(crate) order: Option<u32>,
    /// Is there a reservation?
    pub(crate) reserved: bool,
    /// Is it a slot of the topmost node?
    pub(crate) in_head: bool,
}

/// What's known of the indices around one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Around {
    /// The first and the last of a range of which all have the same, with the one in it.
    pub(crate) same: (u64, u64),
    /// It's certain that not all of the block have the same, `same` aside. If not, it isn't known.
    pub(crate) differ: bool,
}

/// Blocks of integers.
///
/// Readers need no lock. What a writer changes is a slot at a time, under the array's own lock; it's
/// up to the caller that several steps make one change, and that there's one writer at a time.
///
/// # Invariants
///
/// `xa` is initialised. It holds only value entries and reservations, each in one slot.
#[pin_data(PinnedDrop)]
pub(crate) struct ValueXArray {
    #[pin]
    xa: Opaque<xarray>,
}

impl ValueXArray {
    /// An empty array.
    pub(crate) fn new() -> impl PinInit<Self> {
        // INVARIANT: The array is initialised, and empty.
        pin_init!(Self {
            // SAFETY: The slot is valid for writes, and pinned from here on.
            xa <- Opaque::ffi_init(|xa| unsafe { bindings::kma_xa_init_accounted(xa) }),
        })
    }

    fn as_ptr(&self) -> *mut xarray {
        self.xa.get()
    }

    /// The value at `index`. Takes RCU only, and may be called in any context.
    #[inline]
    pub(crate) fn load(&self, index: u64) -> Option<u64> {
        self.walk(index, |entry, _| to_value(entry))
    }

    /// Walks to `index` under RCU, and passes what is there: the entry, the node that it's in, if it's
    /// in one, and its place there. The node stays allocated as long as `f` runs.
    #[inline]
    fn walk<R>(
        &self,
        index: u64,
        f: impl FnOnce(*mut c_void, Option<(*mut xa_node, usize)>) -> R,
    ) -> R {
        loop {
            let _rcu = rcu::read_lock();
            // SAFETY: RCU is held as long as what's found is used.
            let (entry, place) = unsafe { self.descend(index, 0) };
            if !is_retry(entry) {
                return f(entry, place);
            }
        }
    }

    /// Goes down to `index`, as far as there are slots of `order`: to the entry there, and the node
    /// that it's in with its place there, if it's in one. Without a node there's at most one entry, at
    /// index 0, and beyond the end of the tree there's neither. May meet a retry entry.
    ///
    /// As the C function xas_load(), for which a state of 64 bytes is set up first, and which is told
    /// of cases that this array doesn't have: most of what a page fault asks of it would be that.
    ///
    /// # Safety
    ///
    /// The caller must hold RCU, or the array's lock, as long as it uses the node.
    #[inline]
    unsafe fn descend(
        &self,
        index: u64,
        order: u32,
    ) -> (*mut c_void, Option<(*mut xa_node, usize)>) {
        // SAFETY: The array is initialised by the type invariant. As READ_ONCE(): the head may be
        // replaced meanwhile, and what's read is what was or what is the head.
        let mut entry = unsafe { (&raw const (*self.as_ptr()).xa_head).read_volatile() };
        let Some(mut node) = to_node(entry) else {
            return (if index == 0 { entry } else { ptr::null_mut() }, None);
        };
        // SAFETY: A node that was found in the tree stays allocated by the function's contract, and
        // its shift doesn't change.
        let mut shift = u32::from(unsafe { (*node).shift });
        if index.wrapping_shr(shift) >= CHUNK_SIZE as u64 {
            return (ptr::null_mut(), None);
        }
        loop {
            let offset = index.wrapping_shr(shift) as usize % CHUNK_SIZE;
            // SAFETY: As above. What a slot has while it's written to is the one entry or the other,
            // and what has left the tree has a retry entry.
            entry = unsafe { (&raw const (*node).slots[offset]).read_volatile() };
            match to_node(entry) {
                Some(below) if shift > order => node = below,
                _ => return (entry, Some((node, offset))),
            }
            // SAFETY: As above.
            shift = u32::from(unsafe { (*node).shift });
        }
    }

    /// The slot that `index` is in. Takes RCU only, and may be called in any context.
    pub(crate) fn look(&self, index: u64) -> Slot {
        self.walk(index, |entry, place| {
            // SAFETY: The node stays allocated, see `walk()`.
            unsafe { slot(index, entry, place.map(|(node, _)| node)) }
        })
    }

    /// The value at `index`, and the last index up to which there's the same in the node that it's
    /// in, looked for no further than what `enough` says of the value. Takes RCU only, and may be
    /// called in any context.
    #[inline]
    pub(crate) fn stretch(
        &self,
        index: u64,
        enough: impl Fn(Option<u64>) -> u64,
    ) -> (Option<u64>, u64) {
        self.walk(index, |entry, place| {
            let value = to_value(entry);
            let Some((node, offset)) = place else {
                return (value, if value.is_some() { index } else { u64::MAX });
            };
            let slot = |offset: usize| {
                // SAFETY: The node stays allocated, see `walk()`. What a slot has while it's written
                // to is the one entry or the other, and what has left the tree has a retry entry.
                unsafe { (&raw const (*node).slots[offset]).read_volatile() }
            };
            // SAFETY: As in `look()`.
            let order = u32::from(unsafe { (*node).shift });
            let last = block(index, order).1;
            let wanted = enough(value);
            if last >= wanted {
                return (value, last);
            }
            // Slots to look at behind this one: no more than it takes.
            let more = (wanted - last).div_ceil(1 << order);
            let end = offset + 1 + more.min((CHUNK_SIZE - offset - 1) as u64) as usize;
            let end = (offset + 1..end)
                .find(|offset| slot(*offset) != entry)
                .unwrap_or(end);
            let further = ((end - offset - 1) as u64) << order;
            (value, last + further)
        })
    }

    /// The last index that the tree as it is has a slot for, and the order of its largest slots.
    /// `None` if it's empty.
    pub(crate) fn extent(&self) -> Option<(u64, u32)> {
        let _rcu = rcu::read_lock();
        // SAFETY: RCU is held.
        unsafe { self.extent_of_head() }
    }

    /// # Safety
    ///
    /// The caller must hold RCU, or the array's lock.
    unsafe fn extent_of_head(&self) -> Option<(u64, u32)> {
        // SAFETY: As in `descend()`.
        let head = unsafe { (&raw const (*self.as_ptr()).xa_head).read_volatile() };
        if head.is_null() {
            return None;
        }
        let Some(node) = to_node(head) else {
            return Some((0, 0));
        };
        // SAFETY: The node stays allocated by the function's contract.
        let shift = u32::from(unsafe { (*node).shift });
        let bits = shift + CHUNK_SHIFT;
        let last = if bits < u64::BITS {
            (1 << bits) - 1
        } else {
            u64::MAX
        };
        Some((last, shift))
    }

    /// Makes sure that `index` is in a slot of `order` or less, of which nothing outside of that
    /// order's block is part, and that the tree keeps a path to it. Readers see no difference: a
    /// larger block is split, and where there's nothing, a reservation is made. May sleep.
    ///
    /// What's reserved is given up by [`Self::release`], or by storing there. With `hold` it stays even
    /// if something else is stored before, and the path with it.
    ///
    /// # Errors
    ///
    /// `ENOMEM`. Then, too, [`Self::release`] is to be called.
    pub(crate) fn reserve(&self, index: u64, mut order: u32, hold: bool) -> Result {
        let mut slot = self.look(index);
        if let Some(found) = slot.order.filter(|found| *found <= order) {
            // What's there is a slot of its own, or more than one. The node keeps the path to it: it
            // isn't empty, and stays so if nothing is stored that empties it before this is stored.
            if hold && slot.value.is_none() && !slot.reserved {
                self.lock().set_entry(index, found, reservation());
            }
            return Ok(());
        }
        match self.extent() {
            // A block can't be larger than a slot of the topmost node.
            Some((last, largest)) if index <= last => order = order.min(largest),
            // The tree will grow: into what it doesn't cover yet, not over what's there.
            Some((last, _)) => {
                while order > 0 && block(index, order).0 <= last {
                    order -= CHUNK_SHIFT;
                }
            }
            None => {}
        }

        // From level to level, as one call can't do more.
        while let Slot {
            value,
            order: Some(found),
            reserved,
            ..
        } = slot
        {
            if found <= order || (value.is_none() && !reserved) {
                break;
            }
            self.split(index, &slot)?;
            slot = self.look(index);
        }

        let mut state = State::new(self, index, order);
        loop {
            {
                let _locked = self.lock();
                if state.load().is_null() {
                    // SAFETY: The lock is held.
                    // INVARIANT: A reservation, where there's nothing.
                    unsafe { xas_store(state.as_ptr(), reservation()) };
                }
            }
            if !state.allocate() {
                break;
            }
        }
        state.result()
    }

    /// Replaces a block, or a reservation of one, by 64 of the same, if it's what `slot` still is.
    fn split(&self, index: u64, slot: &Slot) -> Result {
        let Some(order) = slot.order.filter(|order| *order > 0) else {
            return Ok(());
        };
        let entry = slot.value.map_or_else(reservation, mk_value);
        let mut state = State::new(self, index, order - CHUNK_SHIFT);
        // SAFETY: The state is for an order one level below the block's, which is what
        // `xas_split_alloc` and `xas_split` can do.
        unsafe { xas_split_alloc(state.as_ptr(), entry, order, GFP_KERNEL_ACCOUNT) };
        state.result()?;

        let locked = self.lock();
        if locked.look(index) == *slot {
            // SAFETY: The lock is held, memory is allocated, and the block is there.
            // INVARIANT: Each index keeps its value, each block is in one slot.
            unsafe { xas_split(state.as_ptr(), entry, order) };
        }
        Ok(())
    }

    /// Gives up a reservation, finished or not, that was made at `index` when the tree's largest slots
    /// were of order `largest`: there the tree gets the shape that it had before, if nothing has been
    /// stored since.
    pub(crate) fn release(&self, index: u64, largest: u32) {
        let mut locked = self.lock();
        if let Slot {
            reserved: true,
            order: Some(order),
            ..
        } = self.look(index)
        {
            locked.set(index, order, None);
        }
        locked.drop_empty_node(index);
        locked.join(index, (0, u64::MAX), largest);
    }

    /// Makes the array empty. Sleeps if it isn't yet, as it's done leaf by leaf: xa_destroy() frees all
    /// there is in one go, with interrupts off.
    pub(crate) fn clear(&self) {
        let mut index = 0;
        loop {
            let slot = self.look(index);
            let Some(order) = slot.order else { break };
            let order = if order == 0 && !slot.in_head {
                CHUNK_SHIFT
            } else {
                order
            };
            self.lock().set(index, order, None);
            index = block(index, order).1 + 1;
            cond_resched();
        }
    }

    /// Gives up all reservations from `index` on, up to what's reserved by none. Splitting one makes
    /// many.
    pub(crate) fn release_from(&self, mut index: u64) {
        while let Slot {
            reserved: true,
            order: Some(order),
            last,
            ..
        } = self.look(index)
        {
            self.lock().set(index, order, None);
            index = last + 1;
        }
    }

    /// Takes the array's lock, for changes. Readers don't notice.
    pub(crate) fn lock(&self) -> Locked<'_> {
        // SAFETY: The array is initialised by the type invariant.
        unsafe { bindings::kma_xa_lock(self.as_ptr()) };
        // INVARIANT: The lock was taken above.
        Locked {
            array: self,
            _not_send: NotThreadSafe,
        }
    }
}

#[pinned_drop]
impl PinnedDrop for ValueXArray {
    fn drop(self: Pin<&mut Self>) {
        self.clear();
        // An empty array has no memory. xa_destroy() would take the lock, which must not be taken in
        // an RCU callback, as others take it with interrupts on.
        kernel::warn_on!(self.extent().is_some());
    }
}

// SAFETY: An xarray has no tie to the thread that made it, and its entries are integers.
unsafe impl Send for ValueXArray {}

// SAFETY: All methods may be called concurrently, the array has a lock of its own.
unsafe impl Sync for ValueXArray {}

/// The array with its lock held.
///
/// # Invariants
///
/// The lock of `array` is held.
#[must_use = "the lock is released when the guard is dropped"]
pub(crate) struct Locked<'a> {
    array: &'a ValueXArray,
    _not_send: NotThreadSafe,
}

impl Locked<'_> {
    /// As [`ValueXArray::look`].
    pub(crate) fn look(&self, index: u64) -> Slot {
        // SAFETY: The lock is held by the type invariant.
        let (entry, place) = unsafe { self.array.descend(index, 0) };
        // SAFETY: As above, so that the node stays.
        unsafe { slot(index, entry, place.map(|(node, _)| node)) }
    }

    /// What's known of the block of `order` around `index` without a look at each index.
    pub(crate) fn around(&self, index: u64, order: u32) -> Around {
        // SAFETY: The lock is held by the type invariant.
        let (entry, place) = unsafe { self.array.descend(index, 0) };
        let Some((node, _)) = place else {
            let same = match self.extent() {
                None => (0, u64::MAX),
                Some((last, _)) if last < index => (last + 1, u64::MAX),
                Some(_) => (index, index),
            };
            return Around {
                same,
                differ: false,
            };
        };
        // SAFETY: As above, so that the node stays, and nobody writes to it.
        let (count, shift) = unsafe { (usize::from((*node).count), u32::from((*node).shift)) };
        // Others in a leaf of the block: there are some, and there are gaps.
        let others = count.saturating_sub(usize::from(!entry.is_null()));
        let within = shift == 0 && order >= CHUNK_SHIFT;
        Around {
            same: block(index, shift),
            differ: within
                && (others != 0 && others != CHUNK_SIZE - 1
                    // SAFETY: As above, and the node is a leaf.
                    || unsafe { has_other_leaf(node, index, order) }),
        }
    }

    /// As [`ValueXArray::extent`].
    pub(crate) fn extent(&self) -> Option<(u64, u32)> {
        // SAFETY: The lock is held by the type invariant.
        unsafe { self.array.extent_of_head() }
    }

    /// Sets the slot of `order` around `index` to a value, of at most 63 bits, or to none, whatever
    /// is in it. Readers see what was there or the value, nothing between.
    ///
    /// There must be such a slot, see [`ValueXArray::reserve`]; if not, nothing is stored, with a
    /// warning. Doesn't allocate.
    pub(crate) fn set(&mut self, index: u64, order: u32, value: Option<u64>) {
        self.set_entry(index, order, value.map_or(ptr::null_mut(), mk_value));
    }

    /// As [`Self::set`]. `entry` must be that of a value, a reservation or NULL.
    fn set_entry(&mut self, index: u64, order: u32, entry: *mut c_void) {
        let mut state = State::new(self.array, index, order);
        // SAFETY: The lock is held by the type invariant.
        unsafe { state.descend() };
        // SAFETY: The lock is held by the type invariant, so that the node stays.
        let found = state.node().map(|node| u32::from(unsafe { (*node).shift }));
        let only_entry = order == 0 && state.is_only_entry();
        if kernel::warn_on!(found != Some(order) && !only_entry) {
            return;
        }
        // SAFETY: The lock is held by the type invariant, and the state was walked to a slot of its
        // order, so that nothing is allocated.
        // INVARIANT: A value entry, a reservation or nothing, in one slot.
        unsafe { xas_store(state.as_ptr(), entry) };
    }

    /// Makes the node that `index` is in, and those above it, to one block each, as long as all of
    /// their slots have the same value, they lie within the first and the last index `within`, and
    /// the block is of no larger order than `largest`.
    ///
    /// The topmost node stays: there's no slot for its block.
    pub(crate) fn join(&mut self, index: u64, within: (u64, u64), largest: u32) {
        loop {
            let Some(node) = self.node(index) else { return };
            // SAFETY: The lock is held by the type invariant, so that the node stays, and nobody
            // writes to it.
            let node = unsafe { &*node };
            let order = u32::from(node.shift) + CHUNK_SHIFT;
            if usize::from(node.nr_values) != CHUNK_SIZE || node.parent.is_null() || order > largest
            {
                return;
            }
            let (first, last) = block(index, order);
            if first < within.0 || last > within.1 {
                return;
            }
            let entry = node.slots[0];
            if node.slots.iter().any(|other| *other != entry) {
                return;
            }
            self.set(index, order, to_value(entry));
        }
    }

    /// The node that `index` is in.
    fn node(&self, index: u64) -> Option<*mut xa_node> {
        // SAFETY: The lock is held by the type invariant.
        let (_, place) = unsafe { self.array.descend(index, 0) };
        place.map(|(node, _)| node)
    }

    /// Frees the node that `index` is in if it's empty, which a reservation that has failed leaves
    /// behind, and so those above it.
    fn drop_empty_node(&mut self, index: u64) {
        let Some(node) = self.node(index) else { return };
        // SAFETY: The lock is held by the type invariant, so that the node stays.
        let (count, shift) = unsafe { ((*node).count, u32::from((*node).shift)) };
        if count == 0 {
            let mut above = State::new(self.array, index, shift + CHUNK_SHIFT);
            above.load();
            // SAFETY: The lock is held by the type invariant. Storing nothing allocates nothing, and
            // the node above, or the head, has the empty node in the slot that was walked to.
            unsafe { xas_store(above.as_ptr(), ptr::null_mut()) };
        }
    }

    /// Drops topmost nodes that the tree can do without, which reservations leave behind: the xarray
    /// looks for such only when something is erased.
    pub(crate) fn shrink(&mut self) {
        // SAFETY: The array is initialised, and the lock is held by the type invariant.
        let head = unsafe { (*self.array.as_ptr()).xa_head };
        let Some(node) = to_node(head) else { return };
        // SAFETY: The lock is held by the type invariant, so that the node stays.
        let (count, shift, first) =
            unsafe { ((*node).count, u32::from((*node).shift), (*node).slots[0]) };
        if count == 1 && (to_node(first).is_some() || (shift == 0 && !first.is_null())) {
            let second = 1 << shift;
            self.set_entry(second, shift, reservation());
            self.set_entry(second, shift, ptr::null_mut());
        }
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // SAFETY: The lock is held by the type invariant.
        unsafe { bindings::kma_xa_unlock(self.array.as_ptr()) };
    }
}

/// As the C macro XA_STATE_ORDER, for an order that's a multiple of [`CHUNK_SHIFT`].
#[inline]
pub(super) fn new_state(xa: *mut xarray, index: u64, order: u32) -> xa_state {
    xa_state {
        xa,
        xa_index: block(index, order).0 as usize,
        xa_shift: order as u8,
        xa_sibs: 0,
        xa_offset: 0,
        xa_pad: 0,
        xa_node: RESTART,
        xa_alloc: ptr::null_mut(),
        xa_update: None,
        xa_lru: ptr::null_mut(),
    }
}

/// As the C function xas_reset().
pub(super) fn restart(state: &mut xa_state) {
    state.xa_node = RESTART;
}

/// What a state has for a node that has to walk to its index.
const RESTART: *mut xa_node = bindings::KMA_XAS_RESTART as usize as *mut xa_node;

/// The state of an operation on an array.
///
/// # Invariants
///
/// `state` is initialised, for an array that is alive for `'a`.
struct State<'a> {
    state: xa_state,
    array: &'a ValueXArray,
}

impl<'a> State<'a> {
    /// An operation on the slot of `order` around `index`.
    #[inline]
    fn new(array: &'a ValueXArray, index: u64, order: u32) -> Self {
        // INVARIANT: Initialised, for an array that is alive.
        Self {
            state: new_state(array.as_ptr(), index, order),
            array,
        }
    }

    fn as_ptr(&mut self) -> *mut xa_state {
        &mut self.state
    }

    /// Walks to the slot. The caller holds the array's lock, or RCU.
    fn load(&mut self) -> *mut c_void {
        // SAFETY: The state is initialised by the type invariant.
        unsafe { xas_load(self.as_ptr()) }
    }

    /// As [`Self::load`], the short way.
    ///
    /// # Safety
    ///
    /// The caller must hold the array's lock, as long as it uses the state.
    unsafe fn descend(&mut self) {
        let (index, order) = (self.state.xa_index as u64, self.state.xa_shift.into());
        // SAFETY: By the function's contract.
        match unsafe { self.array.descend(index, order) } {
            (_, Some((node, offset))) => {
                // INVARIANT: This is where a walk leads to, and what it leaves behind.
                self.state.xa_node = node;
                self.state.xa_offset = offset as u8;
            }
            _ => {
                self.load();
            }
        }
    }

    /// The node that was walked to, unless there's none.
    fn node(&self) -> Option<*mut xa_node> {
        // Everything below and the errors aren't pointers, see the comment at `struct xa_state`.
        let node = self.state.xa_node;
        let real = node as usize > RESTART as usize && node as usize & 3 == 0;
        real.then_some(node)
    }

    /// Was the walk to the one entry of an array without any node?
    fn is_only_entry(&self) -> bool {
        self.state.xa_node.is_null()
    }

    /// Allocates memory, if that's what the operation has failed for. True if it's to be tried again.
    /// The caller holds neither lock nor RCU.
    fn allocate(&mut self) -> bool {
        // SAFETY: The state is initialised by the type invariant.
        unsafe { xas_nomem(self.as_ptr(), GFP_KERNEL_ACCOUNT) }
    }

    fn result(&self) -> Result {
        // SAFETY: The state is initialised by the type invariant.
        to_result(unsafe { bindings::kma_xas_error(&self.state) })
    }
}

impl Drop for State<'_> {
    fn drop(&mut self) {
        if !self.state.xa_alloc.is_null() {
            // SAFETY: The state is initialised by the type invariant; what's allocated and not used
            // belongs to it.
            unsafe { xas_destroy(self.as_ptr()) };
        }
    }
}

/// The slot around `index` that has `entry` and is one of `node`'s.
///
/// # Safety
///
/// That's what a walk must have found, and the caller hold RCU since, or the array's lock.
unsafe fn slot(index: u64, entry: *mut c_void, node: Option<*mut xa_node>) -> Slot {
    let value = to_value(entry);
    // Without a node there's at most one entry, at index 0.
    let Some(node) = node else {
        return Slot {
            value,
            last: if value.is_some() { index } else { u64::MAX },
            order: value.map(|_| 0),
            reserved: false,
            in_head: true,
        };
    };
    // SAFETY: The node stays allocated by the function's contract, and its shift doesn't change.
    let order = u32::from(unsafe { (*node).shift });
    // SAFETY: As above. A tree that grows gives its topmost node a parent.
    let parent = unsafe { (&raw const (*node).parent).read_volatile() };
    Slot {
        value,
        last: block(index, order).1,
        order: Some(order),
        reserved: is_reservation(entry),
        in_head: parent.is_null(),
    }
}

/// Is there, in the block of `order` around `index`, a leaf beside the one that `index` is in? Its
/// indices aren't all the same, as it would have been joined.
///
/// # Safety
///
/// `leaf` must be the leaf that `index` is in, and the caller hold the array's lock.
unsafe fn has_other_leaf(leaf: *mut xa_node, index: u64, order: u32) -> bool {
    // SAFETY: The leaf is one by the function's contract, and so is its parent, with the lock held.
    let Some(parent) = (unsafe { (*leaf).parent.as_ref() }) else {
        return false;
    };
    let (first, last) = block(index, order.min(2 * CHUNK_SHIFT));
    let place = |index: u64| (index >> CHUNK_SHIFT) as usize % CHUNK_SIZE;
    let here = place(index);
    (place(first)..place(last) + 1)
        .any(|offset| offset != here && to_node(parent.slots[offset]).is_some())
}

/// The value of an entry. As the C functions xa_is_value() and xa_to_value(), which every lookup
/// would have to call.
#[inline]
pub(super) fn to_value(entry: *mut c_void) -> Option<u64> {
    let entry = entry as u64;
    (entry & 1 != 0).then_some(entry >> 1)
}

/// The entry of a value.
#[inline]
fn mk_value(value: u64) -> *mut c_void {
    // SAFETY: Any value of at most 63 bits has an entry.
    unsafe { bindings::kma_xa_mk_value(value as usize) }
}

/// The node that an entry stands for, if it does. As the C functions xa_is_node() and xa_to_node().
#[inline]
fn to_node(entry: *mut c_void) -> Option<*mut xa_node> {
    let node = entry as usize > 4096 && is_internal(entry);
    node.then(|| entry.wrapping_byte_sub(INTERNAL).cast())
}

/// What an entry has in its lowest two bits that's neither a value nor NULL.
const INTERNAL: usize = 2;

/// Is it a node, a reservation or a retry entry?
#[inline]
fn is_internal(entry: *mut c_void) -> bool {
    entry as usize & 3 == INTERNAL
}

/// The entry of a reservation.
#[inline]
fn reservation() -> *mut c_void {
    // SAFETY: There's one such entry, always.
    unsafe { bindings::kma_xa_zero_entry() }
}

/// Is it the entry of a reservation?
#[inline]
fn is_reservation(entry: *mut c_void) -> bool {
    // SAFETY: Any entry may be tested.
    is_internal(entry) && unsafe { bindings::kma_xa_is_zero(entry) }
}

/// Is it what a node has in its slots that has just left the tree?
#[inline]
pub(super) fn is_retry(entry: *mut c_void) -> bool {
    // SAFETY: Any entry may be tested.
    is_internal(entry) && unsafe { bindings::kma_xa_is_retry(entry) }
}
