"""An exported network goes to the Hugging Face hub by the hub's own library, which has the token."""

from pathlib import Path

from aezoo.errors import AezooError, reason_of
from aezoo.run.model import CARD, CONFIG, GRAPHS, PICTURE, WEIGHTS, read_exported

FILES = [CONFIG, WEIGHTS, CARD, PICTURE, *(f"{name}.{kind}" for name in GRAPHS for kind in ("onnx", "pt2"))]
"""What is uploaded of a folder: what `aezoo export` writes, and nothing that lies beside it."""


def push(folder: Path, repository: str, *, private: bool = False) -> str:
    """Upload an exported network, and return its address.

    Raises:
        AezooError: it is no such folder, the extra is not installed, or the hub refuses.
    """
    config, _ = read_exported(folder)
    try:
        import huggingface_hub
    except ImportError as error:
        raise AezooError("huggingface_hub is not installed: pip install 'aezoo[hub]'") from error
    try:
        interface = huggingface_hub.HfApi()
        interface.create_repo(repository, private=private, exist_ok=True)
        done = interface.upload_folder(
            repo_id=repository, folder_path=folder, allow_patterns=FILES,
            commit_message=f"{config.variant}, by aezoo {config.environment.aezoo}",
        )  # fmt: skip
    except Exception as error:
        raise AezooError(
            f"{repository} was not uploaded: {reason_of(error)[:400]}; without a token, `hf auth login` asks for one"
        ) from error
    return str(done.commit_url)
