# JSON of one value from its wire text. Each writer of a special form takes only text that it is sure of and returns
# False for the rest, which then goes to the Python converter: that one knows the odd forms and raises the errors.

cdef enum Code:
    CALL      # the Python converter
    RAW
    QUOTED
    TEXT
    BOOL
    DECIMAL
    VARIABLE
    FLOAT
    REAL
    DATE
    TIME_US
    TIME_MS
    TIMESTAMP_US
    TIMESTAMP_MS
    ZONED
    BYTEA

cdef const char* HEX = b"0123456789ABCDEF"
cdef u64 ONES = 0x0101010101010101
cdef u64 TOPS = 0x8080808080808080


cdef inline bint all_plain(const byte* p) noexcept:
    """Do the eight bytes at `p` stand in JSON as they are? May say no when they do."""
    cdef u64 x
    memcpy(&x, p, 8)
    cdef u64 quote = x ^ (ONES * 0x22)
    cdef u64 slash = x ^ (ONES * 0x5C)
    cdef u64 found = (x - ONES * 0x20) & ~x
    found |= (quote - ONES) & ~quote
    found |= (slash - ONES) & ~slash
    found |= x & (x << 1) & (x << 2) & (x << 3)
    return (found & TOPS) == 0


cdef inline int escape_of(byte c) noexcept:
    """The letter after the backslash, `u` for \\u00XX, 0 for none."""
    if c == 0x22 or c == 0x5C:
        return c
    if c >= 0x20:
        return 0
    if c == 10:
        return c'n'
    if c == 13:
        return c'r'
    if c == 9:
        return c't'
    if c == 12:
        return c'f'
    if c == 8:
        return c'b'
    return c'u'


cdef int put_unit(Buffer* b, unsigned int unit) noexcept:
    """Append `\\uXXXX`."""
    put(b, b"\\u", 2)
    put_byte(b, HEX[unit >> 12 & 15])
    put_byte(b, HEX[unit >> 8 & 15])
    put_byte(b, HEX[unit >> 4 & 15])
    put_byte(b, HEX[unit & 15])
    return 0


cdef inline bint follows(byte c) noexcept:
    return c & 0xC0 == 0x80


cdef int put_text(Buffer* b, const byte* p, size_t size) except -1:
    """Append a JSON string. Bytes that are no UTF-8, as a database in SQL_ASCII may send them, stay as they are."""
    cdef size_t at = 0
    cdef size_t need = size
    cdef unsigned int code
    cdef int letter
    if size <= 8192:
        need = 6 * size
    else:
        # Nobody wants six times ten megabytes because one of them might be full of control characters.
        while at < size:
            if at + 8 <= size and all_plain(p + at):
                at += 8
                continue
            need += 5 if p[at] < 0x20 else 8 if p[at] >= 0xF0 else 1
            at += 1
        at = 0
    reserve(b, need + 3)
    put_byte(b, c'"')
    while at < size:
        if at + 8 <= size and all_plain(p + at):
            put(b, p + at, 8)
            at += 8
            continue
        letter = escape_of(p[at])
        if letter == c'u':
            put_unit(b, p[at])
        elif letter:
            put_byte(b, c'\\')
            put_byte(b, <byte>letter)
        elif (0xF0 <= p[at] <= 0xF4 and at + 4 <= size
              and follows(p[at + 1]) and follows(p[at + 2]) and follows(p[at + 3])):
            code = ((p[at] & 7) << 18) | ((p[at + 1] & 63) << 12) | ((p[at + 2] & 63) << 6) | (p[at + 3] & 63)
            if 0x10000 <= code <= 0x10FFFF:
                code -= 0x10000
                put_unit(b, 0xD800 + (code >> 10))
                put_unit(b, 0xDC00 + (code & 0x3FF))
                at += 3
            else:
                put_byte(b, p[at])
        else:
            put_byte(b, p[at])
        at += 1
    put_byte(b, c'"')
    return 0


cdef inline int number_at(const byte* p, int digits) noexcept:
    """A number of exactly so many digits, -1 when another character is among them."""
    cdef int value = 0
    cdef int i
    for i in range(digits):
        if not 48 <= p[i] <= 57:
            return -1
        value = value * 10 + p[i] - 48
    return value


