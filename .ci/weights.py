"""Train, evaluate and export the models that come with a release, into weights/.

    make weights                        # all of them: an hour on one core
    make weights ARGS="vae cvae_mlp"    # some

    weights/<name>/     one model: model.safetensors, config.json, README.md (the card), metrics.json, and figures/ of the card
    weights/assets/     these files under names without folders, and SHA256SUMS, to be attached to a release

A model whose folder is there is left as it is. `python evaluate.py run=pretrained:<name>` states its numbers again.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from vae_lightning.commands.export import SHOWN
from vae_lightning.commands.resuming import is_finished

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / "weights"
LARGEST = 3_000_000
"""The most bytes of a model's weights."""
RECIPES: dict[str, list[str]] = {
    "vae": ["model=vae"],
    "vae_2d": ["model=vae", "model.latent_dim=2", "trainer.max_epochs=50"],
    "beta_vae": ["model=beta_vae", "model.latent_dim=10"],
    "cvae_mlp": ["model=cvae_mlp"],
    "cvae_cnn3": ["model=cvae_cnn3"],
    "classifier": ["experiment=classifier", "data.binarization=dynamic"],
    "burda_vae": [
        *("experiment=burda_vae", "recipe=soap", "model.objective.sticking_the_landing=true", "trainer.max_epochs=300"),
        *("data.batch_size=1000", "model.optimizer.lr=0.012", "model.lr_schedule.name=linear", "trainer.precision=bf16-mixed"),
        "trainer.check_val_every_n_epoch=10",
    ],
}
"""What trains each model, by its name."""
EVALUATED = ("evaluation.num_images=10000", "evaluation.num_samples=1000", f"evaluation.figures=[{','.join(SHOWN)}]")
"""How each is evaluated for its card, which shows two of these figures."""


def main() -> None:
    """The command `make weights`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*RECIPES, []], help="models; all, if none is named")
    for name in parser.parse_args().names or RECIPES:
        if not (PLACE / name / "model.safetensors").is_file():
            build(name)
        size = (PLACE / name / "model.safetensors").stat().st_size
        print(f"{name}: {size:,} bytes")
        if size > LARGEST:
            raise SystemExit(f"weights/{name}: has {size:,} bytes, more than {LARGEST:,}")
    write_assets()


def build(name: str) -> None:
    """Train, evaluate and export one model."""
    run, root = ROOT / "outputs" / "weights" / name, os.environ.get("VAE_LIGHTNING_DATA", str(ROOT / "data"))
    start = ["train.py", *RECIPES[name], "name=weights", f"hydra.run.dir={run}", f"data.root={root}"]
    if not is_finished(run):
        call(["train.py", f"resume={run}"] if (run / "checkpoints" / "last.ckpt").is_file() else start)
    call(["evaluate.py", f"run={run}", f"root={root}", *(EVALUATED if name != "classifier" else ())])
    words = [f"run={run}", f"to={PLACE / name}", "format=safetensors", "licence=mit"]
    call(["-m", "vae_lightning.commands.export", *words])
    if (PLACE / name / "model.safetensors").stat().st_size > LARGEST:
        call(["-m", "vae_lightning.commands.export", *words, "dtype=float16"])


def call(words: list[str]) -> None:
    """Run a command of this project in the checkout."""
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True)


def write_assets() -> None:
    """Copy the files of all models to names without folders, with their sums."""
    assets = PLACE / "assets"
    shutil.rmtree(assets, ignore_errors=True)
    assets.mkdir(parents=True)
    sums = []
    for folder in sorted(path for path in PLACE.iterdir() if (path / "model.safetensors").is_file()):
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            asset = assets / ".".join((folder.name, *file.relative_to(folder).parts))
            shutil.copyfile(file, asset)
            sums.append(f"{hashlib.sha256(asset.read_bytes()).hexdigest()}  {asset.name}\n")
    (assets / "SHA256SUMS").write_text("".join(sums))


if __name__ == "__main__":
    main()
