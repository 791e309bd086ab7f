"""What the benchmark writes: tables, rows, and how many of them make a transaction. Pure.

Every workload writes to one table, `public.orders`, whose `id` counts from 1; each row is written or updated once, so
that a topic that holds every change once holds every key once.
"""

from __future__ import annotations

from dataclasses import dataclass

TABLE = "orders"
PUBLICATION = "orders_pub"
FILLERS = 64
"""Different texts of 10 kB; together wider than the window of lz4 and pglz, which therefore find nothing to shorten."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its definition, and its value in row `n` as SQL."""

    ddl: str
    value: str


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of backlog."""

    name: str
    title: str
    columns: tuple[Column, ...]
    per_transaction: int
    """Rows in one transaction; 0 is all of them."""
    share: float = 1.0
    """Rows of this workload for each of `--rows`: wide and large rows take longer and need more disk."""
    updates: bool = False
    """Write the rows before the backlog begins and update each once, with REPLICA IDENTITY FULL."""

    def rows(self, wanted: int) -> int:
        """Whole transactions, and at least two where there are several."""
        each = self.per_transaction
        return max(int(wanted * self.share) // each, 2) * each if each else wanted

    def tables(self) -> tuple[str, ...]:
        """The statements that make everything the rows need."""
        identity = (f"alter table {TABLE} replica identity full",) if self.updates else ()
        return (
            f"create table {TABLE} ({', '.join(column.ddl for column in self.columns)})",
            f"create publication {PUBLICATION} for table {TABLE}",
            *identity,
            "create table filler as select n as id, (select string_agg(md5(n || '/' || part), '')"
            f" from generate_series(1, 312) part) as content from generate_series(0, {FILLERS - 1}) n",
            "alter table filler add primary key (id)",
            "analyze filler",
        )

    def insert(self, first: str, last: str) -> str:
        """The rows from `first` to `last`, both SQL."""
        values = ", ".join(column.value for column in self.columns)
        return f"insert into {TABLE} select {values} from generate_series({first}, {last}) n"

    def change(self, first: str, last: str) -> str:
        """What the backlog consists of, for the rows from `first` to `last`."""
        if not self.updates:
            return self.insert(first, last)
        return (
            f"update {TABLE} set status = 'shipped', total = total + 1, updated_at = now()"
            f" where id between {first} and {last}"
        )


ORDERS = (
    Column("id bigint primary key", "n"),
    Column("customer_id bigint not null", "n * 7"),
    Column("status text not null", "case when n % 2 = 0 then 'new' else 'paid' end"),
    Column("total numeric(12,2) not null", "n % 100000 * 1.25"),
    Column("note text", "'order ' || n || ' of a batch'"),
    Column("created_at timestamptz not null", "now() - n % 86400 * interval '1 second'"),
    Column("updated_at timestamptz", "null::timestamptz"),
)
_KINDS = (
    ("integer not null", "(n + {0}) % 2000000000"),
    ("bigint", "n * {0}"),
    ("text", "'value ' || (n + {0})"),
    ("numeric(12,2)", "(n + {0}) % 100000 * 0.25"),
    ("timestamptz", "now() - (n + {0}) % 86400 * interval '1 second'"),
    ("boolean", "(n + {0}) % 2 = 0"),
    ("double precision", "(n + {0}) / 8.0"),
    ("date", "date '2026-01-01' + (n + {0})::int % 365"),
    ("varchar(40)", "case when (n + {0}) % 4 = 0 then null else 'code ' || n % 100 end"),
    ("smallint", "(n + {0}) % 30000"),
)


def _wide(columns: int) -> tuple[Column, ...]:
    made = [Column("id bigint primary key", "n")]
    for number in range(1, columns):
        kind, value = _KINDS[number % len(_KINDS)]
        made.append(Column(f"c{number:02d} {kind}", value.format(number)))
    return tuple(made)


_LARGE = (
    Column("id bigint primary key", "n"),
    Column("body text not null", f"n || (select content from filler where id = n % {FILLERS})"),
)

WORKLOADS = (
    Workload("batch", "7 columns, 100 rows a transaction", ORDERS, 100),
    Workload("single", "7 columns, 1 row a transaction", ORDERS, 1, share=0.3),
    Workload("wide", "60 columns, 100 rows a transaction", _wide(60), 100, share=0.2),
    Workload("full", "updates of 7 columns, REPLICA IDENTITY FULL", ORDERS, 100, share=0.5, updates=True),
    Workload("large", "10 kB rows, 100 a transaction", _LARGE, 100, share=0.05),
)
HUGE = Workload("huge", "7 columns, all rows in one transaction", ORDERS, 0)
