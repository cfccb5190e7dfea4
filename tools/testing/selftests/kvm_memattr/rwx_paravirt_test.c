// SPDX-License-Identifier: GPL-2.0
/*
 * What KVM keeps in the guest's memory for it: clocks, steal time, asynchronous
 * page faults, EOIs. It's left alone while the page is denied, without an exit, as
 * nobody could repeat it, and goes on once the page isn't.
 */
/* modes: npt=0 */
#include <asm/kvm_para.h>
#include <linux/kvm_para.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "apic.h"
#include "kvm_memattr_own.h"

#define VECTOR		0x42

FIXTURE(paravirt) {
	struct rwx_guest g;
};

FIXTURE_SETUP(paravirt)
{
	own_init(&self->g);
}

FIXTURE_TEARDOWN(paravirt)
{
	kvm_vm_free(self->g.vm);
}

static u64 do_wrmsr(u64 a, u64 b, u64 c)
{
	wrmsr(a, b);
	return 0;
}

static u64 do_clock_pairing(u64 a, u64 b, u64 c)
{
	return kvm_hypercall(KVM_HC_CLOCK_PAIRING, a, KVM_CLOCK_PAIRING_WALLCLOCK, 0, 0);
}

/* Each has KVM write to the page, if it may. */
static void enable_system_time(struct rwx_guest *g, u64 gpa)
{
	own_call(g, do_wrmsr, MSR_KVM_SYSTEM_TIME_NEW, gpa | 1, 0);
}

static void update_system_time(struct rwx_guest *g, u64 gpa)
{
	own_update_clock(g);
}

static void enable_steal_time(struct rwx_guest *g, u64 gpa)
{
	own_call(g, do_wrmsr, MSR_KVM_STEAL_TIME, gpa | KVM_MSR_ENABLED, 0);
}

static void update_steal_time(struct rwx_guest *g, u64 gpa)
{
	own_call(g, own_do_nothing, 0, 0, 0);
}

static void update_wall_clock(struct rwx_guest *g, u64 gpa)
{
	own_call(g, do_wrmsr, MSR_KVM_WALL_CLOCK_NEW, gpa, 0);
}

static bool changed(struct rwx_guest *g, u64 page, const void *copy)
{
	return memcmp(own_page(g, page), copy, PAGE_SIZE);
}

typedef void (*write_fn)(struct rwx_guest *g, u64 gpa);

/* Something that KVM writes, to a page known to it before the change or not. */
static void skipped(struct rwx_guest *g, u64 page, bool before, u64 word, write_fn enable,
		    write_fn update)
{
	u64 gpa = rwx_gpa(g, page);
	void *copy = own_copy(g, page, 1);

	if (before) {
		enable(g, gpa);
		update(g, gpa);
		TEST_ASSERT(changed(g, page, copy), "nothing is written without restrictions");
	}

	memset(own_page(g, page), 0, PAGE_SIZE);
	memset(copy, 0, PAGE_SIZE);
	rwx_set(g, page, 1, word);
	if (!before)
		enable(g, gpa);
	update(g, gpa);
	update(g, gpa);
	if (word & KMA_NW)
		TEST_ASSERT(!changed(g, page, copy), "word 0x%lx: the page has changed", word);
	else
		TEST_ASSERT(changed(g, page, copy), "word 0x%lx: nothing is written", word);

	rwx_set(g, page, 1, 0);
	memset(own_page(g, page), 0, PAGE_SIZE);
	update(g, gpa);
	TEST_ASSERT(changed(g, page, copy), "word 0x%lx: nothing is written after it", word);
	free(copy);
}

static void skipped_while_denied(struct rwx_guest *g, write_fn enable, write_fn update)
{
	u64 page = 0;

	for (int i = 0; i < ARRAY_SIZE(kma_restrictions); i++) {
		skipped(g, page++, true, kma_restrictions[i], enable, update);
		skipped(g, page++, false, kma_restrictions[i], enable, update);
	}
}

TEST_F(paravirt, system_time_is_not_written_while_denied)
{
	skipped_while_denied(&self->g, enable_system_time, update_system_time);
}

TEST_F(paravirt, steal_time_is_not_written_while_denied)
{
	skipped_while_denied(&self->g, enable_steal_time, update_steal_time);
}

