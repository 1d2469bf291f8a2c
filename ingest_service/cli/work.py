"""`ingest work`: the jobs beside the API."""

import typer
import uvloop

from ingest_service.cli.startup import EXIT_FAILED, complain, require_settings
from ingest_service.domain.note import NoteInvalid
from ingest_service.domain.timestamp import TimestampInvalid
from ingest_service.errors import IngestError
from ingest_service.jobs.run import run_jobs
from ingest_service.resources import open_resources
from ingest_service.settings import Settings
from ingest_service.signer import SigningKeyUnusable
from ingest_service.telemetry import configure_logging, serve_metrics


def work() -> None:
    """Finish uploads, read them back, expire abandoned ones, until SIGTERM.

    Any number of these may run. Settings come from INGEST_* variables. Example:

        INGEST_READ_BACK_CONCURRENCY=4 ingest work
    """
    settings = require_settings()
    configure_logging(form=settings.log_format, level=settings.log_level)
    try:
        if settings.work_metrics_port:
            serve_metrics(settings.host, settings.work_metrics_port)
        uvloop.run(_work(settings))
    except (OSError, IngestError, SigningKeyUnusable, NoteInvalid, TimestampInvalid) as error:
        complain(str(error))
        raise typer.Exit(EXIT_FAILED) from error


async def _work(settings: Settings) -> None:
    async with open_resources(settings) as opened:
        await run_jobs(opened)
