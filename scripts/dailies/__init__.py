"""Dailies: a media batch pipeline that lives in a Git repository."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dailies.stage import VideoRegistry, run_upload_stage

__version__ = "0.1.0"
__all__ = ["VideoRegistry", "__version__", "run_upload_stage"]


def __getattr__(name: str) -> Any:
    """For other programs; `dailies --help` does without what they need."""
    if name not in __all__:
        raise AttributeError(f"module 'dailies' has no attribute {name!r}")
    from dailies import stage

    return getattr(stage, name)