TEST_F(paravirt, wall_clock_is_not_written_while_denied)
{
	skipped_while_denied(&self->g, update_wall_clock, update_wall_clock);
}

/* A clock that was set meanwhile is the guest's as soon as it may be. */
TEST_F(paravirt, system_time_is_up_to_date_after_it_was_denied)
{
	static const u64 words[] = { KMA_NW, KMA_NO_ACCESS };
	struct rwx_guest *g = &self->g;
	struct kvm_clock_data data;

	for (int i = 0; i < ARRAY_SIZE(words); i++) {
		void *copy;

		enable_system_time(g, rwx_gpa(g, i));
		update_system_time(g, rwx_gpa(g, i));
		rwx_set(g, i, 1, words[i]);
		copy = own_copy(g, i, 1);
		vm_ioctl(g->vm, KVM_GET_CLOCK, &data);
		data.flags = 0;
		data.clock += 1000ull * NSEC_PER_SEC;
		vm_ioctl(g->vm, KVM_SET_CLOCK, &data);
		own_call(g, own_do_nothing, 0, 0, 0);
		own_call(g, own_do_nothing, 0, 0, 0);
		TEST_ASSERT(!changed(g, i, copy), "word 0x%lx: the page has changed", words[i]);
		rwx_set(g, i, 1, 0);
		own_call(g, own_do_nothing, 0, 0, 0);
		TEST_ASSERT(changed(g, i, copy), "word 0x%lx: the guest's time is an old one",
			    words[i]);
		free(copy);
	}
}

/* Time that passes meanwhile is counted later. */
TEST_F(paravirt, steal_time_is_complete_after_it_was_denied)
{
	struct rwx_guest *g = &self->g;
	struct kvm_steal_time *st = own_page(g, 0);
	long since;
	u64 was;

	enable_steal_time(g, rwx_gpa(g, 0));
	update_steal_time(g, 0);
	was = st->steal;
	rwx_set(g, 0, 1, KMA_NO_ACCESS);
	since = get_run_delay();
	while (get_run_delay() < since + 1000 * 1000)
		sched_yield();
	update_steal_time(g, 0);
	TEST_ASSERT_EQ(st->steal, was);
	rwx_set(g, 0, 1, 0);
	update_steal_time(g, 0);
	TEST_ASSERT(st->steal >= was + 1000 * 1000,
		    "%llu ns were stolen before, %llu after, 1 ms while it was denied",
		    (unsigned long long)was, (unsigned long long)st->steal);
}

/* The hypercall has a result to say so. */
TEST_F(paravirt, clock_pairing_fails_while_denied)
{
	struct rwx_guest *g = &self->g;
	u64 page = 0, ret;
	void *copy;

	ret = own_call(g, do_clock_pairing, rwx_gpa(g, 31), 0, 0);
	if (ret == -KVM_EOPNOTSUPP)
		SKIP(return, "KVM has no clock to pair with: the host's is not the TSC");

	for (int i = 0; i < ARRAY_SIZE(kma_restrictions); i++, page++) {
		copy = own_copy(g, page, 1);
		rwx_set(g, page, 1, kma_restrictions[i]);
		ret = own_call(g, do_clock_pairing, rwx_gpa(g, page), 0, 0);
		TEST_ASSERT_EQ(ret, kma_restrictions[i] & KMA_NW ? -KVM_EFAULT : 0ul);
		TEST_ASSERT_EQ(!changed(g, page, copy), !!(kma_restrictions[i] & KMA_NW));
		rwx_set(g, page, 1, 0);
		TEST_ASSERT_EQ(own_call(g, do_clock_pairing, rwx_gpa(g, page), 0, 0), 0ul);
		TEST_ASSERT(changed(g, page, copy), "nothing is written after it");
		free(copy);
	}
}

/* In the guest: what the handlers are to look at, and what they have seen. */
static struct {
	u64 word;
	u64 wait;
	u64 in_handler;
	u64 by_memory;
	u64 by_register;
	u64 faults;
	u64 token;
} seen;

#define SEEN(_g)	((typeof(seen) *)addr_gva2hva((_g)->vm, (gva_t)&seen))

