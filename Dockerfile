# syntax=docker/dockerfile:1
# The server as an image: for NVIDIA GPUs, or for a CPU with `--build-arg DEVICE=cpu`.
#
#   docker build -t extracot:cuda .
#   docker build -t extracot:cpu --build-arg DEVICE=cpu .
#
# A base is any Debian or Ubuntu whose python3 is 3.11 to 3.13. CUDA's libraries come from the lock
# (requirements/cuda.txt), its driver from the host; the base only asks the runtime for both.
# A package index of your own: `--secret id=pip.conf,src=pip.conf`; it is in no layer.

ARG DEVICE=cuda
ARG CUDA_BASE_IMAGE=docker.io/nvidia/cuda:13.0.2-base-ubuntu24.04
ARG CPU_BASE_IMAGE=docker.io/library/debian:bookworm-20251229-slim

FROM ${CUDA_BASE_IMAGE} AS base-cuda
FROM ${CPU_BASE_IMAGE} AS base-cpu

# ------------------------------------------------------------------------ what runs, without Python's
# hadolint ignore=DL3006
FROM base-${DEVICE} AS base
# gcc and Python's headers: Triton compiles a launcher for each kernel when it first runs.
# libnuma1: vLLM's CPU build is linked with it. tini: process 1, so that signals and orphans are
# handled from the first moment. Versions are the base's own, which is pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        ca-certificates gcc libc6-dev libnuma1 python3 python3-dev tini \
    && rm -rf /var/lib/apt/lists/*

# ------------------------------------------------------------------ dependencies, exactly as locked
FROM base AS dependencies
ARG DEVICE
# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY scripts/install.py scripts/
COPY requirements/${DEVICE}.txt requirements/
# As `make install` does it. Byte code is compiled here, because the server may not write it.
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    EXTRACOT_DEVICE=${DEVICE} python3 scripts/install.py --venv /opt/extracot --locks-only \
    || { tail -n 40 /opt/extracot/extracot-install.log; exit 1; } \
    && { python3 -m compileall -q -j 0 /opt/extracot/lib >/dev/null || true; }

# ------------------------------------------------------------------------------------ code, as a wheel
FROM base AS wheel
WORKDIR /src
COPY pyproject.toml README.md CHANGELOG.md LICENSE ./
COPY extracot extracot
COPY server server
COPY training training
COPY clients clients
# The build backend is in the lock; what builds the wheel is lent, not copied.
RUN --mount=type=bind,from=dependencies,source=/opt/extracot,target=/opt/extracot \
    /opt/extracot/bin/python -m pip wheel --no-deps --no-build-isolation --no-index \
        --wheel-dir /dist .

# -------------------------------------------------------------------------------------- what is served
FROM base
LABEL org.opencontainers.image.title="extracot" \
      org.opencontainers.image.description="Budget-controlled inference server for reasoning models" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --uid 10001 --user-group --home-dir /cache --shell /usr/sbin/nologin extracot \
    && mkdir /cache && chown extracot:extracot /cache
COPY --from=dependencies /opt/extracot /opt/extracot
# In a layer of its own: a change of code is a small download.
RUN --mount=type=bind,from=wheel,source=/dist,target=/dist \
    /opt/extracot/bin/python -m pip install --no-deps --no-index --no-cache-dir /dist/*.whl

# Everything that is kept lies below /cache: hub downloads, converted models, compiled kernels.
# HOME is set because a container may run under any number. Inside a container only its network can
# reach 0.0.0.0; what the host lets in is `docker run -p 127.0.0.1:8000:8000`'s to say.
ENV PATH=/opt/extracot/bin:$PATH \
    HOME=/cache \
    XDG_CACHE_HOME=/cache \
    PYTHONUNBUFFERED=1 \
    EXTRACOT_HOST=0.0.0.0 \
    EXTRACOT_PORT=8000
WORKDIR /cache
VOLUME /cache
EXPOSE 8000
USER 10001:10001
# /ready: the engine serves. A first start may download a model.
HEALTHCHECK --interval=10s --timeout=5s --start-period=15m --retries=3 \
    CMD ["python", "-m", "extracot_server.runtime.probe"]
ENTRYPOINT ["tini", "--", "extracot-serve"]
