"""What is here is put before the loaders by `test_fuzz.py`; `guided.py` needs atheris, and is a program."""

collect_ignore_glob = ["*.py"]
