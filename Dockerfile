# One image, three commands: serve (the default), work, migrate.
FROM python:3.13-slim AS build
# "tracing" brings what sends traces, too (docs/tracing.md).
ARG LOCK=service
COPY requirements/service.txt /tmp/service.txt
COPY requirements/tracing.txt /tmp/tracing.txt
# Only what the lock names, in the bytes that it names.
RUN python -m venv /opt/ingest \
    && /opt/ingest/bin/pip install --no-cache-dir --disable-pip-version-check \
        --require-hashes --requirement "/tmp/${LOCK}.txt"

FROM python:3.13-slim
# A number, so that a cluster can see that it is not root.
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin ingest
COPY --from=build /opt/ingest /opt/ingest
COPY migrations /srv/ingest/migrations
COPY schemas /srv/ingest/schemas
COPY ingest_service /srv/ingest/ingest_service
ENV PATH=/opt/ingest/bin:$PATH \
    PYTHONPATH=/srv/ingest \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    INGEST_HOST=0.0.0.0 \
    INGEST_PORT=8080
WORKDIR /srv/ingest
USER 10001:10001
EXPOSE 8080
# Exec form throughout: SIGTERM must reach the service, which then drains.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"INGEST_PORT\"]}/livez', timeout=3)"]
ENTRYPOINT ["python", "-m", "ingest_service"]
CMD ["serve"]
