"""The system, terminals and torch: memory, processes, compilation, checkpoints; files that are whole or not there."""
