# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Rows as Kafka records, compiled: the same bytes as rowcode.py and changes.py, several times as fast.

Rule 1: nothing is read that has not been checked to be there. A message that is not formed exactly as pgoutput forms
        them, and every rare event, is left to the caller, who takes the Python way and gets its errors.
Rule 2: a row's JSON grows in one buffer; only what a record consists of becomes a Python object.
Rule 3: within a transaction only the row's LSN varies, so the rest of the envelope is put together once per
        transaction and table, from the texts that template.py cuts out of frame.py's.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_SIZE
from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree, PyMem_RawRealloc
from cpython.unicode cimport PyUnicode_DATA, PyUnicode_DecodeLatin1, PyUnicode_GET_LENGTH, PyUnicode_KIND
from libc.string cimport memchr, memcmp, memcpy

include "_bytes.pxi"
include "_values.pxi"
include "_rows.pxi"

cdef i64 POSTGRES_EPOCH_US = 946684800000000
cdef i64 LAST_US = 9223372036854775    # the last microsecond whose nanoseconds fit into 64 bits
cdef size_t KEPT = 1 << 22             # a buffer that grew beyond this is given back after the call

cdef const char* NULL_JSON = b"null"

CODES = {
    "call": CALL, "raw": RAW, "quoted": QUOTED, "text": TEXT, "bool": BOOL, "decimal": DECIMAL, "variable": VARIABLE,
    "float": FLOAT, "real": REAL, "date": DATE, "time_us": TIME_US, "time_ms": TIME_MS, "timestamp_us": TIMESTAMP_US,
    "timestamp_ms": TIMESTAMP_MS, "zoned": ZONED, "bytea": BYTEA,
}


cdef class Records:
    """Where records go: the parallel lists of an Encoded."""

    cdef list topics, keys, values, headers

    def __cinit__(self, list topics, list keys, list values, list headers):
        self.topics, self.keys, self.values, self.headers = topics, keys, values, headers


