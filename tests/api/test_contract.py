"""The whole OpenAPI document, played by schemathesis: requests that fit it, and some that do not.

Whatever is sent, the answer is no 5xx, and has a status, a media type and a body that the document
knows. INGEST_CONTRACT_EXAMPLES: requests per call and kind (`make contract` sends many).
"""

import asyncio
import os
from contextlib import nullcontext, suppress

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks

from ingest_service.api import feed
from ingest_service.app import create_app
from ingest_service.domain.clock import utc_now
from ingest_service.domain.principal import ROLE_SCOPES
from ingest_service.domain.token import sign_station_token
from ingest_service.settings import Settings
from tests.api.authorisation import read_rows
from tests.api.served import Served, serve_apart
from tests.api.test_authorisation import Facts, make_facts

EXAMPLES = int(os.environ.get("INGEST_CONTRACT_EXAMPLES", "2"))


def make_document():
    """The document, but for two things that schemathesis takes for others.

    Tuples of JSON Schema 2020-12 for older ones, and a stream's schema for that of each frame.
    """
    made = create_app(Settings.model_construct()).openapi()
    stream = made["paths"]["/v1/events/stream"]["get"]["responses"]["200"]["content"]
    del stream["text/event-stream"]["schema"]
    missing = made["components"]["schemas"]["MissingChunks"]["properties"]["missing"]
    missing["items"] = {"type": "array", "items": missing["items"]["prefixItems"][0]}
    return schemathesis.openapi.from_dict(made)


DOCUMENT = make_document()
OPERATIONS = [found.ok() for found in DOCUMENT.get_all_operations()]
ADMITTED = {
    (row.method, row.path.replace(":path", "")): sorted(row.admitted - {"nobody"})
    for row in read_rows()
}
CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
]


class Company:
    """A service of their own, what can be asked for there, and a token of each role."""

    def __init__(self, served: Served, facts: Facts) -> None:
        self.served = served
        self.facts = facts
        self.real = {"clip_id": facts.clip_id, "token": facts.link, "serial": facts.serial}

    def headers(self, role: str) -> dict[str, str]:
        if role == "station":
            station_id = self.facts.station.station_id
            token = sign_station_token(self.facts.key, station_id, now=utc_now())
        else:
            token = self.served.token(*ROLE_SCOPES[role], sub=f"P-{role}", role=role)
        return {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
def company(postgres, ledger_template):
    """Apart from the service of the other tests: what is sent here is sent to nobody else."""
    with (
        serve_apart(postgres, ledger_template, "ledger_contract") as service,
        pytest.MonkeyPatch.context() as patched,
    ):
        # A stream has no end of its own, and a long poll waits.
        patched.setattr(feed, "STREAM_MAX_S", 0.05)
        yield Company(service, asyncio.run(make_facts(service)))


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.label)
def test_a_call_answers_as_the_document_says(company, operation, mode):
    method, path = operation.method.upper(), operation.path
    roles = ADMITTED[method, path]

    @seed(7)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        case=operation.as_strategy(generation_mode=mode),
        role=st.sampled_from(roles),
        is_real=st.booleans(),
    )
    def play(case, role, is_real):
        if is_real:
            case.path_parameters.update(
                {name: company.real[name] for name in case.path_parameters if name in company.real}
            )
        if "wait_s" in (case.query or {}):
            case.query["wait_s"] = 0
        response = case.call(
            base_url=company.served.base_url, headers=company.headers(role), timeout=20
        )
        assert response.status_code < 500 or path == "/readyz", response.text
        case.validate_response(response, checks=CHECKS)

    # Of some calls nothing can be wrong: they have no parameter, or one that takes any text.
    with suppress(Unsatisfiable) if mode == GenerationMode.NEGATIVE else nullcontext():
        play()
