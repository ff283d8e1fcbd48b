# The classifier's image: torch with CUDA 12, the runtime package and one weights bundle. build.sh fills in the arguments
# and chooses the target: exec or invoke, which differ in nothing but the entry and the label that tells the platform.
ARG BASE_IMAGE=python:3.11-slim-bookworm
FROM ${BASE_IMAGE} AS both

# The large layer comes first, so that a change of code or weights does not install torch again. triton leaves in the
# same layer (640 MB): only torch.compile uses it, and only with a C compiler, which the image has not got.
# Everything is compiled to .pyc here: the platform's containers start cold and cannot write beside the sources.
COPY requirements.txt /opt/app/
RUN export PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1 \
 && pip install --no-cache-dir --progress-bar off --require-hashes -r /opt/app/requirements.txt \
 && pip uninstall --yes triton \
 && python -m compileall -q -x '/tests?/' "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
 && useradd --uid 1000 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin classifier

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
COPY inference.py serve.py ./
# A bundle that is not whole fails here, not on the platform.
RUN python -m compileall -q model inference.py serve.py \
 && python -c 'from pathlib import Path; from model.ensemble import Ensemble; Ensemble.load(Path("weights"), device="cpu")'

USER 1000:1000
ARG VERSION=unknown
ARG REVISION=unknown
ARG BUNDLE_NAME=unknown
ARG BUNDLE_SHA256=unknown
LABEL org.opencontainers.image.title="atypical-mitosis-classifier" \
      org.opencontainers.image.description="Is this mitosis atypical? Five EfficientViT folds (MIDOG 2025, Track 2)." \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      bundle.name="${BUNDLE_NAME}" \
      bundle.manifest.sha256="${BUNDLE_SHA256}"

FROM both AS exec
LABEL org.grand-challenge.api-method="exec"
ENTRYPOINT ["python", "inference.py"]

FROM both AS invoke
LABEL org.grand-challenge.api-method="invoke"
EXPOSE 4743
ENTRYPOINT ["python", "serve.py"]
