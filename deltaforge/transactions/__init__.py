"""Room 3: group stream messages into parts of committed transactions."""
