#!/usr/bin/env bash
# Build the image of the algorithm. The bundle's task decides which: detect, Track 1 (a region's mitotic figures), or
# classify, Track 2 (normal or atypical crops).
#
#   ./build.sh [--api exec|invoke] [BUNDLE]
#
#   BUNDLE        the weights bundle to bake in; weights/l2 when it is there, else weights/lite
#   --api         exec (default): one process a case; invoke: a server behind /health and /invoke
#   -h, --help    this text
#
# Environment: IMAGE       the image's name (default mitotic-figure-detector or atypical-mitosis-classifier, by the task;
#                          ./test.sh and ./export.sh then take the last one built, whose name is in .image)
#              BASE_IMAGE  the image to build on (default: the Dockerfile's); NAME@sha256:… pins it (docs/adr/0010)

set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

die() {
    printf 'build.sh: %s\n' "$1" >&2
    exit 1
}

api="exec"
bundle=
while (($#)); do
    case $1 in
        -h | --help)
            sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
            exit 0
            ;;
        --api)
            api=${2:-}
            shift
            ;;
        -*) die "the option is unknown: got $1, expected --api or --help; see ./build.sh --help" ;;
        *)
            [[ -z $bundle ]] || die "there are too many bundles: got $bundle and $1, expected one; an image carries one bundle"
            bundle=$1
            ;;
    esac
    shift || break
done
[[ $api == exec || $api == invoke ]] || die "--api is unusable: got '$api', expected exec or invoke; see ./build.sh --help"

if [[ -z $bundle ]]; then
    bundle=$root/weights/lite
    [[ ! -f $root/weights/l2/manifest.json ]] || bundle=$root/weights/l2
fi
manifest=$bundle/manifest.json
[[ -f $manifest ]] || die "there is no weights bundle: got no $manifest, expected manifest.json beside its .safetensors files; name a bundle's folder"

value() { # KEY: its value at the manifest's top level, which is indented by one space; nothing where there is none
    grep -o "^ \"$1\"[[:space:]]*:[[:space:]]*\"[^\"]*\"" "$manifest" | sed -n '1s/.*"\(.*\)"$/\1/p' || true
}

bundle_name=$(value name)
[[ -n $bundle_name ]] || die "the bundle has no name: got none in $manifest, expected \"name\": \"…\"; restore the bundle from where it was published"
task=$(value task)
task=${task:-classify} # bundles of format 1 have no task
case $task in
    detect)
        title=mitotic-figure-detector
        description="MIDOG 2025, Track 1: where in a region are mitotic figures."
        ;;
    classify)
        title=atypical-mitosis-classifier
        description="MIDOG 2025, Track 2: which mitotic figures are atypical."
        ;;
    *) die "no image can be built for this task: got $task in $manifest, expected detect or classify; name another bundle" ;;
esac
image=${IMAGE:-$title}

command -v docker >/dev/null || die "there is no Docker: got no docker on PATH, expected Docker 20.10 or newer; install Docker Engine"
docker version >/dev/null 2>&1 || die "Docker's engine does not answer: got a failing 'docker version', expected a running engine that this user may use; start it"

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$root/pyproject.toml")
revision=$(git -C "$root" describe --always --abbrev=40 --dirty=+changes --exclude='*' 2>/dev/null) || revision=unknown
echo "build.sh: $image ($task, $api, version $version) with the bundle $bundle_name from $bundle"

arguments=(
    --tag "$image"
    --target "$api"
    --platform linux/amd64
    --force-rm # a build that fails leaves no container behind
    --build-arg "BUNDLE=weights"
    --build-arg "VERSION=$version"
    --build-arg "REVISION=$revision"
    --build-arg "TITLE=$title"
    --build-arg "DESCRIPTION=$description"
    --build-arg "BUNDLE_TASK=$task"
    --build-arg "BUNDLE_NAME=$bundle_name"
    --build-arg "BUNDLE_SHA256=$(sha256sum <"$manifest" | cut -d ' ' -f 1)"
)
[[ -z ${BASE_IMAGE:-} ]] || arguments+=(--build-arg "BASE_IMAGE=$BASE_IMAGE")

# BuildKit stamps the image with the commit's time instead of now. The files' own time is a constant, as in the Dockerfile,
# so that commits with the same files share their layers.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null || echo 0)}

# The bundle may be in any folder. Links are followed, and every user of the image may read the files.
tar --create --dereference --hard-dereference --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 \
    --mode=u=rw,go=r,a+X --exclude=__pycache__ --transform='s,^\.,weights,' \
    -C "$root" Dockerfile requirements.txt LICENSE inference.py serve.py mitoscope model -C "$(cd "$bundle" && pwd)" . \
    | docker build "${arguments[@]}" - \
    || die "the image was not built: got the error above from docker build, expected success; correct it and run ./build.sh again"

[[ -n ${IMAGE:-} ]] || echo "$image" >"$root/.image"
size=$(docker image inspect --format '{{.Size}}' "$image")
echo "build.sh: $image is built, $((size / 1000000)) MB with the bundle $bundle_name; next: ./test.sh"
