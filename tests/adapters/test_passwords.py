"""Argon2id: what it costs, for whom, and how many may want it at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from adapters import passwords
from adapters.passwords import Passwords
from gateway.errors import FactorsBusy
from gateway.messages import Secret

LITTLE_KIB = 64


class Work:
    """Counts what Argon2id is asked to do, by memory; `gate` holds it up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.memory_kib: list[int] = []
        self.threads: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()
        real, work = passwords.Argon2id, self

        class Counted:
            def __init__(self, *, memory_cost: int, **others: object) -> None:
                self._kdf = real(memory_cost=memory_cost, **others)  # type: ignore[arg-type]
                self._memory_kib = memory_cost

            def derive_phc_encoded(self, key: bytes) -> str:
                with work.counted(self._memory_kib):
                    return self._kdf.derive_phc_encoded(key)

            @staticmethod
            def verify_phc_encoded(key: bytes, stored: str) -> None:
                with work.counted(int(stored.split("m=")[1].split(",")[0])):
                    real.verify_phc_encoded(key, stored)

        monkeypatch.setattr(passwords, "Argon2id", Counted)

    def counted(self, memory_kib: int) -> Work:
        with self._lock:
            self.memory_kib.append(memory_kib)
            self.threads.add(threading.current_thread().name)
        return self

    def __enter__(self) -> None:
        with self._lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        self.gate.wait(60)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.at_once -= 1


async def until(what: Callable[[], bool]) -> None:
    """A thread tells nobody: looked at until it is so."""
    async with asyncio.timeout(60):
        while not what():  # noqa: ASYNC110 - no event of a thread's end reaches the loop
            await asyncio.sleep(0.001)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    return Work(monkeypatch)


@pytest.fixture
def few() -> Iterator[Passwords]:
    made = Passwords(memory_kib=LITTLE_KIB, at_once=2, queue=3)
    yield made
    made.close()


def test_what_is_stored_says_how_it_was_made_and_is_never_the_same_twice() -> None:
    made = Passwords()
    first, second = made.made(Secret("4711")), made.made(Secret("4711"))
    assert first.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert first != second
    assert "4711" not in first.split("$")[-2:]


async def test_somebody_unknown_costs_what_somebody_known_costs(work: Work, few: Passwords) -> None:
    stored = few.made(Secret("4711"))
    work.memory_kib.clear()
    await few.matches(stored, Secret("4711"))
    await few.matches(stored, Secret("0000"))
    await few.matches("", Secret("4711"))
    assert work.memory_kib == [LITTLE_KIB] * 3


async def test_no_more_than_so_many_at_once_and_then_busy(work: Work, few: Passwords) -> None:
    stored = few.made(Secret("4711"))
    work.gate.clear()
    work.threads.clear()
    waiting = [asyncio.ensure_future(few.matches(stored, Secret("4711"))) for _ in range(5)]
    await asyncio.sleep(0)
    assert few.taken == 5
    with pytest.raises(FactorsBusy):
        await few.matches(stored, Secret("4711"))
    work.gate.set()
    assert await asyncio.gather(*waiting) == [True] * 5
    assert work.most_at_once <= 2
    assert threading.current_thread().name not in work.threads, "off the loop"
    assert await few.matches(stored, Secret("4711"))


async def test_who_goes_away_gives_its_place_back_when_the_work_is_over(
    work: Work, few: Passwords
) -> None:
    """Otherwise a caller that gives up at once could start any number of them."""
    stored = few.made(Secret("4711"))
    work.gate.clear()
    waiting = [asyncio.ensure_future(few.matches(stored, Secret("4711"))) for _ in range(2)]
    await until(lambda: work.at_once == 2)
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert few.taken == 2
    work.gate.set()
    await until(lambda: few.taken == 0)
