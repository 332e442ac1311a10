"""What a DICOM header says that an image shows: sequence, contrast agent, quantity, kernel and loss.

Everyone who needs to know asks here: the datalist, the search for volumes, the reader, and every check of an input.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from .files import texts

SEQUENCES = ("T1", "T2", "PD", "FLAIR")
WORDS = {
    "FLAIR": r"flair|dark[ _-]?fluid",
    "T1": r"t1w?|mp2?rage|bravo|spgr",
    "T2": r"t2w?",
    "PD": r"pdw?|proton[ _-]?density",
}
OTHER = (
    r"t2[ _]?\*|t2[ _]?star|dwi|dti|diff[a-z]*|adc|trace[a-z]*|swi|swan|bold|epi|mra|tof|angio[a-z]*|"
    r"perf[a-z]*|asl|dsc|dce|stir|map|mapping|scout|loc|localizer|localiser|survey|fmri|haste|ciss|fiesta"
)
CONTRAST = r"gd|gad[a-z]*|post|c\+|ce|km|contrast"
WITHOUT = r"(pre|non|without|w/?o)[ _-]?(contrast|gd|km)"
START, END = r"(?<![a-z0-9])", r"(?![a-z0-9*])"
NO_AGENT = ("", "NO", "NONE", "N", "NEIN", "WITHOUT", "W/O", "0", "N/A")
NOT_INTRAVENOUS = ("ORAL", "RECTAL")  # in ContrastBolusRoute
CONTRASTS = {"T1": "T1", "T2": "T2", "PROTON_DENSITY": "PD", "FLUID_ATTENUATED": "FLAIR"}  # of AcquisitionContrast
UNDECIDED = ("", "UNKNOWN", "MIXED")
QUANTITIES = {  # by a value of ImageType from the third on, of FrameType, or of ComplexImageComponent
    **dict.fromkeys(("P", "PHASE", "PHASE MAP", "PHASE SUBTRACT", "VELOCITY MAP"), "a phase image"),
    **dict.fromkeys(("R", "REAL", "I", "IMAGINARY"), "a real or imaginary part"),
    **dict.fromkeys(("ADC", "ADC MAP", "ADC_MAP", "DIFFUSION MAP", "FA", "FA MAP", "EADC"), "a map of diffusion"),
    **dict.fromkeys(("TRACEW", "TRACE", "DIFFUSION"), "a diffusion-weighted image"),
    **dict.fromkeys(("T1 MAP", "T2 MAP", "T2_STAR MAP", "T2STAR MAP", "R2 MAP", "DENSITY MAP"), "a parametric map"),
    **dict.fromkeys(("CBF", "CBV", "MTT", "TTP", "TMAX", "PERFUSION"), "a map of perfusion"),
    **dict.fromkeys(("SUBTRACTION", "MODULUS SUBTRACT"), "a subtraction"),
}
LOSSY = "01"  # of LossyImageCompression
KEYWORDS = (  # what is asked for below
    *("Modality", "ImageType", "FrameType", "ComplexImageComponent", "AcquisitionContrast", "SeriesDescription"),
    *("ProtocolName", "ScanningSequence", "RepetitionTime", "EchoTime", "EffectiveEchoTime", "InversionTime"),
    *("ContrastBolusAgent", "ContrastBolusRoute", "ContrastBolusAgentSequence", "ConvolutionKernel"),
    *("BodyPartExamined", "LossyImageCompression", "LossyImageCompressionRatio"),
)
ENHANCED = re.compile(
    r"(?<![a-z])(post[ _-]?(contrast|km|gd)|arteri\w*|portal\w*|ven(ous|oes|ös)\w*|with[ _]contrast|\+c|c\+)"
)
PLAIN = re.compile(
    r"(?<![a-z])(non[ _-]?(contrast|enhanced)|unenhanced|nativ\w*|without[ _]contrast|w/?o[ _]contrast|"
    r"pre[ _-]?contrast)"
)

HEADER = "dicom_header"  # in a volume's meta data, see `to_text`
Header = Mapping[str, Any]
Domain = tuple[str | None, str]  # name, or None and the reason


def sequence_of(header: Header) -> Domain:
    """Return T1, T2, PD or FLAIR, or None and the reason.

    SeriesDescription and ProtocolName are searched for keywords; EchoTime, RepetitionTime and InversionTime of spin
    echoes are compared with the ranges on which textbooks agree at 1.5 and 3 T, with gaps between them. One of the two
    sources suffices. Contradictions, two keywords that the times do not decide, and any sign of another contrast
    (diffusion, T2*, angiography, a contrast agent) leave the series without a domain.

    Args:
        header: Attributes of an MR series by keyword.

    Example:
        >>> sequence_of({"SeriesDescription": "t2_tse_tra", "EchoTime": 96, "RepetitionTime": 4500})
        ('T2', '')
        >>> sequence_of({"SeriesDescription": "ep2d_diff_3scan_trace"})
        (None, "'diff' in its description is none of T1, T2, PD, FLAIR")
    """
    if (why := _not_plain(header)) is not None:
        return None, why
    text = _text(header)
    said = _said(text)
    timed = CONTRASTS.get(str(header.get("AcquisitionContrast") or "").upper()) or _timed(header)
    times = f"TR {header.get('RepetitionTime')}, TE {header.get('EchoTime')}, TI {header.get('InversionTime')} ms"
    if timed is not None and said and timed not in said:
        return None, f"its description says {' and '.join(said)}, its times {timed} ({times})"
    if timed is not None or len(said) == 1:
        return timed or said[0], ""
    if said:
        return None, f"its description says {' and '.join(said)}, and its times do not decide ({times})"
    return None, f"its sequence is not recognised (description {text.strip()!r}, {times})"


def not_of_sequence(header: Header, expected: str) -> str | None:
    """Return why an MR series is certainly not a plain image of a sequence; None if the header does not tell.

    Args:
        header: Attributes by keyword.
        expected: `T1`, `T2`, `PD` or `FLAIR`.

    Example:
        >>> not_of_sequence({"SeriesDescription": "t2_flair_tra"}, "T1")
        'FLAIR'
        >>> not_of_sequence({"SeriesDescription": "t1_se"}, "T1"), not_of_sequence({}, "T1")
        (None, None)
    """
    if (why := _not_plain(header)) is not None:
        return why
    found, _ = sequence_of(header)
    return found if found not in (None, expected) else None


def _not_plain(header: Header) -> str | None:
    """Return what makes an MR series something else than a plain magnitude image."""
    if what := quantity(header):
        return what
    if (given := str(header.get("AcquisitionContrast") or "").upper()) and given not in (
        *CONTRASTS,
        "UNKNOWN",
        "MIXED",
    ):
        return f"{given!r} by its AcquisitionContrast is none of {', '.join(SEQUENCES)}"
    text = _text(header)
    if match := re.search(rf"{START}({OTHER}){END}", text):
        return f"{match.group()!r} in its description is none of {', '.join(SEQUENCES)}"
    named = f" ({agent})" if (agent := agent_of(header)) else ""
    if agent or "+c" in text or re.search(rf"{START}({CONTRAST}){END}", re.sub(WITHOUT, "", text)):
        return f"after contrast agent, by its header or description{named}"
    return None


def quantity(header: Header) -> str:
    """Return what the values are if not an image as acquired, such as phase or a map, with the evidence; else "".

    Args:
        header: Attributes by keyword.

    Example:
        >>> quantity({"ImageType": ["ORIGINAL", "PRIMARY", "P"]}), quantity({"ImageType": ["ORIGINAL", "PRIMARY"]})
        ('a phase image (ImageType P)', '')
    """
    for keyword, first in (("FrameType", 2), ("ImageType", 2), ("ComplexImageComponent", 0)):
        for value in texts(header.get(keyword))[first:]:
            if value.upper() in QUANTITIES:
                return f"{QUANTITIES[value.upper()]} ({keyword} {value})"
    return ""


def agent_of(header: Header) -> str:
    """Return the contrast agent's name, `unnamed` if an enhanced object has one without; empty if none was given.

    Args:
        header: Attributes by keyword.

    Example:
        >>> agent_of({"ContrastBolusAgent": "Gadovist"}), agent_of({"ContrastBolusAgent": "NONE"})
        ('Gadovist', '')
    """
    agent = str(header.get("ContrastBolusAgent") or "").strip()
    if not agent and (sequence := header.get("ContrastBolusAgentSequence")):
        agent = sequence if isinstance(sequence, str) else str(sequence[0].get("CodeMeaning") or "unnamed")
    return "" if agent.upper() in NO_AGENT else agent


def lossy(header: Header) -> str:
    """Return that an image was compressed with loss, and how much, as its header says; "" if it does not.

    Args:
        header: Attributes by keyword.

    Example:
        >>> lossy({"LossyImageCompression": "01", "LossyImageCompressionRatio": "12"}), lossy({})
        ('compressed with loss (ratio 12)', '')
    """
    if str(header.get("LossyImageCompression") or "") != LOSSY:
        return ""
    ratio = ", ".join(texts(header.get("LossyImageCompressionRatio")))
    return f"compressed with loss (ratio {ratio})" if ratio else "compressed with loss"


def to_text(header: Header) -> str:
    """Return what this module asks a header for as a text, which survives MONAI's collation in an image's meta data.

    Args:
        header: Attributes by keyword.
    """
    plain = {name: list(texts(header.get(name))) for name in KEYWORDS if name != "ContrastBolusAgentSequence"}
    plain["ContrastBolusAgent"] = [agent_of(header)]
    return json.dumps(
        {name: values[0] if len(values) == 1 else values for name, values in plain.items() if any(values)}
    )


def said(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes by keyword that a volume from DICOM carries in its meta data; empty for other volumes.

    Args:
        meta: Meta data of the volume.

    Example:
        >>> said({"dicom_header": '{"Modality": "MR"}'}), said({})
        ({'Modality': 'MR'}, {})
    """
    text = meta.get(HEADER)
    text = text[0] if isinstance(text, (list, tuple)) and text else text
    return dict(json.loads(text)) if text else {}