static void eoi_handler(struct ex_regs *regs)
{
	bool pending;

	WRITE_ONCE(seen.in_handler, 1);
	while (READ_ONCE(seen.wait))
		cpu_relax();
	if (READ_ONCE(seen.in_handler) == 2)
		GUEST_SYNC(VECTOR);

	asm volatile("lock btrl $0, %1\n\t"
		     "setc %0" : "=q"(pending), "+m"(*(u32 *)seen.word) : : "cc", "memory");
	if (pending) {
		seen.by_memory++;
	} else {
		seen.by_register++;
		x2apic_write_reg(APIC_EOI, 0);
	}
}

static u64 do_enable_apic(u64 a, u64 b, u64 c)
{
	x2apic_enable();
	return 0;
}

static u64 do_interrupt(u64 a, u64 b, u64 c)
{
	sti_nop();
	x2apic_write_reg(APIC_ICR, APIC_DEST_SELF | APIC_INT_ASSERT | VECTOR);
	cli();
	return 0;
}

static bool in_service(struct rwx_guest *g)
{
	struct kvm_lapic_state lapic;

	vcpu_ioctl(g->vcpu, KVM_GET_LAPIC, &lapic);
	return *(u32 *)&lapic.regs[APIC_ISR + APIC_VECTOR_TO_REG_OFFSET(VECTOR)] &
	       BIT(APIC_VECTOR_TO_BIT_NUMBER(VECTOR));
}

static void eoi_init(struct rwx_guest *g, u64 page)
{
	memset(own_page(g, page), 0, PAGE_SIZE);
	vm_install_exception_handler(g->vm, VECTOR, eoi_handler);
	SEEN(g)->word = rwx_gpa(g, page);
	own_call(g, do_enable_apic, 0, 0, 0);
	own_call(g, do_wrmsr, MSR_KVM_PV_EOI_EN, rwx_gpa(g, page) | KVM_MSR_ENABLED, 0);
}

/* Any exit takes the offer back, so that it isn't there each time. */
#define TRIES		200

static void eoi_by_memory(struct rwx_guest *g, u64 page)
{
	SEEN(g)->word = rwx_gpa(g, page);
	SEEN(g)->by_memory = 0;
	for (int i = 0; i < TRIES && !SEEN(g)->by_memory; i++) {
		own_call(g, do_interrupt, 0, 0, 0);
		TEST_ASSERT(!in_service(g), "the interrupt is still in service");
	}
	TEST_ASSERT(SEEN(g)->by_memory, "an EOI by memory is never offered");
}

TEST_F(paravirt, eoi_by_memory_is_not_offered_while_denied)
{
	struct rwx_guest *g = &self->g;

	eoi_init(g, 0);
	memset(own_page(g, 1), 0, PAGE_SIZE);
	for (int w = 0; w < ARRAY_SIZE(kma_restrictions); w++) {
		u64 word = kma_restrictions[w];
		void *copy;

		eoi_by_memory(g, 0);
		if (!(word & KMA_NW))
			continue;

		/* The guest itself looks elsewhere. KVM would write 1, and 0 later. */
		SEEN(g)->word = rwx_gpa(g, 1);
		SEEN(g)->by_memory = 0;
		*(u8 *)own_page(g, 0) = 0xfe;
		copy = own_copy(g, 0, 1);
		rwx_set(g, 0, 1, word);
		for (int i = 0; i < 20; i++) {
			own_call(g, do_interrupt, 0, 0, 0);
			TEST_ASSERT(!in_service(g), "the interrupt is still in service");
		}
		TEST_ASSERT_EQ(SEEN(g)->by_memory, 0);
		own_assert_same(g, 0, 1, copy);
		rwx_set(g, 0, 1, 0);
		*(u8 *)own_page(g, 0) = 0;
	}
	eoi_by_memory(g, 0);
}

static void *run_thread(void *vcpu)
{
	own_finish_on(vcpu);
	return NULL;
}

/* The guest is in its handler, KVM has offered an EOI by memory, and is denied. */
static bool offer_then_deny(struct rwx_guest *g, u64 page, u64 word)
{
	u8 *offered = own_page(g, page);
	pthread_t thread;
	bool held;

	SEEN(g)->by_memory = 0;
	SEEN(g)->by_register = 0;
	WRITE_ONCE(SEEN(g)->wait, 1);
	WRITE_ONCE(SEEN(g)->in_handler, 0);
	own_issue(g, do_interrupt, 0, 0, 0);
	pthread_create(&thread, NULL, run_thread, g->vcpu);
	while (!READ_ONCE(SEEN(g)->in_handler))
		;

	if (READ_ONCE(*offered))
		rwx_set(g, page, 1, word);
	held = READ_ONCE(*offered);
	if (held)
		WRITE_ONCE(SEEN(g)->in_handler, 2);
	else
		rwx_set(g, page, 1, 0);
	WRITE_ONCE(SEEN(g)->wait, 0);
	pthread_join(thread, NULL);
	return held;
}

