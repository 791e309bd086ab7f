# What a table's rows consist of, and how one tuple becomes the JSON of a row.

cdef struct Constant:
    const byte* data
    size_t size

cdef struct Shown:
    int wire          # number of the column in the tuple
    int code
    Constant label    # `{"name":` of the first column, `,"name":` of the others
    Constant null
    Constant unsent   # both with the label before them
    size_t start      # where the value stands in the buffer, of the row written last
    size_t stop

cdef struct KeyColumn:
    int shown         # index among the shown columns
    Constant label

cdef struct Field:
    byte kind         # t, n or u
    const byte* data
    size_t size


cdef class Table:
    """One table as a plan describes it. Arguments are the plan's texts as bytes; see compiled.py."""

    cdef readonly object topic
    cdef readonly bint selected
    cdef int count, shown, keys
    cdef Shown* columns
    cdef KeyColumn* key
    cdef bint* identity
    cdef Field* new
    cdef Field* old
    cdef list converters
    cdef list kept
    """The texts whose addresses are in `columns` and `key`."""
    cdef bytes key_start, key_end, value_start
    cdef tuple middle_texts
    cdef Buffer middle
    cdef u64 serial
    """Number of the transaction that `middle` was put together for."""

    def __cinit__(self, topic, bint selected, list identity, list columns, list key, texts, middle):
        cdef int i
        self.topic = topic
        self.selected = selected
        self.count, self.shown, self.keys = <int>len(identity), <int>len(columns), <int>len(key)
        self.converters, self.kept = [], []
        self.columns = <Shown*>PyMem_RawCalloc(self.shown + 1, sizeof(Shown))
        self.key = <KeyColumn*>PyMem_RawCalloc(self.keys + 1, sizeof(KeyColumn))
        self.identity = <bint*>PyMem_RawCalloc(self.count + 1, sizeof(bint))
        self.new = <Field*>PyMem_RawCalloc(self.count + 1, sizeof(Field))
        self.old = <Field*>PyMem_RawCalloc(self.count + 1, sizeof(Field))
        if not (self.columns and self.key and self.identity and self.new and self.old):
            raise MemoryError()
        for i in range(self.count):
            self.identity[i] = identity[i]
        for i in range(self.shown):
            wire, code, convert, label, null, unsent = columns[i]
            if not 0 <= wire < self.count:
                raise IndexError("a column is not in the tuple")
            self.columns[i].wire, self.columns[i].code = wire, code
            self.converters.append(convert)
            self.columns[i].label = self.keep(label)
            self.columns[i].null = self.keep(null)
            self.columns[i].unsent = self.keep(unsent)
        for i in range(self.keys):
            shown, label = key[i]
            if not 0 <= shown < self.shown:
                raise IndexError("a key column is not shown")
            self.key[i].shown = shown
            self.key[i].label = self.keep(label)
        self.key_start, self.key_end, self.value_start = texts
        self.middle_texts = tuple(middle)

    cdef Constant keep(self, bytes text) except *:
        cdef Constant found
        self.kept.append(text)
        found.data = <const byte*>PyBytes_AS_STRING(text)
        found.size = <size_t>PyBytes_GET_SIZE(text)
        return found

    def __dealloc__(self):
        PyMem_RawFree(self.columns)
        PyMem_RawFree(self.key)
        PyMem_RawFree(self.identity)
        PyMem_RawFree(self.new)
        PyMem_RawFree(self.old)
        release(&self.middle)


cdef const byte* read_tuple(Table table, const byte* p, const byte* end, Field* fields) noexcept:
    """Read the tuple at `p`; where it ends, or NULL when it is not all there or has other columns than the table."""
    cdef int i
    cdef size_t size
    if end - p < 2 or <int>u16_at(p) != table.count:
        return NULL
    p += 2
    for i in range(table.count):
        if p >= end:
            return NULL
        fields[i].kind = p[0]
        if p[0] == c't':
            if end - p < 5:
                return NULL
            size = u32_at(p + 1)
            p += 5
            if <size_t>(end - p) < size:
                return NULL
            fields[i].data = p
            fields[i].size = size
            p += size
        elif p[0] == c'n' or p[0] == c'u':
            p += 1
        else:
            return NULL
    return p


