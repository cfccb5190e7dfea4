#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# mutants.sh [NAME]...: build the module with one deliberate fault at a time, each a
# patch in tools/testing/mutants, and run with it the test that the patch names; a patch
# host-* is to KVM itself. A fault that its test does not notice is a failure, and so is
# a patch that does not apply or build.
. "$(dirname "$0")/lib.sh"

MUTANTS=$TOP/tools/testing/mutants
work=$CACHE/mutants
export PYTHONDONTWRITEBYTECODE=1

# KVM is built as a module out of the tree, from a copy of its two folders, in which
# only what a mutant changes is compiled again.
host_source()
{
	local folder
	for folder in arch/x86/kvm virt/kvm; do
		mkdir -p "$1/$folder"
		copy_changed "$LINUX/$folder" "$1/$folder"
	done
}

# copy_changed FROM TO: files that differ, so that make sees no others as changed.
copy_changed()
{
	local path
	(cd "$1" && find . -type f \( -name '*.[chS]' -o -name 'Makefile*' \)) |
	while IFS= read -r path; do
		cmp -s "$1/$path" "$2/$path" && continue
		mkdir -p "$2/$(dirname "$path")"
		cp "$1/$path" "$2/$path"
	done
}

# apply NAME SOURCE
apply()
{
	patch -d "$2" -p1 -s -N -F0 --no-backup-if-mismatch < "$MUTANTS/$1.patch"
}

# host_build NAME INTO: kvm.ko, kvm-amd.ko and kvm-intel.ko with the fault.
host_build()
{
	local host=$work/host
	host_source "$host" && apply "$1" "$host" &&
		kmake release -j "$JOBS" M="$host/arch/x86/kvm" modules &&
		mkdir -p "$2" && cp "$host"/arch/x86/kvm/kvm{,-amd,-intel}.ko "$2"
}

# module_build NAME SOURCE INTO: kvm_memattr.ko with the fault.
module_build()
{
	mkdir -p "$2" &&
		cp -r "$TOP/Kbuild" "$TOP/src" "$TOP/rust" "$TOP/include" "$2" && apply "$1" "$2" &&
		MODULE_SRC=$2 "$TOP/scripts/module-build.sh" release "$3"
}

# one NAME: says what came of it; fails if the fault was not noticed.
one()
{
	local patch=$MUTANTS/$1.patch dir=$work/$1 kvm="" module="" test rc=0
	[ -r "$patch" ] || { echo "there is no $patch"; return 1; }
	test=$(sed -n 's/^Noticed-by: //p' "$patch")
	[ -n "$test" ] || { echo "does not say which test is to notice it"; return 1; }
	rm -rf "$dir"
	mkdir -p "$dir"
	case "$1" in
	host-*)
		kvm=$dir/ko
		locked mutants-host host_build "$1" "$kvm" >"$dir/build.log" 2>&1 || rc=$?
		;;
	*)
		module=$dir/out
		module_build "$1" "$dir/src" "$module" >"$dir/build.log" 2>&1 || rc=$?
		;;
	esac
	[ $rc -eq 0 ] || { echo "does not apply or build: $dir/build.log"; return 1; }

	KVM_DIR=$kvm python3 "$TOP/scripts/test.py" --variant release --program "$test" \
		${module:+--module-dir "$module"} --first-failure >"$dir/test.log" 2>&1 || rc=$?
	case $rc in
	0)	echo "SURVIVED: $test passes with it: $dir/test.log"; return 1 ;;
	1)	echo "noticed by $(sed -n 's/^not ok [0-9]* - [^ ]* //p' "$dir/test.log" | head -n 1)" ;;
	*)	echo "$test could not be run: $dir/test.log"; return 1 ;;
	esac
}

if [ "${1:-}" = --one ]; then
	load_toolchain
	result=ok
	said=$(one "$2") || result='not ok'
	printf '%-6s %-28s %s\n' "$result" "$2" "$said"
	exit 0
fi

names=("$@")
if [ ${#names[@]} -eq 0 ]; then
	for path in "$MUTANTS"/*.patch; do
		[ ! -e "$path" ] || names+=("$(basename "$path" .patch)")
	done
fi
[ ${#names[@]} -gt 0 ] || die "there is no mutant in $MUTANTS"

"$TOP/scripts/prepare.sh" modules release
"$TOP/scripts/prepare.sh" selftests

# Two at a time, where there are cores for it: that's what one machine uses.
at_once=$(( $(nproc) > 1 ? 2 : 1 ))
results=$(mktemp)
trap 'rm -f "$results"' EXIT
printf '%s\0' "${names[@]}" | xargs -0 -n 1 -P "$at_once" "$0" --one | tee "$results"
noticed=$(grep -c '^ok ' "$results" || true)
printf '%d of %d mutants noticed\n' "$noticed" ${#names[@]}
[ "$noticed" -eq ${#names[@]} ]
