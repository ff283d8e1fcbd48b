#!/usr/bin/env bash
# Write the files to upload to the platform: the image, and its weights bundle as a file of its own.
#
#   ./export.sh
#
#   -h, --help    this text
#
# dist/<image>-<version>.tar.gz     `docker save`, at most 10 GB
# dist/<image>-<version>.cdx.json   the image's packages with version, licence and hash (CycloneDX)
# dist/<bundle>-model.tar.gz        the model tarball, which the platform unpacks at /opt/ml/model
#
# Environment: IMAGE  the image's name (default: the last one that ./build.sh built without IMAGE, which .image names, else
#                     atypical-mitosis-classifier)
#              DIST   the folder to write to (default dist)

# The scripts stand alone: each can be copied by itself.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
image=${IMAGE:-$(cat "$root/.image" 2>/dev/null || echo atypical-mitosis-classifier)}
dist=${DIST:-$root/dist}
limit=10000000000 # bytes; the platform's largest image tarball

die() {
    printf 'export.sh: %s\n' "$1" >&2
    exit 1
}

case ${1:-} in
    '') ;;
    -h | --help)
        sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
        exit 0
        ;;
    *) die "there is an unknown argument: got $1, expected none; see ./export.sh --help" ;;
esac
command -v docker >/dev/null || die "there is no Docker: got no docker on PATH, expected Docker 20.10 or newer; install Docker Engine"
docker version >/dev/null 2>&1 || die "Docker's engine does not answer: got a failing 'docker version', expected a running engine that this user may use; start it"
labels=$(docker image inspect --format '{{index .Config.Labels "org.opencontainers.image.version"}} {{index .Config.Labels "bundle.name"}} {{index .Config.Labels "org.opencontainers.image.revision"}}' "$image" 2>/dev/null) \
    || die "there is no image: got none named $image, expected a built one; run ./build.sh"
read -r version bundle revision <<<"$labels"
[[ -n ${bundle:-} ]] || die "the image is another one: got no label bundle.name on $image, expected one that build.sh made; run ./build.sh"

[[ ${image##*/} == *:* ]] || image+=:latest # a name without a tag would save all tags, and the platform takes one image

mkdir -p "$dist"
work=$(mktemp -d "$dist/.export.XXXXXX")
container=
clean_up() {
    [[ -z $container ]] || docker rm "$container" >/dev/null
    rm -rf "$work"
}
trap clean_up EXIT

# The weights come from the image, so that the two tarballs cannot differ.
container=$(docker create "$image")
docker cp "$container:/opt/app/weights" "$work/weights" >/dev/null
[[ -z $(find "$work/weights" -type l) ]] \
    || die "the bundle holds links: got $(find "$work/weights" -type l -printf '%P '), expected plain files, since the platform unpacks no links; run ./build.sh"
model_tarball=$bundle-model.tar.gz
(cd "$work/weights" && tar --create --sort=name --format=ustar --hard-dereference --owner=0 --group=0 --numeric-owner \
    --mode=u=rw,go=r,a+X --mtime=@0 -- *) \
    | gzip --no-name >"$work/$model_tarball"

name=${image##*/}
image_tarball=${name%%:*}-$version.tar.gz
sbom=${name%%:*}-$version.cdx.json
docker run --rm --interactive --network none --read-only --cap-drop ALL --security-opt no-new-privileges --entrypoint python "$image" \
    - "${name%%:*}" "$version" "$revision" /opt/app/weights /opt/app/installed.txt <"$root/tools/supply/sbom.py" >"$work/$sbom" \
    || die "the SBOM was not made: got the error above, expected an image that this checkout's build.sh made; run ./build.sh"

compress=(gzip --no-name)
! command -v pigz >/dev/null || compress=(pigz --no-name)
echo "export.sh: saving $image through ${compress[0]}; this takes minutes"
docker save "$image" | "${compress[@]}" >"$work/$image_tarball"
size=$(stat --format %s "$work/$image_tarball")
((size <= limit)) || die "the image tarball is too large: got $size bytes, expected at most $limit; bake a smaller bundle in and attach the large one as model tarball"

for file in "$image_tarball" "$sbom" "$model_tarball"; do
    mv "$work/$file" "$dist/$file"
    size=$(stat --format %s "$dist/$file")
    printf '%s  %s  %d.%d MB\n' "$(sha256sum <"$dist/$file" | cut -d ' ' -f 1)" "$dist/$file" $((size / 1000000)) $((size / 100000 % 10))
done
