"""Databases in another encoding than UTF-8, or in none, and a table with as many columns as there can be."""

from __future__ import annotations

import base64
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from tests.support.databases import Database, create_database, drop_database
from tests.support.instances import alive
from tests.support.orders import wait_until
from tests.support.pipelines import local, write
from tests.support.process import Deltaforge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from deltaforge.embedded.postgres import PostgresServer

pytestmark = pytest.mark.slow

COLUMNS = 1600
"""PostgreSQL allows no more."""


ODD = b"\xf0\x8b\x8a\x80 \xe9 \xf4\x90\x80\x80 \xff"
"""Cyrillic of DOS, which begins as four bytes of UTF-8 do, Latin-1, and what is beyond Unicode."""


@contextmanager
def lines_of(database: Database, folder: Path, codec: str = "auto") -> Iterator[Callable[[int], list[dict[str, Any]]]]:
    """A pipeline into a file. What it gives waits for so many lines, ends the pipeline, and returns them."""
    out = folder / "out.jsonl"
    document = local("odd", "unused")
    document["spec"]["source"]["config"]["tables"] = ["public.%"]
    document["spec"]["sinks"] = [{"type": "file", "config": {"id": "out", "path": str(out)}}]
    servers = {"POSTGRES_DSN": Database(database.server, database.name).dsn(), "KAFKA_BROKERS": "none"}
    servers |= {} if codec == "auto" else {"DELTAFORGE_CODEC": codec}
    with Deltaforge(write(folder / "pipeline.yaml", document), servers, name="odd") as product:
        product.wait_ready()

        def lines(count: int) -> list[dict[str, Any]]:
            def arrived() -> bool:
                return out.exists() and out.read_bytes().count(b"\n") >= count

            wait_until(arrived, f"{count} lines", lambda: alive(product))
            assert product.term() == 0, product.tail()
            return [json.loads(line) for line in out.read_text().splitlines()]

        yield lines


@pytest.fixture
def encoded(request: pytest.FixtureRequest, postgres: PostgresServer) -> Iterator[Database]:
    """A database in the encoding named; the test's own sessions write UTF-8."""
    made = create_database(postgres, {"client_encoding": "utf8"}, encoding=request.param)
    made.execute('create table "café" (id bigint primary key, "größe" text)')
    made.execute("create publication orders_pub for all tables")
    yield made
    drop_database(made)


@pytest.mark.fault("D1")
@pytest.mark.parametrize("encoded", ["LATIN1"], indirect=True)
def test_text_in_another_encoding_arrives_as_utf8(encoded: Database, tmp_path: Path) -> None:
    """Guards against bytes of the database's own encoding in records."""
    with lines_of(encoded, tmp_path) as lines:
        encoded.execute("""insert into "café" values (1, 'grün'), (2, chr(255))""")
        found = lines(2)
    assert [line["value"]["after"] for line in found] == [{"id": 1, "größe": "grün"}, {"id": 2, "größe": "ÿ"}]
    assert {line["value"]["source"]["table"] for line in found} == {"café"}


@pytest.mark.fault("D1")
@pytest.mark.parametrize("codec", ["python", "compiled"])
@pytest.mark.parametrize("encoded", ["SQL_ASCII"], indirect=True)
def test_bytes_of_a_database_without_an_encoding_arrive_as_they_are(
    encoded: Database, tmp_path: Path, codec: str
) -> None:
    """Guards against a stream that the server ends at the same row for ever, since the bytes are no UTF-8."""
    # GIVEN such bytes in the catalog as well
    encoded.execute("""do $$ begin
      execute format('create table %I (id int primary key)', 'odd ' || chr(233));
      execute format('create type odd as enum (%L)', chr(233));
      execute format('alter table "café" add column preset text default %L', chr(233));
    end $$""")
    with lines_of(encoded, tmp_path, codec) as lines:
        encoded.execute("""insert into "café" values (1, 'grün', '')""")
        encoded.execute("""insert into "café" values (2, convert_from(%s, 'SQL_ASCII'), '')""", [ODD])
        encoded.execute("""insert into "café" values (3, 'ok', '')""")
        first, odd, last = (line["value"] for line in lines(3))
    assert (first["after"]["größe"], last["after"]["größe"]) == ("grün", "ok")
    # A line of a file is JSON, so what is none is in there as base64.
    raw = base64.b64decode(odd["base64"])
    assert b'"' + ODD + b'"' in raw
    assert json.loads(raw.replace(ODD, b"?"))["after"] == {"id": 2, "größe": "?", "preset": ""}


@pytest.mark.fault("D3")
def test_a_table_with_as_many_columns_as_there_can_be(database: Database, tmp_path: Path) -> None:
    """Guards against a limit of ours below the server's."""
    names = [f"c{number:04}" for number in range(COLUMNS - 1)]
    wide = sql.SQL(", ").join(sql.SQL("{} boolean").format(sql.Identifier(name)) for name in names)
    with psycopg.connect(database.dsn(), autocommit=True) as connection:
        connection.execute(sql.SQL("create table wide (id bigint primary key, {})").format(wide))
        connection.execute("create publication orders_pub for all tables")
        with lines_of(database, tmp_path) as lines:
            values = [None if number % 3 == 0 else number % 2 == 0 for number in range(len(names))]
            marks = sql.SQL(", ").join([sql.Placeholder()] * COLUMNS)
            connection.execute(sql.SQL("insert into wide values ({})").format(marks), [7, *values])
            (line,) = lines(1)
    assert line["value"]["after"] == {"id": 7, **dict(zip(names, values, strict=True))}
