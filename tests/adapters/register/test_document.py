"""docs/pnc-http.md is true about the vehicle register: its examples are what is sent and taken."""

from __future__ import annotations

import json

import aiohttp

from adapters import strict_json
from adapters.register import wire
from gateway.messages import StatusRecord
from gateway.settings import RegisterSection
from simulators import pnc_wire, register_server
from simulators.register_server import RegisterServer
from tests.adapters.pnc.replies import RECORDS
from tests.adapters.pnc.test_document import DOCUMENT, example
from tests.contracts.test_register import question
from tests.fakes import FakeClock

ASKED = question("TE99AAB")


def test_the_question_is_as_written() -> None:
    assert json.loads(wire.request(ASKED)) == example("register request")


def test_the_answer_is_taken_as_written_and_names_every_member() -> None:
    answer = wire.read(json.dumps(example("register found")).encode(), ASKED)
    assert answer.record is not None
    assert answer.record.mot_expiry == "2027-02-11"
    assert set(example("register found")["record"]) == set(StatusRecord.__struct_fields__)


async def test_the_server_answers_as_written() -> None:
    """The same members, but for what is not known of this vehicle."""
    server = RegisterServer(RECORDS, clock=FakeClock())
    await server.start()
    try:
        async with (
            aiohttp.ClientSession() as http,
            http.post(
                f"{server.url}/register/v1/vehicles", json=example("register request")
            ) as reply,
        ):
            told = await reply.json()
            assert reply.status == 200
        async with aiohttp.ClientSession() as http:
            wrong = example("register request") | {"officer": "1001"}
            async with http.post(f"{server.url}/register/v1/vehicles", json=wrong) as reply:
                assert reply.status == 400
    finally:
        await server.stop()
    written = example("register found")
    assert set(told) == {*written, "synthetic"}
    assert set(written["record"]) - set(told["record"]) == {"tax_due", "mot_expiry"}
    assert [each["source"] for each in told["blocks"]] == ["DVLA", "MID"]


def test_the_sources_are_as_written() -> None:
    body = json.dumps(example("sources")).encode()
    assert strict_json.read_sources(body) == {"PNC", "DVLA"}
    assert json.loads(pnc_wire.sources(frozenset({"INSURANCE"}))) == example("sources")


def test_the_bounds_are_those_of_the_code() -> None:
    assert "`register.max_reply`, 64 KiB" in DOCUMENT
    assert RegisterSection().max_reply == 64 * 1024
    assert register_server.PROTOCOL == wire.PROTOCOL == strict_json.PROTOCOL == 1
