"""Which files configs reach: by symbol, through functions and re-exports, and how the trimmed `__init__.py` answers."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from common.release.reach import named_parts, reached_part, trimmed_init

FILES = {
    "__init__.py": "",
    "moved.py": "def moved_attribute(package, name):\n    raise ImportError(f'{package}.{name} is left out')\n",
    "used/__init__.py": (
        'from .one import One\nfrom .two import Two, also\n\n__all__ = [\n    "One",\n    "Two",\n    "also",\n]\n'
    ),
    "used/one.py": "def f():\n    from ..deep import thing\n\n\nclass One:\n    pass\n",
    "used/two.py": "from ..deeper import Two\n\nalso = 1\n",
    "deep.py": "thing = 1\n",
    "deeper.py": "class Two:\n    pass\n",
    "unused.py": "",
    "networks/__init__.py": 'from .a import A\nfrom .b import B\n\n__all__ = ["A", "B"]\n',
    "networks/a.py": "class A:\n    pass\n",
    "networks/b.py": "class B:\n    pass\n",
    "busy/__init__.py": (
        'from .x import X\nfrom .y import Y\n\n__all__ = ["KINDS", "X", "Y", "make"]\nKINDS = [X]\n\n\n'
        "def make():\n    return KINDS\n"
    ),
    "busy/x.py": "X = 1\n",
    "busy/y.py": "Y = 1\n",
    "__main__.py": (
        "from .deep import thing\n\n\ndef show():\n    from .used.two import also\n\n\n"
        "def write():\n    from .unused import nothing\n\n\ndef main():\n    from .deeper import Two\n"
    ),
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / "common" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "common" / name).write_text(text)
    return tmp_path / "common"


def reached(package: Path, text: str, **options: object) -> set[str]:
    return set(reached_part({"a.yaml": text}, package, **options).files) - {"__init__.py", "moved.py"}


def test_a_symbol_brings_its_module_and_what_that_imports_in_functions_but_not_its_neighbours(package):
    one = {"used/__init__.py", "used/one.py", "deep.py"}
    assert reached(package, "x: {_target_: common.used.One}") == one
    assert reached(package, "y: $common.used.one.One()") == one
    assert reached(package, "y: $common.used.also + 1") == {"used/__init__.py", "used/two.py", "deeper.py"}
    assert reached(package, "nothing: 1") == set()


def test_a_module_brings_the_folder_of_data_that_it_reads(package):
    (package / "used" / "pages").mkdir()
    (package / "used" / "pages" / "a.html").write_bytes(b"<p>\xc3\xa4</p>")
    (package / "used" / "others").mkdir()
    (package / "used" / "others" / "b.html").write_text("")
    with (package / "used" / "one.py").open("a") as file:
        file.write('\nfrom pathlib import Path\n\nPAGES = Path(__file__).with_name("pages")\n')
    part = reached_part({"a.yaml": "x: {_target_: common.used.One}"}, package)
    assert part.files["used/pages/a.html"] == b"<p>\xc3\xa4</p>"
    assert "used/others/b.html" not in part.files
    assert not any("pages" in name for name in reached(package, "y: $common.used.also"))


def test_a_package_that_is_named_itself_is_whole(package):
    (package / "deep.py").write_text("from . import used")
    assert reached(package, "y: $common.deep.thing") == {
        "deep.py", "used/__init__.py", "used/one.py", "used/two.py", "deeper.py"
    }  # fmt: skip


def test_a_network_is_found_by_its_bare_class_as_well(package):
    a = {"networks/__init__.py", "networks/a.py"}
    for text in ("paper_network:\n  class: A", '{"class": "A"}', '{"class": "common.networks.A"}', "{class: 'A'}"):
        assert reached(package, text) == a, text
    assert list(named_parts("classes: A")) == []


def test_what_an_init_uses_itself_is_reached_and_stays(package):
    part = reached_part({"a.yaml": "$common.busy.make()"}, package)
    assert set(part.files) == {"__init__.py", "moved.py", "busy/__init__.py", "busy/x.py"}
    assert part.left_out["common.busy"] == ["Y"]
    assert b'__all__ = ["KINDS", "X", "make"]' in part.files["busy/__init__.py"]


def test_a_command_on_a_page_is_reached_and_no_other_one(package):
    page = "Text about `python -m common write`.\n```\npython -m common show OUT\n```\n"
    assert reached(package, "", pages=[page]) == {
        "__main__.py", "deep.py", "deeper.py", "used/__init__.py", "used/two.py"
    }  # fmt: skip
    assert reached_part({}, package, pages=[page]).verbs == ["show"]
    assert reached_part({}, package).verbs == []


def test_what_does_not_exist_is_refused_with_its_place(package):
    for text, words in {
        "x: {_target_: common.nothing.One}": "a.yaml names common.nothing.One, but `common` has no 'nothing'",
        "x: $common.used.Three": "a.yaml names common.used.Three, but `common.used` has no 'Three'",
        "class: C": "a.yaml names common.networks.C, but `common.networks` has no 'C'",
    }.items():
        with pytest.raises(ValueError, match=words):
            reached(package, text)
    (package / "deep.py").write_text("import common")
    with pytest.raises(ValueError, match=r"deep\.py must import `common` by a relative name"):
        reached(package, "x: $common.deep.thing")


def test_trimmed_inits_import_what_is_left_and_refuse_the_rest(package, tmp_path):
    part = reached_part({"a.yaml": "x: $common.used.One\nclass: B"}, package)
    assert part.left_out == {
        "common": ["busy", "deeper", "unused"], "common.networks": ["A"], "common.used": ["Two", "also"]
    }  # fmt: skip
    for name, data in part.files.items():
        path = tmp_path / "released" / "common" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    code = """
from common import networks, used
print(used.__all__, networks.__all__, used.One.__name__)
from common.used import also
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "released",
        env={"PYTHONPATH": str(tmp_path / "released")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "['One'] ['B'] One\n"
    assert done.stderr.splitlines()[-1] == "ImportError: common.used.also is left out"


def test_a_trimmed_init_is_in_the_style_of_the_others():
    names = [f"name_number_{number}" for number in range(12)]
    text = "from .a import (\n" + "".join(f"    {name},\n" for name in names) + ")\n\n__all__ = " + repr(names) + "\n"
    short, long = trimmed_init(text, names[2:]), trimmed_init(text, names[-1:])
    assert "from .a import name_number_0, name_number_1\n" in short
    assert '__all__ = ["name_number_0", "name_number_1"]\n' in short
    assert all(len(line) <= 120 for line in long.splitlines())
    assert ast.literal_eval(ast.parse(long).body[2].value) == names[:-1]
    assert trimmed_init('from .a import A\n\n__all__ = ["A"]\n', ["A"]).startswith(
        "from ..moved import moved_attribute\n\n__all__: list[str] = []\n"
    )
