"""Who works in the year: the shift's dispatch, custodians, a discloser, operators, an auditor."""

from typing import Final

from ingest_service.domain.principal import ROLE_SCOPES, Principal


def _person(name: str, role: str) -> Principal:
    return Principal("person", name, frozenset(ROLE_SCOPES[role]), role=role)


DISPATCH: Final = Principal("service", "cad", frozenset(ROLE_SCOPES["custodian"]))
CUSTODIANS: Final = (_person("P-anna", "custodian"), _person("P-ben", "custodian"))
DISCLOSER: Final = _person("P-cara", "discloser")
ANSWERER: Final = _person("P-gil", "discloser")
OPERATORS: Final = (_person("P-dan", "operator"), _person("P-eve", "operator"))
AUDITOR: Final = _person("P-fay", "auditor")
HASTY: Final = (_person("P-hasty", "custodian"), _person("P-trusting", "custodian"))
