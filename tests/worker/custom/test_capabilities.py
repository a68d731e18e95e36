"""Capabilities: what is found in modules, classes, instances and functions."""

import types
from typing import Any

import pytest

from mlepool.worker import capability, command
from mlepool.worker.custom.capabilities import Part, parts_of
from mlepool.worker.custom.command import UnfitError


@command
def alone() -> int:
    return 1


class Base:
    @command
    def inherited(self) -> str:
        return "base"


@capability
class ImageTools(Base):
    """Pictures."""

    def setup(self) -> None:
        self.ready = True

    @command(role="view")
    def look(self, name: str) -> str:
        return name

    @staticmethod
    @command
    def still() -> int:
        return 2

    @command
    @classmethod
    def odd(cls) -> str:
        return cls.__name__

    @command
    def _hidden(self) -> None:
        pass

    def helper(self) -> None:
        pass

    @property
    def trap(self) -> None:
        raise AssertionError


@capability(name="models")
def make_models() -> ImageTools:
    return ImageTools()


class Plain:
    """No capability by its mark."""

    @command
    def go(self) -> int:
        return 3


class Empty:
    pass


def module(**names: Any) -> types.ModuleType:
    made = types.ModuleType("made", "What it is for.")
    vars(made).update(names)
    return made


def here(thing: Any) -> Any:
    """Make something as if it was written in the module."""
    thing.__module__ = "made"
    return thing


def only(thing: Any, name: str = "") -> Part:
    (part,) = parts_of(thing, name=name)
    return part


def test_a_class_gives_its_marked_public_methods_in_order():
    part = only(ImageTools)
    assert (part.name, part.about) == ("image_tools", "Pictures.")
    assert list(part.functions) == ["inherited", "look", "still", "odd"]
    assert part.functions["look"]("x") == "x"
    assert part.functions["still"]() == 2
    assert part.functions["odd"]() == "ImageTools"
    assert part.place.startswith(f"{__file__}:")
    assert part.setup is not None
    part.setup()
    assert getattr(part.functions["look"], "__self__").ready  # noqa: B009
    assert part.shutdown is None


def test_instances_factories_and_plain_functions_do_too():
    instance = Plain()
    assert only(instance).name == "plain"
    assert only(instance).functions["go"] == instance.go
    assert only(type("Sub", (ImageTools,), {})).name == "sub"
    assert only(make_models).name == "models"
    assert only(make_models).about == "Pictures."
    assert only(alone) == Part("", "", {"alone": alone}, only(alone).place)
    assert list(only(len, "count").functions) == ["count"]


def test_a_module_gives_its_own_commands_and_capabilities():
    imported = type("Imported", (Plain,), {"__module__": "elsewhere"})
    capability(imported)
    own = here(capability(type("Own", (Plain,), {"__doc__": "Mine."})))
    found = parts_of(module(alone=alone, other=len, Imported=imported, Own=own))
    assert [(one.name, list(one.functions)) for one in found] == [
        ("", ["alone"]),
        ("own", ["go"]),
    ]


def test_a_module_can_be_a_capability_with_hooks():
    def setup() -> None:
        pass

    made = module(alone=alone, __capability__="tools", setup=setup, _x=alone)
    part = only(made)
    assert (part.name, part.about) == ("tools", "What it is for.")
    assert list(part.functions) == ["alone"]
    assert (part.setup, part.shutdown) == (setup, None)
    assert only(made, "named").name == "named"


@pytest.mark.parametrize(
    ("thing", "text"),
    [
        (module(x=1), "nothing in it is marked"),
        (Empty, "Empty has no method that is marked with @command"),
        (Empty(), "Empty has no method"),
        (3, "int has no method"),
    ],
)
def test_what_has_no_commands_is_refused(thing, text):
    with pytest.raises(UnfitError, match=text):
        parts_of(thing)
