"""Stage 2: pgoutput, protocol version 1, text mode. Pure.

The hot path reads row messages in place (envelopes/rowcode.py); this package is for everything that wants a message
as an object: relations, transaction limits, tests, tools.
"""

from __future__ import annotations
