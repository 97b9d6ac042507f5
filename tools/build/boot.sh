#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# One boot of the test VM: runs one test list and judges the result.
#
# usage: KERNEL=bzImage INITRD=cpio.gz LIST=name tools/build/boot.sh
#        tools/build/boot.sh --probe	print "tcg" or "kvm", and why
#
# Environment, beside lib.sh's:
#	KERNEL, INITRD	what to boot; INITRD is made by initramfs.sh
#	LIST		test list inside INITRD
#	ONLY		only these tests of the list (names, comma separated)
#	NPT=1|0		nested (two-dimensional) paging on or off
#	SMP=2 MEM=4G	size of the VM
#	THREAD=single|multi  how TCG emulates several CPUs: in turns, or in parallel.
#			In parallel QEMU 7.2 gets nested paging wrong: on a pristine
#			kernel two vCPUs that each touch a fresh page and exit, over and
#			over, end in KVM_EXIT_SHUTDOWN within seconds
#	TIMEOUT=600	seconds for the whole boot, after which QEMU is killed
#	SCALE		factor for the list's timeouts (CONFIG=debug: 4, fast: 1)
#	OUT		directory for logs and results ($BUILD/boot/LABEL)
#	LABEL		name of this boot (LIST-npt$NPT)
#	APPEND		more kernel command line
#	FOLLOW		regular expression for the result lines to show as they come
#	ACCEL=tcg|kvm	override the probe
#	ICOUNT=1	count instructions instead of time: one CPU, deterministic
#	QEMU		qemu-system-x86_64
#
# OUT gets: command (pasteable), console.log, result.ktap (as the VM wrote it),
# boot.ktap (boot, plan-complete, console-clean), qemu.log, verdict.
#
# Exit status: 0 passed. 1 not booted: missing input or program. Else the first of
#	12 dirty-console    the kernel printed a BUG, WARNING, lockdep report, ...
#	13 timeout          QEMU had to be killed
#	14 lost-vm          QEMU ended before the VM said that it was done
#	11 incomplete-plan  the VM is done, but planned results are missing
#	10 failed-test      everything is there, and a test failed

# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# /dev/kvm opening is no proof: nesting is off in many clouds, and where it is
# on, the VM's KVM still needs SVM or VMX in the CPU that it sees.
probe_accel()
{
	local vendor param
	case " $(grep -m1 '^flags' /proc/cpuinfo || true) " in
	*' svm '*) vendor=amd ;;
	*' vmx '*) vendor=intel ;;
	*)
		echo "tcg (this CPU shows neither SVM nor VMX)"
		return
		;;
	esac
	param=/sys/module/kvm_$vendor/parameters/nested
	if [[ ! -r $param || $(<"$param") != [Y1] ]]; then
		echo "tcg ($param is not Y)"
	elif [[ ! -r /dev/kvm || ! -w /dev/kvm ]]; then
		echo "tcg (no access to /dev/kvm; fix: join the group kvm)"
	else
		echo "kvm ($param is Y)"
	fi
}

if [[ ${1:-} == --probe ]]; then
	probe_accel
	exit
fi

: "${KERNEL:?is not set, see the header of boot.sh}"
: "${INITRD:?is not set, see the header of boot.sh}"
: "${LIST:?is not set, see the header of boot.sh}"
[[ -f $KERNEL ]] || die "no kernel image $KERNEL; fix: make kernel"
[[ -f $INITRD ]] || die "no initramfs $INITRD; fix: tools/build/initramfs.sh"
QEMU=${QEMU:-qemu-system-x86_64}
need "$QEMU" qemu-system-x86
need timeout coreutils

TIMEOUT=${TIMEOUT:-600}
LABEL=${LABEL:-$LIST-npt$NPT}
OUT=${OUT:-$BUILD/boot/$LABEL}
SCALE=${SCALE:-$([[ $CONFIG == debug ]] && echo 4 || echo 1)}
FOLLOW=${FOLLOW:-^(not ok|ok|Bail out!) }
if [[ -z ${ACCEL:-} ]]; then
	ACCEL=$(probe_accel)
	say "accelerator: $ACCEL"
	ACCEL=${ACCEL%% *}
fi

