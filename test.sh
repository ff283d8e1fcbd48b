#!/usr/bin/env bash
# Run the image on a test case under stricter conditions than the platform's, and check its output.
#
#   ./test.sh
#
#   -h, --help    this text
#
# The image's labels select the test. bundle.task: detect, Track 1, the region of test/input/region0; classify, Track 2, the
# stack of test/input/interf0. The API: exec, one container scores the case; invoke, one server, called from inside its
# container, scores three cases in a row, a bad one between two good ones and two calls at once, and is stopped by SIGTERM
# in the middle of a case; /input and /output are emptied and filled between the calls.
#
# The rules of the platform are always checked. The values are compared with the expected output when the image holds
# weights/lite or weights/detector-lite, which made it: within 1e-4 and with equal classes on a CPU; within 2e-2 on a GPU
# (fp16), where a page or point that close to the threshold may change its class.
#
# Environment: IMAGE     the image's name (default: the last one that ./build.sh built without IMAGE, which .image names,
#                        else atypical-mitosis-classifier)
#              EXPECTED  the folder of the expected output, compared with any bundle
#                        (default test/expected/region0 or test/expected/interf0)

# The scripts stand alone: each can be copied by itself.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
image=${IMAGE:-$(cat "$root/.image" 2>/dev/null || echo atypical-mitosis-classifier)}

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
user=$(docker image inspect --format '{{.Config.User}}' "$image" 2>/dev/null) \
    || die "there is no image: got none named $image, expected a built one; run ./build.sh"

# Images of Track 2 that were built before there was a label have none.
case $(docker image inspect --format '{{index .Config.Labels "bundle.task"}}' "$image") in
    detect)
        track=1
        folder=region0
        weights=detector-lite
        result=mitotic-figures.json
        kind=--region
        other=glass
        ;;
    *)
        track=2
        folder=interf0
        weights=lite
        result=multiple-mitotic-figure-classification.json
        kind=--stack
        other=reversed
        ;;
esac
expected=${EXPECTED:-$root/test/expected/$folder}
input=$root/test/input/$folder
[[ -f $input/inputs.json ]] || die "there is no test case: got no $input/inputs.json, expected the committed fixture; restore test/input"

api=$(docker image inspect --format '{{index .Config.Labels "org.grand-challenge.api-method"}}' "$image")
[[ $api == exec || $api == invoke ]] || die "the image is another one: got the label org.grand-challenge.api-method '$api', expected exec or invoke; run ./build.sh"

work=$(mktemp -d)
container=
clean_up() { # the container's files belong to another user
    [[ -z $container ]] || docker rm --force "$container" >/dev/null
    rm -rf "$work" 2>/dev/null && return
    docker run --rm --network none --user 0 -v "$work:/work" --entrypoint find "$image" /work -mindepth 1 -delete
    rm -rf "$work"
}
trap clean_up EXIT
# Copies, so that the container's user may read them whatever the checkout's permissions.
mkdir "$work/cases" "$work/check" "$work/expected" "$work/input" "$work/model" "$work/output"
cp -R "$input" "$work/cases/fixture"
cp "$root/test/container/make_cases.py" "$work/check/"
((track == 2)) || cp "$root/test/compare_points.py" "$work/check/"
chmod -R a+rX "$work"
chmod 777 "$work/cases" "$work/expected" "$work/output"

