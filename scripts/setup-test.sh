#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# setup-test.sh: what setup.sh does on machines that this one is not: with nothing
# installed, with tools that are too old, without apt, without root. Each case is a
# system of fake tools in a folder of its own, so this needs neither root nor network.
set -euo pipefail

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

# What setup.sh may take for granted of a system.
BASICS=(bash env cat cut dirname grep head id mkdir mv nproc realpath sed sha256sum
	sleep sort stat tail tr)

failed=0
case=

complain()
{
	printf '%s: %s\n' "$case" "$1" >&2
	failed=1
}

# fake NAME [LINE]...: a command that runs these lines, or says nothing and succeeds.
fake()
{
	local path=$system/bin/$1
	shift
	printf '%s\n' '#!/usr/bin/env bash' "$@" > "$path"
	chmod +x "$path"
}

# a_system NAME: one with nothing in it but the basics, for an ordinary user.
a_system()
{
	local tool
	case=$1
	system=$WORK/$1
	mkdir -p "$system"/{bin,home,scripts}
	for tool in "${BASICS[@]}"; do
		ln -s "$(command -v "$tool")" "$system/bin/$tool"
	done
	cp "$TOP"/scripts/{setup,lib}.sh "$system/scripts/"
	rm "$system/bin/id"
	fake id 'echo 1000'
}

# fake_gcc LINE: what it does with a source on standard input.
fake_gcc()
{
	fake gcc "if [ \"\$1\" = -print-file-name=libc.a ]; then echo $system/bin/gcc; exit; fi" "$1"
}

# All that setup.sh looks for, bindgen excepted, which it can get by itself.
install_everything()
{
	local tool
	for tool in git make g++ flex bison bc cpio rsync patch xz perl depmod flock \
		readelf busybox python3; do
		fake "$tool"
	done
	fake qemu-system-x86_64 'echo "QEMU emulator version 9"'
	fake_gcc 'cat > /dev/null'
	install_clang -19 19.1.7
	install_rust 1.96.0
	# Puts a bindgen where --root says.
	fake cargo 'while [ "$1" != --root ]; do shift; done' \
		'mkdir -p "$2/bin"' \
		'printf "%s\n" "#!/usr/bin/env bash" "echo bindgen 0.72.1" > "$2/bin/bindgen"' \
		"$(command -v chmod) +x \"\$2/bin/bindgen\""
}

# install_clang SUFFIX VERSION
install_clang()
{
	local tool
	for tool in ld.lld llvm-ar llvm-nm llvm-objcopy llvm-strip llvm-readelf; do
		fake "$tool$1"
	done
	fake "clang$1" "echo 'Debian clang version $2 (1)'"
	fake "llvm-config$1" "echo $system/lib"
	mkdir -p "$system/lib"
	touch "$system/lib/libclang.so.1"
}

# install_rust VERSION
install_rust()
{
	fake rustc "[ \"\$1\" = --version ] && echo 'rustc $1 (abc 2026-01-01)' || echo $system/rust"
	fake rustdoc
	fake rustfmt
	fake clippy-driver
	mkdir -p "$system/rust/lib/rustlib/src/rust/library/core/src"
	touch "$system/rust/lib/rustlib/src/rust/library/core/src/lib.rs"
}

# An apt that has what a current Debian has, and writes down what is asked of it.
install_apt()
{
	fake apt-cache 'case $2 in clang-19) v=1:19.1.7-3 ;; rustc) v=1.85.0+dfsg3-1 ;; *) exit 0 ;; esac' \
		'printf "%s:\n  Installed: (none)\n  Candidate: %s\n" "$2" "$v"'
	fake apt-get "echo \"\$*\" >> $system/apt-get.calls" "${@:-true}"
}

# setup STATUS: run it, and expect this exit status.
setup()
{
	local status=0
	env -i PATH="$system/bin" HOME="$system/home" SETUP_ROOT="$system" \
		KVM_MEMATTR_CACHE="$system/cache" "$BASH" "$system/scripts/setup.sh" \
		>"$system/stdout" 2>"$system/stderr" </dev/null || status=$?
	[ $status -eq "$1" ] || complain "exit status $status, not $1"
	# What the shell or a tool says by itself is not for people.
	! grep -E 'setup\.sh: line|lib\.sh: line|not found|unbound|Traceback|No such file' \
		"$system/stderr" >&2 || complain "a message that is not setup's own"
	[ ! -s "$system/stdout" ] || complain "wrote to standard output"
	[ -z "$(ls -A "$system/home")" ] || complain "wrote to the home folder"
	[ "$(ls -A "$system/scripts")" = "$(printf 'lib.sh\nsetup.sh')" ] ||
		complain "wrote to the checkout"
	shown=$(cat "$system/stderr")
}

says()
{
	case "$shown" in
	*"$1"*) ;;
	*) complain "does not say '$1', but:"$'\n'"$shown" ;;
	esac
}

says_not()
{
	case "$shown" in
	*"$1"*) complain "says '$1':"$'\n'"$shown" ;;
	esac
}

writes_nothing()
{
	[ ! -e "$system/cache" ] || complain "wrote to the cache"
}

