#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# mutants.sh [NAME]...: build the module with one deliberate fault at a time, each a
# patch in tools/testing/mutants, and run our tests with it; a patch host-* is to KVM
# itself. A fault that the tests do not notice is a failure, and so is a patch that
# does not apply or build.
. "$(dirname "$0")/lib.sh"

MUTANTS=$TOP/tools/testing/mutants
work=$CACHE/mutants
export PYTHONDONTWRITEBYTECODE=1

names=("$@")
if [ ${#names[@]} -eq 0 ]; then
	for path in "$MUTANTS"/*.patch; do
		[ ! -e "$path" ] || names+=("$(basename "$path" .patch)")
	done
fi
[ ${#names[@]} -gt 0 ] || die "there is no mutant in $MUTANTS"

"$TOP/scripts/prepare.sh" modules release
"$TOP/scripts/prepare.sh" selftests
load_toolchain

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

# host_one NAME: kvm.ko and kvm-amd.ko with the fault, in $work/host/ko.
host_one()
{
	local host=$work/host log=$work/$1
	mkdir -p "$log"
	host_source "$host/src"
	if ! patch -d "$host/src" -p1 -s -N -F0 --no-backup-if-mismatch \
		< "$MUTANTS/$1.patch" >"$log/patch.log" 2>&1; then
		said="does not apply: $log/patch.log"
		return 1
	fi
	if ! kmake release -j "$JOBS" M="$host/src/arch/x86/kvm" modules >"$log/build.log" 2>&1; then
		said="does not build: $log/build.log"
		return 1
	fi
	mkdir -p "$host/ko"
	cp "$host"/src/arch/x86/kvm/kvm{,-amd,-intel}.ko "$host/ko"
}

# one NAME: says what came of it in the variable "said"; fails if it survived.
one()
{
	local dir=$work/$1 patch=$MUTANTS/$1.patch groups
	[ -r "$patch" ] || { said="there is no $patch"; return 1; }
	rm -rf "$dir"
	case "$1" in
	host-gmem-*)	groups=gmem ;;
	host-*)		groups=rwx ;;
	gmem-*)		groups=kunit,gmem,attributes ;;
	layers-*)	groups=layers,kunit ;;
	rwx-*)		groups=rwx ;;
	*)		groups=attributes,zap,store,rwx,kunit ;;
	esac
	case "$1" in
	host-*)
		host_one "$1" || return
		KVM_DIR=$work/host/ko run_tests "$1" $groups
		return
		;;
	esac
	mkdir -p "$dir/src"
	cp -r "$TOP/Kbuild" "$TOP/src" "$TOP/rust" "$TOP/include" "$dir/src/"
	if ! patch -d "$dir/src" -p1 -s -N -F0 --no-backup-if-mismatch < "$patch" >"$dir/patch.log" 2>&1; then
		said="does not apply: $dir/patch.log"
		return 1
	fi
	if ! MODULE_SRC=$dir/src "$TOP/scripts/module-build.sh" release "$dir/out" >"$dir/build.log" 2>&1; then
		said="does not build: $dir/build.log"
		return 1
	fi
	run_tests "$1" $groups --module-dir "$dir/out"
}

# run_tests NAME GROUPS [OPTION]...
run_tests()
{
	local dir=$work/$1 rc=0
	mkdir -p "$dir"
	python3 "$TOP/scripts/test.py" --variant release --tests "$2" "${@:3}" \
		--first-failure >"$dir/test.log" 2>&1 || rc=$?
	case $rc in
	0)	said="SURVIVED: the tests pass with it: $dir/test.log"; return 1 ;;
	1)	said="noticed by $(sed -n 's/^not ok [0-9]* - [^ ]* //p' "$dir/test.log" | head -n 1)" ;;
	*)	said="the tests could not be run: $dir/test.log"; return 1 ;;
	esac
}

noticed=0
for name in "${names[@]}"; do
	if one "$name"; then
		noticed=$((noticed + 1))
		printf 'ok     %-28s %s\n' "$name" "$said"
	else
		printf 'not ok %-28s %s\n' "$name" "$said"
	fi
done
printf '%d of %d mutants noticed\n' "$noticed" ${#names[@]}
[ "$noticed" -eq ${#names[@]} ]
