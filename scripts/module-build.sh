#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# module-build.sh VARIANT [FOLDER]: kvm_memattr.ko and its KUnit module, and what
# the tests and benchmarks use inside of the kernel, against the kernel of that variant. Results are in
# the cache, module/VARIANT or FOLDER. MODULE_SRC= builds another copy of the
# module's source than this checkout's (make mutants does).
. "$(dirname "$0")/lib.sh"
load_toolchain

variant=$1
check_variant "$variant"
src=${MODULE_SRC:-$TOP}
out=${2:-$CACHE/module/$variant}
build=$(build_dir "$variant")
observer=$TOP/tools/testing/selftests/kvm_memattr/observer
bench=$TOP/tools/testing/bench/module

# one_module SOURCE INTO WHAT ARG...: rebuilt when its source or the kernel changed.
# kbuild itself is not asked: a change of the kernel's exports does not rebuild a
# module's .mod.c in every case, and asking takes seconds.
one_module()
{
	local from=$1 into=$2 what=$3 key paths
	shift 3
	if [ -d "$from/src" ]; then
		paths=("$from/Kbuild" "$from/src" "$from/rust" "$from/include")
	else
		paths=("$from")
	fi
	key="$(cat "$build/.built" 2>/dev/null) $(hash_of "${paths[@]}") $from $*"
	! up_to_date "$into/.built" "$key" || return 0
	rm -f "$into/.built"
	mkdir -p "$into"
	quiet "$into/build.log" "$what ($variant)" \
		kmake "$variant" -j "$JOBS" M="$from" MO="$into" "$@" modules
	# Nor is there where the kernel has none.
	[ ! -s "$build/.built" ] || printf '%s\n' "$key" | write_file "$into/.built"
	say "built $what ($variant)"
}

build_modules()
{
	[ -r "$build/Module.symvers" ] || die "the $variant kernel is not built" "run: make kernel VARIANT=$variant"
	one_module "$src" "$out" kvm_memattr.ko KMA_KUNIT=y
	one_module "$observer" "$CACHE/observer/$variant" kvm_memattr_observer.ko
	one_module "$bench" "$CACHE/bench/$variant" kvm_memattr_bench.ko
}

locked "module-$variant" build_modules