/* KVM can't know whether there has been an EOI, and so there has been none. */
static void eoi_denied(struct rwx_guest *g, u64 page, u64 word)
{
	u8 *offered = own_page(g, page);
	int tries = TRIES;

	eoi_init(g, page);
	while (!offer_then_deny(g, page, word))
		TEST_ASSERT(--tries, "an EOI by memory is never offered for long enough");

	TEST_ASSERT(in_service(g), "an interrupt is over that the guest is still handling");
	TEST_ASSERT_EQ(*offered, 1);
	rwx_assert_exit(g->vcpu, rwx_gpa(g, page), KVM_MEMORY_EXIT_FLAG_WRITE);
	TEST_ASSERT(in_service(g), "an interrupt is over that the guest is still handling");
	TEST_ASSERT_EQ(*offered, 1);

	/* The guest's EOI, or KVM's offer is taken back and it makes one by register. */
	rwx_set(g, page, 1, 0);
	own_finish(g);
	TEST_ASSERT(!in_service(g), "the interrupt is still in service");
	TEST_ASSERT_EQ(SEEN(g)->by_memory + SEEN(g)->by_register, 1);
}

TEST_F(paravirt, eoi_by_memory_is_not_assumed_when_denied_meanwhile)
{
	eoi_denied(&self->g, 0, KMA_NW);
	eoi_denied(&self->g, 1, KMA_NO_ACCESS);
}

/* A page that takes its time to be there. */
#define SLOW_PAGE	8

static void fault_handler(struct ex_regs *regs)
{
	struct kvm_vcpu_pv_apf_data *data = (void *)seen.word;

	seen.faults++;
	GUEST_ASSERT_EQ(data->flags, KVM_PV_REASON_PAGE_NOT_PRESENT);
	data->flags = 0;
	GUEST_SYNC(PF_VECTOR);
	while (READ_ONCE(seen.wait))
		cpu_relax();
}

static void ready_handler(struct ex_regs *regs)
{
	struct kvm_vcpu_pv_apf_data *data = (void *)seen.word;

	seen.token = data->token;
	data->token = 0;
	wrmsr(MSR_KVM_ASYNC_PF_ACK, 1);
	x2apic_write_reg(APIC_EOI, 0);
}

static u64 do_read_slow_page(u64 a, u64 b, u64 c)
{
	u64 value;

	sti_nop();
	value = READ_ONCE(*(u64 *)a);
	cli();
	return value;
}

static u64 do_take_interrupts(u64 a, u64 b, u64 c)
{
	sti_nop();
	cli();
	return 0;
}

static int slow_page(struct rwx_guest *g)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { (u64)own_page(g, SLOW_PAGE), PAGE_SIZE },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	/* Without O_NONBLOCK poll() doesn't wait, but answers POLLERR. */
	int uffd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	TEST_ASSERT(uffd >= 0 && !ioctl(uffd, UFFDIO_API, &api),
		    "no userfaultfd: %s", strerror(errno));
	TEST_ASSERT(!madvise(own_page(g, SLOW_PAGE), PAGE_SIZE, MADV_DONTNEED),
		    "madvise: %s", strerror(errno));
	TEST_ASSERT(!ioctl(uffd, UFFDIO_REGISTER, &reg), "register: %s", strerror(errno));
	return uffd;
}

static void await_want_of_slow_page(int uffd)
{
	struct pollfd pollfd = { .fd = uffd, .events = POLLIN };

	TEST_ASSERT_EQ(poll(&pollfd, 1, 10 * 1000), 1);
	TEST_ASSERT_EQ(pollfd.revents, POLLIN);
}