def _text(header: Header) -> str:
    """Return the descriptions of a series, in lower case."""
    return f"{header.get('SeriesDescription') or ''} {header.get('ProtocolName') or ''}".lower()


def _said(text: str) -> list[str]:
    """Return the sequences that a description names; a FLAIR is also called T2."""
    said = [name for name in SEQUENCES if re.search(rf"{START}({WORDS[name]}){END}", text)]
    return ["FLAIR"] if said == ["T2", "FLAIR"] else said


def _timed(header: Header) -> str | None:
    """Return the weighting by the times of a spin echo; None in gaps and for gradient echoes (flip angle matters)."""
    kinds = header.get("ScanningSequence") or ()
    kinds = {str(kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)}
    try:
        repetition, echo = float(header["RepetitionTime"]), float(header.get("EchoTime") or header["EffectiveEchoTime"])
        inversion = float(header.get("InversionTime") or 0)
    except (KeyError, TypeError, ValueError):
        return None
    if "GR" in kinds or "EP" in kinds:
        return None
    if inversion or "IR" in kinds:
        return "FLAIR" if inversion >= 1500 and echo >= 70 and repetition >= 4000 else None
    if repetition <= 800 and echo <= 30:
        return "T1"
    if repetition >= 2000:
        return "T2" if echo >= 70 else "PD" if echo <= 35 else None
    return None


def kernel_of(header: Header) -> Domain:
    """Return the first value of ConvolutionKernel; a second one, as some scanners write, is a detail of the first."""
    name = (*texts(header.get("ConvolutionKernel")), "")[0].strip()
    return (name, "") if name else (None, "no ConvolutionKernel")


def contrast_of(header: Header) -> Domain:
    """Return CECT where the header names a contrast agent that was not only given orally or rectally, else NECT.

    The tag is often wrong: scanners copy it to all series of an examination, or leave it out. A series whose
    description contradicts the tag has no domain.
    """
    route, text = str(header.get("ContrastBolusRoute") or "").upper(), _text(header)
    plain, enhanced = PLAIN.search(text), ENHANCED.search(PLAIN.sub(" ", text))
    if agent_of(header):
        if any(word in route for word in NOT_INTRAVENOUS):
            return None, f"contrast agent by the route {route!r}: neither plain nor enhanced"
        if plain and not enhanced:
            return None, f"names a contrast agent, but its description says {plain.group()!r}"
        return "CECT", ""
    if enhanced and not plain:
        return None, f"names no contrast agent, but its description says {enhanced.group()!r}"
    return "NECT", ""
