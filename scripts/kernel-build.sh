#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# kernel-build.sh VARIANT: the patched host kernel and its modules, in the cache.
# Does nothing in a second when neither source, configuration nor tools changed.
. "$(dirname "$0")/lib.sh"
load_toolchain

variant=$1
check_variant "$variant"
build=$(build_dir "$variant")

build_kernel()
{
	local key source
	"$TOP/scripts/kernel-config.sh" "$variant"
	source=$(kernel_source_key)
	key=
	[ -z "$source" ] || key="$source $(sha256sum < "$build/.config") $TOOLS_ARE ${KMAKE_TOOLS[*]}"
	if up_to_date "$build/.built" "$key" && [ -r "$build/arch/x86/boot/bzImage" ]; then
		return
	fi
	rm -f "$build/.built"
	say "building the $variant kernel (the first time takes minutes)"
	quiet "$build/build.log" "$variant kernel" kmake "$variant" -j "$JOBS" bzImage modules
	install_modules
	# With a kernel tree at work there is nothing to compare with later.
	[ -z "$key" ] || printf '%s\n' "$key" | write_file "$build/.built"
}

# The modules as a tree of their own: what goes into an initramfs, and what the
# shell's modprobe reads.
install_modules()
{
	local into=$CACHE/modroot/$variant
	rm -rf "$into"
	quiet "$build/modules_install.log" "$variant modules" \
		kmake "$variant" INSTALL_MOD_PATH="$into" INSTALL_MOD_STRIP=1 modules_install
}

locked "build-$variant" build_kernel
