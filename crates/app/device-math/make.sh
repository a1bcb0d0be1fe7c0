#!/usr/bin/env bash
# Makes math.bc again, after a change of src/lib.rs or of libm. Needs llvm-as of the LLVM that the feature `cuda` is built with (scripts/llvm-for-cuda.sh).
#
# rustc has no NVIDIA target without another download, so the functions are compiled to LLVM's assembly for this processor; of it only the lines that name
# the processor are changed. Functions may be put into their callers and dropped.
set -euo pipefail
cd "$(dirname "$0")"
llvm="${LLVM_BIN:-${XDG_DATA_HOME:-$HOME/.local/share}/tracel/tracel-llvm-23.1.0-4/bin}"
built=$(mktemp -d)
trap 'rm -rf "$built"' EXIT
CARGO_TARGET_DIR="$built" cargo rustc --release --quiet -- --emit=llvm-ir -C no-vectorize-loops -C no-vectorize-slp
sed -E \
    -e 's/^source_filename.*/source_filename = "device-math"/; /^!llvm.dbg.cu/d' \
    -e 's/^target datalayout.*/target datalayout = "e-p6:32:32-i64:64-i128:128-i256:256-v16:16-v32:32-n16:32:64"/' \
    -e 's/^target triple.*/target triple = "nvptx64-nvidia-cuda"/' \
    -e 's/ "target-cpu"="[^"]*"//; s/ "probe-stack"="[^"]*"//; s/ nonlazybind//; s/ uwtable//' \
    -e 's/^define noundef (float|double) @__nv/define linkonce_odr noundef \1 @__nv/' \
    "$built"/release/deps/device_math-*.ll >"$built/math.ll"
"$llvm/llvm-as" "$built/math.ll" -o math.bc
ls -l math.bc
