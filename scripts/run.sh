#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# run.sh VARIANT: boot the patched host with the module loaded and run the demo of
# tools/kvm-memattr in it. What it prints is all of stdout, and its exit status is
# this script's; progress goes to stderr.
. "$(dirname "$0")/lib.sh"

variant=$1
check_variant "$variant"
"$TOP/scripts/prepare.sh" modules "$variant" >&2
load_toolchain

folder=$CACHE/run/$variant
target=$CACHE/cargo
mkdir -p "$folder"

# Static, since the test machine has no libraries.
quiet "$folder/cargo.log" "kvm-memattr" env RUSTFLAGS='-C target-feature=+crt-static' \
	"$CARGO" build --release --locked --target-dir "$target" \
	--manifest-path "$TOP/tools/kvm-memattr/Cargo.toml"

# One at a time, as they use the same folder. Not by locked(), whose shell would not be
# told to end.
take_lock "run-$variant"

cat > "$folder/jobs" <<'EOF'
load_kvm && load_module kvm_memattr || { echo "@@status 1"; reboot -f; }
/tests/kvm-memattr demo
echo "@@status $?"
EOF
"$TOP/scripts/initramfs.sh" "$variant" "$folder" "$target/release/kvm-memattr"

say "booting the $variant host in QEMU"
rm -f "$folder/output.log" "$folder/console.log"
touch "$folder/output.log"
"$TOP/scripts/boot.sh" "$variant" "$folder" </dev/null >"$folder/qemu.log" 2>&1 9>&- &
qemu=$!
trap 'kill $qemu 2>/dev/null || true' EXIT

# Shown as it comes; the marks are for this script.
tail -f -n +1 --pid=$qemu -s 0.1 "$folder/output.log" | sed -u '/^@@/d' &
shown=$!
limit=$((SECONDS + 300))
while kill -0 $qemu 2>/dev/null; do
	if [ $SECONDS -ge $limit ]; then
		kill $qemu
		die "the demo did not end in 300 s" "the host's console: $folder/console.log"
	fi
	sleep 0.1
done
wait $qemu || true
wait $shown || true
trap - EXIT

status=$(sed -n 's/^@@status \([0-9]*\).*/\1/p' "$folder/output.log")
[ -n "$status" ] || die "the host went down before the demo ended" \
	"the host's console: $folder/console.log" "QEMU's own output: $folder/qemu.log"
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$TOP/scripts python3 - "$folder/console.log" <<'EOF' ||
import sys
import test

splat = test.first_splat(open(sys.argv[1], errors="replace").read())
if splat:
    sys.exit("the kernel said: " + splat)
EOF
	die "the kernel complained while the demo ran" "the host's console: $folder/console.log"
[ "$status" -eq 0 ] || printf '!!! the demo failed; the host'"'"'s console: %s\n' "$folder/console.log" >&2
exit "$status"
