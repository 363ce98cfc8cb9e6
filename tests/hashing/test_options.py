"""Options by name: those of functions and classes, of bases that they are passed on to, and what is said of others."""

from __future__ import annotations

from typing import Any

import pytest

from rdh_ext.hashing.methods import DPSH, METHODS
from rdh_ext.hashing.options import call, choose, options_of, takes_any


class Mine(DPSH):
    def __init__(self, bits: int, *, mine: int = 3, tau: float = 0.9, **options: Any) -> None:
        super().__init__(bits, tau=tau, **options)
        self.mine = mine


class Another(Mine):
    """Has no __init__ of its own."""


class Most(Another):
    def __init__(self, bits: int, *, most: str, **options: Any) -> None:
        super().__init__(bits, **options)
        self.most = most


class Anything:
    def __init__(self, bits: int, **options: Any) -> None:
        self.options = options


def function(bits: int, *, width: int = 3, depth: int) -> tuple[int, int, int]:
    return bits, width, depth


def loose(bits: int, *, width: int = 3, **rest: int) -> tuple[int, int, dict[str, int]]:
    return bits, width, rest


def test_of_functions() -> None:
    assert call("data", "one", function, {"depth": 2}, 8) == (8, 3, 2)
    assert not takes_any(function)
    with pytest.raises(ValueError, match=r"^data one has no option 'dept'; its options are depth, width$"):
        call("data", "one", function, {"dept": 2}, 8)
    with pytest.raises(ValueError, match=r"^data one needs the option 'depth', which was not given$"):
        call("data", "one", function, {}, 8)
    assert takes_any(loose)
    assert call("data", "one", loose, {"other": 2}, 8) == (8, 3, {"other": 2})


@pytest.mark.parametrize("kind", [Mine, Another, Most])
def test_a_class_has_those_of_its_base(kind: type[Mine]) -> None:
    known = options_of(kind)
    assert set(options_of(DPSH)) | {"mine"} <= set(known)
    assert known["tau"] == 0.9
    assert known["eta"] == options_of(DPSH)["eta"]
    assert ("most" in known) is (kind is Most)
    assert not takes_any(kind)
    made = call("method", "mine", kind, {"mine": 4, "rdh": True, **({"most": "x"} if kind is Most else {})}, 8)
    assert (made.mine, made.tau) == (4, 0.9)
    with pytest.raises(ValueError, match=r"^method mine has no option 'et'; its options are eta, "):
        call("method", "mine", kind, {"et": 1, "most": "x"}, 8)


def test_methods_of_the_package_take_no_other() -> None:
    assert not any(map(takes_any, METHODS.values()))


def test_nobody_says_which() -> None:
    assert takes_any(Anything)
    assert options_of(Anything) == {}
    assert call("method", "any", Anything, {"a": 1}, 8).options == {"a": 1}


def test_names_the_closest_first() -> None:
    table = {"dhn": 1, "dpsh": 2, "hashnet": 3}
    assert choose("method", "dpsh", table) == 2
    with pytest.raises(ValueError, match=r"^method must be dpsh, dhn, hashnet, got 'dpsd'$"):
        choose("method", "dpsd", table)
    with pytest.raises(ValueError, match=r"^method must be none, got 'x'$"):
        choose("method", "x", {})
