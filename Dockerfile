# The gateway as a container: docker build --tag primit-gateway .
#
# Built from the pinned requirements and nothing else; runs as a user without a name, on a
# read-only file system if wanted (give it a tmpfs on /tmp). It holds no secret: those come from
# the environment. Mount your own files over /etc/gateway, or build with them.

FROM python:3.13.5-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
RUN python -m venv --without-pip /opt/gateway
COPY requirements.txt requirements-build.txt ./
RUN pip --python /opt/gateway/bin/python install --require-hashes -r requirements.txt \
 && pip install --require-hashes -r requirements-build.txt
COPY pyproject.toml README.md LICENSE ./
COPY gateway/ gateway/
RUN pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
 && pip --python /opt/gateway/bin/python install --no-deps --no-index dist/*.whl

FROM python:3.13.5-slim-bookworm
COPY --from=build /opt/gateway/ /opt/gateway/
COPY --chmod=0644 config/gateway.yaml routes.yaml /etc/gateway/
ENV PATH=/opt/gateway/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# Where every command finds them: docker exec CONTAINER gateway keys list
ENV GATEWAY_CONFIG=/etc/gateway/gateway.yaml GATEWAY_ROUTES=/etc/gateway/routes.yaml
USER 10001:10001
# Clients connect to 8080. 9901 is for probes, metrics and operators: do not publish it.
EXPOSE 8080 9901
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["python", "-c", "from http.client import HTTPConnection as C; c = C('127.0.0.1', 9901, timeout=2); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["gateway"]
CMD ["serve"]
