// SPDX-License-Identifier: GPL-2.0

//! The module's tracepoints, which `trace.c` has. What they show is worked out only if somebody wants
//! to see it.
//!
//! C header: [`include/linux/tracepoint.h`](srctree/include/linux/tracepoint.h)

use super::bindings;

/// What the tracepoints show. Addresses, offsets and sizes are in bytes, `ret` is 0 or a negative
/// errno, and `at` is the first byte that isn't done, or what the request has failed at.
pub(crate) use bindings::{
    kma_batch_event as BatchEvent,
    kma_convert_event as ConvertEvent,
    kma_pages_event as PagesEvent,
    kma_set_event as SetEvent, //
};

macro_rules! tracepoint {
    ($(#[$doc:meta])* $name:ident, $event:ty, $enabled:ident, $trace:ident) => {
        $(#[$doc])*
        #[inline]
        pub(crate) fn $name(event: impl FnOnce() -> $event) {
            // SAFETY: An FFI call with no additional requirements.
            if unsafe { bindings::$enabled() } {
                // SAFETY: The event is valid, and nobody keeps a reference to it.
                unsafe { bindings::$trace(&event()) };
            }
        }
    };
}

tracepoint!(
    /// A range of a VM's memory, or a whole layer, was to be set.
    set,
    SetEvent,
    kma_trace_set_enabled,
    kma_trace_set
);

tracepoint!(
    /// A batch was to be set. `entry` is the first bad one, or -1.
    batch,
    BatchEvent,
    kma_trace_batch_enabled,
    kma_trace_batch
);

tracepoint!(
    /// A range of a guest_memfd was to be converted.
    convert,
    ConvertEvent,
    kma_trace_convert_enabled,
    kma_trace_convert
);

tracepoint!(
    /// Pages of which attributes change lose their mappings. In any context.
    zap,
    PagesEvent,
    kma_trace_zap_enabled,
    kma_trace_zap
);

tracepoint!(
    /// An invalidation of memory of one kind leaves pages mapped that are of the other kind. In any
    /// context.
    spare,
    PagesEvent,
    kma_trace_spare_enabled,
    kma_trace_spare
);
