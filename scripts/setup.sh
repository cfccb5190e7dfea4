#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# setup.sh: find or install everything that the other scripts call, check the
# versions, and record the toolchain in the cache. Quick when nothing is missing.
. "$(dirname "$0")/lib.sh"

MIN_RUSTC=1.85.0
MIN_BINDGEN=0.71.1
MIN_CLANG=17
# What the crate registry is asked for where no package is recent enough.
BINDGEN_CRATE=0.72.1

STAMP=$CACHE/setup.stamp

# Before the absolute paths that are looked at: setup-test.sh has a system of its own.
ROOT=${SETUP_ROOT:-}

# A file that is changed in place has another one.
state_of()
{
	stat -L -c '%s %Y %n' "$1" 2>/dev/null || true
}

# The stamp is the hash of what decides here; beside it the files that it found.
setup_is_current()
{
	local key path
	[ -r "$STAMP" ] && [ -r "$CACHE/toolchain.env" ] || return 1
	key=$(cat "$0" "$CACHE/toolchain.env" | sha256sum)
	{
		IFS= read -r path && [ "$path" = "$key" ] || return 1
		while IFS= read -r path; do
			[ "$(state_of "${path#* * }")" = "$path" ] || return 1
		done
	} < "$STAMP"
}

# newer_or_same HAVE WANT
newer_or_same()
{
	[ "$(printf '%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

missing=()		# what is missing, for people
packages=()		# the Debian packages that bring it
found=()		# paths that the stamp remembers

need()
{
	missing+=("$1")
	shift
	packages+=("$@")
}

# need_command COMMAND PACKAGE
need_command()
{
	local path
	if path=$(PATH=$PATH:$ROOT/usr/sbin:$ROOT/sbin command -v "$1"); then
		found+=("$path")
	else
		need "the command $1" "$2"
	fi
}

# need_header HEADER PACKAGE: asked of the compiler, which knows its folders. Without
# one, all are missing: they are installed together.
need_header()
{
	{ command -v gcc && echo "#include <$1>" | gcc -E -x c -; } >/dev/null 2>&1 ||
		need "the C header $1" "$2"
}

find_plain_tools()
{
	local libc
	need_command git git
	need_command make make
	need_command gcc gcc
	need_command g++ g++
	need_command readelf binutils
	need_command flex flex
	need_command bison bison
	need_command bc bc
	need_command cpio cpio
	need_command rsync rsync
	need_command patch patch
	need_command xz xz-utils
	need_command perl perl
	need_command depmod kmod
	need_command flock util-linux
	need_command qemu-system-x86_64 qemu-system-x86
	need_command python3 python3
	need_header gelf.h libelf-dev
	need_header openssl/ssl.h libssl-dev
	need_header uuid/uuid.h uuid-dev

	libc=$(gcc -print-file-name=libc.a 2>/dev/null || true)
	if [ -e "$libc" ]; then
		found+=("$libc")
	else
		need "a static C library" libc6-dev
	fi
	if busybox=$(find_busybox); then
		found+=("$busybox")
	else
		need "a static busybox" busybox-static
	fi
	python3 -c 'import ensurepip, venv' 2>/dev/null ||
		need "Python's venv and ensurepip" python3-venv
}

# The initramfs has no libraries, so a busybox that needs some will not do.
find_busybox()
{
	local candidate
	command -v readelf >/dev/null || return 1
	for candidate in "$ROOT"/bin/busybox "$ROOT"/usr/bin/busybox \
		"$ROOT"/usr/lib/busybox/bin/busybox "$(command -v busybox || true)"; do
		[ -x "$candidate" ] || continue
		if ! LC_ALL=C readelf -lW "$candidate" | grep -q INTERP; then
			printf '%s\n' "$candidate"
			return
		fi
	done
	return 1
}

# Nothing where there is no such command: looking is not a failure of the script.
clang_version()
{
	{ "$1" --version 2>/dev/null || true; } | sed -n 's/.*clang version \([0-9.]*\).*/\1/p' | head -n 1
}

# or_none "; THIS; THAT": what was found and did not do.
or_none()
{
	local list=${1#; }
	printf '%s\n' "${list:-none}"
}

# Sets llvm (kbuild's LLVM=) and libclang_dir.
find_llvm()
{
	local suffix version old= dir tool
	llvm=
	for suffix in -19 -20 -21 -22 -18 -17 ''; do
		version=$(clang_version "clang$suffix")
		[ -n "$version" ] || continue
		if ! newer_or_same "$version" $MIN_CLANG; then
			old+="; clang$suffix is $version"
			continue
		fi
		for tool in ld.lld llvm-ar llvm-nm llvm-objcopy llvm-strip llvm-readelf llvm-config; do
			command -v "$tool$suffix" >/dev/null || {
				old+="; clang$suffix $version has no $tool$suffix"
				continue 2
			}
		done
		dir=$("llvm-config$suffix" --libdir)
		compgen -G "$dir/libclang*.so*" >/dev/null || {
			old+="; clang$suffix $version has no libclang in $dir"
			continue
		}
		# KASAN of the kernel needs none of the runtimes, objtool and
		# host programs with sanitizers do.
		llvm=${suffix:-1}
		libclang_dir=$dir
		found+=("$(command -v "clang$suffix")" "$(command -v "ld.lld$suffix")" "$dir")
		return
	done
	need "clang >= $MIN_CLANG with lld, the llvm tools and libclang (found: $(or_none "$old"))" llvm
}

# Sets rustc and rust_lib_src. The kernel builds core itself, so a compiler that
# comes without the source of its library will not do.
find_rustc()
{
	local candidate version src sysroot seen=
	rustc=
	for candidate in "$ROOT"/usr/bin/rustc "$(command -v rustc || true)" "$HOME/.cargo/bin/rustc"; do
		[ -x "$candidate" ] || continue
		version=$("$candidate" --version 2>/dev/null | cut -d' ' -f2) || continue
		if ! newer_or_same "$version" $MIN_RUSTC; then
			seen+="; $candidate is $version"
			continue
		fi
		sysroot=$("$candidate" --print sysroot)
		for src in "$sysroot/lib/rustlib/src/rust/library" "$ROOT/usr/src/rustc-$version/library"; do
			[ -r "$src/core/src/lib.rs" ] || continue
			rustc=$candidate
			rust_lib_src=$(realpath "$src")
			break 2
		done
		seen+="; $candidate $version has no library source (rustup: rustup component add rust-src)"
	done
	if [ -z "$rustc" ]; then
		need "rustc >= $MIN_RUSTC with its library source (found: $(or_none "$seen"))" rust
		return
	fi
	found+=("$rustc" "$rust_lib_src/core/src/lib.rs")
	find_beside_rustc rustdoc
	find_beside_rustc rustfmt
	find_beside_rustc clippy-driver
}

# rustup and Debian both put the other tools beside the compiler.
find_beside_rustc()
{
	local path
	path=$(dirname "$rustc")/$1
	if [ -x "$path" ]; then
		found+=("$path")
	else
		need "$1 of the same release as $rustc (rustup: rustup component add ${1%-driver})" rust
	fi
}

bindgen_version()
{
	{ "$1" --version 2>/dev/null || true; } | sed -n 's/^bindgen \([0-9.]*\).*/\1/p'
}

# Sets bindgen.
find_bindgen()
{
	local candidate version
	bindgen=
	bindgen_seen=
	# By its real path: a cache that shares another's tools has the same toolchain,
	# and no reason to build the kernel again.
	for candidate in "$(realpath -m "$TOOLS")/bin/bindgen" "$(command -v bindgen || true)"; do
		[ -x "$candidate" ] || continue
		version=$(bindgen_version "$candidate")
		if newer_or_same "${version:-0}" $MIN_BINDGEN; then
			bindgen=$candidate
			found+=("$candidate")
			return
		fi
		bindgen_seen=" (found $candidate ${version:-of unknown version})"
	done
}

# cargo: for the command-line tool of this project, and for bindgen.
find_cargo()
{
	local candidate
	cargo=
	for candidate in "$(command -v cargo || true)" "$HOME/.cargo/bin/cargo"; do
		if [ -x "$candidate" ]; then
			cargo=$candidate
			found+=("$candidate")
			return
		fi
	done
	need "cargo" cargo
}

find_everything()
{
	missing=()
	packages=()
	found=()
	find_plain_tools
	find_llvm
	find_rustc
	find_cargo
	find_bindgen
}

# Nothing where apt has no such package, or where there is no apt.
candidate_version()
{
	{ LC_ALL=C apt-cache policy "$1" 2>/dev/null || true; } |
		sed -n 's/^ *Candidate: \([0-9]*:\)\{0,1\}\([0-9.]*\).*/\2/p'
}

# The package names of compilers differ from release to release: "llvm", "rust"
# and "cargo" in the list stand for what this system's apt has.
resolve_packages()
{
	local package n web= out=()
	[ -n "$(candidate_version rustc)" ] &&
		newer_or_same "$(candidate_version rustc)" $MIN_RUSTC || web=-web
	for package in "${packages[@]}"; do
		case "$package" in
		llvm)
			for n in 19 20 21 22 18 17 ''; do
				[ -z "$n" ] || [ -n "$(candidate_version clang-$n)" ] || continue
				n=${n:+-$n}
				out+=(clang$n lld$n llvm$n libclang$n-dev libclang-rt$n-dev)
				break
			done
			;;
		rust)
			if [ -n "$web" ]; then
				out+=(rustc-web rust-web-src rust-web-clippy rustfmt-web)
			else
				out+=(rustc rust-src rust-clippy rustfmt)
			fi
			;;
		cargo)
			out+=(cargo$web)
			;;
		*)
			out+=("$package")
			;;
		esac
	done
	printf '%s\n' "${out[@]}" | sort -u
}

can_apt()
{
	[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null
}

apt_install()
{
	local log=$CACHE/log/apt.log
	if ! compgen -G "$ROOT/var/lib/apt/lists/*Packages*" >/dev/null || [ "${1:-}" = update ]; then
		quiet "$log" "apt-get update" apt-get update
	fi
	mapfile -t list < <(resolve_packages)
	say "installing: ${list[*]}"
	quiet "$log" "apt-get install" \
		env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
		-o DPkg::Lock::Timeout=300 "${list[@]}"
}

install_bindgen()
{
	local version
	version=$(candidate_version bindgen)
	if can_apt && [ -n "$version" ] && newer_or_same "$version" $MIN_BINDGEN; then
		packages=(bindgen)
		apt_install
	else
		say "building bindgen $BINDGEN_CRATE with cargo"
		quiet "$CACHE/log/bindgen.log" "cargo install bindgen-cli" \
			"$cargo" install bindgen-cli --locked --version $BINDGEN_CRATE --root "$TOOLS"
	fi
	find_bindgen
	[ -n "$bindgen" ] ||
		die "no bindgen >= $MIN_BINDGEN$bindgen_seen" \
		    "get it with: cargo install bindgen-cli --locked --version $BINDGEN_CRATE"
}

if setup_is_current; then
	exit 0
fi

say "looking for the tools"
find_everything
if [ ${#missing[@]} -gt 0 ] && can_apt; then
	apt_install update
	find_everything
fi
if [ ${#missing[@]} -gt 0 ]; then
	printf '!!! missing on this system:\n' >&2
	printf '      %s\n' "${missing[@]}" >&2
	if command -v apt-cache >/dev/null; then
		printf '    as root: apt-get install %s\n' "$(resolve_packages | tr '\n' ' ')" >&2
	else
		printf '    %s\n' 'install these with the package manager of this distribution (Rust also from' \
			'https://rustup.rs: rustup component add rust-src rustfmt clippy), then: make setup' >&2
	fi
	exit 1
fi
[ -n "$bindgen" ] || install_bindgen

rust_dir=$(dirname "$rustc")
tools="$("$rustc" --version), clang $(clang_version "clang${llvm/#1/}"), bindgen $(bindgen_version "$bindgen")"
write_file "$CACHE/toolchain.env" <<EOF
# Written by scripts/setup.sh.
TOOLS_ARE="$tools"
RUSTC=$rustc
CARGO=$cargo
BUSYBOX=$busybox
KMAKE_TOOLS=(LLVM=$llvm RUSTC=$rustc RUSTDOC=$rust_dir/rustdoc RUSTFMT=$rust_dir/rustfmt CLIPPY_DRIVER=$rust_dir/clippy-driver HOSTRUSTC=$rustc RUST_LIB_SRC=$rust_lib_src BINDGEN=$bindgen)
export LIBCLANG_PATH=$libclang_dir
EOF
{
	cat "$0" "$CACHE/toolchain.env" | sha256sum
	for path in "${found[@]}"; do
		state_of "$path"
	done
} | write_file "$STAMP"
say "tools: $tools, $(qemu-system-x86_64 --version | head -n 1)"