cdef int write_row(Table table, const Field* fields, Buffer* b) except -1:
    """Append the JSON object of a row. Returns 1 for a value that only the Python way can judge."""
    cdef int i
    cdef Shown* column
    cdef const Field* field
    if table.shown == 0:
        reserve(b, 2)
        put(b, b"{}", 2)
        return 0
    for i in range(table.shown):
        column = table.columns + i
        field = fields + column.wire
        reserve(b, column.null.size + column.unsent.size + 128)
        column.start = b.size + column.label.size
        if field.kind == c't':
            put(b, column.label.data, column.label.size)
            if write_value(table, i, field, b):
                return 1
        elif field.kind == c'n':
            put(b, column.null.data, column.null.size)
        else:
            put(b, column.unsent.data, column.unsent.size)
        column.stop = b.size
    put_byte(b, c'}')
    return 0


cdef int write_value(Table table, int index, const Field* field, Buffer* b) except -1:
    """Append one value; there is room for 128 bytes. Returns 1 as `write_row`."""
    cdef int code = table.columns[index].code
    cdef const byte* p = field.data
    cdef size_t size = field.size
    cdef size_t before = b.size
    cdef bint done = False
    if code == RAW:
        reserve(b, size + 1)
        put(b, p, size)
        return 0
    if code == TEXT:
        return put_text(b, p, size)
    if code == QUOTED:
        reserve(b, size + 3)
        put_byte(b, c'"')
        put(b, p, size)
        put_byte(b, c'"')
        return 0
    if code == DECIMAL or code == VARIABLE:
        done = put_decimal(b, p, size, code == VARIABLE)
    elif code == ZONED:
        done = put_zoned(b, p, size)
    elif code == BOOL:
        if size == 1 and (p[0] == c't' or p[0] == c'f'):
            put(b, b"true" if p[0] == c't' else b"false", 4 if p[0] == c't' else 5)
            done = True
    elif DATE <= code <= TIMESTAMP_MS:
        done = put_temporal(b, code, p, size)
    elif code == FLOAT or code == REAL:
        done = put_float(b, p, size, 16 if code == FLOAT else 7)
    elif code == BYTEA:
        done = put_bytea(b, p, size)
    if not done:
        b.size = before
        if put_called(b, table.converters[index], p, size):
            return 1
    reserve(b, 1)
    return 0


cdef bytes key_of(Table table, const Buffer* b):
    """The key of the row that was written last; None for a table without a key."""
    cdef size_t size
    cdef int i
    cdef KeyColumn* key
    cdef Shown* column
    cdef bytes out
    cdef char* to
    if table.keys == 0:
        return None
    size = <size_t>PyBytes_GET_SIZE(table.key_start) + <size_t>PyBytes_GET_SIZE(table.key_end)
    for i in range(table.keys):
        key = table.key + i
        column = table.columns + key.shown
        size += key.label.size + column.stop - column.start
    out = PyBytes_FromStringAndSize(NULL, size)
    to = add(PyBytes_AS_STRING(out), PyBytes_AS_STRING(table.key_start), PyBytes_GET_SIZE(table.key_start))
    for i in range(table.keys):
        key = table.key + i
        column = table.columns + key.shown
        to = add(to, key.label.data, key.label.size)
        to = add(to, b.data + column.start, column.stop - column.start)
    add(to, PyBytes_AS_STRING(table.key_end), PyBytes_GET_SIZE(table.key_end))
    return out


cdef inline char* add(char* to, const void* data, size_t size) noexcept:
    memcpy(to, data, size)
    return to + size


cdef bint same_field(const Field* a, const Field* b) noexcept:
    if a.kind != b.kind:
        return False
    return a.kind != c't' or (a.size == b.size and memcmp(a.data, b.data, a.size) == 0)
