/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM kvm

#if !defined(_TRACE_KVM_USERFAULT_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_KVM_USERFAULT_H

#include <linux/kvm_host.h>
#include <linux/tracepoint.h>

#define kvm_userfault_flag_names				\
	{ KVM_MEMORY_EXIT_FLAG_READ,		"READ" },	\
	{ KVM_MEMORY_EXIT_FLAG_WRITE,		"WRITE" },	\
	{ KVM_MEMORY_EXIT_FLAG_EXEC,		"EXEC" },	\
	{ KVM_MEMORY_EXIT_FLAG_PRIVATE,		"PRIVATE" },	\
	{ KVM_MEMORY_EXIT_FLAG_USERFAULT,	"USERFAULT" },	\
	{ KVM_MEMORY_EXIT_FLAG_POISON,		"POISON" },	\
	{ KVM_MEMORY_EXIT_FLAG_OWN,		"OWN" },		\
	{ KVM_MEMORY_EXIT_FLAG_PAGE_WALK,	"PAGE_WALK" },	\
	{ KVM_MEMORY_EXIT_FLAG_BITMAP,		"BITMAP" }

/*
 * A vCPU's access was stopped.  The flags are the full set, whether or not
 * userspace enabled KVM_USERFAULT_FEATURE_ACCESS to be told of them.
 */
TRACE_EVENT(kvm_userfault,
	TP_PROTO(int vcpu_id, u64 gpa, u64 flags,
		 const struct kvm_memory_slot *slot),
	TP_ARGS(vcpu_id, gpa, flags, slot),

	TP_STRUCT__entry(
		__field(int,	vcpu_id)
		__field(u64,	gpa)
		__field(u64,	flags)
		__field(u16,	as_id)
		__field(short,	slot_id)
	),

	TP_fast_assign(
		__entry->vcpu_id = vcpu_id;
		__entry->gpa = gpa;
		__entry->flags = flags;
		__entry->as_id = slot->as_id;
		__entry->slot_id = slot->id;
	),

	TP_printk("vcpu %d gpa 0x%llx as %u slot %d flags 0x%llx (%s)",
		  __entry->vcpu_id, __entry->gpa, __entry->as_id,
		  __entry->slot_id, __entry->flags,
		  __print_flags(__entry->flags, "|", kvm_userfault_flag_names))
);

/* Userspace declared the content of pages lost, or the reverse. */
TRACE_EVENT(kvm_userfault_poison,
	TP_PROTO(u64 gpa, u64 size, bool set),
	TP_ARGS(gpa, size, set),

	TP_STRUCT__entry(
		__field(u64,	gpa)
		__field(u64,	size)
		__field(bool,	set)
	),

	TP_fast_assign(
		__entry->gpa = gpa;
		__entry->size = size;
		__entry->set = set;
	),

	TP_printk("gpa 0x%llx size 0x%llx %s", __entry->gpa, __entry->size,
		  __entry->set ? "set" : "cleared")
);

#endif /* _TRACE_KVM_USERFAULT_H */

/* The events are in the "kvm" system, the file is not kvm.h. */
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE kvm_userfault

/* This part must be outside protection */
#include <trace/define_trace.h>
