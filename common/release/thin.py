"""Configs of a thin release, which has no Python files: they take `common` from the wheel and say so if it is absent.

Every part that names `common` refers to the id `common`, so that MONAI resolves it first, whatever a program asks for.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from .. import __version__

WHEEL = f"monai_translation_bundles-{__version__}-py3-none-any.whl"
NEEDS = (
    f"This bundle is a thin release, without Python files. It needs the wheel of its own version: pip install {WHEEL}"
    " (from where the bundle came). Found: "
)
# One expression, as there is no file to put it into. A command line ends with the message alone.
CHECK = (
    "$(lambda find, load, argv: load('common') if find('common') and find('common.release')"
    f" and load('common').__version__ == '{__version__}' else (_ for _ in ()).throw((SystemExit if"
    f" argv[0].endswith('__main__.py') else ImportError)('{NEEDS}' + (str(getattr(load('common'), '__version__',"
    " 'another package named common')) + ' in ' + str(list(load('common').__path__)[0]) if find('common') else 'none')"
    " + '.')))(__import__('importlib.util', fromlist=['util']).find_spec, __import__, __import__('sys').argv)"
)
ID = f'common: "{CHECK}"'
REFERENCE = "@common"
TARGET = re.compile(r"^(?P<indent>\s*(?:- )*)_target_: (?=common\.)", flags=re.MULTILINE)
FLOW_TARGET = re.compile(r"(?<=[{,])\s*_target_: (?=common\.)")
NAMED = re.compile(r"(?<![\w.@])common\.(?=\w)")
PAGE = (
    f"**A thin release**, for platforms that refuse Python files in a bundle. It needs the project's wheel of the same"
    f" version beside MONAI: `pip install {WHEEL}`. It is on no package index: take it from where this bundle is from."
)


def thin_config(text: str, name: str) -> str:
    """Let a config take `common` from the wheel.

    Args:
        text: YAML of a config; one with `imports` gets the id `common`.
        name: Name of the file, for the message.

    Raises:
        ValueError: If the text is not in the form of the bundles' configs.
    """
    lines = []
    for line in text.splitlines():
        code, comment = _without_comment(line)
        code = TARGET.sub(_requiring, code)
        code = FLOW_TARGET.sub(f'_requires_: "{REFERENCE}", _target_: ', code)
        if "$" in code and "import common" not in code:
            code = NAMED.sub(lambda found: found.group() if _is_target(found) else f"{REFERENCE}.", code)
        lines.append(code + comment)
    thin = "\n".join(lines) + "\n"
    if isinstance(yaml.safe_load(text), dict) and "imports" in yaml.safe_load(text):
        thin = thin.replace("\nimports:", f"\n{ID}\nimports:", 1) if "\nimports:" in thin else f"{ID}\n{thin}"
    if yaml.safe_load(thin) != expected(yaml.safe_load(text)):
        raise ValueError(
            f"{name} cannot be made thin: write each `_target_: common....` and `$...` on a line of its own."
        )
    return thin


def thin_page(text: str) -> str:
    """Say below the title of a page what the release needs."""
    title, _, rest = text.partition("\n")
    return f"{title}\n\n{PAGE}\n{rest}"


def expected(config: Any) -> Any:
    """Change a parsed config as `thin_config` changes its text."""
    changed = _changed(config)
    return {"common": CHECK, **changed} if isinstance(config, dict) and "imports" in config else changed


def _changed(config: Any) -> Any:
    if isinstance(config, dict):
        inner = {key: value if key == "_target_" else _changed(value) for key, value in config.items()}
        needs = str(config.get("_target_", "")).startswith("common.")
        return {**({"_requires_": REFERENCE} if needs else {}), **inner}
    if isinstance(config, list):
        return [_changed(value) for value in config]
    if isinstance(config, str) and config.startswith("$") and not config.startswith("$import"):
        return NAMED.sub(f"{REFERENCE}.", config)
    return config


def _requiring(found: re.Match[str]) -> str:
    indent = found["indent"]
    return f'{indent}_requires_: "{REFERENCE}"\n{" " * len(indent)}_target_: '


def _is_target(found: re.Match[str]) -> bool:
    return found.string[: found.start()].endswith("_target_: ")


def _without_comment(line: str) -> tuple[str, str]:
    """Divide a line before its comment."""
    found = re.search(r"(^|\s)#.*$", line)
    return (line, "") if found is None else (line[: found.start()], line[found.start() :])
