"""The fuzz target of the codec: see tests/README.md."""
