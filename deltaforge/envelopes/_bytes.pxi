# Buffers, big-endian numbers, decimal digits and base64.

ctypedef unsigned char byte
ctypedef unsigned long long u64
ctypedef long long i64

cdef struct Buffer:
    byte* data
    size_t size
    size_t room


cdef int reserve(Buffer* b, size_t more) except -1:
    """Make room for `more` bytes behind what is there."""
    cdef size_t room
    cdef byte* data
    if b.room - b.size >= more:
        return 0
    room = b.room + b.room // 2 + more
    data = <byte*>PyMem_RawRealloc(b.data, room)
    if data == NULL:
        raise MemoryError()
    b.data = data
    b.room = room
    return 0


cdef void release(Buffer* b) noexcept:
    PyMem_RawFree(b.data)
    b.data = NULL
    b.size = 0
    b.room = 0


cdef inline void put(Buffer* b, const void* data, size_t size) noexcept:
    """Append; there has to be room."""
    memcpy(b.data + b.size, data, size)
    b.size += size


cdef inline void put_byte(Buffer* b, byte one) noexcept:
    b.data[b.size] = one
    b.size += 1


cdef int put_bytes(Buffer* b, bytes text) except -1:
    cdef size_t size = <size_t>PyBytes_GET_SIZE(text)
    reserve(b, size)
    put(b, PyBytes_AS_STRING(text), size)
    return 0


cdef inline unsigned int u16_at(const byte* p) noexcept:
    return (<unsigned int>p[0] << 8) | p[1]


cdef inline unsigned int u32_at(const byte* p) noexcept:
    return (<unsigned int>p[0] << 24) | (<unsigned int>p[1] << 16) | (<unsigned int>p[2] << 8) | p[3]


cdef inline u64 u64_at(const byte* p) noexcept:
    return (<u64>u32_at(p) << 32) | u32_at(p + 4)


cdef inline int digits_of(u64 number, byte* out) noexcept:
    """Decimal digits of `number` (at most 20) to `out`; returns how many."""
    cdef byte reversed_[20]
    cdef int n = 0
    cdef int i
    while True:
        reversed_[n] = <byte>(48 + number % 10)
        n += 1
        number //= 10
        if number == 0:
            break
    for i in range(n):
        out[i] = reversed_[n - 1 - i]
    return n


cdef inline void put_number(Buffer* b, i64 number) noexcept:
    """Append a signed decimal number; there has to be room for 20 bytes."""
    cdef u64 magnitude = <u64>number
    if number < 0:
        put_byte(b, c'-')
        magnitude = 0 - magnitude
    b.size += digits_of(magnitude, b.data + b.size)


cdef const char* BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


cdef void put_base64(Buffer* b, const byte* data, size_t size) noexcept:
    """Append the base64 of `data`; there has to be room for 4 bytes for each 3 begun."""
    cdef byte* out = b.data + b.size
    cdef size_t at = 0
    cdef unsigned int three
    while size - at >= 3:
        three = (<unsigned int>data[at] << 16) | (<unsigned int>data[at + 1] << 8) | data[at + 2]
        out[0] = BASE64[three >> 18]
        out[1] = BASE64[(three >> 12) & 63]
        out[2] = BASE64[(three >> 6) & 63]
        out[3] = BASE64[three & 63]
        out += 4
        at += 3
    if size - at:
        three = <unsigned int>data[at] << 16
        if size - at == 2:
            three |= <unsigned int>data[at + 1] << 8
        out[0] = BASE64[three >> 18]
        out[1] = BASE64[(three >> 12) & 63]
        out[2] = BASE64[(three >> 6) & 63] if size - at == 2 else c'='
        out[3] = c'='
        out += 4
    b.size = <size_t>(out - b.data)


cdef void put_base64_of_int(Buffer* b, i64 number) noexcept:
    """Append the base64 of a number as big-endian two's complement in as few bytes as possible."""
    cdef u64 magnitude = <u64>(number if number >= 0 else ~number)
    cdef byte data[8]
    cdef int size = 1
    cdef int i
    while magnitude >> 7:
        size += 1
        magnitude >>= 8
    for i in range(size):
        data[size - 1 - i] = <byte>(<u64>number >> (8 * i))
    put_base64(b, data, size)