/* Wait until somebody wants the page, and provide it. */
static void provide_slow_page(struct rwx_guest *g, int uffd)
{
	struct uffdio_zeropage zero = {
		.range = { (u64)own_page(g, SLOW_PAGE), PAGE_SIZE },
	};
	struct uffd_msg msg;

	await_want_of_slow_page(uffd);
	TEST_ASSERT(read(uffd, &msg, sizeof(msg)) == sizeof(msg), "no event");
	usleep(50 * 1000);
	TEST_ASSERT(!ioctl(uffd, UFFDIO_ZEROPAGE, &zero), "zeropage: %s", strerror(errno));
}

struct provider {
	struct rwx_guest *g;
	int uffd;
};

static void *provide_thread(void *arg)
{
	struct provider *provider = arg;

	provide_slow_page(provider->g, provider->uffd);
	return NULL;
}

static void apf_init(struct rwx_guest *g, u64 page)
{
	memset(own_page(g, page), 0, PAGE_SIZE);
	vm_install_exception_handler(g->vm, PF_VECTOR, fault_handler);
	vm_install_exception_handler(g->vm, VECTOR, ready_handler);
	memset(SEEN(g), 0, sizeof(seen));
	SEEN(g)->word = rwx_gpa(g, page);
	own_call(g, do_enable_apic, 0, 0, 0);
	own_call(g, do_wrmsr, MSR_KVM_ASYNC_PF_INT, VECTOR, 0);
	own_call(g, do_wrmsr, MSR_KVM_ASYNC_PF_EN,
		 rwx_gpa(g, page) | KVM_ASYNC_PF_ENABLED | KVM_ASYNC_PF_SEND_ALWAYS |
		 KVM_ASYNC_PF_DELIVERY_AS_INT, 0);

	/* KVM begins by telling all waiters that they may go on. */
	own_call(g, do_take_interrupts, 0, 0, 0);
	TEST_ASSERT_EQ(SEEN(g)->token, ~0u);
	SEEN(g)->token = 0;
}

/* Without a way to tell the guest, it waits for the page, each time. */
static void missing_while_denied(struct rwx_guest *g, u64 page, u64 word)
{
	struct provider provider = { .g = g };
	pthread_t thread;
	void *copy;

	apf_init(g, page);
	copy = own_copy(g, page, 1);
	rwx_set(g, page, 1, word);
	for (int i = 0; i < 2; i++) {
		provider.uffd = slow_page(g);
		pthread_create(&thread, NULL, provide_thread, &provider);
		TEST_ASSERT_EQ(own_call(g, do_read_slow_page, rwx_gpa(g, SLOW_PAGE), 0, 0), 0);
		pthread_join(thread, NULL);
		close(provider.uffd);
	}
	own_assert_same(g, page, 1, copy);
	TEST_ASSERT_EQ(SEEN(g)->faults, 0);
	rwx_set(g, page, 1, 0);
}

TEST_F(paravirt, missing_pages_are_not_announced_where_writing_is_denied)
{
	missing_while_denied(&self->g, 0, KMA_NW);
	missing_while_denied(&self->g, 1, KMA_NW | KMA_NX);
}

TEST_F(paravirt, missing_pages_are_not_announced_where_all_is_denied)
{
	missing_while_denied(&self->g, 0, KMA_NO_ACCESS);
}

/* The guest is told that the page is missing, and waits in its handler. */
static void want_slow_page(struct rwx_guest *g)
{
	WRITE_ONCE(SEEN(g)->wait, 1);
	own_issue(g, do_read_slow_page, rwx_gpa(g, SLOW_PAGE), 0, 0);
	TEST_ASSERT_EQ(own_finish(g), PF_VECTOR);
	TEST_ASSERT_EQ(SEEN(g)->faults, 1);
}

/* What is ready is announced later. */
static void announce_ready(struct rwx_guest *g, u64 page, u64 word)
{
	int uffd = slow_page(g);
	void *copy;

	apf_init(g, page);
	want_slow_page(g);

	rwx_set(g, page, 1, word);
	copy = own_copy(g, page, 1);
	provide_slow_page(g, uffd);
	usleep(50 * 1000);
	WRITE_ONCE(SEEN(g)->wait, 0);
	TEST_ASSERT_EQ(own_finish(g), 0);
	if (word & KMA_NW) {
		own_call(g, do_take_interrupts, 0, 0, 0);
		TEST_ASSERT_EQ(SEEN(g)->token, 0);
		own_assert_same(g, page, 1, copy);
	} else {
		free(copy);
	}

	rwx_set(g, page, 1, 0);
	own_call(g, do_take_interrupts, 0, 0, 0);
	own_call(g, do_take_interrupts, 0, 0, 0);
	TEST_ASSERT(SEEN(g)->token, "what has become ready was never announced");
	TEST_ASSERT_EQ(SEEN(g)->faults, 1);
	close(uffd);
}

