# The classifier's image: torch with CUDA 12, the runtime package and one weights bundle. build.sh fills in the arguments
# and chooses the target: exec or invoke, which differ in nothing but the entry and the label that tells the platform.
ARG BASE_IMAGE=python:3.11-slim-bookworm
FROM ${BASE_IMAGE} AS packages

# The large layer comes first, so that a change of code or weights does not install torch again. What no run can load
# leaves in the same layer, since a later one would only hide it (docs/adr/0010): triton (only torch.compile uses it, and
# only with a C compiler), headers, the packages' own tests, three CUDA libraries that no other file names; then pip
# itself and the setuid bits. installed.txt is the lock, narrowed to the wheels that were taken, for the SBOM.
# Everything is compiled to .pyc here: the platform's containers start cold and cannot write beside the sources. Hashes
# in place of times in the .pyc, and one time for every file, make the files the same whenever this is built.
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
# Nothing but /tmp is writable, and the user may be one that the image does not know: without TORCHINDUCTOR_CACHE_DIR,
# importing torchvision asks for the user's name and fails.
ENV PYTHONUTF8=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp XDG_CACHE_HOME=/tmp/cache MPLCONFIGDIR=/tmp/matplotlib \
    TORCH_HOME=/tmp/torch TORCHINDUCTOR_CACHE_DIR=/tmp/torchinductor HF_HOME=/tmp/huggingface HF_HUB_OFFLINE=1 \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

WORKDIR /opt/app
ARG BUNDLE=weights/lite
COPY ${BUNDLE} weights/
COPY model/ model/
COPY inference.py serve.py LICENSE ./
# A bundle that is not whole fails here, not on the platform.
RUN python -m compileall -q --invalidation-mode unchecked-hash model inference.py serve.py \
 && find /opt/app -newermt @0 -exec touch --date=@0 {} + \
 && python -c 'from pathlib import Path; from model.ensemble import Ensemble; Ensemble.load(Path("weights"), device="cpu")'

USER 1000:1000
ARG VERSION=unknown
ARG REVISION=unknown
ARG BUNDLE_NAME=unknown
ARG BUNDLE_SHA256=unknown
ARG BASE_IMAGE
LABEL org.opencontainers.image.title="atypical-mitosis-classifier" \
      org.opencontainers.image.description="Is this mitosis atypical? Five EfficientViT folds (MIDOG 2025, Track 2)." \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}" \
      bundle.name="${BUNDLE_NAME}" \
      bundle.manifest.sha256="${BUNDLE_SHA256}"

FROM both AS exec
LABEL org.grand-challenge.api-method="exec"
ENTRYPOINT ["python", "inference.py"]

FROM both AS invoke
LABEL org.grand-challenge.api-method="invoke"
EXPOSE 4743
ENTRYPOINT ["python", "serve.py"]