cdef bint put_decimal(Buffer* b, const byte* p, size_t size, bint variable) noexcept:
    """`numeric`; with `variable` as a scale and a value. Room: 64 bytes."""
    cdef i64 value = 0
    cdef size_t at = 1 if size and p[0] == c'-' else 0
    cdef int digits = 0
    cdef int scale = -1
    if size - at > 19 or (size - at == 19 and memchr(p, c'.', size) == NULL):
        # Eighteen digits are sure to fit into 64 bits.
        return False
    if variable:
        while size and p[size - 1] == c'0' and memchr(p, c'.', size) != NULL:
            size -= 1
    while at < size:
        if p[at] == c'.' and scale < 0 and digits:
            scale = 0
        elif 48 <= p[at] <= 57:
            value = value * 10 + p[at] - 48
            digits += 1
            if scale >= 0:
                scale += 1
        else:
            return False
        at += 1
    if not 0 < digits <= 18:
        return False
    if p[0] == c'-':
        value = -value
    if variable:
        put(b, b'{"scale":', 9)
        put_number(b, scale if scale > 0 else 0)
        put(b, b',"value":', 9)
    put_byte(b, c'"')
    put_base64_of_int(b, value)
    put_byte(b, c'"')
    if variable:
        put_byte(b, c'}')
    return True


cdef bint put_float(Buffer* b, const byte* p, size_t size, int least) noexcept:
    """A float in Java's notation, from PostgreSQL's shortest digits. Room: 64 bytes.

    From `least` digits on, before the point as well, there may be a shorter number right between two floats (numbers.py).
    """
    cdef byte digits[24]
    cdef int n = 0
    cdef int point = 0
    cdef int exponent = 0
    cdef bint minus = False
    cdef bint below = False
    cdef bint negative = size > 0 and p[0] == c'-'
    cdef size_t at = 1 if negative else 0
    cdef int i
    if size - at > 22 or size == at:
        return False
    while at < size and p[at] != c'e':
        if p[at] == c'.' and not below:
            below = True
        elif 48 <= p[at] <= 57:
            if n or p[at] != 48:
                digits[n] = p[at]
                n += 1
                if not below:
                    point += 1
            elif below:
                point -= 1
        else:
            return False
        at += 1
    if at < size:
        at += 1
        if size - at < 2 or size - at > 4 or (p[at] != c'-' and p[at] != c'+'):
            return False
        minus = p[at] == c'-'
        exponent = number_at(p + at + 1, <int>(size - at - 1))
        if exponent < 0:
            return False
        point += -exponent if minus else exponent
    while n and digits[n - 1] == 48:
        n -= 1
    if n < 2 or n > 17:
        # A single digit needs the nearest two-digit number, which takes the exact value.
        return False
    if n >= least and point >= least:
        return False
    if negative:
        put_byte(b, c'-')
    if -2 <= point <= 7:
        if point <= 0:
            put(b, b"0.", 2)
            for i in range(-point):
                put_byte(b, c'0')
            put(b, digits, n)
            return True
        for i in range(point if point > n else n):
            if i == point:
                put_byte(b, c'.')
            put_byte(b, digits[i] if i < n else c'0')
        if n <= point:
            put(b, b".0", 2)
        return True
    put_byte(b, digits[0])
    put_byte(b, c'.')
    put(b, digits + 1, n - 1)
    put_byte(b, c'E')
    put_number(b, point - 1)
    return True


cdef bint days_at(const byte* p, i64* days) noexcept:
    """Days since 1970-01-01 of the ten characters YYYY-MM-DD."""
    cdef int year = number_at(p, 4)
    cdef int month = number_at(p + 5, 2)
    cdef int day = number_at(p + 8, 2)
    cdef int last, era, of_era
    if year < 1 or month < 1 or month > 12 or day < 1 or p[4] != c'-' or p[7] != c'-':
        return False
    last = 31
    if month == 2:
        last = 29 if year % 4 == 0 and (year % 100 or year % 400 == 0) else 28
    elif month == 4 or month == 6 or month == 9 or month == 11:
        last = 30
    if day > last:
        return False
    if month <= 2:
        year -= 1
        month += 12
    era = year // 400
    of_era = year - era * 400
    days[0] = <i64>era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + (153 * (month - 3) + 2) // 5 + day - 719469
    return True


