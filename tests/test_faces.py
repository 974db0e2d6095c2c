"""What a package says is public exists, is documented, and is all that a star import gives."""

import importlib
import importlib.resources

import pytest


@pytest.mark.parametrize("package", ["deepgnn_cli.nn", "deepgnn_cli.measure"])
def test_what_is_public_is_there_and_documented(package):
    module = importlib.import_module(package)
    assert module.__doc__ and len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        value = getattr(module, name)
        if callable(value):
            assert value.__doc__, name
            assert value.__module__.startswith(package), name


def test_the_package_says_that_it_is_typed():
    assert importlib.resources.files("deepgnn_cli").joinpath("py.typed").is_file()
