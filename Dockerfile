# The algorithm's image: torch with CUDA 12, the library, the platform's entries and one weights bundle. build.sh sets the
# arguments and chooses the target, exec or invoke: they differ in the entry and in the label that the platform reads.
ARG BASE_IMAGE=python:3.11-slim-bookworm
FROM ${BASE_IMAGE} AS packages

# The large layer comes first, so that a change of code or weights does not install torch again. Files that no run loads
# are deleted in the same layer, since a later one would only hide them (docs/adr/0010): triton (only torch.compile uses
# it, and only with a C compiler), headers, the packages' own tests, three CUDA libraries that no other file names; then
# pip itself and the setuid bits. installed.txt lists the installed wheels with their hashes, for the SBOM.
# Everything is compiled to .pyc here: the platform's containers start cold and cannot write beside the sources. The .pyc
# hold hashes instead of times, and all files have one time, so that every build gives the same files.
COPY requirements.txt /opt/app/
RUN export PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1 \
 && touch /dev/shm/start \
 && pip install --no-cache-dir --no-compile --progress-bar off --report /dev/shm/report.json \
        --require-hashes -r /opt/app/requirements.txt \
 && python -c 'import json, sys; wheels = json.load(sys.stdin)["install"]; print(*sorted("{name}=={version} --hash=sha256:".format_map(wheel["metadata"]) + wheel["download_info"]["archive_info"]["hashes"]["sha256"] for wheel in wheels), sep="\n")' \
        < /dev/shm/report.json > /opt/app/installed.txt \
 && pip uninstall --yes triton setuptools pip \
 && stdlib="$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
 && site="$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
 && rm -rf "$stdlib/ensurepip" "$site/torch/include" "$site"/nvidia/*/include "$site"/nvidia/cuda_nvrtc/lib/*.alt.* \
        "$site"/nvidia/cusolver/lib/libcusolverMg.* "$site"/nvidia/nvshmem/lib/libnvshmem_device.* \
 && find "$stdlib" -type d -name tests -prune -exec rm -r {} + \
 && python -m compileall -q -f --invalidation-mode unchecked-hash "$stdlib" \
 && find / -xdev -type f -perm /6000 -exec chmod a-s {} + \
 && echo 'classifier:x:1000:' >> /etc/group \
 && echo 'classifier:x:1000:1000::/tmp:/usr/sbin/nologin' >> /etc/passwd \
 && find /etc /opt /root /tmp /usr /var -xdev -cnewer /dev/shm/start ! -path '/etc/host*' ! -path /etc/resolv.conf \
        -exec touch --no-dereference --date=@0 {} + \
 && rm /dev/shm/start /dev/shm/report.json

FROM packages AS both
# Only /tmp is writable, and the user may be unknown to the image: without TORCHINDUCTOR_CACHE_DIR, importing torchvision
# looks up the user's name and fails.
ENV PYTHONUTF8=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp XDG_CACHE_HOME=/tmp/cache MPLCONFIGDIR=/tmp/matplotlib \
    TORCH_HOME=/tmp/torch TORCHINDUCTOR_CACHE_DIR=/tmp/torchinductor HF_HOME=/tmp/huggingface HF_HUB_OFFLINE=1 \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

WORKDIR /opt/app
ARG BUNDLE=weights/lite
COPY ${BUNDLE} weights/
COPY mitoscope/ mitoscope/
COPY model/ model/
COPY inference.py serve.py LICENSE ./
# A broken bundle fails here, not on the platform.
RUN python -m compileall -q --invalidation-mode unchecked-hash mitoscope model inference.py serve.py \
 && find /opt/app -newermt @0 -exec touch --date=@0 {} + \
 && python -c 'from pathlib import Path; from mitoscope.stopwatch import Stopwatch; from model.case import load_model; load_model(Path("weights"), "cpu", "auto", Stopwatch())'

# The commit, for the records beside what `mitoscope` writes; last, so that another commit of the same code keeps the rest.
ARG REVISION=unknown
RUN echo "$REVISION" > REVISION && touch --date=@0 REVISION .

USER 1000:1000
ARG VERSION=unknown
ARG TITLE=atypical-mitosis-classifier
ARG DESCRIPTION="MIDOG 2025, Track 2: which mitotic figures are atypical."
ARG BUNDLE_TASK=classify
ARG BUNDLE_NAME=unknown
ARG BUNDLE_SHA256=unknown
ARG BASE_IMAGE
LABEL org.opencontainers.image.title="${TITLE}" \
      org.opencontainers.image.description="${DESCRIPTION}" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}" \
      bundle.task="${BUNDLE_TASK}" \
      bundle.name="${BUNDLE_NAME}" \
      bundle.manifest.sha256="${BUNDLE_SHA256}"

FROM both AS exec
LABEL org.grand-challenge.api-method="exec"
ENTRYPOINT ["python", "inference.py"]

FROM both AS invoke
LABEL org.grand-challenge.api-method="invoke"
EXPOSE 4743
ENTRYPOINT ["python", "serve.py"]