cdef class Writer:
    """Writes the rows of one stream. Holds its tables by oid, and the texts around a row."""

    cdef dict tables
    cdef Table table
    cdef unsigned int oid
    """Of the table looked up last."""
    cdef Buffer row, head
    cdef tuple known, unknown
    cdef bytes tail_c, tail_u, tail_d
    cdef bint skip_c, skip_u, skip_d, tombstones
    cdef object lsn_name, index_name, commit
    cdef i64 us
    cdef unsigned int xid
    cdef u64 serial
    cdef readonly u64 previous
    """End of the transaction before, after `run` of the last one; 0 = unknown."""
    cdef readonly Py_ssize_t seen
    """Events since `open`, skipped ones included."""
    cdef readonly Py_ssize_t events
    """Events that gave records, since `begin`."""
    cdef readonly Py_ssize_t nbytes
    """Size of the keys and values, since `begin`."""
    cdef Py_ssize_t first

    def __cinit__(self, known, unknown, skipped, bint tombstones, str lsn_name, str index_name):
        self.tables = {}
        self.known, self.unknown = tuple(known), tuple(unknown)
        self.skip_c, self.skip_u, self.skip_d = "c" in skipped, "u" in skipped, "d" in skipped
        self.tombstones = tombstones
        self.lsn_name, self.index_name = lsn_name, index_name

    def __dealloc__(self):
        release(&self.row)
        release(&self.head)

    def announce(self, unsigned int oid, Table table):
        """Rows of this relation are written so from now on; None: not by this writer."""
        self.table = None
        if table is None:
            self.tables.pop(oid, None)
        else:
            self.tables[oid] = table

    def forget(self):
        """No relation is known."""
        self.table = None
        self.tables.clear()

    def begin(self, bytes tail_c not None, bytes tail_u not None, bytes tail_d not None):
        """What closes inserts, updates and deletes from now on; the counters start again."""
        self.tail_c, self.tail_u, self.tail_d = tail_c, tail_u, tail_d
        self.events = self.nbytes = 0

    def open(self, unsigned int xid, i64 us, u64 previous, Py_ssize_t first, u64 positions):
        """The rows that follow belong to this transaction. False for a time too far for this writer.

        `first` is the index of the next event, `positions` the commit LSN if it is wanted in headers, else 0.
        """
        if not -LAST_US < us < LAST_US:
            return False
        self.enter(xid, us, previous)
        self.first = first
        self.commit = (self.lsn_name, b"%X/%X" % (positions >> 32, positions & 0xFFFFFFFF)) if positions else None
        return True

    def rows(self, list messages not None, Py_ssize_t at, Records to not None):
        """Write the rows from `messages[at]` on. The index of the first message that is left to the caller."""
        while 0 <= at < PyList_GET_SIZE(messages) and self.event(messages[at], to) == 0:
            at += 1
        self.tidy()
        return at

    def run(self, list messages not None, Py_ssize_t at, u64 previous, u64 unknown, u64 least, bint positions,
            Records to not None):
        """Write whole transactions. The index of the BEGIN of the first one that is left to the caller.

        `previous` is where the transaction before ended, `unknown` stands for an end of 0; what is below `least`
        is written as `least`.
        """
        cdef object message
        cdef const byte* p
        cdef Py_ssize_t size, i, kept, events, nbytes
        cdef u64 end = 0
        cdef i64 us
        self.previous = previous
        while 0 <= at < PyList_GET_SIZE(messages):
            message = messages[at]
            if not PyBytes_CheckExact(message) or PyBytes_GET_SIZE(message) != 46:
                break
            p = <const byte*>PyBytes_AS_STRING(message)
            us = <i64>u64_at(p + 34)
            if p[25] != c'B' or (positions and u64_at(p + 26) == 0) or not -LAST_US < us < LAST_US - POSTGRES_EPOCH_US:
                break
            kept, events, nbytes = PyList_GET_SIZE(to.values), self.events, self.nbytes
            self.open(u32_at(p + 42), us + POSTGRES_EPOCH_US, max(self.previous, least), 0,
                      u64_at(p + 26) if positions else 0)
            i = at + 1
            while i < PyList_GET_SIZE(messages) and self.event(messages[i], to) == 0:
                i += 1
            end = self.end_of(messages, i)
            if end == 0 and not self.commits(messages, i):
                for column in (to.topics, to.keys, to.values, to.headers):
                    del column[kept:]
                self.events, self.nbytes = events, nbytes
                break
            self.previous = end if end else unknown
            at = i + 1
        self.tidy()
        return at

    cdef bint commits(self, list messages, Py_ssize_t at):
        """Does a COMMIT stand there?"""
        if at >= PyList_GET_SIZE(messages) or not PyBytes_CheckExact(messages[at]):
            return False
        return PyBytes_GET_SIZE(messages[at]) == 51 and PyBytes_AS_STRING(messages[at])[25] == c'C'

    cdef u64 end_of(self, list messages, Py_ssize_t at):
        """The end LSN in the COMMIT there, 0 when it is none."""
        return u64_at(<const byte*>PyBytes_AS_STRING(messages[at]) + 35) if self.commits(messages, at) else 0

    cdef int enter(self, unsigned int xid, i64 us, u64 previous) except -1:
        """Put together the head of the transaction's rows."""
        cdef Buffer* b = &self.head
        cdef tuple texts = self.known if previous else self.unknown
        self.serial += 1
        self.seen, self.xid, self.us = 0, xid, us
        b.size = 0
        put_bytes(b, texts[0])
        reserve(b, 24)
        put_number(b, us // 1000 - (1 if us % 1000 < 0 else 0))
        put_bytes(b, texts[1])
        if previous:
            reserve(b, 24)
            b.size += digits_of(previous, b.data + b.size)
            put_bytes(b, texts[2])
        return 0

    cdef int tidy(self) except -1:
        if self.row.room > KEPT:
            release(&self.row)
        return 0

    cdef int center(self, Table table) except -1:
        """Put together what stands between the two LSNs of the table's rows in this transaction."""
        cdef Buffer* b = &table.middle
        b.size = 0
        put_bytes(b, table.middle_texts[0])
        reserve(b, 24)
        put_number(b, self.us)
        put_bytes(b, table.middle_texts[1])
        reserve(b, 24)
        put_number(b, self.us * 1000)
        put_bytes(b, table.middle_texts[2])
        reserve(b, 24)
        put_number(b, self.xid)
        put_bytes(b, table.middle_texts[3])
        table.serial = self.serial
        return 0

    cdef int event(self, object message, Records to) except -1:
        """Write one insert, update or delete. Returns 1, with nothing written, for everything else."""
        cdef const byte* p
        cdef Py_ssize_t size
        cdef unsigned int oid
        cdef byte kind
        if not PyBytes_CheckExact(message):
            return 1
        p = <const byte*>PyBytes_AS_STRING(message)
        size = PyBytes_GET_SIZE(message)
        if size < 31:
            return 1
        kind = p[25]
        if kind != c'I' and kind != c'U' and kind != c'D':
            return 1
        if self.skip_c if kind == c'I' else self.skip_u if kind == c'U' else self.skip_d:
            if kind == c'U' and p[30] != c'N':
                # It may change the key, which is not an update.
                return 1
            self.seen += 1
            return 0
        oid = u32_at(p + 26)
        if self.table is None or oid != self.oid:
            self.table = self.tables.get(oid)
            self.oid = oid
            if self.table is None:
                return 1
        if self.table.selected and self.change(self.table, p, p + size, kind, to):
            return 1
        self.seen += 1
        return 0

    cdef int change(self, Table table, const byte* p, const byte* end, byte kind, Records to) except -1:
        cdef u64 lsn = u64_at(p + 1)
        cdef byte mark = p[30]
        cdef byte has_old = 0
        cdef Buffer* b = &self.row
        cdef size_t split
        cdef bytes key
        p += 31
        if kind != c'I' and (mark == c'K' or mark == c'O'):
            has_old = mark
            p = read_tuple(table, p, end, table.old)
            if p == NULL:
                return 1
        b.size = 0
        if kind == c'D':
            if not has_old or p != end or write_row(table, table.old, b):
                return 1
            key = key_of(table, b)
            self.add(table, key, lsn, b.size, self.tail_d, to)
            if self.tombstones:
                self.append(table, key, None, to)
        else:
            if has_old:
                if p >= end:
                    return 1
                mark = p[0]
                p += 1
            if mark != c'N':
                return 1
            p = read_tuple(table, p, end, table.new)
            if p != end:
                return 1
            if has_old and (not same_key(table, has_old == c'O') or write_row(table, table.old, b)):
                return 1
            split = b.size
            if write_row(table, table.new, b):
                return 1
            self.add(table, key_of(table, b), lsn, split, self.tail_c if kind == c'I' else self.tail_u, to)
        self.events += 1
        return 0

    cdef int add(self, Table table, bytes key, u64 lsn, size_t split, bytes tail, Records to) except -1:
        """Append a record: the row's JSON up to `split` is `before`, the rest `after`; an empty one is null."""
        cdef byte digits[20]
        cdef int n = digits_of(lsn, digits)
        cdef Buffer* b = &self.row
        cdef size_t before = split if split else 4
        cdef size_t after = b.size - split if b.size > split else 4
        cdef bytes value
        cdef char* out
        if table.serial != self.serial:
            self.center(table)
        value = PyBytes_FromStringAndSize(
            NULL, PyBytes_GET_SIZE(table.value_start) + before + 9 + after + self.head.size + 2 * n + table.middle.size
            + PyBytes_GET_SIZE(tail))
        out = add(PyBytes_AS_STRING(value), PyBytes_AS_STRING(table.value_start), PyBytes_GET_SIZE(table.value_start))
        out = add(out, <const char*>b.data if split else NULL_JSON, before)
        out = add(out, b',"after":', 9)
        out = add(out, <const char*>b.data + split if b.size > split else NULL_JSON, after)
        out = add(out, self.head.data, self.head.size)
        out = add(out, digits, n)
        out = add(out, table.middle.data, table.middle.size)
        out = add(out, digits, n)
        add(out, PyBytes_AS_STRING(tail), PyBytes_GET_SIZE(tail))
        self.append(table, key, value, to)
        return 0

    cdef int append(self, Table table, bytes key, bytes value, Records to) except -1:
        to.topics.append(table.topic)
        to.keys.append(key)
        to.values.append(value)
        to.headers.append(
            None if self.commit is None else [self.commit, (self.index_name, b"%d" % (self.first + self.seen))])
        if key is not None:
            self.nbytes += PyBytes_GET_SIZE(key)
        if value is not None:
            self.nbytes += PyBytes_GET_SIZE(value)
        return 0


cdef bint same_key(Table table, bint whole) noexcept:
    """Fill what the new tuple leaves out from the old one, and compare the keys of both."""
    cdef int i
    cdef int wire
    for i in range(table.count):
        if table.new[i].kind == c'u' and (whole or table.identity[i]):
            table.new[i] = table.old[i]
    for i in range(table.keys):
        wire = table.columns[table.key[i].shown].wire
        if not same_field(&table.old[wire], &table.new[wire]):
            return False
    return True
