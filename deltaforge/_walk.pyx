# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Compiled twins of the loops over messages and keys: `whole` and `plain_rows` of deltaforge/runs.py, `survey` of
deltaforge/source/frames.py, `partitions` of deltaforge/sinks/kafka/partition.py. Those say what is right.

Rule 1: every read is within the length that the bytes object says.
Rule 2: what is not as expected is left to the Python form, which says what is wrong.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE, PyBytes_Check
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef object POSTGRES_EPOCH_US = 946_684_800_000_000
cdef enum:
    HEADER = 25
    BEGIN_SIZE = 46
    COMMIT_SIZE = 51


cdef inline uint32_t u32(const uint8_t* at) noexcept nogil:
    return (<uint32_t>at[0] << 24) | (<uint32_t>at[1] << 16) | (<uint32_t>at[2] << 8) | at[3]


cdef inline uint64_t u64(const uint8_t* at) noexcept nogil:
    return (<uint64_t>u32(at) << 32) | u32(at + 4)


cdef inline object since_1970(int64_t us):
    """A clock of PostgreSQL's. The sum may not fit into 64 bits when the server's bytes make no sense."""
    return us + POSTGRES_EPOCH_US


cdef inline const uint8_t* payload(list messages, Py_ssize_t index, Py_ssize_t* size) except NULL:
    cdef object message = <object>PyList_GET_ITEM(messages, index)
    if not PyBytes_Check(message):
        raise TypeError("a replication message is bytes")
    size[0] = PyBytes_GET_SIZE(message)
    return <const uint8_t*>PyBytes_AS_STRING(message)


def whole(list messages not None, Py_ssize_t at, Py_ssize_t max_events):
    """deltaforge.runs.whole; a plain tuple of the same values."""
    cdef Py_ssize_t count = PyList_GET_SIZE(messages), stop = at, size, index
    cdef Py_ssize_t transactions = 0, all_events = 0, all_relations = 0, all_bytes = 0, last_events = 0
    cdef Py_ssize_t events, relations, nbytes
    cdef uint64_t first = 0, last = 0, end_lsn = 0, commit_lsn
    cdef int64_t last_time = 0, commit_time
    cdef uint32_t last_xid = 0, xid
    cdef const uint8_t* m
    cdef uint8_t tag
    cdef bint ended
    if at < 0:
        raise IndexError("messages have no index below 0")
    while stop < count:
        m = payload(messages, stop, &size)
        if size != BEGIN_SIZE or m[0] != b"w" or m[HEADER] != b"B":
            break
        commit_lsn, commit_time, xid = u64(m + 26), <int64_t>u64(m + 34), u32(m + 42)
        events, relations, nbytes, ended = 0, 0, size, False
        index = stop + 1
        while index < count:
            m = payload(messages, index, &size)
            if size <= HEADER + 1 or m[0] != b"w":
                break
            tag = m[HEADER]
            nbytes += size
            if tag == b"I" or tag == b"U" or tag == b"D" or tag == b"T" or (tag == b"M" and m[HEADER + 1] & 1):
                events += 1
            elif tag == b"C":
                ended = (
                    size == COMMIT_SIZE and u64(m + 27) == commit_lsn and <int64_t>u64(m + 43) == commit_time
                    and u64(m + 1) == u64(m + 35) and u64(m + 9) == u64(m + 35)
                )
                break
            elif tag == b"R":
                relations += 1
            elif tag != b"Y" and tag != b"O":
                break
            index += 1
        if not ended or all_events + events > max_events:
            break
        stop = index + 1
        transactions += 1
        all_events += events
        all_relations += relations
        all_bytes += nbytes
        if first == 0:
            first = commit_lsn
        last, last_time, last_xid, last_events, end_lsn = commit_lsn, commit_time, xid, events, u64(m + 35)
    if not transactions:
        return (at, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    return (
        stop, transactions, all_events, all_relations, all_bytes, first, last_xid, last, since_1970(last_time),
        last_events, end_lsn,
    )


def plain_rows(list messages not None, Py_ssize_t at):
    """deltaforge.runs.plain_rows."""
    cdef Py_ssize_t count = PyList_GET_SIZE(messages), size, nbytes = 0
    cdef const uint8_t* m
    cdef uint8_t tag
    if at < 0:
        raise IndexError("messages have no index below 0")
    while at < count:
        m = payload(messages, at, &size)
        if size <= HEADER or m[0] != b"w":
            break
        tag = m[HEADER]
        if tag != b"I" and tag != b"U" and tag != b"D" and tag != b"T":
            break
        nbytes += size
        at += 1
    return at, nbytes


def survey(list messages not None):
    """What deltaforge.source.frames.survey finds, as a plain tuple; None when a frame is not as it should be."""
    cdef Py_ssize_t count = PyList_GET_SIZE(messages), size = 0, index, keepalives = 0
    cdef const uint8_t* m = NULL
    cdef uint64_t received = 0, committed = 0
    cdef object clock = 0
    cdef bint reply = False
    relations = []
    for index in range(count):
        m = payload(messages, index, &size)
        if size > HEADER and m[0] == b"w":
            if m[HEADER] == b"R":
                relations.append(index)
            elif m[HEADER] == b"C":
                if size < HEADER + 18:
                    return None
                committed = u64(m + HEADER + 10)
        elif size == 18 and m[0] == b"k":
            reply = reply or m[17] != 0
            keepalives += 1
        else:
            return None
    if count:
        received = max(u64(m + 1), committed)
        clock = since_1970(<int64_t>u64(m + (17 if m[0] == b"w" else 9)))
    return tuple(relations), reply, received, committed, clock, keepalives


cdef uint32_t murmur2(const uint8_t* key, Py_ssize_t size) noexcept nogil:
    cdef uint32_t h = <uint32_t>0x9747B28C ^ <uint32_t>size, k
    cdef Py_ssize_t at = 0
    while size - at >= 4:
        k = (<uint32_t>key[at + 3] << 24) | (<uint32_t>key[at + 2] << 16) | (<uint32_t>key[at + 1] << 8) | key[at]
        k = k * <uint32_t>0x5BD1E995
        k = (k ^ (k >> 24)) * <uint32_t>0x5BD1E995
        h = (h * <uint32_t>0x5BD1E995) ^ k
        at += 4
    if at < size:
        if size - at == 3:
            h ^= <uint32_t>key[at + 2] << 16
        if size - at >= 2:
            h ^= <uint32_t>key[at + 1] << 8
        h = (h ^ key[at]) * <uint32_t>0x5BD1E995
    h = (h ^ (h >> 13)) * <uint32_t>0x5BD1E995
    return h ^ (h >> 15)


def partitions(list keys not None, uint32_t count, uint32_t unkeyed):
    """The partition of each key; `unkeyed` is the one of keys that are None."""
    cdef Py_ssize_t index, size = PyList_GET_SIZE(keys)
    cdef object key
    if count == 0:
        raise ZeroDivisionError("a topic has partitions")
    out = [unkeyed] * size
    for index in range(size):
        key = <object>PyList_GET_ITEM(keys, index)
        if key is not None:
            if not PyBytes_Check(key):
                raise TypeError("a key is bytes or None")
            out[index] = (murmur2(<const uint8_t*>PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key)) & 0x7FFFFFFF) % count
    return out
