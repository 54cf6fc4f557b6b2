"""The commands that the pages show, as tests give them."""

import re
import shlex

from conftest import REPOSITORY

from vae_lightning.commands.overrides import parts_of

__all__ = ["PAGES", "given", "texts"]

FOLDERS = ("*.md", "docs/*.md", "docs/howto/*.md", "docs/explanation/*.md", "docs/api/*.md", "outputs/*.md")
"""Where pages lie, but for docs/extending, which test_extending.py goes through."""
PAGES = sorted(path for pattern in FOLDERS for path in REPOSITORY.glob(pattern))
COMMAND = re.compile(r"(?:python|torchrun --nproc_per_node=\d+) (train|evaluate)\.py\s+([^`#]*?)\s*(?:`|#|$)", re.MULTILINE)
BEFORE = {"model.conditional_prior=true"}
"""Settings that a page names as those of an earlier version."""
OF_A_SWEEP = re.compile(r"sweep=|resume=|hydra[./](launcher|sweeper)")
"""What says which runs are meant and how jobs are run, and is in no job's config; the options of conf/sweep have tests of their own."""
OF_A_SPACE = re.compile(r"=(interval|range|choice|tag)\(")
"""What is searched, and no value."""
TYPED = re.compile(r"-m|-cn|--\w[\w-]*")


def texts() -> list[tuple[str, str, str]]:
    """Page, script and words of each command of `train.py` and `evaluate.py` in a page, but for those of the past."""
    found = set()
    for page in PAGES:
        if page.name == "CHANGELOG.md":
            continue
        for script, words in COMMAND.findall(page.read_text()):
            if not any(word in words for word in ("--help", "--cfg", "-sc ", "mynets", "mypkg", *BEFORE)):
                found.add((page.relative_to(REPOSITORY).as_posix(), script, " ".join(words.rstrip('"\\ ').split())))
    return sorted(found)


def given(words: str) -> list[str]:
    """The words of a command, with something in the places that a reader has to fill, and one value of a sweep."""
    filled = re.sub(r"<[\w ]+>", "here", words.replace("<model>", "vae"))
    kept = [word for word in shlex.split(filled) if not TYPED.fullmatch(word) and "..." not in word]
    settings = [word for word in kept if "=" in word and not OF_A_SWEEP.match(word) and not OF_A_SPACE.search(word)]
    return [parts_of(word)[0] for word in settings]