cdef bint clock_at(const byte* p, size_t size, i64* us) noexcept:
    """Microseconds of HH:MM:SS with up to six fraction digits."""
    cdef int hours, minutes, seconds, fraction
    cdef int places
    if size < 8 or size == 9 or size > 15 or p[2] != c':' or p[5] != c':':
        return False
    hours, minutes, seconds, fraction = number_at(p, 2), number_at(p + 3, 2), number_at(p + 6, 2), 0
    if size > 8:
        places = <int>size - 9
        fraction = number_at(p + 9, places)
        if p[8] != c'.' or fraction < 0:
            return False
        while places < 6:
            fraction *= 10
            places += 1
    if hours < 0 or minutes < 0 or seconds < 0:
        return False
    us[0] = (<i64>hours * 3600 + minutes * 60 + seconds) * 1000000 + fraction
    return True


cdef bint put_temporal(Buffer* b, int code, const byte* p, size_t size) noexcept:
    """date, time and timestamp as numbers. Room: 64 bytes."""
    cdef i64 days = 0
    cdef i64 us = 0
    if code == DATE:
        if size != 10 or not days_at(p, &days):
            return False
        put_number(b, days)
        return True
    if code == TIMESTAMP_US or code == TIMESTAMP_MS:
        if size < 19 or p[10] != c' ' or not days_at(p, &days):
            return False
        p += 11
        size -= 11
    if not clock_at(p, size, &us):
        return False
    us += days * 86400000000
    if code == TIMESTAMP_MS or code == TIME_MS:
        # Rounded down, also before 1970.
        us = us // 1000 - (1 if us % 1000 < 0 else 0)
    put_number(b, us)
    return True


cdef bint put_zoned(Buffer* b, const byte* p, size_t size) noexcept:
    """timestamptz with six fraction digits from text in UTC. Room: 64 bytes."""
    cdef size_t places
    if size < 22 or size == 23 or size > 29 or p[10] != c' ' or memcmp(p + size - 3, b"+00", 3) != 0:
        return False
    put_byte(b, c'"')
    put(b, p, 10)
    put_byte(b, c'T')
    put(b, p + 11, size - 14)
    places = 0 if size == 22 else size - 23
    if places == 0:
        put_byte(b, c'.')
    put(b, b"000000", 6 - places)
    put(b, b'Z"', 2)
    return True


cdef inline int nibble(byte c) noexcept:
    if 48 <= c <= 57:
        return c - 48
    c |= 0x20
    return c - 87 if 97 <= c <= 102 else -1


cdef bint put_bytea(Buffer* b, const byte* p, size_t size) except -1:
    """bytea in hex output, as base64."""
    cdef byte three[3]
    cdef size_t at = 2
    cdef int n = 0
    cdef int high, low
    if size < 2 or p[0] != c'\\' or p[1] != c'x' or size % 2:
        return False
    reserve(b, size + 8)
    put_byte(b, c'"')
    while at < size:
        high, low = nibble(p[at]), nibble(p[at + 1])
        if high < 0 or low < 0:
            return False
        three[n] = <byte>(high << 4 | low)
        n += 1
        at += 2
        if n == 3:
            put_base64(b, three, 3)
            n = 0
    put_base64(b, three, n)
    put_byte(b, c'"')
    return True


cdef int put_called(Buffer* b, object convert, const byte* p, size_t size) except -1:
    """The Python converter's JSON; `convert` may be its dict of recent results. Returns 1 when it refuses: the ordinary way has to say why."""
    cdef str text = PyUnicode_DecodeLatin1(<const char*>p, size, NULL)
    cdef object found
    cdef size_t length
    try:
        found = convert[text] if isinstance(convert, dict) else convert(text)
    except Exception:
        return 1
    if type(found) is not str or PyUnicode_KIND(found) != 1:
        return 1
    length = <size_t>PyUnicode_GET_LENGTH(found)
    reserve(b, length)
    put(b, PyUnicode_DATA(found), length)
    return 0
