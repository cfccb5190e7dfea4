#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# boot.sh VARIANT FOLDER: boot the host kernel of that variant in QEMU with
# FOLDER/initrd.cpio. Kernel messages go to FOLDER/console.log, the output of what
# runs there to FOLDER/output.log; BOOT_STDOUT=1 shows the output instead.
# BOOT_CLOCK=instructions: one CPU, whose time passes by a nanosecond with each
# instruction that it executes, whatever this machine does meanwhile.
#
# QEMU emulates AMD SVM with nested paging without any hardware for it, so that
# the machine is a real KVM host everywhere.
. "$(dirname "$0")/lib.sh"

variant=$1
folder=$2
check_variant "$variant"

output=file:$folder/output.log
[ -z "${BOOT_STDOUT:-}" ] || output=stdio

# In the wall clock's mode, the guest's init leaves CPU 0 to the kernel: QEMU clears a
# flag of the first CPU whenever another one loads an FPU state, without a lock, and
# next to it are those that say that the CPU runs a guest. What these lose, or don't
# lose, has a vCPU shut down or the CPU take interrupts that it has disabled.
case ${BOOT_CLOCK:-wall} in
wall) clock=(-accel tcg,thread=multi -smp 3) ;;
instructions) clock=(-accel tcg,thread=single -icount shift=0,sleep=off -smp 1) ;;
*) die "unknown clock '$BOOT_CLOCK'" "BOOT_CLOCK is wall or instructions" ;;
esac

# KASAN takes what memory there is from the number of page-table levels. With five, an
# interrupt while the kernel reads the CPU's features anew finds four of them.
[ "$variant" != debug ] || BOOT_PARAMS="no5lvl ${BOOT_PARAMS:-}"

# exec: whoever started this script can end QEMU by this process id.
exec qemu-system-x86_64 -machine q35 "${clock[@]}" -cpu max,+svm,+npt \
	-m 4G -nodefaults -display none -no-reboot \
	-kernel "$(build_dir "$variant")/arch/x86/boot/bzImage" \
	-initrd "$folder/initrd.cpio" \
	-append "console=ttyS0 loglevel=8 panic=-1 ${BOOT_PARAMS:-}" \
	-serial "file:$folder/console.log" -serial "$output"
