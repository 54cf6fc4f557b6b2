"""Models from and to a folder of weights, or a repository of such folders: `from_pretrained`, `save_pretrained`, `push_to_hub`.

Repositories are those of the Hugging Face hub, reached by `huggingface_hub`, which the extra `hub` installs.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, Self

from torch import nn

from vae_lightning.arguments import check, parameters, prefixed
from vae_lightning.errors import CheckpointError, ConfigurationError, StorageError, VAELightningError, one_line
from vae_lightning.machine.construction import NoMoreThan, numbers_in
from vae_lightning.machine.files import at_home, is_there
from vae_lightning.machine.pretrained import CARDS_BEGIN, CONFIG, WEIGHTS, read_config, read_pretrained, write_pretrained
from vae_lightning.plugins import locate, require_trust, trusting, values_under

__all__ = ["Pretrained", "folder_of", "target_of", "upload"]

CARD = "README.md"


class Pretrained:
    """What a model can do with a folder or a repository of weights.

    >>> from tempfile import TemporaryDirectory
    >>> from vae_lightning import VAE
    >>> model = VAE(latent_dim=2, net={"name": "mlp", "hidden": [8]})
    >>> with TemporaryDirectory() as folder:
    ...     _ = model.save_pretrained(folder)
    ...     VAE.from_pretrained(folder).latent_dim
    2
    """

    @classmethod
    def from_pretrained(cls, source: str | Path, *, trust: Iterable[str] = (), revision: str | None = None) -> Self:
        """The model in a folder, or in a repository of the hub, in evaluation mode on the CPU. No code in the folder is executed.

        Args:
            source: a folder that `save_pretrained` or `vae-export` wrote, or a repository, `owner/name`, which is fetched once.
            trust: packages whose classes may be imported, beside this project, torch, and packages that declare the entry point
                `vae_lightning.plugins`.
            revision: of a repository: a branch, a tag or a commit; None: the newest.

        Raises:
            CheckpointError: there is no such folder, it is damaged, or its model is of another class or of a package not trusted.
            ConfigurationError: `source` is a repository, and `huggingface_hub` is not installed.
        """
        model: Self = _built(cls, *folder_of(source, revision), trust)
        return model

    def save_pretrained(self, folder: str | Path, others: Mapping[str, Any] | None = None) -> Path:
        """Write the weights and what builds the model into `folder`, which is made if need be.

        Args:
            others: what else `config.json` says, plain values.

        Raises:
            StorageError: the folder cannot be written, or holds another project's model, or an export of `vae-export`, whose card
                and graphs would be another model's.
        """
        model: Any = self
        path = at_home(str(folder))
        _require_room(path)
        arguments = {"_target_": target_of(type(model)), **dict(model.hparams)}
        write_pretrained(path, model.state_dict(), {"model": arguments, **(others or {})})
        return path

    def push_to_hub(self, repository: str, private: bool = False) -> str:
        """Upload the model to the repository `owner/name` of the hub, which is made if need be; returns the commit's address.

        A folder of `vae-export`, with its model card and graphs, is uploaded by `upload`.

        Raises:
            CheckpointError: the hub refuses.
            ConfigurationError: `huggingface_hub` is not installed.
        """
        with TemporaryDirectory() as folder:
            return upload(self.save_pretrained(folder), repository, private)


def _require_room(folder: Path) -> None:
    """Refuse a folder whose model is not one that `save_pretrained` wrote."""
    card = folder / "README.md"
    if card.is_file() and card.read_bytes().startswith(CARDS_BEGIN):
        raise StorageError(f"{folder}: holds an export, whose card and graphs are not this model's; give a new folder")
    if is_there(folder / CONFIG) or is_there(folder / WEIGHTS):
        try:
            read_config(folder)
        except CheckpointError as error:
            raise StorageError(f"{folder}: holds another model, which is not replaced ({error}); give a new folder") from error


def target_of(model: type) -> str:
    """The import path of a model's class, the shorter one of a class that `vae_lightning.models` offers.

    >>> from vae_lightning import VAE
    >>> target_of(VAE)
    'vae_lightning.models.VAE'
    """
    from vae_lightning import models

    if getattr(models, model.__name__, None) is model:
        return f"vae_lightning.models.{model.__name__}"
    return f"{model.__module__}.{model.__qualname__}"


def _built(kind: type[Any], folder: Path, within: Path, trust: Iterable[str]) -> Any:
    """The model in `folder`, which must be of the class `kind`."""
    arguments = read_config(folder, within)["model"]
    where = f"{folder / CONFIG}: model"
    with trusting(trust):
        for _, named in values_under(arguments):
            require_trust(str(named), f"{where}._target_={one_line(str(named), 200)}")
        try:
            found = locate(arguments["_target_"], f"{where}._target_")
        except ConfigurationError as error:
            raise CheckpointError(f"{folder}: its model cannot be built here: {error}") from error
        if not (isinstance(found, type) and issubclass(found, kind) and issubclass(found, nn.Module)):
            raise CheckpointError(f"{where}._target_={arguments['_target_']}: is no {kind.__name__}; use its own from_pretrained")
        content = read_pretrained(folder, within)
        try:
            check(found, content["hyper_parameters"], "model")
            with prefixed("model", parameters(found)[0]), NoMoreThan(numbers_in(content["state_dict"])):
                model: Any = found(**content["hyper_parameters"])
            model.load_state_dict(content["state_dict"])
        except VAELightningError as error:
            raise CheckpointError(f"{folder}: its model cannot be built here: {error}") from error
        except (RuntimeError, TypeError, ValueError, AttributeError, KeyError) as error:
            raise CheckpointError(f"{folder}: its model cannot be built here: {one_line(error, 300)}") from error
    return model.eval()


def folder_of(source: str | Path, revision: str | None = None) -> tuple[Path, Path]:
    """The folder that `source` names, itself or the copy of a repository `owner/name`; and what links in it may lead to.

    Raises:
        CheckpointError: there is neither such a folder nor such a repository.
        ConfigurationError: it is a repository, and `huggingface_hub` is not installed.
    """
    path = at_home(str(source))
    if path.is_dir():
        return path, path
    if len(Path(str(source)).parts) != 2 or str(source).startswith((".", "/", "~")):
        raise CheckpointError(f"{source}: there is no such folder")
    hub = _hub(f"{source}: there is no such folder, and a repository")
    try:
        copy = Path(hub.snapshot_download(str(source), revision=revision, allow_patterns=[CONFIG, WEIGHTS, CARD]))
    except Exception as error:  # the hub's client has errors of its own, of its network library, and of the system
        raise CheckpointError(
            f"{source}: is no folder, and no repository that could be fetched ({one_line(error, 200)})"
        ) from error
    return copy, copy.parents[1]  # whose files are links to those in blobs/, beside snapshots/


def upload(folder: str | Path, repository: str, private: bool = False) -> str:
    """Upload what `save_pretrained` or `vae-export` wrote into `folder` to the repository `owner/name`, which is made if need be.

    Returns:
        The address of the commit.

    Raises:
        CheckpointError: the folder holds no model, or the hub refuses.
        ConfigurationError: `huggingface_hub` is not installed.
    """
    path = at_home(str(folder))
    read_config(path)
    hub = _hub("a repository")
    try:
        api = hub.HfApi()
        api.create_repo(repository, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=repository, folder_path=str(path), commit_message="Upload a model of vae_lightning"))
    except Exception as error:
        raise CheckpointError(f"{repository}: could not be written ({one_line(error, 200)}); `hf auth login` logs in") from error


def _hub(what: str) -> ModuleType:
    try:
        import huggingface_hub
    except ImportError:
        raise ConfigurationError(f"{what} needs huggingface_hub: pip install 'vae_lightning[hub]'") from None
    return huggingface_hub
