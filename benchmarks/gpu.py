"""`make gpu`: everything that only a machine with a GPU can answer, in one call, within a budget of seconds.

On a bare machine with a GPU that has torch, Lightning and JAX, and no network, what else is needed comes from the folder that
`make gpu-pack` has made. In turn: the tests marked `gpu`, the contenders, a stack of 64 models, an evaluation with K = 5,000, and
with the time that is left the long recipes (`recipes.py`). What is found is written as it is found, to `gpu.json` and `gpu.log` in
$OUT, or in a dated folder of `outputs/gpu`. `--device cpu` goes the same way with sizes that only show that all of it runs.
"""

import argparse
import os
import signal
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from types import FrameType

from budget import Budget, go_through
from packed import install, missing, unpack_images
from record import Record, failed_rows
from running import run
from stages import REPOSITORY, STAGES, Session, stages

PROBE = "import torch; torch.ones(8, device='cuda').add(1).sum().item()"
FACTS = "import json, host; print(json.dumps(host.machine()))"


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=460.0, help="that all of it may take (460)")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: tiny sizes, to try the script itself")
    parser.add_argument("--only", default="", help=f"stages, separated by commas: {','.join(STAGES)}")
    parser.add_argument("--pack", type=Path, default=REPOSITORY / ".gpu", help="the folder that make gpu-pack made (.gpu)")
    parser.add_argument("--data", type=Path, help="folder with MNIST/raw, if it is not in the packed folder")
    parser.add_argument("--out", type=Path, help="folder of gpu.json and gpu.log ($OUT, else outputs/gpu/<time>)")
    return parser


def usable(device: str) -> str | None:
    """Why torch cannot compute on `device`; None if it can."""
    if device == "cpu":
        return None
    ended = run([sys.executable, "-c", PROBE], 90)
    return (
        None
        if ended.why is None
        else f"torch cannot compute on a GPU here ({ended.why}); --device cpu tries the script without one"
    )


def prepared(options: argparse.Namespace, scratch: Path, record: Record) -> Path:
    """`data.root`, unpacked, after installing what is missing for the programs that are run from now on."""
    site = scratch / "site"
    wheels, without = missing(options.pack / "wheels")
    failed = install(wheels, site)
    sys.path.insert(0, str(site))  # where this program looks for what its programs have
    paths = [str(site), str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    packed_at = options.pack / "commit"
    record.content["packed_at"] = packed_at.read_text().strip() if packed_at.exists() else None
    record.content["installed"] = [wheel.name for wheel in wheels if wheel.name not in failed]
    record.content["not_installed"] = failed | dict.fromkeys(without, "no wheel in the packed folder fits this Python")
    for name, why in record.content["not_installed"].items():
        record.say(f"not installed: {name}: {why}")
    return unpack_images(options.data or options.pack / "data", scratch / "data")


def main() -> None:
    parser = arguments()
    options = parser.parse_args()
    budget = Budget(options.seconds)
    if unknown := set(filter(None, options.only.split(","))) - set(STAGES):
        parser.error(f"--only: there is no stage {', '.join(sorted(unknown))}; there are {', '.join(STAGES)}")
    if why := usable(options.device):
        sys.exit(f"error: {why}")
    signal.signal(signal.SIGTERM, _end)  # so that programs that are running are ended too
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    default = Path(os.environ.get("OUT") or REPOSITORY / "outputs" / "gpu" / f"{datetime.now():%Y-%m-%d_%H-%M-%S}")
    record = Record(options.out or default, options.seconds, options.device)
    with tempfile.TemporaryDirectory(prefix="gpu-", ignore_cleanup_errors=True) as scratch:
        try:
            data = prepared(options, Path(scratch), record)
        except (OSError, ImportError) as error:
            record.say(f"error: {error}")
            sys.exit(f"error: {error}")
        record.content["machine"] = _machine() | {"load_average": os.getloadavg()[0]}
        record.say(", ".join(f"{key} {value}" for key, value in record.content["machine"].items()))
        session = Session(data, options.device, options.device == "cpu", Path(scratch), budget, record)
        wanted = [stage for stage in stages(session) if not options.only or stage.name in options.only.split(",")]
        go_through(wanted, budget, record)
        record.finish()
        record.say(f"written to {record.json}")
    if failed := failed_rows(record.content):
        sys.exit(f"error: failed: {'; '.join(failed)}")


def _machine() -> dict[str, object]:
    import json

    ended = run([sys.executable, "-c", FACTS], 60, folder=Path(__file__).resolve().parent)
    try:
        facts: dict[str, object] = json.loads(ended.lines[-1])
    except (IndexError, ValueError):
        return {"unknown": ended.why}
    return facts


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
