"""`ingest station`, against the real ledger."""

import asyncio
import json

import pytest
from typer.testing import CliRunner

from ingest_service.cli.station import station_app
from ingest_service.domain.token import import_signing_key, make_private_key, verify_token
from ingest_service.ledger.connection import open_pool, reading
from ingest_service.ledger.stations import find_station_key

PLACE = ["--site", "south", "--borough", "Croydon"]


@pytest.fixture
def ingest(ledger_dsn):
    """Run `ingest station ...` on this test's ledger."""

    def run(*words, status=0, **environment):
        ran = CliRunner().invoke(
            station_app, words, env={"INGEST_LEDGER_DSN": ledger_dsn, **environment}
        )
        assert ran.exit_code == status, ran.output
        return ran

    return run


@pytest.fixture
def key_file(tmp_path):
    file = tmp_path / "given.pem"
    file.write_bytes(make_private_key("P-256"))
    return file


def find_key(dsn, key_id):
    async def find():
        pool = await open_pool(dsn, connections_max=1, statement_timeout_s=5)
        async with reading(pool) as connection:
            key = await find_station_key(connection, key_id)
        await pool.close()
        return key

    return asyncio.run(find())


def test_a_new_station_gets_a_key_that_works(ingest, ledger_dsn, tmp_path):
    made = tmp_path / "dock-1.pem"
    ran = ingest("register", "dock-1", *PLACE, "--make-key", str(made), "--json")

    key_id = json.loads(ran.stdout)["key_id"]
    assert import_signing_key(made.read_bytes()).verifying_key.key_id == key_id
    assert made.stat().st_mode & 0o777 == 0o600
    assert find_key(ledger_dsn, key_id).station.station_id == "dock-1"


def test_of_a_given_private_key_only_the_public_half_is_recorded(ingest, ledger_dsn, key_file):
    ran = ingest("register", "dock-1", *PLACE, "--key-file", str(key_file), "--json")

    recorded = find_key(ledger_dsn, json.loads(ran.stdout)["key_id"])
    assert recorded.public_jwk.keys() == {"kty", "crv", "x", "y"}


def test_registering_twice_is_fine(ingest, key_file):
    for _ in range(2):
        ingest("register", "dock-1", *PLACE, "--key-file", str(key_file))


def test_a_key_file_is_never_overwritten(ingest, key_file):
    before = key_file.read_bytes()
    ran = ingest("register", "dock-1", *PLACE, "--make-key", str(key_file), status=2)

    assert "never overwritten" in ran.stderr
    assert key_file.read_bytes() == before


def test_a_refused_registration_leaves_no_key_file(ingest, key_file, tmp_path):
    ingest("register", "dock-1", *PLACE, "--key-file", str(key_file))
    made = tmp_path / "new.pem"
    elsewhere = ["--site", "north", "--borough", "Camden"]
    ran = ingest("register", "dock-1", *elsewhere, "--make-key", str(made), status=1)

    assert "is at site south" in ran.stderr
    assert not made.exists()


def test_keys_change_one_by_one(ingest, key_file, tmp_path):
    old = json.loads(
        ingest("register", "dock-1", *PLACE, "--key-file", str(key_file), "--json").stdout
    )["key_id"]
    ingest("add-key", "dock-1", "--make-key", str(tmp_path / "new.pem"))
    ingest("revoke-key", old)

    [listed] = json.loads(ingest("list", "--json").stdout)
    assert [bool(key["revoked_at"]) for key in listed["keys"]] == [True, False]


def test_a_key_whose_id_begins_with_a_dash_is_revoked(ingest, tmp_path):
    key = make_private_key("P-256")
    while not import_signing_key(key).verifying_key.key_id.startswith("-"):
        key = make_private_key("P-256")
    file = tmp_path / "dashed.pem"
    file.write_bytes(key)
    told = ingest("register", "dock-1", *PLACE, "--key-file", str(file), "--json").stdout

    ingest("revoke-key", json.loads(told)["key_id"])

    [listed] = json.loads(ingest("list", "--json").stdout)
    assert listed["keys"][0]["revoked_at"]


def test_the_list_for_pipes_has_one_line_a_key(ingest, key_file, tmp_path):
    ingest("register", "dock-1", *PLACE, "--key-file", str(key_file))
    ingest("add-key", "dock-1", "--make-key", str(tmp_path / "new.pem"))

    lines = ingest("list").stdout.splitlines()
    assert [line.split("\t")[:3] for line in lines] == [["dock-1", "south", "Croydon"]] * 2


def test_a_data_folder_names_the_ledger(ingest, ledger_dsn, tmp_path):
    (tmp_path / "dev.json").write_text(json.dumps({"database_url": ledger_dsn}))

    ingest("list", "--dev", str(tmp_path), INGEST_LEDGER_DSN="")


@pytest.mark.parametrize(
    ("words", "environment", "says"),
    [
        (["list"], {"INGEST_LEDGER_DSN": ""}, "INGEST_LEDGER_DSN"),
        (["list", "--dev", "/nowhere"], {}, "not the data folder"),
        (["register", "dock-1", *PLACE], {}, "name the key"),
        (["register", "dock-1", *PLACE, "--key-file", "/nowhere"], {}, "cannot read"),
        (["register", "dock-1", *PLACE, "--key-file", __file__], {}, "neither"),
        (["register", "dock-1", *PLACE, "--make-key", "/nowhere/key"], {}, "cannot write"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(ingest, words, environment, says):
    assert says in ingest(*words, status=2, **environment).stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["revoke-key", "x" * 43], "no station key"),
        (["add-key", "dock-9", "--key-file"], "no station dock-9"),
    ],
)
def test_what_is_not_there_is_named(ingest, key_file, words, says):
    if words[-1] == "--key-file":
        words = [*words, str(key_file)]

    assert says in ingest(*words, status=1).stderr


def test_a_ledger_that_does_not_answer_is_named(ingest):
    dsn = "postgresql://ingest:secret@127.0.0.1:1/ledger"
    ran = ingest("list", status=1, INGEST_LEDGER_DSN=dsn)

    assert "ledger is not answering" in ran.stderr
    assert "secret" not in ran.output


def test_a_token_for_the_upload_page_is_one_of_the_station(ingest, key_file):
    ran = ingest("token", "dock-1", "--key-file", str(key_file), "--minutes", "30")

    key = import_signing_key(key_file.read_bytes()).verifying_key
    claims = verify_token(ran.stdout.strip(), key)
    assert (claims["iss"], claims["sub"], claims["exp"] - claims["iat"]) == (
        "dock-1",
        "dock-1",
        1800,
    )


def test_no_token_is_made_of_a_public_key(ingest, key_file, tmp_path):
    public = tmp_path / "public.jwk"
    jwk = import_signing_key(key_file.read_bytes()).verifying_key.public_jwk
    public.write_text(json.dumps(jwk))

    ran = ingest("token", "dock-1", "--key-file", str(public), status=2)
    assert "public key" in ran.output
