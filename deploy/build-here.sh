#!/usr/bin/env bash
# Builds the CPU image without a container engine and without a registry, and tests it: on a Debian
# machine, as root, with the packages `debootstrap` and `buildah`.
#
#   deploy/build-here.sh                           build, then test the scripted engine
#   deploy/build-here.sh --vllm                    and vLLM with the bundled model
#   deploy/build-here.sh --keep -- ARGS...         ARGS go to `buildah bud`: volumes, a secret, ...
#
# With your own package index, for instance:
#   deploy/build-here.sh -- --secret id=pip.conf,src=pip.conf --volume /srv/wheels:/srv/wheels:ro
#
# Variables: STORAGE_DRIVER (vfs works everywhere but copies each layer: 40 GB; overlay: 15 GB), SUITE
# (bookworm), MIRROR (debootstrap's own). Everything it makes is in one folder (WORK, or a new one
# below TMPDIR) and is removed at the end unless --keep is given.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
suite=${SUITE:-bookworm}
export STORAGE_DRIVER=${STORAGE_DRIVER:-vfs} BUILDAH_ISOLATION=chroot
keep=no vllm=no
while [ $# -gt 0 ]; do
    case $1 in
    --keep) keep=yes ;;
    --vllm) vllm=yes ;;
    --) shift && break ;;
    *) sed -n '2,16s/^# \{0,1\}//p' "$0" && exit 2 ;;
    esac
    shift
done
for tool in debootstrap buildah python3; do
    command -v "$tool" >/dev/null || { echo "build-here: $tool is missing" >&2; exit 1; }
done
[ "$(id -u)" = 0 ] || { echo "build-here: debootstrap and chroot need root" >&2; exit 1; }

work=${WORK:-$(mktemp -d)}
mkdir -p "$work"
cleanup() {
    [ "$keep" = yes ] && { echo "build-here: kept in $work" && return; }
    store rm --all >/dev/null 2>&1 || true
    store rmi --all --force >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap cleanup EXIT
store() { buildah --root "$work/store" --runroot "$work/run" "$@"; }
have() { store inspect --type image "$1" >/dev/null 2>&1; }

# --- a base image, made of Debian's packages
base=localhost/extracot-base:$suite
if ! have "$base"; then
    echo "build-here: a base of Debian $suite"
    [ -e "$work/$suite.done" ] || {
        rm -rf "${work:?}/$suite"
        debootstrap --variant=minbase "$suite" "$work/$suite" ${MIRROR:+"$MIRROR"} \
            >"$work/debootstrap.log"
        touch "$work/$suite.done"
    }
    container=$(store from scratch)
    cp -a "$work/$suite/." "$(store mount "$container")/"
    store umount "$container" >/dev/null
    store config --cmd /bin/bash "$container"
    store commit --quiet --rm "$container" "$base" >/dev/null
fi

# --- the image. Both bases are given: this builder looks at the unused one as well.
# Docker's format, because OCI's has no health check.
echo "build-here: the image"
store bud --isolation chroot --format docker --tag localhost/extracot:cpu --file "$root/Dockerfile" \
    --build-arg DEVICE=cpu --build-arg CPU_BASE_IMAGE="$base" --build-arg CUDA_BASE_IMAGE="$base" \
    "$@" "$root"

# --- does it serve, and stop as it should?
container=$(store from localhost/extracot:cpu)
mkdir -p "$work/cache" && chown 10001:10001 "$work/cache"
python3 "$root/deploy/try_image.py" --engine scripted -- \
    buildah --root "$work/store" --runroot "$work/run" run --volume "$work/cache:/cache" "$container"
if [ "$vllm" = yes ]; then
    python3 "$root/deploy/try_image.py" --engine vllm -- \
        buildah --root "$work/store" --runroot "$work/run" run --volume "$work/cache:/cache" "$container"
fi
store images --format '{{.Name}} {{.Size}}'
