# SPDX-License-Identifier: GPL-2.0
# Sourced by the other scripts: where things live, how to speak, how to fail.
# shellcheck shell=bash disable=SC2034

set -euo pipefail

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=$(realpath -m "${KVM_MEMATTR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kvm-memattr}")
# What setup.sh brings that is no package of the system: bindgen, virtual
# environments of Python.
TOOLS=$CACHE/tools
SERIES=$TOP/patches/linux-7.3
# The kernel as a git tree: tag "base" is the pristine source, branch "series"
# the base with patches/linux-7.3 applied.
LINUX=$CACHE/linux
JOBS=${JOBS:-$(nproc)}
# What the series is for. Another one is for whoever ports it.
KERNEL_WANT=${KERNEL_WANT:-7.3}

say()
{
	printf '==> %s\n' "$*" >&2
}

# die WHAT [WHAT-TO-DO]...: a failed step says which it was, why, and what to do.
die()
{
	printf '!!! %s\n' "$1" >&2
	shift
	[ $# -eq 0 ] || printf '    %s\n' "$@" >&2
	exit 1
}

# The toolchain that setup.sh settled on: RUSTC, KMAKE_TOOLS, LIBCLANG_PATH.
load_toolchain()
{
	[ -r "$CACHE/toolchain.env" ] ||
		die "no toolchain recorded in $CACHE/toolchain.env" "run: make setup"
	# shellcheck disable=SC1091
	. "$CACHE/toolchain.env"
}

# kbuild can't.
case "$TOP$CACHE" in
*[[:space:]:]*) die "no spaces or colons, please, in the folders $TOP and $CACHE" ;;
esac

check_variant()
{
	case "$1" in
	release|debug) ;;
	*) die "unknown variant '$1'" "VARIANT is release or debug" ;;
	esac
}

build_dir()
{
	printf '%s/build/%s' "$CACHE" "$1"
}

# kmake VARIANT ARG...: make in the kernel's build tree of that variant.
kmake()
{
	local variant=$1
	shift
	make -C "$LINUX" O="$(build_dir "$variant")" "${KMAKE_TOOLS[@]}" "$@"
}

# kernel_release VARIANT: what uname -r says in that kernel.
kernel_release()
{
	cat "$(build_dir "$1")/include/config/kernel.release"
}

# stage_modules VARIANT ROOT: ROOT/lib/modules with the kernel's and this project's
# modules, as modprobe wants it. MODULE_DIR= takes kvm_memattr.ko from elsewhere, and
# KVM_DIR= has modules that go before the kernel's own.
stage_modules()
{
	local release modules ko
	release=$(kernel_release "$1")
	modules=$2/lib/modules/$release
	mkdir -p "$modules/updates"
	cp -r "$CACHE/modroot/$1/lib/modules/$release/." "$modules/"
	rm -f "$modules/build"
	for ko in "${MODULE_DIR:-$CACHE/module/$1}"/kvm_memattr{,_kunit}.ko \
		"$CACHE/observer/$1/kvm_memattr_observer.ko" \
		"$CACHE/bench/$1/kvm_memattr_bench.ko"; do
		[ ! -e "$ko" ] || cp "$ko" "$modules/updates/"
	done
	[ -z "${KVM_DIR:-}" ] || cp "$KVM_DIR"/*.ko "$modules/updates/"
	PATH=$PATH:/usr/sbin:/sbin depmod -b "$2" "$release"
}

# hash_of FILE-OR-FOLDER...: one hash of the contents, in a stable order.
hash_of()
{
	find "$@" -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum |
		sha256sum | cut -d' ' -f1
}

# kernel_source_key: which source the cached tree holds, changes included that
# somebody at work there has not committed. Empty when those are there: nothing
# can be said to be up to date then.
kernel_source_key()
{
	git -C "$LINUX" update-index -q --refresh >/dev/null || true
	if git -C "$LINUX" diff-index --quiet HEAD --; then
		git -C "$LINUX" rev-parse HEAD^{tree}
	fi
}

# up_to_date STAMP KEY: is STAMP's content KEY? An empty KEY never is.
up_to_date()
{
	[ -n "$2" ] && [ "$(cat "$1" 2>/dev/null)" = "$2" ]
}

# write_file FILE < CONTENT: replaced as a whole, or not at all.
write_file()
{
	mkdir -p "$(dirname "$1")"
	cat > "$1.new.$$"
	mv "$1.new.$$" "$1"
}

# take_lock NAME: until this shell ends, and all that have its file descriptor 9.
take_lock()
{
	mkdir -p "$CACHE"
	exec 9>"$CACHE/$1.lock"
	if ! flock -n 9; then
		say "waiting for another run that holds $CACHE/$1.lock"
		flock 9
	fi
}

# locked NAME COMMAND...: one at a time, for runs that share a cache.
locked()
{
	local name=$1
	shift
	(
		take_lock "$name"
		"$@"
	)
}

# quiet LOG WHAT COMMAND...: run with the output in LOG, and a sign of life each
# 15 seconds; on failure show the end of the log and say where the rest is.
quiet()
{
	local log=$1 what=$2 start=$SECONDS pid rc=0
	shift 2
	mkdir -p "$(dirname "$log")"
	# A process group of its own, which a signal to this script would not reach.
	set -m
	"$@" >"$log" 2>&1 </dev/null &
	pid=$!
	set +m
	trap 'kill -- -$pid 2>/dev/null; exit 130' INT TERM
	while kill -0 "$pid" 2>/dev/null; do
		sleep 0.2
		if (( SECONDS - start >= 15 && (SECONDS - start) % 15 == 0 )); then
			printf '    ... %s: %d s, at: %s\n' "$what" $((SECONDS - start)) \
				"$(tail -n 1 "$log" | cut -c1-70)" >&2
			sleep 1
		fi
	done
	wait "$pid" || rc=$?
	trap - INT TERM
	if [ $rc -ne 0 ]; then
		grep -aE '(^|[^a-z])error(:|\[)|\*\*\*' "$log" | head -n 10 | cut -c1-200 >&2 || true
		printf '    ...\n' >&2
		tail -n 15 "$log" | cut -c1-200 >&2
		die "$what failed with exit status $rc" "the whole log: $log"
	fi
}
