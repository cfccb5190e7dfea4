#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# mutants.sh [NAME]...: build the module with one deliberate fault at a time, each a
# patch in tools/testing/mutants, and run our tests with it. A fault that the tests
# do not notice is a failure, and so is a patch that does not apply or build.
. "$(dirname "$0")/lib.sh"

MUTANTS=$TOP/tools/testing/mutants
GROUPS_RUN=attributes,zap,store,kunit
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

# one NAME: says what came of it in the variable "said"; fails if it survived.
one()
{
	local dir=$work/$1 patch=$MUTANTS/$1.patch rc=0
	[ -r "$patch" ] || { said="there is no $patch"; return 1; }
	rm -rf "$dir"
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
	python3 "$TOP/scripts/test.py" --variant release --tests $GROUPS_RUN \
		--module-dir "$dir/out" --first-failure >"$dir/test.log" 2>&1 || rc=$?
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
