// SPDX-License-Identifier: GPL-2.0
/*
 * The module's tracepoints, which only C can define, and wrappers of their inline
 * functions.
 */
#define CREATE_TRACE_POINTS
#include "trace.h"

static_assert(KVM_MEMORY_ATTRIBUTE_NR == 1 && KVM_MEMORY_ATTRIBUTE_NW == 2);
static_assert(KVM_MEMORY_ATTRIBUTE_NX == 4 && KVM_MEMORY_ATTRIBUTE_PRIVATE == 8);
static_assert(KVM_SET_MEMORY_ATTRIBUTES == 0x4020aed2);
static_assert(KVM_SET_MEMORY_ATTRIBUTES2 == 0xc080aed2);
static_assert(KVM_SET_MEMORY_ATTRIBUTES_RESUMABLE == 0xc020aed3);

#define KMA_TRACE(_name, _what)						\
bool kma_trace_##_name##_enabled(void)					\
{									\
	return trace_kvm_memattr_##_name##_enabled();			\
}									\
									\
void kma_trace_##_name(const struct kma_##_what##_event *event)		\
{									\
	trace_kvm_memattr_##_name(event);				\
}

KMA_TRACE(set, set)
KMA_TRACE(batch, batch)
KMA_TRACE(convert, convert)
KMA_TRACE(zap, pages)
KMA_TRACE(spare, pages)
