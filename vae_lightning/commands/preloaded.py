"""What the process has imported that a sweep's jobs are forked from; imported for that alone."""

import logging

# Lightning, where it is imported before Hydra says what becomes of logs, would write to the terminal and not to train.log
logging.getLogger().addHandler(logging.NullHandler())

from vae_lightning.commands import screen, train, typed  # noqa: F401