TEST_F(paravirt, pages_that_are_ready_are_announced_where_allowed)
{
	announce_ready(&self->g, 0, 0);
	announce_ready(&self->g, 1, KMA_NX);
}

TEST_F(paravirt, pages_that_are_ready_are_announced_once_writing_is_allowed)
{
	announce_ready(&self->g, 0, KMA_NW);
}

TEST_F(paravirt, pages_that_are_ready_are_announced_once_all_is_allowed)
{
	announce_ready(&self->g, 0, KMA_NO_ACCESS);
}

/* The page with the events is looked up anew when memslots have changed. */
TEST_F(paravirt, missing_pages_are_announced_after_memslots_have_changed)
{
	struct rwx_guest *g = &self->g;
	int uffd = slow_page(g);

	apf_init(g, 0);
	rwx_set(g, 1, 1, KMA_NX);
	vm_mem_region_set_flags(g->vm, KMA_SLOT, KVM_MEM_LOG_DIRTY_PAGES);
	want_slow_page(g);

	vm_mem_region_set_flags(g->vm, KMA_SLOT, 0);
	provide_slow_page(g, uffd);
	usleep(50 * 1000);
	WRITE_ONCE(SEEN(g)->wait, 0);
	TEST_ASSERT_EQ(own_finish(g), 0);
	own_call(g, do_take_interrupts, 0, 0, 0);
	TEST_ASSERT(SEEN(g)->token, "the page was not announced as ready");
	close(uffd);
}

/* KVM maps it at once, by a walk of the guest's tables that nobody has asked for. */
TEST_F(paravirt, vcpu_does_not_exit_for_a_page_that_becomes_ready)
{
	struct rwx_guest *g = &self->g;
	int uffd = slow_page(g);
	pthread_t thread;
	u64 table;

	apf_init(g, 0);
	want_slow_page(g);

	table = addr_hva2gpa(g->vm, vm_get_pte(g->vm, rwx_gpa(g, SLOW_PAGE))) & PAGE_MASK;
	kma_set(g->vm, table, PAGE_SIZE, KMA_NO_ACCESS);
	kvm_pthread_create(&thread, NULL, run_thread, g->vcpu);
	provide_slow_page(g, uffd);
	usleep(200 * 1000);
	kma_set(g->vm, table, PAGE_SIZE, 0);
	WRITE_ONCE(SEEN(g)->wait, 0);
	kvm_pthread_join(thread, NULL);
	TEST_ASSERT_EQ(SEEN(g)->faults, 1);
	close(uffd);
}

/* --- accesses in flight --- */

#define ASKED_PAGE	12

/* One that asks for a restriction, and when that was done. */
struct asker {
	const char *name;
	int (*ask)(struct kvm_vm *vm, u64 gpa);
	struct kvm_vm *vm;
	u64 gpa;
	pthread_t thread;
	bool done;
};

static int ask_as_before(struct kvm_vm *vm, u64 gpa)
{
	return __kma_set(vm, gpa, PAGE_SIZE, KMA_NW);
}

static int ask_in_another_layer(struct kvm_vm *vm, u64 gpa)
{
	struct kvm_memory_attributes2 attr = {
		.address = gpa,
		.size = PAGE_SIZE,
		.attributes = KMA_NW,
		.layer = 1,
	};

	return ioctl(vm->fd, KVM_SET_MEMORY_ATTRIBUTES2, &attr);
}

static int ask_in_a_batch(struct kvm_vm *vm, u64 gpa)
{
	struct kvm_memory_attributes_entry entry = {
		.address = gpa,
		.size = PAGE_SIZE,
		.attributes = KMA_NW,
		.mask = KMA_NW,
	};
	struct kvm_memory_attributes_batch batch = { .entries = (u64)&entry, .nr = 1 };

	return ioctl(vm->fd, KVM_SET_MEMORY_ATTRIBUTES_BATCH, &batch);
}

