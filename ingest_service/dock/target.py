"""Where to send, as whom, and whose receipts to believe."""

import json
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ingest_service.dock.failures import TargetUnusable
from ingest_service.dock.station_token import StationKey, load_station_key
from ingest_service.domain.note import parse_verifier_key


@dataclass(frozen=True, slots=True)
class Target:
    """One service, as one station knows it.

    url            scheme://host[:port][/prefix], no trailing slash; tokens go nowhere else
    verifier_key   pinned: a receipt counts only if this key signed it
    ca_file        certificate authorities to trust instead of the public ones
    """

    url: str
    station_id: str
    key: StationKey
    verifier_key: str
    ca_file: Path | None = None

    @property
    def is_loopback(self) -> bool:
        """Tell whether the service runs on this machine: no proxy stands between."""
        return urlsplit(self.url).hostname in {"127.0.0.1", "::1", "localhost"}


def make_target(
    *, url: str, station_id: str, key_pem: bytes, verifier_key: str, ca_file: Path | None = None
) -> Target:
    """Check the parts and put them together.

    Raises:
        TargetUnusable: names the part that does not fit.
    """
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        message = f"not an http(s) address: {url!r}"
        raise TargetUnusable(message)
    try:
        parse_verifier_key(verifier_key)
    except Exception as error:
        message = f"the verifier key cannot be read: {error}"
        raise TargetUnusable(message) from error
    key = load_station_key(key_pem)
    return Target(url.rstrip("/"), station_id, key, verifier_key, ca_file)


def read_dev_target(folder: Path) -> Target:
    """Take address and keys from the data folder of a running `ingest dev`.

    Raises:
        TargetUnusable: no `ingest dev` has written a readable dev.json there.
    """
    path = folder / "dev.json"
    try:
        facts = json.loads(path.read_bytes())
        key_file = folder / facts["station_key_file"]
        return make_target(
            url=facts["base_url"],
            station_id=facts["station_id"],
            key_pem=key_file.read_bytes(),
            verifier_key=facts["log_verifier_key"],
        )
    except FileNotFoundError as error:
        message = f"{error.filename} does not exist: is `ingest dev` running with {folder}?"
        raise TargetUnusable(message) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{path} cannot be used: {error!r}"
        raise TargetUnusable(message) from error
