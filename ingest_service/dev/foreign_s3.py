"""An S3 store that somebody else runs, in place of the embedded one."""

from urllib.parse import unquote, urlsplit

from ingest_service.dev.process import StartFailed


class ForeignS3:
    """Where the store is and how to get in; starting and stopping it is not our business."""

    def __init__(self, url: str) -> None:
        """Take the store from `http://ACCESS_KEY:SECRET_KEY@HOST:PORT/BUCKET`.

        Raises:
            StartFailed: the URL has another shape.
        """
        parts = urlsplit(url)
        bucket = parts.path.strip("/")
        is_complete = parts.scheme in {"http", "https"} and parts.hostname and parts.username
        if not is_complete or not parts.password or not bucket or "/" in bucket:
            message = "the S3 store is given as http://ACCESS_KEY:SECRET_KEY@HOST:PORT/BUCKET"
            raise StartFailed(message)
        self.bucket = bucket
        self.access_key = unquote(parts.username or "")
        self.secret_key = unquote(parts.password)
        self.endpoint = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"

    @property
    def pid(self) -> int | None:
        """No process of ours."""
        return None

    def start(self) -> None:
        """Do nothing: the API's /readyz waits for the store."""

    def stop(self) -> None:
        """Do nothing."""

    def is_alive(self) -> bool:
        """Take it for alive: nothing here could start it again."""
        return True

    def ending(self) -> str:
        """Return how it ended; it never does."""
        return "ended"

    def failure(self, what: str) -> str:
        """Return the message as it is; there is no log of it here."""
        return what
