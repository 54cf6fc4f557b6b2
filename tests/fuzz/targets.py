"""What is put before the loaders of run folder, checkpoint and data, and before the checker of a command's words.

A target takes what hypothesis makes up, and fails unless the answer is a result, or one line of an error of this project, and
nothing has been written. `test_fuzz.py` gives each some examples, or as many as there is time for; `guided.py` lets atheris choose
them by the code that they reach.
"""

from collections.abc import Callable
from pathlib import Path

from fuzz import of_data, of_runs, of_words
from fuzz.answers import Target

__all__ = ["TARGETS", "Target"]

TARGETS: dict[str, Callable[[Path], Target]] = {
    function.__name__: function
    for function in (
        *(of_runs.run_folder, of_runs.documents, of_runs.resumed, of_runs.checkpoint, of_runs.content),
        *(of_runs.state_of_training, of_runs.restored, of_runs.report),
        *(of_data.array, of_data.pictures, of_data.raw_files, of_data.packed),
        *(of_words.words, of_words.words_of_an_evaluation),
    )
}
"""Each is made in an empty folder, which it then leaves as it made it."""
