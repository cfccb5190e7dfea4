#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# selftests-build.sh: the KVM selftests that make test runs, mainline's and this
# project's, and the benchmarks, static, with the kernel's own makefile and library and the patched
# tree's headers. Nothing is built in the kernel tree or in the checkout.
# selftests-build.sh FILE.c: build that one, and print the binary's path.
. "$(dirname "$0")/lib.sh"

KVM=$LINUX/tools/testing/selftests/kvm
OUT=$CACHE/selftests
HEADERS=$OUT/usr
LIST=$TOP/tools/testing/mainline-tests.txt
OWN=$TOP/tools/testing/selftests/kvm_memattr
BENCH=$TOP/tools/testing/bench
# Where make looks for sources that the kernel tree does not have: each folder
# with such sources is a link in here.
LINKS=$OUT/sources

install_headers()
{
	local key
	key=$(kernel_source_key)
	! up_to_date "$OUT/.headers" "$key" || return 0
	mkdir -p "$OUT"
	# A header that is gone from the source must not linger.
	rm -rf "$HEADERS"
	quiet "$OUT/headers.log" "headers_install" \
		make -C "$LINUX" O="$OUT/headers" INSTALL_HDR_PATH="$HEADERS" headers_install
	printf '%s\n' "$key" | write_file "$OUT/.headers"
}

# kvm_make PROGRAM...: as the kernel's "make -C tools/testing/selftests/kvm", with
# the programs beside its own list given as TEST_GEN_PROGS_EXTENDED.
kvm_make()
{
	# The makefile's own list of that name is replaced by ours.
	local program extra=(x86/nx_huge_pages_test) targets=()
	for program in "$@"; do
		mkdir -p "$OUT/$(dirname "$program")"
		targets+=("$OUT/$program")
		[ -e "$KVM/$program.c" ] || extra+=("$program")
	done
	# In the patched tree's kvm.h, and alone: what a VMM has without it.
	make -C "$KVM" -j "$JOBS" ARCH=x86 OUTPUT="$OUT" INSTALL_HDR_PATH="$HEADERS" \
		VPATH="$LINKS" TEST_GEN_PROGS_EXTENDED_x86="${extra[*]}" \
		LDFLAGS='-static -pthread -no-pie' EXTRA_CFLAGS="-I$TOP/include/uapi -I$OWN ${EXTRA_CFLAGS:-}" \
		"${targets[@]}"
}

# linked FOLDER: the name under which make sees the sources of FOLDER.
linked()
{
	local name
	name=$(basename "$1")-$(printf '%s' "$1" | sha256sum | cut -c1-12)
	mkdir -p "$LINKS"
	[ -L "$LINKS/$name" ] || ln -s "$1" "$LINKS/$name"
	printf '%s\n' "$name"
}

build_one()
{
	local src name
	[ -r "$1" ] || die "$1 is not there"
	src=$(realpath "$1")
	case "$src" in
	*.c) ;;
	*) die "$1 is not a C source" ;;
	esac
	case "$src" in
	"$KVM"/*)
		name=${src#"$KVM"/}
		name=${name%.c}
		;;
	*)
		name=$(linked "$(dirname "$src")")/$(basename "$src" .c)
		;;
	esac
	quiet "$OUT/log/$(basename "$name").log" "$(basename "$name")" kvm_make "$name"
	printf '%s\n' "$OUT/$name"
}

build_all()
{
	local programs=() path
	while read -r path _; do
		programs+=("$path")
	done < <(grep -v -e '^#' -e '^[[:space:]]*$' "$LIST")
	for path in "$OWN"/*_test.c "$BENCH"/bench_*.c; do
		[ -e "$path" ] || continue
		programs+=("$(linked "$(dirname "$path")")/$(basename "$path" .c)")
	done
	mapfile -t programs < <(printf '%s\n' "${programs[@]}" | sort -u)
	quiet "$OUT/build.log" "${#programs[@]} selftests" kvm_make "${programs[@]}"
	# The names that the tests go by, in one folder.
	rm -rf "$OUT/bin.new"
	mkdir -p "$OUT/bin.new"
	for path in "${programs[@]}"; do
		strip -o "$OUT/bin.new/$(basename "$path")" "$OUT/$path"
	done
	rm -rf "$OUT/bin"
	mv "$OUT/bin.new" "$OUT/bin"
}

build()
{
	install_headers
	if [ $# -gt 0 ]; then
		build_one "$1"
	else
		build_all
	fi
}

locked selftests build "$@"
