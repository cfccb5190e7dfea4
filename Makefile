# SPDX-License-Identifier: GPL-2.0
#
# The user's commands. What is built lies in the cache folder, none of it here:
# KVM_MEMATTR_CACHE, or kvm-memattr in XDG_CACHE_HOME or ~/.cache. Kbuild (beside
# this file) is what kbuild reads to build the module.

# The last line of a run is the run's, not make's. GNU make 4.3 says "Leaving
# directory" after make -C all the same; test.py comes after it then.
MAKEFLAGS += --no-print-directory
MAKE_PRINTS = $(findstring w,$(firstword -$(MAKEFLAGS)))

# Where a target needs one variant and none is asked for.
ONE := $(or $(VARIANT),release)

export KERNEL_SRC
# Nothing is written into the checkout.
export PYTHONDONTWRITEBYTECODE = 1

.DEFAULT_GOAL := help
.PHONY: help setup kernel modules run test mutants bench shell selftest check docs \
	series-apply series-work series-regen series-build clean

help: ## This list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo '  VARIANT=release|debug   which kernel (test: both, others: release)'
	@echo '  KERNEL_SRC=path         a tree or tarball of Linux 7.3 instead of the distribution'"'"'s'

setup: ## Find or install the tools, get the kernel source, apply the series.
	@scripts/prepare.sh source

kernel: ## Build the patched host kernel (VARIANT=).
	@scripts/prepare.sh kernel $(ONE)

modules: ## Build kvm_memattr.ko and its KUnit module (VARIANT=).
	@scripts/prepare.sh modules $(ONE)

run: ## Boot the host, run a guest, convert its memory, say what happened.
	@scripts/run.sh $(ONE)

test: ## Run the tests in QEMU (VARIANT=, TESTS=group,group, CONTROL=1).
	$(if $(filter-out 1 y yes 0 n no,$(CONTROL)),$(error CONTROL is 1 or 0))
	@command -v python3 >/dev/null || scripts/setup.sh
	@python3 scripts/test.py --variant='$(VARIANT)' --tests='$(TESTS)' $(if $(filter 1 y yes,$(CONTROL)),--control) \
		--make-pid=$$PPID $(if $(MAKE_PRINTS),--make-prints)

mutants: ## Build the module with one fault at a time; the tests must notice each.
	@scripts/mutants.sh $(MUTANTS)

bench: ## Measure against mainline (OUT=dir, BENCH=row,row, AGAINST=dir/bench.csv, PROFILE=1).
	@scripts/setup.sh
	@python3 scripts/bench.py --bench='$(BENCH)' $(if $(OUT),--out='$(OUT)') \
		$(if $(AGAINST),--against='$(AGAINST)') $(if $(filter 1 y yes,$(PROFILE)),--profile)

shell: ## A shell in the host (CMD=, DIR=, VARIANT=, MODULE=no, PARAMS=).
	@scripts/shell.sh

selftest: ## Build one KVM selftest source, print the binary's path (SRC=file.c).
	@$(if $(SRC),,$(error SRC=file.c says what to build))scripts/selftest.sh '$(SRC)'

check: ## Style, lints, the series' rules, and that the tests cover the rules.
	@scripts/check.sh

docs: ## Build the documentation with Sphinx; a warning is an error.
	@scripts/docs.sh

series-apply: ## Make the branch "series" of the cached tree from patches/.
	@scripts/prepare.sh source

series-work: ## Say where to work on the series as commits.
	@scripts/prepare.sh source
	@scripts/kernel-series.sh work

series-regen: ## Write patches/ anew from those commits.
	@scripts/kernel-series.sh regen

series-build: ## Build KVM as each patch leaves it.
	@scripts/prepare.sh kernel release
	@scripts/series-build.sh

clean: ## Drop what was built; the kernel source, tools and downloads stay.
	@scripts/clean.sh

# Passed to scripts/shell.sh as they are, quotes and all.
shell: export SHELL_CMD = $(value CMD)
shell: export SHELL_DIR = $(value DIR)
shell: export SHELL_VARIANT = $(ONE)
shell: export SHELL_MODULE = $(value MODULE)
shell: export SHELL_PARAMS = $(value PARAMS)
