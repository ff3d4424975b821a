"""What the streaming benchmarks are made of; `stream.py`, `scaling.py` and `budgets.py` beside it run them.

It imports nothing heavy: what a measured process inherits from its parent counts as its own memory (see `measure`).
"""
