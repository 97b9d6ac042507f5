#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Builds the kernel from the applied tree, with ccache, and puts a copy of the
# image into this checkout: the cache is shared, and the next build may be
# another's.
#
# usage: tools/build/kernel.sh [K [CONFIG [TARGET...]]]
#
# TARGET: bzImage unless given, for instance arch/x86/kvm/
# Environment, beside lib.sh's:
#	JOBS	how many compilers at once (number of CPUs)
# Log: build/kernel-*.log. stdout: the image's path, build/bzImage-*.

K=${1:-${K:-7.3}}
CONFIG=${2:-${CONFIG:-fast}}
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
shift $(($# < 2 ? $# : 2))
targets=("$@")
((${#targets[@]})) || targets=(bzImage)

name=$TREE_NAME-$CONFIG${VARIANT:+-$VARIANT}
out=$KUF_OUT
log=$BUILD/kernel-$name.log
[[ -f $out/.config ]] || die "no $out/.config; fix: make config"
need ccache
need bc
need perl
lock "tree-$TREE_NAME"
mkdir -p "$BUILD" "$CCACHE_DIR"
export CCACHE_STATSLOG=$BUILD/ccache-$name.log
rm -f "$CCACHE_STATSLOG"
started=$SECONDS

free=$(df -Pk "$out" | awk 'NR == 2 { print $4 }')
((free >= 1500000)) ||
	die "only $((free / 1024)) MB free at $out, a build needs 1500; fix: make room, or set KUF_CACHE"

# One line that counts objects while it works, out of as many as last time.
last=$(cat "$out/.kuf-objects" 2>/dev/null || echo 0)
progress()
{
	awk -v log_file="$log" -v last="$last" -v verbose="$V" '
		{ print > log_file }
		verbose == 1 { print > "/dev/stderr" }
		/^ +(CC|AS|LD|AR) / && verbose != 1 {
			n++
			if (n % 10 == 0)
				printf "\r  %d objects%s ", n, (last > n ? " of about " last : "") > "/dev/stderr"
		}
		END { if (n && verbose != 1) printf "\r\033[K" > "/dev/stderr" }'
}

show "${KMAKE[@]}" "-j${JOBS:-$(nproc)}" "${targets[@]}"
rc=0
if [[ -t 2 ]]; then
	"${KMAKE[@]}" "-j${JOBS:-$(nproc)}" "${targets[@]}" 2>&1 | progress || rc=$?
elif [[ $V == 1 ]]; then
	"${KMAKE[@]}" "-j${JOBS:-$(nproc)}" "${targets[@]}" 2>&1 | tee "$log" >&2 || rc=$?
else
	"${KMAKE[@]}" "-j${JOBS:-$(nproc)}" "${targets[@]}" >"$log" 2>&1 || rc=$?
fi
if ((rc)); then
	# The first error counts; with several jobs it is not the last line.
	grep -nE -m 5 -A 5 'error:|undefined reference|No (rule|space)|Error [0-9]' "$log" | head -n 30 >&2 || true
	die "the kernel does not build, full log: $log"
fi

objects=$(grep -cE '^ +(CC|AS|LD|AR) ' "$log" || true)
((objects <= last)) || echo "$objects" >"$out/.kuf-objects"
cached='no compiler run'
if [[ -s $CCACHE_STATSLOG ]]; then
	cached=$(awk '
		/^(direct_cache_hit|preprocessed_cache_hit)$/ { hit++ }
		/^cache_miss$/ { miss++ }
		END { printf "%d of %d from ccache", hit, hit + miss }' "$CCACHE_STATSLOG")
fi
rm -f "$CCACHE_STATSLOG"
record "kernel.$name" $((SECONDS - started))
say "$name: $objects objects in $((SECONDS - started)) s, $cached"

[[ ${targets[*]} == bzImage ]] || exit 0
image=$BUILD/bzImage-$name
cp "$out/arch/x86/boot/bzImage" "$image.new"
mv "$image.new" "$image"
echo "$image"