# Try it: `docker info` may name a runtime although there is no card.
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
lite=$(sha256sum "$root/weights/$weights/manifest.json" 2>/dev/null | cut -d ' ' -f 1) || lite=
compare=()
if [[ -n ${EXPECTED:-} || (-n $lite && ${baked##* } == "$lite") ]]; then
    [[ -f $expected/$result ]] || die "there is no expected output: got no $expected/$result, expected the committed file; restore test/expected or correct EXPECTED"
    cp -R "$expected" "$work/expected/fixture"
    chmod -R a+rX "$work/expected"
    compare=(--tolerance "$tolerance" --class-margin "$class_margin")
    echo "test.sh: checking format and values against $expected (bundle ${baked% *}, tolerance $tolerance)"
else
    echo "test.sh: checking the format only: the image holds ${baked% *}, the expected values are those of weights/$weights"
fi

failures=()
case $user in '' | 0 | 0:* | root | root:*) failures+=("the image runs as root") ;; esac

strict=(--platform linux/amd64 --network none --read-only --cap-drop ALL --security-opt no-new-privileges
    --memory 15g --tmpfs "/tmp:rw,exec,mode=1777")
mounts=(-v "$work/input:/input:ro" -v "$work/output:/output" -v "$work/model:/opt/ml/model:ro")

provide() { # CASE: into /input; /output is empty then
    find "$work/input" "$work/output" -mindepth 1 -delete
    cp -R "$work/cases/$1/." "$work/input"
    chmod -R a+rX "$work/input"
}

check() { # CASE: check the result in /output, by the image's own `mitoscope check`
    local images=("$work"/input/images/*/*) against=()
    [[ $track != 2 || ! -f $work/expected/$1/$result ]] || against=(--expected "/expected/$1/$result" "${compare[@]}")
    docker run --rm "${strict[@]}" -v "$work/expected:/expected:ro" \
        -v "$work/input:/input:ro" -v "$work/output:/output:ro" --entrypoint python "$image" \
        -m mitoscope check "/output/$result" "$kind" "/input${images[0]#"$work/input"}" --weights /opt/app/weights "${against[@]}" \
        || failures+=("$1: the output is wrong, see above")
    [[ $track == 2 || ! -f $work/expected/$1/$result ]] || docker run --rm "${strict[@]}" -v "$work/check:/check:ro" \
        -v "$work/expected:/expected:ro" -v "$work/output:/output:ro" --entrypoint python "$image" \
        /check/compare_points.py "/output/$result" "/expected/$1/$result" "$tolerance" "$class_margin" \
        || failures+=("$1: the output is not as expected, see above")
}

test_exec() {
    local start=$SECONDS status=0
    provide fixture
    docker run --rm "${strict[@]}" "${gpu[@]}" "${mounts[@]}" "$image" 2>"$work/stderr" || status=$?
    cat "$work/stderr" >&2
    echo "test.sh: the container ran for $((SECONDS - start)) s"
    ((status == 0)) || failures+=("the container ended with exit code $status")
    [[ ! -s $work/stderr ]] || failures+=("the container wrote on stderr")
    check fixture
}

ask() { # METHOD PATH: print the status, or 0 without an answer
    docker exec "$container" python -c '
import sys, urllib.error, urllib.request
request = urllib.request.Request("http://127.0.0.1:4743" + sys.argv[2], method=sys.argv[1])
try:
    print(urllib.request.urlopen(request, timeout=600).status)
except urllib.error.HTTPError as error:
    print(error.code)
except OSError:
    print(0)' "$1" "$2" 2>/dev/null || echo 0
}

expect() { # CASE STATUS: score the case; 201 is followed by a check
    provide "$1"
    local status
    status=$(ask POST /invoke)
    echo "test.sh: $1: /invoke answered $status"
    [[ $status == "$2" ]] || failures+=("$1: /invoke answered $status, expected $2")
    [[ $2 != 201 ]] || check_quietly "$1"
}

check_quietly() { # CASE: show the table only if something is wrong
    check "$1" >"$work/checked"
    ! grep -q '^wrong: ' "$work/checked" || cat "$work/checked"
}

expect_stderr() { # LINES: their number; each is the reason of a failed case
    docker logs "$container" 2>"$work/stderr" >/dev/null
    [[ $(wc -l <"$work/stderr") == "$1" && $(grep -c '^error: ' "$work/stderr") == "$1" ]] \
        || failures+=("stderr does not hold just the reasons of the failed cases: expected $1 lines")
}

start_server() {
    local start=$SECONDS
    container=$(docker run --detach "${strict[@]}" "${gpu[@]}" "${mounts[@]}" "$image")
    until [[ $(ask GET /health) == 200 ]]; do
        if ((SECONDS - start > 300)) || [[ $(docker inspect --format '{{.State.Running}}' "$container") != true ]]; then
            failures+=("/health never answered 200")
            return 1
        fi
        sleep 0.5
    done
    echo "test.sh: /health answered 200 after $((SECONDS - start)) s"
}

call_twice() {
    provide fixture
    ask POST /invoke >"$work/first" &
    ask POST /invoke >"$work/second" &
    wait
    echo "test.sh: two calls at once: $(cat "$work/first" "$work/second" | tr '\n' ' ')"
    [[ $(cat "$work/first" "$work/second") == $'201\n201' ]] || failures+=("two calls at once were not both scored")
    check_quietly fixture
}

stop_server() { # in the middle of the longest case: a whole result or none, within the platform's 5 s
    local status
    provide long
    ask POST /invoke >"$work/first" &
    sleep 2
    docker stop -t 5 "$container" >/dev/null
    wait
    status=$(docker inspect --format '{{.State.ExitCode}}' "$container")
    ((status == 0)) || failures+=("SIGTERM did not end the server cleanly: exit code $status")
    if [[ $(cat "$work/first") == 201 ]]; then
        echo "test.sh: the case was over before SIGTERM came"
        check_quietly long
    else
        echo "test.sh: SIGTERM ended the server in the middle of a case"
        [[ -z $(ls -A "$work/output") ]] || failures+=("SIGTERM left something in the output folder")
    fi
}

test_invoke() {
    docker run --rm "${strict[@]}" -v "$work/check:/check:ro" -v "$work/cases:/cases" -v "$work/expected:/expected" \
        --entrypoint python "$image" /check/make_cases.py /cases /expected
    if start_server; then
        expect fixture 201
        expect "$other" 201
        expect fixture 201
        expect_stderr 0
        expect bad 500
        [[ -z $(ls -A "$work/output") ]] || failures+=("bad: a case that failed has an output")
        expect "$other" 201
        call_twice
        expect_stderr 1
        stop_server
    fi
    docker logs "$container" 2>&1
}

"test_$api"
if ((${#failures[@]})); then
    printf -v reasons '; %s' "${failures[@]}"
    echo "FAIL: ${reasons:2}"
    exit 1
fi
echo PASS