static int ask_by_steps(struct kvm_vm *vm, u64 gpa)
{
	struct kvm_memory_attributes attr = {
		.address = gpa,
		.size = PAGE_SIZE,
		.attributes = KMA_NW,
	};

	return ioctl(vm->fd, KVM_SET_MEMORY_ATTRIBUTES_RESUMABLE, &attr);
}

static void *ask_thread(void *arg)
{
	struct asker *asker = arg;

	TEST_ASSERT(!asker->ask(asker->vm, asker->gpa), "%s: %s", asker->name, strerror(errno));
	WRITE_ONCE(asker->done, true);
	return NULL;
}

static void *finish_thread(void *arg)
{
	own_finish(arg);
	return NULL;
}

static bool is_denied(struct kvm_vm *vm, u64 gpa)
{
	struct kvm_memory_attributes_run run;
	struct kvm_memory_attributes_get get = {
		.start = gpa,
		.size = PAGE_SIZE,
		.runs = (u64)&run,
		.nr = 1,
		.layer = ~0u,
	};

	TEST_ASSERT(!ioctl(vm->fd, KVM_GET_MEMORY_ATTRIBUTES, &get), "%s", strerror(errno));
	return run.attributes & KMA_NW;
}

/*
 * The first request has stored what it was asked for, and waits for an access of
 * KVM's own. The others find that set, and nothing to do: but they must not return
 * before that access has come to its end either.
 */
static void nobody_returns(struct rwx_guest *g, int first)
{
	const struct asker all[] = {
		{ .name = "a set", .ask = ask_as_before },
		{ .name = "the same in another layer", .ask = ask_in_another_layer },
		{ .name = "a batch", .ask = ask_in_a_batch },
		{ .name = "one that can be resumed", .ask = ask_by_steps },
	};
	struct asker askers[ARRAY_SIZE(all)];
	int uffd = slow_page(g);
	pthread_t vcpu_thread;

	own_issue(g, do_wrmsr, MSR_KVM_WALL_CLOCK_NEW, rwx_gpa(g, SLOW_PAGE), 0);
	kvm_pthread_create(&vcpu_thread, NULL, finish_thread, g);
	await_want_of_slow_page(uffd);

	for (int i = 0; i < ARRAY_SIZE(askers); i++) {
		askers[i] = all[(first + i) % ARRAY_SIZE(all)];
		askers[i].vm = g->vm;
		askers[i].gpa = rwx_gpa(g, ASKED_PAGE);
		kvm_pthread_create(&askers[i].thread, NULL, ask_thread, &askers[i]);
		while (!is_denied(g->vm, askers[i].gpa))
			usleep(1000);
	}
	usleep(500 * 1000);
	for (int i = 0; i < ARRAY_SIZE(askers); i++)
		TEST_ASSERT(!READ_ONCE(askers[i].done), "%s has returned", askers[i].name);

	provide_slow_page(g, uffd);
	kvm_pthread_join(vcpu_thread, NULL);
	for (int i = 0; i < ARRAY_SIZE(askers); i++)
		kvm_pthread_join(askers[i].thread, NULL);
	/* Nobody is waited for any more. */
	rwx_set(g, ASKED_PAGE, 1, KMA_NW);
	close(uffd);
}

TEST_F(paravirt, nobody_returns_before_accesses_in_flight_have_ended)
{
	nobody_returns(&self->g, 0);
}

TEST_F(paravirt, nobody_returns_before_what_another_layer_has_denied_has_ended)
{
	nobody_returns(&self->g, 1);
}

TEST_F(paravirt, nobody_returns_before_what_a_batch_has_denied_has_ended)
{
	nobody_returns(&self->g, 2);
}

TEST_F(paravirt, nobody_returns_before_what_was_denied_by_steps_has_ended)
{
	nobody_returns(&self->g, 3);
}

#define GRANTED_PAGE	14
/* In microseconds: what never waits has returned long before, what waits never does. */
#define RETURNED_US	5000000

static int ask_for_all_rights(struct kvm_vm *vm, u64 gpa)
{
	return __kma_set(vm, gpa, PAGE_SIZE, 0);
}