# One socket each: the small kernel finds its CPUs in the MP table, and firmware
# lists only the first core of a socket there.
[[ ${ICOUNT:-0} != 1 ]] || SMP=1
SMP=${SMP:-2}
smp="$SMP,sockets=$SMP,cores=1,threads=1"
if [[ ${ICOUNT:-0} == 1 ]]; then
	# Without erms and fsrm: emulation counts every byte of a rep movsb.
	cpu=(-accel "tcg,thread=single" -icount "shift=0,sleep=off" -smp "$smp"
		-cpu "max,-erms,-fsrm")
elif [[ $ACCEL == kvm ]]; then
	cpu=(-accel kvm -smp "$smp" -cpu host)
else
	cpu=(-accel "tcg,thread=${THREAD:-single}" -smp "$smp" -cpu max)
fi

mkdir -p "$OUT"
rm -f "$OUT"/{console.log,result.ktap,boot.ktap,qemu.log,verdict}
: >"$OUT/console.log"
: >"$OUT/result.ktap"

# The small kernel has no ACPI, hence no timer to calibrate the TSC with; without
# its frequency KVM has no clock to offer. Under TCG the VM sees the host's TSC,
# when instructions are counted one tick is a nanosecond; real KVM has kvmclock.
tsc=
if [[ ${ICOUNT:-0} == 1 ]]; then
	tsc="tsc=reliable tsc_early_khz=1000000 "
elif [[ $ACCEL == tcg && $(uname -m) == x86_64 ]]; then
	need gcc
	if [[ ! -x $BUILD/tsc_khz || $KUF_BIN/tsc_khz.c -nt $BUILD/tsc_khz ]]; then
		run gcc -O2 -Wall -Wextra -Werror -o "$BUILD/tsc_khz" "$KUF_BIN/tsc_khz.c"
	fi
	tsc="tsc=reliable tsc_early_khz=$("$BUILD/tsc_khz") "
	# QEMU 7.2 changes a CPU's pending interrupts at each emulated #VMEXIT without the
	# lock, and so now and then loses one that its other thread raises at that time.
	# A timer that is set for one shot at a time then never comes again, nor does
	# anything else that waits for it; a periodic one comes 4 ms later.  With several
	# CPUs that was not seen, and tests of vCPUs that are preempted need peace till then.
	((SMP > 1)) || tsc+="highres=off nohz=off "
fi

# KVM ignores the parameter of the vendor whose CPU it does not run on.
cmdline="console=ttyS0 ${tsc}panic=-1 oops=panic panic_on_warn=1 printk.devkmsg=on"
cmdline+=" kvm_amd.npt=$NPT kvm_intel.ept=$NPT kuf.npt=$NPT kuf.cpus=$SMP"
cmdline+=" kuf.list=$LIST kuf.scale=$SCALE${ONLY:+ kuf.only=$ONLY}${APPEND:+ $APPEND}"
qemu=("$QEMU" -machine q35 "${cpu[@]}" -m "${MEM:-4G}"
	-nodefaults -no-user-config -display none -monitor none -no-reboot
	-chardev "file,id=console,path=$OUT/console.log" -serial chardev:console
	-device virtio-serial-pci
	-chardev "file,id=result,path=$OUT/result.ktap"
	-device "virtserialport,chardev=result,name=kuf.result"
	-kernel "$KERNEL" -initrd "$INITRD" -append "$cmdline")
show timeout -k 5 "$TIMEOUT" "${qemu[@]}"
show "${qemu[@]}" 2>&1 | sed 's/^+ //' >"$OUT/command"

# timeout passes a TERM on to QEMU; were this script itself killed hard, QEMU
# would still end in time.
started=$SECONDS
timeout -k 5 "$TIMEOUT" "${qemu[@]}" </dev/null >"$OUT/qemu.log" 2>&1 &
vm=$!
trap 'kill -TERM "$vm" 2>/dev/null || true' EXIT
trap 'say "interrupted: QEMU stopped, logs in $OUT"; exit 130' INT TERM HUP

tail -q -s 0.2 -n +1 -f --pid="$vm" "$OUT/result.ktap" |
	{ grep -a --line-buffered -E "$FOLLOW" || true; } >&2 &
progress=$!
rc=0
wait "$vm" || rc=$?
wait "$progress" || true
trap - EXIT INT TERM HUP
seconds=$((SECONDS - started))

"$KUF_BIN/judge.sh" "$OUT" "$LABEL" "$rc" "$seconds"
