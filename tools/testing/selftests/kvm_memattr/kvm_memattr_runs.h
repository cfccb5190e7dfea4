/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Lists of runs of private pages: what a test expects, held against all that
 * the module says. For listings that are too long for kma_runs().
 */
#ifndef KVM_MEMATTR_RUNS_H
#define KVM_MEMATTR_RUNS_H

#include "kvm_memattr_test.h"

struct kma_run {
	u64 gpa;
	u64 size;
};

struct kma_run_list {
	struct kma_run *runs;
	size_t nr;
	size_t room;
};

/* At or after the end of the last run, with which it merges. */
static inline void kma_run_add(struct kma_run_list *list, u64 gpa, u64 size)
{
	struct kma_run *last = list->nr ? &list->runs[list->nr - 1] : NULL;

	if (last && last->gpa + last->size == gpa) {
		last->size += size;
		return;
	}

	if (list->nr == list->room) {
		list->room = list->room ? 2 * list->room : 64;
		list->runs = realloc(list->runs, list->room * sizeof(*list->runs));
		TEST_ASSERT(list->runs, "no memory for %zu runs", list->room);
	}
	list->runs[list->nr++] = (struct kma_run) { .gpa = gpa, .size = size };
}

static inline void kma_run_list_free(struct kma_run_list *list)
{
	free(list->runs);
	*list = (struct kma_run_list) {};
}

/* The module lists exactly these runs, each of them private. */
static inline void kma_assert_run_list(const struct kma_view *view,
				       const struct kma_run_list *want, const char *when)
{
	char path[96], *line = NULL, expected[64];
	size_t room = 0, nr = 0;
	FILE *file;

	snprintf(path, sizeof(path), "%s/runs", view->dir);
	file = fopen(path, "r");
	TEST_ASSERT(file, "cannot open %s: %s", path, strerror(errno));

	for (; getline(&line, &room, file) > 0; nr++) {
		TEST_ASSERT(nr < want->nr, "%s: only %zu runs are wanted, and there is\n%s",
			    when, want->nr, line);
		KMA_RUN_PRIVATE(expected, want->runs[nr].gpa, want->runs[nr].size);
		TEST_ASSERT(!strcmp(line, expected), "%s: wanted as run %zu\n%sgot\n%s",
			    when, nr, expected, line);
	}
	TEST_ASSERT(!ferror(file), "cannot read %s: %s", path, strerror(errno));
	TEST_ASSERT(nr == want->nr, "%s: wanted %zu runs, got %zu", when, want->nr, nr);
	free(line);
	fclose(file);
}

#endif /* KVM_MEMATTR_RUNS_H */
