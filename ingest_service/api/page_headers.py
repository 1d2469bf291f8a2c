"""What every page of ours tells a browser, beside a policy of its own for what it loads."""

from collections.abc import Mapping
from typing import Final

# No other page may frame ours or hold on to its window, no guess is made at what a file is, and
# whoever is linked to is not told where the person was: the address of a link is its secret.
PAGE_HEADERS: Final[Mapping[str, str]] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
