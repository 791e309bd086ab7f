"""The admin HTTP: what the process says about itself, read-only."""
