"""Whose error it is, and what the command line of the app says."""

from __future__ import annotations

import pytest

from common.deploy.monailabel.__main__ import main
from common.deploy.monailabel.tasks import reason
from common.networks import target_weights


def caught(cause: Exception | None, message: str) -> Exception:
    """As components wrap an error."""
    try:
        raise RuntimeError(message) from cause
    except RuntimeError as error:
        return error


def ours() -> Exception:
    with pytest.raises(ValueError, match="must name one of the domains") as error:
        target_weights(["B30f", "B70f"], "B40f")
    return error.value


def test_an_error_of_ours_gives_its_own_message_however_it_is_wrapped():
    assert "must name one of the domains B30f, B70f, got 'B40f'" in reason(caught(caught(ours(), "a"), "b"))


def test_an_image_that_was_cut_off_is_the_clients():
    assert reason(caught(EOFError("ended early"), "a")) == "The image cannot be read (ended early): send it anew."


@pytest.mark.parametrize("error", [ValueError("of a library"), KeyError("x"), caught(None, "a"), MemoryError()])
def test_what_we_did_not_foresee_is_the_servers(error):
    assert reason(error) is None


def test_the_command_line_says_how_it_is_used_and_what_is_wrong(tmp_path):
    with pytest.raises(SystemExit, match="APP BUNDLE"):
        main([])
    with pytest.raises(SystemExit, match=r"error: .* is no bundle"):
        main([str(tmp_path / "app"), str(tmp_path)])
