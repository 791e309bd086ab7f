"""Bugs planted on purpose: the rig has to catch each, by the invariant that it breaks.

planted    the bugs, as replacements of text in the product
tree       a copy of the product with one of them
hunts      what is done to a pipeline so that a bug shows, and the verdict

  python -m tests.mutants [--only NAME,NAME] [--seed 7] [--without]     # --without: the same hunts, nothing planted
"""
