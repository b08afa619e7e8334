"""Whether a process is silent: the state machine in any order of events, and the health check that moves it."""

import asyncio
import time

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from headrace.hop.resilience.health_check import HealthCheck, Liveness

SLOW_S = 2.0


def test_a_stall_shorter_than_its_patience_is_no_silence() -> None:
    liveness = Liveness(SLOW_S, 10.0)
    # A call of 50 ms has timed out; the answer comes 0.8 s after the question.
    assert liveness.patience(10.05) > 0.8
    liveness.answered = 10.85
    liveness.unanswered(10.05, 11.8)
    assert not liveness.silent


def test_what_was_last_called_an_hour_ago_has_time_for_its_answer() -> None:
    liveness = Liveness(SLOW_S, 0.0)
    assert 0.8 < liveness.patience(3600.0) < SLOW_S


def test_a_client_that_calls_nothing_slow_waits_for_health_no_longer_than_others() -> None:
    assert Liveness(float("inf"), 0.0).patience(0.0) == Liveness(SLOW_S, 0.0).patience(0.0)


class Machine(RuleBasedStateMachine):
    """Answers, questions and pauses in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.liveness = Liveness(SLOW_S, self.now)
        self.asked: float | None = None

    @rule(seconds=st.floats(0, 5))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def answer(self) -> None:
        self.liveness.answered = self.now
        assert not self.liveness.silent

    @rule()
    def ask(self) -> None:
        assert 0 < self.liveness.patience(self.now) <= SLOW_S
        self.asked = self.now

    @rule()
    def give_up(self) -> None:
        if self.asked is not None:
            before = self.liveness.silent
            self.liveness.unanswered(self.asked, self.now)
            answered = self.liveness.answered >= self.asked
            assert self.liveness.silent == ((not answered and self.now > self.liveness.answered) or before)
            self.asked = None

    @invariant()
    def an_answer_ends_it(self) -> None:
        assert not (self.liveness.silent and self.liveness.answered == self.now)


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=100, deadline=None)


class Line:
    """What is asked for its health; each question ends as the test says."""

    def __init__(self) -> None:
        self.questions: asyncio.Queue[asyncio.Future[bool]] = asyncio.Queue()

    async def answers(self, within_s: float) -> bool:
        question: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.questions.put_nowait(question)
        return await question

    async def say(self, answers: bool) -> None:
        question = await asyncio.wait_for(self.questions.get(), 60)
        question.set_result(answers)
        for _ in range(5):
            await asyncio.sleep(0)


def checked(rests: list[float | None], slow_s: float = 0.002) -> tuple[Line, Liveness, HealthCheck]:
    """A check whose breakers rest as long as the last of `rests` says."""
    line, liveness = Line(), Liveness(slow_s, time.monotonic())
    return line, liveness, HealthCheck(liveness, line.answers, lambda _: rests[-1])


async def test_without_an_open_breaker_it_asks_until_the_first_answer() -> None:
    line, liveness, check = checked([None])
    check.begin()
    check.begin()
    await asyncio.sleep(0.01)  # longer than its patience
    await line.say(False)
    assert liveness.silent
    await line.say(True)
    assert not liveness.silent
    assert not check.unsure
    assert line.questions.empty()
    await check.close()


async def test_a_refusal_is_no_silence_and_ends_it() -> None:
    line, liveness, check = checked([None], slow_s=60.0)
    check.begin()
    assert check.unsure
    await line.say(False)
    assert not liveness.silent
    assert not check.unsure
    await check.close()


async def test_no_breaker_is_probed_before_it_has_answered() -> None:
    rests: list[float | None] = [0.0]
    line, _, check = checked(rests)
    check.begin()
    for _ in range(3):
        await line.say(False)
        assert check.unsure
    await line.say(True)
    assert not check.unsure
    await check.close()
