"""Tables that change in the middle of transactions: columns, keys, replica identities, partitions, whole tables.

One story for all. A pipeline works in peace; its twin dies at its first commit, dies again right after it, and reads
the rest when everything has long been changed. Both have to write the same bytes, and those have to be right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.databases import create_database, drop_database
from tests.support.instances import Site
from tests.support.twins import MARK, Change, Twins

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deltaforge.embedded.kafka import KafkaCluster
    from deltaforge.embedded.postgres import PostgresServer

pytestmark = pytest.mark.slow

UNSENT = "__debezium_unavailable_value"
LONG = "(select string_agg(md5(n::text), '') from generate_series(1, 200) n)"
"""Text that is stored out of line."""
TABLES = f"""
{MARK};
create table cols(id int primary key, a int, b text, c numeric(6,2));
create table keyed(id int primary key, v text);
create table gone(id int primary key, v text);
create table ident(id int primary key, u text not null, v text);
create unique index ident_u on ident(u);
create table big(id int primary key, u text not null, v int, large text);
create unique index big_u on big(u);
alter table big alter column large set storage external;
create table parent(id int primary key);
create table child(id int primary key, parent_id int references parent);
create table parts(id int, day date, v text, primary key(id, day)) partition by range (day);
create table parts_old partition of parts for values from ('2020-01-01') to ('2021-01-01');
create table parts_new partition of parts for values from ('2021-01-01') to ('2022-01-01');
create publication orders_pub for all tables;
create publication root_pub for all tables with (publish_via_partition_root = true);
"""
COLUMNS = [
    """insert into cols values (1, 1, 'x', 1.5);
    alter table cols add column d int; insert into cols values (2, 2, 'y', 2.5, 22);
    alter table cols rename column b to bb; update cols set bb = 'z' where id = 1;
    alter table cols drop column c; insert into cols(id, a, bb, d) values (3, 3, 'w', 33);
    alter table cols alter column a type bigint; update cols set a = 10000000000 where id = 1;
    alter table cols alter column d type text using 'd' || d; update cols set d = 'dd' where id = 2;""",
    """insert into keyed values (1, 'one');
    alter table keyed drop constraint keyed_pkey; alter table keyed add primary key (id, v);
    update keyed set v = 'two' where id = 1;
    alter table keyed rename column id to number; insert into keyed values (2, 'three');""",
    "insert into keyed values (3, 'four'); alter table keyed rename column number to last_name",
    "insert into gone values (1, 'before'); update gone set v = 'after'; drop table gone",
    "create table born(id int primary key, v text); insert into born values (1, 'first'); drop table born",
    "create table born(id bigint primary key, w int); insert into born values (2, 22)",
]
IDENTITIES = [
    "insert into ident values (1, 'a', 'x'), (2, 'b', 'x'); update ident set v = 'default' where id = 1",
    """alter table ident replica identity full; update ident set v = 'full' where id = 1;
    alter table ident replica identity using index ident_u;
    update ident set v = 'index' where id = 1; update ident set u = 'aa' where id = 1;
    delete from ident where id = 2""",
    "alter table ident replica identity nothing; insert into ident values (3, 'c', 'nothing')",
    """alter table ident replica identity default; update ident set v = 'default' where id = 3;
    delete from ident where id = 1""",
]
OUT_OF_LINE = [
    f"insert into big select n, n::text, 0, {LONG} from generate_series(1, 4) n; update big set v = 1 where id = 1",
    """alter table big replica identity full; update big set v = 2 where id = 2; update big set id = 20 where id = 2;
    alter table big replica identity using index big_u; update big set v = 3 where id = 3;
    update big set u = 'three' where id = 3; alter table big replica identity default;
    update big set id = 10 where id = 1;
    update big set large = 'short' where id = 4; update big set v = 4 where id = 4""",
]
WHOLE_TABLES = [
    "insert into parent values (1), (2); insert into child values (1, 1), (2, 2)",
    "truncate parent cascade; insert into parent values (3)",
    "insert into parts values (1, '2020-05-05', 'a'), (2, '2021-05-05', 'b'), (3, '2020-06-06', 'c')",
    "update parts set day = '2021-06-06' where id = 1; update parts set v = 'bb' where id = 2",
    "alter table parts detach partition parts_old; insert into parts_old values (4, '2020-07-07', 'alone')",
    """update parts_old set v = 'alone too' where id = 4;
    alter table parts attach partition parts_old for values from ('2020-01-01') to ('2021-01-01');
    insert into parts values (5, '2020-08-08', 'again')""",
    "truncate parts",
]


@pytest.fixture(scope="module")
def twins(kafka: KafkaCluster, postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    """The whole story."""
    database = create_database(postgres)
    database.execute(TABLES)
    with Site(kafka, database, tmp_path_factory.mktemp("changing"), f"c{database.name[-8:]}") as site:
        made = Twins(site)
        made.others["root"] = made.pipeline("root", publication="root_pub")
        made.start()
        for blocks, failpoint in (
            (COLUMNS[:1], "kafka.before_commit"),
            (COLUMNS[1:3], "kafka.after_commit"),
            (COLUMNS[3:] + IDENTITIES + OUT_OF_LINE + WHOLE_TABLES, ""),
        ):
            for block in blocks:
                database.execute(block)
            if failpoint:
                made.die(failpoint)
        made.settle()
        yield made
    drop_database(database)


def test_what_is_read_again_after_the_tables_have_changed_has_the_same_bytes(twins: Twins) -> None:
    """Guards against a key, a column or a number of an event that depends on when it was read."""
    assert twins.bytes(twins.hurt) == twins.bytes(twins.straight)


@pytest.mark.fault("G10")
def test_every_row_has_the_columns_and_the_key_of_its_moment(twins: Twins) -> None:
    """Guards against rows that are written with the columns of a later table, and against rows without a key."""
    assert twins.changes(twins.straight, "cols") == [
        Change("cols", "c", {"id": 1}, None, {"id": 1, "a": 1, "b": "x", "c": "AJY="}),
        Change("cols", "c", {"id": 2}, None, {"id": 2, "a": 2, "b": "y", "c": "APo=", "d": 22}),
        Change("cols", "u", {"id": 1}, None, {"id": 1, "a": 1, "bb": "z", "c": "AJY=", "d": None}),
        Change("cols", "c", {"id": 3}, None, {"id": 3, "a": 3, "bb": "w", "d": 33}),
        Change("cols", "u", {"id": 1}, None, {"id": 1, "a": 10000000000, "bb": "z", "d": None}),
        Change("cols", "u", {"id": 2}, None, {"id": 2, "a": 2, "bb": "y", "d": "dd"}),
    ]
    assert twins.changes(twins.straight, "gone", "born") == [
        Change("gone", "c", {"id": 1}, None, {"id": 1, "v": "before"}),
        Change("gone", "u", {"id": 1}, None, {"id": 1, "v": "after"}),
        Change("born", "c", {"id": 1}, None, {"id": 1, "v": "first"}),
        Change("born", "c", {"id": 2}, None, {"id": 2, "w": 22}),
    ]


@pytest.mark.fault("G10", "G15")
def test_a_row_keeps_its_key_when_the_table_gets_another_one(twins: Twins) -> None:
    """Guards against versions of a row under keys that it never had."""
    assert twins.changes(twins.straight, "keyed") == [
        Change("keyed", "c", {"id": 1}, None, {"id": 1, "v": "one"}),
        Change("keyed", "d", {"id": 1, "v": "one"}, {"id": 1, "v": "one"}, None),
        Change("keyed", "c", {"id": 1, "v": "two"}, None, {"id": 1, "v": "two"}),
        Change("keyed", "c", {"number": 2, "v": "three"}, None, {"number": 2, "v": "three"}),
        Change("keyed", "c", {"number": 3, "v": "four"}, None, {"number": 3, "v": "four"}),
    ]


@pytest.mark.fault("G11")
def test_the_old_row_is_what_the_replica_identity_of_its_moment_says(twins: Twins) -> None:
    """Guards against an identity that is remembered from an earlier row."""
    assert twins.changes(twins.straight, "ident") == [
        Change("ident", "c", {"id": 1}, None, {"id": 1, "u": "a", "v": "x"}),
        Change("ident", "c", {"id": 2}, None, {"id": 2, "u": "b", "v": "x"}),
        Change("ident", "u", {"id": 1}, None, {"id": 1, "u": "a", "v": "default"}),
        Change("ident", "u", {"id": 1}, {"id": 1, "u": "a", "v": "default"}, {"id": 1, "u": "a", "v": "full"}),
        Change("ident", "u", {"id": 1}, None, {"id": 1, "u": "a", "v": "index"}),
        # The index is not the key: what it says of an old row names no key, and 0 stands for it, as Debezium writes it.
        Change("ident", "d", {"id": 0}, {"id": 0, "u": "a", "v": None}, None),
        Change("ident", "c", {"id": 1}, None, {"id": 1, "u": "aa", "v": "index"}),
        Change("ident", "d", {"id": 0}, {"id": 0, "u": "b", "v": None}, None),
        Change("ident", "c", {"id": 3}, None, {"id": 3, "u": "c", "v": "nothing"}),
        Change("ident", "u", {"id": 3}, None, {"id": 3, "u": "c", "v": "default"}),
        Change("ident", "d", {"id": 1}, {"id": 1, "u": "", "v": None}, None),
    ]


@pytest.mark.fault("G14")
def test_a_value_out_of_line_is_its_own_or_the_placeholder_and_never_null(twins: Twins) -> None:
    """Guards against NULL for a value that an UPDATE did not touch, under every replica identity."""
    long = twins.site.database.value(f"select {LONG}")

    def row(number: int, u: str, v: int | None, large: str | None = long) -> dict[str, object]:
        return {"id": number, "u": u, "v": v, "large": large}

    assert twins.changes(twins.straight, "big") == [
        *(Change("big", "c", {"id": number}, None, row(number, str(number), 0)) for number in range(1, 5)),
        Change("big", "u", {"id": 1}, None, row(1, "1", 1, UNSENT)),
        Change("big", "u", {"id": 2}, row(2, "2", 0), row(2, "2", 2)),
        Change("big", "d", {"id": 2}, row(2, "2", 2), None),
        Change("big", "c", {"id": 20}, None, row(20, "2", 2)),
        Change("big", "u", {"id": 3}, None, row(3, "3", 3, UNSENT)),
        Change("big", "d", {"id": 0}, row(0, "3", None, None), None),
        Change("big", "c", {"id": 3}, None, row(3, "three", 3, UNSENT)),
        Change("big", "d", {"id": 1}, row(1, "", None, None), None),
        Change("big", "c", {"id": 10}, None, row(10, "1", 1, UNSENT)),
        Change("big", "u", {"id": 4}, None, row(4, "4", 0, "short")),
        Change("big", "u", {"id": 4}, None, row(4, "4", 4, "short")),
    ]


@pytest.mark.fault("G15")
def test_a_truncate_that_cascades_is_one_record_for_each_table(twins: Twins) -> None:
    """Guards against a table that is empty in the source and full in what is made of the topic."""
    assert twins.changes(twins.straight, "parent", "child") == [
        Change("parent", "c", {"id": 1}, None, {"id": 1}),
        Change("parent", "c", {"id": 2}, None, {"id": 2}),
        Change("child", "c", {"id": 1}, None, {"id": 1, "parent_id": 1}),
        Change("child", "c", {"id": 2}, None, {"id": 2, "parent_id": 2}),
        Change("parent", "t", None),
        Change("child", "t", None),
        Change("parent", "c", {"id": 3}, None, {"id": 3}),
    ]


MAY, JUNE, JULY, AUGUST = 18387, 18419, 18450, 18482
"""Days of 2020, counted from 1970."""
MAY_21, JUNE_21 = 18752, 18784


@pytest.mark.fault("G15")
@pytest.mark.parametrize("rooted", [False, True], ids=["by-partition", "by-root"])
def test_partitions_come_and_go_and_rows_move_between_them(twins: Twins, rooted: bool) -> None:
    """Guards against a row that is in two partitions, or in none, for whoever follows the topic."""
    old, new = ("parts", "parts") if rooted else ("parts_old", "parts_new")

    def change(table: str, op: str, number: int, day: int, v: str | None, *, gone: bool = False) -> Change:
        key = {"id": number, "day": day}
        return Change(table, op, key, {**key, "v": v} if gone else None, None if gone else {**key, "v": v})

    truncated = ["parts"] if rooted else ["parts_old", "parts_new"]
    pipeline = twins.others["root"] if rooted else twins.straight
    assert twins.changes(pipeline, "parts", "parts_old", "parts_new") == [
        change(old, "c", 1, MAY, "a"),
        change(new, "c", 2, MAY_21, "b"),
        change(old, "c", 3, JUNE, "c"),
        change(old, "d", 1, MAY, None, gone=True),
        change(new, "c", 1, JUNE_21, "a"),
        change(new, "u", 2, MAY_21, "bb"),
        change("parts_old", "c", 4, JULY, "alone"),
        change("parts_old", "u", 4, JULY, "alone too"),
        change(old, "c", 5, AUGUST, "again"),
        *(Change(table, "t", None) for table in truncated),
    ]
