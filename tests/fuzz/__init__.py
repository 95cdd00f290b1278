"""Structure-aware fuzzing: inputs built from each grammar, judged by what a parser promises.

`grammar` makes bytes from a `random.Random`; `targets` judges them; `python -m tests.fuzz` (`./run
fuzz`) runs long from a seed, the daily suite (test_fuzz.py) briefly through hypothesis, which
shrinks what it finds. A finding is a line of tests/corpus/fuzz, and is tried again every day.
"""
