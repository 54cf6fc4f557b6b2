"""The commands `train.py` and `evaluate.py`, from the words of a command line to the exit status."""
