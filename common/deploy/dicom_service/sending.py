"""Sending a derived series to the archive, by C-STORE or by STOW-RS.

All images have the same UIDs at each try, so that an archive which has some of them already does not get them twice.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .settings import Peer, StowUrl

USER, PASSWORD = "DICOM_SERVICE_USER", "DICOM_SERVICE_PASSWORD"  # environment variables, for STOW-RS
SECONDS = 60
TRY_AGAIN = (0xA700, 0xA7FF)  # out of resources (PS3.4, table B.2-1)
WARNINGS = (0xB000, 0xBFFF)  # stored, with something to say
HTTP_TRY_AGAIN = (408, 425, 429)
BATCH_BYTES = 50_000_000  # of one request


class ArchiveUnavailableError(ConnectionError):
    """The archive does not answer, or asks to try again."""


class ArchiveRefusedError(ValueError):
    """The archive refuses the images, and would do so again."""


def send(destination: Peer | StowUrl, files: Sequence[Path], ae_title: str) -> None:
    """Send images; returns when the archive has acknowledged all of them.

    Args:
        destination: The archive.
        files: Files of the images.
        ae_title: AE title of the service.

    Raises:
        ArchiveUnavailableError: If it makes sense to try again later.
        ArchiveRefusedError: If it does not.
    """
    if isinstance(destination, Peer):
        _c_store(destination, files, ae_title)
    else:
        _stow(destination, files)


def _c_store(peer: Peer, files: Sequence[Path], ae_title: str) -> None:
    from pydicom import dcmread
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
    from pynetdicom import AE

    entity = AE(ae_title=ae_title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = SECONDS
    for sop_class in {dcmread(file, specific_tags=["SOPClassUID"]).SOPClassUID for file in files}:
        entity.add_requested_context(sop_class, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    association = entity.associate(peer.address, peer.port, ae_title=peer.ae_title)
    if association.is_rejected:
        raise ArchiveUnavailableError(f"{peer} does not know {ae_title!r}, or is busy: it rejected the association")
    if not association.is_established:
        raise ArchiveUnavailableError(f"{peer} does not answer")
    try:
        for number, file in enumerate(files, start=1):
            _check(association, file, f"{peer}, at image {number} of {len(files)},")
    finally:
        association.release()


def _check(association: Any, file: Path, who: str) -> None:
    try:
        answer = association.send_c_store(str(file))
    except ValueError as error:  # no presentation context was accepted
        raise ArchiveRefusedError(f"{who} does not take such images: {error}") from error
    except RuntimeError as error:  # the association is gone
        raise ArchiveUnavailableError(f"{who} ended the association") from error
    if "Status" not in answer:
        raise ArchiveUnavailableError(f"{who} does not answer any more")
    status = int(answer.Status)
    if status and not WARNINGS[0] <= status <= WARNINGS[1]:
        again = TRY_AGAIN[0] <= status <= TRY_AGAIN[1]
        comment = f" ({answer.ErrorComment})" if answer.get("ErrorComment") else ""
        kind = ArchiveUnavailableError if again else ArchiveRefusedError
        raise kind(f"{who} answered with status 0x{status:04X}{comment}")


def _stow(place: StowUrl, files: Sequence[Path]) -> None:
    import requests
    from dicomweb_client.api import DICOMwebClient
    from pydicom import dcmread

    with requests.Session() as session:
        session.request = functools.partial(session.request, timeout=SECONDS)  # type: ignore[method-assign]
        if USER in os.environ:
            session.auth = (os.environ[USER], os.environ.get(PASSWORD, ""))
        client = DICOMwebClient(place.url, session=session)
        client.set_http_retry_params(retry=False)
        for batch in _batches(files):
            try:
                answer = client.store_instances([dcmread(file) for file in batch])
            except requests.HTTPError as error:
                status = 0 if error.response is None else error.response.status_code
                again = status >= 500 or status in HTTP_TRY_AGAIN
                kind = ArchiveUnavailableError if again else ArchiveRefusedError
                raise kind(f"{place} answered with status {status}") from error
            except requests.RequestException as error:
                raise ArchiveUnavailableError(f"{place} does not answer ({type(error).__name__})") from error
            if failed := answer.get("FailedSOPSequence"):
                reason = failed[0].get("FailureReason")
                raise ArchiveRefusedError(f"{place} refused {len(failed)} images, the first with reason {reason}")


def _batches(files: Sequence[Path]) -> Iterator[list[Path]]:
    """Split files into batches of a size that fits into memory twice."""
    batch: list[Path] = []
    for file in files:
        if batch and sum(each.stat().st_size for each in (*batch, file)) > BATCH_BYTES:
            yield batch
            batch = []
        batch.append(file)
    if batch:
        yield batch
