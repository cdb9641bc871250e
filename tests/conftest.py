"""Fixtures that several test files share. mechmsc is imported inside them, so that the type-checking hook sees it."""

import functools
from pathlib import Path

import hypothesis
import pytest

# The same examples in every run, and no time limit on one: a red run can be repeated, a slow machine is not a fault.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of published data beside the checkout; tests that need it skip without it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"published data not found at {folder}")
    return folder


@pytest.fixture(scope="session")
def smollm2():
    """The embedded model, fetched once into the cache; a skip only where it cannot be."""
    from mechmsc.errors import FetchError
    from mechmsc.model import load_model

    try:
        return load_model("smollm2-135m-instruct")
    except FetchError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """A function: architecture (a key of tiny_models.CONFIGS) -> folder of a random tiny model, made once."""
    from tiny_models import save_tiny

    @functools.cache
    def folder(architecture: str) -> Path:
        return save_tiny(architecture, tmp_path_factory.mktemp("tiny") / architecture)

    return folder


@pytest.fixture(scope="session")
def model_cache(tmp_path_factory) -> Path:
    """An empty cache folder, so that tests of tiny models leave nothing in the user's."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def load_tiny(tiny_folder, model_cache):
    """A function: architecture, and keywords of load_model -> a new model around the random tiny one."""
    from mechmsc.model import load_model

    def load(architecture: str, *, device: str = "cpu", dtype: str = "float32", engine: str | None = None):
        return load_model(tiny_folder(architecture), device=device, dtype=dtype, engine=engine, cache=model_cache)

    return load


@pytest.fixture
def tiny_llama(load_tiny):
    """A new random tiny Llama with grouped-query attention, with tokenizer and chat template."""
    return load_tiny("llama")


@pytest.fixture
def tiny_gemma3(load_tiny):
    """A new random tiny Gemma 3: two rotary bases, sliding windows, norms before and after."""
    return load_tiny("gemma3")
