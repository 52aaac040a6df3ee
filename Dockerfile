# The router alone; engines run in images of their own.
#
#   docker build -t headway .
#   docker run -p 8080:8080 -v "$PWD/headway.toml:/etc/headway/headway.toml:ro" headway
#
# In a container the configuration must say [server] host = "0.0.0.0", and in [access] who may use it.
# With traces (deploy/OBSERVABILITY.md): docker build --build-arg LOCK=otel -t headway .
ARG PYTHON_VERSION=3.13
ARG LOCK=base

# Everything is put into a virtual environment here, and the last stage takes that folder alone.
FROM python:${PYTHON_VERSION}-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv --without-pip /opt/headway
# What mypyc needs beside Python; it stays in this stage.
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
ARG LOCK
COPY deploy/requirements/${LOCK}.txt deploy/requirements/build.txt \
    deploy/requirements/compile.txt /src/deploy/requirements/
# Wheels only: nothing of a stranger's runs while the image is built.
RUN pip --python /opt/headway/bin/python install --require-hashes --no-deps --only-binary=:all: \
        -r /src/deploy/requirements/${LOCK}.txt \
    && pip install --require-hashes --no-deps --only-binary=:all: \
        -r /src/deploy/requirements/build.txt -r /src/deploy/requirements/compile.txt
COPY deploy/requirements/audit.txt /src/deploy/requirements/
# What the image is made of, beside it: /opt/headway/share/headway.cdx.json, CycloneDX.
RUN python -m venv /opt/audit \
    && /opt/audit/bin/pip install --require-hashes --no-deps --only-binary=:all: \
        -r /src/deploy/requirements/audit.txt \
    && install -d /opt/headway/share \
    && /opt/audit/bin/cyclonedx-py environment --of JSON -o /opt/headway/share/headway.cdx.json \
        /opt/headway/bin/python
COPY . /src
RUN python /src/deploy/compile.py /compiled --python /opt/headway/bin/python \
    && HEADWAY_COMPILED=/compiled pip wheel --no-deps --no-build-isolation --no-index --wheel-dir /dist /src \
    && pip --python /opt/headway/bin/python install --no-deps --no-index /dist/*.whl \
    && /opt/headway/bin/python -m compileall -q /opt/headway/lib

FROM python:${PYTHON_VERSION}-slim
LABEL org.opencontainers.image.title="headway" \
      org.opencontainers.image.description="A latency-aware request router between LLM inference engines." \
      org.opencontainers.image.licenses="Apache-2.0"
# pip is of no use to a running router.
RUN python -m pip uninstall --yes --quiet --root-user-action=ignore pip \
    && useradd --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin headway \
    && install -d -o headway -g headway /var/lib/headway
COPY --from=build /opt/headway /opt/headway
ENV PATH=/opt/headway/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HEADWAY_HEALTH_URL=http://127.0.0.1:8080/healthz
WORKDIR /var/lib/headway
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(os.environ['HEADWAY_HEALTH_URL'], timeout=2)"]
# SIGTERM lets running answers end before the process does.
STOPSIGNAL SIGTERM
ENTRYPOINT ["headway"]
CMD ["serve", "/etc/headway/headway.toml"]
