"""Names that people's configs may hold since an earlier version go on working, and the warning names the new one."""

from __future__ import annotations

import importlib
import re

import pytest
from monai.utils import instantiate

import common
from common.moved import MOVED


@pytest.mark.parametrize("old", MOVED)
def test_an_old_name_is_the_new_one_with_a_warning(old: str):
    package, _, name = old.rpartition(".")
    module, _, attribute = MOVED[old].rpartition(".")
    with pytest.warns(FutureWarning, match=f"{re.escape(old)} is now {re.escape(MOVED[old])}"):
        found = getattr(importlib.import_module(package), name)
    assert found is getattr(importlib.import_module(module), attribute)


def test_a_config_may_name_a_component_as_before():
    with pytest.warns(FutureWarning, match=r"is now common\.inference\.StackInferer"):
        inferer = instantiate("common.inference.TripletInferer", "default", batch_size=2)
    assert isinstance(inferer, common.inference.StackInferer)


def test_a_name_that_never_was_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"'common\.inference' has no attribute 'Nothing'"):
        common.inference.Nothing  # noqa: B018
