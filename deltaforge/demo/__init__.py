"""`python -m deltaforge demo`: everything on this machine, from nothing to live events.

Starts a PostgreSQL and a Kafka from pip packages, makes a small shop, runs the example's pipeline on it as a process of
its own, exactly as a user would, and prints what a read_committed consumer sees.

Rule 1: nothing stays. Servers, pipeline and files hang on guard processes that end with this one, however it ends.
Rule 2: psycopg and a Kafka consumer are used here as a user's programs would; the pipeline has its own process.
Rule 3: one thread and no event loop: trade, look, print, again. A signal ends the loop, or a start that still waits.
"""

from __future__ import annotations

import signal
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from deltaforge.demo.errors import DemoFailed
from deltaforge.demo.pipeline import NAME, TOPIC, PipelineProcess
from deltaforge.demo.shop import Shop
from deltaforge.demo.window import Window, create_topic
from deltaforge.embedded.errors import EmbeddedError, StartAborted
from deltaforge.embedded.kafka import KafkaCluster
from deltaforge.embedded.ports import accepts, free_ports
from deltaforge.embedded.postgres import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PARTITIONS = 12
FIRST_EVENT_S = 60.0
DRAIN_S = 30.0
_LOOK_S = 0.2
_POLL_S = 0.05


def run(seconds: float | None, api_address: tuple[str, int]) -> int:
    """Run the demo until a signal, or for so many seconds from the first event on.

    Args:
      api_address: where the pipeline's admin HTTP listens; port 0 = any free one.

    Returns: the exit code: 0 when every change was seen as often as it was made, or when it was stopped before that
      could be said; 1 when not, or when something does not start, which is printed.
    """
    host, port = api_address
    say = _Clock().say
    with _stop_on_signals() as stop:
        try:
            code = _show(seconds, f"{host}:{port or free_ports(1)[0]}", stop, say)
        except StartAborted:
            code = 0
        except EmbeddedError as error:
            say(f"the demo failed: {error}" + (f" ({error.hint})" if error.hint else ""))
            code = 1
    say("stopped; nothing is left running")
    return code


class _Clock:
    """Prints lines with the seconds since the demo began."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self._began:5.1f} s] {text}", flush=True)


class _Stop:
    """Whether the user wants to stop, and whom to tell meanwhile."""

    def __init__(self) -> None:
        self.wanted = False
        self.also: list[Callable[[], None]] = []

    def __call__(self, *_: object) -> None:
        self.wanted = True
        for abort in self.also:
            abort()


@contextmanager
def _stop_on_signals() -> Iterator[_Stop]:
    stop = _Stop()
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show(seconds: float | None, api_addr: str, stop: _Stop, say: Callable[[str], None]) -> int:
    if accepts(int(api_addr.rpartition(":")[2])):
        raise DemoFailed(f"something listens on {api_addr} already", hint="choose another with --api-addr HOST:PORT")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="deltaforge-demo-")))
        postgres, kafka = _servers(stack, stop, say)
        shop = stack.enter_context(Shop(postgres.dsn()))
        window = stack.enter_context(Window(kafka.bootstrap(), TOPIC, say))
        pipeline = stack.enter_context(PipelineProcess(folder, postgres.dsn(), kafka.bootstrap(), api_addr))
        say(f"pipeline: {pipeline.file}")
        say("  (examples/kafka-prod.yaml without its security keys)")
        for path in ("health", f"pipelines/{NAME}", "metrics"):
            say(f"admin:    http://{api_addr}/{path}")
        _await_ready(stop, pipeline)
        say("the pipeline is ready; customers come in")
        _trade(seconds, stop, shop, window, pipeline, say)
        return _finish(shop, window, pipeline, say)


def _servers(stack: ExitStack, stop: _Stop, say: Callable[[str], None]) -> tuple[PostgresServer, KafkaCluster]:
    postgres, kafka = PostgresServer(18), KafkaCluster(1, progress=say)
    stop.also += [postgres.abort, kafka.abort]
    say("starting PostgreSQL 18")
    stack.enter_context(postgres)
    say(f"PostgreSQL is up at {postgres.dsn()}; starting Kafka 4.1")
    stack.enter_context(kafka)
    create_topic(kafka.bootstrap(), TOPIC, PARTITIONS)
    say(f"Kafka is up at {kafka.bootstrap()}; topic {TOPIC} has {PARTITIONS} partitions")
    return postgres, kafka


def _await_ready(stop: _Stop, pipeline: PipelineProcess) -> None:
    """Wait until the slot exists: a slot shows what is committed after it was made."""
    deadline = time.monotonic() + FIRST_EVENT_S
    while not stop.wanted and not pipeline.ready():
        if not pipeline.running or time.monotonic() > deadline:
            raise DemoFailed(f"the pipeline does not get ready; its log ends so:\n{pipeline.tail()}")
        time.sleep(_POLL_S)


def _trade(
    seconds: float | None,
    stop: _Stop,
    shop: Shop,
    window: Window,
    pipeline: PipelineProcess,
    say: Callable[[str], None],
) -> None:
    """Write and look in turn until it is time to stop."""
    launched, first = time.monotonic(), 0.0
    while not stop.wanted:
        shop.trade()
        window.look(_LOOK_S)
        now = time.monotonic()
        if not first and window.records:
            first = now
            say("that was the first event")
        if not pipeline.running or (not first and now - launched > FIRST_EVENT_S):
            raise DemoFailed(f"the pipeline shows no event; its log ends so:\n{pipeline.tail()}")
        if first and seconds is not None and now - first >= seconds:
            return


def _finish(shop: Shop, window: Window, pipeline: PipelineProcess, say: Callable[[str], None]) -> int:
    """Wait for what is still under way, stop the pipeline, compare."""
    say("no more writes; waiting for the last changes")
    deadline = time.monotonic() + DRAIN_S
    while window.records < shop.records and pipeline.running and time.monotonic() < deadline:
        window.look(_LOOK_S)
    pipeline.stop()
    # Whatever the pipeline wrote while it stopped would be one too many.
    window.look(1.0)
    say(f"{shop.commits} transactions made {shop.records} records; the consumer saw {window.records}")
    if window.records > shop.records:
        say("more than the demo made: changes of your own count too; without any, please report it")
    elif window.records < shop.records:
        say("that is not exactly once; please report it")
    return 0 if window.records == shop.records else 1
