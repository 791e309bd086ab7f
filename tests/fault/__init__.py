"""Faults: what is done to deltaforge and its servers, and the rig that tells which row of the matrix which test runs.

matrix.py, rows/*.toml   the rows: fault, what deltaforge does, what the operator sees
marks.py                 which tests run which rows, read from `@pytest.mark.fault("P4", "K3")`
sizes.py                 how long the long tests are: DELTAFORGE_RIG=quick or full
plugin.py, report.py     a run of the marked tests, told by row
page.py                  docs/explanation/failure-modes.md
__main__.py              python -m tests.fault
"""
