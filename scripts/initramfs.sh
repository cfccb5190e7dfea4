#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# initramfs.sh VARIANT FOLDER [PROGRAM]...: FOLDER/initrd.cpio with busybox, the
# kernel's and this project's modules, the programs (in /tests), and FOLDER/jobs
# as what to do. MODULE_DIR= takes kvm_memattr.ko from another folder.
. "$(dirname "$0")/lib.sh"
load_toolchain

variant=$1
folder=$2
shift 2
check_variant "$variant"
root=$folder/root

rm -rf "$root"
mkdir -p "$root"/{bin,lib,tests}
cp "$BUSYBOX" "$root/bin/busybox"
cp "$TOP/scripts/guest/init" "$root/init"
chmod 755 "$root/init"
cp "$TOP/scripts/guest/load-module" "$root/lib/load-module"
cp "$folder/jobs" "$root/jobs"
[ $# -eq 0 ] || cp "$@" "$root/tests/"

stage_modules "$variant" "$root"

(cd "$root" && find . -print0 | LC_ALL=C sort -z |
	cpio --null --quiet -o -H newc -R 0:0) > "$folder/initrd.cpio"
rm -rf "$root"