static int ask_to_clear_a_layer(struct kvm_vm *vm, u64 gpa)
{
	struct kvm_memory_attributes2 attr = {
		.flags = KVM_SET_MEMORY_ATTRIBUTES2_WHOLE_LAYER,
		.layer = 1,
	};

	return ioctl(vm->fd, KVM_SET_MEMORY_ATTRIBUTES2, &attr);
}

/*
 * While a request waits for an access, one that only gives rights returns. So does one
 * that leaves a restriction, if that is of pages that nobody waits for.
 */
TEST_F(paravirt, requests_that_only_give_rights_do_not_wait)
{
	const struct asker all[] = {
		{ .name = "some rights", .ask = ask_as_before },
		{ .name = "nothing new", .ask = ask_as_before },
		{ .name = "nothing new, by a batch", .ask = ask_in_a_batch },
		{ .name = "all rights", .ask = ask_for_all_rights },
		{ .name = "a layer cleared", .ask = ask_to_clear_a_layer },
	};
	struct rwx_guest *g = &self->g;
	struct asker waits = { .name = "a set", .ask = ask_as_before, .vm = g->vm,
			       .gpa = rwx_gpa(g, ASKED_PAGE) };
	int uffd = slow_page(g);
	pthread_t vcpu_thread;

	rwx_set(g, GRANTED_PAGE, 1, KMA_NO_ACCESS);
	TEST_ASSERT(!ask_in_another_layer(g->vm, rwx_gpa(g, GRANTED_PAGE + 2)), "%s",
		    strerror(errno));
	own_issue(g, do_wrmsr, MSR_KVM_WALL_CLOCK_NEW, rwx_gpa(g, SLOW_PAGE), 0);
	kvm_pthread_create(&vcpu_thread, NULL, finish_thread, g);
	await_want_of_slow_page(uffd);
	kvm_pthread_create(&waits.thread, NULL, ask_thread, &waits);
	while (!is_denied(g->vm, waits.gpa))
		usleep(1000);

	for (int i = 0; i < ARRAY_SIZE(all); i++) {
		struct asker asker = all[i];

		asker.vm = g->vm;
		asker.gpa = rwx_gpa(g, GRANTED_PAGE);
		kvm_pthread_create(&asker.thread, NULL, ask_thread, &asker);
		for (int us = 0; !READ_ONCE(asker.done); us += 1000) {
			TEST_ASSERT(us < RETURNED_US, "%s: waits", asker.name);
			usleep(1000);
		}
		kvm_pthread_join(asker.thread, NULL);
	}
	TEST_ASSERT(!READ_ONCE(waits.done), "nothing was waited for");

	provide_slow_page(g, uffd);
	kvm_pthread_join(vcpu_thread, NULL);
	kvm_pthread_join(waits.thread, NULL);
	close(uffd);
}

#define PREEMPTED_PAGE	1

static u64 do_wait(u64 a, u64 b, u64 c)
{
	WRITE_ONCE(seen.wait, 2);
	while (READ_ONCE(seen.wait))
		cpu_relax();
	return 0;
}

/*
 * Another vCPU that finds this one marked as preempted has it flush its TLB when it
 * runs again. It runs already, and the right to mark it was just given back.
 */
TEST_F(paravirt, running_vcpu_is_not_left_marked_as_preempted_once_allowed)
{
	struct rwx_guest *g = &self->g;
	struct kvm_steal_time *st = own_page(g, PREEMPTED_PAGE);
	pthread_t vcpu_thread;

	enable_steal_time(g, rwx_gpa(g, PREEMPTED_PAGE));
	rwx_set(g, PREEMPTED_PAGE, 1, KMA_NW);
	WRITE_ONCE(st->preempted, KVM_VCPU_PREEMPTED);
	own_issue(g, do_wait, 0, 0, 0);
	kvm_pthread_create(&vcpu_thread, NULL, finish_thread, g);
	while (READ_ONCE(SEEN(g)->wait) != 2)
		usleep(1000);
	TEST_ASSERT_EQ(READ_ONCE(st->preempted), KVM_VCPU_PREEMPTED);

	rwx_set(g, PREEMPTED_PAGE, 1, 0);
	usleep(20 * 1000);
	TEST_ASSERT_EQ(READ_ONCE(st->preempted), 0);
	WRITE_ONCE(SEEN(g)->wait, 0);
	kvm_pthread_join(vcpu_thread, NULL);
}

TEST_HARNESS_MAIN
