"""What `train.py` and `evaluate.py` do, from the words of a command to its exit status."""