a_system nothing-installed
setup 1
says 'missing on this system'
for tool in git make gcc g++ readelf flex bison bc cpio rsync patch xz perl depmod flock \
	qemu-system-x86_64 python3; do
	says "the command $tool"
done
says 'clang >= 17 with lld, the llvm tools and libclang (found: none)'
says 'rustc >= 1.85.0 with its library source (found: none)'
says 'a static busybox'
says 'a static C library'
says "Python's venv and ensurepip"
says cargo
says 'package manager of this distribution'
says_not apt-get
writes_nothing

a_system nothing-installed-with-apt-but-not-root
install_apt
setup 1
says 'as root: apt-get install '
for package in git make gcc g++ libelf-dev libssl-dev uuid-dev binutils flex bison bc cpio \
	rsync patch xz-utils perl kmod \
	util-linux qemu-system-x86 python3 libc6-dev busybox-static python3-venv clang-19 \
	lld-19 llvm-19 libclang-19-dev rustc rust-src rust-clippy rustfmt cargo; do
	says " $package "
done
[ ! -e "$system/apt-get.calls" ] || complain "ran apt-get"
writes_nothing

a_system root-and-apt-fails
install_apt 'echo "E: Unable to locate package clang-19" >&2; exit 100'
rm "$system/bin/id"
fake id 'echo 0'
setup 1
says 'apt-get update failed with exit status 100'
says 'Unable to locate package'

a_system root-and-apt-brings-nothing
install_apt
rm "$system/bin/id"
fake id 'echo 0'
setup 1
says 'missing on this system'
grep -q '^install -y .* clang-19 ' "$system/apt-get.calls" || complain "did not install clang"

# A system without a compiler lacks its headers, too: they're all installed at once.
a_system root-and-apt-brings-all
install_everything
rm "$system"/bin/{gcc,id}
fake id 'echo 0'
install_apt 'case "$*" in *libelf-dev*) printf "%s\n" "#!/usr/bin/env bash" "cat > /dev/null" > "${0%/*}/gcc"' \
	"$(command -v chmod) +x \"\${0%/*}/gcc\" ;; esac"
setup 1
# This gcc has no static C library; but no header is missing any more.
says_not 'the C header'
says_not 'the command gcc'

a_system one-package-missing
install_everything
install_apt
rm "$system/bin/flex"
setup 1
says 'the command flex'
says 'as root: apt-get install flex '
says_not 'the command bison'
writes_nothing

a_system old-clang
install_everything
rm "$system"/bin/*-19
install_clang -19 14.0.6
install_clang '' 16.0.1
setup 1
says 'clang >= 17 with lld, the llvm tools and libclang (found: clang-19 is 14.0.6; clang is 16.0.1)'
says 'package manager of this distribution'
says_not 'rustc >='
writes_nothing

a_system clang-without-lld
install_everything
rm "$system/bin/ld.lld-19"
setup 1
says 'clang-19 19.1.7 has no ld.lld-19'

a_system old-clang-beside-a-new-one
install_everything
install_clang -19 14.0.6
install_clang '' 21.1.0
setup 0
says 'clang 21.1.0'
grep -q '(LLVM=1 ' "$system/cache/toolchain.env" || complain "did not settle on the new clang"

a_system old-rust
install_everything
install_rust 1.60.0
setup 1
says "rustc >= 1.85.0 with its library source (found: $system/bin/rustc is 1.60.0)"
says rustup
says_not 'clang >='
writes_nothing

a_system rust-without-library-source
install_everything
rm -r "$system/rust"
setup 1
says "$system/bin/rustc 1.96.0 has no library source (rustup: rustup component add rust-src)"
writes_nothing

a_system rust-without-clippy
install_everything
rm "$system/bin/clippy-driver"
setup 1
says "clippy-driver of the same release as $system/bin/rustc (rustup: rustup component add clippy)"

a_system busybox-that-needs-libraries
install_everything
fake readelf 'echo "  INTERP  0x0"'
setup 1
says 'a static busybox'

a_system no-header
install_everything
fake_gcc '[ "$(cat)" != "#include <gelf.h>" ]'
setup 1
says 'the C header gelf.h'
says_not 'openssl'

# No apt, no bindgen: cargo brings it, into the cache.
a_system everything-but-bindgen
install_everything
setup 0
says 'bindgen 0.72.1'
grep -q "BINDGEN=$system/cache/tools/bin/bindgen)" "$system/cache/toolchain.env" ||
	complain "did not settle on the bindgen in the cache"
setup 0
[ -z "$shown" ] || complain "a second run is not silent: $shown"
rm "$system/bin/rsync"
setup 1
says 'the command rsync'

a_system old-bindgen-and-cargo-fails
install_everything
fake bindgen 'echo bindgen 0.65.1'
fake cargo 'echo "error: no network" >&2; exit 101'
setup 1
says 'cargo install bindgen-cli failed with exit status 101'
says 'error: no network'

a_system old-bindgen-and-cargo-brings-none
install_everything
fake bindgen 'echo bindgen 0.65.1'
fake cargo
setup 1
says "no bindgen >= 0.71.1 (found $system/bin/bindgen 0.65.1)"
says 'cargo install bindgen-cli --locked'

exit $failed
