#!/usr/bin/env bash
# Run the image on test/input/interf0 as the platform does, only stricter, and check what it writes.
#
#   ./test.sh
#
#   -h, --help    this text
#
# Format and page count are always checked. The values are compared with the expected output when the image carries
# weights/lite, which made it: within 1e-4 and with equal classes on a CPU; within 2e-2 on a GPU (fp16), where a page
# that close to the threshold may change its class.
#
# Environment: IMAGE     the image's name (default atypical-mitosis-classifier)
#              EXPECTED  the folder of the expected output, compared whichever bundle the image carries
#                        (default test/expected/interf0)

set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
image=${IMAGE:-atypical-mitosis-classifier}
expected=${EXPECTED:-$root/test/expected/interf0}
input=$root/test/input/interf0
result=multiple-mitotic-figure-classification.json

die() {
    printf 'test.sh: %s\n' "$1" >&2
    exit 1
}

case ${1:-} in
    '') ;;
    -h | --help)
        sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
        exit 0
        ;;
    *) die "there is an unknown argument: got $1, expected none; see ./test.sh --help" ;;
esac
command -v docker >/dev/null || die "there is no Docker: got no docker on PATH, expected Docker 20.10 or newer; install Docker Engine"
docker version >/dev/null 2>&1 || die "Docker's engine does not answer: got a failing 'docker version', expected a running engine that this user may use; start it"
[[ -f $input/inputs.json ]] || die "there is no test case: got no $input/inputs.json, expected the committed fixture; restore test/input"
[[ -f $expected/$result ]] || die "there is no expected output: got no $expected/$result, expected the committed file; restore test/expected or correct EXPECTED"
user=$(docker image inspect --format '{{.Config.User}}' "$image" 2>/dev/null) \
    || die "there is no image: got none named $image, expected a built one; run ./build.sh"

work=$(mktemp -d)
clean_up() { # what the container wrote belongs to another user
    rm -rf "$work" 2>/dev/null && return
    docker run --rm --network none --user 0 -v "$work/output:/output" --entrypoint find "$image" /output -mindepth 1 -delete
    rm -rf "$work"
}
trap clean_up EXIT
# Copies, so that the container's user may read them whatever the checkout's permissions.
mkdir "$work/output" "$work/model" "$work/check"
cp -R "$input" "$work/input"
cp -R "$expected" "$work/check/expected"
cp -R "$root/scoring" "$work/check/"
chmod -R a+rX "$work"
chmod 777 "$work/output"

# A trial says what Docker really offers; a runtime's name in `docker info` may have no card behind it.
gpu=()
tolerance=1e-4
class_margin=0
if trial=$(docker run --rm --network none --gpus all --entrypoint true "$image" 2>&1); then
    gpu=(--gpus all)
    tolerance=2e-2
    class_margin=2e-2
    echo "test.sh: GPU: yes, with --gpus all"
else
    trial=${trial//$'\n'/ }
    echo "test.sh: GPU: no, on the CPU; Docker refuses --gpus all: ${trial:0:160}"
fi

baked=$(docker image inspect --format '{{index .Config.Labels "bundle.name"}} {{index .Config.Labels "bundle.manifest.sha256"}}' "$image")
lite=$(sha256sum "$root/weights/lite/manifest.json" 2>/dev/null | cut -d ' ' -f 1) || lite=
compare=()
if [[ -n ${EXPECTED:-} || (-n $lite && ${baked##* } == "$lite") ]]; then
    compare=(--expected "/check/expected/$result" --tolerance "$tolerance" --class-margin "$class_margin")
    echo "test.sh: checking format and values against $expected (bundle ${baked% *}, tolerance $tolerance)"
else
    echo "test.sh: checking the format only: the image carries ${baked% *}, the expected values are those of weights/lite"
fi

failures=()
case $user in '' | 0 | 0:* | root | root:*) failures+=("the image runs as root") ;; esac
start=$SECONDS
status=0
docker run --rm --platform linux/amd64 --network none --read-only --cap-drop ALL --security-opt no-new-privileges \
    --memory 15g --tmpfs /tmp:rw,exec,mode=1777 "${gpu[@]}" \
    -v "$work/input:/input:ro" -v "$work/output:/output" -v "$work/model:/opt/ml/model:ro" "$image" \
    2>"$work/stderr" || status=$?
cat "$work/stderr" >&2
echo "test.sh: the container ran for $((SECONDS - start)) s"
((status == 0)) || failures+=("the container ended with exit code $status")
[[ ! -s $work/stderr ]] || failures+=("the container wrote on stderr")

# The check is the checkout's: the image holds model/ alone.
stacks=("$input"/images/*/*)
docker run --rm --platform linux/amd64 --network none --read-only --cap-drop ALL --security-opt no-new-privileges \
    --memory 15g --tmpfs /tmp:rw,exec,mode=1777 \
    -v "$work/check/scoring:/opt/app/scoring:ro" -v "$work/check/expected:/check/expected:ro" \
    -v "$work/input:/input:ro" -v "$work/output:/output:ro" --entrypoint python "$image" \
    -m scoring check "/output/$result" --stack "/input${stacks[0]#"$input"}" --weights /opt/app/weights "${compare[@]}" \
    || failures+=("the output is wrong, as said above")

if ((${#failures[@]})); then
    printf -v reasons '; %s' "${failures[@]}"
    echo "FAIL: ${reasons:2}"
    exit 1
fi
echo PASS
