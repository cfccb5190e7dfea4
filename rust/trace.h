/* SPDX-License-Identifier: GPL-2.0 */
/* The module's tracepoints, below events/kvm_memattr in tracefs. */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM kvm_memattr

#if !defined(_KVM_MEMATTR_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _KVM_MEMATTR_TRACE_H

#include <linux/tracepoint.h>

#include "bindings_helper.h"

#define kma_show_attributes(attributes)					\
	(!(attributes) ? "0" :						\
	 __print_flags(attributes, "|",					\
		       { 1, "NR" },					\
		       { 2, "NW" },					\
		       { 4, "NX" },					\
		       { 8, "PRIVATE" }))

/* As numbers, since userspace's parsers of formats don't know what _IOW() is made of. */
#define kma_show_command(cmd)						\
	__print_symbolic(cmd,						\
			 { 0x4020aed2, "SET" },				\
			 { 0xc080aed2, "SET2" },			\
			 { 0xc020aed3, "RESUMABLE" })

TRACE_EVENT(kvm_memattr_set,
	    TP_PROTO(const struct kma_set_event *event),
	    TP_ARGS(event),
	    TP_STRUCT__entry(__field(u64, vm)
			     __field(u64, gpa)
			     __field(u64, size)
			     __field(u64, attributes)
			     __field(u64, flags)
			     __field(u64, at)
			     __field(unsigned int, cmd)
			     __field(unsigned int, layer)
			     __field(int, ret)
	    ),
	    TP_fast_assign(__entry->vm = event->vm;
			   __entry->gpa = event->gpa;
			   __entry->size = event->size;
			   __entry->attributes = event->attributes;
			   __entry->flags = event->flags;
			   __entry->at = event->at;
			   __entry->cmd = event->cmd;
			   __entry->layer = event->layer;
			   __entry->ret = event->ret;
	    ),
	    TP_printk("vm %llu %s layer %u gpa 0x%llx size 0x%llx attributes %s flags 0x%llx ret %d at 0x%llx",
		      __entry->vm, kma_show_command(__entry->cmd), __entry->layer,
		      __entry->gpa, __entry->size,
		      kma_show_attributes(__entry->attributes), __entry->flags,
		      __entry->ret, __entry->at)
);

TRACE_EVENT(kvm_memattr_batch,
	    TP_PROTO(const struct kma_batch_event *event),
	    TP_ARGS(event),
	    TP_STRUCT__entry(__field(u64, vm)
			     __field(unsigned int, nr)
			     __field(int, ret)
			     __field(int, entry)
	    ),
	    TP_fast_assign(__entry->vm = event->vm;
			   __entry->nr = event->nr;
			   __entry->ret = event->ret;
			   __entry->entry = event->entry;
	    ),
	    TP_printk("vm %llu entries %u ret %d entry %d",
		      __entry->vm, __entry->nr, __entry->ret, __entry->entry)
);

TRACE_EVENT(kvm_memattr_convert,
	    TP_PROTO(const struct kma_convert_event *event),
	    TP_ARGS(event),
	    TP_STRUCT__entry(__field(u64, ino)
			     __field(u64, offset)
			     __field(u64, size)
			     __field(u64, attributes)
			     __field(u64, flags)
			     __field(u64, at)
			     __field(int, ret)
	    ),
	    TP_fast_assign(__entry->ino = event->ino;
			   __entry->offset = event->offset;
			   __entry->size = event->size;
			   __entry->attributes = event->attributes;
			   __entry->flags = event->flags;
			   __entry->at = event->at;
			   __entry->ret = event->ret;
	    ),
	    TP_printk("ino %llu offset 0x%llx size 0x%llx attributes %s flags 0x%llx ret %d at 0x%llx",
		      __entry->ino, __entry->offset, __entry->size,
		      kma_show_attributes(__entry->attributes), __entry->flags,
		      __entry->ret, __entry->at)
);

DECLARE_EVENT_CLASS(kvm_memattr_pages,
		    TP_PROTO(const struct kma_pages_event *event),
		    TP_ARGS(event),
		    TP_STRUCT__entry(__field(u64, vm)
				     __field(u64, gpa)
				     __field(u64, size)
				     __field(bool, only_private)
				     __field(bool, only_shared)
		    ),
		    TP_fast_assign(__entry->vm = event->vm;
				   __entry->gpa = event->gpa;
				   __entry->size = event->size;
				   __entry->only_private = event->only_private;
				   __entry->only_shared = event->only_shared;
		    ),
		    TP_printk("vm %llu gpa 0x%llx size 0x%llx%s%s",
			      __entry->vm, __entry->gpa, __entry->size,
			      __entry->only_private ? " private" : "",
			      __entry->only_shared ? " shared" : "")
);

/* What a change of attributes takes out of the guest's page tables. */
DEFINE_EVENT(kvm_memattr_pages, kvm_memattr_zap,
	     TP_PROTO(const struct kma_pages_event *event),
	     TP_ARGS(event)
);

/* What an invalidation of memory of the other kind leaves. */
DEFINE_EVENT(kvm_memattr_pages, kvm_memattr_spare,
	     TP_PROTO(const struct kma_pages_event *event),
	     TP_ARGS(event)
);

#endif /* _KVM_MEMATTR_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
