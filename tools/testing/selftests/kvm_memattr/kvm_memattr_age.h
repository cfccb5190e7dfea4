/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The accessed state of the host's pages, which KVM keeps in what it has mapped: idle
 * page tracking clears it, through the MMU notifier, and asks for it later.
 */
#ifndef KVM_MEMATTR_AGE_H
#define KVM_MEMATTR_AGE_H

#include "kvm_memattr_test.h"

#define KMA_IDLE_BITMAP	"/sys/kernel/mm/page_idle/bitmap"

#define KMA_PAGEMAP_PFN	GENMASK_ULL(54, 0)

static inline void kma_word_of(const char *path, u64 nr, u64 *word, bool write)
{
	int fd = open(path, write ? O_WRONLY : O_RDONLY);
	ssize_t done;

	TEST_ASSERT(fd >= 0, "cannot open %s: %s", path, strerror(errno));
	done = write ? pwrite(fd, word, sizeof(*word), nr * sizeof(*word)) :
		       pread(fd, word, sizeof(*word), nr * sizeof(*word));
	TEST_ASSERT(done == sizeof(*word), "word %lu of %s: %s", nr, path, strerror(errno));
	close(fd);
}

/* That of the page which is at this address. */
static inline u64 kma_pfn(void *hva)
{
	u64 entry;

	kma_word_of("/proc/self/pagemap", (u64)hva / PAGE_SIZE, &entry, false);
	TEST_ASSERT(entry & KMA_PAGEMAP_PFN, "there is no page at %p", hva);
	return entry & KMA_PAGEMAP_PFN;
}

/* Nobody has accessed it. For a huge page, of all of it, asked for by its first page. */
static inline void kma_age(void *hva)
{
	u64 pfn = kma_pfn(hva), bit = BIT_ULL(pfn % 64);

	kma_word_of(KMA_IDLE_BITMAP, pfn / 64, &bit, true);
}

/* Has anybody accessed it since? The pages beside it are asked about, too. */
static inline bool kma_is_idle(void *hva)
{
	u64 pfn = kma_pfn(hva), bits;

	kma_word_of(KMA_IDLE_BITMAP, pfn / 64, &bits, false);
	return bits & BIT_ULL(pfn % 64);
}

#endif /* KVM_MEMATTR_AGE_H */
