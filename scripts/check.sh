#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# check.sh: all that can be said about the tree without booting it, and that the
# last test run covered what the documentation promises. Runs every check, and
# fails at the end if one did.
. "$(dirname "$0")/lib.sh"

"$TOP/scripts/prepare.sh" modules release
load_toolchain
cd "$TOP"

failed=()

# check WHAT COMMAND...
check()
{
	local what=$1
	shift
	local rc
	say "$what"
	# No condition, since set -e does not hold in what one runs.
	set +e
	(set -e; "$@")
	rc=$?
	set -e
	[ $rc -eq 0 ] || failed+=("$what")
}

# The files of the checkout that are ours, by extension or name.
ours()
{
	git ls-files --cached --others --exclude-standard -- "$@"
}

rust_format()
{
	local rustfmt
	rustfmt=$(dirname "$RUSTC")/rustfmt
	ours 'src/*.rs' 'rust/*.rs' | grep -v _generated |
		xargs -d '\n' "$rustfmt" --check --edition 2021
	ours 'tools/*.rs' | xargs -d '\n' "$rustfmt" --check --edition \
		"$(sed -n 's/^edition = "\(.*\)"/\1/p' tools/kvm-memattr/Cargo.toml)"
}

# The module's C and Rust with every warning an error, clippy's too.
clippy()
{
	local out=$CACHE/clippy
	# kbuild would not look again at what it has compiled without a complaint.
	rm -rf "$out"
	mkdir -p "$out"
	kmake release -s -j "$JOBS" M="$TOP" MO="$out" KMA_KUNIT=y CLIPPY=1 W=e modules
}

no_unsafe()
{
	! grep -rnwE 'unsafe' src --include='*.rs' |
		grep -vE ':[[:space:]]*//|(deny|forbid)\(unsafe_code\)'
}

# What src/ may not name: the raw bindings.
no_bindings()
{
	! grep -rnE '\bbindings::' src --include='*.rs' | grep -vE ':[[:space:]]*//'
}

shell_syntax()
{
	local path
	ours 'scripts/*.sh' | while IFS= read -r path; do
		bash -n "$path"
	done
	sh -n .ci/run
	"$BUSYBOX" sh -n scripts/guest/init
	"$BUSYBOX" sh -n scripts/guest/load-module
	if command -v shellcheck >/dev/null; then
		ours 'scripts/*.sh' | xargs -d '\n' shellcheck -x -P scripts
	fi
}

python_syntax()
{
	local path
	for path in $(ours 'scripts/*.py'); do
		python3 -c 'import ast, sys; ast.parse(open(sys.argv[1]).read(), sys.argv[1])' "$path"
	done
	python3 scripts/ktap.py
	python3 scripts/access-sites.py
}

# Kernel style for the C beside the patches. Not asked about: what every test on
# kselftest_harness.h does, macros that leave a test and reads for their effect.
c_style()
{
	local path bad=0
	for path in $(ours '*.c' '*.h'); do
		(cd "$LINUX" && perl scripts/checkpatch.pl --strict --quiet --no-summary \
			--terse --show-types \
			--ignore MACRO_WITH_FLOW_CONTROL,MACRO_ARG_REUSE,VOLATILE,EMBEDDED_FUNCTION_NAME \
			-f "$TOP/$path" 2>/dev/null) || bad=1
	done
	return $bad
}

# install_uapi COMMIT FOLDER: its <linux/kvm.h>, and what that includes and other
# kernels don't have, as make headers_install does. The rest is this machine's.
install_uapi()
{
	local path
	mkdir -p "$2"/{linux,asm,scripts}
	gcc -o "$2/scripts/unifdef" "$LINUX/scripts/unifdef.c"
	for path in include/uapi/linux/{kvm,bits,const,stddef}.h \
		arch/x86/include/uapi/asm/kvm.h; do
		git -C "$LINUX" show "$1:$path" > "$2/header.h"
		(cd "$2" && sh "$LINUX/scripts/headers_install.sh" header.h "${path##*/uapi/}")
	done
}

# What a VMM includes, of 64 bits or 32: with headers of both kernels, alone and after
# <linux/kvm.h>.
header()
{
	local out=$CACHE/header patched alone language bits
	local source=$TOP/tools/testing/header/kvm_memattr_header.c
	rm -rf "$out"
	install_uapi base "$out/0"
	install_uapi HEAD "$out/1"
	for patched in 0 1; do
		for alone in 0 1; do
			for language in 'c -std=gnu90' 'c++ -std=c++11'; do
				for bits in 64 32; do
					# shellcheck disable=SC2086
					gcc -m$bits -x $language -Wall -Wextra -Werror -fsyntax-only \
						-DPATCHED=$patched -DALONE=$alone \
						-I"$TOP/include/uapi" -I"$out/$patched" \
						-idirafter "/usr/include/$(gcc -print-multiarch)" \
						"$source"
				done
			done
		done
	done
}

spdx()
{
	local path bad=0
	for path in $(ours | grep -vE '\.(patch|md|lock|csv|svg)$|/series$|^COPYING$'); do
		if ! head -n 3 "$path" | grep -q 'SPDX-License-Identifier: GPL-2.0'; then
			echo "$path: no SPDX-License-Identifier: GPL-2.0 in its first lines"
			bad=1
		fi
	done
	return $bad
}

check "formatting of Rust" rust_format
check "lints (clippy, W=e)" clippy
check "no unsafe in src/" no_unsafe
check "no raw bindings in src/" no_bindings
check "shell scripts" shell_syntax
check "python scripts" python_syntax
check "setup where things are missing" scripts/setup-test.sh
check "unit tests of what needs no kernel" scripts/host-test.sh --quiet
check "style of C" c_style
check "header for VMMs" header
check "licence headers" spdx
check "the host series" "$TOP/scripts/kernel-series.sh" check
check "every access to guest memory has a verdict" python3 scripts/access-sites.py "$LINUX"
check "every rule has a test that ran" python3 scripts/testing-map.py

if [ ${#failed[@]} -gt 0 ]; then
	printf '!!! failed: %s\n' "${failed[@]}" >&2
	exit 1
fi
say "all checks passed"
