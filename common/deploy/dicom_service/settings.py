"""The rule file of the DICOM service: who may send, which series becomes what by which bundle, and where it goes."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ...bundles import find_bundle, read_metadata
from ...dicom.content import contrast_of, kernel_of, sequence_of
from ...dicom.derived.maps import require_highdicom
from ...dicom.derived.rules import derived_rule
from ...files import checksum
from ...networks.definition import read_definition
from ...uncertainty import Uncertainty

Header = Mapping[str, Any]
TITLE = re.compile(r"[ -\[\]-~]{1,16}")  # the value representation AE (PS3.5, table 6.2-1)
LARGEST_PORT = 65535
FIXED_OPTIONS = ("bundle_root", "dataset_dir", "output_dir", "output_format", "target")  # set by the service
WORDS: dict[str, Callable[[Header], str]] = {  # a regular expression must be found in these
    "kernel": lambda header: kernel_of(header)[0] or "",
    "description": lambda header: str(header.get("SeriesDescription") or ""),
    "body_part": lambda header: str(header.get("BodyPartExamined") or ""),
}
DOMAINS: dict[str, Callable[[Header], tuple[str | None, str]]] = {"contrast": contrast_of, "sequence": sequence_of}
MATCHES = ("modality", *WORDS, *DOMAINS)


@dataclass(frozen=True)
class Rule:
    """Which series a bundle translates, and into what.

    Args:
        name: Name in the log and the journal.
        bundle: The bundle's folder.
        match: What the header must say: `modality` (CT or MR), `kernel`, `description` and `body_part` (regular
            expressions, found in any case), `contrast` (NECT or CECT), `sequence` (T1, T2, PD or FLAIR).
        target: Target domain, or the weights of a blend; default: the bundle's.
        options: Further ids of the bundle's `inference.yaml` and their values, such as `guards: warn`.
    """

    name: str
    bundle: Path
    match: Mapping[str, str]
    target: str | Mapping[str, float] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def why_not(self, header: Header) -> str | None:
        """Return why the rule does not take a series, or None if it does.

        Args:
            header: Header of one image of the series.

        Example:
            >>> rule = Rule("smooth", Path("bundles/ggcl"), {"modality": "CT", "kernel": "^B[67]0"})
            >>> rule.why_not({"Modality": "CT", "ConvolutionKernel": "B70f"})
            >>> rule.why_not({"Modality": "CT", "ConvolutionKernel": "B30f"})
            "kernel is 'B30f'"
        """
        if (modality := str(header.get("Modality") or "")) != self.match["modality"]:
            return f"modality is {modality!r}"
        for name, value in WORDS.items():
            if name in self.match and not re.search(self.match[name], value(header), re.IGNORECASE):
                return f"{name} is {value(header)!r}"
        for name, domain in DOMAINS.items():
            if name in self.match:
                found, why = domain(header)
                if found != self.match[name]:
                    return f"{name} is {found or f'not known: {why}'}"
        return None

    def seed(self) -> list[str]:
        """Return texts that differ wherever two translations of one series would: bundle, version, weights, choices."""
        metadata = read_metadata(self.bundle)
        options = sorted(self.options.items())
        weights = checksum(self.bundle / "models" / "model.pt")
        return [self.bundle.name, str(metadata["version"]), weights, repr(self.target), repr(options)]


@dataclass(frozen=True)
class Peer:
    """A DICOM application that takes the derived series by C-STORE."""

    ae_title: str
    address: str
    port: int

    def __str__(self) -> str:
        return f"{self.ae_title} at {self.address}:{self.port}"


@dataclass(frozen=True)
class StowUrl:
    """A DICOMweb service that takes the derived series by STOW-RS; `url` is the root, without `/studies`."""

    url: str

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True)
class Settings:
    """Contents of a rule file, see `docs/pacs.md`.

    Args:
        folder: Folder of the journal, of received series and of derived ones.
        senders: AE titles that may send.
        destination: Where derived series go.
        rules: A series is translated by each rule that takes it.
        ae_title: AE title of the service.
        address: Address to listen at.
        port: Port to listen at; 0 takes a free one.
        quiet_seconds: A series is complete when no image of it came for so long, and its association is closed.
        retry_seconds: Time until the second try of what failed for a while; it doubles, up to 64 times this one.
        keep_hours: How long a series is kept after it was sent, so that images that come late can complete it.
        free_mb: Less free space than this, and images are refused as "out of resources".
    """

    folder: Path
    senders: tuple[str, ...]
    destination: Peer | StowUrl
    rules: tuple[Rule, ...]
    ae_title: str = "TRANSLATION"
    address: str = "127.0.0.1"
    port: int = 11112
    quiet_seconds: float = 30.0
    retry_seconds: float = 10.0
    keep_hours: float = 24.0
    free_mb: float = 1000.0


def read_settings(path: str | Path) -> Settings:
    """Read a rule file; relative paths in it start at its folder.

    Args:
        path: Path of the YAML file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not YAML, a key is unknown or missing, a value is of another kind, or a bundle or a target
            does not exist. The message names the key.
    """
    file = Path(path)
    try:
        given = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{str(file)!r} must be YAML, got {error}.") from error
    try:
        return _settings(given, file.absolute().parent)
    except ValueError as error:
        raise ValueError(f"{str(file)!r}: {error}") from error


def _settings(given: Any, place: Path) -> Settings:
    names = [each.name for each in dataclasses.fields(Settings)]
    given = _section(given, "the file", known=names, required=("folder", "senders", "destination", "rules"))
    for name in ("senders", "rules"):
        if not isinstance(given[name], list) or not given[name]:
            raise ValueError(f"`{name}` must be a list of at least one entry, got {given[name]!r}.")
    numbers = {name: _number(given, name) for name in names if name.endswith(("_seconds", "_hours", "_mb"))}
    rules = tuple(_rule(each, f"rules[{number}]", place) for number, each in enumerate(given["rules"]))
    if len({rule.name for rule in rules}) < len(rules):
        raise ValueError(f"`rules` must have different names, got {[rule.name for rule in rules]}.")
    return Settings(
        folder=place / _text(given, "folder"),
        senders=tuple(_title(title, "senders") for title in given["senders"]),
        destination=_destination(given["destination"]),
        rules=rules,
        ae_title=_title(given.get("ae_title", Settings.ae_title), "ae_title"),
        address=_text({"address": Settings.address, **given}, "address"),
        port=_port(given.get("port", Settings.port), "port", smallest=0),
        **numbers,
    )


def _rule(given: Any, name: str, place: Path) -> Rule:
    known = [each.name for each in dataclasses.fields(Rule)]
    given = _section(given, f"`{name}`", known=known, required=("name", "bundle"))
    bundle = find_bundle(_text(given, "bundle"), places=[place]).resolve()
    match = _section(given.get("match") or {}, f"`{name}.match`", known=MATCHES)
    options = _section(given.get("options") or {}, f"`{name}.options`")
    modality = derived_rule(bundle).modality
    if match.setdefault("modality", modality) != modality:
        raise ValueError(f"`{name}.match.modality` must be {modality} for {bundle.name}, got {match['modality']!r}.")
    for word in WORDS:
        try:
            re.compile(match.get(word, ""))
        except (re.error, TypeError) as error:
            raise ValueError(
                f"`{name}.match.{word}` must be a regular expression, got {match[word]!r}: {error}."
            ) from None
    if fixed := [id_ for id_ in FIXED_OPTIONS if id_ in options]:
        raise ValueError(f"`{name}.options` must not have {fixed}, which the service sets.")
    if options.get("uncertainty"):
        try:
            Uncertainty(bundle / "models")
            require_highdicom()
        except (FileNotFoundError, ModuleNotFoundError) as error:
            raise ValueError(f"`{name}.options.uncertainty`: {error}") from error
    target = given.get("target")
    _check_target(bundle, target, name)
    return Rule(_text(given, "name"), bundle, match, target, options)


def _check_target(bundle: Path, target: Any, name: str) -> None:
    definition = read_definition(bundle / "models")
    domains = definition["domains"]
    known = definition.get("targets", domains) if isinstance(domains, list) else [domains["target"]]
    named = list(target) if isinstance(target, dict) else [target]
    if target is not None and not all(each in known for each in named):
        raise ValueError(f"`{name}.target` must be one of {', '.join(map(str, known))}, got {target!r}.")


def _destination(given: Any) -> Peer | StowUrl:
    if isinstance(given, dict) and set(given) == {"stow"}:
        if not re.fullmatch(r"https?://\S+", url := _text(given, "stow")):
            raise ValueError(f"`destination.stow` must begin with http:// or https://, got {url!r}.")
        return StowUrl(url.rstrip("/"))
    keys = ("ae_title", "address", "port")
    given = _section(given, "`destination` (or `destination: {stow: URL}`)", known=keys, required=keys)
    title = _title(given["ae_title"], "destination.ae_title")
    return Peer(title, _text(given, "address"), _port(given["port"], "destination.port"))


def _section(given: Any, what: str, *, known: Any = None, required: tuple[str, ...] = ()) -> dict[str, Any]:
    if not isinstance(given, dict) or not all(isinstance(key, str) for key in given):
        raise ValueError(f"{what} must be a mapping, got {given!r}.")
    if known is not None and (unknown := [key for key in given if key not in known]):
        raise ValueError(f"{what} has no use for {unknown}; it may have {', '.join(known)}.")
    if missing := [key for key in required if key not in given]:
        raise ValueError(f"{what} lacks {', '.join(missing)}.")
    return dict(given)


def _text(given: Mapping[str, Any], name: str) -> str:
    if not isinstance(given[name], str) or not given[name].strip():
        raise ValueError(f"`{name}` must be a text, got {given[name]!r}.")
    return given[name]


def _title(given: Any, name: str) -> str:
    """Return an AE title without the spaces around it, which have no meaning (PS3.5, section 6.2)."""
    if not isinstance(given, str) or not TITLE.fullmatch(given.strip()):
        raise ValueError(
            f"`{name}` must be AE titles of 1 to 16 printable ASCII characters without a backslash, got {given!r}."
        )
    return given.strip()


def _port(given: Any, name: str, smallest: int = 1) -> int:
    if type(given) is not int or not smallest <= given <= LARGEST_PORT:
        raise ValueError(f"`{name}` must be a whole number from {smallest} to {LARGEST_PORT}, got {given!r}.")
    return given


def _number(given: Mapping[str, Any], name: str) -> float:
    value = given.get(name, getattr(Settings, name))
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise ValueError(f"`{name}` must be a number of at least 0, got {value!r}.")
    return float(value)
