#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# series-build.sh: build KVM as each patch of the series leaves it, with the release
# kernel's configuration and warnings as errors, and with all of them but without what
# they are for, as a kernel without the module's host is. In a worktree of its own: the cached
# tree stays as it is.
. "$(dirname "$0")/lib.sh"
load_toolchain

symbols=$(build_dir release)/Module.symvers
config=$(build_dir release)/.config
[ -r "$symbols" ] || die "the release kernel is not built" "run: make kernel VARIANT=release"

commits=$(git -C "$LINUX" rev-list --reverse base..series)
total=$(wc -w <<< "$commits")
work=$CACHE/series-build
build_dir()
{
	printf '%s/out' "$work"
}

# build WHAT LINE...: KVM as it is in the worktree, with these lines of configuration.
build()
{
	local what=$1
	shift
	mkdir -p "$work/out"
	# Nothing of KVM is in Rust, and Rust's core library takes minutes.
	{ grep -v '^CONFIG_RUST=' "$config" && printf '%s\n' "$@"; } | write_file "$work/out/.config"
	quiet "$work/prepare.log" "configuration of $what" \
		kmake release -j "$JOBS" olddefconfig modules_prepare
	# What KVM may use of the rest of the kernel; what it defines itself, it must define.
	grep -v -e $'\tarch/x86/kvm/' "$symbols" | write_file "$work/out/Module.symvers"
	quiet "$work/build.log" "KVM with $what" \
		kmake release -j "$JOBS" M="$LINUX/arch/x86/kvm" modules
}

build_patches()
{
	local commit number=0
	if [ ! -e "$work/linux/.git" ]; then
		git -C "$LINUX" worktree prune
		git -C "$LINUX" worktree add -q --detach "$work/linux" base
	fi
	LINUX=$work/linux
	for commit in $commits; do
		number=$((number + 1))
		git -C "$LINUX" checkout -q --detach "$commit"
		say "patch $number of $total: $(git -C "$LINUX" log -1 --format=%s)"
		build "patch $number"
	done
	say "all patches, without CONFIG_KVM_MEM_ATTR_PROVIDER"
	# Out of the tree, kbuild doesn't see that an option has changed.
	git -C "$LINUX" clean -qfdx arch/x86/kvm virt/kvm
	build "all patches and no provider" "# CONFIG_KVM_MEM_ATTR_PROVIDER is not set"
	say "each of $total patches builds"
}

locked series-build build_patches
