"""Two pipelines that read the same changes: one works in peace, the other is killed and reads them again much later.

What a record says must not depend on when its change is read. Both write one topic with one partition and the same
names into their records, so that these can be compared byte by byte, but for the clock.
"""

from __future__ import annotations

import json
import re
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.support.instances import Pipeline, Site, alive
from tests.support.orders import wait_until
from tests.support.topics import read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.process import Deltaforge
    from tests.support.topics import Record

NAME = "twins"
"""As which both appear in their records."""
MARK = "create table mark(id int primary key)"
"""A table that both read."""
_CLOCK = re.compile(rb'("op":"."),"ts_ms":\d+,"ts_us":\d+,"ts_ns":\d+')


class Change(NamedTuple):
    """What a record says; op None = a tombstone."""

    table: str | None
    op: str | None
    key: dict[str, Any] | None
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None


@dataclass
class Twins:
    """The pair, in one database; `others` are further pipelines that work in peace beside the first."""

    site: Site
    straight: Pipeline = field(init=False)
    hurt: Pipeline = field(init=False)
    others: dict[str, Pipeline] = field(default_factory=dict)
    _marks: int = 0

    def __post_init__(self) -> None:
        self.straight = self.pipeline("straight")
        self.hurt = self.pipeline("hurt", "hurt")

    def pipeline(self, name: str, folder: str = "peace", **source: Any) -> Pipeline:
        """One more that reads every table there is. Args: source: settings of its source."""
        options = {"skipped.operations": "none"}
        return self.site.pipeline(
            name,
            folder,
            source={"tables": ["public.%"], **source},
            envelope={"type": "debezium", "topic_prefix": NAME, "options": options},
            key_uniqueness=False,
            position_headers=True,
        )

    def start(self) -> None:
        """Make all slots; then the hurt one is away."""
        self._product = self.site.process(self.straight.file.parent, name="twins-straight")
        self._product.start()
        away = self._hurt("")
        for product in (self._product, away):
            product.wait_ready()
        away.kill9()

    def die(self, failpoint: str) -> None:
        """Let the hurt one read what there is, and die at this failpoint."""
        product = self._hurt(f"{failpoint}=kill")
        assert product.wait() == -signal.SIGKILL, product.tail()

    def settle(self) -> None:
        """Block until both, and all others, have written everything that was committed so far."""
        self._marks += 1
        self.site.database.execute("insert into mark values (%s)", [self._marks])
        product = self._hurt("")
        self._wait(self.hurt, product)
        for pipeline in (self.straight, *self.others.values()):
            self._wait(pipeline, self._product)
        assert product.term() == 0, product.tail()

    def _hurt(self, failpoints: str) -> Deltaforge:
        product = self.site.process(self.hurt.file, name="twins-hurt", extra={"DELTAFORGE_FAILPOINTS": failpoints})
        product.start()
        return product

    def _wait(self, pipeline: Pipeline, product: Deltaforge) -> None:
        wait_until(lambda: self._marked(pipeline), f"{pipeline.topic} is complete", lambda: alive(product))

    def _marked(self, pipeline: Pipeline) -> bool:
        found = changes(read(self.site.bootstrap, pipeline.topic))
        return Change("mark", "c", {"id": self._marks}, None, {"id": self._marks}) in found

    def bytes(self, pipeline: Pipeline) -> list[tuple[bytes | None, bytes | None, tuple[tuple[str, bytes], ...]]]:
        """Keys, values and headers, without the time at which a record was made."""
        records = read(self.site.bootstrap, pipeline.topic)
        return [(each.key, each.value and _CLOCK.sub(rb"\1", each.value), each.headers) for each in records]

    def changes(self, pipeline: Pipeline, *tables: str) -> list[Change]:
        """What its records say of these tables, tombstones left out."""
        return [each for each in changes(read(self.site.bootstrap, pipeline.topic)) if each.table in tables]


def changes(records: Sequence[Record]) -> list[Change]:
    """What records say, in their order."""
    found = []
    for record in records:
        key = json.loads(record.key) if record.key is not None else None
        if record.value is None:
            found.append(Change(None, None, key))
            continue
        value = json.loads(record.value)
        found.append(Change(value["source"]["table"], value["op"], key, value["before"], value["after"]))
    return found
